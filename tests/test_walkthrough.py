"""docs/walkthrough.rst names the functions through which a trial really passes, in their order."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import daskperiment
from daskperiment.execution.generators import PACKAGES

PACKAGE = Path(daskperiment.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs" / "walkthrough.rst").read_text(encoding="utf-8")
READING = "Looking back"
HIT = "A hit"

Function = tuple[str, str]
"""Path of a module in the package, and the full name of a function in it."""


def sections() -> dict[str, list[Function]]:
    """The functions that the page names, by section."""
    parts = re.split(r"^(\w[\w' ]+)\n-{3,}\n", PAGE, flags=re.MULTILINE)
    found = {}
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        entries = re.findall(r"^``([\w/.]+)`` ``([\w.]+)``\n(    \w.+\n)", text, re.MULTILINE)
        assert len(entries) == text.count("\n``"), title
        found[title] = [(module, name) for module, name, _ in entries]
    return found


def calls_of(act: Callable[[], Any]) -> list[Function]:
    """Return the functions of the package that are called meanwhile, in order."""
    base = f"{PACKAGE}/"
    calls: list[Function] = []

    def watch(frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(base):
            calls.append((code.co_filename.removeprefix(base), code.co_qualname))

    before = sys.getprofile()
    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        act()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    return calls


def shortest(act: Callable[[], Any]) -> list[Function]:
    """Return the calls of the shortest of some turns: in another one something may be renewed."""
    return min((calls_of(act) for _ in range(5)), key=len)


def assert_in_order(named: list[Function], calls: list[Function]) -> None:
    """Each function is called, behind the call of the one that is named before it."""
    rest: Iterator[Function] = iter(calls)
    for function in named:
        assert function in calls, f"{function} is not called"
        assert function in rest, f"{function} is called earlier"


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The experiment of the page, after some trials; what its code defines."""
    for package in PACKAGES:  # another test may have imported one
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.chdir(tmp_path)
    code = PAGE.partition("code-block:: python\n\n")[2].partition("\n\nPlanning\n---")[0]
    names: dict[str, Any] = {"__name__": "walk"}
    source = "\n".join(line.removeprefix("    ") for line in code.splitlines())
    exec(compile(source, "walk.py", "exec"), names)
    for _ in range(2):
        names["s"].compute(scheduler="synchronous", reuse=False)
    names["s"].compute(scheduler="synchronous")
    names["ex"].get_history()
    yield names
    names["ex"].flush()


def test_a_trial_passes_through_the_named_functions(experiment: dict[str, Any]) -> None:
    """The sections up to the end name functions in the order of their calls, and these are few."""
    result = experiment["s"]
    calls = shortest(lambda: result.compute(scheduler="synchronous", reuse=False))
    named = [one for title, part in sections().items() if title not in (HIT, READING)
             for one in part]  # fmt: skip
    assert len(named) > 30
    assert_in_order(named, calls)
    assert len({module for module, _ in calls}) <= 30
    assert len(calls) <= 400


def test_a_hit_passes_through_the_named_functions(experiment: dict[str, Any]) -> None:
    """A hit has functions of its own, and not many more of them."""
    calls = shortest(lambda: experiment["s"].compute(scheduler="synchronous"))
    assert_in_order(sections()[HIT], calls)
    assert len({module for module, _ in calls}) <= 36
    assert len(calls) <= 560
    assert ("execution/tasks.py", "run_step") not in calls


def test_looking_back_passes_through_the_named_functions(experiment: dict[str, Any]) -> None:
    """Parameter, point and kept output are read by the functions that the page names."""
    ex = experiment["ex"]
    found: dict[str, Any] = {}

    def look_back() -> None:
        found["history"] = ex.get_history()
        found["loss"] = ex.load_metric("loss", 1)
        found["prepare"] = ex.get_persisted("prepare", 1)

    assert_in_order(sections()[READING], calls_of(look_back))
    assert found["history"].loc[1, "a"] == 0
    assert found["loss"].iloc[0, 0] == 0.5
    assert found["prepare"] == [0, 0, 0]


def test_named_functions_stand_where_the_page_says() -> None:
    """A function that is renamed or moved is found at once, and order is looked at."""
    for module, name in [one for part in sections().values() for one in part]:
        text = (PACKAGE / module).read_text(encoding="utf-8")
        assert re.search(rf"def {name.rpartition('.')[2]}\(", text), (module, name)
    with pytest.raises(AssertionError):
        assert_in_order([("b.py", "g"), ("a.py", "f")], [("a.py", "f"), ("b.py", "g")])
