"""The trials of a store, read from their records.

The records of a trial are folded in whatever order they stand, past those that are damaged; a trial
without an end is judged by the signs of life of its process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter, index
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from toolz import partition_all

from daskperiment.codec import MARK, PointRecord, decode_each, from_excerpt, is_of, load_record
from daskperiment.errors import (
    CorruptRecordError,
    StoreError,
    StoreUnavailableError,
    StoreWarning,
    TrialIDNotFoundError,
)
from daskperiment.formatting import listed, shorten
from daskperiment.history.stored_values import spelled
from daskperiment.records import (
    BEGUN,
    COMPUTED,
    ENDED,
    OUTCOMES,
    REMOVED,
    Beat,
    Begun,
    Code,
    Computed,
    Ended,
    Environment,
    Failure,
    Files,
    Graph,
    Origin,
    Removed,
    TrialStatus,
    beat_sender,
    outweighs,
)
from daskperiment.store.liveness import current_origin, heartbeat_timeout, is_gone
from daskperiment.store.opening import Excerpting, excerpting
from daskperiment.store.protocol import Store, Stored
from daskperiment.warn import warn_user

__all__ = [
    "DAMAGED",
    "Fold",
    "LARGEST_ID",
    "PIECE",
    "PointBatch",
    "PointValue",
    "RecordedTrial",
    "as_trial_id",
    "decoded",
    "drop_impossible",
    "excerpts",
    "find_trial",
    "fold",
    "fold_piece",
    "go_on_elsewhere",
    "intact",
    "part_of",
    "possible_ids",
    "read_trials",
    "remembered_elsewhere",
    "require_trial",
    "steps_told",
    "trial_or_raise",
]

B = TypeVar("B", bound=Struct)
E = TypeVar("E", bound=Any)
P = TypeVar("P", Code, Environment, Files, Graph)
T = TypeVar("T", bound=Struct)

DAMAGED = float("inf")
"""The finishing time of a trial whose last record says no more than how it ended."""

LARGEST_ID = 2**53
"""A trial id beyond which Redis' scripts, which count in floats, would take it for another one."""
PIECE = 1000
"""Of records that are decoded at once: the bodies of all are never in memory together."""
_MOST_NAMES = 20
"""Names that are looked for in records; of more, all are read."""
_PREFIX = 5
"""Of characters of an id that distinguish the kinds of records in the stream ``trials``."""
_CLOCK_SKEW = 86_400.0
"""By how much the wall clock of a trial's host may differ from the store's, in seconds."""

_body = attrgetter("body")
_number = attrgetter("trial")


class RecordedTrial(NamedTuple):
    """One trial, as its records describe it."""

    trial: int
    begun: Begun
    ended: Ended | None
    parameters: dict[str, Any]
    """Name -> recorded form of the value; computed parameters stand behind the others."""
    status: TrialStatus
    reason: str | None = None
    """Why a trial counts as lost."""

    def spelled_out(self, store: Store) -> RecordedTrial:
        """Return the trial with the values in full that are plain but stand beside its records."""
        parameters = {name: spelled(form, store) for name, form in self.parameters.items()}
        ended = self.ended
        if ended is not None:
            ended = replace(ended, value=spelled(ended.value, store))
        return self._replace(parameters=parameters, ended=ended)


class Fold(NamedTuple, Generic[B, E]):
    """The records of trials, by trial."""

    begun: dict[int, B]
    ended: dict[int, E]
    computed: dict[int, dict[str, Any]]
    removed: set[int]
    """Those of which a marker says that they were deleted."""

    @classmethod
    def of_nothing(cls) -> Fold[B, E]:
        """Return what no record at all comes to."""
        return cls({}, {}, {}, set())

    def parameters(self, trial: int) -> dict[str, Any]:
        """Return a trial's parameters, those that it was given and those that it computed."""
        begun: Any = self.begun[trial]
        given: dict[str, Any] = begun.parameters
        computed = self.computed.get(trial)
        return {**given, **dict(sorted(computed.items()))} if computed else given


# Reading ---------------------------------------------------------------------------------------


def read_trials(
    store: Store, trials: Collection[int] | None = None, *, clock: float | None = None
) -> dict[int, RecordedTrial]:
    """Return the trials of a store by id, sorted; of `trials`, those that exist.

    `clock` is the store's, if it is known already: the age of signs of life goes by it.
    """
    found = fold(store, trials, Begun, Ended, Failure)
    pending = {trial: found.begun[trial] for trial in found.begun.keys() - found.ended.keys()}
    lost = _why_lost(store, pending, clock)
    return {
        trial: _trial(trial, begun, found, lost.get(trial))
        for trial, begun in sorted(found.begun.items())
    }


def _trial(trial: int, begun: Begun, found: Fold[Begun, Ended], lost: str | None) -> RecordedTrial:
    ended = found.ended.get(trial)
    status: TrialStatus = ended.status if ended else "lost" if lost else "running"
    return RecordedTrial(trial, begun, ended, found.parameters(trial), status, lost)


def trial_or_raise(store: Store, trial_id: int) -> RecordedTrial:
    """Return one trial, or raise TrialIDNotFoundError."""
    trial = as_trial_id(store, trial_id)
    found = read_trials(store, [trial]).get(trial)
    if found is None:
        raise TrialIDNotFoundError(_not_found(store, trial))
    return found


def find_trial(store: Store, token: str | None, after: int) -> RecordedTrial | None:
    """Return the trial with this token and an id above `after`, the latest before it was computed.

    Where nothing was computed there is no token, and no trial.
    """
    later = range(after + 1, store.state().latest + 1)
    trials = read_trials(store, later).values() if later and token else ()
    return next((one for one in trials if one.begun.token.partition("/")[0] == token), None)


def require_trial(store: Store, trial_id: int) -> None:
    """Raise TrialIDNotFoundError if there is no such trial; its records are not decoded."""
    trial = as_trial_id(store, trial_id)
    if not any(stored.id == BEGUN for stored in store.read("trials", [trial])):
        raise TrialIDNotFoundError(_not_found(store, trial))


def part_of(store: Store, trial: RecordedTrial, type_: type[P]) -> P:
    """Return a trial's code, environment or graph.

    Raises CorruptRecordError if it is missing or damaged; the message names it and the trial.
    """
    name = type_.__name__.lower()  # a trial names each part by its type
    digest = getattr(trial.begun, name)
    try:
        return load_record(store.get(digest), digest, type_)
    except StoreUnavailableError:
        raise
    except (StoreError, KeyError) as error:
        reason = "it is not in the store" if isinstance(error, KeyError) else str(error)
        raise CorruptRecordError(
            f"{name} of trial {trial.trial} cannot be read: {reason}"
        ) from error


def as_trial_id(store: Store, trial_id: Any) -> int:
    """Return any integer that may be a trial's as an id, and refuse all else.

    No store is asked for ids that none can hold: each would answer in a way of its own.
    """
    try:
        if isinstance(trial_id, bool):
            raise TypeError
        trial = index(trial_id)
    except TypeError:
        words = "As words for trials, which commands take, there are ex.best(by) and ex.trial_id, "
        words += "the latest; for '1,3-7' give [1, *range(3, 8)]. "
        raise TrialIDNotFoundError(
            f"A trial id is an integer from 1, not {shorten(repr(trial_id), 60)} "
            f"({type(trial_id).__name__}). {words if isinstance(trial_id, str) else ''}"
            "The index of get_history() lists the ids."
        ) from None
    if not 1 <= trial <= LARGEST_ID:
        raise TrialIDNotFoundError(_not_found(store, trial))
    return trial


def possible_ids(ids: Collection[int]) -> Collection[int]:
    """Return those of some integers that can be ids of trials: a store is asked for no others."""
    if isinstance(ids, range) and (not ids or (min(ids) >= 1 and max(ids) <= LARGEST_ID)):
        return ids
    return [trial for trial in map(index, ids) if 1 <= trial <= LARGEST_ID]


def _not_found(store: Store, trial: int) -> str:
    latest = store.state().latest
    shown = repr(trial) if abs(trial) < 10**100 else "of so many digits"
    if not latest:
        return f"There is no trial {shown}: no trial was run yet. Compute a result first."
    if removal := _removal_of(store, trial):
        when = datetime.fromtimestamp(removal.time, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"Trial {trial!r} was deleted by {removal.user!r} on {when}; its id is no other's."
    if 1 <= trial <= latest:
        return f"The first record of trial {trial!r} is not in {store.address}, or is damaged."
    known = "only trial 1" if latest == 1 else f"trials 1 to {latest}"
    return (
        f"There is no trial {shown}: this experiment has {known}. "
        "The index of get_history(running=True) lists them."
    )


def _removal_of(store: Store, trial: int) -> Removed | None:
    """Return who deleted a trial, and when; ``None`` if nobody did."""
    wanted = store.read("trials", [trial]) if 1 <= trial <= LARGEST_ID else ()
    markers = [one for one in wanted if one.id == REMOVED]
    return next((one for _, one in decoded(markers, Removed)[0]), None)


# Folding ---------------------------------------------------------------------------------------


def fold(
    store: Store,
    trials: Collection[int] | None,
    begun_type: type[B],
    ended_type: type[E],
    failure_type: type[Any],
) -> Fold[B, E]:
    """Return what the stream of trials holds, in whatever order its records stand.

    The types say which fields are wanted: those that have fewer are quicker to read.
    """
    found: Fold[B, E] = Fold.of_nothing()
    for piece in partition_all(PIECE, store.read("trials", trials)):
        fold_piece(found, piece, begun_type, ended_type, failure_type)
    drop_impossible(found.begun)
    return found


def fold_piece(
    found: Fold[B, E],
    piece: Iterable[Stored],
    begun_type: type[B],
    ended_type: type[E],
    failure_type: type[Any],
    warn: bool = True,
) -> int:
    """Add some records of the stream of trials; return how many of them are damaged."""
    begun, ended, computed = BEGUN[:_PREFIX], ENDED[:_PREFIX], COMPUTED[:_PREFIX]
    removed = REMOVED[:_PREFIX]
    kinds: defaultdict[str, list[Stored]] = defaultdict(list)
    for one in piece:
        # A slice, not record_kind(): a call per record is felt in a million of them.
        kinds[one.id[:_PREFIX]].append(one)
    pairs, odd = decoded(kinds[begun], begun_type, warn)
    found.begun.update(pairs)
    odd += _fold_ended(kinds[ended], ended_type, failure_type, found.ended, warn)
    values, bad = decoded(kinds[computed], Computed, warn)
    for trial, record in values:
        found.computed.setdefault(trial, {})[record.name] = record.value
    found.removed.update(one.trial for one in kinds.get(removed, ()))
    return len(odd) + len(bad)


def drop_impossible(begun: dict[int, Any]) -> None:
    """Leave out trials of a number that none is given, with a warning."""
    if begun and not 1 <= min(begun) <= max(begun) <= LARGEST_ID:
        _drop_impossible(begun)


def _drop_impossible(begun: dict[int, B]) -> None:
    """Leave out trials of a number that none is given."""
    odd = [trial for trial in begun if not 1 <= trial <= LARGEST_ID]
    for trial in odd:
        del begun[trial]
    _warn_of([f"{BEGUN!r} of trial {trial} (there is none of this number)" for trial in odd])


def _fold_ended(
    stored: list[Stored], ended_type: type[E], failure_type: type[Any], found: dict[int, E],
    warn: bool,
) -> list[Stored]:  # fmt: skip
    """Add ends of trials; return those that are damaged."""
    pairs, damaged = decoded(stored, ended_type, warn)
    made_up = [(one.trial, _from_id(one.id, ended_type, failure_type)) for one in damaged
               if is_of(one.body, one.trial)]  # fmt: skip
    for trial, record in (*pairs, *made_up):
        if record is not None and (trial not in found or _holds(record, found[trial])):
            found[trial] = record
    return damaged


def _holds(record: Any, other: Any) -> bool:
    """Whether an end of a trial holds against another one, whichever of them came first."""
    if record.status != other.status:
        return outweighs(record.status, other.status)
    # The text comes last, so that of any two ends that differ every reader takes the same one.
    old, new = ((end.finished, end.elapsed, repr(end)) for end in (other, record))
    return new < old


def _from_id(id: str, ended_type: type[E], failure_type: type[Any]) -> E | None:
    """Return what takes the place of a damaged record: its id says how the trial ended."""
    status = id.removeprefix(f"{ENDED}-").partition("-")[0]
    if status not in OUTCOMES:
        return None
    failure = failure_type(
        type=CorruptRecordError.__name__, description="the record of its end is damaged"
    )
    ended: E = ended_type(status=status, finished=DAMAGED, elapsed=DAMAGED, failure=failure)
    return ended


# Streams ---------------------------------------------------------------------------------------


class PointValue(Struct, array_like=True, gc=False):
    """A point of a metric without its time, which few readers ask for."""

    metric: str
    epoch: Any
    value: Any


class PointBatch(PointRecord[PointValue], gc=False):
    """The body of a record of the stream ``points``."""


def excerpts(
    store: Store, stream: str, trials: Sequence[int], names: Collection[str] | None
) -> Iterable[Stored]:
    """Return records of points or of logs, in order, for who wants what begins with some names.

    Of those that a server has they may have nothing else, and records without it are left out.
    """
    server = excerpting(store)
    if server is None or names is None or len(names) > _MOST_NAMES:
        return store.read(stream, trials)
    try:
        texts = [msgspec.json.encode(name).decode() for name in names]
    except UnicodeEncodeError:  # half a character is written in another way
        return store.read(stream, trials)
    return _excerpts(store, server, stream, trials, texts)


def _excerpts(
    store: Store, server: Excerpting, stream: str, trials: Sequence[int], texts: Sequence[str]
) -> Iterator[Stored]:
    after = 0
    for one in server.read_excerpts(stream, trials, after, texts, MARK.decode()):
        body = from_excerpt(one.body, one.trial)
        if body is None:  # it is damaged, or has no blocks: all of it tells which
            yield from store.read(stream, trials, after)
            return
        yield one._replace(body=body)
        after = one.position


def intact(records: Iterable[Stored], type_: type[T]) -> Iterator[tuple[int, T]]:
    """Return records of one type with their trials; damaged ones are left out with a warning."""
    pieces = partition_all(PIECE, records)
    return chain.from_iterable(decoded(piece, type_)[0] for piece in pieces)


def decoded(
    stored: Sequence[Stored], type_: type[T], warn: bool = True
) -> tuple[list[tuple[int, T]], list[Stored]]:
    """Return records of one type with their trials, and besides those that are damaged."""
    if not stored:
        return [], []
    records = decode_each(list(map(_body, stored)), type_, list(map(_number, stored)))
    # The types are collected in C: a call for each record is felt in a million of them.
    if CorruptRecordError not in set(map(type, records)):
        return list(zip(map(_number, stored), records, strict=True)), []  # type: ignore[arg-type]
    pairs: list[tuple[int, T]] = []
    damaged, reasons = [], []
    for one, record in zip(stored, records, strict=True):
        if isinstance(record, CorruptRecordError):
            damaged.append(one)
            reasons.append(f"{one.id!r} of trial {one.trial} ({record})")
        else:
            pairs.append((one.trial, record))
    if warn:
        _warn_of(reasons)
    return pairs, damaged


def _warn_of(damaged: list[str]) -> None:
    text = (
        f"Damaged records are left out: {listed(damaged, 3)}. The others are not affected; restore "
        "the store from a copy if these matter."
    )
    warn_user(StoreWarning(text))


# Liveness --------------------------------------------------------------------------------------


def _why_lost(store: Store, pending: dict[int, Begun], clock: float | None) -> dict[int, str]:
    """Return why trials without an end will never have one, where that is known."""
    gone = {begun.origin: is_gone(begun.origin) for begun in pending.values()}
    lost = {trial: "its process is gone" for trial, b in pending.items() if gone[b.origin]}
    elsewhere = {trial: b for trial, b in pending.items() if gone[b.origin] is None}
    if elsewhere:
        now = store.state().clock if clock is None else clock
        beats = _latest_beats(store, elsewhere)
        times = {trial: [beat.time for beat in sent] for trial, sent in beats.items()}
        lost.update(_silent(elsewhere, times, now))
    return lost


def _silent(pending: dict[int, Begun], beats: dict[int, list[float]], now: float) -> dict[int, str]:
    timeout = heartbeat_timeout()
    lost = {}
    for trial, begun in pending.items():
        # Beats are by the store's clock. A trial begins with one; where it is still on its way,
        # only the clock of the trial's host tells the age, and that one may be wrong.
        limit = timeout if trial in beats else timeout + _CLOCK_SKEW
        # From the future is what was sent before the clock was set back: no sign of life now.
        if all(abs(now - beat) > limit for beat in beats.get(trial, [begun.started])):
            lost[trial] = f"no sign of life from {begun.origin.host} for {timeout:g} s"
    return lost


def _latest_beats(store: Store, trials: Collection[int]) -> dict[int, list[Beat]]:
    """Return for each trial the last beats, one of each process that sent any.

    The last is the one that was written last: the clock may have been set meanwhile.
    """
    latest: dict[int, dict[str, Beat]] = {}
    for piece in partition_all(PIECE, store.read("beats", trials)):
        pairs, damaged = decoded(piece, Beat)
        good = (one for one in piece if one not in damaged) if damaged else piece
        for one, (trial, beat) in zip(good, pairs, strict=True):
            latest.setdefault(trial, {})[beat_sender(one.id)] = beat
    return {trial: list(sent.values()) for trial, sent in latest.items()}


def steps_told(store: Store, trial: int) -> dict[str, float]:
    """Return which steps of a trial the processes that run it told of last: since when each ran.

    Some may have ended since: their records say so.
    """
    found: dict[str, float] = {}
    beats = _latest_beats(store, [trial]).get(trial, [])
    # A worker that died among others that go on told of its steps, too.
    alive = max((beat.time for beat in beats), default=0.0) - heartbeat_timeout()
    for beat in [beat for beat in beats if beat.time >= alive]:
        for key, since in beat.steps.items():
            found[key] = max(since, found.get(key, since))
    return found


def remembered_elsewhere(store: Store) -> bool:
    """Whether a process goes on that ran a trial which was deleted.

    It believes the store to have what that trial began with, and puts it there no more.
    """
    markers = [one for one in store.read("trials") if one.id == REMOVED]
    return go_on_elsewhere({one.origin for _, one in decoded(markers, Removed)[0] if one.origin})


def go_on_elsewhere(origins: Collection[Origin]) -> bool:
    """Whether one of some processes is another one than this, and may go on."""
    here = current_origin()
    return any(is_gone(origin) is not True for origin in origins if origin != here)
