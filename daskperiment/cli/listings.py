"""Lists: the experiments of a store, and an experiment's trials, step runs and metrics."""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from daskperiment.cli import output
from daskperiment.cli.command_options import LATEST
from daskperiment.cli.exit_status import Failed, Refused
from daskperiment.cli.lookup import checked, find, place, refusing, store_of, trial_of
from daskperiment.errors import FilterError, MetricNotFoundError
from daskperiment.experiment import experiment_rows
from daskperiment.history.overview import EXPERIMENT_COLUMNS
from daskperiment.history.stored_values import FURTHEST
from daskperiment.records import SYSTEM
from daskperiment.store.protocol import Store

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "list_experiments", "list_metrics", "list_steps", "list_trials", "print_frame", "rows_of",
    "sparkline", "write",
]  # fmt: skip

_EPOCH = datetime.fromtimestamp(0, UTC)
_BARS = "▁▂▃▄▅▆▇█"
_STEP_COLUMNS = (
    "Trial ID", "Key", "Status", "Started", "Wall Time", "CPU Time", "Peak Memory", "Host",
    "Reused From",
)  # fmt: skip


def list_experiments(backend: str | None, format_: str, limit: int | None = None) -> None:
    """Print the experiments of a store."""
    checked(backend)
    with refusing():
        found = experiment_rows(backend)
    if not found and format_ == "table":
        click.echo(f"There are no experiments in {place(backend)}.", err=True)
    # Without pandas, which takes longer to load than a thousand experiments to look at.
    rows = [(*row[:1], *row[2:5], _moment(row.finished), row.address) for row in found[:limit]]
    missing = None if format_ == "json" else ""
    shown = [[missing if value is None else value for value in row] for row in rows]
    output.print_rows(EXPERIMENT_COLUMNS, shown, format_)


def _moment(seconds: float | None) -> datetime | None:
    """Return a time as the tables of the history have it, to microseconds."""
    if seconds is None or not abs(seconds) < FURTHEST:
        return None
    return _EPOCH + timedelta(microseconds=round(seconds * 1e6))


def list_steps(
    backend: str | None, id: str, trial: int | None, format_: str, limit: int | None = None
) -> None:
    """Print step runs."""
    experiment = find(backend, id)
    frame = experiment.get_steps(None if trial is None else trial_of(experiment, trial))
    in_terminal = format_ == "table" and output.is_terminal()
    print_frame(frame[:limit], format_, names=_STEP_COLUMNS if in_terminal else ())


def list_trials(
    backend: str | None, id: str, format_: str, *, columns: Sequence[str], where: str | None,
    sort: str | None, last: int | None, limit: int | None, verbose: bool, running: bool,
    archived: bool, output: Path | None,
) -> None:  # fmt: skip
    """Print trials."""
    if format_ == "parquet":
        check_parquet(output)
    store = store_of(backend, id)
    wanted = _ListedTrials(store, where, sort, last, limit, running, archived)
    frame = wanted.frame(verbose=verbose)
    shown = _names(columns, list(frame.columns)) or list(frame.columns)
    # What is not a column of the short table may be one of the long one, or a part of one.
    for more in ({"verbose": True}, {"verbose": True, "expand": True, "metrics": True}):
        if not set(shown) <= set(frame.columns):
            frame = wanted.frame(**more)
            shown = _names(columns, list(frame.columns)) or shown
    if "Tags" in frame and format_ != "json":
        frame = frame.assign(Tags=[", ".join(tags) for tags in frame["Tags"]])
    print_frame(frame, format_, output, _known(shown if columns else [], frame))


class _ListedTrials(NamedTuple):
    """Which trials of an experiment are listed, and in which order."""

    store: Store
    where: str | None
    sort: str | None
    last: int | None
    limit: int | None
    running: bool
    archived: bool

    def frame(self, verbose: bool, expand: bool = False, metrics: bool = False) -> pd.DataFrame:
        """Return the table with the trials' ids as a column, and each name once."""
        from daskperiment.history.tables import get_history  # noqa: PLC0415  # it needs pandas

        try:
            frame = get_history(
                self.store, (), verbose, self.running, where=self.where, sort=self.sort,
                last=self.last, limit=self.limit, expand=expand, metrics=metrics,
                archived=self.archived,
            ).reset_index()  # fmt: skip
        except FilterError as error:
            raise Refused(str(error)) from error
        # A parameter may have the name of a column; the parameter comes first.
        return frame.loc[:, ~frame.columns.duplicated(keep="last")]


def _names(columns: Iterable[str], known: Sequence[str]) -> list[str]:
    names: list[str] = []
    for text in columns:
        names += [text] if text in known else [name.strip() for name in text.split(",")]
    if names and "Trial ID" not in names:  # whose row it is, whatever else is asked for
        names.insert(0, "Trial ID")
    return list(dict.fromkeys(names))


def _known(names: Sequence[str], frame: pd.DataFrame) -> list[str]:
    unknown = [name for name in names if name not in frame.columns]
    if unknown:
        raise Refused(
            f"There is no column {', '.join(map(repr, unknown))}; "
            f"there are: {', '.join(frame.columns)}."
        )
    return list(names)


# Metrics ---------------------------------------------------------------------------------------


def list_metrics(
    backend: str | None, id: str, trials: Sequence[int], names: Sequence[str], format_: str,
    limit: int | None = None, system: bool = False,
) -> None:  # fmt: skip
    """Print the metrics of trials: a line for each as a table, else every point.

    Unless they are named, those that steps saved, or those of what trials used of the machine.
    """
    experiment, store = find(backend, id), store_of(backend, id)
    numbers = dict.fromkeys(trial_of(experiment, trial) for trial in trials or (LATEST,))
    found = [one for number in numbers for one in _metrics(store, number, names, system)]
    if format_ != "table":
        rows = [[trial, name, *point] for trial, name, series in found for point in series.items()]
        output.print_rows(["Trial ID", "Metric", "Epoch", "Value"], rows[:limit], format_)
        return
    if not found:
        said = "No metric was saved; save_metric() in a step does that."
        click.echo("Only trials of some seconds have such metrics." if system else said, err=True)
    headers = ["Trial ID", "Metric", "Points", "First", "Last", "Lowest", "Highest", "Curve"]
    shown = len(headers) if output.is_terminal() else -1
    output.print_table(headers[:shown], [_summary(*one)[:shown] for one in found[:limit]])


def _metrics(
    store: Store, trial: int, names: Sequence[str], system: bool
) -> Iterator[tuple[int, str, pd.Series]]:
    from daskperiment.history.metrics import get_metrics, load_metrics  # noqa: PLC0415  # as above

    known = load_metrics(store, trial, names or None)
    listed = [name for name in known if name.startswith(SYSTEM) is system]
    for name in dict.fromkeys(names) or listed:
        if name not in known:
            every = [*get_metrics(store, trial), *get_metrics(store, trial, system=True)]
            raise MetricNotFoundError(
                f"There is no metric {name!r} in trial {trial}; it has: "
                f"{', '.join(map(repr, every)) or 'none'}."
            )
        yield trial, name, known[name]


def _summary(trial: int, name: str, series: pd.Series) -> list[Any]:
    values = list(series)
    numbers = [value for value in map(_number, values) if value is not None]
    lowest, highest = (min(numbers), max(numbers)) if numbers else ("", "")
    return [trial, name, len(values), values[0], values[-1], lowest, highest, sparkline(values)]


def sparkline(values: Sequence[Any], columns: int = 30) -> str:
    """Return a line of bars, one for each column; what is no number is a blank.

    >>> sparkline([3, 2, 1, 1])
    '█▅▁▁'
    """
    numbers = [_number(value) for value in _thinned(values, columns)]
    known = [number for number in numbers if number is not None]
    if not known:
        return ""
    # Halved, because the range of two finite numbers may be infinite.
    lowest = min(known) / 2
    half = max(known) / 2 - lowest

    def bar(number: float | None) -> str:
        if number is None:
            return " "
        share = (number / 2 - lowest) / half if half else 0.0
        return _BARS[math.floor(share * (len(_BARS) - 1) + 0.5)]

    return "".join(map(bar, numbers))


def _thinned(values: Sequence[Any], columns: int) -> list[Any]:
    if len(values) <= columns:
        return list(values)
    last = len(values) - 1
    return [values[round(column * last / (columns - 1))] for column in range(columns)]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


# Printing --------------------------------------------------------------------------------------


def print_frame(
    frame: pd.DataFrame, format_: str, file: Path | None = None, names: Sequence[str] = ()
) -> None:
    """Print a table, or these columns of it, or write it to a file."""
    headers = list(names or map(str, frame.columns))
    if format_ == "parquet":
        write_parquet(frame, headers, file)
        return
    rows = rows_of(frame, headers)
    if file is None:
        output.print_rows(headers, rows, format_)
    else:
        write(file, output.as_text(headers, rows, format_))


def write(file: Path, content: str | bytes) -> None:
    """Write text or bytes to a file."""
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    try:
        file.write_bytes(content)
    except OSError as error:
        raise Failed(
            f"Cannot write {str(file)!r}: {error.strerror or error}. Give another place."
        ) from error


def rows_of(frame: pd.DataFrame, names: Sequence[str] = ()) -> list[list[Any]]:
    """Return a table's rows, with NaT where a text, an object or a result is missing."""
    columns = [_blanked(name, frame) for name in names or frame.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _blanked(name: str, frame: pd.DataFrame) -> list[Any]:
    import pandas as pd  # noqa: PLC0415  # large, and most commands do without

    values: list[Any] = list(frame[name])
    if name == "Result" and "Success" in frame:
        success = frame["Success"]
        return [value if ok else pd.NaT for value, ok in zip(values, success, strict=True)]
    # Among numbers nan is a value, unless there is nothing else.
    if frame[name].dtype.kind not in "fc" or frame[name].isna().all():
        return [pd.NaT if output.is_nothing(value) else value for value in values]
    return values


def check_parquet(file: Path | None) -> None:
    """Raise Failed or Refused if no table can be written as Parquet."""
    if importlib.util.find_spec("pyarrow") is None:
        raise Failed("Parquet needs the package pyarrow: pip install pyarrow")
    if file is None and output.is_terminal():
        raise Refused("Parquet is no text: give --output FILE, or send it to a file or a pipe.")


def write_parquet(frame: pd.DataFrame, names: Sequence[str], file: Path | None) -> None:
    """Write columns of a table as Parquet, to a file or to the output."""
    import pandas as pd  # noqa: PLC0415  # as above

    # Half a character, as of the name of a file, shows as it does in CSV: Parquet is UTF-8.
    plain = pd.DataFrame({_whole(name): _uniform(frame[name]) for name in names})
    content = io.BytesIO()
    plain.to_parquet(content, engine="pyarrow", index=False)
    if file is None:
        click.echo(content.getvalue(), nl=False)
    else:
        write(file, content.getvalue())


def _uniform(column: pd.Series) -> pd.Series:
    """Return a column of values of many kinds as one of text; others stay as they are."""
    import pandas as pd  # noqa: PLC0415  # as above

    # Parquet has one type for all values of a column.
    if column.dtype != object:
        return column
    texts = [
        None if value is None or output.is_nothing(value) else _whole(output.exact(value))
        for value in column
    ]
    return pd.Series(texts, index=column.index, dtype=object)


def _whole(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
