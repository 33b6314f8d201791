"""Commands that move, deliver and remove records."""

from __future__ import annotations

import csv
import json
import subprocess
import warnings
from pathlib import Path

import pytest

import daskperiment
from tests.cli.conftest import Command, as_new_process, one_line


def snapshot(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_copy_to_another_store(trials: Command) -> None:
    """A copy answers as the original does, and can be made again."""
    answer = trials("copy", "pairs", "elsewhere")
    assert answer.status == 0, answer
    assert answer.out.startswith("3 trials of pairs copied from file://")
    assert (
        trials("history", "pairs", "--backend", "elsewhere").out == trials("history", "pairs").out
    )
    assert trials("copy", "pairs", "elsewhere").status == 0


def test_copy_of_several_stores(trials: Command, script: Path) -> None:
    """Stores that are given before the target, or with --backend, are merged into it."""
    assert trials("run", script, "a=5", "--backend", "second").status == 0
    for given in (
        ["daskperiment_cache", "second", "both"],
        ["both", "--backend", "daskperiment_cache", "--backend", "second"],
        ["second", "both", "--backend", "daskperiment_cache"],
    ):
        answer = trials("copy", "pairs", *given)
        assert (answer.status, answer.err) == (0, ""), answer
        assert "has 4 trials of pairs, with those of file://" in answer.out
    history = trials("history", "pairs", "--verbose", "--columns", "a,Copied From",
                     "--backend", "both").table[1:]  # fmt: skip
    assert history[-1][1] == "5"
    assert history[-1][2].endswith("second/pairs trial 1")
    assert "second/pairs trial 1" in trials("show", "pairs", 4, "--backend", "both").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pears", "elsewhere"], ["'pears'", "pairs"]),
        (["pairs", "daskperiment_cache"], ["same store"]),
        (["pairs", "nope://x"], ["'nope://x'"]),
        (["pairs"], ["TARGET"]),
        (["pairs", "nothing_here", "elsewhere"], ["'pairs'", "nothing_here"]),
        (["pairs", "elsewhere", "--backend", "nope://x"], ["'nope://x'"]),
    ],
)
def test_copies_that_cannot_be(
    trials: Command, folder: Path, arguments: list[str], words: list[str]
) -> None:
    """What cannot be copied is refused, and nothing is created."""
    one_line(trials("copy", *arguments), 2, *words)
    assert not (folder / "elsewhere").exists()


def test_export_writes_text_files(trials: Command, folder: Path) -> None:
    """One CSV file, a JSON file and the code for each trial."""
    answer = trials("export", "pairs", "out")
    assert (answer.status, answer.out) == (0, "3 trials of pairs written to out.\n")
    out = folder / "out"
    assert sorted(snapshot(out)) == [
        "code/000001.py", "code/000002.py", "code/000003.py", "daskperiment.json", "history.csv",
        "trials/000001.json", "trials/000002.json", "trials/000003.json",
    ]  # fmt: skip
    with (out / "history.csv").open(newline="") as file:
        assert [row["Status"] for row in csv.DictReader(file)] == ["succeeded"] * 2 + ["failed"]
    told = json.loads((out / "trials" / "000002.json").read_text())
    assert (told["trial"], told["result"], told["parameters"]["name"]) == (2, 8.0, "long name")
    assert any(line.startswith("pandas==") for line in told["packages"])
    compile((out / "code" / "000001.py").read_text(), "code", "exec")


def test_export_again_changes_nothing(trials: Command, script: Path, folder: Path) -> None:
    """The same records give the same bytes; a new trial adds files and a line."""
    trials("export", "pairs", "out")
    before = snapshot(folder / "out")
    assert trials("export", "pairs", "out").status == 0
    assert snapshot(folder / "out") == before
    trials("run", script)
    assert trials("export", "pairs", "out").status == 0
    after = snapshot(folder / "out")
    assert sorted(after.keys() - before.keys()) == ["code/000004.py", "trials/000004.json"]
    assert [name for name in before if before[name] != after[name]] == ["history.csv"]
    assert after["history.csv"].startswith(before["history.csv"])


def test_exported_code_can_be_compared_by_diff_tools(
    trials: Command, script: Path, folder: Path
) -> None:
    """A diff of two trials' code shows the line that was changed."""
    script.write_text(script.read_text().replace("pair.a) /", "pair.a) * 2 /"))
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # the tests make errors of them
        answer = trials("run", script)
    assert answer.status == 0, answer
    assert answer.err.startswith("Warning: "), answer
    assert answer.err.count("\n") == 1, answer
    trials("export", "pairs", "out")
    code = folder / "out" / "code"
    done = subprocess.run(
        ["git", "diff", "--no-index", "--unified=0", code / "000001.py", code / "000004.py"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    changed = [line for line in done.stdout.splitlines() if line[:1] in "+-" and line[1:2] == " "]
    assert len(changed) == 2, done.stdout


def test_export_into_a_folder_of_other_files_is_refused(trials: Command, folder: Path) -> None:
    """Nothing that was there is overwritten."""
    out = folder / "out"
    out.mkdir()
    (out / "history.csv").write_text("mine")
    one_line(trials("export", "pairs", "out"), 2, "'out'", "other files")
    (out / "daskperiment.json").write_text('{"experiment": "others"}')
    one_line(trials("export", "pairs", "out"), 2, "'others'")
    (out / "daskperiment.json").write_bytes(b"\xff\x00")
    one_line(trials("export", "pairs", "out"), 2, "daskperiment.json")
    assert (out / "history.csv").read_text() == "mine"
    (folder / "file").write_text("mine")
    one_line(trials("export", "pairs", "file/out"), 1, "file/out")


def test_delete_asks(trials: Command) -> None:
    """Only y deletes; n and no answer leave everything."""
    answer = trials("delete", "pairs", input="n\n")
    assert answer.status == 1
    assert "Delete experiment pairs with 3 trials from file://" in answer.out
    assert "Nothing was deleted" in answer.err
    assert trials("delete", "pairs", input="").status == 1
    assert len(trials("history", "pairs").table) == 4
    assert trials("delete", "pairs", input="y\n").status == 0
    one_line(trials("history", "pairs"), 2, "'pairs'")


def test_delete_without_a_question(trials: Command) -> None:
    """--yes answers the question; what is not there cannot be deleted."""
    assert trials("delete", "pairs", "--yes").out.startswith(
        "Deleted experiment pairs with 3 trial"
    )
    one_line(trials("delete", "pairs", "--yes"), 2, "'pairs'")


def test_flush_of_one_and_all(trials: Command) -> None:
    """Where nothing waits, that is said."""
    assert trials("flush", "pairs").out == "pairs: nothing waited.\n"
    assert trials("flush").out == "pairs: nothing waited.\n"
    one_line(trials("flush", "pears"), 2, "'pears'")


def test_flush_delivers_what_a_process_left(trials: Command, folder: Path) -> None:
    """Points that wait in the journal of a process that was killed are delivered."""
    import sys

    code = (
        "import daskperiment, os, pathlib, signal\n"
        "ex = daskperiment.Experiment('killed', backend=pathlib.Path('daskperiment_cache'))\n"
        "@ex.result\n"
        "def die():\n"
        "    for i in range(5): ex.save_metric('m', i, i)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "die().compute()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    answer = trials("flush", "killed")
    assert answer.status == 0
    assert answer.out.endswith(" records were delivered.\n"), answer
    assert len(trials("metrics", "killed", 1, "--format", "csv").out.splitlines()) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--max-bytes", "--older-than"]),
        (["--max-bytes", "many"], ["'many'", "500MB"]),
        (["--older-than", "long"], ["'long'", "30d"]),
    ],
)
def test_prune_needs_a_limit(trials: Command, arguments: list[str], words: list[str]) -> None:
    """What may go has to be said."""
    one_line(trials("prune", "pairs", *arguments), 2, *words)


def test_prune_removes_reusable_values(run: Command, folder: Path) -> None:
    """--dry-run shows what would go; then it goes, and the history stays."""
    backend = folder / "daskperiment_cache"

    def experiment() -> daskperiment.Experiment:
        as_new_process()
        return daskperiment.Experiment("reusing", backend=backend)

    ex = experiment()

    @ex.persist(reuse=True)
    def make() -> object:
        import numpy as np

        return np.arange(1000)

    @ex.result
    def size(values: object) -> int:
        return len(values)  # type: ignore[arg-type]

    size(make()).compute()
    shown = run("prune", "reusing", "--max-bytes", "0", "--dry-run")
    assert shown.status == 0, shown
    assert [row[0] for row in shown.table[1:]] == ["make"]
    assert run("prune", "reusing", "--max-bytes", "1GB").table[1:] == []
    assert run("prune", "reusing", "--older-than", "30d").table[1:] == []
    gone = run("prune", "reusing", "--max-bytes", "0")
    assert gone.out == shown.out
    assert run("prune", "reusing", "--max-bytes", "0").table[1:] == []
    assert len(run("history", "reusing").table) == 2


def test_deleted_trials_are_not_counted(trials: Command) -> None:
    """Copying and deleting an experiment tell how many trials there are, not the latest id."""
    assert trials("rm-trials", "pairs", "2", "--yes", "--force").status == 0
    for _ in range(2):
        assert trials("copy", "pairs", "elsewhere").out.startswith("2 trials of pairs copied")
    assert trials("delete", "pairs", "--yes", "--backend", "elsewhere").out.startswith(
        "Deleted experiment pairs with 2 trials"
    )
