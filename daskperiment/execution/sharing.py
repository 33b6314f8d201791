"""Steps that several trials share, and the part that each trial has of its own in them.

A step that trials share is two tasks. The first runs it, under a key that comes from its cache_key:
whatever trials in flight have the same, Dask computes it once. It is recorded in the trial that
leads, the one whose graph brought the task. The second belongs to one trial: it adopts the
outcome, or runs the step anew where another trial's outcome does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from dask.local import get_sync
from dask.sizeof import sizeof

from daskperiment.codec import unpack
from daskperiment.errors import CorruptRecordError, StoreError, StoreWarning
from daskperiment.execution.lifecycle import Trial, end, join
from daskperiment.execution.random_state import step_seed
from daskperiment.execution.request import Plan, Request
from daskperiment.execution.resources import Stopwatch
from daskperiment.execution.tasks import Call, guarded, hand_in, run_between, run_recorded
from daskperiment.recording.recorder import recorder_for
from daskperiment.records import StepRun
from daskperiment.reuse.cache_entries import Hit, look_up
from daskperiment.store.liveness import current_origin
from daskperiment.warn import warn_user

__all__ = [
    "Again",
    "RecordingTrial",
    "Outcome",
    "SingleStepPlan",
    "adopt",
    "adopt_between",
    "adopt_result",
    "load_shared",
    "pass_shared",
    "run_shared",
    "share_between",
    "value_of",
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a shared task returns: the value, and what adopting trials need to know of it."""

    value: Any
    seeded: str
    """The cache_key with the leading trial's seeds."""
    drew: bool = False
    """Whether the step or any before it drew random numbers."""
    owner: str | None = None
    """Token of the one trial that the value is for; None if it may be for others."""
    void: bool = False
    """Whether the step did not run, because an input was another trial's."""
    run: StepRun | None = None
    trial: int = 0
    """The trial in which the step ran."""

    def __sizeof__(self) -> int:
        return sizeof(self.value) + 1000  # type: ignore[no-any-return]  # dask's

    def fits(self, token: str, seeded: str) -> bool:
        """Tell whether the value is what the step would return in a trial.

        Parameters
        ----------
        token : str
            The trial's token.
        seeded : str
            The step's cache_key with the trial's seeds.
        """
        if self.void or self.owner not in (None, token):
            return False
        return not self.drew or self.seeded == seeded


@dataclass(frozen=True, slots=True)
class RecordingTrial:
    """Where a shared task's run is recorded: in the trial whose graph brought the task."""

    plan: Plan
    seeded: str
    """The cache_key of the task's node with the leading trial's seeds."""
    before: tuple[str, ...]
    """Those of the nodes that it takes."""

    def __dask_tokenize__(self) -> str:
        # A scheduler may compare the tasks that come under one key: whoever leads, they do alike.
        return "host"

    def outcome(self, value: Any, outcomes: Sequence[Outcome], **entries: Any) -> Outcome:
        """Make the outcome of a node that runs no step."""
        return Outcome(
            value, self.seeded, any(outcome.drew for outcome in outcomes),
            next((outcome.owner for outcome in outcomes if outcome.owner), None), **entries,
        )  # fmt: skip

    def accepts(self, outcomes: Sequence[Outcome]) -> bool:
        """Tell whether inputs are what they would be in the leading trial."""
        token = self.plan.request().token
        pairs = zip(outcomes, self.before, strict=True)
        return all(outcome.fits(token, seeded) for outcome, seeded in pairs)

    @property
    def void(self) -> Outcome:
        """The outcome of a node whose inputs are not the leading trial's."""
        return Outcome(None, self.seeded, void=True)


@dataclass(frozen=True)
class Again:
    """The tasks that make an output anew, should it turn out that it cannot be loaded."""

    tasks: Mapping[Any, Any] = field(repr=False)
    key: Any

    def run(self) -> Outcome:
        """Run the tasks one after the other, here."""
        outcome: Outcome = get_sync(dict(self.tasks), self.key)
        return outcome


class SingleStepPlan(Plan):
    """The plan by which a shared task joins the leading trial: of its steps it names one only.

    Parameters
    ----------
    plan : Plan
        Of the leading trial.
    place, step : str
        The step's place and name; empty for what is none.
    """

    def __init__(self, plan: Plan, place: str, step: str) -> None:
        super().__init__(lambda: _single_step(plan.request(), place, step))
        self._plan = plan
        self._names = place, step

    def shipped(self) -> Request:
        """Settle the request and make it fit to leave the process."""
        return _single_step(self._plan.shipped(), *self._names)


def _single_step(request: Request, place: str, step: str) -> Request:
    every = request.common.codes
    codes = {name: every[name] for name in (place, step) if name in every}
    marks = {place: request.marks[place]} if place in request.marks else {}
    return replace(request, common=replace(request.common, codes=codes), marks=marks)


def value_of(outcome: Outcome) -> Any:
    """Take the value out of an outcome."""
    return outcome.value


def run_shared(
    host: RecordingTrial, outcomes: Sequence[Outcome], call: Call, /, *args: Any, **kwargs: Any
) -> Outcome:
    """Run a step for all trials in flight that share it."""
    if not host.accepts(outcomes):
        return host.void
    known = _made_meanwhile(host, outcomes, call)
    if known is not None:
        return known
    trial = join(host.plan)
    runner = run_recorded(trial, call, args, kwargs)
    hand_in(trial)
    outcome = host.outcome(runner.value, outcomes, run=runner.record, trial=trial.trial)
    return replace(
        outcome,
        drew=outcome.drew or runner.running.stochastic,
        owner=trial.token if runner.note else outcome.owner,
    )


def _made_meanwhile(
    host: RecordingTrial, outcomes: Sequence[Outcome], call: Call
) -> Outcome | None:
    """Load the output of a trial that ran the step since this one was arranged.

    On a cluster it may be the same task: a trial that comes later finds it in flight, and then the
    cluster lets go of its result before that trial's part arrives.
    """
    request, hit = host.plan.request(), None
    mark = request.marks.get(call.key)
    if request.followed and mark is not None and mark.reusable:
        drew = any(outcome.drew for outcome in outcomes)
        with suppress(StoreError):
            hit = look_up(request.common.store, mark.base, mark.seeded, drew)
    if hit is None:
        return None
    try:
        outcome = _loaded(request, host, call, hit)
    except Exception as error:  # unpickling runs the user's code, which may fail in any way
        _distrust(request, hit, error)
        return None
    return replace(outcome, drew=hit.cache_key == host.seeded)


def share_between(
    host: RecordingTrial, outcomes: Sequence[Outcome], label: str, function: Callable[..., Any], /,
    *args: Any, **kwargs: Any,
) -> Outcome:  # fmt: skip
    """Run a function that is no step for all trials in flight that share it."""
    if not host.accepts(outcomes):
        return host.void
    value, running = guarded(join(host.plan), label, function, args, kwargs)
    outcome = host.outcome(value, outcomes)
    private = running.asked_for_trial or running.disturbed
    return replace(
        outcome,
        drew=outcome.drew or running.stochastic,
        owner=host.plan.request().token if private else outcome.owner,
    )


def pass_shared(host: RecordingTrial, outcomes: Sequence[Outcome], value: Any) -> Outcome:
    """Hand on what was put together from shared values."""
    return host.outcome(value, outcomes) if host.accepts(outcomes) else host.void


def load_shared(host: RecordingTrial, call: Call, hit: Hit, again: Again) -> Outcome:
    """Load a kept output in place of running a step; run it if that fails."""
    request = host.plan.request()
    try:
        return _loaded(request, host, call, hit)
    except Exception as error:  # unpickling runs the user's code, which may fail in any way
        _distrust(request, hit, error)
        return again.run()


def _loaded(request: Request, host: RecordingTrial, call: Call, hit: Hit) -> Outcome:
    watch = Stopwatch()
    value = unpack(hit.entry.kept["value"], request.common.store.get, request.common.signing_key)
    run = _as_run(request, call, hit, watch)
    return Outcome(value, host.seeded, run=run, trial=hit.entry.trial)


def _distrust(request: Request, hit: Hit, error: Exception) -> None:
    entry = hit.entry
    warn_user(
        StoreWarning(
            f"The output that trial {entry.trial} kept of step {entry.key!r} cannot be loaded, so "
            f"the step runs again: {type(error).__name__}: {error}"
        )
    )
    if isinstance(error, CorruptRecordError) and hit.digest:
        # Otherwise the new output, which may have the same digest, would not be written.
        with suppress(StoreError):
            request.common.store.discard([hit.digest])
            recorder_for(request.common.store).forget_object(hit.digest)


def _as_run(request: Request, call: Call, hit: Hit, watch: Stopwatch) -> StepRun:
    usage, origin, entry = watch.read(), current_origin(), hit.entry
    codes = request.common.codes
    return StepRun(
        key=call.key, step=call.step, status="succeeded", started=usage.started, wall=usage.wall,
        cpu=usage.cpu, peak=usage.peak, host=origin.host, pid=origin.pid, thread=usage.thread,
        code=codes.get(call.key) or codes.get(call.step, ""), output=entry.output,
        stochastic=entry.drew, seed=step_seed(request.seed, call.key), kept=entry.kept,
        metrics=entry.metrics,
    )  # fmt: skip


def adopt(
    trial: Trial, seeded: str, outcome: Outcome, call: Call, /, *args: Any, **kwargs: Any
) -> Any:
    """Take a shared outcome as a step's output in one trial; run the step if it does not fit."""
    value = _adopted(trial, seeded, outcome, call, args, kwargs)
    hand_in(trial)
    return value


def adopt_result(
    trial: Trial, seeded: str, outcome: Outcome, call: Call, /, *args: Any, **kwargs: Any
) -> Any:
    """Adopt a trial's last step, and end the trial."""
    return end(trial, _adopted(trial, seeded, outcome, call, args, kwargs))


def adopt_between(
    trial: Trial, seeded: str, outcome: Outcome, label: str, function: Callable[..., Any], /,
    *args: Any, **kwargs: Any,
) -> Any:  # fmt: skip
    """Take a shared outcome of a function that is no step; call it if it does not fit."""
    if outcome.fits(trial.token, seeded):
        return outcome.value
    return run_between(trial, label, function, *args, **kwargs)


def _adopted(
    trial: Trial, seeded: str, outcome: Outcome, call: Call, args: Any, kwargs: Any
) -> Any:
    if not outcome.fits(trial.token, seeded):
        return run_recorded(trial, call, args, kwargs).value
    run = outcome.run
    assert run is not None
    if (outcome.trial, run.key) != (trial.trial, call.key):
        _record_adoption(trial, call, outcome.trial, run)
    return outcome.value


def _record_adoption(trial: Trial, call: Call, source: int, run: StepRun) -> None:
    mark, origin = trial.marks.get(call.key), current_origin()
    record = msgspec.structs.replace(
        run, key=call.key, host=origin.host, pid=origin.pid, reused=source, reason=None,
        kept=run.kept if call.persist else None, cache_key=mark and mark.base,
        reusable=mark is not None and mark.reusable, note=None,
    )  # fmt: skip
    trial.recorder.write("steps", trial.trial, f"{call.key}-reused-{source}", record)
    if trial.progress is not None:
        trial.progress.tell(call.key, "succeeded")
