"""What was recorded, as data: trials, DataFrames, metrics and persisted values.

Everything here only reads. Nothing is unpickled but by :meth:`StoredObject.load` and
:func:`get_persisted`, which say so.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from daskperiment.history.reading import Trial, read_trials, trial_or_raise
from daskperiment.history.values import StoredObject

if TYPE_CHECKING:
    from daskperiment.history.experiments import ExperimentRow, experiment_row, experiments_frame
    from daskperiment.history.frames import get_history, get_parameters
    from daskperiment.history.metrics import get_metrics, load_metric
    from daskperiment.history.steps import get_persisted, get_steps

__all__ = [
    "ExperimentRow",
    "StoredObject",
    "Trial",
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
_HOMES = {
    "ExperimentRow": "experiments",
    "experiment_row": "experiments",
    "experiments_frame": "experiments",
    "get_history": "frames",
    "get_metrics": "metrics",
    "get_parameters": "frames",
    "get_persisted": "steps",
    "get_steps": "steps",
    "load_metric": "metrics",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
