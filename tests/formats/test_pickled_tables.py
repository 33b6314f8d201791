"""Tables of pandas that are pickled, as where Arrow is not installed: shown all the same."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import daskperiment
from daskperiment.formats import preview_beside
from daskperiment.history.artifacts import artifacts_of
from daskperiment.store.opening import open_store

MATRIX = pd.crosstab(
    pd.Series([0, 0, 1, 1, 1]), pd.Series([0, 1, 1, 1, 0]), rownames=["true"], colnames=["told"]
)


def test_a_pickled_table_has_a_preview(tmp_path: Path) -> None:
    """The names of rows and columns, and the rows, are shown of a table that is a pickle."""
    ex = daskperiment.Experiment("pickled", backend=tmp_path)

    @ex.result
    def give() -> int:
        ex.save("matrix", MATRIX, format="pickle")
        ex.save("other", object(), format="pickle")
        return 1

    give().compute()
    matrix, other = artifacts_of(open_store(tmp_path, "pickled"), [1])
    assert matrix.format == other.format == "pickle"
    assert matrix.reference.preview is not None
    assert [name for name, _ in matrix.reference.preview.columns] == ["true", "0", "1"]
    assert matrix.reference.preview.rows == [["0", "1", "1"], ["1", "1", "2"]]
    assert other.reference.preview is None


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (pd.DataFrame({"a": [1]}), ["a"]),
        (pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="a")), ["a"]),
        (pd.DataFrame({"a": [1]}, index=["x"]), ["index", "a"]),
        (pd.Series([1], index=pd.MultiIndex.from_tuples([("x", 2)], names=["k", "n"]), name="v"),
         ["k", "n", "v"]),
    ],
)  # fmt: skip
def test_names_of_rows_are_columns(value: object, names: list[str]) -> None:
    """Names of rows stand before the columns, but for numbers and for names that are taken."""
    preview = preview_beside(value)
    assert preview is not None
    assert [name for name, _ in preview.columns] == names
