"""Stores that are away, damaged or no stores at all, and errors that nobody foresaw."""

from __future__ import annotations

import signal
import subprocess
import sys
import types
import warnings
from pathlib import Path
from urllib.request import urlopen

import pytest

from daskperiment.cli import listings
from daskperiment.formatting import install_command
from tests.cli.conftest import Command, one_line
from tests.helpers.ports import free_port

QUESTIONS = [
    ["ls"], ["history", "pairs"], ["show", "pairs"], ["steps", "pairs"], ["metrics", "pairs"],
    ["code", "pairs"], ["env", "pairs"], ["compare", "pairs", "1", "2"], ["explain", "pairs"],
    ["copy", "pairs", "to"],
    ["export", "pairs", "out"], ["delete", "pairs", "--yes"], ["flush", "pairs"], ["flush"],
    ["prune", "pairs", "--max-bytes", "0"], ["board"], ["board", "pairs"],
]  # fmt: skip


@pytest.mark.parametrize("command", QUESTIONS, ids=" ".join)
def test_store_that_is_away(
    run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """A server that does not answer is one line and status 1, without its password."""
    monkeypatch.setenv("DASK_DASKPERIMENT__JOURNAL", str(folder / "journal"))
    backend = f"redis://:secret@127.0.0.1:{free_port()}/0"
    answer = run(*command, "--backend", backend)
    one_line(answer, 1, "redis://127.0.0.1:")
    assert "secret" not in answer.err


def test_run_with_a_store_that_is_away(
    run: Command, script: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is run if no trial can begin."""
    monkeypatch.setenv("DASK_DASKPERIMENT__JOURNAL", str(folder / "journal"))
    answer = run("run", script, "--backend", f"redis://127.0.0.1:{free_port()}/0")
    one_line(answer, 1, "redis://127.0.0.1:")


@pytest.mark.parametrize("command", [each for each in QUESTIONS if "pairs" in each], ids=" ".join)
def test_binary_garbage_as_store(run: Command, folder: Path, command: list[str]) -> None:
    """A file that is no database is named, and stays as it is."""
    file = folder / "daskperiment_cache" / "pairs" / "records.sqlite"
    file.parent.mkdir(parents=True)
    garbage = bytes(range(256)) * 64
    file.write_bytes(garbage)
    one_line(run(*command), 1, "records.sqlite")
    assert file.read_bytes() == garbage


def test_list_with_a_damaged_store_shows_the_others(trials: Command, folder: Path) -> None:
    """One experiment that cannot be read hides no other."""
    file = folder / "daskperiment_cache" / "broken" / "records.sqlite"
    file.parent.mkdir()
    file.write_bytes(b"no database at all" * 100)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # the tests make errors of them
        answer = trials("ls")
    assert answer.status == 0, answer
    assert [row[0] for row in answer.table[1:]] == ["broken", "pairs"]
    assert answer.err.startswith("Warning: Experiment 'broken' cannot be read: ")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("backend", "status", "words"),
    [
        ("file.txt", 1, ["file.txt"]),
        ("mongodb://127.0.0.1", 2, ["database"]),
        ("nope://x", 2, ["'nope://x'"]),
        ("", 2, ["''"]),
        ("file://", 2, ["absolute"]),
        ("nowhere", 2, ["nowhere", "it has none", "--backend"]),
        ("daskperiment_cache/pairs", 2, ["an experiment itself", "give --backend"]),
    ],
)
def test_backends_that_are_none(
    trials: Command, folder: Path, backend: str, status: int, words: list[str]
) -> None:
    """What is no store is one line, and is not created by looking."""
    (folder / "file.txt").write_text("mine")
    one_line(trials("history", "pairs", "--backend", backend), status, *words)
    assert not (folder / "nowhere").exists()


def test_error_that_nobody_foresaw(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a bug is one line; --debug, wherever it stands, shows the traceback."""

    def fail(*arguments: object) -> None:
        raise RuntimeError("two\nlines \x1b[31m")

    monkeypatch.setattr(listings, "store_of", fail)
    one_line(run("history", "x"), 1, r"RuntimeError: two lines \x1b[31m", "--debug")
    for arguments in (["--debug", "history", "x"], ["history", "x", "--debug"]):
        answer = run(*arguments)
        assert answer.status == 1
        assert answer.err.startswith("Traceback")
        assert "\x1b" not in answer.err


def test_board_without_its_packages(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, one line says what to install."""
    monkeypatch.setitem(sys.modules, "daskperiment.dashboard", None)
    one_line(run("board"), 1, install_command("dashboard"))


def test_board_answers_until_ctrl_c(trials: Command) -> None:
    """The program serves the store's experiments, and ends with Ctrl-C in one line."""
    code = "from daskperiment.cli.board import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as serving:  # fmt: skip
        assert serving.stdout is not None
        url = next(word for word in serving.stdout.readline().split() if word.startswith("http"))
        with urlopen(url, timeout=60) as page:
            assert page.status == 200
        serving.send_signal(signal.SIGINT)
        _, err = serving.communicate(timeout=60)
    assert serving.returncode in (0, 130), err
    assert "Traceback" not in err


def test_board_starts_the_dashboard(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options reach the dashboard; what that refuses is one line."""
    seen: list[object] = []

    def serve(backend: object, **settings: object) -> None:
        seen.append((backend, settings))
        if settings["host"] == "0.0.0.0":
            raise ValueError("give a token")

    fake = types.ModuleType("daskperiment.dashboard")
    vars(fake)["serve"] = serve
    monkeypatch.setitem(sys.modules, "daskperiment.dashboard", fake)
    assert run("board", "--backend", "x", "--port", "0", "--token", "t", "--open").status == 0
    settings = {"port": 0, "host": "127.0.0.1", "token": "t", "open_browser": True}
    assert seen == [("x", {"experiment": None, **settings})]
    one_line(run("board", "pears"), 2, "'pears'")
    one_line(run("board", "--host", "0.0.0.0"), 2, "give a token")
    one_line(run("board", "--port", "99999"), 2, "99999")
