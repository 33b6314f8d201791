"""Runs a sweep's trials on a cluster: a bounded number at once, many in each graph sent."""

from __future__ import annotations

import sys
import time
from concurrent.futures import CancelledError
from itertools import islice
from typing import Any, NamedTuple

from dask.base import get_scheduler
from dask.highlevelgraph import HighLevelGraph

from daskperiment.client.tracker import tracker_of
from daskperiment.recording.registry import recorder_for
from daskperiment.sweep.jobs import SweepJobs, TrialJob

__all__ = ["ClusterJobs", "client_for"]

_AHEAD = 32
"""How many trials wait or run for each thread of the cluster, where results do not matter for what
comes next."""
_LEAST = 64
_PAUSE = {False: 0.02, True: 0.002}
"""Seconds between looks at what has ended: short where the next point depends on it."""
_LONGEST_PAUSE = 0.1
_OPEN = ("pending", "lost")
"""States of a future that waits. What was lost with a worker is computed once more."""
_REFRESH = 5.0
"""Seconds after which the cluster is asked again how many threads it has."""


def client_for(result: Any, scheduler: Any) -> Any:
    """Return the client that Dask would compute with; None if it would use this process."""
    if "distributed" not in sys.modules:
        return None
    get = get_scheduler(scheduler=scheduler, collections=[result])
    owner = getattr(get, "__self__", None)
    return owner if hasattr(owner, "scheduler_info") else None


class SubmittedJob(NamedTuple):
    """A trial that is on the cluster."""

    job: TrialJob
    token: str
    future: Any


class ClusterJobs:
    """The trials of a sweep that are on the cluster."""

    def __init__(self, jobs: SweepJobs, client: Any, keywords: dict[str, Any]) -> None:
        self._jobs = jobs
        self._coming = iter(jobs)
        self._client = client
        self._keywords = keywords
        self._recorder = recorder_for(jobs.result.definition.planner.store)
        self._submitted: list[SubmittedJob] = []
        self._asked = -_REFRESH
        self._limit = 0

    def run(self) -> None:
        """Submit trials, and count those that end, until all have ended; an error cancels them."""
        try:
            self._fill()
            while self._submitted:
                self._count(self._ended())
                self._fill()
        except BaseException:
            self.cancel()
            raise

    # Submitting

    def _fill(self) -> None:
        """Submit trials if there are enough to submit to make a graph worth while."""
        limit = self._refreshed_limit()
        free = limit - len(self._submitted)
        if self._submitted and free < (1 if self._jobs.sampler.adaptive else limit // 4):
            return
        jobs = list(islice(self._coming, free))
        if jobs:
            self._submit(jobs)
            self._jobs.bar.running(len(self._submitted))

    def _refreshed_limit(self) -> int:
        """Return how many trials may be on the cluster at once."""
        now = time.monotonic()
        if now - self._asked > _REFRESH:
            self._asked = now
            threads = max(1, sum(self._client.nthreads().values()))
            adaptive = self._jobs.sampler.adaptive
            self._limit = threads if adaptive else max(_LEAST, _AHEAD * threads)
        return self._limit

    def _submit(self, jobs: list[TrialJob]) -> None:
        definition = jobs[0].result.definition
        definition.planner.before_submission(definition.template, definition.options)
        graphs = [job.result.definition.trial_graph(watched=True) for job in jobs]
        # Layers tell what a task is for without being hashed, and keep the annotations.
        merged = HighLevelGraph.merge(*(each.graph for each in graphs))
        keys = [each.key for each in graphs]
        futures = self._client.get(merged, keys, sync=False, **self._keywords)
        for job, each, future in zip(jobs, graphs, futures, strict=True):
            self._submitted.append(SubmittedJob(job, each.token, future))

    # Ends

    def _ended(self) -> list[tuple[SubmittedJob, str]]:
        """Wait until trials have ended, and return them with the states of their futures.

        They are looked at now and then: to be told of each one costs the client a coroutine and a
        switch of threads per trial, at the moment when the cluster waits for more.
        """
        pause = _PAUSE[self._jobs.sampler.adaptive]
        while True:
            time.sleep(pause)
            # Read once for each: a state may change at any moment.
            states = [(one, one.future.status) for one in self._submitted]
            ended = [(one, status) for one, status in states if status not in _OPEN]
            if ended:
                self._submitted = [one for one, status in states if status in _OPEN]
                return ended
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _count(self, ended: list[tuple[SubmittedJob, str]]) -> None:
        values = self._values([one.future for one, status in ended if status == "finished"])
        self._note_outcomes([one for one, _ in ended])
        for (job, _, future), status in ended:
            error = None if status == "finished" else _error_of(future)
            # Not left to the garbage collector: an exception may hold on to this frame.
            future.release()
            if error is None:
                self._jobs.succeeded(job, values.get(future.key))
            else:
                self._failed(job, error)

    def _values(self, futures: list[Any]) -> dict[Any, Any]:
        if not self._jobs.sampler.adaptive:
            return {}  # results stay where they are until they are dropped
        values = self._client.gather(futures)
        return {future.key: value for future, value in zip(futures, values, strict=True)}

    def _note_outcomes(self, trials: list[SubmittedJob]) -> None:
        """Let the tracker see how trials ended, before the client forgets it."""
        tracker = tracker_of(self._recorder)
        if tracker is not None:
            tracker.note(one.token for one in trials)

    def _failed(self, job: TrialJob, error: BaseException) -> None:
        if self._client.status != "running" or not isinstance(error, (Exception, CancelledError)):
            raise error
        self._jobs.failed(job, error)

    def cancel(self) -> None:
        """Cancel what runs or waits; the tracker writes down that these trials ended."""
        futures = [one.future for one in self._submitted]
        if futures and self._client.status == "running":
            self._client.cancel(futures)
        self._note_outcomes(self._submitted)
        for future in futures:
            future.release()
        self._submitted = []


def _error_of(future: Any) -> BaseException:
    if future.status == "error":
        error: BaseException = future.exception()
        return error.with_traceback(future.traceback())
    return CancelledError(f"{future.key} was cancelled")
