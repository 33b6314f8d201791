"""Short trials that one task of a cluster runs, one after the other.

What a cluster does for a task takes as long as a short trial: its messages, and their processes'
turns. What of a trial's own graph it needs not see, as nothing else waits for it, is run here.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence

import cloudpickle
from dask import local

from daskperiment.cluster import is_wanted
from daskperiment.execution.lifecycle import begin, end_batch, failure_of
from daskperiment.execution.trial import RequestSource, TrialHandle
from daskperiment.graph.local_tasks import LocalTasks

__all__ = ["TrialBatch", "run_batch"]

_LONGEST = 0.25
"""Seconds after which a batch begins no further trial: others may have time for the rest."""


class TrialBatch:
    """Trials that one task runs.

    Parameters
    ----------
    tasks : LocalTasks
        What all of them do.
    sources : sequence of RequestSource
        What each begins with.
    """

    def __init__(self, tasks: LocalTasks, sources: Sequence[RequestSource]) -> None:
        self.tasks = tasks
        self.sources = sources


def run_batch(batch: TrialBatch) -> tuple[list[Exception | None], float]:
    """Run trials; return what each raised, None for those that succeeded, and how long it took.

    Where the list is shorter than the batch, the others were not begun: the batch took too long, or
    is no longer wanted.
    """
    raised: list[Exception | None] = []
    start = time.monotonic()
    latest: list[TrialHandle] = []
    try:
        for source in batch.sources:
            if raised and not is_wanted():
                break
            # Where another worker had the task and died, it may have come further than to this one.
            was_new = not latest or latest[0].gathered
            if raised and was_new and time.monotonic() - start > _LONGEST:
                break
            raised.append(_run(batch.tasks, source, latest))
    finally:
        for trial in latest:
            end_batch(trial)
    return raised, time.monotonic() - start


def _run(tasks: LocalTasks, source: RequestSource, latest: list[TrialHandle]) -> Exception | None:
    """Run a trial, put its handle in the place of the latest one, and return what it raised."""
    try:
        latest[:] = [begin(source)]
        tasks.run(local.get_sync, latest[0])
    except Exception as error:
        if type(error).__name__ == "Reschedule":  # a word to the cluster, which runs all once more
            raise
        return _portable(error)
    return None


def _portable(error: Exception) -> Exception:
    """Return an exception that arrives, without its traceback, which the trial's record has."""
    try:
        copy = pickle.loads(cloudpickle.dumps(error))
        if isinstance(copy, Exception):
            return copy
    except Exception:  # pickling calls code of the user's
        pass
    return RuntimeError(failure_of(error).description)
