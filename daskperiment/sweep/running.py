"""Runs a sweep's trials: one after the other here, or many at once on a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from daskperiment.errors import ParameterUndefinedError, StoreUnavailableError
from daskperiment.execution.random_state import step_seed
from daskperiment.graph.result import ResultNode
from daskperiment.planning.options import TrialOptions
from daskperiment.sweep.progress import Progress
from daskperiment.sweep.samplers import Sampler
from daskperiment.sweep.space import Point

__all__ = ["Finished", "Job", "Work", "run_here"]

Finished = Counter[tuple[str, int | None]]
"""Identity of a point's values and the trial's seed, if the sweep has one -> how many were done."""


class Job(NamedTuple):
    """One trial to run."""

    point: Point
    result: ResultNode


@dataclass
class Work:
    """The trials of a sweep that are to be run, and how those that were run ended."""

    result: ResultNode
    order: TrialOptions
    """What all trials are asked for; values and seed are added."""
    seed: int | None
    sampler: Sampler
    left: int | None
    """How many trials may still begin; None if the sampler knows when to stop."""
    done: Finished
    """What an earlier part of the sweep did."""
    stops: bool
    """Whether the first failure ends the sweep."""
    progress: Progress
    trouble: Exception | None = None
    """What the sampler raised: nothing more is begun then, and it is raised in the end."""
    failure: Exception | None = None
    """The last failure."""
    ended: int = 0

    def jobs(self) -> Iterator[Job]:
        """Yield what is to be run, each made when it is asked for."""
        while self.trouble is None and self.left != 0:
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
            order = replace(
                self.order, values={**self.order.values, **point.values},
                seed=self.order.seed if seed is None else seed,
            )  # fmt: skip
            yield Job(point, self.result.with_options(order))

    def _ask(self) -> Point | None:
        try:
            return self.sampler.ask()
        except Exception as error:  # a sampler may be the user's own
            self.trouble = error
            return None

    def _seed_of(self, point: Point) -> int | None:
        if self.seed is None:
            return None
        return step_seed(self.seed, f"{point.identity}/{point.place}") >> 1  # a seed has 63 bits

    def succeeded(self, job: Job, value: Any = None) -> None:
        """Take note of a trial that succeeded."""
        self._ended(job, value, failed=False)

    def failed(self, job: Job, error: Exception) -> None:
        """Take note of a trial that failed; raise its exception if that ends the sweep."""
        self.failure = error
        self._ended(job, None, failed=True)
        if self.stops or ends_sweep(error):
            raise error

    def _ended(self, job: Job, value: Any, failed: bool) -> None:
        self.ended += 1
        self.progress.ended(failed)
        try:
            self.sampler.tell(job.point, value, failed)
        except Exception as error:  # a sampler may be the user's own; what is in flight may end
            self.trouble = self.trouble or error

    def finish(self) -> None:
        """Raise what the sampler raised."""
        if self.trouble is not None:
            raise self.trouble


def ends_sweep(error: Exception) -> bool:
    """Whether the trials after this one would fail in the same way, unrecorded."""
    return isinstance(error, (StoreUnavailableError, ParameterUndefinedError))


def run_here(work: Work, keywords: dict[str, Any]) -> None:
    """Run trials one after the other, each on a scheduler of this process."""
    for job in work.jobs():
        work.progress.running(1)
        try:
            value = job.result.compute(**keywords)
        except Exception as error:
            work.failed(job, error)
        else:
            work.succeeded(job, value)
    work.finish()
