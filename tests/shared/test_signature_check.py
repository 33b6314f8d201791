"""With a signing key, ``daskperiment check`` finds what was changed, swapped or removed."""

from __future__ import annotations

from typing import Any

import dask
import msgspec
import pytest

import daskperiment
from daskperiment.cli.checkup import examine
from daskperiment.cli.signature_check import SignatureCheck
from daskperiment.codec import decode, encode, placed, signed
from daskperiment.errors import StoreWarning
from daskperiment.history.steps import get_steps
from daskperiment.records import Begun, Computed, Ended, StepRun
from daskperiment.store.protocol import Record
from daskperiment.vouching import vouched
from tests.shared.conftest import open_again
from tests.shared.losses import emptied

KEY = b"a secret of the tests"
_SET = {"daskperiment.signing-key": KEY.decode()}
TRIALS = 5


class Tampered:
    """A store whose records somebody changed, who can make checksums and no signatures."""

    def __init__(self, store: Any, edit: Any) -> None:
        self._store = store
        self._edit = edit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, stream: str, *args: Any, **kwargs: Any) -> list[Any]:
        found = (self._edit(stream, one) for one in self._store.read(stream, *args, **kwargs))
        return [one for one in found if one is not None]


def define(ex: daskperiment.Experiment) -> Any:
    n = ex.parameter("n", default=1)

    @ex.parameter
    def twice(n: int) -> int:
        return 2 * n

    @ex.persist(reuse=True)
    def first(n: int) -> int:
        return n + 1

    @ex.persist
    def second(a: int, twice: int) -> int:
        for epoch in range(4):
            ex.save_metric("loss", epoch, a / 3 + epoch)
        ex.save_metric("odd", float("nan"), 2**60)
        ex.save("table", [a, twice])
        print("second", a)
        return a + twice

    @ex.result
    def last(b: int) -> int:
        print("last", b)
        ex.save("model", {"b": b})
        if b < 0:
            raise ValueError(b)
        return b

    return last(second(first(n), twice))


def filled(backend: Any, third: str) -> Any:
    """Make trials of all kinds with a key: run, reused, on threads and perhaps processes, failed.

    Return the store, as a later process opens it.
    """
    ex = daskperiment.Experiment("checked", backend=backend)
    s = define(ex)
    s.compute(scheduler="synchronous")
    s.compute(scheduler="threads")
    s.bind(n=5).compute(scheduler=third)
    with pytest.raises(ValueError, match="-"):
        s.bind(n=-5).compute(scheduler="synchronous")
    s.bind(n=7).compute(scheduler="synchronous", reuse=False)
    ex.tag([1, 2], "kept")
    ex.note(2, "a note")
    ex.tag(3, "good")
    ex = open_again("checked", backend)
    assert ex.get_steps(2)["Reused From"].notna().any()
    return ex._store


@pytest.fixture
def store(tmp_path: Any) -> Any:
    """Make trials in a folder: what is changed here is changed above the stores."""
    with dask.config.set(_SET):
        yield filled(tmp_path / "store", "threads")


@pytest.fixture
def everywhere(place: Any) -> Any:
    """Make trials in a store of each kind."""
    with dask.config.set(_SET):
        yield filled(place.backend, "processes")


def found(store: Any, edit: Any = lambda stream, one: one, key: bytes = KEY) -> list[str]:
    """Check a store in which somebody changed records."""
    check = SignatureCheck(Tampered(store, edit), key, lambda: False)
    return [f"{one.place}: {one.what}" for one in check.run()]


def body(one: Any, type_: Any, **changes: Any) -> Any:
    """Return a stored record with other content."""
    return one._replace(body=encode(msgspec.structs.replace(decode(one.body, type_), **changes)))


def is_end(one: Any, trial: int) -> bool:
    return one.trial == trial and one.id.startswith("ended")


def test_what_nobody_touched_has_no_finding(everywhere: Any) -> None:
    """No way to run a trial leaves a record that looks changed or removed."""
    assert found(everywhere) == []
    assert [str(one) for one in examine(everywhere).findings] == []
    with dask.config.set({"daskperiment.signing-key": None}):
        assert examine(everywhere).findings == []


EDITS = {
    "a result": (lambda one: is_end(one, 1), Ended, {"value": 99}),
    "a status": (lambda one: is_end(one, 4), Ended, {"status": "succeeded", "value": 1}),
    "a duration": (lambda one: is_end(one, 3), Ended, {"elapsed": 0.001}),
    "a computed parameter": (lambda one: one.id.startswith("computed"), Computed, {"value": 0}),
    "an output": (lambda one: one.id.startswith("second"), StepRun, {"output": "0" * 32}),
    "a seed": (lambda one: one.id.startswith("last"), StepRun, {"seed": 1}),
    "a number": (lambda one: one.id.startswith("last"), StepRun, {"serial": "me:1"}),
}  # fmt: skip


@pytest.mark.parametrize("strips", [False, True], ids=["keeps", "strips"])
def test_an_edited_record_is_found(store: Any, strips: bool) -> None:
    """Whatever is edited, and whether its signature stays or goes, the record is named."""
    for changed, (chooses, type_, changes) in EDITS.items():
        made = {**changes, "signature": None} if strips else changes

        def edit(stream: str, one: Any, parts: Any = (chooses, type_, made)) -> Any:
            choose, kind, new = parts
            wanted = stream in ("trials", "steps") and one.id != "begun" and choose(one)
            return body(one, kind, **new) if wanted else one

        lines = found(store, edit)
        assert lines, changed
        assert all("record" in line or "missing" in line for line in lines), lines
        told = "not signed" if strips else "does not fit"
        assert any(told in line for line in lines), lines


def test_an_edited_beginning_is_found(store: Any) -> None:
    """A trial whose parameters were edited is not signed any more."""

    def edit(stream: str, one: Any) -> Any:
        wanted = one.id == "begun" and one.trial == 3
        return body(one, Begun, parameters={"n": 6}) if wanted else one

    assert [line.partition(":")[0] for line in found(store, edit)] == ["trials 3"]


def test_swapped_records_are_found(store: Any) -> None:
    """Two ends, or two step runs, that changed places are found, though checksums were mended."""
    ends = {one.trial: one for one in store.read("trials") if one.id.startswith("ended-succ")}
    runs = {(one.trial, one.id.partition("-")[0]): one for one in store.read("steps")}

    def ends_swapped(stream: str, one: Any) -> Any:
        other = {1: 3, 3: 1}.get(one.trial)
        swaps = stream == "trials" and one.id.startswith("ended") and other
        return one._replace(body=placed(ends[other].body, one.trial)) if swaps else one

    def runs_swapped(stream: str, one: Any) -> Any:
        other = {1: 3, 3: 1}.get(one.trial)
        name = one.id.partition("-")[0]
        swaps = stream == "steps" and name == "second" and other
        return one._replace(body=placed(runs[other, name].body, one.trial)) if swaps else one

    for edit in (ends_swapped, runs_swapped):
        lines = found(store, edit)
        for trial in (1, 3):
            assert any(f"trial {trial}" in line and "does not fit" in line for line in lines), lines


def test_a_removed_step_run_is_found(store: Any) -> None:
    """One run that is gone, the first or last or a reused one, is told of with its trial."""
    for trial in range(1, TRIALS + 1):
        for name in ("first", "second", "last"):

            def edit(stream: str, one: Any, of: Any = (trial, name)) -> Any:
                gone = stream == "steps" and one.trial == of[0] and one.id.startswith(of[1])
                return None if gone else one

            lines = found(store, edit)
            assert lines, (trial, name)
            assert all(line.startswith(f"trial {trial}:") for line in lines), lines


def test_a_doubled_step_run_is_found(store: Any) -> None:
    """A run that stands there once more under another id is told of, and shown once."""
    one = next(iter(store.read("steps", [1])))
    store.append([Record("steps", 1, f"{one.id}0", one.body)])
    (line,) = found(store)
    assert "stands there twice" in line
    with pytest.warns(StoreWarning, match="stands there twice"):
        steps = get_steps(vouched(store), 1)
    assert sorted(steps["Key"]) == ["first", "last", "second"]


def test_removed_trials_are_found(store: Any) -> None:
    """A trial of which nothing is left, and one without step runs, are told of."""
    assert (
        "trials 2: they have no first record"
        in found(store, lambda stream, one: None if one.trial == 2 else one)[0]
    )
    lines = found(store, lambda stream, one: None if stream == "steps" and one.trial == 5 else one)
    assert any(line.startswith("trial 5: 3 step runs that") for line in lines), lines


def test_a_forged_end_is_found(store: Any) -> None:
    """An end that somebody adds, in whose name ever, has no signature that fits."""
    end = encode(Ended("succeeded", 1.0, 1.0, "<class 'int'>", 5))

    class Forged(Tampered):
        def read(self, stream: str, *args: Any, **kwargs: Any) -> list[Any]:
            records = super().read(stream, *args, **kwargs)
            last = records[-1] if records else None
            more = [last._replace(trial=4, id="ended-succeeded", body=end)] if last else []
            return records + more if stream == "trials" else records

    check = SignatureCheck(Forged(store, lambda stream, one: one), KEY, lambda: False)
    lines = [f"{one.place}: {one.what}" for one in check.run()]
    assert "record 'ended-succeeded' of trial 4 in 'trials': it is not signed" in lines[0]


def test_another_key_is_told_of_in_one_line(store: Any) -> None:
    """With a key that is not that of the trials, all are named, and no record one by one."""
    assert found(store, key=b"another") == []  # none of them is signed with it
    begun = next(one for one in store.read("trials") if one.id == "begun" and one.trial == 1)
    mine = encode(signed(decode(begun.body, Begun), b"another", store.address))

    def edit(stream: str, one: Any) -> Any:
        first = one.id == "begun" and one.trial == 1
        return one._replace(body=mine) if first else one

    lines = found(store, edit, b"another")
    assert any(line.startswith("trials 2, 3, 4, 5: not signed") for line in lines)


def test_trials_of_earlier_versions_are_not_told_of(store: Any) -> None:
    """Where only first records and step runs were signed, and none numbered, nothing is missing."""

    def edit(stream: str, one: Any) -> Any:
        if one.id == "begun":
            old = msgspec.structs.replace(decode(one.body, Begun), numbered=False)
            return one._replace(body=encode(signed(old, KEY, store.address)))
        if stream == "trials":
            type_ = Ended if one.id.startswith("ended") else Computed
            return body(one, type_, serial=None, signature=None)
        if stream == "steps":
            old_run = msgspec.structs.replace(decode(one.body, StepRun), serial=None)
            return one._replace(body=encode(signed(old_run, KEY, store.address, one.trial)))
        return one

    assert found(store, edit) == []


def test_a_copy_is_as_whole_as_the_original(store: Any, tmp_path: Any) -> None:
    """Numbers and signatures hold in a copy, and in one that merges two stores."""
    daskperiment.copy("checked", tmp_path / "store", tmp_path / "copy")
    copied = daskperiment.Experiment("checked", backend=tmp_path / "copy")
    assert found(copied._store) == []
    other = daskperiment.Experiment("checked", backend=tmp_path / "other")
    define(other).compute(scheduler="synchronous")
    daskperiment.copy("checked", [tmp_path / "other", tmp_path / "store"], tmp_path / "merged")
    merged = open_again("checked", tmp_path / "merged")
    assert len(merged.get_history()) == TRIALS + 1
    assert found(merged._store) == []


@pytest.mark.filterwarnings(
    "ignore:.*it lacks what was written here:daskperiment.errors.StoreWarning"
)
def test_a_trial_that_was_begun_again(place: Any) -> None:
    """What a process writes again after a loss is signed for the id that it has now."""
    with dask.config.set(_SET):
        ex = daskperiment.Experiment("gone", backend=place.backend)
        s = define(ex)
        for n in (1, 2, 3):
            s.bind(n=n).compute(scheduler="synchronous")
        emptied(place, "gone")
        s.bind(n=4).compute(scheduler="synchronous")
        ex = open_again("gone", place.backend)
        assert ex.get_history()["n"].tolist() == [4, 1, 2, 3]
        assert found(ex._store) == []
        assert examine(ex._store).findings == []
        assert ex.get_persisted("second", 2) == 4
        define(ex).bind(n=2).compute(scheduler="synchronous")
        assert ex.get_steps(5).set_index("Step")["Reused From"]["first"] == 3


@pytest.mark.parametrize("left", [3, 0])
def test_the_latest_trials_that_are_gone_are_found(place: Any, left: int) -> None:
    """What this machine saw tells of trials that were removed from the end, ids included."""
    with dask.config.set(_SET):
        ex = daskperiment.Experiment("trailing", backend=place.backend)
        s = define(ex)
        for n in range(1, 6):
            s.bind(n=n).compute(scheduler="synchronous")
        ex = open_again("trailing", place.backend)
        assert found(ex._store) == []

        def cut(stream: str, one: Any) -> Any:
            return one if one.trial <= left else None

        class Cut(Tampered):
            def state(self, known: Any = None) -> Any:
                return self._store.state(known)._replace(latest=left)

        check = SignatureCheck(Cut(ex._store, cut), KEY, lambda: False)
        lines = [f"{one.place}: {one.what}" for one in check.run()]
        assert len(lines) == 1
        assert "saw trial 5" in lines[0]
        ex.delete_trials(5)
        assert found(ex._store) == []  # it was deleted by who has the key
        ex.delete()
        assert found(ex._store) == []


def test_the_latest_notes_that_are_gone_are_found(place: Any) -> None:
    """What this machine saw tells of tags and artifacts that were removed from the end."""
    with dask.config.set(_SET):
        ex = daskperiment.Experiment("noted", backend=place.backend)
        s = define(ex)
        for n in (1, 2):
            s.bind(n=n).compute(scheduler="synchronous")
        ex = open_again("noted", place.backend)
        ex.tag([1, 2], "last")  # in another process, long after the trials ended
        ex.save("late", [1], trial_id=2)
        ex = open_again("noted", place.backend)
        assert found(ex._store) == []
        for name, trials in (("curated", {1, 2}), ("artifact-late", {2})):

            def cut(stream: str, one: Any, name: str = name) -> Any:
                return None if stream == "notes" and one.id.startswith(name) else one

            lines = found(ex._store, cut)
            assert {int(line[6]) for line in lines if "notes that" in line} == trials, lines
        ex.delete_trials(2)
        ex = open_again("noted", place.backend)
        assert found(ex._store) == []
