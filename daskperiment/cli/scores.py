"""The best trial, and whether another one is as good."""

from __future__ import annotations

import math

from daskperiment.cli import output
from daskperiment.cli.exit_status import Refused
from daskperiment.cli.lookup import find, refusing, store_of, trial_of
from daskperiment.history.best_trial import Mode, best_of, scores

__all__ = ["best", "check_metric"]


def best(backend: str | None, id: str, by: str, mode: Mode, where: str | None) -> None:
    """Print the id of the best trial."""
    experiment = find(backend, id)
    with refusing():
        output.print_text(str(experiment.best(by, mode, where)))


def check_metric(
    backend: str | None, id: str, trial: int, by: str, against: str, mode: Mode, tolerance: float
) -> int:
    """Compare a trial with the best of others; return 1 if it is worse by more than that."""
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise Refused(f"The tolerance is {tolerance}; expected a number from 0.")
    experiment, store = find(backend, id), store_of(backend, id)
    number = trial_of(experiment, trial)
    with refusing():
        found = scores(store, (), by)
        others = found if against == "best" else scores(store, (), by, f"{against!r} in Tags")
    own = next((one for one in found if one.trial == number), None)
    others = [one for one in others if one.trial != number]
    if own is None:
        raise Refused(f"Trial {number} did not succeed, is archived, or has no number as {by!r}.")
    if not others:
        which = "other trial" if against == "best" else f"other trial with the tag {against!r}"
        raise Refused(f"No {which} of experiment {id!r} has a number as {by!r}.")
    other = best_of(others, mode)
    behind = other.value - own.value if mode == "max" else own.value - other.value
    worse = behind > tolerance
    output.print_text(
        f"Trial {own.trial} has {by} {own.value:g}, trial {other.trial} ({against}) "
        f"{other.value:g}: {'worse' if worse else 'not worse'} by more than {tolerance:g}."
    )
    return int(worse)
