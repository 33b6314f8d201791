"""Spaces: what stands for the values of a parameter, and the points that they make."""

from __future__ import annotations

from datetime import date
from itertools import count, product

import numpy as np
import pandas as pd
import pytest

from daskperiment.sweep.samplers import grid, random_points
from daskperiment.sweep.space import make_space


class Halves:
    """Draws 0 or 0.5, as a frozen distribution of scipy.stats would."""

    def rvs(self, random_state):
        return np.float64(random_state.integers(2) / 2)


def points(sampler):
    """Take all points of a sampler."""
    return [point.values for point in iter(sampler.ask, None)]


@pytest.mark.parametrize(
    "given",
    [[1, 2], (1, 2), range(1, 3), np.array([1, 2]), pd.Series([1, 2]), iter([1, 2]), {2, 1}],
    ids=lambda given: type(given).__name__,
)
def test_any_finite_iterable_lists_values(given) -> None:
    """Lists, ranges, arrays, series, iterators and sets give the same plain numbers."""
    values = make_space({"a": given}).choices["a"].values
    assert values == (1, 2)
    assert {type(value) for value in values} == {int}


def test_values_other_than_numbers_stay_what_they_are() -> None:
    """Dates of an array of datetimes do not become the numbers behind them."""
    days = pd.Series(pd.to_datetime(["2024-01-01", "2024-01-02"]))
    values = make_space({"day": days, "other": [date(2024, 1, 1), None]}).point(0).values
    assert values == {"day": pd.Timestamp("2024-01-01"), "other": date(2024, 1, 1)}


def test_a_grid_is_the_product_in_order() -> None:
    """The last parameter changes fastest, so that points which share a beginning stand together."""
    space = {"a": [1, 2], "b": ["x", "y", "z"], "c": [None, 0.5]}
    expected = [dict(zip(space, values, strict=True)) for values in product(*space.values())]
    assert points(grid(make_space(space), None)) == expected
    assert points(grid(make_space(space), 5)) == expected[:5]


def test_a_huge_grid_costs_nothing() -> None:
    """A grid of 10**30 points is made point by point."""
    space = make_space({f"p{i}": range(1000) for i in range(10)})
    sampler = grid(space, None)
    assert sampler.total == 10**30
    assert sampler.ask().values == dict.fromkeys(space.dimensions, 0)
    assert random_points(space, None, 1).ask() is not None


@pytest.mark.parametrize("values", [60, 1000], ids=["shuffled", "drawn"])
def test_random_points_do_not_repeat(values: int) -> None:
    """Random points of lists are distinct, the same for a seed, and more of them begin alike."""
    space = make_space({"a": range(values), "b": range(values)})
    first = points(random_points(space, 100, 1))
    assert len({(point["a"], point["b"]) for point in first}) == 100
    assert points(random_points(space, 100, 1)) == first
    assert points(random_points(space, 50, 1)) == first[:50]
    assert points(random_points(space, 100, 2)) != first


def test_random_points_of_a_small_space_are_all_of_them() -> None:
    """Asked for more points than there are, a random sampler gives each once."""
    space = make_space({"a": [1, 2], "b": [3, 4]})
    found = points(random_points(space, 99, 7))
    assert sorted(map(str, found)) == sorted(map(str, points(grid(space, None))))


def test_distributions_are_drawn_from() -> None:
    """What has rvs is drawn from for each point, reproducibly, into plain numbers."""
    space = make_space({"a": Halves(), "b": [1, 2, 3]})
    found = points(random_points(space, 40, 3))
    assert {point["a"] for point in found} == {0.0, 0.5}
    assert {type(point["a"]) for point in found} == {float}
    assert {point["b"] for point in found} == {1, 2, 3}
    assert points(random_points(space, 40, 3)) == found


def test_frozen_distributions_of_scipy_are_described_by_name() -> None:
    """A sweep's record names the distribution and its arguments, never an address in memory."""
    stats = pytest.importorskip("scipy.stats")
    space = make_space({"a": stats.uniform(1, scale=2)})
    assert space.recorded == {"a": {"drawn": "uniform(1, scale=2)"}}
    assert 1 <= points(random_points(space, 1, 3))[0]["a"] <= 3


def test_repeated_values_are_points_of_their_own() -> None:
    """A value that stands twice makes two points, which are different occurrences."""
    space = make_space({"a": [1, 1, True]})
    found = [space.point(i) for i in range(3)]
    assert found[0].identity == found[1].identity != found[2].identity
    assert found[0].occurrence != found[1].occurrence


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ValueError, "space is empty"),
        ([("a", [1])], TypeError, "expected a dict"),
        ({1: [1]}, TypeError, "names 1"),
        ({"a": []}, ValueError, "no values for parameter 'a'"),
        ({"a": "abc"}, TypeError, r"'abc' \(str\) for parameter 'a'; expected a list"),
        ({"a": 0.1}, TypeError, r"write \[0.1\]"),
        ({"a": {"x": 1}}, TypeError, "expected a list"),
        ({"a": np.array(1)}, TypeError, "one number"),
        ({"a": count()}, ValueError, "more than 1,000,000"),
        ({"a": [object()]}, TypeError, "no plain value"),
    ],
)
def test_what_is_no_space_is_refused(given, error, message) -> None:
    """The message names the parameter, what it was given and what was expected."""
    with pytest.raises(error, match=message):
        make_space(given)


def test_distributions_need_a_sampler_that_draws() -> None:
    """A grid refuses a distribution, and random points without an end need a number."""
    space = make_space({"a": Halves(), "b": [1]})
    with pytest.raises(ValueError, match="grid takes lists of values, but 'a'"):
        grid(space, None)
    with pytest.raises(ValueError, match="give n_trials"):
        random_points(space, None, 1)
