"""The command ``export`` with tables as Parquet."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import daskperiment
from tests.cli.conftest import Command

pytest.importorskip("pyarrow")


@pytest.fixture
def trained(folder: Path) -> daskperiment.Experiment:
    """Make two trials with metrics, artifacts and values of many kinds."""
    ex = daskperiment.Experiment("trained", backend=folder / "daskperiment_cache")
    p = ex.parameter("p")

    @ex.result
    def train(p: object) -> dict[str, object]:
        ex.save_metric("loss", 0, 1.5)
        ex.save_metric("loss", 1, float("nan"))
        ex.save_metric("acc", "end", 2)
        ex.save_metric("acc", "\udcff", 3)
        ex.save("table", {"a": 1})
        return {"f1": 0.5, "half \udcff": 7}

    for value in (1, "<script>", [1, "\udcff"]):
        train(p).bind(p=value).compute(scheduler="synchronous")
    return ex


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("place", [["-o", "out"], ["out"]])
def test_tables(run: Command, folder: Path, place: list[str]) -> None:
    """There is a file for each table, and its numbers are numbers."""
    answer = run("export", "trained", "--format", "parquet", *place)
    assert (answer.status, "12 rows of metrics" in answer.out) == (0, True), answer
    read = {path.stem: pd.read_parquet(path) for path in (folder / "out").glob("*.parquet")}
    assert sorted(read) == ["artifacts", "history", "metrics", "steps"]
    history = read["history"]
    assert history["Trial ID"].tolist() == [1, 2, 3]
    assert history["Result.f1"].tolist() == [0.5] * 3
    assert history[r"Result.half \udcff"].tolist() == [7] * 3
    assert history["p"].tolist() == ["1", "<script>", r"[1, '\udcff']"]
    first = read["metrics"].query("`Trial ID` == 1")
    assert first["Metric"].tolist() == ["loss", "loss", "acc", "acc"]
    assert first["Value"].fillna(-1).tolist() == [1.5, -1, 2, 3]
    assert first["Value Text"].fillna("").tolist() == ["", "nan", "", ""]
    assert first["Epoch Text"].fillna("").tolist() == ["", "", "end", r"\udcff"]
    assert read["steps"]["Step"].tolist() == ["train"] * 3
    assert read["artifacts"]["Name"].tolist() == ["table"] * 3
    # The same folder takes a later export, and no other experiment's.
    assert run("export", "trained", "--format", "parquet", "-o", "out").status == 0


@pytest.mark.usefixtures("trained")
def test_names_with_half_a_character(run: Command, folder: Path) -> None:
    """A key of a result that UTF-8 cannot hold is a column of tables, and of reports."""
    store = folder / "daskperiment_cache"
    table = daskperiment.Experiment("trained", backend=store).get_history(expand=True)
    assert table["Result.half \udcff"].tolist() == [7] * 3
    assert run("report", "trained", "--trials", "1-3", "-o", "report.html").status == 0
    assert "Result.half" in (folder / "report.html").read_text()


@pytest.mark.usefixtures("trained")
def test_no_folder_or_two(run: Command, folder: Path) -> None:
    """A folder has to be given once, and one with other files is refused."""
    assert run("export", "trained", "--format", "parquet").status == 2
    assert run("export", "trained", "a", "-o", "b").status == 2
    (folder / "mine").mkdir()
    (folder / "mine" / "file").write_text("x")
    answer = run("export", "trained", "--format", "parquet", "-o", "mine")
    assert (answer.status, "holds other files" in answer.err) == (2, True), answer


def test_nothing_was_saved(run: Command, folder: Path) -> None:
    """Tables without rows can be written and read, too."""
    ex = daskperiment.Experiment("plain", backend=folder / "daskperiment_cache")

    @ex.result
    def one() -> int:
        return 1

    one().compute(scheduler="synchronous")
    assert run("export", "plain", "--format", "parquet", "-o", "out").status == 0
    assert pd.read_parquet(folder / "out" / "metrics.parquet").empty
    assert pd.read_parquet(folder / "out" / "history.parquet")["Result"].tolist() == [1]
