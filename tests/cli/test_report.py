"""The command that writes a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command


def test_report_is_one_file(trials: Command, folder: Path) -> None:
    """It has the trials that were asked for, and the experiment's name unless given another."""
    answer = trials("report", "pairs", "--trials", "best,1-2")
    assert answer.status == 0, answer
    page = (folder / "pairs.html").read_text(encoding="utf-8")
    best = trials("best", "pairs").out.strip()
    assert f"How they differ from trial {best}" in page
    assert all(f'id="trial-{one}"' in page for one in {best, "1", "2"})
    assert trials("report", "pairs", "-o", "b.html").status == 0
    assert 'id="trial-1"' not in (folder / "b.html").read_text(encoding="utf-8")


def test_best_is_by_what_was_asked(trials: Command, folder: Path) -> None:
    """--by and --mode say which trial is the best one."""
    for mode in ("min", "max"):
        wanted = trials("best", "pairs", "--by", "a", "--mode", mode).out.strip()
        given = ("--by", "a", "--mode", mode, "-o", f"{mode}.html", "--trials", "best")
        assert trials("report", "pairs", *given).status == 0
        assert f'id="trial-{wanted}"' in (folder / f"{mode}.html").read_text("utf-8")
    assert (folder / "min.html").read_text("utf-8") != (folder / "max.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("given", "status", "told"),
    [
        (("-o", "there.html"), 2, "'there.html' is there already; give another file with -o"),
        (("-o", "nowhere/x.html"), 1, "Cannot write"),
        (("--trials", "99"), 2, "There are no trials 99-99"),
        (("--trials", "best", "--by", "nothing"), 2, "nothing"),
        (("--trials", "x"), 2, "names no trials"),
        (("--trials", "1-2", "--by", "a"), 2, "give it: --trials best"),
        (("--mode", "min"), 2, "give it: --trials best"),
    ],
)
def test_reports_that_are_refused(
    trials: Command, folder: Path, given: tuple[str, ...], status: int, told: str
) -> None:
    """A file that is there stays, and what cannot be written or found is said in a line."""
    (folder / "there.html").write_text("mine")
    answer = trials("report", "pairs", *given)
    assert (answer.status, answer.out) == (status, ""), answer
    assert told in answer.err
    assert (folder / "there.html").read_text() == "mine"
    assert not (folder / "pairs.html").exists()


def test_force_writes_over_a_file(trials: Command, folder: Path) -> None:
    """With --force a file that is there is a report afterwards."""
    (folder / "pairs.html").write_text("old")
    assert trials("report", "pairs", "--force").status == 0
    assert "<!DOCTYPE html>" in (folder / "pairs.html").read_text("utf-8")
