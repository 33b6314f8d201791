"""A record that stands in another trial than its own is seen, on every store."""

from __future__ import annotations

from typing import Any

import pytest

import daskperiment
from daskperiment.cli.checkup import examine
from daskperiment.codec import is_of
from daskperiment.compare import compare
from daskperiment.errors import StoreWarning
from daskperiment.history.trial_records import read_trials
from daskperiment.recording.checkpoint_records import kept_checkpoints
from daskperiment.records import STREAMS
from tests.shared.conftest import open_again


class Shifted:
    """A store in which the number of a trial changed beside a record."""

    def __init__(self, store: Any, stream: str, begins: str) -> None:
        self._store = store
        self._stream = stream
        self._begins = begins

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, stream: str, trials: Any = None, **kwargs: Any) -> list[Any]:
        found = []
        for one in self._store.read(stream, **kwargs):
            shifts = stream == self._stream and one.trial == 1 and one.id.startswith(self._begins)
            shifted = one._replace(trial=2) if shifts else one
            if trials is None or shifted.trial in trials:
                found.append(shifted)
        return found


@pytest.fixture
def store(place: Any) -> Any:
    """Make two trials, one of which failed, with computed parameters and metrics."""
    ex = daskperiment.Experiment("moved", backend=place.backend)
    n = ex.parameter("n", default=0)

    @ex.parameter
    def twice(n: int) -> int:
        return 2 * n

    @ex.persist(reuse=True)
    def part(n: int, twice: int) -> int:
        ex.save_metric("loss", 0, n)
        ex.checkpoint({"n": n}, 0)
        return n + twice

    @ex.result
    def last(part: int) -> float:
        return 1 / part

    s = last(part(n, twice))
    assert s.bind(n=1).compute() == 1 / 3
    with pytest.raises(ZeroDivisionError):
        s.compute()
    return open_again("moved", place.backend)._store


def test_every_record_says_of_which_trial_it_is(store: Any) -> None:
    """All records but first ones have their trial within, and `check` finds nothing."""
    for stream in STREAMS:
        for one in store.read(stream):
            assert is_of(one.body, one.trial), one
            assert (one.id == "begun") == (b'"of":"%010x"' % one.trial not in one.body), one
    assert examine(store).findings == []


@pytest.mark.parametrize(
    ("stream", "begins"),
    [("trials", "ended"), ("trials", "computed"), ("steps", "part"), ("points", "")],
)
def test_a_misplaced_record_is_left_out_and_told_of(store: Any, stream: str, begins: str) -> None:
    """It never becomes part of the other trial; questions warn, and `check` names it."""
    shifted: Any = Shifted(store, stream, begins)
    found = [str(one) for one in examine(shifted).findings]
    assert any("of another trial" in line for line in found), found
    if stream == "trials":
        with pytest.warns(StoreWarning, match="another trial than 2"):
            second = read_trials(shifted)[2]
        assert second.status == "failed"
        assert second.parameters == {"n": 0, "twice": 0}
    else:
        problems = compare(shifted, 1, 2).problems
        assert any("another trial than 2" in line for line in problems), problems


def test_a_misplaced_checkpoint_is_no_other_trials(store: Any) -> None:
    """Nothing goes on from a checkpoint of another trial."""
    own = kept_checkpoints(store, [2])[2, "part"]
    assert len(own) == 1
    assert len(kept_checkpoints(store)) == 2
    shifted: Any = Shifted(store, "notes", "checkpoint")
    assert kept_checkpoints(shifted, [2]) == {(2, "part"): own}


def test_a_copy_with_other_ids_says_so_within(store: Any, place: Any, tmp_path: Any) -> None:
    """Records that are copied to trials of other ids name those."""
    other = daskperiment.Experiment("moved", backend=tmp_path / "target")

    @other.result
    def one() -> int:
        return 1

    for _ in range(3):
        one().compute()
    daskperiment.copy("moved", place.backend, tmp_path / "target")
    copied = open_again("moved", tmp_path / "target")
    assert len(copied.get_history()) == 5
    assert examine(copied._store).findings == []
    assert all(is_of(each.body, each.trial) for s in STREAMS for each in copied._store.read(s))
    assert copied.load_metric("loss", 4)[4].tolist() == [1]
