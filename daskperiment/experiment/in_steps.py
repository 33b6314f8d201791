"""What a running step asks of its experiment: the trial, random numbers, metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from daskperiment.errors import TrialIDNotFoundError
from daskperiment.execution.context import CURRENT, RunningStep
from daskperiment.execution.helper_threads import bound, running_step
from daskperiment.experiment.base import ExperimentBase, explained_methods
from daskperiment.formatting import shorten
from daskperiment.recording.registry import ADMITTED, recorder_for
from daskperiment.records import Point

if TYPE_CHECKING:
    import numpy as np

__all__ = ["StepMethods"]

Q = ParamSpec("Q")
R = TypeVar("R")

_INF = float("inf")
_LEAST = -_INF
_USUAL = 2**30 - 1
"""Whole numbers up to this are compared faster than longer ones."""
_LEAST_USUAL = -_USUAL
_NOTHING: Any = object()
"""In the place of what a call did not give: to take it in a tuple would be felt."""


@explained_methods
class StepMethods(ExperimentBase):
    """The methods that are called in a step while it runs."""

    def _running(self) -> RunningStep:
        running = CURRENT.get() or running_step()  # most often a call less
        trial = running.trial if running else None
        if running is None or (trial and trial.store.address != self._store.address):
            raise TrialIDNotFoundError(
                f"No step of experiment {self.id!r} runs here, so there is no current trial. Use "
                "this inside a step while a result is computed; ex.trial_id tells the latest id. "
                "In a unit test of a function alone: with daskperiment.testing.no_trial(): ..."
            )
        return running

    @property
    def trial_id(self) -> int:
        """Id of the latest trial in the store, whoever ran it; 0 before the first.

        In :func:`~daskperiment.testing.no_trial` it is 0, too.
        """
        running = CURRENT.get()
        if running is not None and running.rehearsed:
            return 0
        return self._store.state().latest

    @property
    def current_trial_id(self) -> int:
        """Id of the trial in which this step runs; 0 in :func:`~daskperiment.testing.no_trial`.

        Raises
        ------
        TrialIDNotFoundError
            Outside a trial's step.
        """
        running = self._running()
        running.asked_for_trial = True
        if running.rehearsed:
            return 0
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
            import numpy as np

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

    @overload
    def save_metric(self, metric_key: str, epoch: Any, value: Any) -> None: ...
    @overload
    def save_metric(self, metric_key: str, value: Any, *, step: Any) -> None: ...
    @overload
    def save_metric(self, metric_key: str, value: Any, *, epoch: Any) -> None: ...

    def save_metric(  # type: ignore[misc]  # by name the two come among the named
        self, metric_key: str, _first: Any = _NOTHING, _second: Any = _NOTHING,
        *more: Any, **named: Any,
    ) -> None:  # fmt: skip
        """Save a point of a metric, ``(metric_key, epoch, value)``; to be called in a step.

        When this returns, the point survives the end of the process. In a step that is computed
        alone, without a trial, and in :func:`~daskperiment.testing.no_trial` it is dropped. A store
        that is away, full or closed costs nothing but time.

        Parameters
        ----------
        metric_key : str
            Name of the metric.
        epoch : int or other plain value
            Where the point stands in the series; of two points for one epoch the later counts.
        value : float, or anything that is or holds one number
            A tensor or array of one element on whatever device, a number of NumPy, a Decimal, a
            bool. May be nan or infinite.
        step
            Another word for `epoch`. With it, or with ``epoch=``, the value comes before it, as in
            other trackers: ``save_metric("loss", 0.25, step=17)``.

        Raises
        ------
        TrialIDNotFoundError
            Outside a step, or in a thread that may work for one of several steps.
        StepEndedError
            If the step has ended, or its trial was interrupted.
        TypeError
            If the name is no text, the value is not one number, the epoch is no plain value, or
            epoch and value cannot be told from each other; for any other keyword.

        See Also
        --------
        daskperiment.testing.no_trial : For tests of plain functions that save metrics.
        """
        running = CURRENT.get()
        # A plain float for a counted epoch is a point as it stands, and takes no more than that.
        epoch, value = _first, _second
        if (
            value.__class__ is float and _LEAST < value < _INF
            and epoch.__class__ is int and _LEAST_USUAL < epoch < _USUAL
            and metric_key.__class__ is str and not named and not more
            and running is not None and running.halted is None
        ):  # fmt: skip
            writer = running.writers.get(metric_key)
            if writer is not None and writer.store is self._store and writer.add(epoch, value):
                return
            is_plain = bool(metric_key) and metric_key.isascii()
        else:
            is_plain = False
        running = self._running()
        if is_plain:
            new = Point(metric_key, epoch, value, time.time())
        else:
            from daskperiment.execution.metric_points import point_of

            some = [one for one in (_first, _second) if one is not _NOTHING]
            new = point_of(metric_key, (*some, *more), named)
        if running.halted is not None:  # a call less for each point
            running.check_goes_on("save points")
        trial = running.trial
        if trial is not None:
            known = ADMITTED.get(id(trial.store))
            recorder = recorder_for(trial.store) if known is None else known[1]
            recorder.point(trial.owner, new, trial.signing_key)
            if metric_key not in running.metrics:
                running.metrics.add(metric_key)
            elif trial.signing_key is None:  # it is a loop
                running.writers[metric_key] = recorder.writer(self._store, trial.owner, metric_key)

    @overload
    def save_metrics(self, metrics: Mapping[str, Any], epoch: Any) -> None: ...
    @overload
    def save_metrics(self, metrics: Mapping[str, Any], *, step: Any) -> None: ...

    def save_metrics(self, metrics: Mapping[str, Any], *epoch: Any, **named: Any) -> None:
        """Save a point of each of several metrics for one epoch; to be called in a step.

        Parameters
        ----------
        metrics : mapping of str to number
            Names and values, each as for :meth:`save_metric`. If one is wrong, none is saved.
        epoch : int or other plain value
            Where the points stand in their series; may be given as ``step=``.

        Raises
        ------
        TrialIDNotFoundError, StepEndedError, TypeError
            As :meth:`save_metric`.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import daskperiment
        >>> ex = daskperiment.Experiment("training", backend=pathlib.Path(tempfile.mkdtemp()))
        >>> @ex.result
        ... def train():
        ...     for epoch in range(2):
        ...         ex.save_metrics({"loss": 1 / (epoch + 1), "accuracy": 0.5}, epoch)
        >>> train().compute()
        >>> ex.get_metrics(1)
        ['accuracy', 'loss']
        """
        from daskperiment.execution.metric_points import points_of
        from daskperiment.execution.step_records import save_points

        running = self._running()
        new = points_of(metrics, epoch, named)
        save_points(running, new)
