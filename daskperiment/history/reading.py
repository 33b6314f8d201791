"""Folds the records of trials into trials, and judges how those without an end ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from operator import index
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct

from daskperiment.codec import load_record
from daskperiment.errors import (
    CorruptRecordError,
    StoreError,
    StoreUnavailableError,
    TrialIDNotFoundError,
)
from daskperiment.history.decoding import chunks, decoded, intact
from daskperiment.records import (
    Beat,
    Begun,
    Code,
    Computed,
    Ended,
    Environment,
    Failure,
    Graph,
    TrialStatus,
)
from daskperiment.store.liveness import heartbeat_timeout, is_gone
from daskperiment.store.protocol import Store, Stored

__all__ = [
    "DAMAGED",
    "Fold",
    "Trial",
    "as_trial_id",
    "find_trial",
    "fold",
    "part_of",
    "read_trials",
    "require_trial",
    "trial_or_raise",
]

B = TypeVar("B", bound=Struct)
E = TypeVar("E", bound=Any)
P = TypeVar("P", Code, Environment, Graph)

DAMAGED = float("inf")
"""The finishing time of a trial whose last record says no more than how it ended."""

_RANK = {"succeeded": 0, "failed": 1, "interrupted": 2}
_CLOCK_SKEW = 86_400.0
"""By how much the wall clock of a trial's host may differ from the store's, in seconds."""


class Trial(NamedTuple):
    """One trial as its records tell it."""

    trial: int
    begun: Begun
    ended: Ended | None
    parameters: dict[str, Any]
    """Name -> recorded form of the value; computed parameters stand behind the others."""
    status: TrialStatus
    reason: str | None = None
    """Why a trial counts as lost."""


class Fold(NamedTuple, Generic[B, E]):
    """The records of trials, by trial."""

    begun: dict[int, B]
    ended: dict[int, E]
    computed: dict[int, dict[str, Any]]

    def parameters(self, trial: int) -> dict[str, Any]:
        """Give a trial's parameters, those that it was given and those that it computed."""
        begun: Any = self.begun[trial]
        given: dict[str, Any] = begun.parameters
        computed = self.computed.get(trial)
        return {**given, **dict(sorted(computed.items()))} if computed else given


# Reading ---------------------------------------------------------------------------------------


def read_trials(
    store: Store, trials: Collection[int] | None = None, *, clock: float | None = None
) -> dict[int, Trial]:
    """Read trials.

    Parameters
    ----------
    store : Store
        Where to read.
    trials : collection of int, optional
        Only these, as far as they exist. Without it, all.
    clock : float, optional
        The store's clock, if it is known already: it tells how old a sign of life is.

    Returns
    -------
    dict of int to Trial
        Sorted by trial id.
    """
    found = fold(store, trials, Begun, Ended, Failure)
    pending = {trial: found.begun[trial] for trial in found.begun.keys() - found.ended.keys()}
    lost = _why_lost(store, pending, clock)
    return {
        trial: _trial(trial, begun, found, lost.get(trial))
        for trial, begun in sorted(found.begun.items())
    }


def _trial(trial: int, begun: Begun, found: Fold[Begun, Ended], lost: str | None) -> Trial:
    ended = found.ended.get(trial)
    status: TrialStatus = ended.status if ended else "lost" if lost else "running"
    return Trial(trial, begun, ended, found.parameters(trial), status, lost)


def trial_or_raise(store: Store, trial_id: int) -> Trial:
    """Read one trial.

    Raises
    ------
    TrialIDNotFoundError
        If there is none with this id.
    """
    trial = as_trial_id(trial_id)
    found = read_trials(store, [trial]).get(trial)
    if found is None:
        raise TrialIDNotFoundError(_not_found(store, trial))
    return found


def find_trial(store: Store, token: str | None, after: int) -> Trial | None:
    """Find the trial that a computation ran, by its token, among those with higher ids.

    Parameters
    ----------
    store : Store
    token : str or None
        None where nothing was computed, so that nothing is found.
    after : int
        The latest id before.
    """
    later = range(after + 1, store.state().latest + 1)
    trials = read_trials(store, later).values() if later and token else ()
    return next((one for one in trials if one.begun.token.partition("/")[0] == token), None)


def require_trial(store: Store, trial_id: int) -> None:
    """Do nothing if there is a trial with this id.

    Raises
    ------
    TrialIDNotFoundError
        If there is none.
    """
    trial = as_trial_id(trial_id)
    if not any(stored.id == "begun" for stored in store.read("trials", [trial])):
        raise TrialIDNotFoundError(_not_found(store, trial))


def part_of(store: Store, trial: Trial, name: str, type_: type[P]) -> P:
    """Load a record that a trial refers to.

    Parameters
    ----------
    store : Store
    trial : Trial
    name : {"code", "environment", "graph"}
    type_ : type
        Of the record.

    Raises
    ------
    CorruptRecordError
        If it is missing or damaged.
    """
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


def as_trial_id(trial_id: Any) -> int:
    """Take any integer as a trial id, and nothing else."""
    try:
        if isinstance(trial_id, bool):
            raise TypeError
        return index(trial_id)
    except TypeError:
        raise TrialIDNotFoundError(
            f"A trial id is an integer from 1, not {trial_id!r} ({type(trial_id).__name__}). "
            "The index of get_history() lists the ids."
        ) from None


def _not_found(store: Store, trial: int) -> str:
    latest = store.state().latest
    if not latest:
        return f"There is no trial {trial!r}: no trial was run yet. Compute a result first."
    if 1 <= trial <= latest:
        return f"The first record of trial {trial!r} is not in {store.address}, or is damaged."
    known = "only trial 1" if latest == 1 else f"trials 1 to {latest}"
    return (
        f"There is no trial {trial!r}: this experiment has {known}. "
        "The index of get_history(running=True) lists them."
    )


# Folding ---------------------------------------------------------------------------------------


def fold(
    store: Store,
    trials: Collection[int] | None,
    begun_type: type[B],
    ended_type: type[E],
    failure_type: type[Any],
) -> Fold[B, E]:
    """Fold the stream of trials, in whatever order the records stand.

    The types say which fields are wanted: those that have fewer are quicker to read.
    """
    found: Fold[B, E] = Fold({}, {}, {})
    for chunk in chunks(store.read("trials", trials)):
        kinds: defaultdict[str, list[Stored]] = defaultdict(list)
        for one in chunk:
            kinds[one.id[:5]].append(one)
        found.begun.update(intact(kinds["begun"], begun_type))
        _fold_ended(kinds["ended"], ended_type, failure_type, found.ended)
        for trial, record in intact(kinds["compu"], Computed):
            found.computed.setdefault(trial, {})[record.name] = record.value
    return found


def _fold_ended(
    stored: list[Stored], ended_type: type[E], failure_type: type[Any], found: dict[int, E]
) -> None:
    pairs, damaged = decoded(stored, ended_type)
    made_up = [(one.trial, _from_id(one.id, ended_type, failure_type)) for one in damaged]
    for trial, record in (*pairs, *made_up):
        if record is not None:
            other = found.setdefault(trial, record)
            if other is not record and _weight(record) < _weight(other):
                found[trial] = record


def _weight(record: Any) -> tuple[int, float, float, str]:
    """Tell which of a trial's ends holds: the lightest, whatever the order in which they came."""
    return _RANK[record.status], record.finished, record.elapsed, repr(record)


def _from_id(id: str, ended_type: type[E], failure_type: type[Any]) -> E | None:
    """Make up for a damaged record: its id tells how the trial ended."""
    status = id.split("-")[1]
    if status not in _RANK:
        return None
    failure = failure_type(
        type=CorruptRecordError.__name__, description="the record of its end is damaged"
    )
    ended: E = ended_type(status=status, finished=DAMAGED, elapsed=DAMAGED, failure=failure)
    return ended


# Liveness --------------------------------------------------------------------------------------


def _why_lost(store: Store, pending: dict[int, Begun], clock: float | None) -> dict[int, str]:
    """Tell which trials without an end will never have one, as far as can be told, and why."""
    gone = {begun.origin: is_gone(begun.origin) for begun in pending.values()}
    lost = {trial: "its process is gone" for trial, b in pending.items() if gone[b.origin]}
    elsewhere = {trial: b for trial, b in pending.items() if gone[b.origin] is None}
    if elsewhere:
        now = store.state().clock if clock is None else clock
        lost.update(_silent(elsewhere, _latest_beats(store, elsewhere), now))
    return lost


def _silent(pending: dict[int, Begun], beats: dict[int, float], now: float) -> dict[int, str]:
    timeout = heartbeat_timeout()
    lost = {}
    for trial, begun in pending.items():
        # Beats are by the store's clock. A trial begins with one; where it is still on its way,
        # only the clock of the trial's host tells the age, and that one may be wrong.
        beat = beats.get(trial, begun.started + _CLOCK_SKEW)
        if now - beat > timeout:
            lost[trial] = f"no sign of life from {begun.origin.host} for {timeout:g} s"
    return lost


def _latest_beats(store: Store, trials: Collection[int]) -> dict[int, float]:
    latest: dict[int, float] = {}
    for chunk in chunks(store.read("beats", trials)):
        for trial, beat in intact(chunk, Beat):
            latest[trial] = max(beat.time, latest.get(trial, beat.time))
    return latest
