"""Runs a sweep: from its arguments to the table of its trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from daskperiment.client.tracker import tracker_of
from daskperiment.errors import DaskperimentWarning
from daskperiment.graph.keywords import check_keywords
from daskperiment.history.tables import get_history
from daskperiment.planning.planner import patience
from daskperiment.planning.result_node import ResultNode
from daskperiment.recording.patience import patiently
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Sweep
from daskperiment.sweep.cluster_jobs import ClusterJobs, client_for
from daskperiment.sweep.jobs import SweepBar, SweepJobs
from daskperiment.sweep.samplers import make_sampler
from daskperiment.sweep.sweep_plan import (
    NAMED_SAMPLERS,
    SweepPlan,
    SweepRequest,
    SweepTrial,
    find_sweep,
    keep_sweep,
    new_plan,
    resumed_plan,
    trials_of,
)
from daskperiment.vouching import vouched
from daskperiment.warn import warn_user

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["sweep"]

T = TypeVar("T")

_OWN = (
    "space", "n_trials", "sampler", "seed", "on_error", "resume", "progress", "direction", "reuse",
    "detach",
)  # fmt: skip


def sweep(
    result: ResultNode, space: Any = None, n_trials: int | None = None, sampler: Any = "grid",
    seed: int | None = None, on_error: str = "continue", resume: str | None = None,
    progress: bool = True, direction: str | None = None, reuse: bool | None = None,
    detach: bool = False, **dask_keywords: Any,
) -> pd.DataFrame:  # fmt: skip
    """Run a trial of a result at each of many points, and return the table of these trials.

    Parameters, results and errors are those of :meth:`Result.sweep`.
    """
    check_keywords("sweep", dask_keywords, _OWN)
    request = SweepRequest(space, n_trials, sampler, seed, on_error, direction)
    store = result.definition.planner.store
    client = client_for(result, dask_keywords.get("scheduler"))
    _check_detach(detach, client)
    if resume is not None and client is not None and _followed(
        result, client, resume, detach, progress
    ):  # fmt: skip
        return _patiently(lambda: _table(result, find_sweep(store, resume)))
    plan, done = _patiently(lambda: _planned(result, request, resume))
    jobs = _jobs(result, plan, done, stops=on_error == "raise", reuse=reuse,
                 shown=progress and not detach)  # fmt: skip
    if resume is None:
        _patiently(lambda: keep_sweep(store, plan.record))
    if not detach:
        _run_noted(plan.record.id, jobs, dask_keywords)
        return _patiently(lambda: _table(result, plan.record, jobs, len(done)))
    from daskperiment.sweep import detached  # noqa: PLC0415  # for clusters, an extra

    rest = partial(
        _run_rest, result, plan.record.id, _rest_of(result, plan.record, request), reuse,
        {name: value for name, value in dask_keywords.items() if name != "scheduler"},
    )  # fmt: skip
    detached.detach(client, plan.record.id, rest)
    return _patiently(lambda: _table(result, plan.record))


# Sweeps that outlive their client ----------------------------------------------------------------


def _check_detach(detach: Any, client: Any) -> None:
    if not isinstance(detach, bool):
        raise TypeError(f"detach is {detach!r}; expected True or False")
    if detach and client is None:
        raise ValueError(
            "detach=True needs a cluster, which goes on when this process has ended: connect to "
            "it first, client = distributed.Client('tcp://scheduler:8786')."
        )


def _followed(result: ResultNode, client: Any, id: str, detach: bool, progress: bool) -> bool:
    """Return whether a cluster runs a sweep already; without `detach` that is waited for."""
    from daskperiment.sweep import detached  # noqa: PLC0415  # as above

    conductor = detached.conductor_of(client, id)
    if conductor is None:
        return False
    if not detach:
        store = result.definition.planner.store
        record = find_sweep(store, id)
        bar = SweepBar(id, record.n_trials, 0, progress)
        detached.follow(client, conductor, store, record, bar)
    return True


def _rest_of(result: ResultNode, record: Sweep, request: SweepRequest) -> SweepRequest:
    """Return what has to be asked to resume a sweep: all that its record does not hold."""
    named = record.sampler in NAMED_SAMPLERS
    rest = replace(request, space=None, seed=None, sampler="grid" if named else request.sampler)
    try:
        resumed_plan(result, record.id, rest)
    except ValueError:
        return replace(rest, space=request.space)
    return rest


def _run_rest(
    result: ResultNode, id: str, request: SweepRequest, reuse: bool | None,
    dask_keywords: dict[str, Any],
) -> bool:  # fmt: skip
    """Run what is left of a sweep; return whether trials of it are running elsewhere."""
    plan, done = _patiently(lambda: _planned(result, request, id))
    stops = request.on_error == "raise"
    jobs = _jobs(result, plan, done, stops=stops, reuse=reuse, shown=False)
    _run_noted(id, jobs, dask_keywords)
    return any(one.status == "running" for one in done)


def _patiently(act: Callable[[], T]) -> T:
    """Do what a sweep does besides its trials, which wait for a store as these do."""
    return patiently(act, patience(sweep=""))


def _planned(
    result: ResultNode, request: SweepRequest, resume: str | None
) -> tuple[SweepPlan, list[SweepTrial]]:
    """Return the plan of a sweep, and those of its trials that need not be run again."""
    recorder_for(result.definition.planner.store).catch_up()
    if resume is None:
        return new_plan(result, request), []
    plan = resumed_plan(result, resume, request)
    return plan, _done(result, plan.record)


def _done(result: ResultNode, record: Sweep) -> list[SweepTrial]:
    """Return the trials of a sweep that need not be run again."""
    store = result.definition.planner.store
    tracker = tracker_of(recorder_for(store))
    trials = [
        one for one in trials_of(store, record)
        # What was cancelled as it began is not on record as ended before the tracker wrote it.
        if one.status != "running" or tracker is None or not tracker.is_over(one.token)
    ]  # fmt: skip
    running = [str(one.trial) for one in trials if one.status == "running"]
    if running:
        shown = ", ".join(running[:5]) + (", …" if running[5:] else "")
        warn_user(
            DaskperimentWarning(
                f"{len(running)} trials of sweep {record.id!r} are running still ({shown}): they "
                "are left alone. Resume the sweep once more when they have ended."
            )
        )
    done = [one for one in trials if one.status in ("succeeded", "pruned", "failed", "running")]
    stood_for = {one.resumes for one in done}
    return [one for one in done if one.trial not in stood_for]


def _jobs(
    result: ResultNode, plan: SweepPlan, done: list[SweepTrial], *, stops: bool,
    reuse: bool | None, shown: bool,
) -> SweepJobs:  # fmt: skip
    record = plan.record
    sampler = make_sampler(plan, done)
    left, skipped = None, Counter[tuple[str, int | None]]()
    if not sampler.adaptive:
        seeded = record.seed is not None
        skipped.update((one.identity, one.seed if seeded else None) for one in done)
    elif plan.n_trials is not None:  # its sampler knows which points were done, not how many to do
        left = max(0, plan.n_trials - len(done))
    return SweepJobs(
        result=result, options=result.definition.options.refined(sweep=record.id, reuse=reuse),
        seed=record.seed, sampler=sampler, left=left, done=skipped, stops=stops,
        bar=SweepBar(record.id, sampler.total, len(done), shown),
    )  # fmt: skip


def _run(jobs: SweepJobs, keywords: dict[str, Any]) -> None:
    client = client_for(jobs.result, keywords.get("scheduler"))
    if client is None:
        _run_here(jobs, keywords)
    else:
        rest = {name: value for name, value in keywords.items() if name != "scheduler"}
        ClusterJobs(jobs, client, rest).run()
    if jobs.sampler_error is not None:
        raise jobs.sampler_error


def _run_here(jobs: SweepJobs, keywords: dict[str, Any]) -> None:
    """Run trials one after the other, each on a scheduler of this process."""
    for job in jobs:
        jobs.bar.running(1)
        try:
            value = job.result.compute(**keywords)
        except Exception as error:
            jobs.failed(job, error)
        else:
            jobs.succeeded(job, value)


def _run_noted(id: str, jobs: SweepJobs, keywords: dict[str, Any]) -> None:
    """Run the trials; add to what ends a sweep early how to resume it."""
    try:
        _run(jobs, keywords)
    except BaseException as error:
        with suppress(Exception):  # a sampler may be the user's own
            jobs.sampler.drop()
        error.add_note(
            f"The trials of sweep {id!r} that were run are recorded; run the others with "
            f"sweep(resume={id!r})."
        )
        raise
    finally:
        jobs.bar.close()


def _table(
    result: ResultNode, record: Sweep, jobs: SweepJobs | None = None, before: int = 0
) -> pd.DataFrame:
    planner = result.definition.planner
    recorder_for(planner.store).catch_up()
    ids = range(record.latest + 1, planner.store.state().latest + 1)
    names = planner.parameters.names
    frame = get_history(vouched(planner.store), names, trials=ids, sweep=record.id)
    unrecorded = 0 if jobs is None else before + jobs.ended - len(frame)
    if jobs is not None and unrecorded > 0 and jobs.failure is not None:
        warn_user(
            DaskperimentWarning(
                f"{unrecorded} trials of sweep {record.id!r} failed before they began, so that "
                f"nothing of them is recorded; the last with {jobs.failure!r}."
            )
        )
    frame.attrs["sweep"] = record.id
    return frame
