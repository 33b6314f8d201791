"""Sweeps, reuse, and the commands that explain and reproduce."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest

from daskperiment.errors import ResumptionWarning
from tests.cli.conftest import SCRIPT, Command, one_line


def test_sweep_runs_a_trial_for_each_combination(run: Command, script: Path) -> None:
    """Each --sweep has the values of one parameter; what is given else holds for all."""
    answer = run(
        "run", script, "name=y", "--seed", 1, "--sweep", "a=1,2,3", "--sweep", "b=1,2.5",
        "--scheduler", "synchronous",
    )  # fmt: skip
    assert answer.status == 0, answer
    rows = run("history", "pairs", "--columns", "a,b,name").table[1:]
    assert rows == [[a, b, "y"] for a in "123" for b in ("1.0", "2.5")]
    assert len(answer.table) == 7


def test_sweep_with_a_failed_trial_is_status_1(run: Command, script: Path) -> None:
    """The other trials run, the table is printed, and a line tells how many failed."""
    answer = run("run", script, "--sweep", "b=0,1")
    one_line(answer, 1, "1 of 2 trials failed")
    assert len(answer.table) == 3


def test_sweep_of_random_values(run: Command, script: Path) -> None:
    """--sampler and --n-trials choose which."""
    sweep = ["--sweep", "a=1,2,3,4", "--sampler", "random", "--n-trials", 2, "--seed", 3]
    assert run("run", script, *sweep).status == 0
    assert len(run("history", "pairs").table) == 3


def test_resume_of_an_unknown_sweep(run: Command, script: Path) -> None:
    """A sweep that is not there is refused with those that are."""
    one_line(run("run", script, "--resume", "nope"), 2, "'nope'")


def test_reuse_takes_outputs_of_earlier_trials(run: Command, script: Path) -> None:
    """With --reuse an unchanged step is not run again, and explain says so before."""
    script.write_text(SCRIPT.replace("@ex\ndef pair", "@ex.persist(reuse=True)\ndef pair"))
    assert run("run", script).status == 0
    told = run("explain", script)
    assert told.status == 0, told
    assert "pair" in told.out
    assert run("explain", script, "a=5").out != told.out
    assert len(run("history", "pairs").table) == 2
    assert run("run", script, "--reuse", "name=z").status == 0
    rows = run("steps", "pairs", 2).table
    reused = rows[0].index("Reused From")
    assert {row[1]: row[reused] for row in rows[1:]} == {"pair": "1", "score": ""}
    one_line(run("explain", script, "q=1"), 2, "'q'")
    (now, _) = json.loads(run("explain", script, "--format", "json").out)
    assert (now["key"], now["verdict"], now["trial"]) == ("pair", "hit", 1)


def test_explain_tells_what_a_trial_did(run: Command, script: Path) -> None:
    """By the id of an experiment it reads the record: no script is needed, and none is run."""
    script.write_text(SCRIPT.replace("@ex\ndef pair", "@ex.persist(reuse=True)\ndef pair"))
    assert run("run", script).status == 0
    assert run("run", script, "--reuse", "name=z").status == 0
    script.unlink()
    first, latest = run("explain", "pairs", 1), run("explain", "pairs")
    assert re.search(r"^  pair +miss +never run$", first.out, re.MULTILINE)
    assert re.search(r"^  pair +hit +output of trial 1$", latest.out, re.MULTILINE)
    assert latest.out.startswith("Trial 2, score (succeeded):")
    assert run("explain", "pairs", "latest").out == latest.out
    assert json.loads(run("explain", "pairs", 2, "--format", "json").out)[0] == {
        "key": "pair", "step": "pair", "verdict": "hit", "reason": "output of trial 1",
        "trial": 1, "diffs": [],
    }  # fmt: skip
    assert run("explain", "pairs", 1, "--format", "csv").out.splitlines() == [
        "Key,Step,Verdict,Trial,Reason",
        "pair,pair,miss,,never run",
        "score,score,run,,its output is not to be reused",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pears"], ["'pears'", "It has: pairs."]),
        (["pairs", "9"], ["trial 9", "only trial 1"]),
        (["pairs", "x"], ["'x'", "latest"]),
        (["pairs", "a=1"], ["'a=1'", "latest"]),
        (["pairs", "1", "2"], ["only a trial", "'./pairs'"]),
        (["pairs", "--result", "score"], ["only a trial"]),
        (["nowhere.py"], ["'nowhere.py'", "does not exist"]),
        (["./pears"], ["'./pears'", "does not exist"]),
        ([], ["ID|SCRIPT"]),
    ],
)
def test_what_explain_refuses(
    run: Command, script: Path, arguments: list[str], words: list[str]
) -> None:
    """An experiment, trial or script that is not there is wrong use, and told in one line."""
    assert run("run", script).status == 0
    one_line(run("explain", *arguments), 2, *words)


def test_reproduce_shows_what_differs(run: Command, script: Path) -> None:
    """The same trial comes out the same; with changed code it does not, and status is 1."""
    assert run("run", script, "a=3").status == 0
    answer = run("reproduce", script, 1, "--scheduler", "synchronous")
    assert answer.status == 0, answer
    assert answer.out.startswith("Comparison of trials 1 and 2")
    script.write_text(SCRIPT.replace("pair.a) /", "pair.a) * 2 /"))
    answer = run("reproduce", script, 1)
    assert answer.status == 1
    assert "Trial 1 was not reproduced" in answer.err
    assert run("reproduce", script, 1, "--code", "recorded").status == 0
    one_line(run("reproduce", script, 99), 2, "trial 99")


LOOP = """
import os
import daskperiment

ex = daskperiment.Experiment("loop")
a = ex.parameter("a", default=2)

@ex.result
def train(a):
    total, last = ex.restore(default=(0, 0))
    for epoch in range(last + 1, 6):
        total += a
        ex.save_metric("total", epoch, total)
        ex.checkpoint(total, epoch)
        if epoch == 3 and os.environ.get("BREAK"):
            raise RuntimeError("broken")
    return total

s = train(a)
"""


def test_resume(run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial is gone on with by script, by experiment, and by run; both trials name the other."""
    script = folder / "loop.py"
    script.write_text(LOOP)
    with monkeypatch.context() as patched:
        patched.setenv("BREAK", "1")
        assert run("run", script, "a=5").status == 1
    answer = run("resume", script, 1)
    assert answer.status == 0, answer
    assert "result      25" in answer.out
    assert "resumes     1" in answer.out
    shown = run("show", "loop", 2, "--format", "json")
    assert '"resumes": 1' in shown.out
    assert re.search(r"resumed_by +\[2\]", run("show", "loop", 1).out)
    monkeypatch.chdir(folder)
    with warnings.catch_warnings():  # of a trial that was gone on with before
        warnings.simplefilter("ignore", ResumptionWarning)
        assert "result      25" in run("resume", "loop", 1).out
        assert "result      25" in run("run", script, "--resume", 1).out
    one_line(run("run", script, "a=1", "--resume", 1), 2, "its own parameters")
    one_line(run("resume", script, 3), 1, "Trial 3 succeeded")
    one_line(run("resume", script, 99), 2, "trial 99")
    script.rename(folder / "moved.py")
    one_line(run("resume", "loop", 1), 2, "loop.py, which is not here", "give the script")
