"""Seeds: the same seed gives the same draws, whatever scheduler runs the steps."""

from __future__ import annotations

import gc
import random
import sys
import threading

import numpy as np
import pytest
from dask import delayed

from daskperiment.errors import RandomStateWarning
from daskperiment.execution import random_state
from daskperiment.seeds import step_seed


@pytest.fixture
def drawing(ex):
    """Make a result of four steps that draw from ex.rng."""
    spread = ex.parameter("spread", default=1.0)

    @ex
    def draw(number, spread):
        return ex.rng.normal(size=3) * spread

    @ex.result
    def collect(rows):
        return [row.tolist() for row in rows]

    return collect([draw(i, spread) for i in range(4)])


def test_same_draws_on_every_scheduler(drawing):
    """One seed gives the same draws under synchronous, threads and processes."""
    found = [
        drawing.compute(seed=3, scheduler=scheduler)
        for scheduler in ("synchronous", "threads", "processes")
    ]
    assert found[0] == found[1] == found[2]
    assert len({str(row) for row in found[0]}) == 4
    assert drawing.compute(seed=4) != found[0]


def test_seed_of_a_recorded_trial_repeats_it(ex, drawing):
    """The seed that a trial drew is recorded, and given again it repeats the result."""
    first = drawing.compute()
    seed = int(ex.get_history(verbose=True).loc[1, "Seed"])
    assert drawing.compute(seed=seed) == first
    assert drawing.compute() != first


def test_seed_does_not_depend_on_what_is_added_to_the_graph(ex):
    """A step keeps its draws when another step is added beside it."""

    @ex
    def draw():
        return float(ex.rng.random())

    @ex
    def other():
        return 1

    @ex.result
    def collect(*values):
        return values

    alone = collect(draw()).compute(seed=1)
    beside = collect(draw(), other()).compute(seed=1)
    assert beside[0] == alone[0]


@pytest.mark.parametrize("scheduler", ["synchronous", "processes"])
def test_global_state_is_seeded(ex, scheduler):
    """Steps that use random and numpy.random globally repeat under one seed."""

    @ex
    def draw(i):
        return float(np.random.rand()), random.random()

    @ex.result
    def collect(rows):
        return rows

    result = collect([draw(i) for i in range(3)])
    first = result.compute(seed=5, scheduler=scheduler)
    assert result.compute(seed=5, scheduler=scheduler) == first
    assert len(set(first)) == 3
    assert ex.get_steps(1)["Stochastic"].tolist() == [True, True, True, False]


def test_users_own_state_is_left_alone(drawing):
    """What the user seeded globally goes on as if no trial had run."""
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.rand()
    random.seed(1)
    np.random.seed(1)
    drawing.compute(scheduler="synchronous")
    assert (random.random(), np.random.rand()) == expected


def overlapping(ex, draw):
    """Make a result of two steps that are certain to run at the same time."""
    barrier = threading.Barrier(2, timeout=30)

    @ex
    def step(i):
        barrier.wait()
        value = draw(ex)
        barrier.wait()
        return value

    @ex.result
    def collect(rows):
        return rows

    return collect([step(1), step(2)])


def test_overlapping_use_of_the_global_state_warns(ex):
    """Steps that draw from the global state at the same time are warned of, with what to do."""
    result = overlapping(ex, lambda ex: np.random.rand())
    with pytest.warns(RandomStateWarning, match=r"ex\.rng.*scheduler='processes'"):
        result.compute(scheduler="threads", num_workers=2)
    assert not ex.get_steps(1).query("Step == 'step'")["Checkable"].any()


def test_overlapping_use_of_own_generators_does_not_warn(ex):
    """Steps that draw from ex.rng at the same time are fine."""
    result = overlapping(ex, lambda ex: float(ex.rng.random()))
    first = result.compute(scheduler="threads", num_workers=2, seed=1)
    assert result.compute(scheduler="threads", num_workers=2, seed=1) == first


def test_overlap_without_randomness_does_not_warn(ex):
    """Steps that run at the same time and draw nothing are neither warned of nor stochastic."""
    result = overlapping(ex, lambda ex: 1)
    assert result.compute(scheduler="threads", num_workers=2) == [1, 1]
    assert not ex.get_steps(1)["Stochastic"].any()


def test_experiment_seed(tmp_path):
    """An experiment's seed is that of each of its trials."""
    import daskperiment

    ex = daskperiment.Experiment("seeded", backend=tmp_path, seed=11)

    @ex.result
    def draw():
        return float(ex.rng.random())

    assert draw().compute() == draw().compute()
    assert ex.get_history(verbose=True)["Seed"].tolist() == [11, 11]
    assert draw().compute(seed=12) != draw().compute()


def test_step_computed_alone_is_seeded_with_the_experiment(tmp_path):
    """A step that is computed alone repeats its draws under the experiment's seed."""
    import daskperiment

    ex = daskperiment.Experiment("alone", backend=tmp_path, seed=11)

    @ex
    def draw():
        return float(ex.rng.random())

    assert draw().compute() == draw().compute()


@pytest.mark.parametrize("seed", [-1, 1.5, "7", True, 2**63])
def test_seed_that_is_none(tmp_path, seed):
    """What is no seed is refused, and the message says what is one."""
    import daskperiment

    with pytest.raises(ValueError, match=r"seed is .*expected None or an integer"):
        daskperiment.Experiment("bad_seed", backend=tmp_path, seed=seed)


def test_step_seeds_are_fixed():
    """The seed of a step is a fixed function of the trial's seed and the step's place."""
    assert step_seed(1, "a") == step_seed(1, "a")
    assert len({step_seed(1, "a"), step_seed(2, "a"), step_seed(1, "b"), step_seed(1, "a#2")}) == 4
    # Pinned: another value would change the draws of every recorded seed.
    assert step_seed(42, "train") == 16894179045309954589


def test_delayed_between_is_no_step(ex):
    """A function between steps may use the global state; the trial still succeeds."""

    @ex.result
    def use(x):
        return x

    assert use(delayed(random.random)()).compute() < 1


def raw():
    """Draw of Python's generator and of numpy's, as a user's own code does."""
    return random.random(), float(np.random.random())


DRAWS = {
    "nothing": lambda: None,
    "a small number": lambda: random.getrandbits(1),
    "a float": random.random,
    "all words at once": lambda: random.getrandbits(32 * 624),
    "a normal number": lambda: random.gauss(0, 1),
    "another seed": lambda: random.seed(5),
    "numpy's float": np.random.random,
    "all of numpy's words": lambda: np.random.bytes(4 * 624),
    "numpy's normal number": np.random.normal,
    "numpy's other seed": lambda: np.random.seed(5),
}


@pytest.fixture(params=["by memory", "by output"])
def finder(request, monkeypatch):
    """The keeper of the global state, with each way to find draws."""
    kinds = {"by memory": "_DrawsByMemory", "by output": "_DrawsByOutput"}
    kind = getattr(random_state, kinds[request.param])
    found = kind(random_state._SHARED, random_state._STATE._bits)
    monkeypatch.setattr(random_state._STATE, "_draws", found)
    return found


@pytest.mark.parametrize("draw", DRAWS)
def test_whatever_is_drawn_is_noticed(ex, finder, draw):
    """A step that draws counts as drawing, one that does not does not: also the one after it."""
    act = DRAWS[draw]

    @ex
    def first():
        act()
        return 1

    @ex.result
    def last(value):
        return value

    last(first()).compute(scheduler="synchronous")
    drew = ex.get_steps().set_index("Key")["Stochastic"]
    assert bool(drew["first"]) == (draw != "nothing")
    assert not drew["last"]


def test_draws_are_found_in_the_memory_of_this_python():
    """Where the generators are laid out as expected, as in every CPython so far."""
    assert isinstance(random_state._STATE._draws, random_state._DrawsByMemory)


def test_another_layout_is_noticed():
    """Where the memory says nothing of draws, they are found by the next output."""

    class Elsewhere:
        looking_draws = False

        def mark(self, again):
            """Remember nothing."""

        def drawn(self):
            return False

    own = random.Random(1), np.random.MT19937(1)
    assert not random_state._finds_draws(Elsewhere(), *own)
    assert random_state._finds_draws(random_state._DrawsByMemory(*own), *own)


@pytest.mark.parametrize("fails", [False, True])
def test_a_trial_gives_the_users_state_back_at_its_end(ex, finder, fails):
    """Once, as it was, also where a step fails; steps draw from their own seeds as ever."""

    @ex
    def draw(number):
        return raw()

    @ex.result
    def last(*values):
        if fails:
            raise ValueError("no")
        return values

    random.seed(1), np.random.seed(1)
    raw()
    states = random.getstate(), str(np.random.get_state())
    node = last(*map(draw, range(3)))
    if fails:
        with pytest.raises(ValueError, match="no"):
            node.compute(scheduler="synchronous")
    else:
        values = node.compute(scheduler="synchronous", seed=3)
        assert values == node.compute(scheduler="threads", num_workers=1, seed=3)
        assert len(set(values)) == 3
    assert (random.getstate(), str(np.random.get_state())) == states


def test_what_belongs_to_no_trial_draws_from_the_users_state(ex):
    """A plain function that no parameter reaches runs between steps, and is none."""

    @ex
    def draw(number):
        return random.random()

    @ex.result
    def last(*values):
        return values

    a = ex.parameter("a", default=1)
    outside = [delayed(lambda n=n: random.random(), pure=False)() for n in range(3)]
    mixed = [node for pair in zip(map(draw, [a, a, a]), outside, strict=True) for node in pair]
    random.seed(7)
    expected = {random.random() for _ in range(3)}
    random.seed(7)
    values = last(*mixed).compute(scheduler="synchronous")
    assert set(values[1::2]) == expected
    assert len(set(values)) == 6


def test_a_step_that_computes_a_trial_draws_on(ex, finder):
    """What it draws after the inner trial is what it would have drawn without it."""

    @ex
    def draw(number):
        return random.random()

    @ex.result
    def inner(*values):
        return random.random()

    node = inner(*map(draw, range(3)))

    @ex.result
    def outer(nested):
        first = raw()
        if nested:
            node.compute(scheduler="synchronous")
        return first, raw()

    alone, around = (
        outer(nested).compute(scheduler="synchronous", seed=3) for nested in (False, True)
    )
    assert alone == around


def test_looking_at_threads_rests_the_collector(ex, monkeypatch):
    """While it is asked what threads run no collection begins, which would never end."""
    seen = []
    frames = sys._current_frames

    def look():
        # Profilers of clusters, whose threads outlive the tests of them, look as well.
        if sys._getframe(1).f_globals["__name__"].startswith("daskperiment"):
            seen.append(gc.isenabled())
        return frames()

    monkeypatch.setattr(sys, "_current_frames", look)
    inner = ex.result(int)()

    @ex.result
    def outer():
        return inner.compute(scheduler="threads")

    assert outer().compute(scheduler="threads") == 0
    assert seen == [False]
    assert gc.isenabled()
