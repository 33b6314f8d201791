"""Looking an experiment over: what in its store is damaged, missing or left over.

Each finding is one line that names the place and the remedy. Nothing is unpickled, and nothing is
changed unless that is asked for.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from toolz import partition_all

from daskperiment.cli import output
from daskperiment.cli.exit_status import Refused
from daskperiment.cli.lookup import ids, place
from daskperiment.cli.signature_check import SignatureCheck
from daskperiment.codec import decode, is_of, parsed, signing_key_in_force
from daskperiment.codec.buffer_digests import digest_of, has_digest
from daskperiment.errors import CorruptRecordError, StoreError, StoreWarning
from daskperiment.history.trial_records import read_trials, remembered_elsewhere
from daskperiment.recording.checkpoint_records import Successes, superseded_objects
from daskperiment.recording.registry import recorder_for
from daskperiment.records import (
    CHECKPOINT,
    STREAMS,
    Begun,
    digests_within,
    ended_id,
    record_kind,
    record_type,
    tells_outcome,
)
from daskperiment.store.opening import journal_folder, open_store
from daskperiment.store.protocol import Buffer, Fault, Inspectable, Store, Stored

__all__ = ["Checkup", "Finding", "check", "examine"]

_MANY = 500
_DIGITS = 32
"""Of a digest; damaged objects that were set aside, and a store's own, stand under longer ones."""
_BACKUP = "restore it from a backup; all others are read without it"
_ASIDE = (
    "restore it from a backup, or run `daskperiment check --repair` to set it aside; all others "
    "are read without it"
)
_RERUN = "run the trial again, or restore the store from a backup"
_AGAIN = (
    "restore the store from a backup, or run `daskperiment check --repair` to set it aside, and "
    "the trial again"
)


class Finding(NamedTuple):
    """Something that is not as it should be."""

    place: str
    what: str
    remedy: str
    mend: Callable[[], object] | None = None
    """Puts it right; ``None`` where only a person can."""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}; {self.remedy}"


class Checkup(NamedTuple):
    """What a check found."""

    findings: list[Finding]
    records: int
    objects: int
    """How many were looked at."""
    complete: bool
    """Whether there was time for all of them."""


def check(backend: str | None, id: str | None, repair: bool, timeout: float) -> int:
    """Look over one experiment or all; return 1 if something wrong is left."""
    # Not by the number of its trials: a store that cannot tell that is to be looked at too.
    known = ids(backend)
    if id is not None and id not in known:
        names = ", ".join(known[:20]) or "none"
        raise Refused(f"There is no experiment {id!r} in {place(backend)}. It has: {names}.")
    left = [_check(backend, name, repair, timeout) for name in (known if id is None else [id])]
    return int(any(left))


def _check(backend: str | None, id: str, repair: bool, timeout: float) -> bool:
    store = open_store(backend, id)
    found = examine(store, timeout)
    left = [_told(id, one, repair) for one in found.findings]
    if repair and found.findings:
        # What rests on something damaged is seen when that is mended; orphans too.
        store.close()
        found = examine(store, timeout)
        left = [_told(id, one, repair=False) for one in found.findings]
    looked = f"{found.records} records and {found.objects} objects were looked at"
    rest = "" if found.complete else ", and there was no time for the others: give --timeout"
    output.print_text(
        f"{id}: {'nothing is damaged' if not left else f'{len(left)} found'}; {looked}{rest}."
    )
    return bool(left) or not found.complete


def _told(id: str, one: Finding, repair: bool) -> bool:
    """Print a finding, or what was done about it; return whether it is left."""
    if not repair or one.mend is None:
        if not repair:
            output.print_text(f"{id}: {one}")
        return True
    try:
        one.mend()
    except (StoreError, OSError) as error:
        output.print_text(f"{id}: {one.place}: it could not be repaired: {error}")
        return True
    output.print_text(f"{id}: {one.place}: repaired ({one.what})")
    return False


def examine(store: Store, seconds: float = 60.0) -> Checkup:
    """Look over an experiment's store for so many seconds at most.

    Looked for are damaged pages, keys or documents, damaged records, objects that records name and
    that are missing or damaged, objects that no record names, and journals that wait to be
    delivered. With a signing key also records that were changed, swapped or removed.
    """
    examination = _Examination(store, time.monotonic() + seconds)
    with warnings.catch_warnings():
        # Each is a finding with a line of its own.
        warnings.simplefilter("ignore", StoreWarning)
        findings = list(examination.run())
    return Checkup(findings, examination.records, examination.objects, not examination.late)


class _Reference(NamedTuple):
    """Where an object is named."""

    stream: str
    trial: int
    id: str
    vital: bool
    """Whether it is missed: outputs that can be had again may have been pruned."""


class _Examination:
    """One look over a store."""

    def __init__(self, store: Store, deadline: float) -> None:
        self._store = store
        self._deadline = deadline
        self._references: dict[str, _Reference] = {}
        self._superseded: set[str] = set()
        self._successes = Successes()
        self._damaged = False
        self.records = self.objects = 0

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self._deadline

    def run(self) -> Iterator[Finding]:
        """Yield what is found: the store itself first, and what rests on it after that."""
        yield from self._journals()
        yield from self._faults()
        self._superseded = superseded_objects(self._store)
        for stream in STREAMS:
            yield from self._stream(stream)
        yield from self._signatures()
        sizes = self._sizes()
        yield from self._missing(sizes)
        yield from self._contents(sizes)
        yield from self._orphans()

    def _journals(self) -> Iterator[Finding]:
        folder = journal_folder(self._store)
        recorder = recorder_for(self._store)
        waiting = recorder.delivery.waiting
        if waiting:
            what = f"{waiting} records and objects wait to be delivered to the store"
            yield Finding(str(folder), what, "run `daskperiment flush`", recorder.flush)
        for path in sorted(folder.glob("*.damaged")) if folder.is_dir() else ():
            what = "a journal with bytes that could not be read; the rest of it was delivered"
            yield Finding(str(path), what, "delete it if you do not need it")

    def _faults(self) -> Iterator[Finding]:
        if not isinstance(self._store, Inspectable):
            return
        try:
            faults: list[Fault] = list(self._store.faults(self._deadline - time.monotonic()))
        except StoreError as error:
            faults = [Fault(self._store.address, str(error), "see there", None)]
        self._damaged = bool(faults)
        for fault in faults:
            yield Finding(*fault)

    def _stream(self, stream: str) -> Iterator[Finding]:
        try:
            for one in self._store.read(stream):
                if self.late:
                    return
                self.records += 1
                try:
                    self._note(stream, one)
                except CorruptRecordError as error:
                    self._damaged = True
                    yield self._damaged_record(stream, one, str(error).partition("; restore")[0])
        except StoreError as error:
            self._damaged = True
            yield Finding(f"stream {stream!r}", str(error), "what it holds cannot be read")

    def _damaged_record(self, stream: str, one: Stored, what: str) -> Finding:
        place = f"record {one.id!r} of trial {one.trial} in {stream!r}"
        # An end whose id says how the trial ended is worth more where it is.
        if not isinstance(self._store, Inspectable) or tells_outcome(stream, one.id):
            return Finding(place, what, _BACKUP)
        return Finding(place, what, _ASIDE, partial(self._store.set_aside, stream, one))

    def _note(self, stream: str, one: Stored) -> None:
        """Decode a record, and note the objects that it names."""
        if not is_of(one.body, one.trial):
            raise CorruptRecordError("it is of another trial, by what it says itself")
        kind = record_type(stream, one.id)
        record: Any = parsed(one.body) if kind is None else decode(one.body, kind)
        vital = stream in ("trials", "notes") or (stream == "steps" and not record.reusable)
        if record_kind(one.id) == CHECKPOINT and one.trial in self._successes:
            vital = False  # it may have been pruned: nobody goes on from there
        named = list(digests_within(parsed(one.body)) if b'"object"' in one.body else ())
        if isinstance(record, Begun):
            parts = (record.code, record.environment, record.graph, record.files)
            named += [digest for digest in parts if digest is not None]
            if record.resumes is not None:
                self._successes.goes_on_from(one.trial, record.resumes)
        elif one.id == ended_id("succeeded"):
            self._successes.add(one.trial)
        for digest in named:
            if digest in self._superseded:
                continue  # a later checkpoint took its place: it may be gone, or be removed
            known = self._references.get(digest)
            if known is None or (vital and not known.vital):
                self._references[digest] = _Reference(stream, one.trial, one.id, vital)

    def _signatures(self) -> Iterator[Finding]:
        key = signing_key_in_force()
        if key is None:
            return
        try:
            for fault in SignatureCheck(self._store, key, lambda: self.late).run():
                yield Finding(*fault)
        except StoreError as error:
            yield Finding("signatures", str(error), "what cannot be read cannot be trusted")

    def _sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for some in partition_all(_MANY, self._references):
            if not self.late:
                sizes.update(self._sizes_of(some))
        return sizes

    def _sizes_of(self, digests: Sequence[str]) -> Mapping[str, int]:
        try:
            return self._store.sizes(digests)
        except StoreError:  # one of them is damaged, and is found below
            return dict.fromkeys(digests, 0)

    def _missing(self, sizes: Mapping[str, int]) -> Iterator[Finding]:
        if self.late:
            return
        for digest, reference in self._references.items():
            if reference.vital and digest not in sizes:
                yield Finding(f"object {digest}", f"missing, {_named(reference)}", _RERUN)

    def _contents(self, sizes: Mapping[str, int]) -> Iterator[Finding]:
        for digest in sizes:
            if self.late:
                return
            self.objects += 1
            place, named = f"object {digest}", _named(self._references[digest])
            try:
                reason = self._damage(digest)
            except StoreError as error:  # which may be over in a moment
                yield Finding(place, f"unreadable ({error}), {named}", _RERUN)
                continue
            if reason:
                mend = partial(self._set_object_aside, digest)
                yield Finding(place, f"damaged ({reason}), {named}", _AGAIN, mend)

    def _damage(self, digest: str) -> str:
        try:
            found = _other_digest(self._store.get(digest), digest)
        except KeyError:
            return ""  # pruned meanwhile
        except CorruptRecordError as error:
            return str(error)
        return found and f"its bytes have the digest {found}"

    def _set_object_aside(self, digest: str) -> None:
        """Keep a damaged object's bytes under both digests: where it stood, a sound one can be.

        As long as it stands there, what the trial makes anew is not written.
        """
        data: Buffer | None = None
        try:
            data = self._store.get(digest)
        except KeyError:
            return
        except CorruptRecordError:
            pass  # parts of it are gone, and no store gives the others
        if data is not None:
            found = _other_digest(data, digest)
            if not found:
                return  # somebody wrote it anew since it was looked at
            self._store.put(f"{digest}{found}", [data])
            data = None  # Windows removes no file that is mapped
        self._store.discard([digest])

    def _orphans(self) -> Iterator[Finding]:
        """Find objects that nothing names; only where it is known what is named."""
        if self._damaged or self.late or not isinstance(self._store, Inspectable):
            return
        trials = read_trials(self._store).values()
        if any(trial.status == "running" for trial in trials):
            return  # an object may be there before its record is
        if remembered_elsewhere(self._store):
            return  # what was deleted here may be in use there
        if self._store.has_aside():
            return  # what was set aside may name any
        listed = [digest for digest in self._store.digests() if len(digest) == _DIGITS]
        orphans = [digest for digest in listed if digest not in self._references]
        if orphans:
            size = sum(self._sizes_of(orphans).values())
            what = f"{len(orphans)} objects of {size:,} bytes that no record names"
            remedy = "run `daskperiment check --repair` to remove them"
            yield Finding(self._store.address, what, remedy, lambda: self._store.discard(orphans))


def _other_digest(data: Buffer, digest: str) -> str:
    """Return the digest that an object's bytes have; empty if it is the one that they should."""
    view = memoryview(data)
    if has_digest(view.cast("B") if view.nbytes else view, digest):
        return ""
    return digest_of([view])


def _named(reference: _Reference) -> str:
    return f"named by {reference.id!r} of trial {reference.trial} in {reference.stream!r}"
