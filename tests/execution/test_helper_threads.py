"""Threads that a step starts work for that step where this is certain, and for none elsewhere."""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import multiprocessing.dummy
import os
import queue
import threading
import time
import unittest.mock
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import joblib
import pytest

from daskperiment.errors import RandomStateWarning, StepEndedError, UncertainStepError
from daskperiment.execution.context import ACTIVE, RunningStep
from daskperiment.execution.lifecycle import watch_for_interruption
from daskperiment.recording.registry import recorder_for


def in_thread(function):
    """Call a function in a thread of its own."""
    found = []

    def call():
        try:
            found.append((function(), None))
        except Exception as error:
            found.append((None, error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(30)
    value, error = found[0]
    if error is not None:
        raise error
    return value


def in_timer(function):
    """Call a function in a timer's thread."""
    found = queue.Queue()
    threading.Timer(0, lambda: found.put(function())).start()
    return found.get(timeout=30)


def in_executor(function):
    """Call a function in a pool of concurrent.futures."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(30)


def mapped(function):
    """Call a function by a pool's map."""
    with ThreadPoolExecutor(1) as pool:
        return next(pool.map(lambda _: function(), [0]))


def in_copied_context(function):
    """Call a function in a pool, with a copy of the step's context."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, function).result(30)


def in_loop(function):
    """Call a function in a coroutine."""

    async def call():
        return function()

    return asyncio.run(call())


def in_loops_executor(function):
    """Call a function in the executor of an event loop."""

    async def call():
        return await asyncio.get_running_loop().run_in_executor(None, function)

    return asyncio.run(call())


def in_nested_pool(function):
    """Call a function in a pool that a thread of a pool makes."""
    return in_executor(lambda: in_executor(function))


def with_pool(use):
    """Return a way of calling that uses a pool of multiprocessing.dummy."""

    def call(function):
        with multiprocessing.dummy.Pool(1) as pool:
            return use(pool, function)

    return call


WAYS = {
    "directly": lambda function: function(),
    "Thread": in_thread,
    "Timer": in_timer,
    "ThreadPoolExecutor.submit": in_executor,
    "ThreadPoolExecutor.map": mapped,
    "copy_context": in_copied_context,
    "coroutine": in_loop,
    "to_thread": lambda function: asyncio.run(asyncio.to_thread(function)),
    "run_in_executor": in_loops_executor,
    "nested": in_nested_pool,
    "ThreadPool.apply": with_pool(lambda pool, f: pool.apply(f)),
    "ThreadPool.map": with_pool(lambda pool, f: pool.map(lambda _: f(), [0])[0]),
    "ThreadPool.starmap": with_pool(lambda pool, f: pool.starmap(lambda _: f(), [(0,)])[0]),
    "ThreadPool.imap": with_pool(lambda pool, f: next(pool.imap(lambda _: f(), [0]))),
    "ThreadPool.imap chunks": with_pool(lambda pool, f: next(pool.imap(lambda _: f(), [0], 2))),
    "ThreadPool.imap_unordered": with_pool(
        lambda pool, f: next(pool.imap_unordered(lambda _: f(), [0]))
    ),
    "joblib": lambda f: joblib.Parallel(2, prefer="threads")([joblib.delayed(f)()])[0],
}


@pytest.mark.parametrize("way", WAYS)
def test_thread_belongs_to_its_step(ex, way):
    """However a step starts a thread, generator, metrics and trial in it are those of the step."""
    run = WAYS[way]

    @ex.result
    def draw(run):
        def work():
            ex.save_metric("loss", 0, 1.0)
            return ex.rng, ex.current_trial_id

        generator, trial = run(work)
        return generator is ex.rng, trial, float(generator.random())

    direct = draw(WAYS["directly"]).compute(seed=7)
    same, trial, number = draw(run).compute(seed=7)
    assert (same, trial, number) == (True, 2, direct[2])
    assert draw(run).compute(seed=8)[2] != number
    assert ex.load_metric("loss", 2)[2].tolist() == [1.0]
    assert ex.get_steps(2)[["Stochastic"]].values.tolist() == [[True]]


def together(ex, work):
    """Make a result of four steps that are certain to run at the same time in threads."""
    barrier = threading.Barrier(4, timeout=30)

    @ex
    def step(i):
        barrier.wait()
        try:
            return work(i)
        finally:
            barrier.wait()

    @ex.result
    def collect(rows):
        return rows

    return collect([step(i) for i in range(4)])


SURE = [way for way in WAYS if way not in ("Thread", "Timer")]


@pytest.mark.filterwarnings("ignore::daskperiment.errors.CodeChangedWarning")
@pytest.mark.parametrize("way", SURE)
def test_thread_belongs_to_its_step_beside_others(ex, way):
    """What a step gives to a pool is the step's while other steps run, too."""
    run = WAYS[way]
    result = together(ex, lambda i: run(lambda: float(ex.rng.random())))
    found = result.compute(scheduler="threads", num_workers=4, seed=1)
    expected = together(ex, lambda i: float(ex.rng.random()))
    assert found == expected.compute(scheduler="threads", num_workers=4, seed=1)
    assert len(set(found)) == 4


def test_joblib_dispatches_further_batches_beside_others(ex):
    """Calls that joblib gives to its threads later are the step's as well, each once."""
    calls = 30

    def work(i):
        pool = joblib.Parallel(1, backend="threading", batch_size=1, pre_dispatch=1)
        with unittest.mock.patch.object(pool, "n_jobs", 2):
            return pool(joblib.delayed(lambda: ex.rng.bit_generator)() for _ in range(calls))

    found = together(ex, work).compute(scheduler="threads", num_workers=4, seed=1)
    assert [len({id(each) for each in row}) for row in found] == [1, 1, 1, 1]


@pytest.mark.parametrize("attribute", ["rng", "current_trial_id", "save_metric"])
def test_plain_thread_beside_others_is_refused(ex, attribute):
    """Where another step may use a thread too, it is refused, and the message names ex.wrap."""

    def work(i):
        if attribute == "save_metric":
            return in_thread(lambda: ex.save_metric("loss", 0, 1))
        return in_thread(lambda: getattr(ex, attribute))

    with pytest.raises(UncertainStepError, match=r"4 steps run.*ex\.wrap\(function\)"):
        together(ex, work).compute(scheduler="threads", num_workers=4)


@pytest.mark.filterwarnings("ignore::daskperiment.errors.CodeChangedWarning")
def test_wrapped_function_works_in_a_plain_thread_beside_others(ex):
    """A function from ex.wrap is its step's in a thread that would be refused otherwise."""
    found = together(ex, lambda i: in_thread(ex.wrap(lambda: float(ex.rng.random()))))
    expected = together(ex, lambda i: float(ex.rng.random()))
    direct = expected.compute(scheduler="threads", num_workers=4, seed=1)
    assert found.compute(scheduler="threads", num_workers=4, seed=1) == direct


@pytest.fixture
def worker():
    """Start a thread that calls what is put into a queue: no step knows of it."""
    tasks, answers = queue.SimpleQueue(), queue.SimpleQueue()

    def serve():
        for function in iter(tasks.get, None):
            try:
                answers.put((function(), None))
            except Exception as error:
                answers.put((None, error))

    thread = threading.Thread(target=serve)
    thread.start()

    def call(function):
        tasks.put(function)
        value, error = answers.get(timeout=30)
        if error is not None:
            raise error
        return value

    yield call
    tasks.put(None)
    thread.join()


def test_older_thread_is_refused_and_can_be_told(ex, worker):
    """A thread from before the step is refused while a step runs, unless it calls a wrapped one."""

    @ex.result
    def draw():
        with pytest.raises(UncertainStepError, match=r"a step runs in this process.*ex\.wrap"):
            worker(lambda: ex.rng)
        return worker(ex.wrap(lambda: ex.rng)) is ex.rng

    assert draw().compute() is True
    assert worker(lambda: ex.rng) is ex.rng  # outside of steps: the experiment's


def test_older_pool_is_fine(ex):
    """A pool from before the step carries each call's own step."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()

        @ex.result
        def draw():
            return pool.submit(lambda: ex.rng).result() is ex.rng

        assert draw().compute() is True


def test_wrap_coroutine_function(ex):
    """A wrapped coroutine function works for the step in a loop of another thread."""

    @ex.result
    def draw():
        @ex.wrap
        async def work():
            await asyncio.sleep(0)
            return ex.rng

        return in_thread(lambda: asyncio.run(work())) is ex.rng

    assert draw().compute() is True


def test_wrap_outside_of_a_step(ex):
    """Outside a step, as in a unit test, ex.wrap returns the function as it is."""
    assert ex.wrap(len) is len


def test_wrap_refuses_what_is_no_function(ex):
    """What cannot be called is refused, with what was given and what is expected."""
    with pytest.raises(TypeError, match=r"ex\.wrap got 3; expected the function"):
        ex.wrap(3)


def test_wrapped_function_keeps_its_name(ex):
    """A wrapped function shows the name and the doc of the function."""

    @ex.result
    def names():
        def work():
            """Work."""

        return ex.wrap(work).__name__, ex.wrap(work).__doc__

    assert names().compute() == ("work", "Work.")


# The order of draws ------------------------------------------------------------------------------


def test_draws_in_turn_are_checkable(ex):
    """Threads that draw one after the other leave the step checkable, without a warning."""

    @ex.result
    def draw():
        found = [in_thread(lambda: float(ex.rng.random())) for _ in range(3)]
        found += [asyncio.run(asyncio.to_thread(lambda: float(ex.rng.random()))) for _ in range(3)]
        return [*found, float(ex.rng.random()), in_executor(lambda: float(ex.rng.random()))]

    assert draw().compute(seed=1) == draw().compute(seed=1)
    assert ex.get_steps()["Checkable"].all()


@pytest.mark.parametrize("by", ["a later call", "the step itself"])
def test_draws_out_of_turn_are_reported(ex, by):
    """A draw that came before that of an earlier call is warned of, and makes no impure step."""

    @ex.result
    def draw():
        gate, rest = threading.Event(), []

        def late():
            gate.wait(30)
            return float(ex.rng.random())

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(late)
            early = pool.submit(lambda: ex.rng.random()).result if by == "a later call" else None
            rest.append(float(early() if early else ex.rng.random()))
            gate.set()
            return [first.result(), *rest]

    with pytest.warns(RandomStateWarning, match=r"Threads of step 'draw'.*ex\.rng\.spawn\(n\)"):
        draw().compute(seed=1)
    assert ex.get_steps(1)["Checkable"].tolist() == [False]


def test_generators_of_their_own_for_threads(ex):
    """With generators spawned in the step, any number of threads draw the same every time."""

    @ex.result
    def draw():
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda rng: float(rng.random()), ex.rng.spawn(20)))

    assert draw().compute(seed=1) == draw().compute(seed=1)
    assert ex.get_steps()["Checkable"].all()


def test_reusable_step_that_draws_in_threads(ex):
    """A reusable step that draws in threads runs anew for another seed, and is a hit for its."""

    @ex.persist(reuse=True)
    def draws():
        with ThreadPoolExecutor(1) as pool:
            return list(pool.map(lambda _: int(ex.rng.integers(10**9)), range(3)))

    @ex.result
    def total(values):
        return values

    result = total(draws())
    found = [result.compute(seed=seed) for seed in (7, 8, 9, 7)]
    assert found[0] == found[3]
    assert len(set(map(tuple, found))) == 3
    runs = ex.get_steps().query("Step == 'draws'")
    assert runs["Reused From"].tolist()[3] == 1
    assert runs["Reused From"].isna().tolist() == [True, True, True, False]


# After the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["rng", "save_metric"])
@pytest.mark.parametrize("start", ["Thread", "ThreadPoolExecutor", "wrap"])
def test_thread_that_outlives_its_step(ex, start, act):
    """A thread that goes on when its step has ended can draw and save no more."""
    gate, found = threading.Event(), queue.Queue()

    def work():
        gate.wait(30)
        try:
            found.put(ex.rng if act == "rng" else ex.save_metric("loss", 0, 1))
        except Exception as error:
            found.put(error)

    pool = ThreadPoolExecutor(1)

    @ex.result
    def leave():
        if start == "ThreadPoolExecutor":
            pool.submit(work)
        else:
            threading.Thread(target=ex.wrap(work) if start == "wrap" else work).start()
        return 1

    leave().compute()
    gate.set()
    error = found.get(timeout=30)
    pool.shutdown()
    assert isinstance(error, StepEndedError | UncertainStepError)
    assert "ended" in str(error)


@pytest.mark.parametrize("act", ["rng", "save_metric"])
def test_step_of_an_interrupted_trial_stops(ex, act):
    """After Ctrl-C a step that goes on in its thread cannot draw or save; the trial stays so."""
    begun, gate, found = threading.Event(), threading.Event(), queue.Queue()

    @ex
    def slow():
        ex.save_metric("loss", 0, 1.0)
        begun.set()
        gate.wait(30)
        try:
            found.put(ex.rng if act == "rng" else ex.save_metric("loss", 1, 1.0))
        except Exception as error:
            found.put(error)
            raise

    @ex.result
    def out(value):
        return value

    with pytest.raises(KeyboardInterrupt):
        interrupted_compute(out(slow()), begun)
    gate.set()
    error = found.get(timeout=30)
    assert isinstance(error, StepEndedError)
    assert "trial 1" in str(error)
    assert "interrupted" in str(error)
    wait_until(lambda: len(ex.get_steps(1)) == 1)
    assert ex.get_steps(1)["Status"].tolist() == ["interrupted"]
    assert ex.get_history(verbose=True)["Status"].tolist() == ["interrupted"]
    assert len(ex.load_metric("loss", 1)) == 1


@pytest.mark.parametrize("status", ["interrupted", "succeeded"])
def test_worker_stops_steps_of_a_trial_that_was_interrupted_elsewhere(ex, status):
    """With a heartbeat a worker reads that a trial was interrupted, and stops its steps there."""

    @ex.result
    def out():
        if status == "interrupted":
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        out().compute(scheduler="synchronous")
    recorder = recorder_for(ex._store)
    step = RunningStep("slow", 1, SimpleNamespace(trial=1, token="token", at_home=False))
    ACTIVE.append(step)
    watch_for_interruption(recorder)
    watch_for_interruption(recorder)
    (watch,) = recorder.listeners
    watch.on_beat({1})
    ACTIVE.remove(step)
    assert (step.halted == "interrupted") == (status == "interrupted")


def interrupted_compute(result, begun):
    """Compute a result in threads, interrupted once a step has begun."""
    from dask import local

    def interrupt(queue):
        assert begun.wait(30)
        raise KeyboardInterrupt

    with unittest.mock.patch.object(local, "queue_get", interrupt):
        result.compute(scheduler="threads")


def wait_until(condition):
    """Wait until something is the case."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_forked_process_draws_not_from_a_copy(ex):
    """A process that a step forks is refused the step's generator: all of them would draw alike."""

    @ex.result
    def draw():
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)

        def child():
            try:
                sender.send(float(ex.rng.random()))
            except StepEndedError as error:
                sender.send(str(error))

        process = context.Process(target=child)
        process.start()
        text = receiver.recv()
        process.join(30)
        return text

    assert "pass it to the process" in draw().compute()


def test_patches_are_made_once():
    """Starting threads costs the same, however many steps have run."""
    from daskperiment.execution.helper_threads import carry_steps

    carry_steps()
    before = threading.Thread.start, ThreadPoolExecutor.submit, ThreadPool.apply_async
    carry_steps()
    assert (threading.Thread.start, ThreadPoolExecutor.submit, ThreadPool.apply_async) == before
