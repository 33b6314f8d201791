"""Generators without a seed follow the step's; draws from the operating system are noticed."""

from __future__ import annotations

import os
import pickle
import random
import secrets
import subprocess
import sys
import tempfile
import textwrap
import threading
import uuid

import joblib
import numpy as np
import pytest
import scipy.stats

from tests.helpers.draws import reusable


class Dice(random.Random):
    """A generator of the user's own."""

    def roll(self):
        return self.randrange(10**9)


UNSEEDED = {
    "default_rng": lambda: float(np.random.default_rng().random()),
    "RandomState": lambda: float(np.random.RandomState().rand()),
    "SeedSequence": lambda: np.random.SeedSequence().entropy,
    "Generator": lambda: float(np.random.Generator(np.random.Philox()).random()),
    "np.random.seed": lambda: (np.random.seed(), float(np.random.rand()))[1],
    "random.Random": lambda: random.Random().random(),
    "random.Random subclass": lambda: Dice().roll(),
    "random.seed": lambda: (random.seed(), random.random())[1],
    "library": lambda: float(scipy.stats.Normal(mu=0.0, sigma=1.0).sample()),
    "thread": lambda: joblib.Parallel(2, prefer="threads")(
        [joblib.delayed(lambda: float(np.random.default_rng().random()))()]
    )[0],
}
UNKNOWN = {
    "os.urandom": lambda: os.urandom(4),
    "secrets.token_bytes": lambda: secrets.token_bytes(4),
    "secrets.randbelow": lambda: secrets.randbelow(10**9),
    "secrets.choice": lambda: secrets.choice(range(10**9)),
    "SystemRandom": lambda: random.SystemRandom().random(),
    "uuid4": lambda: str(uuid.uuid4()),
}


@pytest.mark.parametrize("name", UNSEEDED)
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_generator_without_a_seed_follows_the_step(ex, name, scheduler):
    """What a generator made without a seed draws in a step depends on the seed alone."""
    result = reusable(ex, UNSEEDED[name])
    found = [result.compute(seed=n, reuse=False, scheduler=scheduler) for n in (1, 2, 1)]
    assert found[0] == found[2] != found[1]
    assert ex.get_steps().query("Step == 'step'")["Stochastic"].all()


def test_two_generators_of_a_step_differ(ex):
    """Two generators made without a seed in one step draw different numbers."""

    @ex.result
    def two():
        return [float(np.random.default_rng().random()) for _ in range(2)]

    first, second = two().compute(scheduler="synchronous")
    assert first != second


@pytest.mark.parametrize("name", UNKNOWN)
def test_draw_from_the_operating_system_counts(ex, name):
    """A step whose own code draws from the operating system runs anew for another seed."""
    result = reusable(ex, UNKNOWN[name])
    found = [result.compute(seed=seed, scheduler="synchronous") for seed in (1, 2, 1)]
    assert found[0] == found[2] != found[1]
    assert ex.get_steps().query("Step == 'step'")["Stochastic"].all()


@pytest.mark.parametrize("make", [lambda: random.Random(5).random(), lambda: Dice("a").roll()])
def test_generator_with_a_seed_is_no_draw(ex, make):
    """What gives the same numbers in every trial is left as it is, and counts as no draw."""
    result = reusable(ex, make)
    assert result.compute(seed=1) == result.compute(seed=2) == make()
    assert not ex.get_steps()["Stochastic"].any()


def test_libraries_names_do_not_count(ex):
    """Names of temporary files and of joblib's calls are no draws of a step."""

    def work():
        with tempfile.TemporaryDirectory():
            return joblib.Parallel(2, prefer="threads")([joblib.delayed(int)()])

    reusable(ex, work).compute(scheduler="synchronous")
    assert not ex.get_steps()["Stochastic"].any()


def test_outside_of_steps_nothing_is_seeded(ex):
    """Generators made outside of steps differ, also while a step runs in another thread."""
    begun, done = threading.Event(), threading.Event()

    @ex.result
    def wait():
        begun.set()
        return done.wait(30)

    computing = threading.Thread(target=lambda: wait().compute(seed=1, scheduler="synchronous"))
    computing.start()
    begun.wait(30)
    during = np.random.default_rng().random(), random.Random().random()
    done.set()
    computing.join()
    assert len({*during, random.Random().random(), np.random.default_rng().random()}) == 4
    assert not ex.get_steps()["Stochastic"].any()


def test_urandom_can_be_pickled(ex):
    """What observes is found by pickle under the name of the function, which comes back."""
    before = os.urandom

    @ex.result
    def same():
        return os.urandom is not before and pickle.loads(pickle.dumps(os.urandom)) is os.urandom

    assert same().compute(scheduler="synchronous") is True
    assert os.urandom is before


def test_first_trial_of_a_process_is_like_the_second(tmp_path):
    """That steps are observed from the first one on does not look like a change of their code."""
    program = """
        import os, pathlib, random, sys, threading, warnings
        from concurrent.futures import ThreadPoolExecutor
        from os import urandom
        from random import Random, seed
        warnings.simplefilter("error")
        import daskperiment
        import numpy as np
        ex = daskperiment.Experiment("x", backend=pathlib.Path(sys.argv[1]))
        class Worker(threading.Thread):
            def run(self):
                self.found = len(os.urandom(3)) + len(urandom(2))
        @ex.persist(reuse=True)
        def step():
            worker = Worker()
            worker.start()
            worker.join()
            with ThreadPoolExecutor(1) as pool:
                seed()
                found = np.random.default_rng().random(), Random().random(), random.random()
                return worker.found + pool.submit(int).result(), found
        @ex.result
        def out(value):
            return value
        for _ in range(2):
            out(step()).compute(seed=1, scheduler="synchronous")
        assert ex.get_steps(2)["Reused From"].tolist()[0] == 1, ex.explain(2)
        """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program), encoding="utf-8")
    subprocess.run([sys.executable, str(path), str(tmp_path / "store")], check=True, timeout=120)
