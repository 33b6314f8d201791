"""Columns that grow are what joining their parts gives, and are in memory once."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daskperiment.history.growing_columns import GrowingColumn, GrowingTable
from daskperiment.history.stored_values import MISSING
from daskperiment.history.table_columns import CodedColumn, NumberColumn, column_of, joined

VALUES = st.one_of(
    st.lists(st.integers(-3, 2**40)),
    st.lists(st.one_of(st.just(MISSING), st.floats(allow_nan=False))),
    st.lists(st.one_of(st.just(MISSING), st.booleans())),
    st.lists(st.sampled_from(["a", "b", None, 1, 2**70, 1.0, (1, 2), MISSING])),
    st.lists(st.just(MISSING)),
    st.lists(st.just("same")),
    st.integers(98, 130).map(lambda count: [f"t{number}" for number in range(count)]),
)


@settings(max_examples=200)
@given(st.lists(VALUES, min_size=1, max_size=5))
@example([[MISSING], [1, 2], [MISSING], [3]])
@example([["same"], ["same"], [MISSING]])
@example([[1], [], [1.5], ["x"]])
@example([[0], [MISSING, -0.0, 0.0]])
def test_as_joined(parts: list[list[Any]]) -> None:
    """It has each row's own value and type, and is numbers where the joined column is."""
    columns = [column_of(part) for part in parts]
    growing = GrowingColumn()
    for column in columns:
        growing.add(column)
    found, wanted = growing.finish(), joined(columns)
    assert [*map(repr, found.to_list())] == [repr(value) for part in parts for value in part]
    if any(value is not MISSING for part in parts for value in part):
        assert isinstance(found, NumberColumn) == isinstance(wanted, NumberColumn)
    if isinstance(found, NumberColumn) and isinstance(wanted, NumberColumn):
        assert found.values.dtype == wanted.values.dtype


def test_many_values_are_not_looked_up() -> None:
    """Of columns with many different values none is held against those before it."""
    growing = GrowingColumn()
    for _ in range(3):
        growing.add(column_of([f"t{number}" for number in range(150)]))
    found = growing.finish()
    assert isinstance(found, CodedColumn)
    assert found.count == 450


def test_columns_that_not_all_parts_have() -> None:
    """A column that came later, or was missing since, has nothing in the other rows."""
    table = GrowingTable()
    table.add({"a": column_of([1, 2])}, 2)
    table.add({"b": column_of(["x"])}, 1)
    table.add({"b": column_of(["y"]), "a": column_of([3])}, 1)
    found = {name: column.to_list() for name, column in table.finish().items()}
    assert found == {"a": [1, 2, MISSING, 3], "b": [MISSING, MISSING, "x", "y"]}


def test_no_row_is_in_memory_twice() -> None:
    """Ten columns of 50 parts take what they are, and what all rows have in common nothing."""
    part = {f"c{at}": NumberColumn(np.arange(2_000.0)) for at in range(10)}
    part.update({f"same{at}": column_of(["text"] * 2_000) for at in range(10)})
    tracemalloc.start()
    table = GrowingTable()
    for _ in range(50):
        table.add(part, 2_000)
    found = table.finish()
    own, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 20
    assert own < 1.05 * 10 * 100_000 * 8
    assert peak < 1.8 * own  # an array that is full stands beside the next one, and has room
