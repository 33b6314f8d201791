"""What was recorded, as data: trials, DataFrames, metrics and persisted values.

Everything here only reads. Nothing is unpickled but by :meth:`StoredObject.load` and
:func:`get_persisted`, which say so.
"""

from __future__ import annotations

from daskperiment.history.experiments import ExperimentRow, experiment_row, experiments_frame
from daskperiment.history.frames import get_history, get_parameters
from daskperiment.history.metrics import get_metrics, load_metric
from daskperiment.history.reading import Trial, read_trials, trial_or_raise
from daskperiment.history.steps import get_persisted, get_steps
from daskperiment.history.values import StoredObject

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
