"""Trials of an experiment as one HTML file."""

from __future__ import annotations

from pathlib import Path

from daskperiment.cli import output as out
from daskperiment.cli.command_options import BEST
from daskperiment.cli.exit_status import Failed, Refused
from daskperiment.cli.lookup import find, store_of, trials_of
from daskperiment.formatting import one_line
from daskperiment.history.best_trial import Mode
from daskperiment.reports import html_report

__all__ = ["write_report"]

_MOST = 200


def write_report(
    backend: str | None, id: str, trials: list[tuple[int, int]], output: Path | None, force: bool,
    by: str, mode: Mode,
) -> None:  # fmt: skip
    """Write the report; a file that is there stays unless `force`."""
    experiment, store = find(backend, id), store_of(backend, id)
    path = output or Path(f"{id}.html")
    if path.exists() and not force:
        raise Refused(f"{str(path)!r} is there already; give another file with -o, or --force.")
    if (by, mode) != ("Result", "max") and not any(BEST in piece for piece in trials):
        raise Refused("--by and --mode say which trial is 'best'; give it: --trials best,latest")
    numbers = trials_of(experiment, trials, by, mode)
    if len(numbers) > _MOST:
        raise Refused(f"Got {len(numbers)} trials; a report takes up to {_MOST}. Give fewer.")
    text = html_report(store, id, numbers)
    try:
        path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise Failed(f"Cannot write {str(path)!r}: {error}") from error
    many = "1 trial" if len(numbers) == 1 else f"{len(numbers)} trials"
    out.print_text(one_line(f"{many} of {id} written to {path} ({len(text):,} characters)."))
