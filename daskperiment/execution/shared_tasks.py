"""Steps that several trials share, and the part that each trial has of its own in them.

A step that trials share is two tasks. The first runs it, under a key made of its cache key:
whatever trials in flight have the same, Dask computes it once. It is recorded in one of them, the
one whose graph brought the task. The second belongs to one trial: it adopts the outcome, or runs
the step anew where another trial's outcome does not fit.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import cloudpickle
import msgspec
from dask.sizeof import sizeof

from daskperiment.capture.fingerprint import is_array
from daskperiment.codec import unpack
from daskperiment.errors import StoreError
from daskperiment.execution.between_steps import run_between, run_unrecorded
from daskperiment.execution.calls import Call
from daskperiment.execution.claimed_outputs import may_be_made
from daskperiment.execution.helper_threads import speaking_step
from daskperiment.execution.kept_files import restore_files
from daskperiment.execution.known_outputs import distrust
from daskperiment.execution.lifecycle import end, join
from daskperiment.execution.running import Stopwatch
from daskperiment.execution.tasks import StepRunner, deliver_visit, run_recorded
from daskperiment.execution.trial import RequestSource, TrialHandle, TrialRequest
from daskperiment.formats import read_file
from daskperiment.recording.recorder import Recorder
from daskperiment.recording.registry import recorder_for
from daskperiment.records import FileState, StepRun, cache_entry_id, reused_run_id
from daskperiment.reuse.cache_entries import Hit, look_up, reads_with
from daskperiment.reuse.cache_keys import StepKeys
from daskperiment.seeds import step_seed
from daskperiment.store.liveness import current_origin

__all__ = [
    "RecomputeTask",
    "RecomputeTasks",
    "RecordingTrial",
    "SharedOutcome",
    "StoredOutputs",
    "adopt",
    "adopt_between",
    "adopt_result",
    "adopt_untouched",
    "load_or_none",
    "load_shared",
    "pass_shared",
    "run_shared",
    "share_between",
    "take_stored",
    "take_stored_result",
    "value_of",
]


@dataclass(frozen=True, slots=True)
class SharedOutcome:
    """What a shared task returns: the value, and what adopting trials need to know of it."""

    value: Any
    seeded: str
    """The cache key with the seeds of the trial that records the run."""
    drew: bool = False
    """Whether the step or any before it drew random numbers."""
    owner: str | None = None
    """Token of the one trial that the value is for; None if it may be for others."""
    void: bool = False
    """Whether the step did not run, because an input was another trial's."""
    run: StepRun | None = None
    trial: int = 0
    """The trial in which the step ran."""
    reads: tuple[FileState, ...] = ()
    """What it and all before it read besides their arguments."""

    def __sizeof__(self) -> int:
        return sizeof(self.value) + 1000  # type: ignore[no-any-return]  # dask's

    def fits(self, token: str, seeded: str) -> bool:
        """Return whether the value is what the step would return in a trial of this token.

        There its cache key with the trial's seeds is `seeded`.
        """
        if self.void or self.owner not in (None, token):
            return False
        return not self.drew or self.seeded == seeded


@dataclass(frozen=True, slots=True)
class RecordingTrial:
    """Where a shared task's run is recorded: in the trial whose graph brought the task."""

    source: RequestSource
    seeded: str
    """The cache key of the task's node with that trial's seeds."""
    before: tuple[str, ...]
    """Those of the nodes that it takes."""

    def __dask_tokenize__(self) -> str:
        # A scheduler may compare tasks that come under one key: whoever records the run, they are
        # alike.
        return "recording"

    def outcome(
        self, value: Any, outcomes: Sequence[SharedOutcome], **entries: Any
    ) -> SharedOutcome:
        """Return the outcome of a node that runs no step."""
        return SharedOutcome(
            value, self.seeded, any(outcome.drew for outcome in outcomes),
            next((outcome.owner for outcome in outcomes if outcome.owner), None),
            reads=tuple(_reads(outcomes)), **entries,
        )  # fmt: skip

    def accepts(self, outcomes: Sequence[SharedOutcome]) -> bool:
        """Return whether inputs are what they would be in the trial that records the run."""
        token = self.source.request().token
        pairs = zip(outcomes, self.before, strict=True)
        return all(outcome.fits(token, seeded) for outcome, seeded in pairs)

    @property
    def void(self) -> SharedOutcome:
        """The outcome of a node whose inputs are those of another trial."""
        return SharedOutcome(None, self.seeded, void=True)


class RecomputeTask(NamedTuple):
    """One of the tasks that make an output anew."""

    task: Any
    """A task of the graph; one that loads gives None if it cannot."""
    instead: Any = None
    """Key of the task that runs the step, where this one loads what the step returned."""


class RecomputeTasks:
    """The tasks that make an output anew, should it turn out that it cannot be loaded.

    Parameters
    ----------
    make : callable
        Returns the tasks by key, and the key of the last of them: called when they are needed,
        or leave the process.
    *arguments
        It is called with these.
    """

    __slots__ = ("_arguments", "_make")

    def __init__(
        self, make: Callable[..., tuple[Mapping[Any, RecomputeTask], Any]], *arguments: Any
    ) -> None:
        self._make = make
        self._arguments = arguments

    def run(self) -> SharedOutcome:
        """Run the tasks one after the other, here; what can be loaded before them is loaded."""
        tasks, last = self._make(*self._arguments)
        return _Recomputation(tasks).outcome(last)

    def __repr__(self) -> str:
        return "<tasks that make the output anew>"

    def __dask_tokenize__(self) -> str:
        return "recompute"  # as for `RecordingTrial`

    def __reduce__(self) -> Any:
        # As bytes: a scheduler passes them on without looking into them.
        return _arrived_tasks, (cloudpickle.dumps(self._make(*self._arguments)),)


def _arrived_tasks(pickled: bytes) -> RecomputeTasks:
    return RecomputeTasks(cache(lambda: pickle.loads(pickled)))


class _Recomputation:
    """Tasks that run here, without recursion: a graph may be deeper than Python's stack."""

    def __init__(self, tasks: Mapping[Any, RecomputeTask]) -> None:
        self._tasks = tasks
        self._values: dict[Any, Any] = {}
        self._lost: set[Any] = set()

    def outcome(self, last: Any) -> SharedOutcome:
        waiting = [last]
        while waiting:
            missing = self._missing(waiting[-1])
            if missing:
                waiting += missing
            else:
                waiting.pop()
        outcome: SharedOutcome = self._values[last]
        return outcome

    def _missing(self, key: Any) -> list[Any]:
        """Compute what a task gives, or return the keys of what it waits for."""
        if key in self._values:
            return []
        task, instead = self._tasks[key]
        if instead is not None and key not in self._lost:
            outcome = task({})
            if outcome is not None:
                self._values[key] = outcome
                return []
            self._lost.add(key)
        before = task.dependencies if instead is None else [instead]
        missing = [each for each in before if each not in self._values]
        if not missing:
            values = self._values
            values[key] = task(values) if instead is None else values[instead]
        return missing


def _reads(outcomes: Sequence[SharedOutcome]) -> list[FileState]:
    found = [outcome.reads for outcome in outcomes if outcome.reads]
    return reads_with(*found) if found else []


def _with_reads(
    before: tuple[FileState, ...], place: str, reads: Sequence[FileState]
) -> tuple[FileState, ...]:
    if not reads:
        return before
    own = [msgspec.structs.replace(each, step=each.step or place) for each in reads]
    return tuple(reads_with(before, own))


def value_of(outcome: SharedOutcome) -> Any:
    """Return the value of an outcome."""
    return outcome.value


def run_shared(
    recording: RecordingTrial,
    outcomes: Sequence[SharedOutcome],
    call: Call,
    /,
    *values: Any,
) -> SharedOutcome:
    """Run a step for all trials in flight that share it."""
    # An input that another trial made with seeds of its own: each trial runs the step itself then.
    if not recording.accepts(outcomes):
        return recording.void
    request = recording.source.request()
    recorder = recorder_for(request.setup.store)
    keys, claim = request.step_keys.get(call.key), None
    name = _claimable(recorder, outcomes, call, keys)
    if name is not None:
        claim = recorder.delivery.claims.take(name, recorder.settle)
    try:
        if request.followed or (
            name is not None and keys is not None
            and may_be_made(request, recorder, keys, claim)
        ):  # fmt: skip
            known = _made_meanwhile(recording, outcomes, call)
            if known is not None:
                return known
        trial = join(recording.source)
        runner = run_recorded(trial, call, values, _reads(outcomes))
        deliver_visit(trial, recorder)
        if claim is not None and trial.at_home and not recorder.delivery.away:
            made, claim = claim, None
            # Before those that wait for it look for the output.
            if recorder.delivery.claims.keep(made):
                recorder.settle()
    finally:
        if claim is not None:
            recorder.delivery.claims.give_back(claim)
    assert runner.record is not None
    source = runner.record.reused or trial.trial
    outcome = recording.outcome(runner.value, outcomes, run=runner.record, trial=source)
    return replace(
        outcome,
        drew=outcome.drew or runner.running.stochastic,
        # What can be gone through only once is of use to one trial.
        owner=trial.token if _is_private(runner) else outcome.owner,
        reads=_with_reads(outcome.reads, call.key, runner.reads),
    )


def _is_private(runner: StepRunner) -> bool:
    """Whether what a step returned is no use to another trial than that in which it ran."""
    return bool(runner.doubt or runner.spoiled) or hasattr(runner.value, "__next__")


def _claimable(
    recorder: Recorder, outcomes: Sequence[SharedOutcome], call: Call, keys: StepKeys | None
) -> str | None:
    """Return the name of an output that other processes may be about to make, too."""
    if not call.persist or keys is None or not keys.reusable or not keys.base:
        return None
    if speaking_step() is not None:
        # A trial within a step waits for no other step: that might wait for the one around it.
        return None
    id = cache_entry_id(keys.base)
    if not recorder.outputs.unknown([id]) and id not in keys.ids:
        return None  # it was made before, and is of no use here: with another seed it draws others
    drew = any(outcome.drew for outcome in outcomes) or recorder.outputs.drew(id)
    return keys.seeded if drew else keys.base


def _made_meanwhile(
    recording: RecordingTrial, outcomes: Sequence[SharedOutcome], call: Call
) -> SharedOutcome | None:
    """Load the output of a trial that ran the step since this one was arranged.

    It may be another process', which this one waited for, or that ended just before. On a cluster
    it may be the same task: a trial that comes later finds it in flight, and then the cluster lets
    go of its result before that trial's part arrives.
    """
    request, hit = recording.source.request(), None
    keys = request.step_keys.get(call.key)
    if keys is not None and keys.reusable:
        drew = any(outcome.drew for outcome in outcomes)
        with suppress(StoreError):
            setup = request.setup
            hit = look_up(setup.store, keys.base, keys.seeded, drew, keys.ids, setup.signing_key)
    if hit is None:
        return None
    try:
        outcome = _loaded(request, recording, call, hit)
    except Exception as error:  # unpickling runs the user's code, which may fail in any way
        distrust(request.setup.store, hit, error)
        return None
    return replace(outcome, drew=hit.cache_key == recording.seeded)


def share_between(
    recording: RecordingTrial, outcomes: Sequence[SharedOutcome], label: str,
    function: Callable[..., Any], /, *args: Any, **kwargs: Any,
) -> SharedOutcome:  # fmt: skip
    """Run a function that is no step for all trials in flight that share it."""
    if not recording.accepts(outcomes):
        return recording.void
    value, running = run_unrecorded(join(recording.source), label, function, args, kwargs)
    outcome = recording.outcome(value, outcomes)
    private = running.asked_for_trial or running.disturbed or running.unordered
    return replace(
        outcome,
        drew=outcome.drew or running.stochastic,
        reads=_with_reads(outcome.reads, label, running.reads),
        owner=recording.source.request().token if private else outcome.owner,
    )


def pass_shared(
    recording: RecordingTrial, outcomes: Sequence[SharedOutcome], value: Any
) -> SharedOutcome:
    """Hand on what was put together from shared values."""
    return recording.outcome(value, outcomes) if recording.accepts(outcomes) else recording.void


def load_shared(
    recording: RecordingTrial, call: Call, hit: Hit, again: RecomputeTasks
) -> SharedOutcome:
    """Load a kept output in place of running a step; run it if that fails."""
    outcome = load_or_none(recording, call, hit)
    return again.run() if outcome is None else outcome


def load_or_none(recording: RecordingTrial, call: Call, hit: Hit) -> SharedOutcome | None:
    """Load a kept output; say so and return None if that fails."""
    request = recording.source.request()
    try:
        return _loaded(request, recording, call, hit)
    except Exception as error:  # unpickling runs the user's code, which may fail in any way
        distrust(request.setup.store, hit, error)
        return None


def _loaded(
    request: TrialRequest, recording: RecordingTrial, call: Call, hit: Hit
) -> SharedOutcome:
    watch = Stopwatch()
    get, signing_key = request.setup.store.get, request.setup.signing_key
    value = unpack(hit.entry.kept["value"], get, signing_key, read_file)
    if "files" in hit.entry.kept:
        restore_files(hit.entry.kept["files"], get, signing_key)
    run = _as_run(request, call, hit, watch)
    reads = _with_reads((), hit.entry.key, hit.entry.reads)
    return SharedOutcome(value, recording.seeded, run=run, trial=hit.entry.trial, reads=reads)


def _as_run(request: TrialRequest, call: Call, hit: Hit, watch: Stopwatch) -> StepRun:
    usage, origin, entry = watch.read(), current_origin(), hit.entry
    codes = request.setup.codes
    return StepRun(
        key=call.key, step=call.step, status="succeeded", started=usage.started, wall=usage.wall,
        cpu=usage.cpu, peak=usage.peak, host=origin.host, pid=origin.pid, thread=usage.thread,
        code=codes.get(call.key) or codes.get(call.step, ""), output=entry.output,
        stochastic=entry.drew, seed=step_seed(request.seed, call.key), kept=entry.kept,
        metrics=entry.metrics, artifacts=entry.artifacts,
    )  # fmt: skip


def adopt(
    trial: TrialHandle, seeded: str, outcome: SharedOutcome, call: Call, /, *values: Any
) -> Any:
    """Return a shared outcome as a step's output in one trial; run the step if it does not fit."""
    recorder = recorder_for(trial.store)
    value = _adopted(trial, recorder, seeded, outcome, call, values)
    deliver_visit(trial, recorder)
    return value


def adopt_untouched(
    trial: TrialHandle, seeded: str, outcome: SharedOutcome, call: Call, /, *values: Any
) -> Any:
    """Adopt an output that was loaded for this trial and one step of it, and for nobody else."""
    value = adopt(trial, seeded, outcome, call, *values)
    run = outcome.run
    # What could not be loaded was made here, by a step that may have kept it.
    loaded = value is outcome.value and outcome.trial != trial.trial
    if loaded and run is not None and run.output and is_array(value):
        # Reading megabytes once more, to learn what is on record, takes longer than the trial.
        trial.untouched[id(value)] = value, run.output
    return value


def adopt_result(
    trial: TrialHandle, seeded: str, outcome: SharedOutcome, call: Call, /, *values: Any
) -> Any:
    """Adopt a trial's last step, and end the trial."""
    recorder = recorder_for(trial.store)
    return end(trial, recorder, _adopted(trial, recorder, seeded, outcome, call, values))


class StoredOutputs(NamedTuple):
    """What a trial takes from the store in the process that computes it."""

    source: RequestSource
    seeded: Mapping[Any, str]
    """Key of a step -> its cache key with the trial's seeds."""
    again: Callable[[Any], tuple[Mapping[Any, RecomputeTask], Any]]
    """Returns what makes the output of such a step anew, as `RecomputeTasks` has it."""

    def take(self, key: Any, call: Call, hit: Hit) -> SharedOutcome:
        """Load what a step returned; run the step if that fails."""
        recording = RecordingTrial(self.source, self.seeded[key], ())
        return load_shared(recording, call, hit, RecomputeTasks(self.again, key))


def take_stored(
    trial: TrialHandle, outputs: StoredOutputs, key: Any, call: Call, hit: Hit, /, *values: Any
) -> Any:
    """Load what a step returned, for this trial and one step of it, and adopt it."""
    outcome = outputs.take(key, call, hit)
    return adopt_untouched(trial, outputs.seeded[key], outcome, call, *values)


def take_stored_result(
    trial: TrialHandle, outputs: StoredOutputs, key: Any, call: Call, hit: Hit, /, *values: Any
) -> Any:
    """Load what the trial's last step returned, and end the trial."""
    outcome = outputs.take(key, call, hit)
    return adopt_result(trial, outputs.seeded[key], outcome, call, *values)


def adopt_between(
    trial: TrialHandle, seeded: str, outcome: SharedOutcome, label: str,
    function: Callable[..., Any], /, *args: Any, **kwargs: Any,
) -> Any:  # fmt: skip
    """Return the shared outcome of a function that is no step; call it if it does not fit."""
    if outcome.fits(trial.token, seeded):
        return outcome.value
    return run_between(trial, label, function, *args, **kwargs)


def _adopted(
    trial: TrialHandle, recorder: Recorder, seeded: str, outcome: SharedOutcome, call: Call,
    values: Sequence[Any],
) -> Any:  # fmt: skip
    if not outcome.fits(trial.token, seeded):
        return run_recorded(trial, call, values).value
    run = outcome.run
    assert run is not None
    if (outcome.trial, run.key) != (trial.trial, call.key):
        _record_adoption(trial, recorder, call, outcome.trial, run)
    return outcome.value


def _record_adoption(
    trial: TrialHandle, recorder: Recorder, call: Call, source: int, run: StepRun
) -> None:
    keys, origin = trial.step_keys.get(call.key), current_origin()
    record = msgspec.structs.replace(
        run, key=call.key, host=origin.host, pid=origin.pid, reused=source,
        reason=None if run.reused is None else run.reason,
        kept=run.kept if call.persist else None, cache_key=keys and keys.base,
        reusable=keys is not None and keys.reusable, note=None,
    )  # fmt: skip
    id, key = reused_run_id(call.key, source), trial.signing_key
    if key is None:
        recorder.write("steps", trial.trial, id, record, trial.owner)
    else:
        recorder.write_signed("steps", trial.trial, id, record, trial.owner, key)
    trial.show(call.key, "succeeded")
