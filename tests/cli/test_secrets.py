"""Secret parameters on the command line: taken as others are, and printed by nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from daskperiment.dashboard.api import DashboardAPI, Source
from daskperiment.dashboard.table import Look
from tests.cli.conftest import Command

TEXT = "hunter2-Zq9"
SCRIPT = """
import daskperiment

ex = daskperiment.Experiment("logins")
dsn = ex.parameter("dsn", secret=True)
mode = ex.parameter("mode", default="work")


@ex.persist(reuse=True)
def size(dsn):
    return len(dsn)


@ex.result
def login(size, dsn, mode):
    if mode == "fail":
        raise ConnectionError(f"refused: {dsn}")
    return size


s = login(size(dsn), dsn, mode)

if __name__ == "__main__":
    s.main()
"""


@pytest.fixture
def logins(folder: Path) -> Path:
    """Write a script with a secret parameter."""
    path = folder / "logins.py"
    path.write_text(SCRIPT)
    return path


def everything(folder: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_commands_take_a_secret_and_print_none(run: Command, logins: Path, folder: Path) -> None:
    """Running, failing, sweeping, asking and exporting work, and nothing prints or keeps it."""
    given = f"dsn={TEXT}"
    asked = [
        ("run", logins, given), ("run", logins, given, "mode=fail"),
        ("run", logins, "dsn=another-one", "--sweep", "mode=work,fail"),
        ("run", logins, "--sweep", f"dsn={TEXT},another-one"),
        ("explain", logins, given), ("run", logins, "--help"),
        ("history", "logins"), ("history", "logins", "--format", "csv"),
        ("history", "logins", "--format", "json"), ("show", "logins", "1"),
        ("show", "logins", "2"), ("compare", "logins", "1", "3"), ("steps", "logins"),
        ("reproduce", logins, "1"), ("check", "logins"),
    ]  # fmt: skip
    answers = [run(*each) for each in asked]
    texts = "\n".join(f"{answer.out}\n{answer.err}" for answer in answers)
    assert [answer.status for answer in answers[:4]] == [0, 1, 1, 0], answers
    assert "refused: <secret>" in answers[1].err
    assert "Let the script give it a value" in answers[13].err.replace("\n", " ")
    assert "<secret>" in answers[9].out
    assert texts.count("<secret>") > 5
    assert TEXT not in texts
    assert "another-one" not in texts
    logins.unlink()
    assert len(everything(folder)) > 10_000
    assert TEXT.encode() not in everything(folder)


def test_a_script_of_its_own_takes_a_secret(logins: Path, folder: Path) -> None:
    """``Result.main`` records no argument of the command line."""
    call = [sys.executable, str(logins), f"dsn={TEXT}"]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    failed = subprocess.run([*call, "mode=fail"], cwd=folder, capture_output=True, text=True,
                            check=False)  # fmt: skip
    assert failed.returncode == 1, failed
    for text in (done.stdout, done.stderr, failed.stdout, failed.stderr):
        assert TEXT not in text
    logins.unlink()
    assert TEXT.encode() not in everything(folder)


def test_the_dashboard_shows_no_secret(run: Command, logins: Path, folder: Path) -> None:
    """Tables, trials and comparisons of the page have a mark in its place at most."""
    run("run", logins, f"dsn={TEXT}")
    run("run", logins, "dsn=another-one", "mode=fail")
    api = DashboardAPI(Source(folder / "daskperiment_cache"))
    shown = [api.experiments(), api.trials("logins", Look(), 0, 50, ""), api.trial("logins", 1),
             api.trial("logins", 2), api.compare("logins", [1, 2])]  # fmt: skip
    assert "<secret>" in str(shown)
    assert TEXT not in str(shown)
    assert "another-one" not in str(shown)
