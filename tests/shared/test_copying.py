"""Moving an experiment between stores."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask import config

import daskperiment
from daskperiment.cli.checkup import examine
from daskperiment.errors import (
    ImpureStepWarning,
    StoreError,
    StoreUnavailableError,
    StoreWarning,
    UntrustedObjectError,
)
from daskperiment.history import read_trials
from daskperiment.recording.registry import close_recorders
from daskperiment.records import impure_step_id
from daskperiment.store.opening import open_store
from daskperiment.store.protocol import Record
from tests.shared.conftest import KINDS, open_again
from tests.shared.scenario import ID, VALUES, answers, define, perform, table

PAIRS = [*itertools.permutations(KINDS[:3], 2), ("folder", "mongo-set"), ("mongo-set", "redis")]
FEW = [10**400, {"$gt": 1, "a.b": {"": 0}}, {1, 2, 3}, "nul \0"]


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda kind: kind)
def test_copy(source, target, make_place):
    """A copied experiment answers every question as the original does, and can be continued."""
    old, new = make_place(source), make_place(target)
    perform(daskperiment.Experiment(ID, backend=old.backend), FEW)
    expected = answers(open_again(ID, old.backend))
    assert daskperiment.copy(ID, old.backend, new.backend) == len(FEW) + 2
    assert daskperiment.copy(ID, old.backend, new.backend) == len(FEW) + 2
    assert answers(open_again(ID, old.backend)) == expected
    ex = open_again(ID, new.backend)
    assert answers(ex) == expected
    define(ex).compute(seed=4)
    assert ex.trial_id == len(FEW) + 3


class CutOff:
    """A store that goes away after so many writes."""

    def __init__(self, store, writes):
        self._store = store
        self._writes = writes

    def __getattr__(self, name):
        return getattr(self._store, name)

    def allocate(self, token, body):
        self._count()
        return self._store.allocate(token, body)

    def append(self, records):
        self._count()
        return self._store.append(records)

    def put(self, digest, parts):
        self._count()
        self._store.put(digest, parts)

    def _count(self):
        if not self._writes:
            raise StoreUnavailableError("cut off")
        self._writes -= 1


@pytest.mark.parametrize("target", KINDS)
def test_cut_off(target, make_place, monkeypatch):
    """A copy that was cut off, again and again, is complete in the end and has nothing twice."""
    monkeypatch.setattr("daskperiment.copying.BATCH", 5)
    old, new = make_place("folder"), make_place(target)
    perform(daskperiment.Experiment(ID, backend=old.backend), FEW)
    expected = answers(open_again(ID, old.backend))
    done = cuts = 0
    while not done:
        store = CutOff(open_store(new.backend, ID), writes=cuts)
        try:
            done = daskperiment.copy(ID, old.backend, store)
        except StoreUnavailableError:
            cuts += 1
        store.close()
    assert cuts > 10
    assert answers(open_again(ID, new.backend)) == expected


def test_same_store(place):
    """An experiment is not copied onto itself."""
    with pytest.raises(ValueError, match="same store"):
        daskperiment.copy(ID, place.backend, place.backend)


def test_list_experiments(place):
    """The list of a place has a row for each experiment, with its trials."""
    assert len(daskperiment.list_experiments(place.backend)) == 0
    perform(daskperiment.Experiment("first", backend=place.backend), VALUES[:2])
    perform(daskperiment.Experiment("first_1", backend=place.backend), VALUES[:1])
    listed = daskperiment.list_experiments(place.backend)
    columns = ["Experiment", "Trials", "Succeeded", "Running"]
    assert listed[columns].values.tolist() == [["first", 4, 3, 0], ["first_1", 3, 2, 0]]


# Merging -----------------------------------------------------------------------------------------

STORES = KINDS[:3]
MERGED = ["Copied From", "n", "Result"]


def fill(backend: object, *numbers: int, reuse: bool = False) -> daskperiment.Experiment:
    """Record a trial for each number, as a process that has nothing in memory."""
    ex = open_again("merged", backend)
    result = squares(ex)
    for n in numbers:
        result.bind(n=n).compute(scheduler="synchronous", reuse=reuse)
    return ex


def squares(ex: daskperiment.Experiment) -> Any:
    n = ex.parameter("n", default=0)

    @ex.persist(reuse=True)
    def grid(n: int) -> Any:
        return np.full((50, 50), n)

    @ex
    def train(grid: Any) -> int:
        ex.save_metric("loss", 0, float(grid[0, 0]))
        return int(grid[0, 0])

    @ex.result
    def square(trained: int) -> int:
        return trained * trained

    return square(train(grid(n)))


def rows(backend: object) -> list[tuple[Any, ...]]:
    """Tell of each trial its origin, its number, its result and all that is kept of it."""
    ex = open_again("merged", backend)
    result = squares(ex)
    history = ex.get_history(verbose=True)
    found = []
    for trial, row in history.iterrows():
        loss = ex.load_metric("loss", trial)[trial].tolist()
        kept = int(ex.get_persisted("grid", trial)[0, 0])
        assert ex.get_code(trial).count("def square") == 1
        assert ex.compare(trial, trial) is not None
        assert (row["Result"], loss, kept) == (row["n"] ** 2, [row["n"]], row["n"])
        assert result.reproduce(trial).identical
        found.append((row.get("Copied From"), row["n"], row["Result"]))
    return found


def origins(backend: object, ids: Iterable[int], numbers: Iterable[int]) -> list[tuple[Any, ...]]:
    address = open_store(backend, "merged").address
    pairs = zip(ids, numbers, strict=True)
    return [(f"{address} trial {id}", n, n * n) for id, n in pairs]


@pytest.mark.parametrize("target", STORES)
def test_merge_of_several(target: str, make_place: Any) -> None:
    """Several sources of any kind come together under new ids, again and again, without doubles."""
    places = [make_place(kind).backend for kind in STORES]
    new = make_place(target).backend
    for count, place in enumerate(places):
        fill(place, *range(10 * count, 10 * count + 2))
    expected = []
    for n, place in enumerate(places):
        expected += origins(place, (1, 2), (10 * n, 10 * n + 1))
    for _ in range(2):
        assert daskperiment.copy("merged", places, new) == 6
    fill(places[0], 5)
    for _ in range(2):
        assert daskperiment.copy("merged", [*places, places[0]], new) == 7
    assert rows(new) == [*expected, *origins(places[0], (3,), (5,))]
    assert len(open_again("merged", new).get_history()) == 14, "each was reproduced there"


@pytest.mark.parametrize("target", STORES)
def test_merge_into_trials_of_its_own(target: str, make_place: Any) -> None:
    """Trials of the target stay as they are; cache entries that came along are hits there."""
    old, new = make_place("folder").backend, make_place(target).backend
    fill(old, 7, 7, 8, reuse=True)
    own = fill(new, 1)
    before = table(own.get_history().loc[[1]])
    assert daskperiment.copy("merged", old, new) == 4
    ex = open_again("merged", new)
    assert table(ex.get_history().loc[[1]]) == before
    steps = ex.get_steps().set_index(["Trial ID", "Step"])
    assert steps.loc[(3, "grid"), "Reused From"] == 2
    assert ex.load_metric("loss", [2, 3, 4]).iloc[0].tolist() == [7, 7, 8]
    assert ex.explain(3)["grid"].trial == 2
    squares(ex).bind(n=8).compute(scheduler="synchronous", reuse=True)
    assert ex.get_steps(5).set_index("Step").loc["grid", "Reused From"] == 4
    assert [one[1] for one in rows(new)] == [1, 7, 7, 8, 8]


def test_merge_of_merges(tmp_path: Path) -> None:
    """What comes by way of another store, or of a folder's files, is known, and where it began."""
    a, b, c, d = (tmp_path / name for name in "abcd")
    fill(a, 1, 2)
    fill(b, 3)
    daskperiment.copy("merged", a, b)
    close_recorders()
    shutil.copytree(a, d)  # as files, while nobody writes
    fill(d, 4)
    fill(a, 5)
    for sources in ([b], [a], [d, b, a], [c / ".." / "b", d]):
        count = daskperiment.copy("merged", sources, c)
    assert count == 5
    history = open_again("merged", c).get_history(verbose=True)
    address = {name: open_store(tmp_path / name, "merged").address for name in "abd"}
    assert history[["n", "Copied From"]].values.tolist() == [
        [3, f"{address['b']} trial 1"], [1, f"{address['a']} trial 1"],
        [2, f"{address['a']} trial 2"], [5, f"{address['a']} trial 3"],
        [4, f"{address['d']} trial 3"],
    ]  # fmt: skip
    assert daskperiment.copy("merged", c, a) == 5, "back again"
    assert open_again("merged", a).get_history()["n"].tolist() == [1, 2, 5, 3, 4]


@pytest.mark.parametrize("target", KINDS)
def test_merge_cut_off(target: str, make_place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that was cut off, again and again, is complete in the end and has nothing twice."""
    monkeypatch.setattr("daskperiment.copying.BATCH", 1)
    old, new = make_place("folder").backend, make_place(target).backend
    fill(old, 1, 2, reuse=True)
    fill(new, 9)
    done = cuts = 0
    while not done:
        store = CutOff(open_store(new, "merged"), writes=cuts)
        try:
            done = daskperiment.copy("merged", [old], store)
        except StoreUnavailableError:
            cuts += 1
        store.close()
    assert (done, cuts > 10) == (3, True)
    assert [one[1] for one in rows(new)] == [9, 1, 2]
    steps = open_again("merged", new).get_steps()
    assert steps["Trial ID"].isin([1, 2, 3]).sum() == 9


@pytest.mark.parametrize("target", KINDS)
def test_two_merges_at_once(target: str, make_place: Any) -> None:
    """Copies of two sources, and of one of them twice, at the same time give each trial once."""
    one, two, new = (make_place(kind).backend for kind in ("folder", "folder", target))
    fill(one, *range(4))
    fill(two, *range(10, 14))
    close_recorders()
    barrier = threading.Barrier(3)

    def run(source: object) -> None:
        barrier.wait()
        daskperiment.copy("merged", source, new)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, [one, two, one]))
    found = open_again("merged", new).get_history(verbose=True)
    expected = origins(one, range(1, 5), range(4)) + origins(two, range(1, 5), range(10, 14))
    assert sorted(found[MERGED].itertuples(index=False, name=None)) == sorted(expected)
    assert found.index.tolist() == list(range(1, 9))


@pytest.mark.parametrize("target", STORES)
def test_merge_of_running_trials(target: str, make_place: Any) -> None:
    """A trial that still ran when it was copied has its end after the next copy."""
    old, new = make_place("folder").backend, make_place(target).backend
    fill(new, 1)
    ex = open_again("merged", old)
    n = ex.parameter("n", default=2)
    statuses = []

    @ex.result
    def slow(n: int) -> int:
        daskperiment.copy("merged", old, new)
        there = daskperiment.Experiment("merged", backend=new)
        statuses.append(there.get_history(verbose=True, running=True).loc[2, "Status"])
        return 2 * n

    slow(n).compute(scheduler="synchronous")
    daskperiment.copy("merged", old, new)
    history = open_again("merged", new).get_history(verbose=True)
    assert statuses == ["running"]
    assert history["Status"].tolist() == ["succeeded"] * 2
    assert history.loc[2, ["n", "Result"]].tolist() == [2, 4]


def test_merged_references(tmp_path: Path) -> None:
    """What a trial says of other trials is true under their new ids; a sweep can be resumed."""
    old, new = tmp_path / "old", tmp_path / "new"
    fill(new, *range(20, 23))
    result = squares(fill(old, 1))
    result.reproduce(1)
    swept = result.sweep({"n": [4, 5]}, scheduler="synchronous")
    daskperiment.copy("merged", old, new)
    ex = open_again("merged", new)
    assert read_trials(ex._store)[5].begun.source == 4
    again = squares(ex).sweep({"n": [4, 5]}, resume=swept.attrs["sweep"], scheduler="synchronous")
    assert again.index.tolist() == [6, 7]
    assert ex.trial_id == 7


KEY = {"daskperiment.signing-key": "a secret of the tests"}


def test_merge_signs_anew(tmp_path: Path) -> None:
    """With the key, what was signed is signed for its new id; what was not is refused as before."""
    old, new = tmp_path / "old", tmp_path / "new"
    fill(old, 6)
    with config.set(KEY):
        fill(old, 7, 7, reuse=True)
        fill(new, 1)
        daskperiment.copy("merged", old, new)
        ex = open_again("merged", new)
        result = squares(ex)
        assert ex.get_persisted("grid", 3)[0, 0] == ex.get_persisted("grid", 4)[0, 0] == 7
        with pytest.raises(UntrustedObjectError, match="not signed"):
            ex.get_persisted("grid", 2)
        result.bind(n=7).compute(scheduler="synchronous", reuse=True)
        assert ex.get_steps(5).set_index("Step").loc["grid", "Reused From"] == 3
        assert result.reproduce(4, code="recorded").identical


def test_merge_without_the_key(tmp_path: Path) -> None:
    """Without the key, signatures that do not fit any more are told of, and refused where it is."""
    old, new = tmp_path / "old", tmp_path / "new"
    with config.set(KEY):
        fill(old, 7)
    fill(new, 1)
    with pytest.warns(StoreWarning, match=r"\d records were signed .*signing-key set"):
        daskperiment.copy("merged", old, new)
    with config.set(KEY), pytest.raises(UntrustedObjectError, match="does not fit"):
        open_again("merged", new).get_persisted("grid", 2)


def depends_on(backend: object, reads: Path | None = None, reuse: bool = False) -> None:
    """Record a trial whose step returns the time of day, or what a file says."""
    ex = open_again("merged", backend)

    @ex.persist(reuse=True)
    def look() -> Any:
        return time.time_ns() if reads is None else reads.read_text()

    @ex.result
    def told(seen: Any) -> Any:
        return seen

    told(look()).compute(scheduler="synchronous", reuse=reuse)


@pytest.mark.parametrize("target", STORES)
def test_merged_stores_disagree(target: str, make_place: Any) -> None:
    """A step that returned something else in each store, for no known reason, is told of once.

    From then on neither output is reused there.
    """
    old, new = make_place("folder").backend, make_place(target).backend
    depends_on(old)
    depends_on(new)
    with pytest.warns(ImpureStepWarning, match=r"'look' in trial 2 \(as copied\) and 1.*inputs"):
        daskperiment.copy("merged", old, new)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        daskperiment.copy("merged", old, new)
    store = open_store(new, "merged")
    assert [one.id for one in store.read("notes", [2])] == [impure_step_id("look")]
    store.close()
    with pytest.warns(ImpureStepWarning):  # it runs, and so returns something else once more
        depends_on(new, reuse=True)
    results = open_again("merged", new).get_history()["Result"].tolist()
    assert len(set(results)) == len(results) == 3


def test_merged_stores_agree(tmp_path: Path) -> None:
    """Equal outputs are no matter, nor are those of files that differ as the records tell."""
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "sky"
    file.write_text("sun")
    depends_on(old, file)
    depends_on(new, file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        daskperiment.copy("merged", old, new)
    assert open_again("merged", new).get_history()["Result"].tolist() == ["sun", "sun"]


class Emptied(CutOff):
    """A store that somebody deletes in the middle of a copy, and that others use again."""

    def _count(self):
        self._writes -= 1
        if not self._writes:
            self._store.delete()
            self._store.allocate("stranger", b'{"token":"stranger"}')


@pytest.mark.parametrize("target", STORES)
@pytest.mark.parametrize("after", [3, 6, 8])
def test_target_deleted_meanwhile(target: str, after: int, make_place: Any) -> None:
    """No record of the source joins a stranger's trial that got an id of the copy."""
    old, new = make_place("folder").backend, make_place(target).backend
    fill(old, 1, 2)
    store = Emptied(open_store(new, "merged"), after)
    with suppress(StoreError):
        daskperiment.copy("merged", old, store)
    for stream in ("trials", "steps", "points", "notes"):
        joined = [one.id for one in store.read(stream, [1]) if one.id != "begun"]
        assert joined == [], stream
    store.close()


def test_no_source(tmp_path: Path) -> None:
    """No source is an error that says what to give."""
    with pytest.raises(ValueError, match="no source; expected a backend"):
        daskperiment.copy("merged", [], tmp_path)


# Damage ------------------------------------------------------------------------------------------


def damage(store: Any, stream: str, trial: int, id: str) -> None:
    """Change a byte of a record, as its store keeps it."""
    (one,) = [each for each in store.read(stream, [trial]) if each.id.startswith(id)]
    store.set_aside(stream, one)
    at = one.body.index(b":") + 1  # a byte of what it says, so that its checksum does not fit
    changed = one.body[: at + 1] + bytes([one.body[at + 1] ^ 1]) + one.body[at + 2 :]
    store.append([Record(stream, trial, one.id, changed)])


@pytest.mark.parametrize("kind", STORES)
def test_damaged_records_are_left_behind(kind: str, make_place: Any) -> None:
    """A copy names what is damaged and leaves it behind; trials keep their ids and outcomes."""
    old, new = make_place(kind).backend, make_place(kind).backend
    fill(old, *range(5))
    close_recorders()
    store = open_store(old, "merged")
    for stream, trial, id in [("trials", 2, "begun"), ("steps", 3, "train"), ("points", 4, ""),
                              ("trials", 5, "ended")]:  # fmt: skip
        damage(store, stream, trial, id)
    for _ in range(2):
        with pytest.warns(StoreWarning, match=r"3 damaged records of .* left behind: "
                                              r"'begun' of trial 2 in 'trials'"):  # fmt: skip
            assert daskperiment.copy("merged", old, new) == 5
    copied = open_store(new, "merged")
    found = examine(copied).findings
    assert [one.place for one in found] == ["record 'ended-succeeded' of trial 5 in 'trials'"]
    with pytest.warns(StoreWarning, match="Damaged records are left out"):
        history = open_again("merged", new).get_history(verbose=True)
    assert history["n"].to_dict() == {1: 0, 3: 2, 4: 3, 5: 4}
    assert history["Status"].tolist() == ["succeeded"] * 4
    assert sorted({one.trial for one in copied.read("steps")}) == [1, 2, 3, 4, 5]
    assert len(list(copied.read("steps", [3]))) == 2
    copied.close()
    store.close()


def test_a_damaged_end_stays_damaged_under_a_new_id(tmp_path: Path) -> None:
    """An end of which a byte changed is no sound one after a merge: what it says is unknown."""
    old, new = tmp_path / "old", tmp_path / "new"
    fill(new, 9)
    fill(old, 1)
    close_recorders()
    store = open_store(old, "merged")
    damage(store, "trials", 1, "ended")
    daskperiment.copy("merged", old, new)
    copied = open_store(new, "merged")
    (finding,) = examine(copied).findings
    assert finding.place == "record 'ended-succeeded' of trial 2 in 'trials'"
    with pytest.warns(StoreWarning, match="Damaged records are left out"):
        history = open_again("merged", new).get_history(verbose=True)
    assert history["Status"].tolist() == ["succeeded"] * 2
    assert history["Result"].isna().tolist() == [False, True]
    copied.close()
    store.close()


@pytest.mark.parametrize("target", STORES)
def test_ids_without_trials_are_left_out(target: str, make_place: Any) -> None:
    """Where the source has no trial of an id any more, those behind it keep theirs all the same."""
    old, new = make_place("folder").backend, make_place(target).backend
    fill(old, *range(4))
    close_recorders()
    store = open_store(old, "merged")
    for trial in (1, 3):
        begun = next(one for one in store.read("trials", [trial]) if one.id == "begun")
        store.set_aside("trials", begun)
    for _ in range(2):
        assert daskperiment.copy("merged", old, new) == 4
    ex = open_again("merged", new)
    assert ex.get_history()["n"].to_dict() == {2: 1, 4: 3}
    assert "Copied From" not in ex.get_history(verbose=True)
    store.close()
