"""Tables: the experiments of a store, the trials and the step runs of an experiment."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pandas as pd

from daskperiment.cli import output
from daskperiment.cli.answering import Failed, Refused
from daskperiment.cli.stored import checked, find, place, refusing, trial_of
from daskperiment.cli.where import Condition, ConditionError
from daskperiment.experiment import Experiment
from daskperiment.experiment import list_experiments as experiments_of

__all__ = ["list_experiments", "list_steps", "list_trials", "print_frame", "rows_of"]

_STEP_COLUMNS = (
    "Trial ID", "Key", "Status", "Started", "Wall Time", "CPU Time", "Peak Memory", "Host",
    "Reused From",
)  # fmt: skip


def list_experiments(backend: str | None, format_: str) -> None:
    """Print the experiments of a store."""
    checked(backend)
    with refusing():
        frame = experiments_of(backend)
    if frame.empty and format_ == "table":
        click.echo(f"There are no experiments in {place(backend)}.", err=True)
    print_frame(frame, format_)


def list_steps(backend: str | None, id: str, trial: int | None, format_: str) -> None:
    """Print step runs."""
    experiment = find(backend, id)
    frame = experiment.get_steps(None if trial is None else trial_of(experiment, trial))
    in_terminal = format_ == "table" and output.is_terminal()
    print_frame(frame, format_, names=_STEP_COLUMNS if in_terminal else ())


def list_trials(
    backend: str | None, id: str, format_: str, *, columns: Sequence[str], where: str | None,
    sort: str | None, last: int | None, verbose: bool, running: bool, output: Path | None,
) -> None:  # fmt: skip
    """Print trials."""
    if format_ == "parquet":
        _check_parquet(output)
    experiment = find(backend, id)
    frame = _history(experiment, verbose, running)
    names = _names(columns, list(frame.columns))
    asked = {*names, *([sort.removeprefix("-")] if sort and sort not in frame else ())}
    if not verbose and (where or not asked <= set(frame.columns)):
        full = _history(experiment, True, running)
        shown = names or list(frame.columns)
        frame, names = full, _names(columns, list(full.columns)) or shown
    if where:
        frame = _filtered(frame, where)
    if last:
        frame = frame.tail(last)
    if sort:
        frame = _sorted(frame, sort)
    print_frame(frame, format_, output, _known(names, frame))


def _history(experiment: Experiment, verbose: bool, running: bool) -> pd.DataFrame:
    """Get the history with the trials' ids as a column, and each name once."""
    frame = experiment.get_history(verbose=verbose, running=running).reset_index()
    # A parameter may have the name of a column; the parameter comes first.
    return frame.loc[:, ~frame.columns.duplicated(keep="last")]


def _names(columns: Iterable[str], known: Sequence[str]) -> list[str]:
    names: list[str] = []
    for text in columns:
        names += [text] if text in known else [name.strip() for name in text.split(",")]
    return list(dict.fromkeys(names))


def _known(names: Sequence[str], frame: pd.DataFrame) -> list[str]:
    unknown = [name for name in names if name not in frame.columns]
    if unknown:
        raise Refused(
            f"There is no column {', '.join(map(repr, unknown))}; "
            f"there are: {', '.join(frame.columns)}."
        )
    return list(names)


def _filtered(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    try:
        holds = Condition(where, list(frame.columns))
    except ConditionError as error:
        raise Refused(str(error)) from error
    used = {name: list(frame[name]) for name in holds.used}
    kept = [
        holds({name: column[row] for name, column in used.items()}) for row in range(len(frame))
    ]
    return frame[kept]


def _sorted(frame: pd.DataFrame, sort: str) -> pd.DataFrame:
    descending = sort not in frame.columns and sort.startswith("-")
    (name,) = _known([sort[1:] if descending else sort], frame)
    try:
        return frame.sort_values(name, ascending=not descending, kind="stable")
    except TypeError:  # values of kinds that cannot be compared
        texts = frame[name].map(_order).sort_values(ascending=not descending, kind="stable")
        return frame.loc[texts.index]


def _order(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


# Printing --------------------------------------------------------------------------------------


def print_frame(
    frame: pd.DataFrame, format_: str, file: Path | None = None, names: Sequence[str] = ()
) -> None:
    """Print a table, or these columns of it, or write it to a file."""
    headers = list(names or map(str, frame.columns))
    if format_ == "parquet":
        _to_parquet(frame, headers, file)
        return
    rows = rows_of(frame, headers)
    if format_ == "table" and file is None:
        output.print_table(headers, rows)
        return
    text = (
        output.as_json([dict(zip(headers, row, strict=True)) for row in rows]) + "\n"
        if format_ == "json"
        else output.as_csv(headers, rows)
    )
    if file is None:
        # JSON is plain ASCII; in CSV a line break stays inside its quotes.
        click.echo(text if format_ == "json" else output.safe(text), nl=False)
        return
    write(file, text)


def write(file: Path, text: str) -> None:
    """Write text to a file."""
    with _writing(file):
        file.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failed(
            f"Cannot write {str(file)!r}: {error.strerror or error}. Give another place."
        ) from error


def rows_of(frame: pd.DataFrame, names: Sequence[str] = ()) -> list[list[Any]]:
    """Give a table's rows, with NaT where a text, an object or a result is missing."""
    columns = [_blanked(name, frame) for name in names or frame.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _blanked(name: str, frame: pd.DataFrame) -> list[Any]:
    values: list[Any] = list(frame[name])
    if name == "Result" and "Success" in frame:
        success = frame["Success"]
        return [value if ok else pd.NaT for value, ok in zip(values, success, strict=True)]
    # Among numbers nan is a value, unless there is nothing else.
    if frame[name].dtype.kind not in "fc" or frame[name].isna().all():
        return [pd.NaT if _is_nan(value) else value for value in values]
    return values


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


# Parquet ---------------------------------------------------------------------------------------


def _check_parquet(file: Path | None) -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise Failed("Parquet needs the package pyarrow: pip install pyarrow")
    if file is None and output.is_terminal():
        raise Refused("Parquet is no text: give --output FILE, or send it to a file or a pipe.")


def _to_parquet(frame: pd.DataFrame, names: Sequence[str], file: Path | None) -> None:
    plain = pd.DataFrame({name: _uniform(frame[name]) for name in names})
    content = io.BytesIO()
    plain.to_parquet(content, engine="pyarrow", index=False)
    data = content.getvalue()
    if file is None:
        click.echo(data, nl=False)
        return
    with _writing(file):
        file.write_bytes(data)


def _uniform(column: pd.Series) -> pd.Series:
    """Make a column of values of many kinds one of text; others stay as they are."""
    if column.dtype != object:
        return column
    texts = [None if _is_empty(value) else output.exact(value) for value in column]
    return pd.Series(texts, index=column.index, dtype=object)


def _is_empty(value: Any) -> bool:
    return value is None or output.is_missing(value) or _is_nan(value)
