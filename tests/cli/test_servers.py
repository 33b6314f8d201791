"""Each command that asks, on Redis and on MongoDB."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask
import pytest

from tests.cli.conftest import Command, one_line

COMMANDS = [
    ["ls"], ["history", "pairs", "--where", "Success"], ["history", "pairs", "--verbose"],
    ["show", "pairs", "1"], ["steps", "pairs"], ["metrics", "pairs", "1"], ["code", "pairs"],
    ["env", "pairs"], ["compare", "pairs", "1", "2"], ["explain", "pairs", "1"],
    ["best", "pairs", "--by", "a"],
    ["save", "pairs", "words", "beside.py", "1"], ["artifacts", "pairs"],
    ["get", "pairs", "words", "1", "-o", "words.py"],
    ["check-metric", "pairs", "--by", "a", "--against", "best"],
    ["tag", "pairs", "1,latest", "seen"], ["untag", "pairs", "2", "seen"],
    ["note", "pairs", "1-2", "a note"], ["rename", "pairs", "1", "first"],
    ["archive", "pairs", "2"], ["unarchive", "pairs", "2"],
    ["history", "pairs", "--where", '"seen" in tags and Name == "first"'],
    ["report", "pairs", "--trials", "1,2", "-o", "said.html", "--force"],
]  # fmt: skip
if find_spec("pyarrow"):
    COMMANDS.append(["export", "pairs", "--format", "parquet", "-o", "tables"])


@pytest.fixture
def journal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keep the journals of servers' writers in a folder of the test's own."""
    monkeypatch.setenv("DASK_DASKPERIMENT__JOURNAL", str(folder / "journal"))
    with dask.config.set({"daskperiment.journal": str(folder / "journal")}):
        yield


@pytest.mark.parametrize("kind", ["redis", "mongo"])
@pytest.mark.usefixtures("journal")
def test_commands_on_servers(
    run: Command, script: Path, folder: Path, make_place: Callable[[str], Any], kind: str
) -> None:
    """A script runs there, each question is answered, and the rest works as on a folder."""
    backend = make_place(kind).backend
    options = ["--backend", backend]
    assert run("run", script, "--seed", 1, *options).status == 0
    assert run("run", script, "a=3", *options).status == 0
    for command in COMMANDS:
        answer = run(*command, *options)
        assert (answer.status, answer.err) == (0, ""), answer
        assert answer.out.strip(), answer
    one_line(run("history", "pears", *options), 2, "'pears'", "It has: pairs.")
    assert run("export", "pairs", "out", *options).status == 0
    assert run("copy", "pairs", "copied", *options).status == 0
    ours = run("history", "pairs", *options).out
    assert run("history", "pairs", "--backend", folder / "copied").out == ours
    assert run("delete", "pairs", "--yes", *options).status == 0
    answer = run("ls", *options)
    assert (answer.status, len(answer.table)) == (0, 1)
