"""One sweep, from what the user asked for to the table of its trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daskperiment.errors import DaskperimentWarning
from daskperiment.graph.result import ResultNode
from daskperiment.history import get_history
from daskperiment.recording.recorder import recorder_for
from daskperiment.sweep.cluster import client_for, run_on_cluster
from daskperiment.sweep.planning import Planned, Wish, begin_anew, make_sampler
from daskperiment.sweep.planning import resume as go_on
from daskperiment.sweep.progress import Progress
from daskperiment.sweep.records import Done, Sweep, keep_sweep, trials_of
from daskperiment.sweep.running import Work, run_here
from daskperiment.warn import warn_user

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["sweep"]


def sweep(
    result: ResultNode, space: Any = None, n_trials: int | None = None, sampler: Any = "grid",
    seed: int | None = None, on_error: str = "continue", resume: str | None = None,
    progress: bool = True, direction: str | None = None, reuse: bool | None = None,
    **dask_keywords: Any,
) -> pd.DataFrame:  # fmt: skip
    """Run a trial of a result at each of many points, and give the table of these trials.

    Parameters, results and errors are those of :meth:`Result.sweep`.
    """
    wish = Wish(space, n_trials, sampler, seed, on_error, direction)
    store = result._planner.store
    recorder_for(store).catch_up()
    plan = begin_anew(result, wish) if resume is None else go_on(result, resume, wish)
    done = _done(result, plan.record) if resume is not None else []
    work = _work(result, plan, wish, done, reuse, progress)
    if resume is None:
        keep_sweep(store, plan.record)
    with _telling_how_to_resume(plan.record.id, work):
        _run(work, dask_keywords)
    return _table(result, plan.record, work, len(done))


def _done(result: ResultNode, record: Sweep) -> list[Done]:
    """Give the trials of a sweep that need not be run again."""
    trials = trials_of(result._planner.store, record)
    running = [str(one.trial) for one in trials if one.status == "running"]
    if running:
        shown = ", ".join(running[:5]) + (", …" if running[5:] else "")
        warn_user(
            DaskperimentWarning(
                f"{len(running)} trials of sweep {record.id!r} are running still ({shown}): they "
                "are left alone. Resume the sweep once more when they have ended."
            )
        )
    return [one for one in trials if one.status in ("succeeded", "failed", "running")]


def _work(
    result: ResultNode, plan: Planned, wish: Wish, done: list[Done], reuse: bool | None, shown: bool
) -> Work:
    record, order = plan.record, replace(result._options, sweep=plan.record.id)
    sampler = make_sampler(plan, done)
    seeded = record.seed is not None
    adaptive = sampler.adaptive  # it knows itself what was done
    left = None if not adaptive or plan.n_trials is None else max(0, plan.n_trials - len(done))
    return Work(
        result=result, order=order if reuse is None else replace(order, reuse=reuse),
        seed=record.seed, sampler=sampler, left=left,
        done=Counter() if adaptive else Counter(
            (one.identity, one.seed if seeded else None) for one in done
        ),
        stops=wish.on_error == "raise",
        progress=Progress(record.id, sampler.total, len(done), shown),
    )  # fmt: skip


def _run(work: Work, keywords: dict[str, Any]) -> None:
    client = client_for(work.result, keywords.get("scheduler"))
    if client is None:
        run_here(work, keywords)
    else:
        rest = {name: value for name, value in keywords.items() if name != "scheduler"}
        run_on_cluster(work, client, rest)


@contextmanager
def _telling_how_to_resume(id: str, work: Work) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        with suppress(Exception):  # a sampler may be the user's own
            work.sampler.drop()
        error.add_note(
            f"The trials of sweep {id!r} that were run are recorded; run the others with "
            f"sweep(resume={id!r})."
        )
        raise
    finally:
        work.progress.close()


def _table(result: ResultNode, record: Sweep, work: Work, before: int) -> pd.DataFrame:
    planner = result._planner
    recorder_for(planner.store).catch_up()
    ids = range(record.latest + 1, planner.store.state().latest + 1)
    names = planner.parameters.names
    frame = get_history(planner.store, names, trials=ids, sweep=record.id)
    unrecorded = before + work.ended - len(frame)
    if unrecorded > 0 and work.failure is not None:
        warn_user(
            DaskperimentWarning(
                f"{unrecorded} trials of sweep {record.id!r} failed before they began, so that "
                f"nothing of them is recorded; the last with {work.failure!r}."
            )
        )
    frame.attrs["sweep"] = record.id
    return frame
