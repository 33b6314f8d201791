"""Checkpoints of a step that runs: what is kept of its state, and how a later trial goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from typing import Any, TypeVar

import dask
from msgspec import Struct

from daskperiment.codec import (
    PointRecord,
    check_signature,
    decode_each,
    from_plain,
    signing_key_in_force,
    to_plain,
    unpack,
)
from daskperiment.errors import (
    CheckpointError,
    CorruptRecordError,
    PersistedResultNotFoundError,
    ResumptionWarning,
    StoreError,
    StoreUnavailableError,
)
from daskperiment.execution.context import RunningStep
from daskperiment.execution.generators import (
    move_numpy,
    move_python,
    numpy_position,
    python_position,
)
from daskperiment.execution.random_state import global_position, move_globally
from daskperiment.execution.trial import TrialHandle
from daskperiment.formats import as_object, read_file
from daskperiment.recording.checkpoint_records import (
    KeptCheckpoint,
    kept_checkpoints,
    write_checkpoint,
)
from daskperiment.recording.registry import recorder_for
from daskperiment.records import BEGUN, Begun, Checkpoint, Point, StepRun
from daskperiment.vouching import silently, vouched
from daskperiment.warn import warn_user

__all__ = ["checkpoints_to_keep", "restored", "save_checkpoint"]

T = TypeVar("T", bound=Struct)

_SETTING = "daskperiment.checkpoints"


def checkpoints_to_keep(asked: Any) -> int:
    """Return how many checkpoints of a step are kept: as asked, or as configured, or 1.

    Raises
    ------
    TypeError, ValueError
        If it is no integer from 1.
    """
    name, given = "keep", asked
    if asked is None:
        name, given = f"{_SETTING} of the configuration", dask.config.get(_SETTING, 1)
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{name} is {given!r} ({type(given).__name__}); expected an integer from 1")
    if given < 1:
        raise ValueError(f"{name} is {given!r}; expected how many checkpoints to keep, from 1")
    return given


def save_checkpoint(running: RunningStep, state: Any, epoch: Any, keep: int) -> None:
    """Keep a state of a step, durably, and let go of what it takes the place of.

    Raises
    ------
    CheckpointError
        If the state is something that cannot be kept.
    """
    trial = running.trial
    if trial is None:
        return
    saved = time.time()
    # Its own content, whatever the state is: nothing else in the store is this object, so that it
    # can be dropped.
    content = {
        "state": state, "random": _position_of(running),
        "of": f"{trial.owner.token} {running.key} {saved!r}",
    }  # fmt: skip
    form, blob = as_object(content, trial.signing_key)
    if blob is None:
        raise CheckpointError(
            f"The state of step {running.key!r} at epoch {epoch!r} cannot be kept: "
            f"{str(form.get('reason')).rstrip('.')}. Give what can be pickled, such as "
            "model.state_dict() and optimizer.state_dict()."
        )
    code, inputs = running.made_of
    new = running.metrics - running.named
    checkpoint = Checkpoint(
        running.key, to_plain(epoch), form, saved, keep, code, inputs, sorted(new)
    )
    recorder = recorder_for(trial.store)
    if write_checkpoint(recorder, trial.owner, checkpoint, blob, trial.signing_key):
        running.named |= new
        running.checkpoints.append(blob.digest)
        while len(running.checkpoints) > keep:
            recorder.delivery.drop_object(running.checkpoints.pop(0))


# Going on ----------------------------------------------------------------------------------------


def restored(running: RunningStep) -> tuple[Any, Any] | None:
    """Return state and epoch of what a step goes on from; None if it begins at the beginning.

    Random generators are brought to where they were, and the points that had been saved by then
    are points of this trial, too.

    Raises
    ------
    StoreUnavailableError
        If the store is away.
    UntrustedObjectError
        If a signing key is configured and the checkpoint is unsigned or altered.
    """
    trial = running.trial
    if trial is None:
        return None
    for kept in _candidates(running, trial):
        content = _loaded(trial, kept)
        if content is not None:
            _take_over(running, trial, kept)
            _move_to(running, content["random"])
            return content["state"], from_plain(kept.checkpoint.epoch)
    return None


def _candidates(running: RunningStep, trial: TrialHandle) -> Iterator[KeptCheckpoint]:
    """Yield the checkpoints of the step, the best first: its own if a cluster runs it again."""
    if not trial.at_home and not running.checkpoints:
        live = _own(running, trial)
        running.checkpoints += [digest for one in reversed(live) for digest in one.digests]
        yield from live
    if trial.resumption is not None:
        yield from trial.resumption.checkpoints.get(running.key, ())


def _own(running: RunningStep, trial: TrialHandle) -> list[KeptCheckpoint]:
    """Return what the same step of the same trial kept, as it ran on a worker that is gone."""
    try:
        own = kept_checkpoints(trial.store, [trial.trial]).get((trial.trial, running.key), [])
    except StoreError:
        return []  # most likely there is nothing, and a training need not end for that
    return own[: own[0].checkpoint.keep] if own else []


def _loaded(trial: TrialHandle, kept: KeptCheckpoint) -> Any:
    """Return what a checkpoint holds; None, with a warning, if that is missing or damaged."""
    key, store, one = signing_key_in_force(), trial.store, kept.checkpoint
    what = f"The checkpoint of step {one.step!r} at epoch {from_plain(one.epoch)!r} "
    if key is not None:
        check_signature(
            f"{what}of trial {kept.trial}", one, key, store.address, _token(trial, kept.trial)
        )
    try:
        return unpack(one.value, store.get, key, read_file)
    except StoreUnavailableError:
        raise
    except (PersistedResultNotFoundError, CorruptRecordError, KeyError) as error:
        why = str(error) if isinstance(error, StoreError) else "its object is not in the store"
        warn_user(
            ResumptionWarning(
                f"{what}in trial {kept.trial} cannot be loaded: {why.rstrip('.')}. The step goes "
                "on from what was kept before it, or begins at the beginning."
            )
        )
        return None


def _token(trial: TrialHandle, number: int) -> str:
    """Return the token of a trial, for which its checkpoints are signed."""
    return next((one.token for one in _records(trial, "trials", number, Begun, BEGUN)), "")


def _records(
    trial: TrialHandle, stream: str, number: int, type_: type[T], id: str | None = None
) -> Iterator[T]:
    """Yield the records of another trial in a stream, or those of an id; but for damaged ones."""
    # What somebody changed is not to become a record of this trial, signed by it.
    store = vouched(trial.store, key=trial.signing_key)
    stored = [one for one in store.read(stream, [number]) if id is None or one.id == id]
    for record in decode_each([one.body for one in stored], type_, [number] * len(stored)):
        if not isinstance(record, CorruptRecordError):
            yield record


# The curve ---------------------------------------------------------------------------------------


class _EarlierPoints(PointRecord[Point], gc=False):
    """The points of a record, with their times."""


def _take_over(running: RunningStep, trial: TrialHandle, kept: KeptCheckpoint) -> None:
    """Make points of this trial of those that the step had saved by a checkpoint of another one."""
    own, again = kept.trial == trial.trial, running.restored is kept
    running.restored, one = kept, kept.checkpoint
    if (one.code, one.inputs) != running.made_of:
        running.doubted_origin = (
            f"it went on from a checkpoint of trial {kept.trial}, of other code or arguments"
        )
    names = _names(trial, kept)
    if own or again:
        running.metrics.update(names)
        return
    recorder = recorder_for(trial.store)
    others = _of_other_steps(trial, kept) - names
    batches = _records(trial, "points", kept.trial, _EarlierPoints)
    for point in chain.from_iterable(batch.each() for batch in batches):
        if point.metric not in others and _came_before(point, one):
            running.metrics.add(point.metric)
            recorder.point(trial.owner, point, trial.signing_key)


def _names(trial: TrialHandle, kept: KeptCheckpoint) -> frozenset[str]:
    """Return the names of metrics that the step had saved by a checkpoint.

    Those before it are not looked at where it is loaded: with a signing key, here.
    """
    if trial.signing_key is None:
        return kept.metrics
    one = kept.checkpoint
    same = _vouched_checkpoints(trial, kept.trial).get((kept.trial, one.step), ())
    before = (each.metrics for each in same if each.checkpoint.saved <= one.saved)
    return frozenset(one.metrics).union(next(before, ()))


def _vouched_checkpoints(
    trial: TrialHandle, number: int
) -> dict[tuple[int, str], list[KeptCheckpoint]]:
    # Whoever takes over points tells of what nobody vouches for.
    store = vouched(trial.store, silently, trial.signing_key)
    return kept_checkpoints(store, [number])


def _of_other_steps(trial: TrialHandle, kept: KeptCheckpoint) -> set[str]:
    """Return the names of metrics that other steps of a trial saved."""
    number, one = kept.trial, kept.checkpoint
    names: set[str] = set()
    for run in _records(trial, "steps", number, StepRun):
        if run.key != one.step:
            names.update(run.metrics)
    for (_, step), each in _vouched_checkpoints(trial, number).items():
        if step != one.step:
            names |= each[0].metrics
    return names


def _came_before(point: Point, one: Checkpoint) -> bool:
    """Whether a point belongs to what led to a checkpoint: by the clock, or by its epoch."""
    if point.time <= one.saved:
        return True
    try:
        return bool(from_plain(point.epoch) <= from_plain(one.epoch))
    except Exception:  # epochs of kinds that cannot be compared
        return False


def _position_of(step: RunningStep) -> dict[str, Any]:
    """Return where all generators are that a step draws from, as arrays and plain values."""
    rng, entropy = step.generators()
    return {
        "drew": step.stochastic,
        "global": global_position(step),
        "entropy": None if entropy is None else python_position(entropy),
        "rng": None if rng is None else numpy_position(rng),
    }


def _move_to(step: RunningStep, position: dict[str, Any]) -> None:
    """Bring all generators that a step draws from to a position: draws go on from there."""
    step.stochastic = step.stochastic or position["drew"]
    if position["rng"] is not None:
        move_numpy(step.rng, position["rng"])
    if position["entropy"] is not None:
        step.entropy(1)  # so that there is one
        _, entropy = step.generators()
        assert entropy is not None
        move_python(entropy, position["entropy"])
    if position["global"] is not None:
        move_globally(step, position["global"])
