"""A store loses trials while processes go on: no row mixes two, and nothing is lost in silence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import daskperiment
from daskperiment.cli import cli
from daskperiment.cli.checkup import examine
from daskperiment.errors import (
    CodeChangedWarning,
    StoreError,
    StoreUnavailableError,
    StoreWarning,
)
from daskperiment.history import read_trials
from daskperiment.recording.registry import close_recorders, recorder_for
from daskperiment.store.redis.store import RedisStore
from tests.helpers.folders import remove_folder
from tests.shared.conftest import open_again
from tests.shared.losses import (
    LOSSES,
    check_rows,
    deleted,
    emptied,
    experiment,
    only,
    restorer,
    stranger,
    told,
)


@pytest.fixture(autouse=True)
def no_ticks(monkeypatch):
    """Nothing is noticed by the background thread: each test says when."""
    monkeypatch.setattr("daskperiment.recording.heartbeat.TICK", 3600)


@pytest.mark.parametrize("loss", LOSSES)
def test_late_records_make_a_row_of_their_own(place, loss):
    """What a trial writes after the store lost it does not join the trial that got its id."""

    def during(n):
        if n == 111:
            loss(place, "gone")
            stranger(place)

    ex, result = experiment(place, during)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert result.bind(n=111).compute() == "ours of 111"
        ex.flush()
    check_rows(ex, [-1, 111])
    assert "1 (now 2)" in only(told(caught, "of trials"))
    check_rows(open_again("gone", place.backend), [-1, 111])


def test_idle_process_notices(place):
    """The next trial of a process whose store was emptied says so, and is whole."""
    _, result = experiment(place, lambda n: None)
    result.bind(n=1).compute()
    emptied(place, "gone")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert result.bind(n=2).compute() == "ours of 2"
    text = only(told(caught))
    assert "was emptied or made anew" in text
    assert "1 (now 2)" in text
    check_rows(open_again("gone", place.backend), [2, 1])


def test_deleted_means_deleted(place):
    """What had ended when somebody deleted the experiment does not come back, value nor record."""
    _, result = experiment(place, lambda n: None)
    for n in (1, 2):
        result.bind(n=n).compute()
    deleted(place, "gone")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert result.bind(n=3).compute() == "ours of 3"
        stranger(place)
        assert result.bind(n=4).compute() == "ours of 4"
    text = only([str(one.message) for one in caught if "deleted by somebody" in str(one.message)])
    assert "again" not in text
    assert told(caught) == []
    again = open_again("gone", place.backend)
    check_rows(again, [3, -1, 4])
    # The stranger's trial names no code, and nothing of ours is there that no record names.
    assert {one.place for one in examine(again._store).findings} == {"object "}


def test_deleted_while_a_trial_runs(place):
    """Of a deleted experiment only the trial that runs comes back, whole, as a row that says so."""

    def during(n):
        if n == 3:
            ex.flush()
            deleted(place, "gone")
            stranger(place)

    ex, result = experiment(place, during)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in (1, 2, 3):
            result.bind(n=n).compute()
        ex.flush()
    text = only([str(one.message) for one in caught if "deleted by somebody" in str(one.message)])
    assert "What was still recorded was written again, of trials 3 (now 2)" in text
    again = open_again("gone", place.backend)
    check_rows(again, [-1, 3])
    assert read_trials(again._store)[2].begun.was == 3


def test_deleted_after_a_loss(place):
    """What is deleted on purpose, after it was lost by other means, is told of as a deletion."""
    _, result = experiment(place, lambda n: None)
    result.bind(n=1).compute()
    if place.kind == "folder":
        remove_folder(place.backend / "gone")
    else:
        emptied(place, "gone")
    deleted(place, "gone")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert result.bind(n=2).compute() == "ours of 2"
    only([str(one.message) for one in caught if "deleted by somebody" in str(one.message)])
    assert told(caught) == []
    check_rows(open_again("gone", place.backend), [2])


_COLLEAGUE = (
    "import sys; from daskperiment.store.opening import open_store; from pathlib import Path\n"
    "open_store(Path(sys.argv[1]), 'gone').delete()\n"
)


@pytest.mark.parametrize("state", ["forked", "resting", "both"])
def test_deleted_while_a_folder_is_closed(make_place, state):
    """A process that let go of a folder's files, for a fork or idle, knows it was deleted too."""
    place = make_place("folder")
    ex, result = experiment(place, lambda n: None)
    result.bind(n=1).compute()
    texts = []
    for n in (2, 3):
        ex.flush()
        if state != "resting":
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)
        if state != "forked":
            recorder_for(ex._store).rest()
        subprocess.run([sys.executable, "-c", _COLLEAGUE, place.backend], check=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result.bind(n=n).compute()
        texts.append(
            only([str(one.message) for one in caught if "by somebody" in str(one.message)])
        )
        assert told(caught) == []
        check_rows(ex, [n])
    assert not any("again" in text for text in texts)


@pytest.mark.parametrize("brought", [False, True])
def test_older_deletions_mean_nothing(make_place, brought):
    """A backup that brings the name of an older deletion along, or none, is a loss as ever."""
    place = make_place("folder")
    ex, result = experiment(place, lambda n: None)
    result.bind(n=1).compute()
    subprocess.run([sys.executable, "-c", _COLLEAGUE, place.backend], check=True)
    with pytest.warns(StoreWarning, match="by somebody"):
        result.bind(n=2).compute()
    emptied(place, "gone")
    if brought:
        (place.backend / ".deleted").mkdir(parents=True)
        (place.backend / ".deleted" / "gone").write_text(f"{1:020}-{'0' * 32}")
    with pytest.warns(StoreWarning, match="it lacks what was written here"):
        result.bind(n=3).compute()
    assert set(ex.get_history()["n"]) == {2, 3}


def test_ended_while_the_store_was_away(make_place, monkeypatch):
    """A trial whose end nobody could know of when all was deleted comes back as well."""
    place = make_place("redis")
    ex, result = experiment(place, lambda n: None)
    result.bind(n=1).compute()

    def during(n):
        for name in ("append", "put"):
            monkeypatch.setattr(RedisStore, name, refuse)

    def refuse(*_):
        raise StoreError("it is full for a moment")

    ex, result = experiment(place, during)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result.bind(n=2).compute()
        monkeypatch.undo()
        deleted(place, "gone")
        ex.flush()
    check_rows(open_again("gone", place.backend), [2])


@pytest.mark.parametrize("kind", ["redis", "mongo"])
def test_lost_after_it_was_away(kind, make_place, monkeypatch):
    """What waited while a server was away, and what it had before, is there after it loses both."""
    place = make_place(kind)
    ex = daskperiment.Experiment("gone", backend=place.backend)
    n = ex.parameter("n", default=0)

    @ex.persist
    def keep(n):
        if n == 2:
            for name in ("append", "put", "state"):
                monkeypatch.setattr(type(ex._store), name, away)
        return np.arange(500) + n

    def away(*_):
        raise StoreUnavailableError("it is away for a moment")

    @ex.result
    def before(kept):
        return int(kept[0])

    @ex.result
    def after(kept):
        return int(kept[0])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert before(keep(n)).bind(n=1).compute() == 1
        assert before(keep(n)).bind(n=2).compute() == 2
        monkeypatch.undo()
        monkeypatch.setattr("daskperiment.recording.heartbeat.TICK", 3600)
        ex.flush()
        emptied(place, "gone")
        assert after(keep(n)).bind(n=3).compute() == 3
    again = open_again("gone", place.backend)
    history = again.get_history()
    assert history["n"].tolist() == [3, 1, 2]
    for trial, number in history["n"].items():
        assert again.get_persisted("keep", trial)[0] == number
        assert "def before" in again.get_code(trial) or number == 3
    assert examine(again._store).findings == []


def test_deleted_twice(place):
    """Each deletion counts by itself, and so does a loss after it."""
    _, result = experiment(place, lambda n: None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result.bind(n=1).compute()
        for n in (2, 3):
            deleted(place, "gone")
            result.bind(n=n).compute()
        emptied(place, "gone")
        result.bind(n=4).compute()
    texts = [str(one.message) for one in caught if issubclass(one.category, StoreWarning)]
    assert ["deleted by somebody" in text for text in texts] == [True, True, False]
    assert sorted(open_again("gone", place.backend).get_history()["n"]) == [3, 4]


@pytest.mark.parametrize("drop", [False, True])
def test_backup_is_restored(place, drop):
    """A store that went back is told of, and what it lacks is there again under free ids."""
    if drop and not place.kind.startswith("mongo"):
        pytest.skip("nothing but MongoDB keeps indexes apart")
    ex, result = experiment(place, lambda n: None)
    result.bind(n=1).compute()
    ex.flush()
    restore = restorer(place, drop)
    for n in (2, 3):
        result.bind(n=n).compute()
    restore()
    stranger(place)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert result.bind(n=4).compute() == "ours of 4"
    text = only(told(caught))
    assert "went back to trial 2" in text
    assert "2 (now 4), 3 (now 5)" in text
    check_rows(open_again("gone", place.backend), [1, -1, 4, 2, 3])


def test_lost_end_is_written_again(place):
    """A trial that the backup has, but not its end, gets what is missing under its own id."""
    restores = []

    def during(n):
        if n == 1:
            ex.flush()
            restores.append(restorer(place))

    ex, result = experiment(place, during)
    result.bind(n=1).compute()
    restores[0]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result.bind(n=2).compute()
    text = only(told(caught))
    assert "went back to trial 1" in text
    check_rows(open_again("gone", place.backend), [1, 2])


def test_nothing_is_said_without_a_loss(place):
    """Trials beside those of others, before and after them, tell of no loss."""
    ex, result = experiment(place, lambda n: stranger(place) if n == 2 else None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in (1, 2, 3):
            result.bind(n=n).compute()
    assert told(caught) == []
    check_rows(ex, [1, 2, -1, 3])


def test_lost_twice(place):
    """A trial that is lost once more is written once more, and has one row."""

    def during(n):
        if n == 1:
            emptied(place, "gone")
            stranger(place)
            ex.flush()
            emptied(place, "gone")

    ex, result = experiment(place, during)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result.bind(n=1).compute()
    assert len(told(caught)) == 2
    check_rows(open_again("gone", place.backend), [1])


def test_journal_of_the_dead_fills_no_stranger(make_place, tmp_path):
    """Records that a killed process left for a lost trial become a row of their own."""
    place = make_place("redis")
    code = (
        "import daskperiment, os, sys\n"
        "ex = daskperiment.Experiment('gone', backend=sys.argv[1])\n"
        "n = ex.parameter('n', default=7)\n"
        "@ex.result\n"
        "def ours(n):\n"
        "    ex.save_metric('loss', 0, n)\n"
        "    ex.save_metric('loss', 1, n)\n"
        "    os.kill(os.getpid(), 9)\n"
        "ours(n).compute()\n"
    )
    subprocess.run([sys.executable, "-c", code, place.backend], check=False)
    emptied(place, "gone")
    stranger(place)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ex = daskperiment.Experiment("gone", backend=place.backend)
        history = ex.get_history(verbose=True, running=True)
    assert history["n"].tolist() == [-1, 7]
    assert ex.load_metric("loss", 1)[1].tolist() == [-1]
    assert ex.load_metric("loss", 2)[2].tolist() == [7, 7]
    assert len(told(caught)) == 1


def test_new_id_is_told_of_the_row(place):
    """A trial that was begun again says which id it had."""

    def during(n):
        emptied(place, "gone")
        stranger(place)

    _, result = experiment(place, during)
    with pytest.warns(StoreWarning, match="it lacks"):
        result.bind(n=5).compute()
    close_recorders()
    options = ["--backend", str(place.backend), "--format", "json"]
    said = CliRunner().invoke(cli, ["show", "gone", "2", *options], catch_exceptions=False)
    shown = json.loads(said.stdout)
    assert (shown["parameters"]["n"], shown["earlier_id"]) == (5, 1)


def test_copied_while_a_trial_runs(make_place, tmp_path):
    """A folder that is copied under a process, and then written as well: each has its own."""
    place = make_place("folder")
    copy = SimpleNamespace(backend=tmp_path / "copy")

    def during(n):
        if n == 3:
            shutil.copytree(place.backend, copy.backend)
            stranger(copy, -1)
            stranger(copy, -2)

    _, result = experiment(place, during)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(1, 6):
            assert result.bind(n=n).compute() == f"ours of {n}"
        again = open_again("gone", place.backend)
    assert told(caught) == []
    check_rows(again, [1, 2, 3, 4, 5])
    other = open_again("gone", copy.backend)
    history = other.get_history(verbose=True, running=True)
    assert history["n"].tolist() == [1, 2, 3, -1, -2]
    assert history["Status"].tolist() == ["succeeded"] * 2 + ["running"] + ["succeeded"] * 2
    _, result = experiment(copy, lambda n: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CodeChangedWarning)
        assert result.bind(n=6).compute() == "ours of 6"
    assert other.get_history()["n"].tolist() == [1, 2, -1, -2, 6]
    check_rows(open_again("gone", place.backend), [1, 2, 3, 4, 5])
