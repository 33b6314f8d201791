"""Moving an experiment from one store to another, and merging it from several.

A trial is known by its token, whatever its id: what the target has already gets no second place
there, on whichever ways it came.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from toolz import partition_all
from xxhash import xxh3_64_hexdigest

from daskperiment.capture.files import changed_reads
from daskperiment.capture.signatures import explained
from daskperiment.codec import (
    Renumbering,
    decode,
    encode,
    is_of,
    parsed,
    placed,
    signed,
    signing_key_in_force,
)
from daskperiment.errors import (
    CorruptRecordError,
    ImpureStepWarning,
    RecordsRefusedError,
    StoreWarning,
)
from daskperiment.formatting import listed
from daskperiment.recording.checkpoint_records import superseded_objects
from daskperiment.recording.registry import recorder_for
from daskperiment.records import (
    BEGUN,
    REMOVED,
    STREAMS,
    Begun,
    Impurity,
    Output,
    Removed,
    digests_within,
    impure_key_id,
    impure_step_id,
    record_type,
    tells_outcome,
)
from daskperiment.store.opening import open_store
from daskperiment.store.protocol import Inspectable, Owner, Record, Store, Stored
from daskperiment.warn import warn_user

__all__ = ["copy", "count_trials"]

BATCH = 500
"""Records that are copied at a time."""
_GAP = 10_000
"""Ids in a row that have no trial, at most, so that the trials behind them keep theirs."""
_NOTHING = b'{"left_out":true}'


@explained
def copy(id: str, source: Any, target: Any) -> int:
    """Copy every record and object of an experiment to another store.

    What was cut off can be done again: what is there already is left alone. The source stays as
    it is. Trials that are added to the source later are added to the target by another call.

    Where the target has other trials, or there are several sources, histories are merged: trials
    whose ids are taken get the next free ones. No trial is there twice, on whichever ways it came.
    ``get_history(verbose=True)`` tells where those were recorded that have other ids.

    Parameters
    ----------
    id : str
        The experiment's id, in all stores.
    source : object or list of objects
        Backend, as for :class:`Experiment`, or several, which are copied one after the other.
    target : object
        Backend.

    Returns
    -------
    int
        How many trials the target has now, without those that were deleted.

    Raises
    ------
    ValueError
        If a source is the target, or there is none.
    """
    new = open_store(target, id)
    given = source if isinstance(source, list | tuple) else [source]
    sources = {store.address: store for store in (open_store(each, id) for each in given)}
    if not sources:
        raise ValueError("Got no source; expected a backend, or a list of some.")
    if new.address in sources:
        raise ValueError(f"Source and target are the same store: {new.address}")
    for old in sources.values():
        recorder_for(old).catch_up()
        _StoreCopy(old, new).run()
    return count_trials(new)


def count_trials(store: Store) -> int:
    """Count the trials of a store, those that are damaged too, but none that was deleted."""
    deleted = {each.trial for each in store.read("trials") if each.id == REMOVED}
    return store.state().latest - len(deleted)


class _StoreCopy:
    """One copy of a source to a target."""

    def __init__(self, old: Store, new: Store) -> None:
        self._old, self._new = old, new
        self._key = signing_key_in_force()
        self._numbers = Renumbering(old.address, self._key)
        self._owners: dict[int, Owner] = {}
        """Id of a trial in the source -> its place in the target."""
        self._known: dict[str, int] = {}
        """Token -> id of the trials that the target had."""
        self._superseded = superseded_objects(old)
        """Digests of checkpoints that later ones took the place of: they are not missed."""
        self._objects: dict[str, bool] = {}
        """Digest -> whether the source has the object."""
        self._damaged: list[str] = []
        self._conflicts: list[tuple[Output, Output]] = []
        """What steps returned in the source, and in the target for the same code and inputs."""
        self._buried: set[str] = set()
        """Tokens of trials that were deleted in the target."""
        self._gone: set[int] = set()
        """Trials of the source that were deleted there, or that the target had and deleted."""
        self._next = new.state().latest + 1
        """The id that the target gives out next, if nobody else writes there."""

    def run(self) -> None:
        """Copy what the target lacks."""
        self._known = {token: trial for trial, token in _begun(self._new)}
        self._buried = {record.token for _, record in _removed(self._new)}
        for trial, token in _begun(self._old):
            if token in self._known:
                self._place(trial, self._known[token], token)
            elif token in self._buried:
                self._gone.add(trial)
        for stream in STREAMS:
            for batch in partition_all(BATCH, self._old.read(stream)):
                there = [each for each in batch if self._is_wanted(stream, each)]
                intact = [each for each in there if self._is_intact(stream, each)]
                # Objects first: no record of the copy ever names one that is still to come.
                self._copy_objects(intact)
                if stream == "trials":
                    for begun in sorted(each for each in there if each.id in (BEGUN, REMOVED)):
                        self._allocate(begun)
                self._append([one for each in intact for one in self._moved(stream, each)])
        if conflicts := self._new_conflicts():
            self._write_conflicts(conflicts)
            _warn_of_conflicts(self._old, self._new, conflicts)
        _warn_of_damaged(self._old, self._damaged)
        missing = [digest for digest, there in self._objects.items() if not there]
        _warn_of_missing(self._old, missing)
        if self._numbers.unsigned:
            _warn_of_signatures(self._new, self._numbers.unsigned)

    def _place(self, trial: int, now: int, token: str) -> None:
        self._owners[trial] = Owner(now, token)
        self._numbers.add(trial, now, token)

    def _is_wanted(self, stream: str, each: Stored) -> bool:
        """Whether a record is of no trial that the target had and deleted."""
        if stream != "outputs" or not self._gone:
            return each.trial not in self._gone
        with suppress(CorruptRecordError):
            return self._numbers.trial_of(each.body) not in self._gone
        return True

    def _is_intact(self, stream: str, each: Stored) -> bool:
        """Whether a record can be read; else note that it is left behind."""
        type_ = record_type(stream, each.id)
        try:
            parsed(each.body) if type_ is None else decode(each.body, type_)
        except CorruptRecordError:
            if tells_outcome(stream, each.id):
                return True  # its id says how the trial ended
            self._damaged.append(f"{each.id!r} of trial {each.trial} in {stream!r}")
            return False
        return True

    def _allocate(self, begun: Stored) -> None:
        """Give a trial its place in the target, by its first record."""
        if begun.trial in self._owners:
            return
        self._leave_out(begun.trial)
        if begun.id == REMOVED:
            self._bury(begun)
            return
        token = _token(begun)
        try:
            body = self._numbers.first_record(begun.body, begun.trial)
        except CorruptRecordError:
            now = self._leave_room(token, begun.body)
        else:
            now = self._new.allocate(token, body).trial
        self._place(begun.trial, now, token)
        self._next = max(self._next, now + 1)

    def _bury(self, marker: Stored) -> None:
        """Give the id of a deleted trial out to nobody, so that no later copy brings it back."""
        with suppress(CorruptRecordError):
            token = decode(marker.body, Removed).token
            if token in self._known or token in self._buried:
                return  # what the target has is left alone
            now = self._new.allocate(token, _NOTHING).trial
            body = placed(marker.body, now)
            self._new.remove([Record("trials", now, REMOVED, body, Owner(now, token))])
            self._buried.add(token)
            self._next = max(self._next, now + 1)

    def _leave_out(self, trial: int) -> None:
        """Leave out ids that the source has no trial of any more, while others keep theirs."""
        if self._numbers.changes or not self._next < trial <= self._next + _GAP:
            return
        source = xxh3_64_hexdigest(self._old.address.encode())
        for number in range(self._next, trial):
            records = self._old.read("trials", [number])
            begun = [each for each in records if each.id in (BEGUN, REMOVED)]
            if begun:  # it stands further behind
                self._allocate(begun[0])
            else:
                self._leave_room(f"left-out-{number}-{source}", _NOTHING)

    def _leave_room(self, token: str, body: bytes) -> int:
        """Give out an id under which no trial is shown; return it."""
        trial = self._new.allocate(token, body).trial
        if isinstance(self._new, Inspectable):
            for each in self._new.read("trials", [trial]):
                if each.id == BEGUN and not _is_first_record(each.body):
                    self._new.set_aside("trials", each)
        return trial

    def _moved(self, stream: str, each: Stored) -> Iterator[Record]:
        """Yield a record as it is written to the target; none of a trial that came meanwhile."""
        if each.id in (BEGUN, REMOVED) or (each.trial and each.trial not in self._owners):
            return
        owner, id, body = self._owners.get(each.trial), each.id, each.body
        with suppress(CorruptRecordError):
            id, body = self._numbers.record(stream, each.trial, id, body)
            if stream == "outputs" and not each.trial:
                of = self._numbers.trial_of(each.body)
                owner = self._owners.get(of)
                if of and owner is None and self._numbers.changes:
                    return
        number = owner.trial if owner and each.trial else 0
        if is_of(each.body, each.trial):  # else it is damage, and stays so
            body = placed(body, number)
        yield Record(stream, number, id, body, owner)

    def _append(self, records: Sequence[Record]) -> None:
        """Write records, for their owners as long as the target has these."""
        try:
            standing = self._new.append(records)
        except RecordsRefusedError as error:
            # A target that was repaired may have a trial, and not know its token any more.
            if not all(self._has(Owner(*owner)) for owner in error.owners):
                raise
            standing = self._new.append([one._replace(owner=None) for one in records])
        theirs = {one.id: one.body for one in standing}
        if not theirs:
            return
        for one in records:
            if one.stream == "outputs" and one.id in theirs and one.body != theirs[one.id]:
                self._compare(one, theirs[one.id])

    def _compare(self, record: Record, known: bytes) -> None:
        """Note that a step returned one output in the source, and another in the target."""
        if record_type("outputs", record.id) is not None or "+" in record.id:
            return  # what is known under a cache key, or an output that followed the first
        with suppress(CorruptRecordError):  # one says that a step is known to do so
            ours, theirs = decode(record.body, Output), decode(known, Output)
            if ours.output != theirs.output:
                self._conflicts.append((ours, theirs))

    def _new_conflicts(self) -> list[tuple[Output, Output]]:
        """Return those that no earlier copy wrote down."""
        trials = {ours.trial for ours, _ in self._conflicts}
        known = {(one.trial, one.id) for one in self._new.read("notes", trials)} if trials else ()
        return [
            (ours, theirs)
            for ours, theirs in self._conflicts
            if (ours.trial, impure_step_id(ours.key)) not in known
        ]

    def _write_conflicts(self, conflicts: Sequence[tuple[Output, Output]]) -> None:
        """Write down in the target which steps return now this and now that."""
        records = []
        owners = {one.trial: one for one in self._owners.values()}
        for ours, theirs in conflicts:
            reads = changed_reads(theirs.reads, ours.reads)
            impurity = Impurity(ours.key, ours.step, theirs.trial, reads)
            if ours.trial:
                owner = owners.get(ours.trial)
                if self._key is not None and owner is not None:
                    impurity = signed(impurity, self._key, self._new.address, owner.token)
                body = encode(impurity, ours.trial)
                records.append(Record("notes", ours.trial, impure_step_id(ours.key), body))
            # Neither may be reused, unless it is known what else it rests on.
            keys = {ours.cache_key, theirs.cache_key, ours.by_inputs, theirs.by_inputs}
            for key in set() if reads else keys - {None}:
                records.append(Record("outputs", 0, impure_key_id(str(key)), encode(impurity, 0)))
        self._new.append(records)

    def _has(self, owner: Owner) -> bool:
        """Whether the target has a trial, by what its first record says."""
        begun = (one for one in self._new.read("trials", [owner.trial]) if one.id == BEGUN)
        return any(_token(each) == owner.token for each in begun)

    def _copy_objects(self, batch: Sequence[Stored]) -> None:
        found = dict.fromkeys(digest for each in batch for digest in _digests(each))
        wanted = [one for one in found if one not in self._objects and one not in self._superseded]
        # What is there as it should be is neither read nor sent again.
        sizes = [store.sizes(wanted) if wanted else {} for store in (self._old, self._new)]
        there = sizes[0].items() & sizes[1].items()
        for digest in wanted:
            is_there = (digest, sizes[0].get(digest)) in there
            self._objects[digest] = is_there or _copy_object(self._old, self._new, digest)


def _begun(store: Store) -> Iterator[tuple[int, str]]:
    """Yield each trial with its token."""
    for each in store.read("trials"):
        if each.id == BEGUN:
            yield each.trial, _token(each)


def _removed(store: Store) -> Iterator[tuple[int, Removed]]:
    """Yield each deleted trial with what is left of it."""
    for each in store.read("trials"):
        if each.id == REMOVED:
            with suppress(CorruptRecordError):
                yield each.trial, decode(each.body, Removed)


def _is_first_record(body: bytes) -> bool:
    try:
        return bool(decode(body, Begun))
    except CorruptRecordError:
        return False


def _token(begun: Stored) -> str:
    """Return a trial's token; of one whose record is damaged, one that stays the same."""
    try:
        return decode(begun.body, Begun).token
    except CorruptRecordError:
        return f"damaged-{begun.trial}-{xxh3_64_hexdigest(begun.body)}"


def _copy_object(old: Store, new: Store, digest: str) -> bool:
    try:
        data = old.get(digest)
    except KeyError:
        return False
    new.put(digest, [data])
    return True


def _warn_of_damaged(old: Store, damaged: list[str]) -> None:
    if damaged:
        text = (
            f"{len(damaged)} damaged records of {old.address} were left behind: "
            f"{listed(damaged, 3)}. All others are in the copy."
        )
        warn_user(StoreWarning(text))


def _warn_of_conflicts(old: Store, new: Store, conflicts: Sequence[tuple[Output, Output]]) -> None:
    told = [
        f"step {ours.step!r} in trial {ours.trial} (as copied) and {theirs.trial}"
        for ours, theirs in conflicts
    ]
    text = (
        f"In {old.address} steps returned another output than in {new.address}, though their code, "
        f"inputs and seeds are the same: {listed(told, 3)}. They depend on something that is not "
        "among their inputs; their outputs are not reused there unless it is known what they read."
    )
    warn_user(ImpureStepWarning(text))


def _warn_of_missing(old: Store, digests: list[str]) -> None:
    if digests:
        text = (
            f"{old.address} lacks objects that its records name: {listed(digests, 3)}. "
            "They were pruned or lost; what they held is missing in the copy too."
        )
        warn_user(StoreWarning(text))


def _warn_of_signatures(new: Store, count: int) -> None:
    text = (
        f"{count} records were signed for the ids that their trials had, and have others in "
        f"{new.address}: no signing key is configured to sign them anew. Where one is, what they "
        "keep is refused. Make the copy with daskperiment.signing-key set to be able to load it."
    )
    warn_user(StoreWarning(text))


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
