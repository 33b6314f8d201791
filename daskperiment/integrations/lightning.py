"""PyTorch Lightning: a logger whose metrics are those of the trial."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daskperiment.integrations.step_report import StepReport

if TYPE_CHECKING or "lightning" in sys.modules or "pytorch_lightning" not in sys.modules:
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.utilities import rank_zero_only
else:  # whoever uses the package of that name alone
    from pytorch_lightning.loggers import Logger
    from pytorch_lightning.utilities import rank_zero_only

__all__ = ["LightningLogger"]


class LightningLogger(Logger):  # type: ignore[misc]
    """A logger for Lightning's Trainer: what modules log are points of the trial.

    Hyperparameters are the artifact ``hyperparameters``.

    Parameters
    ----------
    prefix : str
        Stands before the names of metrics and artifacts.

    Examples
    --------
    ::

        trainer = Trainer(max_epochs=3, logger=LightningLogger())
    """

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self._report = StepReport(prefix)

    @property
    def name(self) -> str:
        """Of the folder in which Lightning keeps checkpoints: it is one for each step."""
        return str(self._report.place[0])

    @property
    def version(self) -> str:
        """Of that folder: it is one for each trial."""
        return f"trial_{self._report.place[1]}"

    @property
    def experiment(self) -> StepReport:
        """Where metrics go."""
        return self._report

    @rank_zero_only  # type: ignore[untyped-decorator]
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Save a point of each metric."""
        self._report.points(metrics, 0 if step is None else step)

    @rank_zero_only  # type: ignore[untyped-decorator]
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Save hyperparameters as an artifact."""
        given = vars(params) if isinstance(params, Namespace) else params
        if given:
            self._report.settings("hyperparameters", dict(given))
