"""All that may happen to a store, at once; and the storm sees what it is there to see."""

from __future__ import annotations

import pandas as pd
import pytest

from daskperiment.errors import StoreError
from tests.survival.processes import Nursery
from tests.survival.storm import PROGRAM, WORK, Storm, stores
from tests.survival.storm_roles import (
    Logbook,
    Told,
    check_rows,
    check_trials,
    define,
    kept_by,
    number_of,
)

ONE, OTHER = (f"tok{number:020x}" for number in (1, 2))


@pytest.fixture(scope="module")
def place():
    """Have processes at hand that have imported all."""
    made = Nursery(PROGRAM)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("kind", "seconds", "kills"), [("folder", 5, 8), ("redis", 2, 4), ("mongo", 2, 4)]
)
def test_storm(kind, seconds, kills, place, tmp_path):
    """Kills, a disk that fills, prune, copies and a deleted neighbour: 0 lost, mixed or doubled."""
    with stores(kind, tmp_path, megabytes=128) as (backend, weather):
        tally = Storm(backend, tmp_path / "told", weather, seed=11).run(place, seconds, kills)
        assert not tally.faults
        assert (tally.lost, tally.mixed, tally.doubled) == (0, 0, 0)
        assert tally.kills == kills
        assert tally.told
        assert tally.points >= 6 * tally.told
        assert set(WORK) <= set(tally.events)


def row(token: str, **changed: object) -> dict[str, object]:
    """Return a row of the history, as it should be but for what is changed."""
    number = number_of(token)
    right = {"token": token, "share": number % 3, "Status": "succeeded"}
    return right | {"Result": {"token": token, "number": number}} | changed


@pytest.mark.parametrize(
    "rows",
    [
        {1: row(ONE), 2: row(OTHER, Result=row(ONE)["Result"])},
        {1: row(ONE, share=7)},
        {1: row(ONE), 2: row(ONE)},
        {1: row(ONE, Status="lost")},
        {1: row(ONE, Status="failed"), 2: row(OTHER)},
        {1: row(OTHER)},
        {2: row(OTHER)},
        {1: row(ONE), 3: row(OTHER)},
    ],
)
def test_what_counts_as_a_fault_of_rows(rows):
    """A mixed, doubled, missing or wrongly ended trial, and a gap between ids, are faults."""
    told = Told({}, {}, {1: ONE})
    check_rows(pd.DataFrame({1: row(ONE), 2: row(OTHER, Status="lost")}).T, told)
    with pytest.raises(AssertionError):
        check_rows(pd.DataFrame(rows).T, told)


@pytest.mark.parametrize("wrong", ["point", "kept", "nothing"])
def test_what_counts_as_a_fault_of_trials(ex, monkeypatch, wrong):
    """A missing or strange point, and another trial's kept value, are faults."""

    def during(token):
        for epoch in range(6):
            strange = wrong == "point" and epoch == 4
            ex.save_metric("loss", epoch, number_of(token) + epoch + strange)

    result = define(ex, during)
    result.bind(token=ONE, share=number_of(ONE) % 3).compute(scheduler="synchronous")
    if wrong == "kept":
        monkeypatch.setattr("tests.survival.storm_roles.kept_by", lambda token: kept_by(OTHER))
    if wrong == "nothing":
        check_trials(ex, {1: ONE})
    else:
        with pytest.raises(AssertionError):
            check_trials(ex, {1: ONE})


def test_logbook(tmp_path):
    """Errors and warnings of a loss are faults; that all is full may be none."""
    logbook = Logbook(tmp_path)
    full = StoreError("No space is left on the device")
    for error, may_be_full in [
        (full, True),
        (full, False),
        (StoreError("x"), True),
        (KeyError(1), True),
    ]:
        with logbook.watched("something", may_be_full):
            raise error
    for text in ("It waits in memory until then", "It is lost, as do those that follow"):
        logbook._warned(text)
    assert [fault.split(" (")[0].split(": ")[1] for fault in logbook.faults()] == [
        "StoreError", "StoreError", "KeyError", "It is lost, as do those that follow",
    ]  # fmt: skip
    assert logbook.counts()["refused"] == logbook.counts()["waited"] == 1
    Logbook(tmp_path).tell("point 1 2", "trial 1 tok", "point 1 3", "stored 1 tok")
    assert logbook.told() == Told({1: {2, 3}}, {1: "tok"}, {1: "tok"})
