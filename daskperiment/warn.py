"""Warnings that point at the user's line, not at ours or Dask's."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

__all__ = ["ignore_old_nvml", "warn_user"]

_BETWEEN = {
    "daskperiment", "dask", "distributed", "toolz", "concurrent", "contextlib", "threading",
}  # fmt: skip


def warn_user(warning: Warning) -> None:
    """Issue a warning for the innermost line outside this package and Dask.

    In a thread that Dask made there is no such line; then it points here.
    """
    current = inspect.currentframe()
    frame, level = current.f_back if current else None, 2
    while frame is not None and _package(frame.f_globals) in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=1 if frame is None else level)


def ignore_old_nvml() -> None:
    """Say nothing of an old name of NVML's package, from here on and in all threads.

    `warnings.catch_warnings` is that of the whole process: used in a thread of ours it would lose
    what others warn of meanwhile, and undo their filters.
    """
    message = "The pynvml package is deprecated"
    warnings.filterwarnings("ignore", message=message, category=FutureWarning)


def _package(namespace: dict[str, Any]) -> str:
    return str(namespace.get("__name__", "")).partition(".")[0]
