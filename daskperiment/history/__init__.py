"""What was recorded, as data: trials, DataFrames, metrics and persisted values.

A store comes in; trials as named tuples, DataFrames and Python values go out. Whatever answers a
question about trials that ran may call: the experiment, compare, explain, sweep, reproduce, the
dashboard and the command line. Everything here only reads. Nothing is unpickled but by
:meth:`StoredObject.load` and :func:`get_persisted`, which say so.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from daskperiment.history.stored_values import StoredObject
from daskperiment.history.trial_records import RecordedTrial, read_trials, trial_or_raise

if TYPE_CHECKING:
    from daskperiment.history.metrics import get_metrics, load_metric
    from daskperiment.history.steps import get_persisted, get_steps
    from daskperiment.history.tables import (
        ExperimentRow,
        experiment_row,
        experiments_frame,
        get_history,
        get_parameters,
    )

__all__ = [
    "ExperimentRow",
    "RecordedTrial",
    "StoredObject",
    "experiment_row",
    "experiments_frame",
    "get_history",
    "get_metrics",
    "get_parameters",
    "get_persisted",
    "get_steps",
    "load_metric",
    "read_trials",
    "trial_or_raise",
]

# Loaded at first use: these make DataFrames, and pandas takes longer to load than all else.
_MODULES = {
    "ExperimentRow": "tables",
    "experiment_row": "tables",
    "experiments_frame": "tables",
    "get_history": "tables",
    "get_metrics": "metrics",
    "get_parameters": "tables",
    "get_persisted": "steps",
    "get_steps": "steps",
    "load_metric": "metrics",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
