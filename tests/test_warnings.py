"""Warnings name the line of the user that they are about."""

from __future__ import annotations

import ast
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import daskperiment
from daskperiment.recording.registry import close_recorders

PACKAGE = Path(daskperiment.__file__).parent


def test_one_function_issues_all_warnings() -> None:
    """No module but daskperiment.warn counts the frames between a warning and the user."""
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("warnings.warn", "warn")
    ]
    assert [place.partition(":")[0] for place in found] == ["warn.py"]


@pytest.fixture
def damaged(tmp_path: Path) -> daskperiment.Experiment:
    """Record three trials, the first record of the second damaged, and lose one object."""
    ex = daskperiment.Experiment("demo", backend=tmp_path / "store")
    k = ex.parameter("k", default=0)

    @ex.persist
    def make(k: int) -> Any:
        return {"k": k, "data": b"x" * 2_000_000}

    @ex.result
    def use(made: Any) -> int:
        return len(made)

    for value in range(3):
        use(make(k)).bind(k=value).compute(scheduler="synchronous")
    close_recorders()
    folder = tmp_path / "store" / "demo"
    with sqlite3.connect(folder / "records.sqlite") as database:
        database.execute(
            "UPDATE trials SET body = replace(body, '\"token\"', '\"tokem\"') WHERE trial = 2"
        )
    database.close()
    biggest = max((folder / "objects").rglob("*"), key=lambda path: path.stat().st_size)
    biggest.unlink()
    return ex


QUESTIONS: dict[str, Callable[[Any, Path], object]] = {
    "history": lambda ex, _: ex.get_history(),
    "best": lambda ex, _: ex.best("Result"),
    "filtered": lambda ex, _: ex.get_history(where="k < 5", sort="-k", limit=2),
    "copy": lambda _, folder: daskperiment.copy("demo", folder / "store", folder / "copy"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_damage_is_told_at_the_line_that_asked(
    damaged: daskperiment.Experiment, tmp_path: Path, name: str
) -> None:
    """Whatever is asked of a damaged store, the warning stands at the user's own line."""
    with pytest.warns(daskperiment.errors.StoreWarning) as caught:
        QUESTIONS[name](damaged, tmp_path)
    assert {one.filename for one in caught} == {__file__}


def test_no_thread_of_ours_changes_the_filters_of_all() -> None:
    """What may run in the background holds back no warning of the threads beside it."""
    texts = {
        path: path.read_text(encoding="utf-8")
        for part in ("capture", "recording", "execution", "store")
        for path in (PACKAGE / part).rglob("*.py")
    }
    assert len(texts) > 50
    assert [path.name for path, text in texts.items() if "catch_warnings" in text] == []
