"""Which step runs here: a context variable that the step's wrapper sets."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from daskperiment.execution.trial import TrialHandle
from daskperiment.records import FileState

__all__ = ["CURRENT", "RunningStep"]


@dataclass(slots=True)
class RunningStep:
    """A step while it runs."""

    key: str
    seed: int
    trial: TrialHandle | None
    """None while a step is computed alone, without a trial."""
    stochastic: bool = False
    asked_for_trial: bool = False
    """Whether the step read its trial's id, so that its output may differ for that reason."""
    disturbed: bool = False
    """Whether others may have used the global random state while this step drew from it."""
    files: Any = None
    """What it reads and writes, where that is observed."""
    reads: Sequence[FileState] = ()
    """What it read besides its arguments, once it has run."""
    metrics: set[str] = field(default_factory=set)
    """Names of the metrics that the step saved."""
    _rng: np.random.Generator | None = None

    @property
    def rng(self) -> np.random.Generator:
        """The step's own random generator, made at its first use."""
        self.stochastic = True
        if self._rng is None:
            self._rng = np.random.default_rng(self.seed)
        return self._rng


CURRENT: ContextVar[RunningStep | None] = ContextVar("daskperiment_running_step", default=None)
# A module global because a ContextVar cannot travel in a pickle.
