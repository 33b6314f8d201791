"""The trials of a sweep that are still to be run, how those that were run ended, and the bar."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from daskperiment.errors import ParameterUndefinedError, StoreUnavailableError
from daskperiment.execution.lifecycle import status_of
from daskperiment.planning.planner import TrialOptions
from daskperiment.planning.result_node import ResultNode
from daskperiment.seeds import step_seed
from daskperiment.sweep.samplers import Sampler
from daskperiment.sweep.space import SweepPoint

__all__ = ["SweepBar", "SweepJobs", "TrialJob"]

_REFRESH = 0.1
"""Seconds between two drawings of what began, at least."""


class TrialJob(NamedTuple):
    """One trial to run."""

    point: SweepPoint
    result: ResultNode


@dataclass
class SweepJobs:
    """The trials of a sweep that are still to be run, and how those that were run ended."""

    result: ResultNode
    options: TrialOptions
    """Options of all trials; each gets the values of its point, and a seed."""
    seed: int | None
    sampler: Sampler
    left: int | None
    """How many trials may still begin; None if the sampler knows when to stop."""
    done: Counter[tuple[str, int | None]]
    """What an earlier part of the sweep did: identity of the point and, if the sweep has one, seed
    of the trial -> how often."""
    stops: bool
    """Whether the first failure ends the sweep."""
    bar: SweepBar
    sampler_error: Exception | None = None
    """What the sampler raised: nothing more is begun then, and it is raised in the end."""
    failure: Exception | None = None
    """The last failure of a trial."""
    ended: int = 0

    def __iter__(self) -> Iterator[TrialJob]:
        """Yield the jobs; each is made when it is asked for, with what is known by then."""
        while self.sampler_error is None and self.left != 0:
            point = self._ask()
            if point is None:
                return
            seed = self._seed_of(point)
            key = (point.identity, seed)
            if self.done[key] > 0:
                self.done[key] -= 1
                continue
            if self.left is not None:
                self.left -= 1
            options = replace(
                self.options, values={**self.options.values, **point.values},
                seed=self.options.seed if seed is None else seed,
            )  # fmt: skip
            yield TrialJob(point, self.result.with_options(options))

    def _ask(self) -> SweepPoint | None:
        try:
            return self.sampler.ask()
        except Exception as error:  # a sampler may be the user's own
            self.sampler_error = error
            return None

    def _seed_of(self, point: SweepPoint) -> int | None:
        if self.seed is None:
            return None
        # A seed has 63 bits.
        return step_seed(self.seed, f"{point.identity}/{point.occurrence}") >> 1

    def succeeded(self, job: TrialJob, value: Any = None) -> None:
        """Count a trial that succeeded, and let the sampler know."""
        self._count(job, value, failed=False)

    def failed(self, job: TrialJob, error: Exception) -> None:
        """Count a trial that failed; raise its exception if that ends the sweep."""
        self.failure = error
        self._count(job, None, failed=True)
        # Without a store or a value, the other trials would fail in the same way, unrecorded.
        ends_all = isinstance(error, (StoreUnavailableError, ParameterUndefinedError))
        if ends_all or (self.stops and status_of(error) != "pruned"):
            raise error

    def _count(self, job: TrialJob, value: Any, failed: bool) -> None:
        self.ended += 1
        self.bar.ended(failed)
        try:
            self.sampler.tell(job.point, value, failed)
        except Exception as error:  # a sampler may be the user's own; trials that run may end
            self.sampler_error = self.sampler_error or error


class _Bar(tqdm):  # type: ignore[misc]  # tqdm ships no types
    """A bar without the thread that watches over bars: trials bring it forward often enough."""

    monitor_interval = 0


class SweepBar:
    """The number of trials that are done, running and failed, on a terminal or in a notebook.

    `sweep` is the sweep's id, `total` its number of trials, if that is known, and `before` how many
    of them an earlier part of the sweep did.
    """

    def __init__(self, sweep: str, total: int | None, before: int, shown: bool) -> None:
        self._failed = 0
        self._running = 0
        self._drawn = 0.0
        self._bar: Any = _Bar(
            desc=f"sweep {sweep}", total=total, initial=before, unit="trial", disable=not shown
        )

    def running(self, number: int) -> None:
        """Show how many trials run."""
        self._running = number
        self._update_counts()
        # Else nothing would be seen of the first trials before one of them has ended.
        if not self._bar.disable and time.monotonic() - self._drawn >= _REFRESH:
            self._drawn = time.monotonic()
            self._bar.refresh()

    def ended(self, failed: bool) -> None:
        """Count one more trial."""
        self._failed += failed
        self._running -= 1
        self._update_counts()
        self._bar.update()

    def _update_counts(self) -> None:
        if not self._bar.disable:
            self._bar.set_postfix(running=self._running, failed=self._failed, refresh=False)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
