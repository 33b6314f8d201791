"""The trials of an experiment, kept up to date by reading what is new in its store."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct

from daskperiment.codec import decode, decode_many
from daskperiment.dashboard.texts import trimmed
from daskperiment.errors import CorruptRecordError
from daskperiment.history.decoding import chunks
from daskperiment.history.reading import read_trials
from daskperiment.history.values import MISSING, viewed
from daskperiment.records import Computed, EndStatus, TrialStatus
from daskperiment.store.protocol import Store, Stored

__all__ = ["Row", "Trials", "tolerant"]

T = TypeVar("T", bound=Struct)

_RANK = {"succeeded": 0, "failed": 1, "interrupted": 2}
_LARGE = 4_096
"""Bytes of a record beyond which its values are looked at one by one."""
_JUDGE = 2.0
_JUDGE_AGAIN = 60.0
"""Seconds after which a trial that counts as lost is judged again: its host may be back."""


class _Place(Struct, gc=False):
    host: str
    user: str
    pid: int


class _Begun(Struct, omit_defaults=True):
    token: str
    result: str
    started: float
    seed: int
    parameters: dict[str, Any]
    origin: _Place
    sweep: str | None = None
    source: int | None = None


class _Cause(Struct, gc=False):
    type: str
    description: str
    step: str | None = None


class _Ended(Struct):
    status: EndStatus
    finished: float
    elapsed: float
    value: Any = None
    failure: _Cause | None = None


class Row(NamedTuple):
    """One trial as a table needs it."""

    trial: int
    begun: _Begun
    ended: _Ended | None
    computed: dict[str, Any]
    status: TrialStatus
    reason: str | None

    def parameter(self, name: str, store: Store) -> Any:
        """Get a parameter's value, `MISSING` if the trial has none."""
        form = self.computed.get(name, self.begun.parameters.get(name, MISSING))
        return viewed(form, store)

    def result(self, store: Store) -> Any:
        """Get the result as far as it is plain data, `MISSING` if there is none."""
        if self.ended is None or self.ended.status != "succeeded":
            return MISSING
        return viewed(self.ended.value, store)

    @property
    def description(self) -> str:
        """Why the trial did not succeed; empty if it did."""
        failure = self.ended.failure if self.ended else None
        return failure.description if failure else self.reason or ""


class Trials:
    """Follows the trials of one experiment. Any number of threads may ask.

    Attributes
    ----------
    version : int
        Grows whenever a trial began, ended or was judged otherwise.
    damaged : int
        Records that could not be read and are left out.
    resets : int
        How often the experiment was found deleted and begun anew.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self.version = 0
        self.resets = 0
        self._clear()

    def _clear(self) -> None:
        self._begun: dict[int, _Begun] = {}
        self._ended: dict[int, _Ended] = {}
        self._computed: dict[int, dict[str, Any]] = {}
        self._lost: dict[int, str] = {}
        self._pending: set[int] = set()
        self._names: dict[str, None] = {}
        self._ids: list[int] = []
        self._position = 0
        self._judged = self._judged_all = float("-inf")
        self.damaged = 0

    # Asking

    @property
    def names(self) -> list[str]:
        """Parameters of any trial, in the order in which they were seen."""
        return list(self._names)

    @property
    def ids(self) -> Sequence[int]:
        """Ids of all trials, growing."""
        return self._ids

    @property
    def running(self) -> set[int]:
        """Ids of the trials without an end that do not count as lost."""
        return self._pending - self._lost.keys()

    def row(self, trial: int) -> Row | None:
        """Get a trial."""
        begun = self._begun.get(trial)
        if begun is None:
            return None
        ended, lost = self._ended.get(trial), self._lost.get(trial)
        status: TrialStatus = ended.status if ended else "lost" if lost else "running"
        return Row(trial, begun, ended, self._computed.get(trial, {}), status, lost)

    def rows(self, trials: Iterable[int]) -> list[Row]:
        """Get trials, as far as they exist."""
        return [row for row in map(self.row, trials) if row is not None]

    # Following

    def refresh(self) -> int:
        """Read what is new, and give the version."""
        with self._lock:
            if self._ids and not self._is_same():
                self._clear()
                self.version += 1
                self.resets += 1
            before = self._position
            for chunk in chunks(self.store.read("trials", after=self._position)):
                self._fold(chunk)
            if self._position != before:
                self.version += 1
                if len(self._ids) != len(self._begun):
                    self._ids = sorted(self._begun)
            self._judge()
            return self.version

    def _is_same(self) -> bool:
        """Tell whether the first trial is still the one known: an experiment can be deleted."""
        first = self._ids[0]
        for stored in self.store.read("trials", [first]):
            if stored.id == "begun":
                found, _ = tolerant([stored], _Begun)
                return not found or found[0][1].token == self._begun[first].token
        return False

    def _fold(self, chunk: list[Stored]) -> None:
        kinds: defaultdict[str, list[Stored]] = defaultdict(list)
        for one in chunk:
            kinds[one.id[:5]].append(one)
        self._position = max(self._position, chunk[-1].position)
        self._add_begun(kinds["begun"])
        self._add_ended(kinds["ended"])
        computed, damaged = tolerant(kinds["compu"], Computed)
        self.damaged += len(damaged)
        for one, record in computed:
            value = trimmed(record.value, self.store)
            self._computed.setdefault(one.trial, {})[record.name] = value
            self._names.setdefault(record.name)

    def _add_begun(self, stored: list[Stored]) -> None:
        found, damaged = tolerant(stored, _Begun)
        self.damaged += len(damaged)
        for one, begun in found:
            if len(one.body) > _LARGE:
                forms = begun.parameters.items()
                begun.parameters = {name: trimmed(form, self.store) for name, form in forms}
            self._begun[one.trial] = begun
            self._names.update(dict.fromkeys(begun.parameters))
            if one.trial not in self._ended:
                self._pending.add(one.trial)

    def _add_ended(self, stored: list[Stored]) -> None:
        found, damaged = tolerant(stored, _Ended)
        self.damaged += len(damaged)
        for one, ended in found:
            if len(one.body) > _LARGE:
                ended.value = trimmed(ended.value, self.store)
            self._keep(one.trial, ended)
        for one in damaged:
            self._keep(one.trial, _made_up(one.id))

    def _keep(self, trial: int, ended: _Ended | None) -> None:
        known = self._ended.get(trial)
        if ended is not None and (known is None or _weight(ended) < _weight(known)):
            self._ended[trial] = ended
            self._pending.discard(trial)
            self._lost.pop(trial, None)

    def _judge(self) -> None:
        """Find out which of the trials without an end are lost."""
        now = time.monotonic()
        everything = now - self._judged_all > _JUDGE_AGAIN
        if everything:
            self._judged_all = now
        elif now - self._judged < _JUDGE:
            return
        self._judged = now
        pending = self._pending if everything else self.running
        lost = self._why_lost(pending)
        changed = {trial: reason for trial, reason in lost.items() if trial not in self._lost}
        back = [trial for trial in pending if trial in self._lost and trial not in lost]
        for trial in back:
            del self._lost[trial]
        self._lost.update(changed)
        self.version += bool(changed or back)

    def _why_lost(self, pending: Collection[int]) -> dict[int, str]:
        found = read_trials(self.store, pending) if pending else {}
        return {id: trial.reason or "" for id, trial in found.items() if trial.status == "lost"}


def tolerant(
    stored: Sequence[Stored], type_: type[T]
) -> tuple[list[tuple[Stored, T]], list[Stored]]:
    """Decode records, and give those apart that are damaged."""
    try:
        bodies = [one.body for one in stored]
        return list(zip(stored, decode_many(bodies, type_), strict=True)), []
    except CorruptRecordError:
        return _one_by_one(stored, type_)


def _one_by_one(
    stored: Sequence[Stored], type_: type[T]
) -> tuple[list[tuple[Stored, T]], list[Stored]]:
    found: list[tuple[Stored, T]] = []
    damaged = []
    for one in stored:
        try:
            found.append((one, decode(one.body, type_)))
        except CorruptRecordError:
            damaged.append(one)
    return found, damaged


def _weight(ended: _Ended) -> tuple[int, float, float]:
    return _RANK[ended.status], ended.finished, ended.elapsed


def _made_up(id: str) -> _Ended | None:
    """Make up for a damaged record: its id tells how the trial ended."""
    parts = id.split("-")
    status: Any = parts[1] if len(parts) > 1 else ""
    if status not in _RANK:
        return None
    cause = _Cause("CorruptRecordError", "the record of its end is damaged")
    return _Ended(status, float("inf"), float("inf"), MISSING, cause)
