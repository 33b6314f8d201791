"""Moving an experiment from one store to another."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from toolz import partition_all

from daskperiment.capture.signatures import explained
from daskperiment.codec import decode, parsed
from daskperiment.errors import CorruptRecordError, StoreError, StoreWarning
from daskperiment.recording.registry import recorder_for
from daskperiment.records import BEGUN, STREAMS, Begun, digests_within
from daskperiment.store.opening import open_store
from daskperiment.store.protocol import Record, Store, Stored

__all__ = ["copy"]

BATCH = 500
"""Records that are copied at a time."""


@explained
def copy(id: str, source: Any, target: Any) -> int:
    """Copy every record and object of an experiment to another store.

    What was cut off can be done again: what is there already is left alone. The source stays as
    it is. Trials that are added to the source later are added to the target by another call.

    Parameters
    ----------
    id : str
        The experiment's id, in both stores.
    source, target : object
        Backends, as for :class:`Experiment`.

    Returns
    -------
    int
        How many trials the target has now.

    Raises
    ------
    StoreError
        If the target has other trials under this id.
    """
    old, new = open_store(source, id), open_store(target, id)
    if old.address == new.address:
        raise ValueError(f"Source and target are the same store: {old.address}")
    recorder_for(old).catch_up()
    begun = _begun(old)
    _check_target(new, begun)
    objects: dict[str, bool] = {}
    for stream in STREAMS:
        for batch in partition_all(BATCH, old.read(stream)):
            # Objects first: no record of the copy ever names one that is still to come.
            _copy_objects(old, new, batch, objects)
            if stream == "trials":
                _allocate(new, batch)
            new.append([Record(stream, each.trial, each.id, each.body) for each in batch])
    _warn_of_missing(old, [digest for digest, there in objects.items() if not there])
    return new.state().latest


def _begun(store: Store) -> dict[int, str]:
    """Return the token of each trial."""
    begun = (each for each in store.read("trials") if each.id == BEGUN)
    return {each.trial: _token(each) for each in begun}


def _token(begun: Stored) -> str:
    """Return a trial's token; of one whose record is damaged, one that stays the same."""
    try:
        return decode(begun.body, Begun).token
    except CorruptRecordError:
        return f"damaged-{begun.trial}"


def _check_target(target: Store, begun: dict[int, str]) -> None:
    for trial, token in _begun(target).items():
        if begun.get(trial) != token:
            raise StoreError(
                f"Cannot copy to {target.address}: it has a trial {trial} that is not the "
                "source's. Copy to an empty store, or under another id."
            )


def _allocate(target: Store, batch: Sequence[Stored]) -> None:
    begun = sorted(each for each in batch if each.id == BEGUN)
    for each in begun:
        allocation = target.allocate(_token(each), each.body)
        if allocation.trial != each.trial:
            raise StoreError(
                f"Cannot copy to {target.address}: trial {each.trial} would be number "
                f"{allocation.trial} there. Copy to a store that nobody writes to meanwhile."
            )


def _copy_objects(old: Store, new: Store, batch: Sequence[Stored], done: dict[str, bool]) -> None:
    """Copy the objects that records name; `done` then has for each whether it was there."""
    for each in batch:
        for digest in _digests(each):
            if digest not in done:
                done[digest] = _copy_object(old, new, digest)


def _copy_object(old: Store, new: Store, digest: str) -> bool:
    try:
        data = old.get(digest)
    except KeyError:
        return False
    new.put(digest, [data])
    return True


def _warn_of_missing(old: Store, digests: list[str]) -> None:
    if digests:
        more = f" and {len(digests) - 3} more" if digests[3:] else ""
        warnings.warn(
            f"{old.address} lacks objects that its records name: {', '.join(digests[:3])}{more}. "
            "They were pruned or lost; what they held is missing in the copy too.",
            StoreWarning,
            stacklevel=3,
        )


def _digests(record: Stored) -> Iterator[str]:
    """The objects that a record names, as far as it can be read."""
    with suppress(CorruptRecordError):
        if record.id == BEGUN:
            begun = decode(record.body, Begun)
            yield from (begun.code, begun.environment, begun.graph)
            if begun.files is not None:
                yield begun.files
        # Most records name no object: looking for the word is cheaper than decoding them.
        if b'"object"' in record.body:
            yield from digests_within(parsed(record.body))
