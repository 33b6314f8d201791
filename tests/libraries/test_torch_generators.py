"""torch's generators, on the processor and on devices, belong to steps as long as these run."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import traceback
from functools import partial

import pytest

from tests.helpers.draws import reusable

torch = pytest.importorskip("torch")
_utils = torch._utils

STATES = pytest.mark.parametrize(("initialized", "waits"), [
    pytest.param(True, True, id="used before"),
    pytest.param(False, True, id="untouched"),
    pytest.param(False, False, id="untouched, and torch another version"),
])  # fmt: skip


class Devices:
    """Stands for torch.cuda with two devices: the same functions, on generators of the processor.

    Like torch's, ``manual_seed_all`` waits for the initialisation, and reading a state before that
    would initialise.
    """

    def __init__(self, monkeypatch, initialized, family=torch.cuda, waits=True):
        self.generators, self.initialized = [], False
        self.waiting, self.stacks = _utils._LazySeedTracker(), 0
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
        for name in (
            "is_initialized", "manual_seed_all", "get_rng_state_all", "set_rng_state_all",
        ):  # fmt: skip
            monkeypatch.setattr(family, name, getattr(self, name))
        if waits:
            monkeypatch.setattr(family, "_lazy_call", self.call)
            monkeypatch.setattr(family, "_lazy_seed_tracker", self.waiting)
        else:
            monkeypatch.delattr(family, "_lazy_call")
        monkeypatch.setattr(family, "default_generators", self.generators, raising=False)
        monkeypatch.setattr(family, "device_count", lambda: len(self.generators))
        # Found by its name there, as a kernel would be: what steps read is no part of their code.
        monkeypatch.setattr(family, "draw", self.draw, raising=False)
        monkeypatch.setattr(family, "start", self.start, raising=False)
        if initialized:
            self.start()

    def start(self):
        """Initialise the devices."""
        self.generators += [torch.Generator(), torch.Generator()]
        for waiting in filter(None, self.waiting.get_calls()):
            waiting[0]()
        self.initialized = True

    def call(self, act, **kind):
        """Do something, or have it wait for the initialisation, with a text of the stack."""
        assert kind == {"seed_all": True}
        if self.initialized:
            act()
        else:
            self.stacks += 1
            self.waiting.queue_seed_all(act, [])

    def is_initialized(self):
        return self.initialized

    def manual_seed_all(self, seed):
        def act():
            for generator in self.generators:
                generator.manual_seed(seed)

        self.call(act, seed_all=True)

    def get_rng_state_all(self):
        assert self.initialized, "a step's begin would initialise the device"
        return [generator.get_state() for generator in self.generators]

    def set_rng_state_all(self, states):
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)

    def draw(self, device=1):
        """Draw a number on a device."""
        if not self.initialized:
            self.start()
        return float(torch.rand(1, generator=self.generators[device]))


@pytest.fixture
def results(ex):
    """Return a way to make a result of a reusable step that calls something."""
    return partial(reusable, ex)


def stochastic(ex):
    """Whether the latest run of the step drew."""
    return bool(ex.get_steps().query("Step == 'step'")["Stochastic"].iloc[-1])


@STATES
def test_draws_on_a_device_follow_the_seed(ex, results, monkeypatch, initialized, waits):
    """A step that draws on a device is stochastic: three seeds give three draws, each again."""
    Devices(monkeypatch, initialized, waits=waits)
    result = results(lambda: torch.cuda.draw())
    first = result.compute(seed=1, scheduler="synchronous")
    assert stochastic(ex)
    found = [first, *(result.compute(seed=n, scheduler="synchronous") for n in (2, 3))]
    assert len(set(found)) == 3
    again = [result.compute(seed=n, reuse=False, scheduler="synchronous") for n in (1, 2, 3)]
    assert again == found


@STATES
def test_step_that_draws_on_no_device(ex, results, monkeypatch, initialized, waits):
    """A step that leaves a device alone is not stochastic, and does not initialise it."""
    devices = Devices(monkeypatch, initialized, waits=waits)
    results(lambda: 1).compute(seed=1, scheduler="synchronous")
    assert not stochastic(ex)
    assert devices.initialized == initialized


def test_seeds_that_wait_cost_no_stack(ex, results, monkeypatch):
    """A seed that waits is changed, not given again, until the user's own code gives one."""
    devices = Devices(monkeypatch, initialized=False)
    result = results(lambda: 1)
    for seed in range(4):
        result.compute(seed=seed, reuse=False, scheduler="synchronous")
    assert devices.stacks == 1
    torch.cuda.manual_seed_all(4)
    assert devices.stacks == 2
    for seed in range(4):
        result.compute(seed=seed, reuse=False, scheduler="synchronous")
    assert devices.stacks == 3


def test_seed_of_a_step_that_seeds_itself(results, monkeypatch):
    """A step's own seed for a device holds, also where it is initialised only then."""
    devices = Devices(monkeypatch, initialized=False)

    def draw():
        torch.cuda.manual_seed_all(4)
        return torch.cuda.draw()

    found = results(draw).compute(seed=1, scheduler="synchronous")
    assert found == float(torch.rand(1, generator=torch.Generator().manual_seed(4)))
    assert devices.initialized


@pytest.mark.parametrize("built", [True, False])
def test_real_seeds_that_wait(ex, results, monkeypatch, built):
    """The real torch formats no stack for a step; without CUDA in it, not even once."""
    if torch.cuda.is_initialized():
        pytest.skip("something used the device before")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.setattr(torch.cuda, "_lazy_seed_tracker", _utils._LazySeedTracker())
    stacks = []
    monkeypatch.setattr(traceback, "format_stack", lambda *given: stacks.append(given) or [])
    result = results(lambda: 1)
    for seed in range(3):
        result.compute(seed=seed, reuse=False, scheduler="synchronous")
    assert len(stacks) == built
    waiting = [each[0].seed for each in torch.cuda._lazy_seed_tracker.get_calls() if each]
    assert waiting == [torch.initial_seed()] * built


def test_step_that_initialises_a_device_without_a_draw(ex, results, monkeypatch):
    """To initialise a device is no draw."""
    devices = Devices(monkeypatch, initialized=False)
    results(lambda: torch.cuda.start()).compute(seed=1, scheduler="synchronous")
    assert devices.initialized
    assert not stochastic(ex)


def test_users_devices_come_back(results, monkeypatch):
    """A device's generator goes on, after a trial, where the user's code left it."""
    devices = Devices(monkeypatch, initialized=True)
    devices.manual_seed_all(4)
    expected = [devices.draw(0), devices.draw(1), devices.draw(1)]
    devices.manual_seed_all(4)
    found = [devices.draw(0), devices.draw(1)]
    results(lambda: torch.cuda.draw()).compute(seed=1, scheduler="synchronous")
    assert [*found, devices.draw(1)] == expected


@pytest.mark.parametrize("by", ["the step", "the user"])
def test_users_seed_reaches_a_device_that_is_used_later(results, monkeypatch, by):
    """A seed given before a device is initialised holds for the user's code after a trial."""
    devices = Devices(monkeypatch, initialized=False)
    torch.manual_seed(4)
    results((lambda: torch.cuda.draw()) if by == "the step" else lambda: 1).compute(
        scheduler="synchronous"
    )
    expected = torch.rand(1, generator=torch.Generator().manual_seed(4))
    assert devices.draw() == float(expected)


def test_real_cuda_stays_uninitialised(ex, results):
    """The real torch.cuda is not initialised by a step, and its real functions are called."""
    if torch.cuda.is_initialized():
        pytest.skip("something used the device before")
    assert isinstance(results(lambda: torch.rand(1).item()).compute(), float)
    assert stochastic(ex)
    assert not torch.cuda.is_initialized()


def test_xpu(ex, results, monkeypatch):
    """Intel's devices are seeded, observed and restored as well."""
    devices = Devices(monkeypatch, initialized=True, family=torch.xpu)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    before = devices.get_rng_state_all()
    result = results(lambda: torch.xpu.draw())
    found = [result.compute(seed=seed, scheduler="synchronous") for seed in (1, 2, 1)]
    assert found[0] == found[2] != found[1]
    assert stochastic(ex)
    assert all(map(torch.equal, devices.get_rng_state_all(), before))


def test_mps(ex, results, monkeypatch):
    """Apple's device is seeded, observed and restored as well."""
    device = torch.Generator()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", device.get_state)
    monkeypatch.setattr(torch.mps, "set_rng_state", device.set_state)
    monkeypatch.setattr(torch.mps, "manual_seed", device.manual_seed)
    monkeypatch.setattr(
        torch.mps, "draw", lambda: float(torch.rand(1, generator=device)), raising=False
    )
    before = device.get_state()
    result = results(lambda: torch.mps.draw())
    found = [result.compute(seed=seed, scheduler="synchronous") for seed in (1, 2, 1)]
    assert found[0] == found[2] != found[1]
    assert stochastic(ex)
    assert torch.equal(device.get_state(), before)


def forked():
    with torch.random.fork_rng():
        return float(torch.rand(1))


def state_set_again():
    state = torch.get_rng_state()
    number = float(torch.rand(1))
    torch.random.set_rng_state(state)
    return number


@pytest.mark.parametrize("draw", [forked, state_set_again])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_draws_that_leave_no_trace(ex, results, draw, scheduler):
    """A step that sets the state back after its draws counts as drawing, and runs per seed."""
    result = results(draw)
    found = [result.compute(seed=seed, scheduler=scheduler) for seed in (1, 2, 3, 1)]
    assert len(set(found[:3])) == 3
    assert found[3] == found[0]
    assert stochastic(ex)


def test_draws_that_leave_no_trace_on_a_device(ex, results, monkeypatch):
    """The same on a device."""
    Devices(monkeypatch, initialized=True)

    def draw():
        states = torch.cuda.get_rng_state_all()
        number = torch.cuda.draw()
        torch.cuda.set_rng_state_all(states)
        return number

    result = results(draw)
    found = [result.compute(seed=seed, reuse=False, scheduler="synchronous") for seed in (1, 2, 1)]
    assert found[0] == found[2] != found[1]
    assert stochastic(ex)


def test_processor(ex, results):
    """The processor's generator is seeded, observed and restored."""
    torch.manual_seed(4)
    expected = torch.rand(2).tolist()
    torch.manual_seed(4)
    result = results(lambda: float(torch.rand(1)))
    found = [torch.rand(1).item()]
    draws = [result.compute(seed=n, reuse=False, scheduler="synchronous") for n in (1, 2, 1)]
    assert draws[0] == draws[2] != draws[1]
    assert stochastic(ex)
    assert [*found, torch.rand(1).item()] == expected


def test_going_on_is_no_draw(ex):
    """A step that goes on from a checkpoint, where torch is imported, draws nothing by that."""
    gone = []

    @ex.result
    def train():
        last, _ = ex.restore(default=(0, 0))
        ex.checkpoint(last + 1, last)
        if not gone:
            gone.append(1)
            raise RuntimeError("broken")
        return last

    result = train()
    with pytest.raises(RuntimeError):
        result.compute(scheduler="synchronous")
    assert result.resume(1, scheduler="synchronous") == 1
    assert not ex.get_steps(2)["Stochastic"].any()


def test_step_that_imports_torch_itself(tmp_path):
    """In a fresh process the first step that imports torch draws by its seed already."""
    program = """
        import sys, pathlib, daskperiment
        ex = daskperiment.Experiment("x", backend=pathlib.Path(sys.argv[1]) / sys.argv[2])
        @ex.result
        def draw():
            import torch
            return float(torch.rand(1))
        assert "torch" not in sys.modules
        print(draw().compute(seed=int(sys.argv[2]), scheduler="synchronous"))
        print(draw().compute(seed=int(sys.argv[2]), scheduler="synchronous"))
        assert ex.get_steps()["Stochastic"].all()
        """
    found = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(tmp_path), seed],
            check=True, timeout=120, stdout=subprocess.PIPE, text=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]  # fmt: skip
    assert found[0][0] == found[0][1]
    assert found[1][0] == found[1][1]
    assert found[0] != found[1]
