"""What people type: names, options and aliases that they try, completion, and unnamed results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

import daskperiment
from daskperiment.cli import cli
from daskperiment.cli.exit_status import folded_traceback
from tests.cli.conftest import Command

UNNAMED = """
import daskperiment
ex = daskperiment.Experiment("unnamed")
rate = ex.parameter("rate", default=1)
flag = ex.parameter("flag", default=None)

@ex.parameter
def doubled(rate):
    return 2 * rate

@ex.result
def train(rate, flag):
    if rate == 9:
        raise ValueError("nine")
    ex.save_metric("loss", 0, rate)
    return rate, flag

"""
BARE = UNNAMED + "train(rate, flag)\n"


@pytest.fixture
def script(folder: Path) -> Path:
    """Write a script whose result has no name."""
    path = folder / "unnamed.py"
    path.write_text(BARE)
    return path


@pytest.mark.parametrize(
    "end",
    ["train(rate, flag)", "results = [train(rate, flag)]", "r = {'a': train(rate, flag)}",
     "a = b = train(rate, flag)", "(train(rate, flag), 1)[0]"],
)  # fmt: skip
def test_the_only_result(run: Command, folder: Path, end: str) -> None:
    """A script with exactly one result is run, wherever the result stands."""
    (folder / "s.py").write_text(UNNAMED + end)
    answer = run("run", "s.py", "rate=3")
    assert (answer.status, "result      (3, None)" in answer.out) == (0, True), answer


@pytest.mark.parametrize(
    ("end", "said"),
    [("", "Nothing was computed: "), ("train(rate, 1)\ntrain(rate, 2)", "several results"),
     ("if __name__ == '__main__':\n    train(rate, 1).compute()", "Nothing was computed: ")],
)  # fmt: skip
def test_no_result_or_several(run: Command, folder: Path, end: str, said: str) -> None:
    """Where nothing is computed, that is said, and what to do."""
    (folder / "s.py").write_text(UNNAMED + end)
    answer = run("run", "s.py")
    assert (answer.status, said in answer.err) == (2, True), answer


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize(
    ("given", "result"),
    [
        (["--rate", "0.1"], "(0.1, None)"), (["--rate=0.1", "flag=true"], "(0.1, True)"),
        (["rate=-2", "--flag", "no"], "(-2, False)"), (["--rate", "-2"], "(-2, None)"),
        (["flag=[relu, 2, [on]]"], "(1, ['relu', 2, [True]])"), (["flag=null"], "(1, None)"),
        (["flag='true'"], "(1, 'true')"), (["--flag", "a=b", "--seed", "3"], "(1, 'a=b')"),
    ],
)  # fmt: skip
def test_parameters_as_people_write_them(run: Command, given: list[str], result: str) -> None:
    """Parameters are given as options too, and with the booleans and lists of YAML."""
    assert f"result      {result}\n" in run("run", "unnamed.py", *given).out


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize(
    ("given", "said"),
    [(["--rate"], "'--rate' without a value"), (["--raet", "1"], "did you mean 'rate'"),
     (["--rate", "1", "rate=2"], "'rate' is given twice")],
)  # fmt: skip
def test_parameters_given_wrongly(run: Command, given: list[str], said: str) -> None:
    """What is no parameter is named, with the nearest."""
    answer = run("run", "unnamed.py", *given)
    assert (answer.status, said in answer.err) == (2, True), answer


@pytest.mark.usefixtures("script")
def test_store_before_and_behind(run: Command) -> None:
    """The store is given before a command or behind it; the one behind it holds."""
    assert run("--backend", "one", "run", "unnamed.py").status == 0
    assert run("--backend", "two", "run", "unnamed.py", "--backend", "one").status == 0
    assert [line[1] for line in run("ls", "--backend", "one").table[1:]] == ["2"]
    assert run("--backend", "one", "copy", "unnamed", "three").status == 0
    assert "unnamed" in run("--backend", "three", "ls").out


@pytest.fixture
def made(run: Command, script: Path) -> Command:
    """Run three trials."""
    for rate in (1, 2, 3):
        run("run", str(script), f"rate={rate}")
    return run


def test_aliases(made: Command) -> None:
    """Names that people try do what they mean."""
    assert made("list").out == made("ls").out
    assert made("diff", "unnamed", "1", "2").out == made("compare", "unnamed", "1", "2").out
    assert "dashboard" in made("ui", "--help").out.lower()
    assert made("rm", "unnamed", "--yes").status == 0
    assert "unnamed" not in made("ls").out


@pytest.mark.parametrize("given", [["history"], ["steps"], ["metrics"], ["artifacts"]])
def test_limit_and_json(made: Command, given: list[str]) -> None:
    """Listings are cut by ``-n``, and ``--json`` is short for the format."""
    assert len(made(*given, "unnamed", "-n", "1").table) <= 2
    assert made(*given, "unnamed", "--limit", "0").status == 0
    short, long = (made(*given, "unnamed", *as_).out for as_ in (["--json"], ["--format", "json"]))
    assert json.loads(short) == json.loads(long)


def test_columns_have_their_trial(made: Command) -> None:
    """A row says of which trial it is, whatever columns are asked for."""
    assert made("history", "unnamed", "--columns", "rate").table[:2] == [
        ["Trial ID", "rate"],
        ["1", "1"],
    ]
    assert made("history", "unnamed", "--columns", "rate,Trial ID").table[0] == ["rate", "Trial ID"]
    assert made("history", "unnamed", "--columns", "metrics.loss").table[1] == ["1", "1"]


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        (["show"], "unn", ["unnamed"]), (["show", "unnamed"], "l", ["latest"]),
        (["tag", "unnamed"], "1,", ["1,latest", "1,best", "1,3", "1,2", "1,1"]),
        (["history", "unnamed", "--columns"], "rate,metr", ["rate,metrics.loss"]),
        (["history", "unnamed", "--sort"], "Tri", ["Trial ID"]),
        (["run", "unnamed.py"], "r", ["rate="]), (["run", "unnamed.py"], "d", ["doubled="]),
        (["show", "nothing"], "l", []), (["run", "absent.py"], "r", []),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("made")
def test_completion(words: list[str], incomplete: str, expected: list[str]) -> None:
    """Experiments, trials, columns and parameters of a script are completed, and none is run."""
    shell = ShellComplete(cli, {}, "daskperiment", "_DASKPERIMENT_COMPLETE")
    found = [one.value for one in shell.get_completions(words, incomplete)]
    assert found == expected


@pytest.mark.usefixtures("script")
def test_traceback(run: Command) -> None:
    """With ``--debug`` the user's frames stand first, and those of libraries are folded."""
    err = run("run", "unnamed.py", "rate=9", "--debug").err
    assert 'raise ValueError("nine")' in err
    assert "frames of libraries" in err
    assert "dask/local.py" not in err
    assert err.index("unnamed.py") < err.index("It came of that:")


def test_traceback_of_our_own() -> None:
    """Of an error that no code of the user's has a part in, all is shown."""
    try:
        daskperiment.Experiment("no id")
    except ValueError as error:
        lines = folded_traceback(error.with_traceback(None))
    assert lines[-1].startswith("ValueError: An experiment's id")


def test_as_a_module(folder: Path) -> None:
    """``python -m daskperiment`` is the command line."""
    command = [sys.executable, "-m", "daskperiment", "ls", "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert (answer.returncode, "List the experiments" in answer.stdout) == (0, True), answer
