"""The commands ``best`` and ``check-metric``, and what is said of trials by commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import daskperiment
from tests.cli.conftest import Command


@pytest.fixture
def scored(folder: Path) -> daskperiment.Experiment:
    """Make four trials whose results are 1, 3, 2 and 2.5."""
    ex = daskperiment.Experiment("scored", backend=folder / "daskperiment_cache")
    p = ex.parameter("p")

    @ex.result
    def score(p: float) -> float:
        ex.save_metric("loss", 0, -p)
        return p

    for value in (1, 3, 2, 2.5):
        score(p).bind(p=value).compute(scheduler="synchronous")
    return ex


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        ([], "2"), (["--mode", "min"], "1"), (["--by", "metrics.loss"], "1"),
        (["--where", "p < 3"], "4"), (["--by", "p", "--where", "p < 2.5"], "3"),
    ],
)  # fmt: skip
def test_best(run: Command, arguments: list[str], out: str) -> None:
    """It prints the id alone, so that a shell can take it."""
    assert run("best", "scored", *arguments).out == f"{out}\n"


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize(
    ("given", "trial"), [("best", 2), ("latest", 4), ("-1", 4), ("-3", 2), ("3", 3)]
)
def test_trials_by_other_names(run: Command, given: str, trial: int) -> None:
    """A trial is meant by its place from the end or as the best, in each command that takes one."""
    assert f"trial        {trial}\n" in run("show", "scored", given).out
    assert run("steps", "scored", given, "--format", "csv").out.splitlines()[1][0] == str(trial)
    assert run("code", "scored", given).status == 0
    assert run("tag", "scored", given, "seen").out == f"Trial {trial}: tagged seen.\n"


@pytest.mark.parametrize(
    ("given", "tagged"),
    [("1,3-4", [1, 3, 4]), ("-2-latest", [3, 4]), ("best,best,1", [1, 2]), ("1 , 2", [1, 2])],
)
def test_several_trials(
    run: Command, scored: daskperiment.Experiment, given: str, tagged: list[int]
) -> None:
    """Pieces with commas between them, ranges with a dash; each trial counts once."""
    assert run("tag", "scored", given, "x").status == 0
    assert sorted(scored.get_history(where='"x" in tags').index) == tagged


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize("given", ["5", "3-2", "2-9", "-5", "0", "x", "1,,2", "1-2-3", "--1"])
def test_trials_that_are_not_there(run: Command, given: str) -> None:
    """The line names what was given; nothing is tagged."""
    answer = run("tag", "scored", given, "x")
    assert answer.status == 2
    assert answer.err.count("\n") == 1
    assert "Tags" not in run("history", "scored").out


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 1), (["best"], 0), (["latest", "--tolerance", "0.5"], 0),
        (["latest", "--mode", "min"], 1), (["1", "--mode", "min"], 0),
        (["latest", "--against", "base"], 0), (["4", "--against", "other"], 0),
        (["1", "--against", "base", "--tolerance", "0.9"], 1),
        (["1", "--by", "metrics.loss", "--against", "base"], 0),
        (["--against", "nothing"], 2), (["--by", "nothing"], 2), (["--tolerance", "-1"], 2),
        (["3", "--against", "base"], 2),
    ],
)  # fmt: skip
def test_check_metric(run: Command, arguments: list[str], status: int) -> None:
    """The exit status is 1 for a trial that is worse, 0 for one that is not, 2 for wrong use."""
    run("tag", "scored", "3", "base")
    run("tag", "scored", "1", "other")
    answer = run("check-metric", "scored", *arguments)
    assert answer.status == status, answer
    assert ("worse" in answer.out) == (status < 2)


def test_tables_show_tags_as_text(run: Command, scored: daskperiment.Experiment) -> None:
    """Tags have commas between them in tables, and are a list in JSON; show has notes as well."""
    scored.tag(2, "a", "b")
    scored.note(2, "good")
    assert "a, b" in run("history", "scored", "--format", "csv").out
    assert '["a","b"]' in "".join(run("history", "scored", "--format", "json").out.split())
    shown = run("show", "scored", "2").out
    assert "tags         a, b\n" in shown
    assert "notes        good\n" in shown
    (note,) = json.loads(run("show", "scored", "2", "--format", "json").out)["notes"]
    assert (note["text"], note["time"][:2]) == ("good", "20")  # a date, as the other times


def test_remarks_by_commands(run: Command, scored: daskperiment.Experiment) -> None:
    """Each command does what the method of its name does."""
    for command in (
        ("tag", "scored", "1-2", "a", "b"), ("untag", "scored", "1", "b"),
        ("note", "scored", "best", "good one"), ("rename", "scored", "1", "first"),
        ("archive", "scored", "3"),
    ):  # fmt: skip
        assert run(*command).status == 0, command
    found = scored.get_history(archived=True)
    assert list(found["Tags"]) == [("a",), ("a", "b"), (), ()]
    assert found["Name"].fillna("").tolist() == ["first", "", "", ""]
    assert found["Notes"].fillna("").tolist() == ["", "good one", "", ""]
    assert found["Archived"].tolist() == [False, False, True, False]
    ids = ("history", "scored", "--columns", "Trial ID", "--format", "csv")
    assert run(*ids).out.splitlines()[1:] == ["1", "2", "4"]
    assert run(*ids, "--archived").out.splitlines()[1:] == ["1", "2", "3", "4"]
    assert run("unarchive", "scored", "3").status == 0
    assert run("rename", "scored", "1", "").status == 0
    assert "Name" not in run("history", "scored").out
    assert run("tag", "scored", "1", "a,b").status == 2


def test_trials_are_deleted(run: Command, scored: daskperiment.Experiment) -> None:
    """Deleted trials are passed over by places from the end and by ranges, and named if meant."""
    answer = run("rm-trials", "scored", "2,latest")
    assert (answer.status, answer.out) == (0, "Deleted trials 2, 4.\n"), answer
    assert scored.get_trial_ids() == [1, 3]
    assert run("best", "scored").out == "3\n"
    assert run("tag", "scored", "1-latest", "left").out == "Trials 1, 3: tagged left.\n"
    assert "trial        1\n" in run("show", "scored", "-2").out
    assert "has 2 trials" in run("show", "scored", "-3").err
    answer = run("show", "scored", "4")
    assert (answer.status, "Trial 4 was deleted by" in answer.err) == (2, True), answer
    assert run("check", "scored").status == 0


def test_reused_trials_need_force(run: Command, scored: daskperiment.Experiment) -> None:
    """A trial that others reuse is refused with advice for the shell, and nothing is deleted."""

    @scored.persist(reuse=True)
    def double(p: float) -> float:
        return 2 * p

    @scored.result
    def total(d: float) -> float:
        return d + 1

    p = scored.parameter("p")
    for _ in range(2):
        total(double(p)).bind(p=1).compute(scheduler="synchronous", reuse=True)
    answer = run("rm-trials", "scored", "1,5")
    assert (answer.status, "give --force" in answer.err) == (2, True), answer
    assert len(scored.get_trial_ids()) == 6
    assert run("rm-trials", "scored", "1,5", "--force").out == "Deleted trials 1, 5.\n"
    assert scored.get_trial_ids() == [2, 3, 4, 6]
