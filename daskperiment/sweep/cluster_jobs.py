"""Runs a sweep's trials on a cluster: a bounded number at once, many in each graph sent."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from itertools import islice
from typing import Any, NamedTuple

from dask.base import get_annotations, get_scheduler
from dask.highlevelgraph import HighLevelGraph
from toolz import groupby, partition_all

from daskperiment.client.tracker import tracker_of
from daskperiment.execution.trial import BatchSubmissionId
from daskperiment.graph.dask_tasks import Task
from daskperiment.graph.trial_batches import TrialBatch, run_batch
from daskperiment.planning.planner import patience
from daskperiment.recording.patience import patiently
from daskperiment.recording.registry import recorder_for
from daskperiment.sweep.jobs import SweepJobs, TrialJob
from daskperiment.sweep.sweep_plan import find_sweep, trials_of

__all__ = ["ClusterJobs", "client_for"]

_AHEAD = 32
"""How many trials wait or run for each thread of the cluster, where results do not matter for what
comes next."""
_LEAST = 64
_FIRST = 4
"""The same while it is not known whether trials are short."""
_LEARNING = 2.0
"""Seconds after which they are long if none has ended."""
_PAUSE = {False: 0.02, True: 0.002}
"""Seconds between looks at what has ended: short where the next point depends on it."""
_LONGEST_PAUSE = 0.1
_OPEN = ("pending", "lost")
"""States of a future that waits. What was lost with a worker is computed once more."""
_REFRESH = 5.0
"""Seconds after which the cluster is asked again how many threads it has."""
_SHORT = 0.1
"""Seconds of a trial from which on it has tasks of its own."""
_BREATH = 1e-6
"""Seconds between the plans of two trials, so that other threads have their turns."""
_BATCH = 0.15
"""Seconds that the trials of one batch take together, if they go on as before."""


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
    """Of its last task, or of the task that runs a batch of trials."""
    in_batch: bool = False


class ClusterJobs:
    """The trials of a sweep that are on the cluster."""

    def __init__(self, jobs: SweepJobs, client: Any, keywords: dict[str, Any]) -> None:
        self._jobs = jobs
        self._coming = iter(jobs)
        self._left: list[TrialJob] = []
        """Trials that come before those, as a batch did not begin them."""
        self._client = client
        self._keywords = keywords
        self._recorder = recorder_for(jobs.result.definition.planner.store)
        self._submitted: list[SubmittedJob] = []
        self._asked = -_REFRESH
        self._limit = 0
        self._threads = 1
        self._pace = TrialPace()
        self._learns = False
        """Whether it is to be seen how long trials take before more of them are submitted."""
        self._may_batch = not keywords and not jobs.sampler.adaptive and not jobs.stops

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
        if self._submitted and free < (1 if self._jobs.sampler.adaptive else limit // 2):
            return
        jobs, self._left = self._left[:free], self._left[free:]
        jobs += islice(self._coming, free - len(jobs))
        if jobs:
            size = self._batch_size(len(jobs))
            if size:
                self._submit_batches(jobs, size)
            else:
                self._submit(jobs)
            self._jobs.bar.running(len(self._submitted))

    def _batch_size(self, number: int) -> int:
        """Return how many of so many trials one task is to run: 0 unless they are short."""
        seconds = self._pace.take(self._threads)
        if not self._may_batch or seconds is None or seconds > _SHORT:
            return 0
        definition = self._jobs.result.definition
        planner, template = definition.planner, definition.template
        if template.reusable(self._jobs.options.reuse, planner.defaults.reuse) or get_annotations():
            return 0
        if not template.stands_alone:
            return 0
        # Small enough for all threads to have several, as the last trials may be among them.
        return max(1, min(int(_BATCH / seconds) + 1, number // (2 * self._threads)))

    def _refreshed_limit(self) -> int:
        """Return how many trials may be on the cluster at once."""
        now = time.monotonic()
        if now - self._asked > _REFRESH:
            self._asked = now
            self._threads = threads = max(1, sum(self._client.nthreads().values()))
            adaptive = self._jobs.sampler.adaptive
            self._limit = threads if adaptive else max(_LEAST, _AHEAD * threads)
        self._learns = self._may_batch and self._pace.is_unknown
        return min(self._limit, _FIRST * self._threads) if self._learns else self._limit

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

    def _submit_batches(self, jobs: list[TrialJob], size: int) -> None:
        """Submit trials of which one task runs several; those that it cannot run go alone."""
        definition = jobs[0].result.definition
        template = definition.template
        definition.planner.before_submission(template, definition.options)
        planned = []
        for job in jobs:
            planned.append((job, job.result.definition.plan(watched=True)))
            # Else a scheduler in this process waits 5 ms whenever it has something to do.
            time.sleep(_BREATH)
        fitting = [
            (job, plan) for job, plan in planned
            if plan.reuse is None and template.usual.fits(plan.source.request())
        ]  # fmt: skip
        if len(fitting) < len(jobs):
            self._submit(jobs)
            return
        tasks: dict[Any, Any] = {}
        for some in partition_all(size, fitting):
            key, submission = f"{definition.name}-batch-{uuid.uuid4().hex}", BatchSubmissionId()
            for _, plan in some:
                plan.source.join_batch(key, submission)
            batch = TrialBatch(template.usual, [plan.source for _, plan in some])
            tasks[key] = Task(key, run_batch, batch)
        graph = HighLevelGraph.from_collections("batches", tasks, dependencies=())
        futures = self._client.get(graph, list(tasks), sync=False)
        for some, future in zip(partition_all(size, fitting), futures, strict=True):
            self._submitted += [SubmittedJob(job, plan.token, future, True) for job, plan in some]

    # Ends

    def _ended(self) -> list[tuple[SubmittedJob, str]]:
        """Wait until trials have ended, and return them with the states of their futures.

        There are none if it turns out that the first ones take long.

        They are looked at now and then: to be told of each one costs the client a coroutine and a
        switch of threads per trial, at the moment when the cluster waits for more.
        """
        pause = _PAUSE[self._jobs.sampler.adaptive]
        while True:
            time.sleep(pause)
            # Read once for each: a state may change at any moment.
            futures = {one.future.key: one.future for one in self._submitted}
            states = {key: future.status for key, future in futures.items()}
            found = [(one, states[one.future.key]) for one in self._submitted]
            ended = [(one, status) for one, status in found if status not in _OPEN]
            if ended:
                self._submitted = [one for one, status in found if status in _OPEN]
                return ended
            if self._learns and not self._pace.is_unknown:
                return []  # they are long: a cluster that grows is to see how many there are
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _count(self, ended: list[tuple[SubmittedJob, str]]) -> None:
        self._pace.count(len(ended))
        batches = [one for one in ended if one[0].in_batch]
        if batches:
            self._count_batches(batches)
            ended = [one for one in ended if not one[0].in_batch]
        values = self._values([one.future for one, status in ended if status == "finished"])
        self._note_outcomes([one for one, _ in ended])
        for (job, _, future, _), status in ended:
            error = None if status == "finished" else _error_of(future)
            # Not left to the garbage collector: an exception may hold on to this frame.
            future.release()
            if error is None:
                self._jobs.succeeded(job, values.get(future.key))
            else:
                self._failed(job, error)

    def _count_batches(self, ended: list[tuple[SubmittedJob, str]]) -> None:
        """Count the trials of batches; those that their batch did not begin are still to come."""
        done = {one.future.key: one.future for one, status in ended if status == "finished"}
        # A worker may have died with what its task had returned: then nothing comes of it.
        raised = self._client.gather(done, errors="skip")
        self._note_outcomes([one for one, _ in ended])
        members = groupby(lambda one: one.future.key, [one for one, _ in ended])
        left: list[TrialJob] = []
        for key, some in members.items():
            future = some[0].future
            if key in raised:
                errors, seconds = raised[key]
                self._pace.note(seconds, len(errors))
                left += [one.job for one in some[len(errors) :]]
                counted: Iterable[tuple[SubmittedJob, Any]] = zip(some, errors, strict=False)
            else:
                counted = list(self._of_lost_batch(some, _error_of(future)))
                known = {id(one) for one, _ in counted}
                left += [one.job for one in some if id(one) not in known]
            future.release()
            for one, error in counted:
                if error is None:
                    self._jobs.succeeded(one.job)
                else:
                    self._failed(one.job, error)
        if left:
            self._may_batch = self._may_batch and len(raised) == len(members)
            self._left += left

    def _of_lost_batch(
        self, trials: list[SubmittedJob], error: BaseException
    ) -> Iterator[tuple[SubmittedJob, BaseException | None]]:
        """Yield the trials of a batch whose task failed, with what they raised.

        Those that had ended before are as they were. Those that had not begun are not to blame,
        and left out: of workers that died, the one trial that ran did it.
        """
        store, sweep = self._jobs.result.definition.planner.store, self._jobs.options.sweep
        known = patiently(lambda: trials_of(store, find_sweep(store, sweep or "")), patience(sweep))
        found = {one.token: one.status for one in known}
        for one in trials:
            status = found.get(one.token)
            if status == "succeeded":
                yield one, None
            elif status is not None or isinstance(error, CancelledError):
                yield one, error

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


class TrialPace:
    """How long trials took that ended since somebody asked last."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._ended = 0
        self._measured, self._seconds = 0, 0.0
        self._any = False

    @property
    def is_unknown(self) -> bool:
        """Whether none has ended yet, and may still do so soon."""
        return not self._any and time.monotonic() - self._since < _LEARNING

    def count(self, number: int) -> None:
        """Count trials that ended."""
        self._ended += number
        self._any |= number > 0

    def note(self, seconds: float, number: int) -> None:
        """Note how long so many of them took together in their thread."""
        self._measured += number
        self._seconds += seconds

    def take(self, threads: int) -> float | None:
        """Return the seconds of a trial, None if none ended; and begin anew.

        Where none was measured: half of what they and the cluster's own work took, which is more.
        """
        now = time.monotonic()
        if self._measured:
            found: float | None = self._seconds / self._measured
        else:
            found = (now - self._since) * threads / self._ended / 2 if self._ended else None
        self._since, self._ended, self._measured, self._seconds = now, 0, 0, 0.0
        return found


def _error_of(future: Any) -> BaseException:
    if future.status == "error":
        error: BaseException = future.exception()
        return error.with_traceback(future.traceback())
    return CancelledError(f"{future.key} was cancelled")
