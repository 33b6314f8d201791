"""Runs a sweep's trials on a cluster: a bounded number at once, many in each graph sent."""

from __future__ import annotations

import sys
import time
from concurrent.futures import CancelledError
from itertools import islice
from typing import Any, NamedTuple

from dask.base import get_scheduler
from dask.highlevelgraph import HighLevelGraph

from daskperiment.client.tracker import followed
from daskperiment.execution.request import Plan
from daskperiment.graph.result import ResultNode
from daskperiment.graph.template import Bound
from daskperiment.recording.recorder import recorder_for
from daskperiment.sweep.running import Job, Work

__all__ = ["client_for", "run_on_cluster"]

_AHEAD = 32
"""How many trials wait or run for each thread of the cluster, where results do not matter for what
comes next."""
_LEAST = 64
_PAUSE = {False: 0.02, True: 0.002}
"""Seconds between looks at what has ended: short where the next point depends on it."""
_LONGEST_PAUSE = 0.1
_IN_FLIGHT = ("pending", "lost")
"""States of a future that waits. What was lost with a worker is computed once more."""
_REFRESH = 5.0
"""Seconds after which the cluster is asked again how many threads it has."""


def client_for(result: Any, scheduler: Any) -> Any:
    """Find the client that Dask would compute with; None if it would compute in this process."""
    if "distributed" not in sys.modules:
        return None
    get = get_scheduler(scheduler=scheduler, collections=[result])
    owner = getattr(get, "__self__", None)
    return owner if hasattr(owner, "scheduler_info") else None


def run_on_cluster(work: Work, client: Any, keywords: dict[str, Any]) -> None:
    """Run trials on a cluster."""
    flight = _Flight(work, client, keywords)
    try:
        flight.run()
    except BaseException:
        flight.cancel()
        raise
    work.finish()


class _Flying(NamedTuple):
    """A trial on the cluster."""

    job: Job
    token: str
    future: Any


class _Landing(NamedTuple):
    """A trial, and what its client said of it."""

    trial: _Flying
    status: str


class _Flight:
    """The trials that are on the cluster."""

    def __init__(self, work: Work, client: Any, keywords: dict[str, Any]) -> None:
        self._work = work
        self._client = client
        self._keywords = keywords
        self._jobs = work.jobs()
        self._recorder = recorder_for(work.result._planner.store)
        self._flying: list[_Flying] = []
        self._asked = -_REFRESH
        self._window = 0

    def run(self) -> None:
        while True:
            self._fill()
            if not self._flying:
                return
            self._land(self._ended())

    # Submitting

    def _fill(self) -> None:
        """Submit trials if enough of the window is free to make it worth while."""
        window = self._size()
        free = window - len(self._flying)
        if self._flying and free < (1 if self._work.sampler.adaptive else window // 4):
            return
        jobs = list(islice(self._jobs, free))
        if jobs:
            self._submit(jobs)
            self._work.progress.running(len(self._flying))

    def _size(self) -> int:
        now = time.monotonic()
        if now - self._asked > _REFRESH:
            self._asked = now
            threads = max(1, sum(self._client.nthreads().values()))
            adaptive = self._work.sampler.adaptive
            self._window = threads if adaptive else max(_LEAST, _AHEAD * threads)
        return self._window

    def _submit(self, jobs: list[Job]) -> None:
        result = self._work.result
        result._planner.submitting(result._template)
        bounds = [_bound(job.result) for job in jobs]
        keys = [bound.key for bound in bounds]
        # Layers tell what a task is for without being hashed, and keep the annotations.
        graph = HighLevelGraph.merge(*(bound.graph for bound in bounds))
        futures = self._client.get(graph, keys, sync=False, **self._keywords)
        for job, bound, future in zip(jobs, bounds, futures, strict=True):
            self._flying.append(_Flying(job, bound.token, future))

    # Taking note of ends

    def _ended(self) -> list[_Landing]:
        """Wait until trials have ended.

        They are looked at now and then: to be told of each one costs the client a coroutine and a
        switch of threads per trial, at the moment when the cluster waits for more.
        """
        pause = _PAUSE[self._work.sampler.adaptive]
        while True:
            time.sleep(pause)
            # Asked once for each: it may change at any moment.
            seen = [_Landing(one, one.future.status) for one in self._flying]
            ended = [one for one in seen if one.status not in _IN_FLIGHT]
            if ended:
                self._flying = [one.trial for one in seen if one.status in _IN_FLIGHT]
                return ended
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _land(self, ended: list[_Landing]) -> None:
        values = self._values([one.trial.future for one in ended if one.status == "finished"])
        self._witness([one.trial for one in ended])
        for (job, _, future), status in ended:
            error = None if status == "finished" else _error_of(future)
            # Not left to the garbage collector: an exception may hold on to this frame.
            future.release()
            if error is None:
                self._work.succeeded(job, values.get(future.key))
            else:
                self._failed(job, error)

    def _values(self, futures: list[Any]) -> dict[Any, Any]:
        if not self._work.sampler.adaptive:
            return {}  # results stay where they are until they are dropped
        values = self._client.gather(futures)
        return {future.key: value for future, value in zip(futures, values, strict=True)}

    def _witness(self, trials: list[_Flying]) -> None:
        """Tell whoever follows the trials what became of them, before that is forgotten."""
        flights = followed(self._recorder)
        if flights is not None:
            flights.witness(one.token for one in trials)

    def _failed(self, job: Job, error: BaseException) -> None:
        if self._client.status != "running" or not isinstance(error, (Exception, CancelledError)):
            raise error
        self._work.failed(job, error)

    def cancel(self) -> None:
        """Cancel what is in flight; whoever follows the trials writes down that they ended."""
        futures = [one.future for one in self._flying]
        if futures and self._client.status == "running":
            self._client.cancel(futures)
        self._witness(self._flying)
        for future in futures:
            future.release()
        self._flying = []


def _bound(result: ResultNode) -> Bound:
    """Make the graph of one trial, which is submitted right now."""
    template, planner, order = result._template, result._planner, result._options

    def plan(token: str) -> Plan:
        made: Plan = planner.settled_plan(template, token, order)
        made.witnessed = True
        return made

    bound: Bound = template.instantiate(plan)
    return bound


def _error_of(future: Any) -> BaseException:
    if future.status == "error":
        error: BaseException = future.exception()
        return error.with_traceback(future.traceback())
    return CancelledError(f"{future.key} was cancelled")
