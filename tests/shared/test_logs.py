"""What steps say, on each store: heard in order, bounded, never lost, and shown as before."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import pytest

import daskperiment
from daskperiment.cli.checkup import examine
from daskperiment.errors import StepNotFoundError, StoreWarning, TrialIDNotFoundError
from daskperiment.recording.log_writer import HEAD, TAIL
from daskperiment.recording.registry import recorder_for
from daskperiment.testing import no_trial
from tests.helpers.garbage import collect, without_collector
from tests.shared.conftest import open_again
from tests.shared.test_outage import server  # noqa: F401  # a fixture

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} "
ROOT = Path(daskperiment.__file__).parents[1]


def said(ex, trial=1, step=None):
    """What a log has, without the times."""
    lines = ex.get_log(trial, step).splitlines()
    assert all(re.match(STAMP, line) for line in lines)
    assert [line[:23] for line in lines] == sorted(line[:23] for line in lines)
    return [re.sub(STAMP, "", line) for line in lines]


def define(ex):
    @ex
    def first():
        print("one", 1)
        print("two", file=sys.stderr)
        logging.getLogger("mine").warning("three %d", 3)
        return 1

    @ex.result
    def second(x):
        with pytest.warns(UserWarning, match="four"):
            warnings.warn("four", stacklevel=1)
        sys.stdout.write("five")
        return x

    return second(first())


def test_heard(place, capsys):
    """Prints, records and warnings stand in the log once and in order; the user sees them too."""
    ex = daskperiment.Experiment("heard", backend=place.backend)
    assert define(ex).compute(scheduler="synchronous") == 1
    shown = capsys.readouterr()
    assert shown.out == "one 1\nfive"
    assert shown.err.startswith("two\n")
    here = f"{__file__}:{define.__code__.co_firstlineno + 11}"
    expected = [
        "first stdout: one 1", "first stderr: two", "first WARNING: mine: three 3",
        f"second warning: {here}: UserWarning: four", "second stdout: five",
    ]  # fmt: skip
    for each in (ex, open_again("heard", place.backend)):
        assert said(each) == expected
        assert said(each, step="first") == expected[:3]
        with pytest.raises(StepNotFoundError, match="no step 'frist'; did you mean 'first'"):
            each.get_log(1, "frist")
        with pytest.raises(TrialIDNotFoundError):
            each.get_log(2)
    assert not examine(ex._store).findings


KILLED = """
import os, signal, sys
import daskperiment

ex = daskperiment.Experiment("killed", backend=sys.argv[1])

@ex.result
def last():
    for number in range(int(sys.argv[2])):
        print("line", number)
    print("the last one")
    os.kill(os.getpid(), signal.SIGKILL)

last().compute()
"""


def test_killed_right_after(place):
    """A line is there though the process was killed as soon as `print` had returned."""
    count = 10_000
    backend = place.backend if isinstance(place.backend, str) else str(place.backend)
    command = [sys.executable, "-c", KILLED, backend, str(count)]
    done = subprocess.run(command, cwd=ROOT, timeout=60, stdout=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGKILL
    ex = daskperiment.Experiment("killed", backend=place.backend)
    lines = said(ex)
    assert lines[0] == "last stdout: line 0"
    assert lines[-2:] == [f"last stdout: line {count - 1}", "last stdout: the last one"]
    assert sum("characters left out" in line for line in lines) == 1
    # Two journals of the end may be there, of which each is a little longer than the limit.
    assert len(ex.get_log(1)) < 60 * (HEAD + 3 * TAIL) / 20
    assert not list(recorder_for(ex._store).delivery.folder.glob("*.journal"))


def test_much_is_cut(ex):
    """Of a step that says very much the beginning and the end are kept, and nothing on disk."""

    @ex.result
    def last(big):
        for number in range(20_000):
            print("line", number)
        print("x" * big)
        print("the end")

    last(3).compute()
    last(10 * TAIL).compute()
    lines = said(ex)
    assert lines[0] == "last stdout: line 0"
    assert lines[-3:] == ["last stdout: line 19999", "last stdout: xxx", "last stdout: the end"]
    assert sum("characters left out" in line for line in lines) == 1
    size = sum(len(one.body) for one in ex._store.read("logs", [1]))
    assert size < 4 * (HEAD + TAIL)
    lines = said(ex, 2)
    assert lines[-1] == "last stdout: the end"
    assert TAIL - 5000 < lines[-2].count("x") <= TAIL
    assert len(list(recorder_for(ex._store).delivery.folder.glob("*.journal"))) == 1


def test_a_store_that_is_away(server):  # noqa: F811
    """What is said while the server is away waits, and arrives."""
    ex = daskperiment.Experiment("away", backend=server.place)

    @ex.result
    def last():
        print("before")
        server.kill()
        print("during")

    with pytest.warns(StoreWarning, match="waits in"):
        last().compute()
    server.start()
    recorder_for(ex._store).flush()
    assert said(ex) == ["last stdout: before", "last stdout: during"]


def test_a_full_disk(ex, monkeypatch):
    """What the journal does not take waits in memory, and arrives."""
    from daskperiment.errors import StoreError
    from daskperiment.recording.journal import Journal

    def full(*arguments, **named):
        raise StoreError("the disk is full")

    @ex.result
    def last():
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "pieces", full)
            print("during")
        print("after")

    with pytest.warns(StoreWarning, match="the disk is full"):
        last().compute()
    lines = said(ex)
    assert (lines[0], lines[-1]) == ("last stdout: during", "last stdout: after")


def test_switched_off(ex):
    """Where logs are switched off nothing is kept; what says neither yes nor no is refused."""
    with dask.config.set({"daskperiment.logs": False}):
        define(ex).compute()
    assert ex.get_log(1) == ""
    with dask.config.set({"daskperiment.logs": "no"}), pytest.raises(ValueError, match="'no'"):
        define(ex).compute()
    define(ex).compute()
    assert len(said(ex, 2)) == 5


def test_silence_costs_nothing(ex, tmp_path):
    """A trial that says nothing leaves no table, record or log behind."""

    @ex.result
    def last():
        return 1

    last().compute()
    assert ex.get_log(1) == ex.get_log(1, "last") == ""
    with sqlite3.connect(tmp_path / "store" / "demo" / "records.sqlite") as connection:
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert ("points",) in names
    assert ("logs",) not in names
    assert not examine(ex._store).findings


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_parallel_steps_do_not_mix(tmp_path, scheduler):
    """Steps that run at once have each their own lines, those of their threads included."""
    ex = daskperiment.Experiment(f"at_once_{scheduler}", backend=tmp_path)
    meet = threading.Barrier(2) if scheduler == "threads" else None

    @ex
    def step(name):
        def speak(text):
            print(name, end=" ")
            print(text)

        if meet is not None:
            meet.wait(60)
        for number in range(20):
            print(name, number)
        thread = threading.Thread(target=speak, args=("in a thread",))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(speak, ["in a pool"]))
        if meet is not None:
            meet.wait(60)

    @ex.result
    def both(a, b):
        print("both")

    both(step("a"), step("b")).compute(scheduler=scheduler)
    lines = said(ex)
    for key, name in (("step", "a"), ("step#2", "b")):
        own = [f"{key} stdout: {name} {end}" for end in [*range(20), "in a thread", "in a pool"]]
        found = [line for line in lines if line.startswith(f"{key} ")]
        assert sorted(found) == sorted(own), found
    assert lines[-1] == "both stdout: both"
    assert len(lines) == 45


def _speak(number):
    print("child", number)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_forked_processes(ex):
    """What processes say that a step forks stands in its log."""

    @ex.result
    def last():
        context = multiprocessing.get_context("fork")
        print("before")
        children = [context.Process(target=_speak, args=(number,)) for number in range(2)]
        for child in children:
            child.start()
            child.join()
        print("after")

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process", DeprecationWarning)
        last().compute(scheduler="synchronous")
    expected = ["before", "child 0", "child 1", "after"]
    assert said(ex) == [f"last stdout: {each}" for each in expected]


def test_copied_merged_and_deleted(place, make_place):
    """Copies have the logs, also where trials get other ids; deleted they are gone."""
    old = daskperiment.Experiment("copied", backend=place.backend)
    define(old).compute()
    target = make_place("folder")
    new = daskperiment.Experiment("copied", backend=target.backend)

    @new.result
    def other():
        print("other")

    other().compute()
    assert daskperiment.copy("copied", place.backend, target.backend) == 2
    assert said(new, 1) == ["other stdout: other"]
    assert said(new, 2) == said(old)
    assert not examine(new._store).findings
    old.delete_trials(1)
    assert not list(old._store.read("logs"))
    old.delete()
    with pytest.raises(TrialIDNotFoundError):
        old.get_log(1)


def test_secrets_stay_out(ex):
    """What a step prints of a secret parameter is not written."""
    token = ex.parameter("token", secret=True)

    @ex.result
    def last(token):
        print(f"with {token}!")
        logging.getLogger("mine").error("token is %s", token)

    ex.set_parameters(token="hunter-2-hunter")
    last(token).compute()
    assert said(ex) == ["last stdout: with <secret>!", "last ERROR: mine: token is <secret>"]


class _Loud:
    """Prints when it is collected."""

    def __del__(self):
        print("collected")


def test_whatever_is_said(ex, capsys):
    """Odd texts, bars of progress and what is said while something is written cost nothing."""
    odd = logging.getLogger("odd")
    odd.propagate = False  # a report of this test could not be sent with what pytest has of it
    odd.addHandler(logging.NullHandler())

    @ex.result
    def last():
        logging.getLogger("odd").error("\udcff")
        print("\x00", "学習")
        sys.stdout.write("\r10%")
        sys.stdout.write("\r20%\n")
        sys.stdout.write("")
        sys.stdout.writelines(["a\n", "b\n"])
        with without_collector():
            loud = _Loud()
            loud.itself = loud
            del loud
            collect()
        logging.getLogger("mine").error("%d fit", "does not")
        return 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", False)
        assert last().compute() == 1
    assert said(ex) == [
        "last ERROR: odd: \\udcff", "last stdout: \x00 学習", "last stdout: 20%",
        "last stdout: a", "last stdout: b", "last stdout: collected", "last ERROR: mine: %d fit",
    ]  # fmt: skip


def test_who_holds_the_stream_is_heard_once(ex, capsys):
    """A handler that was made before with the stream is heard as a record, and not again."""
    define(ex).compute()
    logger = logging.getLogger("handled")
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    hold = sys.stdout

    @ex.result
    def last():
        logger.error("told")
        hold.write("held\n")
        warnings.warn("seen", stacklevel=1)

    try:
        with pytest.warns(UserWarning, match="seen"):
            last().compute()
    finally:
        logger.removeHandler(handler)
    lines = said(ex, 2)
    assert [line.split(":")[0] for line in lines] == ["last ERROR", "last stdout", "last warning"]
    assert capsys.readouterr().err.count("told\n") == 1


def test_outside_of_steps_nobody_listens(ex, capsys):
    """What is said between steps, alone or in a rehearsal belongs to no log, and is shown."""
    define(ex).compute()
    before = list(ex._store.read("logs"))

    @ex
    def alone():
        print("alone")

    print("outside")
    alone().compute()
    with no_trial():
        alone()
    assert list(ex._store.read("logs")) == before
    assert capsys.readouterr().out.endswith("outside\nalone\nalone\n")


def test_a_failing_step_keeps_what_it_said(ex):
    """What a step said before it failed is there, with the trial's end."""

    @ex.result
    def last():
        print("so far")
        os.stat("/nowhere/at/all")

    with pytest.raises(FileNotFoundError):
        last().compute()
    assert said(ex) == ["last stdout: so far"]


def test_exported_and_shown(ex, tmp_path):
    """An export has a text file for each trial that said something, and the page has it as text."""
    pytest.importorskip("pygments")
    from click.testing import CliRunner

    from daskperiment.cli import cli
    from daskperiment.dashboard.details import describe_trial

    @ex.result
    def last(speaks):
        if speaks:
            print("<b>told</b>")

    last(True).compute()
    last(False).compute()
    command = ["export", "demo", str(tmp_path / "out"), "--backend", str(tmp_path / "store")]
    assert CliRunner().invoke(cli, command).exit_code == 0
    assert [each.name for each in (tmp_path / "out" / "logs").iterdir()] == ["000001.txt"]
    text = (tmp_path / "out" / "logs" / "000001.txt").read_text(encoding="utf-8")
    assert text == ex.get_log(1) == describe_trial(ex._store, 1)["log"]
    assert text.endswith("last stdout: <b>told</b>\n")
    assert describe_trial(ex._store, 2)["log"] == ""
