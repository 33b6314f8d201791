"""A trial's handle, and how a trial begins and ends.

The handle is an ordinary value of the graph: the first task makes it, every step gets it. It is
picklable, so that steps run anywhere; whoever holds it can write to the trial's store.
"""

from __future__ import annotations

import time
import traceback
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from daskperiment.cluster import retries, worker
from daskperiment.codec import Blob, encode, pack
from daskperiment.errors import ParameterUndefinedError, StoreError
from daskperiment.execution.progress import Reporter
from daskperiment.execution.request import Plan, Request
from daskperiment.planning.arranging import KeyMark
from daskperiment.planning.changes import report_conflicts
from daskperiment.recording.recorder import Recorder, recorder_for
from daskperiment.records import Begun, Ended, EndStatus, Failure, Origin
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Allocation, Store

__all__ = [
    "DESERTED",
    "Trial",
    "begin",
    "begin_within",
    "end",
    "fail",
    "failure_of",
    "has_ended",
    "join",
    "last_key",
    "status_of",
    "take",
]


DESERTED = "ended-failed-deserted"
"""Id of an end that is taken back if workers come back: then the same trial goes on."""


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Trial:
    """Handle of a running trial."""

    store: Store
    trial: int
    token: str
    seed: int
    values: Mapping[str, Any] = field(repr=False)
    codes: Mapping[str, str] = field(repr=False)
    origin: Origin = field(repr=False)
    """The process that computes the trial."""
    clock: float = field(repr=False)
    """When it began, by the store's clock."""
    monotonic: float = field(repr=False)
    """When it began, by the monotonic clock of the host and boot named in `place`."""
    place: tuple[str, str] = field(repr=False)
    signing_key: bytes | None = field(repr=False)
    marks: Mapping[str, KeyMark] = field(default_factory=dict, repr=False)
    followed: bool = False
    progress: Reporter | None = field(default=None, repr=False)

    @property
    def recorder(self) -> Recorder:
        """The recorder of the trial's store in the process that asks."""
        return recorder_for(self.store)

    @property
    def at_home(self) -> bool:
        """Whether this is the process that computes the trial."""
        return self.origin == current_origin()


def begin(plan: Plan) -> Trial:
    """Begin a trial: give it an id in the store and write down what it begins with.

    Raises
    ------
    ParameterUndefinedError
        If a parameter that the graph needs has no value. Nothing is recorded then.
    StoreUnavailableError
        If the store is away. Nothing is computed then.
    """
    request = plan.request()
    if request.missing:
        raise undefined(request.missing)
    trial = _open(request, _begun(request, _allocate))
    if trial.at_home:
        trial.recorder.begun(trial)
    return trial


def begin_within(plan: Plan) -> Trial:
    """Begin a trial inside its only task, which may ask several times."""
    trial = plan.begun() if plan.begun is not None else None
    if trial is None or trial.recorder.trials.has_ended(trial.token):
        trial = begin(plan)
        plan.begun = weakref.ref(trial)
    return trial


def join(plan: Plan) -> Trial:
    """Get the handle of a trial for a task that does not wait for its first one.

    Whoever comes first gives the trial its id.
    """
    request = plan.request()
    known = recorder_for(request.common.store).allocations.get(request.token)
    return _open(request, known or _begun(request, _allocate_once))


def _begun(request: Request, allocate: Callable[[Request, bytes], Allocation]) -> Allocation:
    recorder = recorder_for(request.common.store)
    forms = _keep_parameters(request, recorder)
    for blob in request.common.blobs:
        recorder.put(blob)
    allocation = allocate(request, _first_record(request, forms))
    recorder.remember_allocation(request.token, allocation)
    return allocation


def _open(request: Request, allocation: Allocation) -> Trial:
    origin, common = current_origin(), request.common
    return Trial(
        store=common.store, trial=allocation.trial, token=request.token, seed=request.seed,
        values=request.values, codes=common.codes, origin=common.origin,
        clock=allocation.clock, monotonic=time.monotonic(), place=(origin.host, origin.boot),
        signing_key=common.signing_key, marks=request.marks, followed=request.followed,
        progress=request.progress,
    )  # fmt: skip


def last_key(result: str, token: str) -> str:
    """Make the key of a trial's last task, the one that a client's future has."""
    return f"{result}-{token}"


def undefined(names: tuple[str, ...]) -> ParameterUndefinedError:
    """Make the error that names parameters without a value."""
    listed = ", ".join(repr(name) for name in names)
    example = f"{names[0]}=..." if names[0].isidentifier() else f"**{{{names[0]!r}: ...}}"
    return ParameterUndefinedError(
        f"No value for parameter{'s' if len(names) > 1 else ''} {listed}. Every parameter needs a "
        f"default or a value: call ex.set_parameters({example}) or bind({example})."
    )


def _keep_parameters(request: Request, recorder: Recorder) -> dict[str, Any]:
    forms = {}
    for name, value in request.values.items():
        forms[name], blob = pack(value, request.common.signing_key, inline=None)
        if blob is not None:
            recorder.put(blob)
    return forms


def _first_record(request: Request, forms: dict[str, Any]) -> bytes:
    common = request.common
    return encode(
        Begun(
            token=request.token, result=common.result, started=time.time(), seed=request.seed,
            parameters=forms, code=common.code.digest, environment=common.environment.digest,
            graph=common.graph.digest, origin=common.origin,
            sweep=request.sweep, source=request.source,
        )
    )  # fmt: skip


def _allocate_once(request: Request, body: bytes) -> Allocation:
    return recorder_for(request.common.store).store.allocate(request.token, body)


def _allocate(request: Request, body: bytes) -> Allocation:
    attempt, token = 0, request.token
    # Each request that comes from another process brings a store that would connect anew.
    store = recorder_for(request.common.store).store
    while True:
        allocation = store.allocate(token, body)
        if allocation.new or not has_ended(store, allocation.trial):
            # Not new and not ended: the same task, tried again.
            return allocation
        if request.followed and request.sweep is not None:
            # Sweeps submit a graph once: the result was lost, with its worker, before it was seen.
            return allocation
        # The same graph computed once more, as when it is part of another Delayed.
        attempt += 1
        token = f"{request.token}/{attempt}"


def has_ended(store: Store, trial: int) -> bool:
    """Tell whether a trial has an end on record, what waits in this process included."""
    recorder_for(store).settle()
    ids = {record.id for record in store.read("trials", [trial])} - {DESERTED}
    return any(id.startswith("ended") for id in ids)


def take(trial: Trial, name: str) -> Any:
    """Take a parameter's value."""
    # Without one it is an input of a computed parameter that was set: nobody looks at it.
    return trial.values.get(name)


def end(trial: Trial, result: Any) -> Any:
    """End a trial that succeeded, and return its result unchanged."""
    recorder = trial.recorder
    form, blob = pack(result, trial.signing_key)
    form = keep_or_explain(recorder, form, blob)
    recorder.write(
        "trials", trial.trial, "ended-succeeded",
        Ended("succeeded", time.time(), elapsed(trial), str(type(result)), form),
    )  # fmt: skip
    recorder.trials.ended(trial.token)
    recorder.settle()
    report_conflicts(recorder, quietly=trial.followed and not trial.at_home)
    return result


def fail(trial: Trial, failure: Failure, error: BaseException) -> None:
    """Write down that a trial ended without a result.

    Not for a task that the cluster may try again: if none of its tries succeeds, the process that
    follows the trial writes it down.
    """
    recorder, status = trial.recorder, status_of(error)
    if trial.followed and _is_tried_again(error, status):
        recorder.settle()
        return
    recorder.write(
        "trials", trial.trial, f"ended-{status}-{failure.step or ''}",
        Ended(status, time.time(), elapsed(trial), failure=failure),
    )  # fmt: skip
    recorder.trials.ended(trial.token)
    recorder.settle()


def _is_tried_again(error: BaseException, status: EndStatus) -> bool:
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return worker() is not None  # it takes the worker down, as if that were killed
    return status == "failed" and retries() > 0


def keep_or_explain(recorder: Recorder, form: Any, blob: Blob | None) -> Any:
    """Keep an object; if that fails, give back a form that says why it was not kept."""
    if blob is None:
        return form
    try:
        recorder.keep(blob)
    except Exception as error:  # a result must reach its user whatever happens to its record
        return {**form, "digest": None, "reason": f"{type(error).__name__}: {error}"}
    return form


def elapsed(trial: Trial) -> float:
    """Seconds since the trial began."""
    origin = current_origin()
    if trial.place == (origin.host, origin.boot):
        return time.monotonic() - trial.monotonic
    # Another machine, whose own clocks say nothing about the beginning.
    try:
        now = trial.store.state().clock
    except StoreError:
        now = time.time()  # better a wrong duration than no result
    return max(0.0, now - trial.clock)


def status_of(error: BaseException) -> EndStatus:
    """Tell what an exception makes of a trial."""
    interrupted = isinstance(error, (KeyboardInterrupt, GeneratorExit))
    cancelled = type(error).__name__ in ("CancelledError", "FutureCancelledError")
    return "interrupted" if interrupted or cancelled else "failed"


def failure_of(error: BaseException, step: str | None = None) -> Failure:
    """Describe an exception."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # a __str__ of the user's may fail
        text = "its text cannot be shown"
    try:
        lines = "".join(traceback.format_exception(error))
    except Exception:  # formatting calls the user's __str__ too
        lines = ""
    return Failure(name, f"{name}({text})", lines, step)
