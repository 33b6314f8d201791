"""Checkpoints on their way to a store, and those that a store has: of each step the latest few."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from daskperiment.codec import Blob, decode_each
from daskperiment.errors import CorruptRecordError, StoreError
from daskperiment.recording.delivery import warn_in_memory
from daskperiment.recording.recorder import Recorder
from daskperiment.records import (
    CHECKPOINT,
    Checkpoint,
    checkpoint_id,
    digests_within,
)
from daskperiment.store.opening import read_notes
from daskperiment.store.protocol import Owner, Store

__all__ = [
    "KeptCheckpoint",
    "Successes",
    "kept_checkpoints",
    "superseded_objects",
    "write_checkpoint",
]


class KeptCheckpoint(NamedTuple):
    """A checkpoint that a store has, with its trial."""

    trial: int
    checkpoint: Checkpoint
    metrics: frozenset[str] = frozenset()
    """Names of all metrics that the step had saved by then."""

    @property
    def digests(self) -> list[str]:
        """Digests of its object."""
        return list(digests_within(self.checkpoint.value))


class Successes:
    """Trials that succeeded, and those that these went on from: nobody goes on from any of them."""

    def __init__(self) -> None:
        self._resumes: dict[int, int] = {}
        """Trial -> the one that it went on from."""
        self._trials: set[int] = set()

    def __contains__(self, trial: int) -> bool:
        return trial in self._trials

    def goes_on_from(self, trial: int, other: int) -> None:
        """Note that a trial, whose end is not noted yet, went on from another one."""
        self._resumes[trial] = other

    def add(self, trial: int) -> None:
        """Note that a trial succeeded."""
        one: int | None = trial
        while one is not None and one not in self._trials:
            self._trials.add(one)
            one = self._resumes.get(one)


def write_checkpoint(
    recorder: Recorder, owner: Owner, checkpoint: Checkpoint, blob: Blob, key: bytes | None
) -> bool:
    """Keep a checkpoint, its object first; return whether that was possible.

    When this returns it survives the end of this process. Else a warning said so.
    """
    try:
        lasting = recorder.delivery.keep(blob)
    except StoreError:
        return False
    id = checkpoint_id(checkpoint.step, checkpoint.saved, os.getpid())
    lasting &= recorder.write_signed("notes", owner.trial, id, checkpoint, owner, key)
    if not lasting:
        warn_in_memory(f"A checkpoint of step {checkpoint.step!r} of trial {owner.trial}")
    return True


def kept_checkpoints(
    store: Store, trials: Iterable[int] | None = None
) -> dict[tuple[int, str], list[KeptCheckpoint]]:
    """Return the checkpoints of some trials, or of all, by trial and step: the latest first.

    Those before the latest few are among them, though their objects are dropped. Records that are
    damaged are left out.
    """
    found: dict[tuple[int, str], list[KeptCheckpoint]] = {}
    for trial, one in _records(store, None if trials is None else list(trials)):
        found.setdefault((trial, one.step), []).append(KeptCheckpoint(trial, one))
    for each in found.values():
        each.sort(key=lambda kept: kept.checkpoint.saved, reverse=True)
        names: frozenset[str] = frozenset()
        for place in reversed(range(len(each))):
            if not names.issuperset(new := each[place].checkpoint.metrics):
                names = names.union(new)
            each[place] = each[place]._replace(metrics=names)
    return found


def _records(store: Store, trials: list[int] | None) -> Iterator[tuple[int, Checkpoint]]:
    stored = list(read_notes(store, CHECKPOINT, trials))
    records = decode_each([one.body for one in stored], Checkpoint, [one.trial for one in stored])
    for one, record in zip(stored, records, strict=True):
        if not isinstance(record, CorruptRecordError):
            yield one.trial, record


def superseded_objects(store: Store, trials: Iterable[int] | None = None) -> set[str]:
    """Return the digests of checkpoints that no longer count: later ones took their place.

    Their objects are dropped when that happens, unless the process dies or the store is away.
    """
    found: set[str] = set()
    with suppress(StoreError):  # what cannot be read is told by whoever reads it next
        for kept in kept_checkpoints(store, trials).values():
            for one in kept[max(1, kept[0].checkpoint.keep) :]:
                found.update(one.digests)
    return found
