"""What the tests of the command line share."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from daskperiment import experiment
from daskperiment.cli import cli
from daskperiment.recording.registry import close_recorders

# Fixtures, for the tests on servers.
from tests.shared.conftest import (  # noqa: F401
    make_place,
    mongo_alone,
    mongo_set,
    redis_of_wheel,
)

SCRIPT = '''
"""Scores pairs of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import daskperiment
from beside import twice

ex = daskperiment.Experiment("pairs")
a = ex.parameter("a", default=1)
b = ex.parameter("b", default=2)
name = ex.parameter("name", default="x")


@ex.parameter
def sum_(a, b):
    return a + b


@dataclass
class Pair:
    a: float
    b: float


@ex
def pair(a, b):
    return Pair(a, b)


@ex.result
def score(pair, sum_, name):
    for epoch in range(4):
        ex.save_metric("loss", epoch, 1 / (epoch + 1))
    return twice(pair.a) / pair.b + sum_


result = score(pair(a, b), sum_, name)

if __name__ == "__main__":
    raise RuntimeError("daskperiment run does not come here")
'''
HELPER = "def twice(value):\n    return 2 * value\n"


class Answer:
    """What a command answered."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    def __repr__(self) -> str:
        return f"status {self.status}\n--- out\n{self.out}\n--- err\n{self.err}"

    @property
    def table(self) -> list[list[str]]:
        """The lines of a table that was printed to a pipe."""
        return [line.split("\t") for line in self.out.splitlines()]


Command = Callable[..., Answer]


def runner() -> CliRunner:
    """Make a runner that tells output from errors, with any version of click."""
    try:
        return CliRunner(mix_stderr=False)  # type: ignore[call-arg]
    except TypeError:
        return CliRunner()


def as_new_process() -> None:
    """Forget what a later process would not know."""
    close_recorders()
    experiment._EXPERIMENTS.clear()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, which holds stores and scripts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DASK_DASKPERIMENT__BACKEND", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    sys.modules.pop("beside", None)
    return tmp_path


@pytest.fixture
def run() -> Command:
    """Give a function that runs a command as a process of its own would."""

    def invoke(*arguments: Any, input: str | None = None) -> Answer:
        as_new_process()
        done = runner().invoke(cli, list(map(str, arguments)), input=input)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Answer(done.exit_code, done.stdout, done.stderr)

    return invoke


@pytest.fixture
def script(folder: Path) -> Path:
    """Write the script and the module beside it."""
    (folder / "beside.py").write_text(HELPER)
    path = folder / "pairs.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def trials(run: Command, script: Path) -> Command:
    """Record three trials, of which the last failed, and give the function that asks."""
    assert run("run", script, "--seed", 1).status == 0
    assert run("run", script, "a=3", "name='long name'", "--seed", 1).status == 0
    assert run("run", script, "b=0", "--seed", 1).status == 1
    return run


def process(*arguments: Any, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    code = "import sys; sys.argv[0] = 'daskperiment'; from daskperiment.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **settings)


_SEVERAL = """
import json, sys
from daskperiment.cli import cli
for words in json.loads(sys.argv[1]):
    try:
        cli(words, prog_name="daskperiment")
    except SystemExit as left:
        print(f"<{left.code}>", flush=True)
"""


def in_terminal(*commands: Sequence[Any], columns: int = 100, **variables: str) -> list[str]:
    """Run commands in a process that has a terminal; give what each printed."""
    words = json.dumps([list(map(str, command)) for command in commands])
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "40"}
    environment.pop("NO_COLOR", None)
    environment.update(variables)
    with subprocess.Popen(
        [sys.executable, "-c", _SEVERAL, words],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    ) as running:  # fmt: skip
        os.close(theirs)
        text = _read_all(ours)
        assert running.wait(timeout=120) == 0, text
    os.close(ours)
    *texts, rest = text.split("<0>\n")
    assert (len(texts), rest) == (len(commands), ""), text
    return texts


def _read_all(descriptor: int) -> str:
    pieces: list[bytes] = []
    while select.select([descriptor], [], [], 120)[0]:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces).decode().replace("\r\n", "\n")


def one_line(answer: Answer, status: int, *words: str) -> None:
    """Check that an answer is one line of error, without a traceback."""
    assert answer.status == status, answer
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer
    assert lines[0].startswith("Error: "), answer
    assert "Traceback" not in answer.out, answer
    for word in words:
        assert word in lines[0], answer
