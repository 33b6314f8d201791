"""Code as a user writes it, which type checkers read; a type that is not as stated is an error.

What is wrong is said to be wrong, so that a checker that lets it pass complains of the comment:
mypy of ``type: ignore`` with the error's code, pyright of ``pyright: ignore``.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, assert_type

import numpy as np
import numpy.typing as npt

from daskperiment import Experiment, Result

T = TypeVar("T")
Floats = npt.NDArray[np.float64]

ex = Experiment("typed")
rate = ex.parameter("rate", default=0.1)
cfg = ex.config({"opt": {"lr": 0.1}, "name": "adam"})


class Options(TypedDict):
    """A dict with known keys."""

    depth: int


# Functions


@ex
def data(rows: int) -> Floats:
    """Return rows."""
    return np.ones(rows)


@ex()
def scaled(points: Floats, *, factor: float = 1.0) -> Floats:
    """Return the points times a factor."""
    return points * factor


@ex(nout=2)
def split(points: Floats) -> tuple[Floats, int]:
    """Return two things."""
    return points, len(points)


@ex.persist
def kept(points: Floats, n: int) -> dict[str, float]:
    """Return a dict."""
    return {"mean": float(points.mean()), "n": float(n)}


@ex
async def fetched(url: str) -> bytes:
    """Return what a URL gives, after a while."""
    await asyncio.sleep(0)
    return url.encode()


@ex.persist(version="1")
async def fetched_once(url: str) -> bytes:
    """Return what a URL gives, and keep it."""
    await asyncio.sleep(0)
    return url.encode()


@ex
def picky(
    kind: Literal["a", "b"], options: Options, pair: tuple[int, int], other: int | None, path: Path
) -> None:
    """Take what only its own kind of value is."""


@ex
def anything(value: int) -> Any:
    """Return what has no type."""
    return value


@ex
def firsts(values: Sequence[T]) -> list[T]:
    """Return the first of several."""
    return list(values[:1])


@ex.result
def score(summary: dict[str, float]) -> float:
    """Return a number."""
    return summary["mean"]


@ex.result(persist=True, nout=2)
def both(summary: dict[str, float]) -> tuple[float, str]:
    """Return two things."""
    return summary["mean"], "mean"


@ex.result
async def size(content: bytes) -> int:
    """Return a number, after a while."""
    await asyncio.sleep(0)
    return len(content)


# Classes


@dataclass
class Model:
    """A model, some of whose methods are steps."""

    depth: int

    @ex
    def fit(self, points: Floats) -> str:
        """Return the name of what was fitted."""
        return f"{self.depth}/{len(points)}"

    @ex.persist(version="1")
    def refit(self, points: Floats, times: int = 1) -> str:
        """Return the name of what was fitted again."""
        return f"{self.depth}/{len(points)}/{times}"

    @staticmethod
    @ex
    def loaded(path: str) -> Floats:
        """Return points."""
        return np.ones(len(path))

    @ex.result
    def judge(self, name: str) -> int:
        """Return a number."""
        return len(name) + self.depth

    @classmethod
    @ex
    def deep(cls, depth: int) -> str:
        """Return the name of a class and a number."""
        return f"{cls.__name__}/{depth}"

    @ex.persist(version="1")
    @classmethod
    async def deeper(cls, depth: int, by: int = 1) -> str:
        """Return the name of a class and a number, after a while."""
        return f"{cls.__name__}/{depth + by}"

    @ex.result()
    @classmethod
    def judged(cls, name: str) -> int:
        """Return a number."""
        return len(name)

    @ex
    @staticmethod
    def halved(number: int) -> float:
        """Return a half."""
        return number / 2

    @staticmethod
    @ex
    def described(what: Any, times: int = 1) -> str:
        """Return the text of anything."""
        return str(what) * times

    @staticmethod
    @ex
    def known(name: str | None = None) -> bool:
        """Return whether there is a name."""
        return name is not None


class Special(Model):
    """A model that takes the steps of another one along."""


class Doubled:
    """A callable object."""

    def __call__(self, value: int) -> int:
        """Return twice a number."""
        return 2 * value


def power(base: int, exponent: int) -> int:
    """Return a power."""
    return int(base**exponent)


double = ex(Doubled())
square = ex(functools.partial(power, exponent=2))
tripled = ex(lambda value: 3)


def right() -> dict[str, Any]:
    """Return nodes, each of which has the type that stands here."""
    points = assert_type(data(3), Floats)
    points = assert_type(scaled(points, factor=rate), Floats)
    rows, number = split(points)
    assert_type(rows, Floats)
    assert_type(number, int)
    summary = assert_type(kept(rows, n=number), dict[str, float])
    assert_type(firsts([1, 2]), list[int])
    content = assert_type(fetched("there"), bytes)
    assert_type(fetched_once("there"), bytes)
    result = assert_type(score(summary), Result[float])
    pair = assert_type(both(summary), Result[tuple[float, str]])
    length = assert_type(size(content), Result[int])
    model = Model(2)
    name = assert_type(model.fit(points), str)
    assert_type(model.refit(points, times=2), str)
    judged = assert_type(model.judge(name), Result[int])
    assert_type(Model.loaded("abc"), Floats)
    assert_type(model.loaded("abc"), Floats)
    assert_type(Model.fit(model, points), str)
    assert_type(Model.deep(1), str)
    assert_type(Special(1).deep(depth=1), str)
    assert_type(model.deeper(1, by=2), str)
    assert_type(Special.deeper(1), str)
    assert_type(Special.judged(name), Result[int])
    assert_type(Model.halved(3), float)
    assert_type(model.halved(3), float)
    assert_type(Model.described(model, times=2), str)
    assert_type(model.described(None), str)
    assert_type(Model.known("a"), bool)
    assert_type(model.known(), bool)
    assert_type(double(3), int)
    assert_type(tripled(1), int)
    bound = assert_type(result.bind(rate=0.2), Result[float])
    return {"float": bound, "tuple": pair, "int": length, "judged": judged}


def nodes_stand_for_values() -> None:
    """Give parameters, parts of configurations, files and results in the place of values."""
    picky(rate, rate, rate, rate, rate)
    picky(cfg.name, cfg, cfg, cfg.opt.lr, ex.file("there"))
    scaled(data(rate), factor=score({"mean": 1.0}))
    print(rate.name, rate.compute(), cfg.opt.keys())


def computed() -> tuple[float, tuple[float, str], int]:
    """Return what computing gives."""
    summary = kept(data(3), 3)
    value = assert_type(score(summary).compute(), float)
    both_values = assert_type(both(summary).compute(seed=1, reuse=False), tuple[float, str])
    return value, both_values, assert_type(size(fetched("there")).compute(), int)


def any_result(result: Result) -> Any:
    """Take a result of whatever kind, without saying which."""
    return result.compute()


def wrong() -> None:
    """Call steps in ways that type checkers refuse."""
    data("three")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    data()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    data(1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    scaled(data(1), factr=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    scaled(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kept(fetched("u"), 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fetched(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    anything("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    score(data(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    size("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Model(1).fit("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Model(1).refit(data(1), time=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Model(1).judge(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Model(1).loaded(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Model.deep("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Model(1).deeper()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Model.judged(Model, "x")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    Model.halved("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Model.described()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Model.loaded(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    double("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ex(3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    ex.persist(data, reus=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    score({"mean": 1.0}).compute().upper()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
