"""Sweeps on a cluster: trials at the same time, a bounded number of them."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections import Counter

import dask
import pandas as pd
import pytest
from distributed import Client

from daskperiment.client.tracker import tracker_of
from daskperiment.errors import StoreError
from daskperiment.execution.lifecycle import begin
from daskperiment.graph import trial_batches
from daskperiment.recording.registry import recorder_for
from daskperiment.store.file.store import FileStore
from daskperiment.sweep import cluster_jobs, runner
from daskperiment.sweep.sweep_plan import known_sweeps
from tests.helpers.garbage import collect
from tests.sweep import hooks

pytestmark = [
    pytest.mark.filterwarnings("ignore::daskperiment.errors.CodeChangedWarning"),
    # distributed's own, when a cluster of threads is closed.
    pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def four_threads():
    """Run a cluster of one worker in this process."""
    with (
        dask.config.set({"distributed.worker.profile.enabled": False}),
        Client(
            processes=False, n_workers=1, threads_per_worker=4, dashboard_address=":0",
            set_as_default=False,
        ) as client,
    ):  # fmt: skip
        yield client


@pytest.fixture
def client(four_threads):
    """Make the cluster the one that Dask computes on."""
    with four_threads.as_current():
        yield four_threads


class Crowd:
    """Counts who is in a step at once; lets go of them when so many are there."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)

    def meet(self, _) -> None:
        self.barrier.wait(30)


@pytest.mark.filterwarnings("ignore:Running on a single-machine scheduler:UserWarning")
def test_trials_run_at_the_same_time(client, cutting, quiet) -> None:
    """As many trials as the cluster has threads are in their step at once."""
    result, hooks = cutting
    hooks.append(Crowd(4).meet)
    frame = quiet(result, {"a": range(8)}, seed=1)
    assert sorted(frame["a"]) == list(range(8))
    assert frame["Success"].all()
    hooks.clear()
    alone = quiet(result, {"a": range(8)}, seed=1, scheduler="synchronous")
    assert alone["a"].tolist() == list(range(8))
    assert sorted(frame["Result"]) == sorted(alone["Result"])


def test_failures_do_not_end_a_sweep(client, adding, quiet) -> None:
    """The failed trial stands in the table with its exception."""
    frame = quiet(adding, {"a": range(6)})
    failed = frame[~frame["Success"]]
    assert failed["a"].tolist() == [3]
    assert failed["Description"].tolist() == ["ZeroDivisionError(thirteen)"]
    assert len(frame) == 6


def test_a_bounded_number_is_in_flight(client, cutting, quiet, monkeypatch) -> None:
    """Of 300 trials no more than the window are known to the cluster or made at any moment."""
    result, hooks = cutting
    monkeypatch.setattr(cluster_jobs, "_LEAST", 8)
    monkeypatch.setattr(cluster_jobs, "_AHEAD", 2)
    scheduler = client.cluster.scheduler
    known: list[int] = []
    hooks.append(lambda a: known.append(len(scheduler.tasks)))
    made = []
    points = iter(made.append(a) or a for a in range(300))
    submit = cluster_jobs.ClusterJobs._submit
    submitted: list[int] = []

    def counted(self, jobs):
        submit(self, jobs)
        submitted.append(len(self._submitted))

    monkeypatch.setattr(cluster_jobs.ClusterJobs, "_submit", counted)
    frame = quiet(result, {"a": points})
    assert len(frame) == 300
    assert frame["Success"].all()
    assert max(submitted) == 8
    # A trial has few tasks; those that were just released may still be there.
    assert max(known) <= 4 * 8


@pytest.mark.filterwarnings("ignore:Running on a single-machine scheduler:UserWarning")
def test_the_explicit_scheduler_wins(client, cutting, quiet) -> None:
    """Asked for a local scheduler, trials run here although there is a cluster."""
    result, hooks = cutting
    threads: list[str] = []
    hooks.append(lambda a: threads.append(threading.current_thread().name))
    quiet(result, {"a": [1, 2]}, scheduler="synchronous")
    assert set(threads) == {threading.current_thread().name}
    quiet(result, {"a": [1, 2]})
    assert len(set(threads)) > 1


def test_raise_cancels_what_is_in_flight(client, ex, cutting, quiet) -> None:
    """The first failure comes out; those in flight are interrupted and run when resumed."""
    result, hooks = cutting
    all_there, go_on = threading.Barrier(4), threading.Event()

    arrived = itertools.count()

    def fail(a):
        number = next(arrived)
        if number < 4:
            all_there.wait(30)
        if number == 0:
            raise ZeroDivisionError("nought")
        go_on.wait(30)

    hooks.append(fail)
    with pytest.raises(ZeroDivisionError, match="nought") as caught:
        quiet(result, {"a": range(12)}, on_error="raise")
    (id,) = known_sweeps(ex._store)
    assert id in caught.value.__notes__[0]
    # Those whose step nobody can stop count as interrupted while they have no other end.
    statuses = ex.get_history(verbose=True)["Status"].value_counts().to_dict()
    hooks.clear()
    go_on.set()
    assert statuses.pop("interrupted") in (3, 4)  # one more may have begun in the free thread
    assert statuses == {"failed": 1}
    frame = quiet(result, resume=id)
    failed = frame[frame["Description"].str.startswith("ZeroDivisionError", na=False)]["a"]
    assert len(failed) == 1
    assert set(frame.loc[frame["Success"], "a"]) == set(range(12)) - set(failed)


@pytest.mark.parametrize("told", [0, 2], ids=["at once", "after the cluster said that it is gone"])
def test_what_begins_after_its_sweep_was_cancelled(
    client, ex, cutting, quiet, monkeypatch, told
) -> None:
    """A trial that a worker begins while the sweep is resumed counts as cancelled, not running."""
    result, hooks = cutting
    held, go_on, failed, finish = (threading.Event() for _ in range(4))
    late: list[int] = []
    allocate, trials_of = FileStore.allocate, runner.trials_of
    calls = itertools.count(1)

    def slow_to_begin(self, *args):
        if next(calls) == 2:
            late.append(threading.get_ident())
            held.set()
            go_on.wait(30)
        return allocate(self, *args)

    def fail(a):
        if not failed.is_set():
            held.wait(30)
            failed.set()
            raise ZeroDivisionError("nought")
        if threading.get_ident() in late and not finish.is_set():
            finish.wait(30)

    def read_late(store, record):
        go_on.set()
        deadline = time.monotonic() + 30
        while store.state().latest < begun + 1:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return trials_of(store, record)

    hooks.append(fail)
    monkeypatch.setattr(FileStore, "allocate", slow_to_begin)
    with pytest.raises(ZeroDivisionError, match="nought"):
        quiet(result, {"a": [0, 1]}, on_error="raise")
    (id,) = known_sweeps(ex._store)
    begun = ex.trial_id
    tracker = tracker_of(recorder_for(ex._store))
    for trial in list(tracker._submitted.values()) if told else ():
        trial.gone = True
        tracker.on_flush()
    monkeypatch.setattr(runner, "trials_of", read_late)
    frame = quiet(result, resume=id)
    finish.set()
    monkeypatch.undo()
    assert begun == 1
    assert len(frame.loc[frame["Success"]]) == 1, "the one that had not failed"
    statuses = ex.get_history(verbose=True, running=True)["Status"].tolist()
    assert statuses[0] == "failed"
    assert set(statuses[1:]) <= {"succeeded", "interrupted"}


def waiting_tasks(dask_worker):
    """Name the tasks that wait on a worker for a thread."""
    return [str(task.key) for task in dask_worker.state.tasks.values() if task.state == "ready"]


def test_ctrl_c_says_how_to_resume(client, ex, cutting, quiet, monkeypatch) -> None:
    """Interrupted while trials run, a sweep cancels them and can be resumed."""
    result, hooks = cutting
    all_there, go_on = threading.Barrier(5), threading.Event()
    hooks.append(lambda a: (all_there.wait(30), go_on.wait(30)))

    def waiting(jobs):
        all_there.wait(30)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cluster_jobs.ClusterJobs, "_ended", waiting)
        with pytest.raises(KeyboardInterrupt) as caught:
            quiet(result, {"a": range(6)}, seed=1)
    (id,) = known_sweeps(ex._store)
    assert f"resume={id!r}" in caught.value.__notes__[0]
    hooks.clear()
    while any(client.run(waiting_tasks).values()):
        pass  # until the workers have heard that those that wait for a thread are cancelled
    go_on.set()
    frame = quiet(result, resume=id)
    assert set(frame.loc[frame["Success"], "a"]) == set(range(6))


def test_a_sampler_is_asked_for_what_fits(client, ex, quiet) -> None:
    """A sampler of Optuna is told results as they come, and never has more open than threads."""
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    tasks: list[int] = []
    ask = study.ask

    def counted(*args, **kwargs):
        # Not those that wait in the study's own queue: the sampler puts a point there when others
        # only come again, and they are asked for next.
        running = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING])
        tasks.append(len(running))
        return ask(*args, **kwargs)

    study.ask = counted
    result = ex.result(lambda a: (a - 3) ** 2)(ex.parameter("a"))
    frame = quiet(result, {"a": optuna.distributions.IntDistribution(0, 30)}, n_trials=20,
                  sampler=study)  # fmt: skip
    assert len(frame) == 20
    assert frame["a"].is_unique
    assert max(tasks) < 4
    assert study.best_value == frame["Result"].min()


def test_a_failing_sampler_lets_trials_in_flight_end(client, ex, adding, quiet) -> None:
    """What a sampler raises comes out in the end; the trials that had begun are recorded."""
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    class Failing(optuna.samplers.RandomSampler):
        left = 3

        def sample_independent(self, *args, **kwargs):
            self.left -= 1
            if self.left < 0:
                raise LookupError("no idea")
            return super().sample_independent(*args, **kwargs)

    space = {"a": optuna.distributions.FloatDistribution(0, 1)}
    with pytest.raises(LookupError, match="no idea") as caught:
        quiet(adding, space, n_trials=9, sampler=(sampler := Failing(seed=1)))
    (id,) = known_sweeps(ex._store)
    assert id in caught.value.__notes__[0]
    assert ex.get_history(verbose=True, running=True)["Status"].tolist() == ["succeeded"] * 3
    sampler.left = 2
    assert len(quiet(adding, resume=id, sampler=sampler, n_trials=5)) == 5


def _hooked(a):
    hooks.call(a)
    return a


def test_annotations_reach_the_scheduler(client, ex, cutting, quiet) -> None:
    """What a step was annotated with when it was called holds in a sweep too."""
    failures: list[int] = []

    def fail_once(a):
        if a not in failures:
            failures.append(a)
            raise OSError("once")

    hooks.HOOKS.append(fail_once)
    with dask.annotate(retries=2):
        result = ex.result(_hooked)(ex.parameter("a"))
    frame = quiet(result, {"a": [1, 2]})
    assert frame["Success"].all()
    assert sorted(failures) == [1, 2]


def test_nothing_is_left_on_the_cluster(client, adding, quiet) -> None:
    """After a sweep the cluster knows none of its tasks."""
    quiet(adding, {"a": range(10)})
    client.sync(_until_forgotten, client.cluster.scheduler)
    assert not client.futures


async def _until_forgotten(scheduler):
    import asyncio

    for _ in range(6_000):
        if not scheduler.tasks:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(list(scheduler.tasks))


@pytest.fixture
def batches(monkeypatch):
    """Let sweeps take their trials as short, and give the tasks that each submission made."""
    made: list[set[str]] = []
    submit = cluster_jobs.ClusterJobs._submit_batches

    def noted(self, jobs, size):
        before = len(self._submitted)
        submit(self, jobs, size)
        made.append({one.future.key for one in self._submitted[before:]})

    monkeypatch.setattr(cluster_jobs.TrialPace, "take", lambda self, threads: 0.001)
    monkeypatch.setattr(cluster_jobs.TrialPace, "is_unknown", False)
    monkeypatch.setattr(cluster_jobs.ClusterJobs, "_submit_batches", noted)
    return made


@pytest.mark.filterwarnings("ignore:Running on a single-machine scheduler:UserWarning")
def test_short_trials_share_tasks(client, cutting, quiet, batches, monkeypatch) -> None:
    """One task runs several trials; each is recorded as if it had been run alone."""
    result, hooks = cutting
    monkeypatch.setattr(trial_batches, "_LONGEST", 60.0)  # a busy machine makes no long trials

    def fail(a):
        if a % 10 == 3:
            raise ZeroDivisionError(f"of {a}")

    hooks.append(fail)
    frame = quiet(result, {"a": range(60)}, seed=1)
    assert 0 < sum(map(len, batches)) <= 60 / 4, "at most one task for four trials"
    alone = quiet(result, {"a": range(60)}, seed=1, scheduler="synchronous")
    columns = ["a", "Success", "Result", "Description"]
    for each in (frame := frame.sort_values("a")), alone:
        each.index = range(60)
    pd.testing.assert_frame_equal(frame[columns], alone[columns])
    assert frame["Success"].sum() == 54
    assert len(frame) == 60


def test_a_batch_whose_ends_must_wait(client, cutting, quiet, batches, monkeypatch) -> None:
    """Where the store takes no ends for a moment, their task and trials succeed all the same."""
    refused: list[int] = []
    lost: list[BaseException] = []
    append = FileStore.append
    monkeypatch.setattr(
        cluster_jobs.ClusterJobs,
        "_of_lost_batch",
        lambda self, some, error: lost.append(error) or (),
    )

    def full(store, records):
        if not refused and any(record.id.startswith("ended") for record in records):
            refused.append(len(records))
            raise StoreError("no room")
        return append(store, records)

    monkeypatch.setattr("daskperiment.recording.recorder._TOGETHER", 60.0)
    monkeypatch.setattr(FileStore, "append", full)
    frame = quiet(cutting[0], {"a": range(32)}, seed=1)
    assert refused
    assert not lost
    assert frame["Success"].all(), frame["Description"].tolist()
    assert len(frame) == 32


@pytest.mark.filterwarnings("ignore:Running on a single-machine scheduler:UserWarning")
def test_few_trials_come_before_the_pace_is_known(client, cutting, quiet, monkeypatch) -> None:
    """Some trials have tasks of their own, which tell that they are short; then tasks have some."""
    submitted: list[tuple[str, int, int]] = []
    for name in ("_submit", "_submit_batches"):
        submit = getattr(cluster_jobs.ClusterJobs, name)

        def noted(self, jobs, *size, submit=submit, name=name):
            before = len(self._submitted)
            submit(self, jobs, *size)
            tasks = {one.future.key for one in self._submitted[before:]}
            submitted.append((name, len(jobs), len(tasks)))

        monkeypatch.setattr(cluster_jobs.ClusterJobs, name, noted)
    monkeypatch.setattr(cluster_jobs, "_LEARNING", 1e9)
    take = cluster_jobs.TrialPace.take

    def short(pace, threads):
        return take(pace, threads) and 0.01

    monkeypatch.setattr(cluster_jobs.TrialPace, "take", short)
    frame = quiet(cutting[0], {"a": range(300)}, seed=1)
    assert frame["Success"].all()
    assert len(frame) == 300
    (name, alone, _), *rest = submitted
    assert (name, alone) == ("_submit", 16)
    assert {name for name, *_ in rest} == {"_submit_batches"}, rest
    assert sum(tasks for _, _, tasks in rest) <= 284 / 5


def test_a_cluster_sees_how_many_long_trials_wait(client, cutting, quiet, monkeypatch) -> None:
    """Where the first trials take long, others are submitted before one has ended."""
    go_on, submitted = threading.Event(), []
    submit = cluster_jobs.ClusterJobs._submit

    def noted(self, jobs):
        submit(self, jobs)
        submitted.append(len(jobs))
        monkeypatch.setattr(cluster_jobs, "_LEARNING", 0.0)
        if sum(submitted) == 40:
            go_on.set()

    monkeypatch.setattr(cluster_jobs, "_LEARNING", 60.0)
    monkeypatch.setattr(cluster_jobs.ClusterJobs, "_submit", noted)
    cutting[1].append(lambda a: go_on.wait(60))
    assert quiet(cutting[0], {"a": range(40)})["Success"].all()
    assert submitted == [16, 24]


WRITTEN: list[str] = []
"""Tokens of trials whose ends the store has."""


def looked_at(batch):
    """Run trials of a batch; all of them have ended then. One that begins again ends apart."""
    raised, took = trial_batches.run_batch(batch)
    requests = [source.request() for source in batch.sources[: len(raised)]]
    assert {one.token for one in requests} <= set(WRITTEN)
    again = begin(batch.sources[0])
    recorder_for(again.store).end(again.token)
    assert not again.gathered
    return raised, took


@pytest.mark.filterwarnings("ignore:Running on a single-machine scheduler:UserWarning")
def test_ends_of_a_batch_are_written_together(client, cutting, quiet, batches, monkeypatch) -> None:
    """Ends of short trials come in few steps, all before their task is done."""
    sizes = []
    append = FileStore.append

    def counted(store, records):
        ended = [one.owner.token for one in records if one.id.startswith("ended")]
        sizes.append(len(ended))
        found = append(store, records)
        WRITTEN.extend(ended)
        return found

    monkeypatch.setattr(trial_batches, "_LONGEST", 60.0)
    monkeypatch.setattr("daskperiment.recording.recorder._TOGETHER", 60.0)
    monkeypatch.setattr(FileStore, "append", counted)
    monkeypatch.setattr(cluster_jobs, "run_batch", looked_at)
    frame = quiet(cutting[0], {"a": range(60)}, seed=1)
    assert frame["Success"].all(), frame["Description"].tolist()
    assert sum(sizes) == len(set(WRITTEN)) == 60
    assert sum(size for size in sizes if size > 1) > 30, "most of them with others"


@pytest.mark.parametrize(
    ("keywords", "annotations"),
    [({"retries": 1}, {}), ({"on_error": "raise"}, {}), ({}, {"priority": 1})],
    ids=["for Dask", "a failure ends all", "annotated"],
)
def test_trials_that_ask_for_something_have_their_own_tasks(
    client, cutting, quiet, batches, keywords, annotations
) -> None:
    """What is asked of a task is asked for one trial."""
    with dask.annotate(**annotations):
        frame = quiet(cutting[0], {"a": range(16)}, **keywords)
    assert frame["Success"].all()
    assert len(frame) == 16
    assert not batches


def test_what_a_batch_has_no_time_for(client, ex, cutting, quiet, batches, monkeypatch) -> None:
    """Trials after one that took long are left to other tasks, and run once."""
    monkeypatch.setattr(trial_batches, "_LONGEST", -1.0)
    seen: list[int] = []
    cutting[1].append(seen.append)
    frame = quiet(cutting[0], {"a": range(24)})
    assert batches
    assert sorted(seen) == list(range(24))
    assert sorted(frame["a"]) == list(range(24))
    assert len(ex.get_history(verbose=True, running=True)) == 24


def run_twice(batch):
    """Run three trials of a batch and lose what they returned, and then all that is in time."""
    for source in batch.sources[:3]:
        trial_batches.run_batch(trial_batches.TrialBatch(batch.tasks, [source]))
    return trial_batches.run_batch(batch)


def test_what_a_repeated_batch_has_no_time_for(
    client, ex, cutting, quiet, batches, monkeypatch
) -> None:
    """What a batch had begun before its worker died is not left to tasks that begin it anew."""
    monkeypatch.setattr(trial_batches, "_LONGEST", -1.0)
    monkeypatch.setattr(cluster_jobs, "run_batch", run_twice)
    frame = quiet(cutting[0], {"a": range(32)})
    assert batches
    assert sorted(frame["a"]) == list(range(32))
    assert len(ex.get_history(verbose=True, running=True)) == 32


class Fussy(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, first, second) -> None:
        super().__init__(f"{first} and {second}")


def test_exceptions_that_cannot_travel(client, cutting, quiet, batches) -> None:
    """They cost the other trials of their batch nothing."""

    def fail(a):
        if a == 2:
            raise Fussy(1, 2)

    cutting[1].append(fail)
    frame = quiet(cutting[0], {"a": range(32)})
    assert batches
    failed = frame[~frame["Success"]]
    assert failed["a"].tolist() == [2]
    assert failed["Description"].tolist() == ["Fussy(1 and 2)"]


def half_done(batch):
    """Run two trials of a batch, begin a third, and be lost."""
    trial_batches.run_batch(trial_batches.TrialBatch(batch.tasks, batch.sources[:2]))
    begin(batch.sources[2])
    raise MemoryError("no worker survives it")


def test_the_trials_of_a_lost_batch(client, ex, cutting, quiet, batches, monkeypatch) -> None:
    """Of those of a task that no worker survives, what had ended counts, what had not begun runs.

    Only the trial that ran at that moment has failed.
    """
    result, hooks = cutting
    monkeypatch.setattr(cluster_jobs, "run_batch", half_done)

    def fail(a):
        if a == 1:
            raise ZeroDivisionError

    hooks.append(fail)
    frame = quiet(result, {"a": range(4 * 8)}).sort_values("a")
    assert len(batches) == 1, "no further ones after that"
    begun = set(range(2, 32, 4))
    assert frame["a"].tolist() == list(range(32))
    assert set(frame.loc[~frame["Success"], "a"]) == begun | {1}
    lost = frame.loc[frame["a"].isin(begun), "Description"]
    assert lost.str.startswith("MemoryError").all()


def test_a_cancelled_batch_begins_no_more(client, ex, cutting, quiet, batches, monkeypatch) -> None:
    """Of a batch whose sweep is interrupted the trial that runs is the last."""
    result, hooks = cutting
    all_there, go_on = threading.Barrier(5), threading.Event()
    hooks.append(lambda a: (all_there.wait(60), go_on.wait(60)))

    def waiting(jobs):
        all_there.wait(60)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cluster_jobs.ClusterJobs, "_ended", waiting)
        with pytest.raises(KeyboardInterrupt):
            quiet(result, {"a": range(32)}, seed=1)
    (id,) = known_sweeps(ex._store)
    while not all(client.run(all_cancelled).values()):
        pass  # until the workers have heard of it
    hooks.clear()
    go_on.set()
    while any(client.run(running_tasks).values()):
        pass
    assert len(ex.get_history(verbose=True, running=True)) == 4
    frame = quiet(result, resume=id)
    assert set(frame.loc[frame["Success"], "a"]) == set(range(32))


def all_cancelled(dask_worker):
    """Tell whether a worker knows that nobody wants its tasks."""
    return all(task.state == "cancelled" for task in dask_worker.state.tasks.values())


def running_tasks(dask_worker):
    """Name what a worker is at."""
    return [str(task.key) for task in dask_worker.state.tasks.values()]


# What there is of one trial in the client, and while it runs. What a worker was given is not among
# it: Dask keeps its latest thousand events, with their tasks.
OF_ONE_TRIAL = frozenset({
    "Future", "FutureState", "LocalRequest", "SubmittedJob", "SubmittedTrial", "SweepPoint",
    "TaskOutcome", "TaskState", "TrialGraph", "TrialHandle", "TrialJob", "TrialPlan",
})  # fmt: skip


@pytest.mark.parametrize("short", [True, False], ids=["in batches", "in tasks of their own"])
def test_nothing_is_kept_of_trials_that_ended(client, ex, adding, quiet, request, short) -> None:
    """However many trials a sweep has, its processes do not grow with them."""
    made = request.getfixturevalue("batches") if short else None
    quiet(adding, {"a": range(20, 24)})
    before = there(client, ex)
    quiet(adding, {"a": range(20, 60)})
    grown = there(client, ex) - before
    assert {name: number for name, number in grown.items() if number >= 40 / 4} == {}
    assert made is None or made


def there(client, ex) -> Counter[str]:
    """Count what is there of trials once all of them are seen to."""
    ex.flush()
    client.sync(_until_forgotten, client.cluster.scheduler)
    collect()
    return Counter(
        name for each in gc.get_objects() if (name := type(each).__name__) in OF_ONE_TRIAL
    )
