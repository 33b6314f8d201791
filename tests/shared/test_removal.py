"""Trials that are deleted: their ids, their objects, and whoever still writes for them."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import pytest
from pandas.testing import assert_frame_equal

import daskperiment
from daskperiment import copying
from daskperiment.cli.checkup import examine
from daskperiment.codec import decode, encode
from daskperiment.errors import TrialIDNotFoundError, TrialReusedError
from daskperiment.history.kept_columns import keep, load_kept
from daskperiment.history.trial_columns import fold_trials
from daskperiment.recording.registry import recorder_for
from daskperiment.records import STREAMS, Begun, Removed
from daskperiment.store.opening import columns_folder, open_store
from daskperiment.store.protocol import Owner
from tests.shared.conftest import open_again

LARGE = 5_000
ON_A_FOLDER = pytest.mark.parametrize("place", ["folder"], indirect=True)


def define(ex):
    """A result of a step that is kept for reuse, of another one, and of an artifact."""
    p, q = ex.parameter("p"), ex.parameter("q", default=0)

    @ex.persist(reuse=True)
    def prepare(p):
        return np.full(LARGE, float(p))

    @ex.result
    def train(data, q):
        ex.save("all", data + 100)
        ex.save_metric("loss", 0, float(data[0]))
        return data.sum() + q

    return train(prepare(p), q)


@pytest.fixture
def ex(place):
    """An experiment of three trials, each with data of its own."""
    ex = daskperiment.Experiment("deleting", backend=place.backend)
    result = define(ex)
    for p in (1, 2, 3):
        result.bind(p=p).compute(scheduler="synchronous")
    return ex


def trials(ex):
    """The ids that a table lists."""
    return list(ex.get_history(running=True, archived=True).index)


def findings(place):
    """What a look over the store finds."""
    return [str(one) for one in examine(open_store(place.backend, "deleting")).findings]


def test_records_and_objects_go(ex, place):
    """A deleted trial is in no table, what only it used is gone, and all else is as it was."""
    before = set(place.objects("deleting"))
    kept = ex.load("all", 3)
    ex.delete_trials([2])
    assert trials(ex) == ex.get_trial_ids() == [1, 3]
    again = open_again("deleting", place.backend)
    assert trials(again) == [1, 3]
    assert len(before - set(place.objects("deleting"))) == 2  # its data and its artifact
    assert np.array_equal(again.load("all", 3), kept)
    assert again.get_persisted("prepare", 1)[0] == 1.0
    assert list(again.load_metric("loss", [1, 3]).columns) == [1, 3]
    assert findings(place) == []
    for question in (again.get_parameters, again.get_code, again.get_steps, again.get_metrics):
        with pytest.raises(TrialIDNotFoundError, match=r"Trial 2 was deleted by '.*' on 20"):
            question(2)


def test_copies_count_what_is_there(ex, place, tmp_path):
    """Of how many trials a copy tells are those of the history, and no deleted ones."""
    ex.delete_trials([2])
    copied = tmp_path / "copied"
    assert daskperiment.copy("deleting", place.backend, copied) == 2
    assert trials(open_again("deleting", copied)) == [1, 3]
    assert daskperiment.copy("deleting", place.backend, copied) == 2


def test_ids_are_never_given_out_again(ex, place):
    """The next trial has the next id, also where the latest or all trials were deleted."""
    ex.delete_trials(3)
    result = define(ex)
    result.bind(p=4).compute(scheduler="synchronous")
    assert trials(ex) == [1, 2, 4]
    ex.delete_trials([1, 2, 4])
    assert trials(ex) == []
    assert place.objects("deleting") == []
    again = open_again("deleting", place.backend)
    again_result = define(again)
    assert again_result.bind(p=1).compute(scheduler="synchronous") == LARGE
    assert trials(again) == [5]
    assert again.load("all", 5)[0] == 101.0
    assert findings(place) == []


@ON_A_FOLDER
def test_what_is_not_there_deletes_nothing(ex):
    """One trial that is not there, or was deleted before, keeps all others from being deleted."""
    ex.delete_trials(1)
    for odd in ([2, 9], [2, 1], [2, True], [2, "2"], []):
        with pytest.raises(TrialIDNotFoundError):
            ex.delete_trials(odd)
    assert trials(ex) == [2, 3]


@ON_A_FOLDER
def test_reused_trials_are_refused(ex, place):
    """A trial whose output another one reuses stays, and the message names both and the step."""
    result = define(ex)
    result.bind(p=1, q=5).compute(scheduler="synchronous", reuse=True)
    result.bind(p=1, q=6).compute(scheduler="synchronous", reuse=True)
    with pytest.raises(TrialReusedError, match=r"trial 1 is reused by trials 4, 5 .*'prepare'"):
        ex.delete_trials([1, 2])
    assert trials(ex) == [1, 2, 3, 4, 5]
    ex.delete_trials([1, 2], force=True)
    assert trials(ex) == [3, 4, 5]
    again = open_again("deleting", place.backend)
    assert again.get_persisted("prepare", 4)[0] == 1.0
    assert "prepare" in str(again.explain(4))
    assert len(again.get_steps(4)) == 2
    assert findings(place) == []
    again.delete_trials([4, 5])
    assert findings(place) == []


def test_metrics_of_what_is_reused_stay(place):
    """Points that came with a reused output are the reusing trials' own when their source goes."""
    ex = daskperiment.Experiment("deleting", backend=place.backend)
    p, q = ex.parameter("p", default=1), ex.parameter("q")

    @ex.persist(reuse=True)
    def prepare(p):
        for epoch in range(60):
            ex.save_metric("loss", epoch, [0.5, float("nan"), 2**70][epoch % 3])
        ex.save_metric("both", "first", np.float64(7))
        return p

    @ex.result
    def train(data, q):
        if q == 2:
            ex.save_metric("both", 0, q)
        return data + q

    result = train(prepare(p), q)
    for each in range(3):
        result.bind(q=each).compute(scheduler="synchronous", reuse=True)
    names = ["loss", "both"]
    before = {name: ex.load_metric(name, [2, 3]) for name in names}
    told = ex.get_history(metrics=True)
    ex.delete_trials(1, force=True)
    again = open_again("deleting", place.backend)
    for name in names:
        assert_frame_equal(again.load_metric(name, [2, 3]), before[name])
    assert_frame_equal(again.get_history(metrics=True), told.drop(1))
    assert again.get_metrics(2) == sorted(names)
    assert findings(place) == []


@ON_A_FOLDER
def test_those_that_reuse_may_go_with_it(ex):
    """A trial and all that reuse it can be deleted at once."""
    define(ex).bind(p=1, q=5).compute(scheduler="synchronous", reuse=True)
    ex.delete_trials([4, 1])
    assert trials(ex) == [2, 3]


@ON_A_FOLDER
def test_steps_run_again(ex):
    """What is known of a deleted trial's outputs is no hit any more."""
    result = define(ex)
    ex.delete_trials(1)
    for expected in ("run", "reused"):
        result.bind(p=1).compute(scheduler="synchronous", reuse=True)
        steps = ex.get_steps(ex.trial_id)
        reused = steps[steps["Step"] == "prepare"]["Reused From"].notna().all()
        assert reused == (expected == "reused")
    assert ex.get_persisted("prepare", 5)[0] == 1.0


LATE = """
import sys
import daskperiment
ex = daskperiment.Experiment("late", backend=sys.argv[1])

@ex.result
def wait(x):
    ex.save_metric("loss", 0, 1.0)
    print("runs", flush=True)
    sys.stdin.readline()
    ex.save_metric("loss", 1, 2.0)
    ex.save("later", list(range(1000)))
    return x

wait(7).compute(scheduler="synchronous")
ex.flush()
wait(8).compute(scheduler="synchronous")
print("ended", ex.trial_id, flush=True)
"""


def test_late_writers(place):
    """A trial that runs while it is deleted runs to its end, and is not recorded again."""
    address = str(place.backend)
    ex = daskperiment.Experiment("late", backend=place.backend)
    command = [sys.executable, "-W", "error", "-c", LATE, address]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "runs\n"
        ex.delete_trials(1)
        out, err = process.communicate("\n\n", timeout=60)
    assert process.returncode == 0, err
    assert (out.split()[-2:], err) == (["ended", "2"], "")
    assert trials(ex) == [2]
    store = open_store(place.backend, "late")
    for stream in STREAMS[1:]:
        assert {one.trial for one in store.read(stream)} <= {0, 2}, stream
    assert [one.id for one in store.read("trials", [1])] == ["removed"]
    assert ex.load_metric("loss", [2])[2].tolist() == [1.0, 2.0]


@ON_A_FOLDER
def test_journals_of_the_dead(ex, place):
    """What a journal holds of a deleted trial is delivered to nobody."""
    store = open_store(place.backend, "deleting")
    recorder = recorder_for(store)
    (begun,) = (one for one in store.read("trials", [2]) if one.id == "begun")
    owner = Owner(2, msgspec.json.decode(begun.body)["token"])
    ex.delete_trials(2)
    for number in (1, 2):
        recorder.write("notes", 2, "curated-1-x", Removed(0.0, "", ""), owner)
        recorder.write("outputs", 0, f"late{number}", Removed(0.0, "", ""), owner)
    recorder.flush()
    assert not [one for one in store.read("notes") if one.trial == 2]
    assert not store.find(["late1", "late2"])
    assert trials(ex) == [1, 3]


def test_kept_columns(ex, place, monkeypatch):
    """Columns that were kept before do not show a deleted trial, whoever kept them."""
    monkeypatch.setattr("daskperiment.history.kept_columns.WORTH", 1)
    store = open_store(place.backend, "deleting")
    assert trials(ex) == [1, 2, 3]
    folder = columns_folder(store)
    known = load_kept(folder)
    found = fold_trials(store, store.read("trials"), ())
    assert known is not None
    ex.delete_trials(2)
    assert not folder.exists()
    # Another process read the trials before, and keeps them now.
    keep(folder, None, found.parts, found.last, [])
    assert trials(ex) == [1, 3]
    assert trials(open_again("deleting", place.backend)) == [1, 3]


def test_copies_know_it(ex, place, tmp_path):
    """A copy has no deleted trial and keeps the others' ids; an older one brings none back."""
    older = tmp_path / "older"
    copying.copy("deleting", place.backend, older)
    ex.delete_trials([1, 3])
    target = tmp_path / "target"
    copying.copy("deleting", place.backend, target)
    there = daskperiment.Experiment("deleting", backend=target)
    assert trials(there) == [2]
    copying.copy("deleting", older, target)
    assert trials(there) == [2]
    assert [str(one) for one in examine(open_store(target, "deleting")).findings] == []
    copying.copy("deleting", older, place.backend)
    assert trials(ex) == [2]
    assert findings(place) == []
    define(there).bind(p=9).compute(scheduler="synchronous")
    assert trials(there) == [2, 4]
    # What a copy has it keeps, whatever is deleted where it came from.
    copying.copy("deleting", place.backend, older)
    assert trials(daskperiment.Experiment("deleting", backend=older)) == [1, 2, 3]


@ON_A_FOLDER
def test_objects_stay_that_a_process_remembers(ex, place):
    """What another process that goes on began trials with stays, for it puts it there no more."""
    store = open_store(place.backend, "deleting")
    (begun,) = (one for one in store.read("trials", [3]) if one.id == "begun")
    first = decode(begun.body, Begun)
    elsewhere = msgspec.structs.replace(first.origin, host="elsewhere")
    changes = {"token": "another", "code": "ab" * 16, "origin": elsewhere}
    store.put("ab" * 16, [b"x"])
    store.allocate("another", encode(msgspec.structs.replace(first, **changes)))
    ex.delete_trials(4)
    assert store.sizes(["ab" * 16])
    assert findings(place) == []


@ON_A_FOLDER
def test_a_step_saves_nothing_for_a_deleted_trial(ex):
    """Whoever names a deleted trial is told, and nothing is said of it."""
    ex.delete_trials(2)
    for say in (
        lambda: ex.save("x", 1, trial_id=2),
        lambda: ex.tag(2, "x"),
        lambda: ex.load("all", 2),
        lambda: ex.compare(1, 2),
        lambda: ex.load_metric("loss", [1, 2]),
    ):
        with pytest.raises(TrialIDNotFoundError, match="was deleted"):
            say()


@ON_A_FOLDER
@pytest.mark.parametrize("deleted", [1, 2, 3])
def test_the_page_forgets_it(ex, place, deleted):
    """A page that was open before lists and counts a deleted trial no more."""
    api = pytest.importorskip("daskperiment.dashboard.api")
    index = pytest.importorskip("daskperiment.dashboard.trial_index")
    store = open_store(place.backend, "deleting")
    shown, counter = index.TrialIndex(store), api.TrialCounter(store)
    shown.refresh()
    assert (list(shown.ids), counter.count()["trials"]) == ([1, 2, 3], 3)
    ex.delete_trials(deleted)
    shown.refresh()
    assert list(shown.ids) == trials(ex)
    assert counter.count()["trials"] == 2
