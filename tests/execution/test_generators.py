"""Families of generators are seeded for steps, observed, and given back as they were."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest

from daskperiment.execution.generators import PACKAGES, ArrivalFinder

CUPY = {
    "cupy/__init__.py": "from cupy import random\n",
    "cupy/random/__init__.py": """
        from cupy.random import _generator
        from cupy.random._generator import RandomState, get_random_state, seed
        def rand():
            return get_random_state().rand()
        """,
    "cupy/random/_generator.py": """
        import numpy
        class RandomState:
            made = 0
            def __init__(self, seed=None):
                assert seed is None or isinstance(seed, numpy.uint64)
                RandomState.made += 1
                self.seed(seed)
            def seed(self, seed):
                self._numbers = numpy.random.Generator(numpy.random.PCG64(
                    5 if seed is None else int(seed)))
            def rand(self):
                return float(self._numbers.random())
        _random_states = {}
        def get_random_state():
            state = _random_states.get(0, None)
            if state is None:
                state = _random_states.setdefault(0, RandomState(None))
            return state
        def seed(seed):
            get_random_state().seed(seed)
        """,
}
"""As much of cupy as has to do with its generators; like cupy's, their state cannot be read."""


@pytest.fixture
def cupy(tmp_path, monkeypatch):
    """Put a cupy where it can be imported, and forget it afterwards."""
    for name, source in CUPY.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "cupy"]:
        del sys.modules[name]


@pytest.fixture
def drawing(ex):
    """Make a result of a reusable step that imports cupy itself, and draws from it."""

    @ex.persist(reuse=True)
    def draw():
        import cupy

        return cupy.random.rand()

    @ex.result
    def out(value):
        return value

    return out(draw())


@pytest.mark.parametrize("before", [False, True], ids=["imports it", "imported before"])
def test_draws_follow_the_seed(cupy, ex, drawing, before):
    """Seeds 1, 2 and 3 give three draws, and again the same, whoever imports the library."""
    if before:
        import cupy  # noqa: F401
    found = [drawing.compute(seed=seed, scheduler="synchronous") for seed in (1, 2, 3)]
    assert len(set(found)) == 3
    again = [drawing.compute(seed=n, reuse=False, scheduler="synchronous") for n in (1, 2, 3)]
    assert again == found
    assert ex.get_steps().query("Step == 'draw'")["Stochastic"].all()


@pytest.mark.filterwarnings("ignore::daskperiment.errors.NeverReusedWarning")
def test_users_generator_comes_back(cupy, drawing):
    """The generator that the user's code had goes on as if no trial had run."""
    import cupy

    cupy.random.seed(3)
    expected = [cupy.random.rand(), cupy.random.rand()]
    cupy.random.seed(3)
    found = [cupy.random.rand()]
    drawing.compute(seed=1, scheduler="synchronous")
    assert [*found, cupy.random.rand()] == expected


def test_unused_device_is_not_touched(cupy, ex):
    """A step that does not draw on a device makes no generator there, and is not stochastic."""
    import cupy

    @ex.result
    def plain():
        return 1

    plain().compute(scheduler="synchronous")
    assert cupy.random.RandomState.made == 0
    assert not ex.get_steps()["Stochastic"].any()


class Unknown:
    """A version of a library whose generators cannot be looked at."""

    def __init__(self, seeds):
        self.random = types.SimpleNamespace(set_seed=seeds.append)


def test_what_cannot_be_observed_counts_as_drawn(ex, monkeypatch):
    """Beside TensorFlow, which gets the seed, every step is taken to draw; no warning claims it."""
    seeds = []
    monkeypatch.setitem(sys.modules, "tensorflow", Unknown(seeds))

    @ex
    def plain(i):
        return i

    @ex.result
    def out(values):
        return values

    out([plain(i) for i in range(4)]).compute(scheduler="threads", seed=1)
    assert ex.get_steps()["Stochastic"].all()
    assert ex.get_steps()["Checkable"].all()
    assert len(seeds) >= 5
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_library_in_trouble_fails_no_step(ex, monkeypatch, package):
    """Where a library's generators raise, the step runs, and is taken to draw."""

    class Broken(types.ModuleType):
        def get_rng_state(self):
            raise RuntimeError("device-side assert")

    monkeypatch.setitem(sys.modules, package, Broken(package))

    @ex.result
    def plain():
        return 1

    assert plain().compute(scheduler="synchronous") == 1
    assert ex.get_steps()["Stochastic"].tolist() == [True]


def test_import_that_fails_halfway_is_passed_on(ex, tmp_path, monkeypatch):
    """A package that cannot be imported gives its own error, and the step stays seeded."""
    (tmp_path / "cupy.py").write_text("raise ImportError('no driver')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    @ex.result
    def draw():
        try:
            import cupy  # noqa: F401
        except ImportError as error:
            return str(error), random.random(), float(np.random.rand())

    first = draw().compute(seed=1, scheduler="synchronous")
    assert first[0] == "no driver"
    assert draw().compute(seed=1, scheduler="synchronous") == first


def test_missing_package_is_missing(ex):
    """A package that is not installed is not found, as without a step."""

    @ex.result
    def look():
        import importlib.util

        return [importlib.util.find_spec(name) for name in ("cupy", "no_such_package")]

    assert look().compute(scheduler="synchronous") == [None, None]


def test_one_finder_for_all_steps(ex):
    """However many steps run, one finder looks out for packages."""

    @ex.result
    def plain(i):
        return i

    for i in range(3):
        sys.modules[f"made_up_{i}"] = types.ModuleType(f"made_up_{i}")
        plain(i).compute(scheduler="synchronous")
        del sys.modules[f"made_up_{i}"]
    assert sum(isinstance(finder, ArrivalFinder) for finder in sys.meta_path) == 1


def test_step_imports_no_library(tmp_path):
    """Running a step does not import a library that has generators."""
    program = """
        import sys, pathlib, daskperiment
        ex = daskperiment.Experiment("x", backend=pathlib.Path(sys.argv[1]))
        @ex.result
        def out():
            return ex.rng.random()
        out().compute(scheduler="synchronous")
        assert not {"torch", "cupy", "tensorflow"} & sys.modules.keys()
        """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "store")]
    subprocess.run(command, check=True, timeout=60)


@pytest.mark.parametrize("numpy_fits", [True, False])
def test_torch_computes_nothing_for_steps(ex, monkeypatch, numpy_fits):
    """Whether a step drew from torch is told without a computation of torch's for each step."""
    torch = pytest.importorskip("torch")
    modes = pytest.importorskip("torch.utils._python_dispatch")
    computed = []

    class Counting(modes.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            computed.append(str(func))
            return func(*args, **(kwargs or {}))

    def unfit(tensor):
        raise RuntimeError("Numpy is not available")

    @ex
    def add(a, b):
        return a + b

    @ex
    def draw():
        return torch.rand(()).item()

    node = ex.result(lambda *values: sum(values))(draw(), *(add(1, n) for n in range(5)))
    first = node.compute(seed=1, scheduler="synchronous")
    if not numpy_fits:
        monkeypatch.setattr(torch.Tensor, "numpy", unfit)
    with Counting():
        assert node.compute(seed=1, scheduler="synchronous") == first
    assert node.compute(seed=2, scheduler="synchronous") != first
    if numpy_fits:  # that of the step, and views
        assert len({*computed} - {"aten.detach.default"}) == 2, computed
    stochastic = ex.get_steps().groupby("Step")["Stochastic"].agg(["all", "any"])
    assert stochastic.loc["draw", "all"]
    assert not stochastic.drop(index="draw")["any"].any()
