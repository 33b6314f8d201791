"""Stores that were damaged, closed to us or made by a newer version; output that has no place."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
import redis

from daskperiment.cli import lookup
from tests.cli.conftest import Answer, Command, as_new_process, one_line
from tests.store.redis_server import PASSWORD, RedisServer, redis_server, server_of_wheel

ASKING = [
    ["history", "pairs"], ["show", "pairs"], ["steps", "pairs"], ["metrics", "pairs"],
    ["code", "pairs"], ["env", "pairs"], ["compare", "pairs", "1", "2"], ["explain", "pairs", "1"],
    ["copy", "pairs", "to"], ["export", "pairs", "out"], ["flush", "pairs"],
    ["prune", "pairs", "--max-bytes", "0", "--dry-run"], ["board", "pairs"],
    ["run", "pairs.py"], ["reproduce", "pairs.py", "1"], ["delete", "pairs", "--yes"],
]  # fmt: skip


def newer(file: Path) -> None:
    """Let the database be one of a later version."""
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def foreign(file: Path) -> None:
    """Put another program's database in its place."""
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()


def cut(file: Path) -> None:
    """Lose the second half."""
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def scribbled(file: Path) -> None:
    """Keep the first page, and overwrite the others."""
    data = file.read_bytes()
    file.write_bytes(data[:4096] + bytes(range(256)) * ((len(data) - 4096) // 256))


def folder_instead(file: Path) -> None:
    """Put a folder in its place."""
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (newer, ["newer daskperiment", "upgrade"]),
        (foreign, ["another program", "move it away"]),
        (cut, ["damaged", "repair"]),
        (scribbled, ["damaged", "repair"]),
        (folder_instead, ["records.sqlite"]),
    ],
)
def test_damaged_folder(
    trials: Command, folder: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    """Every command that needs the records tells in one line what is wrong and what to do."""
    as_new_process()
    damage(folder / "daskperiment_cache" / "pairs" / "records.sqlite")
    # Each command looks for what is left, which takes seconds where pages lead nowhere.
    for command in ASKING[::5] if damage is scribbled else ASKING:
        one_line(trials(*command), 1, *words)


@pytest.mark.filterwarnings("default::daskperiment.errors.StoreWarning")
def test_damaged_end_of_a_trial(trials: Command, folder: Path) -> None:
    """Of a trial whose end is damaged, all else is shown, and no time that nobody knows."""
    as_new_process()
    file = folder / "daskperiment_cache" / "pairs" / "records.sqlite"
    with sqlite3.connect(file) as connection:
        query = "UPDATE trials SET body = ? WHERE trial = 2 AND id LIKE 'ended%'"
        assert connection.execute(query, (b"{",)).rowcount == 1
    connection.close()
    answer = trials("show", "pairs", "2")
    assert answer.status == 0, answer.err
    assert "record of its end is damaged" in answer.out
    assert "elapsed" not in answer.out
    assert "finished" not in answer.out


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Take away the right to enter a folder; from the superuser, the superuser's rights."""
    folder.chmod(0)
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)
        folder.chmod(0o700)


def test_folder_that_may_not_be_read(trials: Command, folder: Path) -> None:
    """A store that belongs to somebody else is one line that names it."""
    for command in (["ls"], *ASKING[:8]):  # once, so that all that they import is there
        assert trials(*command).status == 0
    store = folder / "daskperiment_cache"
    as_new_process()
    with closed(store):
        answers = [(command, trials(*command)) for command in (["ls"], *ASKING[:8])]
    for command, answer in answers:
        assert "daskperiment_cache" in answer.err, (command, answer)
        one_line(answer, 1, "ermission")


# Redis -----------------------------------------------------------------------------------------


@pytest.fixture
def journal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the journals of servers' writers in a folder of the test's own."""
    monkeypatch.setenv("DASK_DASKPERIMENT__JOURNAL", str(folder / "journal"))
    with dask.config.set({"daskperiment.journal": str(folder / "journal")}):
        yield


@pytest.mark.parametrize("key", ["counters", "stream:trials", "stream:steps", "tokens"])
@pytest.mark.usefixtures("journal")
def test_keys_of_another_kind(
    run: Command, script: Path, make_place: Callable[[str], Any], key: str
) -> None:
    """Where another program put its key, a command works without it or names what is wrong."""
    backend = make_place("redis").backend
    assert run("run", script, "--seed", 1, "--backend", backend).status == 0
    assert run("run", script, "--seed", 2, "--backend", backend).status == 0
    as_new_process()
    with redis.Redis.from_url(backend) as client:
        name = f"daskperiment:{{pairs}}:{key}"
        assert client.delete(name) == 1
        client.set(name, b"\x00\xff\x1b")
        told = []
        for command in ASKING:
            if command[0] in ("run", "reproduce", "delete", "board", "copy"):
                continue
            answer = run(*command, "--backend", backend)
            if answer.status:
                one_line(answer, 1, "another kind", "remove or restore")
            told.append(answer.status)
        assert client.get(name) == b"\x00\xff\x1b"
    assert any(told) == (key != "tokens")  # only those who write need the tokens


@pytest.mark.usefixtures("journal")
def test_what_cannot_be_read_can_be_deleted(
    run: Command, script: Path, make_place: Callable[[str], Any]
) -> None:
    """How many trials there are is said where that can be read, and is no reason to keep them."""
    backend = make_place("redis").backend
    assert run("run", script, "--seed", 1, "--backend", backend).status == 0
    as_new_process()
    with redis.Redis.from_url(backend) as client:
        name = "daskperiment:{pairs}:stream:trials"
        assert client.delete(name) == 1
        client.set(name, b"other")
        answer = run("delete", "pairs", "--yes", "--backend", backend)
        assert answer.out.startswith("Deleted experiment pairs with 1 trial from redis://"), answer
        assert not client.exists(name)


@pytest.mark.parametrize("secret", ["", ":wrong-secret@", "somebody:wrong-secret@"])
def test_wrong_password(run: Command, script: Path, locked: RedisServer, secret: str) -> None:
    """A server that refuses us is one line, which says what to check and shows no password."""
    backend = f"redis://{secret}127.0.0.1:{locked.port}/0"
    for command in (["ls"], ["history", "pairs"], ["run", script], ["flush"]):
        answer = run(*command, "--backend", backend)
        one_line(answer, 1, "refused us", "check user and password")
        assert "wrong-secret" not in answer.err


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start a server that asks for a password."""
    with redis_server(
        server_of_wheel(), tmp_path_factory.mktemp("locked"), "--requirepass", PASSWORD
    ) as server:
        yield server


@pytest.mark.parametrize("backend", ["redis://localhost:port/0", "mongodb://[bad/db"])
def test_addresses_that_cannot_be_read(trials: Command, backend: str) -> None:
    """An address with a mistake in it is told from a server that is away."""
    for command in (["ls"], ["history", "pairs"], ["copy", "pairs", backend]):
        options = [] if "copy" in command else ["--backend", backend]
        answer = trials(*command, *options)
        assert answer.status in (1, 2), answer
        one_line(answer, answer.status, "orrect")
        assert "Error: ValueError" not in answer.err


# Output that has no place ----------------------------------------------------------------------

CODE = "import sys; sys.argv[0] = 'daskperiment'; from daskperiment.cli import main; main()"


@pytest.mark.parametrize(
    "command", [["history", "pairs"], ["show", "pairs", "--format", "json"], ["code", "pairs"]]
)
def test_output_to_a_full_disk(trials: Command, folder: Path, command: list[str]) -> None:
    """Output that cannot be written is told in one line."""
    as_new_process()
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", CODE, *command],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert done.stderr.startswith("Error: Cannot write: No space left on device."), done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_output_to_files_that_cannot_be_written(trials: Command, folder: Path) -> None:
    """A file that is full, or in no folder, is named in one line; records are left alone."""
    for file in ("/dev/full", folder / "nowhere" / "trials.csv"):
        for format_ in ("table", "csv", "json"):
            answer = trials("history", "pairs", "--format", format_, "--output", file)
            one_line(answer, 1, "Cannot write", str(file), "Give another")
    (folder / "taken").write_text("mine")
    one_line(trials("export", "pairs", folder / "taken" / "below"), 1, "taken", "Give another")
    assert trials("export", "pairs", folder / "taken").status == 2
    assert (folder / "taken").read_text() == "mine"


def test_reader_that_leaves_early(trials: Command, folder: Path) -> None:
    """A pipe that is closed, as by head, ends a command without a word."""
    as_new_process()
    for command in (["history", "pairs"], ["env", "pairs"], ["--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [sys.executable, "-c", CODE, *command],
            stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
        os.close(writing)
        assert done.stderr == "", command


def test_ctrl_c_while_asking(trials: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is status 130 and one word, whatever a command does."""

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lookup, "resolve", interrupt)
    for command in (["ls"], *ASKING[:8]):
        answer: Answer = trials(*command)
        assert (answer.status, answer.out, answer.err.strip()) == (130, "", "Interrupted.")
