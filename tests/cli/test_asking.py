"""Commands that ask what was recorded."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

import daskperiment
from daskperiment.cli import listings
from daskperiment.cli.listings import sparkline
from daskperiment.cli.output import print_table
from daskperiment.formatting import width
from daskperiment.history.overview import ExperimentRow, experiments_frame
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Point
from tests.cli.conftest import Answer, Command, as_new_process, in_terminal, one_line

COLOUR = r"\x1b\[(\d+;)*[34]\d"
EVIL = "[red]x[/red]\x1b[2J\x9b31m\t\r\n:smile: \u202e<b>"


def columns(answer: Answer, *names: str) -> list[list[str]]:
    """Give columns of a table that was printed to a pipe."""
    header, *rows = answer.table
    return [[row[header.index(name)] for name in names] for row in rows]


FINISHED = (
    0.0, 1.5e9, 1764324516.607154, 1764324516.6071545, 1764324516.0000005, -1.25, 9.1e9, 1e11,
    math.inf, math.nan, None,
)  # fmt: skip
"""Seconds since the epoch, also those that a damaged record may have."""


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_ls_prints_the_table_of_experiments(
    run: Command, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    """What ls prints without pandas is what the table of `list_experiments` says."""
    rows = [
        ExperimentRow(f"e{at:02}", f"file:///store/e{at:02}", at, 1, 0, finished)
        for at, finished in enumerate(FINISHED)
    ]
    rows.append(ExperimentRow("unreadable", "file:///store/=é\x1b"))
    monkeypatch.setattr(listings, "experiment_rows", lambda backend: rows)
    printed = run("ls", "--format", format_).out
    with contextlib.redirect_stdout(io.StringIO()) as wanted:
        listings.print_frame(experiments_frame(rows), format_)
    assert printed == wanted.getvalue()
    first = run("ls", "--format", "csv", "-n", "1").out.splitlines()
    assert first[1:] == ["e00,0,1,0,1970-01-01T00:00:00+00:00,file:///store/e00"]


def test_ls_lists_experiments(trials: Command, folder: Path) -> None:
    """One line for each experiment, with what became of its trials."""
    answer = trials("ls")
    assert columns(answer, "Experiment", "Trials", "Succeeded", "Running") == [
        ["pairs", "3", "2", "0"]
    ]
    (row,) = json.loads(trials("ls", "--format", "json").out)
    assert row["Address"] == (folder / "daskperiment_cache" / "pairs").as_uri()


def test_ls_of_nothing_says_so_and_creates_nothing(run: Command, folder: Path) -> None:
    """A store without experiments is no error, and looking does not make one."""
    answer = run("ls")
    assert (answer.status, answer.table[1:]) == (0, [])
    assert str(folder / "daskperiment_cache") in answer.err
    assert list(folder.iterdir()) == []


def test_history_is_a_table(trials: Command) -> None:
    """A pipe gets every column and row with tabs between, and nothing is cut."""
    answer = trials("history", "pairs")
    assert answer.table[0] == ["Trial ID", "a", "b", "name", "sum_", "Result", "Success",
                               "Finished", "Process Time", "Description"]  # fmt: skip
    assert columns(answer, "Trial ID", "name", "Result", "Success", "Description") == [
        ["1", "x", "4.0", "True", ""],
        ["2", "long name", "8.0", "True", ""],
        ["3", "x", "", "False", "ZeroDivisionError(division by zero)"],
    ]


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--where", "Success"], "12"),
        (["--where", "a > 1 or not Success"], "23"),
        (["--where", "name == 'long name'"], "2"),
        (["--where", "`Process Time` < 60 and Result > 5"], "2"),
        (["--where", "Status == 'failed'"], "3"),
        (["--where", "Seed == 1 and Finished > '2020-01-01'"], "123"),
        (["--sort", "-Result"], "213"),
        (["--sort", "name"], "213"),
        (["--sort", "-Trial ID"], "321"),
        (["--sort", "-Started"], "321"),
        (["--last", "2"], "23"),
        (["--last", "1", "--where", "Success", "--sort", "a"], "2"),
    ],
)
def test_history_is_filtered_and_sorted(trials: Command, arguments: list[str], ids: str) -> None:
    """Conditions, order and number of rows."""
    answer = trials("history", "pairs", *arguments)
    assert "".join(row[0] for row in answer.table[1:]) == ids


def test_history_columns_are_chosen(trials: Command) -> None:
    """Columns come in the order given, from the verbose history too."""
    answer = trials("history", "pairs", "--columns", "Status,a", "--columns", "Trial ID")
    assert answer.table[:2] == [["Status", "a", "Trial ID"], ["succeeded", "1", "1"]]


def test_verbose_history_has_more_columns(trials: Command) -> None:
    """--verbose adds what Experiment.get_history(verbose=True) adds."""
    header = trials("history", "pairs", "--verbose").table[0]
    assert {"Seed", "Result Type", "Status", "Started", "Host", "User", "Git Commit"} <= {*header}


def test_values_that_cannot_be_compared_are_sorted(run: Command, folder: Path) -> None:
    """A column of many kinds of values is sorted by kind."""
    ex = daskperiment.Experiment("mixed", backend=folder / "daskperiment_cache")
    same = ex.result(lambda a: 0)(ex.parameter("a"))
    for value in ("x", 2, None, [1], 1):
        same.bind(a=value).compute()
    answer = run("history", "mixed", "--sort", "a", "--columns", "a")
    assert [row[1] for row in answer.table[1:]] == ["1", "2", "x", "None", "[1]"]


def test_history_as_csv(trials: Command, folder: Path) -> None:
    """CSV goes to the output or a file, the same both times."""
    answer = trials("history", "pairs", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert [row["Result"] for row in rows] == ["4.0", "8.0", ""]
    assert float(rows[0]["Process Time"]) > 0
    assert trials("history", "pairs", "--format", "csv", "-o", "out.csv").out == ""
    assert (folder / "out.csv").read_text() == answer.out


def test_history_as_json(trials: Command) -> None:
    """JSON has numbers, null where nothing is, and times as text."""
    rows = json.loads(trials("history", "pairs", "--format", "json").out)
    assert [row["Result"] for row in rows] == [4.0, 8.0, None]
    assert rows[2]["Success"] is False
    assert rows[0]["Description"] is None
    assert rows[0]["Finished"].endswith("+00:00")


def test_history_as_parquet(trials: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet gets the chosen columns; a column of many kinds is one of text."""
    written: list[pd.DataFrame] = []

    def write(frame: pd.DataFrame, file: Any, engine: str, index: bool) -> None:
        assert (engine, index) == ("pyarrow", False)
        written.append(frame)
        file.write(b"PAR1")

    import importlib.util

    monkeypatch.setattr(pd.DataFrame, "to_parquet", write)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    as_new_process()
    ex = daskperiment.Experiment("pairs", backend=folder / "daskperiment_cache")
    b = ex.parameter("b")
    ex.result(lambda b: b)(b).bind(b=[1]).compute()
    command = ["history", "pairs", "--format", "parquet", "--columns", "b,Process Time"]
    assert trials(*command).out == "PAR1"
    assert trials(*command, "-o", "out.parquet").status == 0
    assert (folder / "out.parquet").read_bytes() == b"PAR1"
    assert list(written[0]["b"]) == ["2", "2", "0", "[1]"]
    assert written[0]["Process Time"].dtype.kind == "m"


def test_parquet_without_its_package(trials: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow one line says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    one_line(trials("history", "pairs", "--format", "parquet"), 1, "pip install pyarrow")


def test_file_that_cannot_be_written(trials: Command, folder: Path) -> None:
    """A file that cannot be written is named."""
    answer = trials("history", "pairs", "--format", "csv", "-o", "nowhere/out.csv")
    one_line(answer, 1, "nowhere/out.csv")


def test_running_trials_are_shown_if_asked_for(run: Command, folder: Path) -> None:
    """--running adds the trials that have not ended."""
    ex = daskperiment.Experiment("looking", backend=folder / "daskperiment_cache")
    seen: list[str] = []

    @ex.result
    def look() -> None:
        for options in ([], ["--running"]):
            frame = ex.get_history(running=bool(options))
            seen.append(str(len(frame)))

    look().compute()
    assert seen == ["0", "1"]
    answer = run("history", "looking", "--running", "--columns", "Status")
    assert [row[1:] for row in answer.table[1:]] == [["succeeded"]]


def test_show_tells_all_about_a_trial(trials: Command) -> None:
    """Status, result, parameters, metrics and steps; by default of the latest trial."""
    answer = trials("show", "pairs", 1)
    for line in ("status          succeeded", "result          4.0", "seed            1",
                 "parameter name  x", "metric loss     0.25 at the end of 4 points"):  # fmt: skip
        assert line in answer.out.splitlines(), answer
    assert "pair\tsucceeded\t" in answer.out
    answer = trials("show", "pairs")
    assert "status          failed" in answer.out
    assert answer.out.rstrip().endswith("ZeroDivisionError: division by zero")
    assert answer.out == trials("show", "pairs", "latest").out


def test_show_as_json(trials: Command) -> None:
    """The same as data."""
    told = json.loads(trials("show", "pairs", 2, "--format", "json").out)
    assert (told["trial"], told["status"], told["result"], told["seed"]) == (2, "succeeded", 8.0, 1)
    assert told["parameters"] == {"a": 3, "b": 2, "name": "long name", "sum_": 5}
    assert told["metrics"] == {"loss": [[0, 1.0], [1, 0.5], [2, 1 / 3], [3, 0.25]]}
    assert [step["key"] for step in told["steps"]] == ["pair", "score"]
    failure = json.loads(trials("show", "pairs", 3, "--format", "json").out)["failure"]
    assert (failure["type"], failure["step"]) == ("ZeroDivisionError", "score")


def test_artifacts_come_and_go(trials: Command, folder: Path) -> None:
    """A file is added to a trial, listed and written again, and no other file is overwritten."""
    (folder / "model.bin").write_bytes(b"\x00model")
    assert (
        trials("save", "pairs", "model", "model.bin", 1).out
        == "'model' added to trial 1 of pairs.\n"
    )
    listed = trials("artifacts", "pairs", 1)
    assert columns(listed, "Trial ID", "Name", "Format", "Size") == [["1", "model", "file", "6"]]
    assert trials("artifacts", "pairs", 2).status == 0
    one_line(trials("get", "pairs", "model", 1), 2, "'model.bin'", "--output")
    answer = trials("get", "pairs", "model", 1, "--output", "copy.bin")
    assert answer.out == "'model' of trial 1: 6 bytes written to copy.bin.\n"
    assert (folder / "copy.bin").read_bytes() == b"\x00model"
    assert "'mode'" in trials("get", "pairs", "mode", 1).err


def test_steps_of_one_trial_or_all(trials: Command) -> None:
    """A line for each step run."""
    assert columns(trials("steps", "pairs", 3), "Trial ID", "Step", "Status") == [
        ["3", "pair", "succeeded"],
        ["3", "score", "failed"],
    ]
    assert len(trials("steps", "pairs").table) == 1 + 6
    assert len(json.loads(trials("steps", "pairs", "latest", "--format", "json").out)) == 2


def test_metrics_are_summed_up(trials: Command) -> None:
    """A line for each metric: points, first, last, lowest and highest value."""
    assert trials("metrics", "pairs", 1, 2).table == [
        ["Trial ID", "Metric", "Points", "First", "Last", "Lowest", "Highest"],
        ["1", "loss", "4", "1.0", "0.25", "0.25", "1.0"],
        ["2", "loss", "4", "1.0", "0.25", "0.25", "1.0"],
    ]
    assert [row[0] for row in trials("metrics", "pairs").table[1:]] == ["3"]


def test_metrics_as_data(trials: Command) -> None:
    """As CSV and JSON every point is there."""
    rows = list(csv.reader(io.StringIO(trials("metrics", "pairs", 1, "--format", "csv").out)))
    assert rows[:3] == [["Trial ID", "Metric", "Epoch", "Value"], ["1", "loss", "0", "1.0"],
                        ["1", "loss", "1", "0.5"]]  # fmt: skip
    told = json.loads(trials("metrics", "pairs", 1, "--metric", "loss", "--format", "json").out)
    assert told[3] == {"Trial ID": 1, "Metric": "loss", "Epoch": 3, "Value": 0.25}


def test_metrics_of_none(run: Command, folder: Path) -> None:
    """A trial without metrics is no error."""
    ex = daskperiment.Experiment("plain", backend=folder / "daskperiment_cache")
    ex.result(lambda: 1)().compute()
    answer = run("metrics", "plain")
    assert (answer.status, len(answer.table)) == (0, 1)
    assert "save_metric" in answer.err


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([1], "▁"),
        ([0, 1], "▁█"),
        ([1, float("nan"), "x", 2, float("inf")], "▁  █ "),
        ([-1.7e308, 1.7e308], "▁█"),
        (range(1000), "▁▁▁▂▂▂▂▃▃▃▃▄▄▄▄▅▅▅▅▆▆▆▆▇▇▇▇███"),
        ([None, "x"], ""),
        ([10**400, 1], " ▁"),
    ],
)
def test_sparkline(values: Any, line: str) -> None:
    """A curve has one character for each point, at most 30, whatever the values are."""
    assert sparkline(list(values)) == line


def test_code_and_environment(trials: Command) -> None:
    """What ran, and where."""
    code = trials("code", "pairs", 1).out
    assert "def pair(a, b):\n    return Pair(a, b)\n" in code
    assert "def twice(value):" in code
    assert trials("code", "pairs").out == code
    assert "  implementation: CPython" in trials("env", "pairs", 1).out
    assert trials("env", "pairs", "--category", "python").out.strip()
    assert "\nclick==" in trials("env", "pairs", "--packages").out
    one_line(trials("env", "pairs", "--category", "nope"), 2, "'nope'")


def test_compare(trials: Command) -> None:
    """What Experiment.compare prints, or its data."""
    answer = trials("compare", "pairs", 1, 2)
    assert "differs from trial 1 first in step 'pair': parameter a 1 -> 3" in answer.out
    told = json.loads(trials("compare", "pairs", 1, "latest", "--format", "json").out)
    assert told["parameters"]["b"] == {"first": 2, "second": 0}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["history", "pears"], ["'pears'", "It has: pairs."]),
        (["history", "no id"], ["'no id'", "It has: pairs."]),
        (["show", "../pairs"], ["'../pairs'"]),
        (["history", "pairs", "--columns", "a,q"], ["'q'", "Trial ID, a, b"]),
        (["history", "pairs", "--sort", "q"], ["'q'", "Trial ID`, a, b"]),
        (["history", "pairs", "--where", "q > 1"], ["'q'", "Trial ID`, a, b"]),
        (["history", "pairs", "--where", "a >"], ["'a >'"]),
        (["history", "pairs", "--where", "open('x')"], ["open('x')"]),
        (["history", "pairs", "--last", "0"], ["--last"]),
        (["history", "pairs", "--format", "xml"], ["xml", "parquet"]),
        (["history"], ["ID", "history --help"]),
        (["show", "pairs", "4"], ["trial 4", "1 to 3"]),
        (["show", "pairs", "0"], ["'0'", "latest"]),
        (["show", "pairs", "x"], ["'x'", "latest"]),
        (["show", "pairs", "9" * 400], ["no trial"]),
        (["steps", "pairs", "4"], ["trial 4"]),
        (["metrics", "pairs", "4"], ["trial 4"]),
        (["metrics", "pairs", "1", "--metric", "lass"], ["'lass'", "'loss'"]),
        (["code", "pairs", "4"], ["trial 4"]),
        (["env", "pairs", "4"], ["trial 4"]),
        (["compare", "pairs", "1", "4"], ["trial 4"]),
        (["compare", "pairs", "1"], ["'B'"]),
        (["nope"], ["nope"]),
    ],
)
def test_wrong_questions_are_one_line_and_status_2(
    trials: Command, arguments: list[str], words: list[str]
) -> None:
    """An unknown experiment, trial, column, metric or option: the line tells what there is."""
    one_line(trials(*arguments), 2, *words)


@pytest.fixture
def evil(folder: Path) -> str:
    """Plant markup and control characters in all that a person can name or return."""
    ex = daskperiment.Experiment("evil", backend=folder / "daskperiment_cache")
    a = ex.parameter(EVIL, default=EVIL)

    @ex
    def step(a: str) -> str:
        ex.save_metric(EVIL, EVIL, 1.0)
        return a

    @ex.result
    def fail(a: str) -> str:
        if a == EVIL:
            return a
        raise ValueError(EVIL)

    result = fail(step(a))
    result.compute()
    with pytest.raises(ValueError, match="red"):
        result.bind(**{EVIL: EVIL + EVIL}).compute()
    recorder = recorder_for(ex._store)  # as another writer could
    recorder.point(recorder.owner_of(1), Point(EVIL, EVIL, EVIL, 0.0))
    ex.note([1, 2], EVIL)
    return "evil"


@pytest.mark.parametrize(
    "command",
    [
        ["history"], ["history", "--format", "csv"], ["history", "--format", "json"], ["steps"],
        ["show"], ["show", "1"], ["show", "--format", "json"], ["metrics"],
        ["metrics", "--format", "csv"], ["metrics", "--format", "json"], ["code"],
        ["compare", "1", "2"], ["compare", "1", "2", "--format", "json"],
        ["history", "--columns", "nope"], ["metrics", "--metric", "nope"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_nothing_from_the_store_reaches_the_terminal_as_it_is(
    run: Command, evil: str, command: list[str]
) -> None:
    """Control characters are shown as escapes, and markup stays what it is."""
    answer = run(command[0], evil, *command[1:])
    for char in "\x1b\x9b\r\u202e":
        assert char not in answer.out + answer.err, answer
    if command not in (["steps"], ["code"]):
        assert "[red]x[/red]" in answer.out + answer.err, answer


def test_on_a_terminal_markup_is_not_interpreted(evil: str) -> None:
    """On a terminal, rich shows what the store holds as text, and adds its own colours only."""
    commands = [["history", evil], ["show", evil, "1"], ["metrics", evil], ["code", evil]]
    texts = in_terminal(*commands, columns=300)
    for text in texts:
        for harm in ("\x1b[2J", "\x9b", "\u202e", "\r", "😄"):
            assert harm not in text, text
    for text in texts[:3]:
        assert "[red]x[/red]" in text, text


def test_on_a_terminal_tables_are_laid_out(trials: Command) -> None:
    """A terminal gets columns below each other, curves, and word of what has no room."""
    narrow, curves, steps = in_terminal(
        ["history", "pairs"], ["metrics", "pairs"], ["steps", "pairs"], columns=60
    )
    assert "\x1b[1mTrial ID" in narrow
    assert "\t" not in narrow
    assert "No room for: " in narrow
    assert "█▃▂▁" in curves
    assert "Key" in steps
    (wide,) = in_terminal(["history", "pairs"], columns=200)
    assert "No room for" not in wide
    assert "long name" in wide


def test_on_a_narrow_terminal_nothing_is_lost(run: Command, folder: Path) -> None:
    """However narrow it is, no line is wider, wide characters count, and values are not cut."""
    ex = daskperiment.Experiment("narrow", backend=folder / "daskperiment_cache")
    rate = ex.parameter("学習率", default="漢字" * 12)

    @ex.result
    def score(rate: str) -> str:
        return rate

    score(rate).compute()
    as_new_process()
    commands = [["ls"], ["history", "narrow"], ["show", "narrow"], ["steps", "narrow"]]
    for text in in_terminal(*commands, columns=24):
        for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
            assert width(line) <= 24, line
    (shown,) = in_terminal(["show", "narrow"], columns=24)
    plain = re.sub(r"\x1b\[[0-9;]*m|[\s'…]", "", shown)
    assert plain.count("漢字") == 24  # the result, and the parameter


def test_terminal_without_colour(trials: Command) -> None:
    """NO_COLOR leaves a terminal's layout and takes its colours."""
    coloured, plain = (
        in_terminal(["history", "pairs"], ["code", "pairs"], **settings)
        for settings in ({}, {"NO_COLOR": "1"})
    )
    for text, without in zip(coloured, plain, strict=True):
        assert re.search(COLOUR, text)
        assert not re.search(COLOUR, without)
    assert "Trial ID" in plain[0]


def test_terminal_shows_the_end_of_a_long_table() -> None:
    """Of thousands of rows a terminal shows the last, and says so."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80)
    print_table(["Number"], [[number] for number in range(2000)], console)
    lines = file.getvalue().splitlines()
    assert [line.strip() for line in lines[1:3]] == ["1500", "1501"]
    assert "last 500 of 2000 rows" in lines[-1]


def test_pipe_has_no_colour(trials: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe is plain even where a variable asks for colour."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    for command in ("history", "show", "steps", "metrics", "code"):
        assert "\x1b" not in trials(command, "pairs").out


def test_log_prints_what_steps_said(run: Command, folder: Path) -> None:
    """The lines of a trial or of one step; control characters do nothing to a terminal."""
    ex = daskperiment.Experiment("saying", backend=folder / "daskperiment_cache")

    @ex
    def first() -> int:
        print("of the first")
        return 1

    @ex.result
    def last(value: int) -> int:
        sys.stdout.write(EVIL)
        return value

    last(first()).compute()
    answer = run("log", "saying")
    assert answer.out.splitlines()[0].endswith(" first stdout: of the first")
    assert "\x1b" not in answer.out
    assert "\x9b" not in answer.out
    assert "[red]x[/red]" in answer.out
    assert run("log", "saying", "latest", "--step", "first").out.count("\n") == 1
    answer = run("log", "saying", "1", "--step", "frist")
    assert answer.status
    assert "did you mean 'first'" in answer.err
