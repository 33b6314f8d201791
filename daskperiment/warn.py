"""Warnings that point at the user's line, not at ours or Dask's."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn_user"]

_BETWEEN = {"daskperiment", "dask", "distributed", "concurrent", "contextlib", "threading"}


def warn_user(warning: Warning) -> None:
    """Issue a warning for the innermost line outside this package and Dask.

    Parameters
    ----------
    warning : Warning
        In a thread that Dask made there is no such line; then it points here.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        if frame.f_back is None:
            level = 1
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)
