"""Reproducible experiments: decorate functions, compute a Dask graph, and it is remembered."""

from __future__ import annotations

import gc
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskperiment.capture.fingerprint import register_fingerprint
    from daskperiment.compare import Comparison
    from daskperiment.copying import copy
    from daskperiment.experiment import Experiment, list_experiments
    from daskperiment.parameters import Parameter
    from daskperiment.result import Result

__all__ = [
    "Comparison",
    "Experiment",
    "Parameter",
    "Result",
    "copy",
    "errors",
    "formats",
    "list_experiments",
    "register_fingerprint",
    "testing",
]

# Loaded at first use: importing the package costs next to nothing, and pandas is loaded only by
# those who ask for a DataFrame.
_HOMES = {
    "Comparison": "daskperiment.compare",
    "Experiment": "daskperiment.experiment",
    "Parameter": "daskperiment.parameters",
    "Result": "daskperiment.result",
    "copy": "daskperiment.copying",
    "list_experiments": "daskperiment.experiment",
    "register_fingerprint": "daskperiment.capture.fingerprint",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(_loaded(_HOMES[name]), name)
    if name in ("errors", "formats", "integrations", "testing"):
        return importlib.import_module(f"daskperiment.{name}")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("daskperiment")
    raise AttributeError(f"module 'daskperiment' has no attribute {name!r}")


def _loaded(module: str) -> Any:
    """Return a module; among what is made to stay the garbage collector would search in vain."""
    if not gc.isenabled():
        return importlib.import_module(module)
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.enable()


def __dir__() -> list[str]:
    # What people complete with the tabulator: nothing that is only imported here.
    return sorted([*(name for name in globals() if name.startswith("__")), *__all__, "__version__"])
