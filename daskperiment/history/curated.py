"""What people said of trials afterwards: tags, notes, names, and which are archived."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import reduce
from itertools import groupby
from typing import Any, NamedTuple

from daskperiment.history.trial_records import intact
from daskperiment.records import CURATED, Curation
from daskperiment.store.opening import read_notes
from daskperiment.store.protocol import Store

__all__ = ["NOTHING_SAID", "Curated", "Remark", "curated"]


class Remark(NamedTuple):
    """A note on a trial."""

    text: str
    time: float
    """Seconds since the epoch."""
    user: str


class Curated(NamedTuple):
    """What was said of a trial, all in all."""

    name: str = ""
    """Empty if it has none."""
    tags: tuple[str, ...] = ()
    """In the order in which they were given."""
    notes: tuple[Remark, ...] = ()
    archived: bool = False

    def described(self, moment: Callable[[float], Any]) -> dict[str, Any]:
        """Return it as plain data, with the times of notes as `moment` has them."""
        notes = [
            {"text": one.text, "time": moment(one.time), "user": one.user} for one in self.notes
        ]
        return {
            "name": self.name or None, "tags": list(self.tags), "notes": notes,
            "archived": self.archived,
        }  # fmt: skip


NOTHING_SAID = Curated()


def curated(store: Store, trials: Collection[int] | None = None) -> dict[int, Curated]:
    """Return what was said of trials, by id; of those of which something was said.

    What was written later counts, whoever wrote it.
    """
    records = read_notes(store, CURATED, trials)
    by_trial = groupby(sorted(intact(records, Curation), key=_trial), key=_trial)
    return {trial: _folded(one for _, one in said) for trial, said in by_trial}


def _trial(pair: tuple[int, Curation]) -> int:
    return pair[0]


def _folded(said: Iterable[Curation]) -> Curated:
    return reduce(_with, said, NOTHING_SAID)


def _with(before: Curated, said: Curation) -> Curated:
    kept = [tag for tag in dict.fromkeys([*before.tags, *said.tags]) if tag not in said.untags]
    added = () if said.remark is None else (Remark(said.remark, said.time, said.user),)
    return Curated(
        name=before.name if said.name is None else said.name,
        tags=tuple(kept),
        notes=(*before.notes, *added),
        archived=before.archived if said.archived is None else said.archived,
    )
