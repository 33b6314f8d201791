"""What the steps of a trial printed, logged and warned of, as text: a line each, with its time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec import Struct

from daskperiment.errors import StepNotFoundError
from daskperiment.formatting import nearest
from daskperiment.history.trial_records import as_trial_id, decoded, intact, require_trial
from daskperiment.records import LogPiece
from daskperiment.store.protocol import Store

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
    runs: dict[tuple[str, str], dict[int, LogPiece]] = {}
    for _, batch in intact(store.read("logs", [trial]), _LogBatch):
        for piece in batch.lines:
            # What a killed process left may stand here twice.
            runs.setdefault((piece.step, piece.run), {})[piece.start] = piece
    if not runs or step is not None:
        runs = _of_step(store, trial, step, runs)
    lines = [line for pieces in runs.values() for line in _lines_of(pieces)]
    lines.sort(key=lambda line: line.time)
    return "".join(f"{line}\n" for line in lines)


def _of_step(
    store: Store, trial: int, step: str | None, runs: dict[tuple[str, str], dict[int, LogPiece]]
) -> dict[tuple[str, str], dict[int, LogPiece]]:
    """Return the runs of one step; raise if the trial, or the step in it, is not there."""
    ran = [run for _, run in decoded(list(store.read("steps", [trial])), _RunOfStep, warn=False)[0]]
    if not ran and not runs:
        require_trial(store, trial)
    if step is None:
        return runs
    wanted = {step.removesuffix("#1")} | {run.key for run in ran if run.step == step}
    known = {run.key for run in ran} | {key for key, _ in runs}
    if not wanted & known:
        names = ", ".join(map(repr, sorted(known))) or "none"
        raise StepNotFoundError(
            f"Trial {trial} has no step {step!r}{nearest(step, known)}. Its steps are: {names}."
        )
    return {(key, run): found for (key, run), found in runs.items() if key in wanted}


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
