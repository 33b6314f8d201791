"""Trials whose records fill outlines: their columns are made at once, and are no others."""

from __future__ import annotations

import random
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daskperiment.codec import encode
from daskperiment.errors import StoreWarning
from daskperiment.history import kept_columns, trial_columns
from daskperiment.history.trial_columns import (
    FoldedTrials,
    TrialColumns,
    fold_pages,
    fold_trials,
    settled,
)
from daskperiment.records import (
    Begun,
    Birthplace,
    Computed,
    Ended,
    Failure,
    Origin,
    computed_id,
    ended_id,
)
from daskperiment.store.file import FileStore
from daskperiment.store.opening import read_pages
from daskperiment.store.protocol import Record
from tests.history.lab import NOW

VALUES: tuple[Any, ...] = (
    1, 2.5, True, None, "a, b", '"]', "\\u0000", "", [1, [2, "x,]"]], {"f1": 0.5, "loss": [1, 2]},
    {"f1": 0.25, "loss": [3]}, 2**70, -0.0, "%b", {},
)  # fmt: skip


CHANGES = {
    "a digit": "SET body = replace(body, ',49,', ',48,') WHERE trial = 50 AND id = 'begun'",
    "another trial": "SET trial = 9000 WHERE trial = 50 AND id != 'begun'",
    "no value": "SET body = substr(body, 1, 40) WHERE trial = 50 AND id = 'begun'",
    "no text": "SET body = 7 WHERE trial = 50 AND id = 'begun'",
}


def write(store: FileStore, rng: random.Random, count: int, alike: bool = False) -> None:
    """Write trials of which many are alike, some at once and in any order."""
    running: list[int] = []
    ends: list[Record] = []
    for number in range(count):
        odd = not alike and rng.random() < 0.1
        pick = rng.choice(VALUES) if odd or (not alike and rng.random() < 0.3) else number / 3
        begun = Begun(
            token=f"token{number}", result="score" if not odd else "other", started=NOW + number,
            seed=number, parameters={"lr": pick, "depth": number % 4, "kind": "rbf"},
            code="c0de", environment="e0", graph="9a",
            origin=Origin("host", "boot", 7 + number // 50, 1.5, "user"),
            sweep=None if alike or rng.random() < 0.5 else f"sweep {number // 40}",
            source=number if odd else None,
            unreached=[] if alike or rng.random() < 0.8 else ["kind"],
            birthplace=Birthplace("file:///there", number) if odd else None,
        )  # fmt: skip
        running.append(store.allocate(begun.token, encode(begun)).trial)
        while len(running) > rng.choice((0, 3, 8)):
            trial = running.pop(rng.randrange(len(running)))
            status = rng.choice(("succeeded", "succeeded", "succeeded", "failed", "pruned"))
            twice = ("interrupted", "succeeded") if odd and trial % 3 == 0 else (status,)
            ends += [ended(trial, pick, one) for one in twice]
            if odd:
                body = encode(Computed("made", number), trial)
                ends.append(Record("trials", trial, computed_id("made"), body))
        if len(ends) > 30:
            store.append(ends)
            ends.clear()
    store.append(ends)


def ended(trial: int, value: Any, status: Any) -> Record:
    if status == "succeeded":
        record = Ended(status, NOW + trial, 1.0, "<class 'float'>", value)
    else:
        failure = Failure("ValueError", f"ValueError(no, not {value!r})", "Traceback", "fit")
        record = Ended(status, NOW + trial, 1.0, failure=failure)
    return Record("trials", trial, ended_id(status), encode(record, trial))


def shown(found: FoldedTrials) -> dict[str, Any]:
    """Everything that was folded, a list of texts for each column: a float is no integer."""
    table: TrialColumns = settled(found.parts)
    columns = {**table.fields, **{f"p {name}": one for name, one in table.parameters.items()}}
    return {
        "trials": table.trials.tolist(), "pending": found.pending, "last": found.last,
        "damaged": found.damaged,
        **{name: [*map(repr, one.to_list())] for name, one in sorted(columns.items())},
    }  # fmt: skip


def both(store: FileStore) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is folded of outlines, and what of each record by itself."""
    filled = fold_pages(store, read_pages(store, "trials", 1000), ())
    return shown(filled), shown(fold_trials(store, store.read("trials"), ()))


@pytest.mark.parametrize("seed", range(4))
def test_columns_are_those_of_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever stands in gaps, and whichever trials ended twice, each column is the same."""
    store = FileStore(tmp_path / "demo")
    write(store, random.Random(seed), 300)
    for waiting, at_once in ((20_000, 4_000), (50, 20), (1, 1)):
        monkeypatch.setattr(trial_columns, "_WAITING", waiting)
        monkeypatch.setattr(trial_columns, "_AT_ONCE", at_once)
        filled, plain = both(store)
        assert filled == plain
        assert len(filled["trials"]) > 250
    store.close()


@pytest.mark.parametrize("second", ["interrupted", "succeeded"])
def test_ends_that_fill_outlines_twice(tmp_path: Path, second: str) -> None:
    """Of trials with two ends that fill outlines that holds which outweighs, and each is told once.

    Those of which a record by itself tells more are told with that.
    """
    store = FileStore(tmp_path / "demo")
    write(store, random.Random(3), 120, alike=True)
    store.append([ended(trial, trial / 7, second) for trial in range(1, 121, 2)])
    for trial in (10, 20, 30):  # too few for an outline of their own
        body = encode(Computed("made", trial), trial)
        store.append([Record("trials", trial, computed_id("made"), body)])
    filled, plain = both(store)
    assert filled == plain
    assert {*range(1, 121, 2)} <= {*filled["trials"]}
    store.close()


@pytest.mark.parametrize("change", CHANGES)
def test_damage_among_records_that_are_alike(tmp_path: Path, change: str) -> None:
    """A row that changed is told of, and costs its own trial alone."""
    store = FileStore(tmp_path / "demo")
    write(store, random.Random(1), 120, alike=True)
    whole, _ = both(store)
    store.close()
    with closing(sqlite3.connect(tmp_path / "demo" / "records.sqlite")) as connection, connection:
        assert connection.execute(f"UPDATE trials {CHANGES[change]}").rowcount == 1
    with pytest.warns(StoreWarning):
        filled, plain = both(store)
    assert filled == plain
    assert filled["trials"] == [one for one in whole["trials"] if one != 50]
    store.close()


def test_records_of_one_other_trial(tmp_path: Path) -> None:
    """Many records that are alike and say that they are another trial's are no ends."""
    store = FileStore(tmp_path / "demo")
    write(store, random.Random(1), 120, alike=True)
    strays = [ended(7, trial / 7, "pruned")._replace(trial=trial) for trial in range(20, 100)]
    store.append(strays)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        filled, plain = both(store)
    assert filled == plain
    store.close()


def test_first_reader_decodes_few_records_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of trials that are alike a first reader makes no body and no object each, however many."""
    fold_piece, counts = trial_columns.fold_piece, []

    def counted(found: Any, piece: Any, *rest: Any) -> int:
        counts[-1] += len(piece)
        return fold_piece(found, piece, *rest)

    monkeypatch.setattr(trial_columns, "fold_piece", counted)
    for count in (150, 600):
        store = FileStore(tmp_path / f"demo{count}")
        write(store, random.Random(0), count, alike=True)
        counts.append(0)
        assert len(kept_columns.all_columns(store, running=True).trials) == count
        store.close()
    assert counts[1] <= counts[0] + 20 < 150
