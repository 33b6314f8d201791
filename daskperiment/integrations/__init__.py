"""What other libraries' training loops report, recorded: a module for each library.

A module is imported when it is asked for, and its library with it. What they have in common is
:class:`~daskperiment.integrations.step_report.StepReport`: all that a library tells of its work
goes to the step that runs.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "keras", "lightgbm", "lightning", "optuna", "sklearn", "tensorboard", "transformers", "xgboost",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
