"""A long history that nobody read before: the latest trials stand there while the rest is read."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from msgspec.structs import replace

from daskperiment.codec import decode, encode
from daskperiment.dashboard import trial_index
from daskperiment.dashboard.api import DashboardAPI, Source
from daskperiment.dashboard.server import Server
from daskperiment.dashboard.table import Look
from daskperiment.dashboard.trial_index import TrialIndex
from daskperiment.errors import FilterError, StoreError
from daskperiment.history import kept_columns
from daskperiment.records import REMOVED, Begun, Curation, Removed, curation_id
from daskperiment.store.file.store import FileStore
from daskperiment.store.protocol import Owner, Record
from tests.dashboard.stores import FolderLab, Held
from tests.history.lab import NOW, Lab

TRIALS = 60


@pytest.fixture(autouse=True)
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a history of few trials count as long, of which the latest are shown at first."""
    monkeypatch.setattr(trial_index, "_LONG", TRIALS)
    monkeypatch.setattr(trial_index, "_LATEST", 2)
    monkeypatch.setattr(trial_index, "_PATIENCE", 0.0)
    monkeypatch.setattr(trial_index, "_JUDGE", 0.0)
    monkeypatch.setattr(kept_columns, "PIECE", 10)


@pytest.fixture
def held(lab: Lab) -> Iterator[Held]:
    """Make a history whose reading is held."""
    for number in range(TRIALS):
        lab.run(number / 3, lr=number, old="x") if number < 20 else lab.run(number, lr=number)
    store = Held(lab.store)
    yield store
    store.fault = StoreError("the test is over")
    store.let_go.set()


def glanced(held: Held) -> TrialIndex:
    """Look at a history for the first time, and wait until its reading is held."""
    trials = TrialIndex(held)
    trials.glance()
    assert held.came.wait(60)
    return trials


def whole(trials: TrialIndex) -> dict[str, Any]:
    """Give all that a page tells of all trials."""
    table = trials.table
    columns = {name: table.parameter(name).to_list() for name in table.columns.parameters}
    for name in ("Trial ID", "Status", "Result", "Description", "Tags", "Name", "Archived"):
        columns[name] = table.column((name,)).to_list()
    return {**columns, "damaged": trials.damaged, "running": trials.running}


def test_the_latest_stand_there_at_once(held):
    """Nobody waits: the latest trials are there, of no other is any record read, and it is told."""
    trials = glanced(held)
    assert trials.ids[-2:] == [TRIALS - 1, TRIALS]
    assert len(trials.ids) < TRIALS
    assert sum(held.read_by_id) <= 2 * len(trials.ids) + 2
    told = trials.reading
    assert told == {"read": told["read"], "of": TRIALS, "problem": ""}
    assert 10 <= told["read"] < TRIALS
    held.let_go.set()
    trials.refresh()
    assert trials.reading is None
    assert trials.ids == [*range(1, TRIALS + 1)]
    assert held.read_whole == 1


def test_what_was_said_is_read_by_the_thread(lab, held):
    """A history in which something was said of each trial keeps no page waiting for that."""
    say(lab, 3, tags=["good"])
    trials = glanced(held)
    held.let_go.set()
    trials.refresh()
    assert held.read_notes == ["dashboard-history"]
    assert trials.table.column(("Tags",)).to_list()[2] == ("good",)


def test_a_short_history_is_read_at_once(held, monkeypatch):
    """No thread is begun for one, and nothing of it is read twice."""
    monkeypatch.setattr(trial_index, "_LONG", TRIALS + 1)
    held.let_go.set()
    trials = TrialIndex(held)
    trials.glance()
    assert (trials.reading, len(trials.ids), held.read_whole) == (None, TRIALS, 1)
    assert sum(held.read_by_id) <= 1


def say(lab: Lab, trial: int, **said: Any) -> None:
    lab.add("notes", trial, curation_id(NOW, f"{trial}"), Curation(time=NOW, user="me", **said))


CHANGES: dict[str, Callable[[Lab], Any]] = {
    "ends": lambda lab: lab.succeed(lab.begin({"lr": 1}), 5),
    "begins": lambda lab: lab.begin({"lr": 1}),
    "fails": lambda lab: lab.fail(lab.begin({"new": 1}), ValueError("bad")),
    "is tagged": lambda lab: [say(lab, trial, tags=["good"]) for trial in (3, TRIALS)],
    "is renamed": lambda lab: say(lab, 7, name="finest"),
    "is archived": lambda lab: say(lab, 8, archived=True),
    "is damaged": lambda lab: lab.add(
        "trials", lab.begin(), "ended-failed-score", b'{"status": 5}'
    ),
    "ends again": lambda lab: lab.fail(2, KeyboardInterrupt(), "interrupted"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_happens_meanwhile(lab, held, change):
    """Whatever a trial does while all are read, the page then has what a first look finds."""
    trials = glanced(held)
    CHANGES[change](lab)
    seen = trials.version
    assert trials.glance() >= seen
    held.let_go.set()
    trials.refresh()
    fresh = TrialIndex(lab.store)
    fresh.refresh()
    assert whole(trials) == whole(fresh)
    assert trials.version > seen


def test_trials_that_are_deleted_meanwhile(tmp_path):
    """Neither what was read of them before nor what the latest showed is left."""
    lab = FolderLab(tmp_path / "demo")
    for _ in range(TRIALS):
        lab.succeed(lab.open({"lr": 1}), 1)
    held = Held(lab.store)
    trials = glanced(held)
    for trial in (5, TRIALS):
        owner, marker = Owner(trial, f"token-{trial}"), Removed(NOW, "me", f"token-{trial}")
        lab.store.remove([Record("trials", trial, REMOVED, encode(marker, trial), owner)])
    trials.glance()
    assert trials.ids[-1] == TRIALS - 1
    held.let_go.set()
    trials.refresh()
    assert trials.ids == [one for one in range(1, TRIALS) if one != 5]


def test_new_trials_are_shown_meanwhile(lab, held):
    """A trial that ends while the old ones are read stands there, with what was said of it."""
    trials = glanced(held)
    trial = lab.run(7, lr=1)
    say(lab, trial, tags=["new"])
    trials.glance()
    assert trials.ids[-1] == trial
    assert trials.table.column(("Tags",)).to_list()[-1] == ("new",)
    assert trials.again().column(("Tags",)).to_list()[-1] == ("new",)
    assert trials.reading is not None


def test_deleted_and_begun_anew_meanwhile(lab, held):
    """What was read of an experiment that is no more is left, and the other is read."""
    trials = glanced(held)
    begun = decode(next(iter(lab.store.read("trials", [1]))).body, Begun)
    lab.store.delete()
    for number in range(TRIALS + 5):
        token = f"other-{number}"
        lab.store.allocate(token, encode(replace(begun, token=token, parameters={"other": 1})))
        lab.succeed(number + 1, number)
    held.let_go.set()
    trials.refresh()
    fresh = TrialIndex(lab.store)
    fresh.refresh()
    assert whole(trials) == whole(fresh)


def test_deleted_before_anything_is_read(lab, monkeypatch):
    """Where a long history is deleted as somebody looks at it, what is begun anew is shown."""
    for number in range(TRIALS):
        lab.run(number, lr=number)
    latest = trial_index.latest_columns

    def late(*given: Any, **named: Any) -> Any:
        lab.store.delete()
        return latest(*given, **named)

    monkeypatch.setattr(trial_index, "latest_columns", late)
    trials = TrialIndex(lab.store)
    trials.glance()
    monkeypatch.setattr(trial_index, "latest_columns", latest)
    assert (trials.ids, trials.running) == ([], False)
    lab.run(7, other=1)
    for look in (trials.glance, trials.refresh):
        look()
    fresh = TrialIndex(lab.store)
    fresh.refresh()
    assert whole(trials) == whole(fresh)
    assert trials.ids == [1]


@pytest.mark.parametrize("count", [3, TRIALS], ids=["short", "long"])
@pytest.mark.parametrize("look", ["glance", "refresh"])
def test_begun_anew_while_somebody_looks_first(tmp_path, count, look, monkeypatch):
    """What was read of one experiment is not taken for the one of the same name behind it."""
    lab = FolderLab(tmp_path / "demo")
    for number in range(count):
        lab.run(number, lr=number)
    say(lab, 1, tags=["old"])
    find = trial_index.first_token

    def late(*given: Any) -> Any:
        monkeypatch.setattr(trial_index, "first_token", find)
        lab.store.delete()
        for number in range(count):
            lab.run(number, other=number)
        return find(*given)

    monkeypatch.setattr(trial_index, "first_token", late)
    trials = TrialIndex(FileStore(tmp_path / "demo"))  # as another process has it
    getattr(trials, look)()
    trials.refresh()
    fresh = TrialIndex(lab.store)
    fresh.refresh()
    assert whole(trials) == whole(fresh)


@pytest.mark.parametrize("fault", [StoreError("it fails"), OSError("it fails")], ids=str)
def test_a_reading_that_fails(held, fault, monkeypatch):
    """The latest trials stay, with a word about the rest; who needs all is told, and it mends."""
    monkeypatch.setattr("daskperiment.dashboard.first_reading._PAUSE", 0.0)
    trials = glanced(held)
    held.fault = fault
    held.let_go.set()
    with pytest.raises(type(fault), match="it fails"):
        trials.refresh()
    trials.glance()
    with suppress(StoreError, OSError):
        trials.refresh()
    assert trials.reading["problem"] == "it fails"
    assert trials.ids[-1] == TRIALS
    held.fault = None
    trials.refresh()
    assert (trials.reading, len(trials.ids)) == (None, TRIALS)


def test_a_fault_of_ours_is_no_problem_of_the_store(held):
    """It is raised, with its traceback, where the page is asked for."""
    trials = glanced(held)
    held.fault = ZeroDivisionError("a fault")
    held.let_go.set()
    with pytest.raises(ZeroDivisionError):
        trials.refresh()
    with pytest.raises(ZeroDivisionError):
        _ = trials.reading


def test_a_server_that_stops_waits_for_no_reading(held, monkeypatch):
    """The thread ends before it read all, and keeps nothing."""
    kept: list[Any] = []
    monkeypatch.setattr(kept_columns, "keep", lambda *given: kept.append(given))
    monkeypatch.setattr(kept_columns, "WORTH", 1)
    monkeypatch.setattr("daskperiment.dashboard.first_reading._PAUSE", 1e9)
    api = DashboardAPI(Source(held, "demo"))
    page = api.trials("demo", Look(), 0, 50, "")
    assert page["reading"]["of"] == TRIALS
    assert held.came.wait(60)
    stopped = threading.Thread(target=api.close)
    stopped.start()
    assert is_told_to_stop(api)
    held.let_go.set()
    stopped.join(60)
    assert not stopped.is_alive()
    assert not kept
    assert api.trials("demo", Look(), 0, 50, "")["reading"]["problem"] == ""


@pytest.mark.parametrize("ask", [DashboardAPI.found, DashboardAPI.compare])
@pytest.mark.parametrize("begun", [True, False], ids=["that is begun", "that is not"])
def test_who_waits_for_a_reading_when_the_server_stops(held, ask, begun):
    """Questions about all trials end with it, those that come then as well; nothing is begun."""
    api = DashboardAPI(Source(held, "demo"))
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.append(problem_of(api, ask)))
    if begun:
        asking.start()
        assert held.came.wait(60)
    stopping = threading.Thread(target=api.stop_reading)
    stopping.start()
    if begun:
        assert is_told_to_stop(api)
    held.let_go.set()
    stopping.join(60)
    if not begun:
        asking.start()
    asking.join(60)
    assert found
    assert "stopped before it had read" in found[0]
    assert held.read_whole == begun
    assert "stopped" in problem_of(api, ask)
    api.close()


def is_told_to_stop(api: DashboardAPI) -> bool:
    """Whether the thread that reads all is told within a minute that nobody needs it any more."""
    index, end = api._tables["demo"].trials, time.monotonic() + 60
    while time.monotonic() < end:
        if index._reading is not None and index._reading.known.ended._is_stopped:
            return True
        time.sleep(0.001)
    return False


def test_a_server_stops_though_a_question_waits_for_a_reading(held):
    """Nobody waits until all is read, neither for the question's thread nor for its answer."""
    server = Server(
        Source(held, "demo"), experiment=None, host="127.0.0.1", port=0, token=None
    )  # fmt: skip
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as asking:
        asking.sendall(b"GET /api/experiments/demo/found HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert held.came.wait(60)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        was_told = is_told_to_stop(server._api)
        held.let_go.set()
        stopping.join(60)
        is_read = server._api._tables["demo"].trials._is_read
        assert (was_told, stopping.is_alive(), is_read) == (True, False, False)


def problem_of(api: DashboardAPI, ask: Callable[..., Any]) -> str:
    with pytest.raises(StoreError) as raised:
        ask(api, "demo", Look())
    return str(raised.value)


FILTERS = {
    "old == 'x'": [], "old = x": [], "old ~ x lr > 3": [], "not old == 'x'": [59, 60],
    "old != x": [59, 60], "old == 'x' or lr > 58": [60], "old.part > 3": [], "lr.part > 3": [],
    "metrics.loss.min < 3": [], "Result.f1 is None": [59, 60], "x": [], "succeeded": [59, 60],
    "lr = 58": [59],
}  # fmt: skip
"""Filter -> which of the two latest trials pass it."""


@pytest.mark.parametrize("filter", FILTERS)
def test_columns_that_only_older_trials_have(lab, held, filter):
    """While all are read, a filter says of the latest what it says of them in the end."""
    api = DashboardAPI(Source(held, "demo"))
    page = api.trials("demo", Look(filter, sort="lr"), 0, 50, "", "old")
    assert page["reading"]
    assert [row["trial"] for row in page["rows"] if row["trial"] > 58] == FILTERS[filter]
    assert page["groups"]["without"] == page["found"]
    held.let_go.set()
    try:
        in_the_end = api.found("demo", Look(filter, sort="lr"))["ids"]
    except FilterError:  # no trial has such a part
        assert {"part", "metrics", "f1"} & set(filter.replace(".", " ").split())
    else:
        assert [trial for trial in in_the_end if trial > 58] == FILTERS[filter]
    api.close()


def test_a_table_that_is_forgotten_is_read_no_more(tmp_path, monkeypatch):
    """Of experiments that nobody looks at any more none goes on taking memory and time."""
    for name in "ab":
        lab = FolderLab(tmp_path / name)
        lab.succeed(lab.open({}), 1)
    stopped: list[str] = []
    monkeypatch.setattr("daskperiment.dashboard.api._TABLES", 1)
    monkeypatch.setattr(TrialIndex, "stop", lambda self: stopped.append(self.store.address[-1]))
    api = DashboardAPI(Source(tmp_path))
    for name in "aab":
        api.trials(name, Look(), 0, 50, "")
    assert stopped == ["a"]
    monkeypatch.setattr("daskperiment.dashboard.api._TABLES", 2)
    for name in "ab":
        api.trials(name, Look(), 0, 50, "")
    assert [*api._tables] == ["a", "b"]  # that which was asked for longest ago goes first
    api.close()
    assert stopped == ["a", "a", "b"]


def test_tables_that_are_waited_for_are_read_to_the_end(tmp_path, monkeypatch):
    """More long histories than are remembered are read all the same while pages ask for them."""
    for name in "ab":
        lab = FolderLab(tmp_path / name)
        for _ in range(TRIALS):
            lab.succeed(lab.open({}), 1)
    begun: list[str] = []
    stopped: list[str] = []
    monkeypatch.setattr(
        "daskperiment.dashboard.first_reading.FirstReading._run",
        lambda self: begun.append(self.known.ended._store.address[-1]),
    )
    monkeypatch.setattr("daskperiment.dashboard.api._TABLES", 1)
    monkeypatch.setattr(TrialIndex, "stop", lambda self: stopped.append(self.store.address[-1]))
    api = DashboardAPI(Source(tmp_path))
    for name in "abab":
        assert api.trials(name, Look(), 0, 50, "")["reading"]["of"] == TRIALS
    assert (begun, stopped) == (["a", "b"], [])
    monkeypatch.setattr("daskperiment.dashboard.api._PATIENCE", -1.0)  # nobody asked again
    api.trials("a", Look(), 0, 50, "")
    assert stopped == ["b"]
    api.close()


def test_pages_that_wait_and_pages_that_do_not(held, monkeypatch):
    """A page goes on with the latest while a question about all waits, and both end equal."""
    api = DashboardAPI(Source(held, "demo"))
    first = api.trials("demo", Look(), 0, 50, "")
    assert held.came.wait(60)
    monkeypatch.setattr(trial_index, "_JUDGE", 1e9)  # nothing is new but how many are read
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(api.found("demo", Look(sort="lr"))))
    waiting.start()
    again = api.trials("demo", Look(), 0, 50, first["version"])
    assert again["rows"] == first["rows"]
    assert not found
    held.let_go.set()
    waiting.join(60)
    assert len(found[0]["ids"]) == TRIALS
    last = api.trials("demo", Look(), 0, 50, again["version"])
    assert (last["reading"], last["total"], last["version"] > again["version"]) == (
        None,
        TRIALS,
        True,
    )
    assert [one["title"] for one in last["columns"] if one["title"] == "old"]
    api.close()
