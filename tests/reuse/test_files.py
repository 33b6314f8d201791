"""Files as inputs: changed content runs the steps that take them, and nothing else does."""

from __future__ import annotations

import os
import shutil

import pytest

import daskperiment
from tests.reuse.work import ran, write


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("files", backend=tmp_path / "store", seed=0)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "x.csv").write_text("1")
    return folder


def reading(ex, log, source):
    """Make a result of a step that reads all files that it is given."""

    @ex.persist(reuse=True)
    def read(source):
        write(log, "read")
        found = source if isinstance(source, list) else [source]
        return [path.read_text() for path in found if path.is_file()]

    @ex.result
    def total(texts):
        return texts

    return total(read(source))


WAYS = {
    "path": lambda ex, data: data / "x.csv",
    "parameter": lambda ex, data: ex.parameter("source", default=data / "x.csv"),
    "file": lambda ex, data: ex.file(data / "x.csv"),
    "text": lambda ex, data: ex.file(str(data / "x.csv")),
    "file of parameter": lambda ex, data: ex.file(ex.parameter("s", default=str(data / "x.csv"))),
    "pattern": lambda ex, data: ex.file(str(data / "*.csv")),
    "folder": lambda ex, data: ex.file(data),
}


@pytest.mark.parametrize("way", WAYS)
def test_content_counts_and_nothing_else(ex, data, log, way):
    """Touching runs nothing, a change does, and going back is a hit again."""
    result = reading(ex, log, WAYS[way](ex, data))
    first = result.compute()
    assert (result.compute(), ran(log)) == (first, {"read": 1})
    os.utime(data / "x.csv", (1, 1))
    assert (result.compute(), ran(log)) == (first, {})
    (data / "x.csv").write_text("2")
    result.compute()
    assert ran(log) == {"read": 1}
    (data / "x.csv").write_text("1")
    assert (result.compute(), ran(log)) == (first, {})


def test_a_moved_file_is_the_same(ex, data, log, tmp_path):
    """Its own name and its content are what counts, not the folder."""
    assert reading(ex, log, ex.file(data / "x.csv")).compute() == ["1"]
    shutil.move(data / "x.csv", tmp_path / "x.csv")
    assert reading(ex, log, ex.file(tmp_path / "x.csv")).compute() == ["1"]
    assert ran(log) == {"read": 1}


def test_a_file_that_is_not_there_fails_the_trial(ex, data, log):
    """With an error that says what to give instead; the trial is recorded as failed."""
    with pytest.raises(FileNotFoundError, match="names no file or folder"):
        reading(ex, log, ex.file(data / "none.csv")).compute()
    assert ex.get_history()["Success"].tolist() == [False]
    assert "names no file" in ex.get_history()["Description"][1]


def test_a_computed_parameter_may_name_the_file(ex, data, log):
    """What a step or function returns is known when it has run: then nothing is reused."""
    stem = ex.parameter("stem", default="x")

    @ex.parameter
    def path(stem):
        return str(data / f"{stem}.csv")

    result = reading(ex, log, ex.file(path))
    assert result.compute() == ["1"]
    assert "turns out only when" in ex.explain(result)["read"].reason
    assert stem.name == "stem"
