"""Files as inputs, and frames of pandas, polars and Dask between the steps.

``python examples/frames.py`` writes a month of measurements into the folder ``measurements`` if
there is none, and reads it by three libraries. Run it twice: the second time nothing is read again.
Change a file, and what was made of that file alone is made again; ``ex.explain(s)`` says so before.
It needs ``pyarrow`` and ``polars`` besides the packages of the extra ``examples``.
"""

from __future__ import annotations

from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars as pl

import daskperiment

ex = daskperiment.Experiment("frames", seed=1, reuse=True)
FOLDER = Path("measurements")
limit = ex.parameter("limit", default=30.0)


def write_measurements() -> None:
    """Write files as a sensor leaves them: one for each week, and a table of stations."""
    FOLDER.mkdir()
    rng = np.random.default_rng(1)
    for week in range(4):
        days = pd.date_range("2026-06-01", periods=7) + pd.Timedelta(weeks=week)
        table = pd.DataFrame({
            "day": np.repeat(days, 3),
            "station": ["north", "south", "lake"] * 7,
            "degrees": rng.normal([24, 28, 22] * 7, 4).round(1),
        })  # fmt: skip
        table.to_csv(FOLDER / f"week{week}.csv", index=False)
    stations = pd.DataFrame({"station": ["north", "south", "lake"], "metres": [310, 190, 205]})
    stations.to_parquet(FOLDER / "stations.parquet")


@ex.persist
def weeks(files: list[Path]) -> pl.DataFrame:
    """Read all weeks, with polars."""
    return pl.concat(pl.read_csv(file, try_parse_dates=True) for file in files)


@ex.persist
def stations(file: Path) -> pd.DataFrame:
    """Read the table of stations, with pandas."""
    return pd.read_parquet(file).set_index("station")


@ex.persist
def hot_days(measured: pl.DataFrame, limit: float) -> pl.DataFrame:
    """Return how many days of each station were hotter than the limit."""
    hot = measured.filter(pl.col("degrees") > limit)
    return hot.group_by("station").agg(pl.len().alias("hot days")).sort("station")


@ex.persist
def monthly(measured: pl.DataFrame) -> pd.DataFrame:
    """Return the mean of each station, with Dask."""
    frame = dd.from_pandas(measured.to_pandas(), npartitions=2)
    means: pd.Series[float] = frame.groupby("station")["degrees"].mean().compute()
    return means.to_frame().sort_index()


@ex.result
def report(hot: pl.DataFrame, means: pd.DataFrame, stations: pd.DataFrame) -> int:
    """Join all, keep the table, and return the number of hot days."""
    table = means.join(stations).join(hot.to_pandas().set_index("station"))
    ex.save("table", table.fillna({"hot days": 0}).reset_index())
    return int(hot["hot days"].sum())


def make() -> daskperiment.Result:
    """Return the result for the files of this folder."""
    measured = weeks(ex.file(str(FOLDER / "week*.csv")))
    known = stations(ex.file(FOLDER / "stations.parquet"))
    return report(hot_days(measured, limit), monthly(measured), known)


def main() -> None:
    """Compute a trial, and show the table and what was taken from earlier trials."""
    if not FOLDER.exists():
        write_measurements()
    s = make()
    print(f"{s.compute()} hot days\n")
    print(ex.load("table", ex.trial_id))
    print()
    print(ex.get_steps(ex.trial_id)[["Step", "Reused From"]])


if __name__ == "__main__":
    main()
