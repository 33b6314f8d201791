"""Steps are what they were before they were decorated: to type checkers, editors and classes."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
import tomllib
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import daskperiment
from daskperiment.result import Result
from tests.types import users_code

ROOT = Path(__file__).parents[2]
CODE = Path(__file__).with_name("users_code.py")


# Type checkers


def test_type_checkers_read_users_code() -> None:
    """What mypy checks with --strict, and pyright, has users_code.py and the examples in it."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert set(tools["pyright"]["include"]) == {"examples/**/*.py", "tests/types/users_code.py"}
    assert not tools["pyright"]["enableTypeIgnoreComments"]
    settings = tools["mypy"]
    assert settings["strict"]
    assert {"examples", "tests/types/users_code.py"} <= set(settings["files"])
    assert all("examples" not in str(each["module"]) for each in settings["overrides"])


@pytest.mark.usefixtures("empty")
def test_users_code_does_what_its_types_say() -> None:
    """What is computed has the types that stand in users_code.py."""
    value, pair, size = users_code.computed()
    assert (value, pair, size) == (1.0, (1.0, "mean"), 5)
    nodes = users_code.right()
    assert all(isinstance(node, Result) for node in nodes.values())
    assert {name: type(users_code.any_result(node)).__name__ for name, node in nodes.items()} == {
        "float": "float", "tuple": "tuple", "int": "int", "judged": "int"
    }  # fmt: skip


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the trials of users_code.py in an empty folder."""
    store = daskperiment.Experiment("typed", backend=tmp_path)._store
    monkeypatch.setattr(users_code.ex._planner, "store", store)


# Editors


def plain(a: int, /, b: str = "x", *rest: float, c: bytes = b"", **others: int) -> list[str]:
    """Return what is asked for."""
    return [b]


async def slow(a: int) -> int:
    """Return it later."""
    return a


@dataclass(frozen=True)
class Half:
    """Divide."""

    by: float = 2.0

    def __call__(self, value: float) -> float:
        """Return a part of a value."""
        return value / self.by


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "function": plain, "async": slow, "object": Half(), "partial": functools.partial(plain, 1),
    "lambda": lambda value, power=2: value**power, "builtin": sorted, "class": Half,
}  # fmt: skip
WAYS = ["", "persist", "result"]


@pytest.mark.parametrize("called", [False, True], ids=["plain", "called"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_editors_see_the_function(ex: Any, kind: str, way: str, called: bool) -> None:
    """Signature, docstring, annotations and name of a step are those of its function."""
    function = FUNCTIONS[kind]
    decorate = getattr(ex, way) if way else ex
    step = decorate()(function) if called else decorate(function)
    assert inspect.signature(step) == inspect.signature(function)
    assert step.__wrapped__ is function
    assert inspect.unwrap(step) is function
    assert step.__doc__ == function.__doc__
    assert step.__name__ == step.name
    assert "0x" not in step.name
    if inspect.isfunction(function):
        assert typing.get_type_hints(step) == typing.get_type_hints(function)
        assert step.__name__ == function.__name__


# Classes


@pytest.fixture
def kinds(ex: Any) -> type:
    """Return a class whose methods of every kind are steps whose outputs are reused."""

    @dataclass
    class Kinds:
        by: int
        unused: Any = None

        @ex.persist(reuse=True)
        def method(self, value: int) -> int:
            return self.by * value

        @staticmethod
        @ex.persist(reuse=True)
        def static(value: int) -> int:
            return value + 1

        @ex.persist(reuse=True)
        @staticmethod
        def static_inside(value: int) -> int:
            return value + 2

        @classmethod
        @ex.persist(reuse=True)
        def of_class(cls, value: int) -> tuple[str, int]:
            return cls.__name__, value

        @ex.persist(reuse=True)
        @classmethod
        def of_class_inside(cls, value: int) -> tuple[str, int]:
            return cls.__name__, value

        @ex.persist(reuse=True)
        async def later(self, value: int) -> int:
            return self.by - value

        @ex.result
        def all(self, *values: Any) -> tuple[Any, ...]:
            return values

    return Kinds


NAMES = ["later", "method", "of_class", "of_class_inside", "static", "static_inside"]


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_methods_of_every_kind_are_steps(ex: Any, kinds: Any, scheduler: str) -> None:
    """Through the class and through its objects, methods are steps, run once, and then reused."""
    a = ex.parameter("a", default=5)

    def result(by: int) -> Any:
        one = kinds(by)
        through = [getattr(one, name)(a) for name in NAMES]
        return one.all(*through, *[getattr(kinds, name)(a) for name in NAMES[2:]])

    expected = ("Kinds", 5), ("Kinds", 5), 6, 7
    assert result(2).compute(scheduler=scheduler) == (-3, 10, *expected, *expected)
    ran = ex.get_steps(1).query("`Reused From`.isna()")["Step"]
    assert sorted(ran) == ["all", *NAMES]
    result(2).compute(scheduler=scheduler)
    assert list(ex.get_steps(2).query("`Reused From`.isna()")["Step"]) == ["all"]
    # Of another object only what is made of it runs.
    assert result(3).compute(scheduler=scheduler)[:2] == (-2, 15)
    assert sorted(ex.get_steps(3).query("`Reused From`.isna()")["Step"]) == ["all", *NAMES[:2]]


def test_signatures_of_methods_leave_out_self(kinds: Any) -> None:
    """What is bound has no self or cls among its arguments, and its unit test is a plain call."""
    one = kinds(2)
    for name in ["method", "later"]:
        assert list(inspect.signature(getattr(one, name)).parameters) == ["value"]
        assert list(inspect.signature(getattr(kinds, name)).parameters) == ["self", "value"]
    for name in NAMES[2:]:
        for owner in (one, kinds):
            assert list(inspect.signature(getattr(owner, name)).parameters) == ["value"]
    assert kinds.method.__wrapped__(one, 4) == 8
    assert kinds.static.__wrapped__(4) == 5


def test_a_subclass_is_another_class(ex: Any, kinds: Any) -> None:
    """A step that gets the class is not reused for a subclass of another name."""

    class Other(kinds):  # type: ignore[misc]
        pass

    @ex.result
    def both(*values: Any) -> Any:
        return values

    assert both(kinds.of_class(1), Other.of_class(1)).compute() == (("Kinds", 1), ("Other", 1))


@pytest.mark.parametrize("scheduler", ["synchronous"])
def test_callable_objects_and_partials(ex: Any, scheduler: str) -> None:
    """A callable object and a partial are steps: equal ones are reused, others are not."""

    def trial(by: float, power: int) -> tuple[float, list[str]]:
        half = ex.persist(reuse=True)(Half(by))
        raised = ex.persist(reuse=True)(functools.partial(np.power, power))
        total = ex.result(lambda *values: float(sum(values)))
        value = total(half(8.0), raised(2)).compute(scheduler=scheduler)
        steps = ex.get_steps(ex.trial_id)
        return value, sorted(steps[steps["Reused From"].isna()]["Step"])[1:]

    assert trial(2.0, 3)[0] == 4.0 + 9.0
    assert trial(2.0, 3) == (13.0, [])
    with pytest.warns(daskperiment.errors.CodeChangedWarning, match="value of .*Half, which"):
        assert trial(4.0, 3) == (11.0, ["Half"])


# A process of its own, as a notebook's or an editor's


def test_help_shows_the_function() -> None:
    """``pydoc`` and ``inspect`` work on a decorated function of a module."""
    program = (
        "import inspect, daskperiment\n"
        "from tests.types.users_code import kept\n"
        "print(inspect.signature(kept)); print(inspect.getdoc(kept))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "(points: 'Floats', n: 'int') -> 'dict[str, float]'", "Return a dict."
    ]  # fmt: skip
