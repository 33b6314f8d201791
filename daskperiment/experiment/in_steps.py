"""What a running step asks of its experiment: the trial, random numbers, metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Never, ParamSpec, TypeVar

import numpy as np

from daskperiment.capture.signatures import unknown_keyword
from daskperiment.codec import NotPlainError, to_plain
from daskperiment.errors import TrialIDNotFoundError
from daskperiment.execution.context import CURRENT, RunningStep
from daskperiment.execution.helper_threads import bound, running_step
from daskperiment.experiment.base import ExperimentBase, explained_methods
from daskperiment.formatting import shorten
from daskperiment.parameters import check_name
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Point

__all__ = ["StepMethods"]

Q = ParamSpec("Q")
R = TypeVar("R")


@explained_methods
class StepMethods(ExperimentBase):
    """The methods that are called in a step while it runs."""

    def _running(self) -> RunningStep:
        running = CURRENT.get() or running_step()  # most often a call less
        trial = running.trial if running else None
        if running is None or (trial and trial.store.address != self._store.address):
            raise TrialIDNotFoundError(
                f"No step of experiment {self.id!r} runs here, so there is no current trial. Use "
                "this inside a step while a result is computed; ex.trial_id tells the latest id."
            )
        return running

    @property
    def trial_id(self) -> int:
        """Id of the latest trial, 0 before the first."""
        return self._store.state().latest

    @property
    def current_trial_id(self) -> int:
        """Id of the trial in which this step runs.

        Raises
        ------
        TrialIDNotFoundError
            Outside a trial's step.
        """
        running = self._running()
        running.asked_for_trial = True
        if running.trial is None:
            raise TrialIDNotFoundError(
                "This step is computed alone, so there is no trial; compute a result for one."
            )
        return running.trial.trial

    @property
    def rng(self) -> np.random.Generator:
        """In a step, its random generator: the same seed gives the same draws on every scheduler.

        Outside a step, as in a unit test of the function alone, it is one generator for the
        experiment, seeded with the experiment's seed. In a thread that a step starts it is the
        step's; see :meth:`wrap`.

        Raises
        ------
        UncertainStepError
            In a thread that may work for one of several steps.
        StepEndedError
            If the step has ended, or its trial was interrupted.
        """
        if (running := CURRENT.get() or running_step()) is not None:
            return running.rng
        if self._rng is None:
            self._rng = np.random.default_rng(self.seed)
        return self._rng

    def wrap(self, function: Callable[Q, R]) -> Callable[Q, R]:
        """Return a function that works for the running step in whatever thread it is called.

        A thread that a step starts belongs to the step where that is certain: in a
        ``ThreadPoolExecutor``, in ``asyncio``, in joblib's threads, and in other threads as long as
        no other step runs in the process. Elsewhere :attr:`rng` and :meth:`save_metric` raise
        unless the thread calls what this returns. It does not reach other processes.

        Parameters
        ----------
        function : callable
            May be a coroutine function.

        Returns
        -------
        callable
            Outside a step, as in a unit test of the function alone, `function` itself.

        Raises
        ------
        TypeError
            If `function` cannot be called.
        UncertainStepError
            In a thread that may itself work for one of several steps.

        Examples
        --------
        ::

            @ex
            def search(grid):
                score = ex.wrap(score_and_save)
                threads = [Thread(target=score, args=(point,)) for point in grid]
        """
        if not callable(function):
            raise TypeError(
                f"ex.wrap got {shorten(repr(function), 60)}; expected the function that a thread "
                "is to call."
            )
        running = running_step()
        return function if running is None else bound(running, function)

    def save_metric(self, metric_key: str, epoch: Any, value: Any, **unknown: Never) -> None:
        """Save a point of a metric; to be called in a step.

        When this returns, the point survives the end of the process. In a step that is computed
        alone, without a trial, the point is dropped.

        Parameters
        ----------
        metric_key : str
            Name of the metric.
        epoch : int or other plain value
            Where the point stands in the series; of two points for one epoch the later counts.
        value : float or other plain value
            May be nan or infinite.

        Raises
        ------
        TrialIDNotFoundError
            Outside a step, or in a thread that may work for one of several steps.
        StepEndedError
            If the step has ended, or its trial was interrupted.
        TypeError
            If the name is no text, if epoch or value is no plain value, or for any other keyword.
        """
        if unknown:
            known = ("metric_key", "epoch", "value")
            raise unknown_keyword("save_metric", next(iter(unknown)), known)
        running = self._running()
        if metric_key.__class__ is not str or not metric_key:  # a call less for each point
            check_name(metric_key, "metric")
        point = Point(metric_key, _plain(epoch, "epoch"), _plain(value, "value"), time.time())
        if running.halted is not None and running.halted != "forked":
            raise running.refusal("save points")
        if running.trial is not None:
            running.metrics.add(metric_key)
            recorder_for(running.trial.store).point(running.trial.owner, point)


def _plain(value: Any, what: str) -> Any:
    if value.__class__ is int and -(2**63) <= value < 2**63:
        return value
    try:
        return to_plain(value)
    except NotPlainError as error:
        raise TypeError(
            f"The {what} of a metric is {shorten(repr(value), 60)} ({type(value).__name__}); "
            "expected a number or another plain value. Convert it, for example with float()."
        ) from error
