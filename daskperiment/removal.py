"""Deleting trials: their records, and the objects that only they used.

What is left of a trial is a marker, so that its id is never another's, and so that whoever still
writes for it, copies it or remembers it knows that it is meant to be gone.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from msgspec import Struct
from toolz import partition_all

from daskperiment.codec import decode, encode, parsed, signed, signing_key_in_force
from daskperiment.codec.point_runs import PointRecord
from daskperiment.curation import owners_of
from daskperiment.errors import CorruptRecordError, StoreWarning, TrialReusedError
from daskperiment.formatting import listed
from daskperiment.history.metrics import reused_metrics
from daskperiment.history.trial_records import excerpts, go_on_elsewhere, intact
from daskperiment.recording.recorder import Recorder
from daskperiment.recording.registry import recorder_for
from daskperiment.records import (
    BEGUN,
    REMOVED,
    STREAMS,
    Begun,
    Origin,
    Point,
    Removed,
    digests_within,
)
from daskperiment.store.liveness import current_origin
from daskperiment.store.opening import columns_folder
from daskperiment.store.protocol import Inspectable, Owner, Record, Store, Stored
from daskperiment.vouching import vouched

__all__ = ["delete_trials"]

_MANY = 1000
_IN_HAND = 64 << 20
"""Bytes of objects that are in memory while they are removed, but for one that is larger."""


class _ReusingRun(Struct, gc=False):
    """A step run, as far as it may have taken its output from another trial."""

    step: str = ""
    reused: int | None = None


class _Known(Struct, gc=False):
    """What is known of an output: the trial that returned it."""

    trial: int = 0


def delete_trials(store: Store, trials: int | Iterable[int], force: bool = False) -> list[int]:
    """Delete trials for good, and return their ids.

    Their records go, and the objects that no other trial uses. Their ids are never given out again.

    Raises
    ------
    TrialIDNotFoundError
        If one of the trials is not there.
    TrialReusedError
        If other trials reuse what one of them kept, unless `force` is true.
    CorruptRecordError
        If a record is damaged, so that it is not known what other trials use.

    In each of these cases nothing is deleted.
    """
    recorder = recorder_for(store)
    recorder.catch_up()
    owners = owners_of(store, trials)
    survey = _UseSurvey(store, owners)
    survey.read_on()
    if survey.reusing and not force:
        raise TrialReusedError(_in_use(survey.reusing))
    clock, user, key = store.state().clock, current_origin().user, signing_key_in_force()
    if survey.reusing:
        _hand_on_metrics(store, recorder, survey, key)
    markers = []
    for owner in owners:
        removed = Removed(clock, user, owner.token, survey.origins.get(owner.trial))
        if key is not None:
            removed = signed(removed, key, store.address, owner.token)
        body = encode(removed, owner.trial)
        markers.append(Record("trials", owner.trial, REMOVED, body, owner))
    store.remove(markers, survey.outputs)
    shutil.rmtree(columns_folder(store), ignore_errors=True)
    if not (isinstance(store, Inspectable) and store.has_aside()):  # that may name any object
        _discard(store, recorder, survey)
    recorder.delivery.forget()
    return [owner.trial for owner in owners]


def _in_use(reusing: Mapping[int, Mapping[int, str]]) -> str:
    """Say which trials reuse what others kept."""
    found = [
        f"trial {trial} is reused by trial{'s' * (len(by) > 1)} {listed(sorted(by), 5)} "
        f"(step {next(iter(by.values()))!r})"
        for trial, by in sorted(reusing.items())
    ]
    return (
        f"Nothing was deleted: {'; '.join(found[:5])}{' and others' if len(found) > 5 else ''}. "
        "Delete those that reuse it too, or give force=True: what they reuse stays then, and only "
        "says no more where it comes from."
    )


# Metrics -----------------------------------------------------------------------------------------


def _hand_on_metrics(
    store: Store, recorder: Recorder, survey: _UseSurvey, key: bytes | None
) -> None:
    """Give trials that stay the points that came with outputs of those that go.

    Points that they have already are passed over: a deletion that was cut short is done again.
    """
    reader = vouched(store)
    staying = sorted({trial for reusing in survey.reusing.values() for trial in reusing})
    wanted: dict[int, dict[str, int]] = {}
    for trial, source, names in reused_metrics(reader, staying):
        if source in survey.reusing:
            wanted.setdefault(trial, {}).update(dict.fromkeys(names, source))
    for owner in owners_of(store, wanted) if wanted else ():
        sources = wanted[owner.trial]
        own = set(map(_mark, _points(reader, owner.trial, sources)))
        for source in sorted(set(sources.values())):
            given = [name for name, each in sources.items() if each == source]
            found = _points(reader, source, given)
            known = set(map(_mark, found))
            # Of what it saved itself, a trial shows nothing else.
            apart = {metric for metric, _ in own - known}
            for point in found:
                if _mark(point) not in own and point.metric not in apart:
                    recorder.point(owner, point, key)
    recorder.flush()


def _points(store: Store, trial: int, metrics: Collection[str]) -> list[Point]:
    batches = intact(excerpts(store, "points", [trial], metrics), PointRecord[Point])
    every = (point for _, batch in batches for point in batch.each())
    return [Point(one.metric, one.epoch, one.value, one.time) for one in every
            if one.metric in metrics]  # fmt: skip


def _mark(point: Point) -> tuple[str, bytes]:
    """Return what tells a point from all others of a trial."""
    return point.metric, encode(point)


# Objects -----------------------------------------------------------------------------------------


def _discard(store: Store, recorder: Recorder, survey: _UseSurvey) -> None:
    """Remove the objects that only the deleted trials used.

    Whoever keeps an object writes its record first, and looks for the object then. So it finds it
    gone, or the record is found here, and the object is put back.
    """
    survey.read_on()  # its own markers, too
    gone = survey.begun_with | survey.kept
    if go_on_elsewhere(survey.rememberers):
        gone = survey.kept - survey.begun_with
    for some in _batches(store.sizes(list(gone - survey.needed))):
        bodies = {digest: store.get(digest) for digest in some if digest in store.sizes([digest])}
        store.discard(list(bodies))
        survey.read_on()
        for digest in bodies.keys() & survey.needed:
            store.put(digest, [bodies[digest]])
    for digest in gone:
        recorder.delivery.forget_object(digest)


def _batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Cut what is to go into pieces that may be in memory at once."""
    piece: list[str] = []
    used = 0
    for digest, size in sizes.items():
        if piece and (len(piece) == _MANY or used + size > _IN_HAND):
            yield piece
            piece, used = [], 0
        piece.append(digest)
        used += size
    if piece:
        yield piece


class _Named(NamedTuple):
    """The objects that a record names."""

    begun_with: set[str]
    """By a trial's first record: processes remember that they put these into the store."""
    kept: set[str]


class _UseSurvey:
    """What records say of objects: those of the trials that go, and all others."""

    def __init__(self, store: Store, owners: Collection[Owner]) -> None:
        self._store = store
        self._going = {owner.trial for owner in owners}
        self._after = dict.fromkeys(STREAMS[:2] + STREAMS[3:5], 0)
        self.needed: set[str] = set()
        self.begun_with: set[str] = set()
        self.kept: set[str] = set()
        self.outputs: list[str] = []
        """Ids of what is known of outputs that these trials were the first to return."""
        self.reusing: dict[int, dict[int, str]] = {}
        """Trial that goes -> trials that stay and reuse what it kept, with a step of theirs."""
        self.origins: dict[int, Origin] = {}
        self.rememberers: set[Origin] = set()
        """Processes that ran a trial which was deleted, now or before."""

    def read_on(self) -> None:
        """Read the records that were written since the last time."""
        with warnings.catch_warnings():
            # The warning says that part of a stream is left out: what that needs is not known.
            warnings.simplefilter("error", StoreWarning)
            try:
                for stream in self._after:
                    self._read(stream)
            except (StoreWarning, CorruptRecordError) as problem:
                raise CorruptRecordError(_refusal(self._store, problem)) from problem

    def _read(self, stream: str) -> None:
        for piece in partition_all(_MANY, self._store.read(stream, after=self._after[stream])):
            for one in piece:
                self._note(stream, one)
            self._after[stream] = piece[-1].position

    def _note(self, stream: str, one: Stored) -> None:
        trial = one.trial
        if stream == "trials" and one.id == REMOVED:
            with suppress(CorruptRecordError):  # it says no more than that the trial is gone
                origin = decode(one.body, Removed).origin
                self.rememberers |= {origin} if origin else set()
        if stream == "outputs":
            trial = decode(one.body, _Known).trial
            if trial in self._going:
                self.outputs.append(one.id)
        named = self._named(stream, one)
        if trial in self._going:
            self.begun_with |= named.begun_with
            self.kept |= named.kept
        else:
            self.needed |= named.begun_with | named.kept
            if stream == "steps":
                self._note_run(one)

    def _named(self, stream: str, one: Stored) -> _Named:
        # Most records name no object: looking for the word is cheaper than decoding them.
        found = set(digests_within(parsed(one.body))) if b'"object"' in one.body else set()
        if stream != "trials" or one.id != BEGUN:
            return _Named(set(), found)
        begun = decode(one.body, Begun)
        if one.trial in self._going:
            self.origins[one.trial] = begun.origin
        elif begun.resumes in self._going:
            self.reusing.setdefault(begun.resumes or 0, {}).setdefault(one.trial, begun.result)
        parts = {begun.code, begun.environment, begun.graph, begun.files}
        return _Named(found | {digest for digest in parts if digest is not None}, set())

    def _note_run(self, one: Stored) -> None:
        if b'"reused"' in one.body:
            run = decode(one.body, _ReusingRun)
            if run.reused in self._going:
                self.reusing.setdefault(run.reused or 0, {})[one.trial] = run.step


def _refusal(store: Store, what: object) -> str:
    return (
        f"It cannot be told which objects of {store.address} other trials need ({what}), so what "
        "trials kept was not removed. Repair the store first: `daskperiment check --repair`."
    )
