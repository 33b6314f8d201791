"""What the steps of a trial printed, logged and warned of, as text: a line each, with its time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import NamedTuple

from msgspec import Struct

from daskperiment.errors import StepNotFoundError
from daskperiment.formatting import nearest
from daskperiment.history.trial_records import (
    as_trial_id,
    decoded,
    excerpts,
    intact,
    require_trial,
)
from daskperiment.records import LogPiece, step_run_ids
from daskperiment.store.opening import read_starting
from daskperiment.store.protocol import Store, Stored

__all__ = ["get_log"]


class _LogBatch(Struct, gc=False):
    lines: list[LogPiece]


class _RunOfStep(Struct, gc=False):
    key: str
    step: str


class _LogLine(NamedTuple):
    time: float
    step: str
    source: str
    text: str

    def __str__(self) -> str:
        moment = datetime.fromtimestamp(self.time, UTC)
        stamp = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"
        return f"{stamp} {self.step} {self.source}: {self.text}"


def get_log(store: Store, trial_id: int, step: str | None = None) -> str:
    """Return what the steps of a trial said, or one of them, by its name or by its Key.

    A line for each that they wrote: when, in UTC, which step, whence, and the text. Of several that
    ran at once the lines come by their times. Raises TrialIDNotFoundError and StepNotFoundError.
    """
    trial = as_trial_id(store, trial_id)
    keys = None if step is None else _keys(store, trial, step)
    runs: dict[tuple[str, str], dict[int, LogPiece]] = {}
    for _, batch in intact(excerpts(store, "logs", [trial], keys), _LogBatch):
        for piece in batch.lines:
            # What a killed process left may stand here twice.
            if keys is None or piece.step in keys:
                runs.setdefault((piece.step, piece.run), {})[piece.start] = piece
    if not runs:
        _require(store, trial, step, keys)
    lines = [line for pieces in runs.values() for line in _lines_of(pieces)]
    lines.sort(key=lambda line: line.time)
    return "".join(f"{line}\n" for line in lines)


def _keys(store: Store, trial: int, step: str) -> set[str]:
    """Return the keys of the runs of a step, which is named by its name or by its Key."""
    key = step.removesuffix("#1")
    ids = (step_run_ids(key), f"{key}#")
    ran = chain.from_iterable(_ran(read_starting(store, "steps", trial, one)) for one in ids)
    return {key, *(run.key for run in ran if run.step == step)}


def _ran(records: Iterable[Stored]) -> list[_RunOfStep]:
    return [run for _, run in decoded(list(records), _RunOfStep, warn=False)[0]]


def _require(store: Store, trial: int, step: str | None, keys: set[str] | None) -> None:
    """Raise if a trial, or the step in it, is not there, and so has no lines."""
    known = {run.key for run in _ran(store.read("steps", [trial]))}
    if keys is not None and not keys.isdisjoint(known):
        return
    if keys is not None:
        batches = intact(store.read("logs", [trial]), _LogBatch)
        known.update(piece.step for _, batch in batches for piece in batch.lines)
    if not known:
        require_trial(store, trial)
    if step is not None:
        names = ", ".join(map(repr, sorted(known))) or "none"
        raise StepNotFoundError(
            f"Trial {trial} has no step {step!r}{nearest(step, known)}. Its steps are: {names}."
        )


def _lines_of(pieces: dict[int, LogPiece]) -> Iterator[_LogLine]:
    """Yield the lines of a run in the order in which they ended; what a clock set back comes on."""
    latest, end = 0.0, 0
    parts: dict[tuple[str, int], _LogLine] = {}
    for start in sorted(pieces):
        piece = pieces[start]
        latest = max(latest, piece.time)
        if start > end:
            yield from _told(parts.values())
            parts.clear()
            yield _LogLine(latest, piece.step, "log", f"… {start - end:,} characters left out …")
        # Pieces that were put together otherwise before a process was killed may overlap.
        text, end = piece.text[max(0, end - start) :], max(end, start + len(piece.text))
        yield from _told(_complete(parts, piece, latest, text))
    yield from _told(parts.values())


def _complete(
    parts: dict[tuple[str, int], _LogLine], piece: LogPiece, time: float, text: str
) -> Iterator[_LogLine]:
    """Yield the lines that end in a text, and keep the beginning of the next one."""
    key = piece.source, piece.thread
    first, *rest = text.split("\n")
    begun = parts.pop(key, None)
    if begun is not None:
        last = begun._replace(text=begun.text + first)
    else:
        last = _LogLine(time, piece.step, piece.source, first)
    for each in rest:
        yield last
        last = _LogLine(time, piece.step, piece.source, each)
    if last.text:
        parts[key] = last


def _told(lines: Iterable[_LogLine]) -> Iterator[_LogLine]:
    """Yield lines as a terminal shows them: what a bar of progress wrote over is gone."""
    for line in lines:
        text = line.text.rstrip("\r").rpartition("\r")[2]
        yield line._replace(text=text)
