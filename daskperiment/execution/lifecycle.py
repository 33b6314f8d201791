"""How a trial begins and ends, wherever its first and last tasks run."""

from __future__ import annotations

import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import filterfalse
from typing import Any

import msgspec

from daskperiment.capture.code_inside import with_content
from daskperiment.cluster import retries, worker
from daskperiment.codec import Blob, content_hash, decode, decode_each, encode, pack, signed
from daskperiment.errors import (
    ParameterUndefinedError,
    StoreError,
    StoreUnavailableError,
    StoreWarning,
)
from daskperiment.execution.context import ACTIVE, halt_steps, steps_here
from daskperiment.execution.purity import report_conflicts
from daskperiment.execution.termination import is_termination
from daskperiment.execution.trial import (
    RequestSource,
    TrialHandle,
    TrialRequest,
    TrialSetup,
    is_of_batch,
)
from daskperiment.formats import as_object
from daskperiment.recording.listeners import RecorderListener
from daskperiment.recording.patience import patiently
from daskperiment.recording.recorder import BegunTrial, Recorder
from daskperiment.recording.registry import recorder_for
from daskperiment.records import (
    BEGUN,
    DESERTED,
    ENDED,
    REACHED,
    REMOVED,
    Begun,
    Ended,
    EndStatus,
    Failure,
    Reached,
    ended_id,
    record_kind,
)
from daskperiment.secret_values import concealed, revealed
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Owner, Store, Stored

__all__ = [
    "InterruptionWatch",
    "TrialOfOneTask",
    "begin",
    "begin_within",
    "elapsed",
    "end",
    "end_batch",
    "fail",
    "failure_of",
    "has_ended",
    "join",
    "keep_again",
    "keep_or_explain",
    "last_key",
    "latest_trials",
    "status_of",
    "take_optional",
    "take_parameter",
    "undefined",
    "watch_for_interruption",
]


_LONGEST_TEXT = 100_000
"""Characters of an exception's text, and of its traceback, that are recorded."""


def begin(source: RequestSource) -> TrialHandle:
    """Begin a trial: give it an id in the store and write down what it begins with.

    Raises
    ------
    ParameterUndefinedError
        If a parameter that the graph needs has no value. Nothing is recorded then.
    StoreUnavailableError
        If the store is away, and stays so for as long as the trial waits. Nothing is computed then.
    """
    request = source.request()
    if request.missing:
        raise undefined(request.missing)
    recorder = recorder_for(request.setup.store)
    try:
        begun = _begun(request, recorder, _allocate)
    except StoreUnavailableError as error:
        begun = _begun_late(request, recorder, _allocate, error)
    trial = _handle(request, begun)
    if trial.at_home and not begun.over:
        handle = None if trial.followed else trial
        recorder.steps_here = steps_here
        recorder.begin(trial.owner, trial.token, handle, trial.signing_key, trial.looked_at)
    return trial


def begin_within(single: TrialOfOneTask) -> TrialHandle:
    """Begin a trial inside its only task, which may ask for it several times."""
    return single.trial()


class TrialOfOneTask:
    """A trial that is begun by its only task, and is one as long as that runs.

    Parameters
    ----------
    source : RequestSource
    """

    def __init__(self, source: RequestSource) -> None:
        self._source = source
        self._begun: weakref.ref[TrialHandle] | None = None

    def trial(self) -> TrialHandle:
        """Return the trial while its task runs, else a new one."""
        trial = self._begun() if self._begun is not None else None
        if trial is None or recorder_for(trial.store).trials.has_ended(trial.token):
            trial = begin(self._source)
            self._begun = weakref.ref(trial)
        return trial

    def __reduce__(self) -> Any:
        return TrialOfOneTask, (self._source,)


def join(source: RequestSource) -> TrialHandle:
    """Return the handle of a trial for a task that does not wait for its first one.

    Whoever comes first gives the trial its id.
    """
    request = source.request()
    recorder = recorder_for(request.setup.store)
    known = recorder.begun(request.token)
    try:
        known = known or _begun(request, recorder, _allocate_once)
    except StoreUnavailableError as error:
        known = _begun_late(request, recorder, _allocate_once, error)
    return _handle(request, known)


def _begun_late(
    request: TrialRequest, recorder: Recorder,
    allocate: Callable[[TrialRequest, Recorder, bytes], BegunTrial], error: Exception,
) -> BegunTrial:  # fmt: skip
    """Begin a trial when a store is back that is away, if the trial waits for it."""
    if not request.patience:
        raise error
    return patiently(lambda: _begun(request, recorder, allocate), request.patience)


def _begun(
    request: TrialRequest, recorder: Recorder,
    allocate: Callable[[TrialRequest, Recorder, bytes], BegunTrial],
) -> BegunTrial:  # fmt: skip
    blobs, first_record = _put_objects(request, recorder, allocate is _allocate_once)
    known = recorder.delivery.writes.known
    begun = allocate(request, recorder, first_record)
    if not begun.allocation.stands:
        # The store lost what it had, perhaps these objects too.
        latest = begun.allocation.trial - begun.allocation.new
        recorder.delivery.went_back(latest, known)
        recorder.delivery.put(*blobs)
    recorder.remember_begun(request.token, begun)
    return begun


def _put_objects(
    request: TrialRequest, recorder: Recorder, joined: bool
) -> tuple[list[Blob], bytes]:  # fmt: skip
    """Put what a trial begins with into the store; return it, and the trial's first record."""
    # Objects before the record that names them: whoever reads it finds them.
    forms, blobs = {}, list(request.setup.blobs)
    for name, value in request.values.items():
        form, blob = pack(value, request.setup.signing_key, None, as_object)
        forms[name] = form if type(form) is not dict else with_content(form, value)
        if blob is not None:
            blobs.append(blob)
    if request.files is not None:
        blobs.append(request.files)
    recorder.delivery.put(*blobs)
    return blobs, _first_record(request, forms, joined)


def _handle(request: TrialRequest, begun: BegunTrial) -> TrialHandle:
    origin, setup, allocation = current_origin(), request.setup, begun.allocation
    return TrialHandle(
        store=setup.store, trial=allocation.trial, token=request.token, seed=request.seed,
        values=request.values, codes=setup.codes, doubts=setup.doubts, origin=setup.origin,
        clock=allocation.clock, monotonic=time.monotonic(), began_on=(origin.host, origin.boot),
        signing_key=setup.signing_key, step_keys=request.step_keys, followed=request.followed,
        progress=request.progress, owner=begun.owner, first_record=begun.first_record,
        secrets=request.secrets, directory=setup.directory, logs=setup.logs,
        looked_at=setup.looked_at, resumption=request.resumption, result=setup.result,
        observers=setup.observers,
        gathered=(
            request.submission is not None and allocation.new and is_of_batch(request.submission)
        ),
    )  # fmt: skip


def last_key(result: str, token: str) -> str:
    """Return the key of a trial's last task, the one that a client's future has."""
    return f"{result}-{token}"


def undefined(names: tuple[str, ...]) -> ParameterUndefinedError:
    """Return the error that names parameters without a value."""
    listed = ", ".join(repr(name) for name in names)
    example = f"{names[0]}=..." if names[0].isidentifier() else f"**{{{names[0]!r}: ...}}"
    return ParameterUndefinedError(
        f"No value for parameter{'s' if len(names) > 1 else ''} {listed}. Every parameter needs a "
        f"default or a value: call ex.set_parameters({example}) or bind({example})."
    )


def _first_record(request: TrialRequest, forms: dict[str, Any], joined: bool) -> bytes:
    setup = request.setup
    begun = Begun(
        token=request.token, result=setup.result, started=time.time(), seed=request.seed,
        parameters=forms, code=setup.code.digest, environment=setup.environment.digest,
        graph=setup.graph.digest, origin=setup.origin,
        sweep=request.sweep, source=request.source,
        resumes=None if request.resumption is None else request.resumption.trial,
        files=request.files and request.files.digest,
        unreached=[*filterfalse(setup.parameters.__contains__, forms)],
        submission=request.submission, joined=joined, code_hash=setup.code_hash,
        hashes=_hashes(request) if setup.hashes else {},
        numbered=setup.signing_key is not None, vouched=setup.signing_key is not None,
    )  # fmt: skip
    return encode(begun) if setup.signing_key is None else _encoded(begun, setup)


def _hashes(request: TrialRequest) -> dict[str, str]:
    """Return cryptographic digests of what a signed trial names."""
    hashes, files = dict(request.setup.hashes), request.files
    if files:
        hashes["files"] = content_hash(files.parts)
    return hashes


def _encoded(begun: Begun, setup: TrialSetup) -> bytes:
    if setup.signing_key is not None:
        begun = signed(begun, setup.signing_key, setup.store.address)
    return encode(begun)


def _allocate_once(request: TrialRequest, recorder: Recorder, body: bytes) -> BegunTrial:
    known = recorder.delivery.writes.known
    allocation = recorder.store.allocate(request.token, body, known)
    return BegunTrial(allocation, Owner(allocation.trial, request.token), body)


def _allocate(request: TrialRequest, recorder: Recorder, body: bytes) -> BegunTrial:
    attempt, token = 0, request.token
    # Each request that comes from another process brings a store that would connect anew.
    store = recorder.store
    while True:
        allocation = store.allocate(token, body, recorder.delivery.writes.known)
        begun = BegunTrial(allocation, Owner(allocation.trial, token), body)
        if allocation.new:
            return begun
        if not has_ended(store, allocation.trial):
            # The same task, tried again, or a task that trials share was here before.
            _note_arrival(request, recorder, begun.owner)
            return begun
        past = list(store.read("trials", [allocation.trial]))
        if request.submission and _is_repeated(past, request.submission):
            # What it had made was lost with a worker: the cluster runs all of it again.
            return begun
        if _is_late(past):
            _note_arrival(request, recorder, begun.owner)
            return begun._replace(over=True)
        # The same graph computed once more, as when it is part of another Delayed.
        attempt += 1
        token = f"{request.token}/{attempt}"
        body = _encoded(msgspec.structs.replace(decode(body, Begun), token=token), request.setup)


def _note_arrival(request: TrialRequest, recorder: Recorder, owner: Owner) -> None:
    """Write down that a trial's first task came, so that a further time is another try."""
    arrival, key = Reached(time.time()), request.setup.signing_key
    recorder.write_signed("trials", owner.trial, REACHED, arrival, owner, key)


def _is_repeated(records: Sequence[Stored], submission: str) -> bool:
    """Whether a cluster computes again what a trial made that began by this submission.

    What failed it leaves alone: then somebody asked for another try.
    """
    failed = any(record.id.startswith(ended_id("failed")) for record in records)
    if failed and not is_of_batch(submission):  # of which nobody can ask for one trial alone
        return False
    return any(begun.submission == submission for begun in _beginnings(records))


def _is_late(records: Sequence[Stored]) -> bool:
    """Whether a trial ended in a task that trials share before its own first task came at all."""
    came = any(record.id == REACHED for record in records)
    return not came and any(begun.joined for begun in _beginnings(records))


def _beginnings(records: Sequence[Stored]) -> list[Begun]:
    found = decode_each([record.body for record in records if record.id == BEGUN], Begun)
    return [each for each in found if isinstance(each, Begun)]


def has_ended(store: Store, trial: int) -> bool:
    """Return whether a trial has an end on record, what waits in this process included.

    One that was deleted does not go on either.
    """
    recorder_for(store).settle()
    ids = {record.id for record in store.read("trials", [trial])} - {DESERTED}
    return any(record_kind(id) == ENDED or id == REMOVED for id in ids)


def latest_trials(store: Store, count: int) -> list[tuple[int, Begun]]:
    """Return the first records of the latest trials with their ids, oldest first."""
    latest = store.state().latest
    if not latest:
        return []
    wanted = range(max(1, latest - count + 1), latest + 1)
    stored = [record for record in store.read("trials", wanted) if record.id == BEGUN]
    records = decode_each([record.body for record in stored], Begun)
    # A damaged record of the past is no reason not to go on.
    found = [
        (one.trial, begun)
        for one, begun in zip(stored, records, strict=True)
        if isinstance(begun, Begun)
    ]
    return sorted(found, key=lambda item: item[0])


def take_parameter(trial: TrialHandle, name: str) -> Any:
    """Return a parameter's value; ParameterUndefinedError if it has none."""
    if name not in trial.values:
        raise undefined((name,))
    value = trial.values[name]
    return value if trial.secrets is None else revealed(value)


def take_optional(trial: TrialHandle, name: str) -> Any:
    """Return a parameter's value, None if it has none: what takes it was itself set then."""
    return revealed(trial.values.get(name))


def end(trial: TrialHandle, recorder: Recorder, result: Any) -> Any:
    """End a trial that succeeded, and return its result unchanged."""
    form, blob = pack(result, trial.signing_key, as_object=as_object)
    form = keep_or_explain(recorder, form, blob)
    ended = Ended("succeeded", time.time(), elapsed(trial), str(type(result)), form)
    id, key = ended_id("succeeded"), trial.signing_key
    if key is None:
        recorder.write("trials", trial.trial, id, ended, trial.owner)
    else:
        recorder.write_signed("trials", trial.trial, id, ended, trial.owner, key)
    recorder.end(trial.token)
    if trial.gathered:
        recorder.settle_soon()
    else:
        recorder.settle()
    if blob is not None:
        keep_again(recorder, blob)
    if recorder.outputs.found_conflicts:
        report_conflicts(recorder, quietly=trial.followed and not trial.at_home)
    return result


def end_batch(trial: TrialHandle) -> None:
    """Deliver what is left of the trials of a batch, of which this is the last one."""
    recorder = recorder_for(trial.store)
    with suppress(StoreWarning):  # made an error, it must not cost the trials, which have ended
        recorder.settle_gathered()
    if recorder.outputs.found_conflicts:
        report_conflicts(recorder, quietly=trial.followed and not trial.at_home)


def fail(trial: TrialHandle, failure: Failure, error: BaseException) -> None:
    """Write down that a trial ended without a result.

    Not for a task that the cluster may try again: if none of its tries succeeds, the process that
    follows the trial writes it down.
    """
    recorder, status = recorder_for(trial.store), status_of(error)
    if trial.followed and _is_tried_again(error, status):
        recorder.settle()
        return
    recorder.write_signed(
        "trials", trial.trial, ended_id(status, failure.step or ""),
        Ended(status, time.time(), elapsed(trial), failure=failure), trial.owner,
        trial.signing_key,
    )  # fmt: skip
    recorder.end(trial.token)
    recorder.settle()


def _is_tried_again(error: BaseException, status: EndStatus) -> bool:
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return worker() is not None  # it takes the worker down, as if that were killed
    return status == "failed" and retries() > 0


class InterruptionWatch(RecorderListener):
    """Stops steps on a worker whose trial was interrupted elsewhere, as its client wrote down."""

    def __init__(self, recorder: Recorder) -> None:
        self._store = recorder.store

    def on_beat(self, trials: set[int]) -> None:
        """Read how the trials that run here ended, if they did."""
        here = [step.trial for step in ACTIVE if step.trial is not None]
        tokens = {one.trial: one.token for one in here if not one.at_home and one.trial in trials}
        for record in self._store.read("trials", sorted(tokens)) if tokens else ():
            ended = record_kind(record.id) == ENDED and record.id != DESERTED
            # Its id says how it ended, should the rest be damaged.
            if ended and record.id.startswith(ended_id("interrupted")):
                halt_steps(tokens[record.trial])


def watch_for_interruption(recorder: Recorder) -> None:
    """Let a process that only runs steps of a trial tell of them, and see its interruption."""
    recorder.steps_here = steps_here
    if not any(isinstance(each, InterruptionWatch) for each in recorder.listeners):
        recorder.listeners.append(InterruptionWatch(recorder))


def keep_or_explain(recorder: Recorder, form: Any, blob: Blob | None) -> Any:
    """Keep an object; if that fails, return a form that says why it was not kept."""
    if blob is None:
        return form
    try:
        recorder.delivery.keep(blob)
    except Exception as error:  # a result must reach its user whatever happens to its record
        return {**form, "digest": None, "reason": f"{type(error).__name__}: {error}"}
    return form


def keep_again(recorder: Recorder, blob: Blob) -> None:
    """Deliver the record that names an object; keep that again if it was dropped before it came.

    Whoever prunes drops nothing that a record names, so it stays from now on.
    """
    with suppress(StoreError, StoreWarning):  # what is refused waits, and is told at the end
        recorder.settle()
        if not recorder.delivery.away and not recorder.store.sizes([blob.digest]):
            recorder.delivery.keep(blob)


def elapsed(trial: TrialHandle) -> float:
    """Return the seconds since the trial began."""
    origin = current_origin()
    if trial.began_on == (origin.host, origin.boot):
        return round(time.monotonic() - trial.monotonic, 9)
    # Another machine, whose own clocks say nothing about the beginning.
    try:
        now = trial.store.state().clock
    except StoreError:
        now = time.time()  # better a wrong duration than no result
    return max(0.0, now - trial.clock)


def status_of(error: BaseException) -> EndStatus:
    """Return the status of a trial that an exception ends."""
    interrupted = isinstance(error, (KeyboardInterrupt, GeneratorExit))
    cancelled = type(error).__name__ in ("CancelledError", "FutureCancelledError")
    if interrupted or cancelled or is_termination(error):
        return "interrupted"
    return "pruned" if _is_pruned(error) else "failed"


def _is_pruned(error: BaseException) -> bool:
    """Whether an exception is Optuna's ``TrialPruned``, which a pruner's user raises."""
    optuna = sys.modules.get("optuna.exceptions")
    return optuna is not None and isinstance(error, optuna.TrialPruned)


def failure_of(
    error: BaseException, step: str | None = None, secrets: Iterable[Any] = ()
) -> Failure:
    """Return the record of an exception, without what its text quotes of secrets."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # a __str__ of the user's may fail
        text = "its text cannot be shown"
    try:
        lines = "".join(traceback.format_exception(error))
    except Exception:  # formatting calls the user's __str__ too
        lines = ""
    if secrets := list(secrets):
        text, lines = concealed(text, secrets), concealed(lines, secrets)
    return Failure(name, f"{name}({_cut(text)})", _cut(lines), step)


def _cut(text: str) -> str:
    """Return a text of any length without its middle; its end says most of a traceback."""
    left_out = len(text) - _LONGEST_TEXT
    if left_out <= 0:
        return text
    half = _LONGEST_TEXT // 2
    return f"{text[:half]}\n… ({left_out:,} characters left out) …\n{text[-half:]}"
