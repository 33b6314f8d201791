"""A real GPU: draws, values, changes in place. Without one all of this is skipped."""

from __future__ import annotations

import warnings

import pytest

from daskperiment.capture.fingerprint import fingerprint
from daskperiment.codec import storages
from daskperiment.codec.storages import on_host, parts_on_host
from tests.execution.test_changed_in_place import alarms, define
from tests.helpers.cuda_draws import (
    both_draws,
    cupy,
    cupy_draws,
    cupy_integers,
    dropout_draws,
    layer_draws,
    permutation_draws,
    torch_draws,
)
from tests.helpers.draws import reusable

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

nn = torch.nn


DRAWS = [
    torch_draws, dropout_draws, layer_draws, permutation_draws, cupy_draws, cupy_integers,
    both_draws,
]  # fmt: skip


@pytest.mark.parametrize("draw", DRAWS)
def test_same_seed_gives_the_same_draws_on_every_scheduler(ex, draw):
    """What a step draws on the GPU follows the seed, by threads and in processes as well."""
    result = reusable(ex, draw)
    ways = [{"scheduler": name} for name in ("synchronous", "threads", "processes")]
    found = [result.compute(seed=1, reuse=False, **way) for way in ways]
    assert found[1:] == found[:1] * 2
    other = result.compute(seed=2, reuse=False, scheduler="synchronous")
    assert other != found[0]
    assert ex.get_steps().query("Step == 'step'")["Stochastic"].all()


def test_steps_in_parallel_draw_as_alone(ex):
    """Steps that draw on the GPU at the same time, in processes, have the draws of one by one."""

    @ex
    def step(number, draw):
        return [draw() for _ in range(5)]

    @ex.result
    def out(*values):
        return list(values)

    result = out(*(step(number, torch_draws) for number in range(4)))
    alone = result.compute(seed=3, scheduler="synchronous")
    assert result.compute(seed=3, scheduler="processes", num_workers=2) == alone
    assert len({str(each) for each in alone}) == 4


def test_draws_on_a_cluster(ex, tmp_path):
    """The draws are those of a worker process, too."""
    from distributed import Client, LocalCluster

    result = reusable(ex, both_draws)
    here = result.compute(seed=1, reuse=False, scheduler="synchronous")
    with (
        LocalCluster(1, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster),
    ):
        assert result.compute(seed=1, reuse=False) == here


@pytest.mark.parametrize("draw", [torch_draws, cupy_draws])
def test_generators_of_the_user_go_on(ex, draw):
    """After a trial the user's own draws go on as if there had been none."""
    torch.cuda.manual_seed_all(4)
    cupy().random.seed(4)
    draw()
    expected = draw()
    torch.cuda.manual_seed_all(4)
    cupy().random.seed(4)
    draw()
    reusable(ex, draw).compute(seed=1, scheduler="synchronous")
    assert draw() == expected


def test_step_that_draws_nothing_is_reused_under_another_seed(ex):
    """Work on the GPU without a draw is not random."""
    runs = ex.persist(reuse=True)(lambda: torch.ones(3, device="cuda").sum())

    @ex.result
    def out(value):
        return float(value)

    out(runs()).compute(seed=1)
    assert out(runs()).compute(seed=2) == 3
    assert list(ex.get_steps(2)["Reused From"].dropna()) == [1]


def trained():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).cuda()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 3, device="cuda")).sum().backward()
    optimizer.step()
    return net, optimizer


VALUES = {
    "tensor": lambda: torch.arange(5, device="cuda"),
    "half": lambda: torch.arange(5, device="cuda").half(),
    "bfloat16": lambda: torch.arange(5, device="cuda").bfloat16(),
    "float8": lambda: torch.ones(4, device="cuda").to(torch.float8_e4m3fn),
    "complex": lambda: torch.ones(3, device="cuda", dtype=torch.complex64) * 1j,
    "parameter": lambda: nn.Parameter(torch.ones(2, device="cuda")),
    "transposed": lambda: torch.arange(6.0, device="cuda").reshape(2, 3).t(),
    "part": lambda: torch.arange(100.0, device="cuda")[10:20:2],
    "sparse": lambda: torch.eye(3, device="cuda").to_sparse(),
    "module": lambda: trained()[0],
    "state": lambda: trained()[0].state_dict(),
    "optimizer's state": lambda: trained()[1].state_dict(),
    "nested": lambda: {"a": [torch.ones(2, device="cuda"), torch.ones(2)], "b": 1},
    "generator": lambda: torch.Generator(device="cuda").manual_seed(3),
    "cupy array": lambda: cupy().arange(6.0).reshape(2, 3),
    "cupy transposed": lambda: cupy().arange(6).reshape(2, 3).T,
    "cupy half": lambda: cupy().ones(3, dtype="f2"),
}


@pytest.mark.parametrize("name", [*VALUES])
def test_values_on_the_gpu_are_kept_and_reused(ex, name):
    """A value of the GPU comes back there, with its fingerprint, and its step is not run again."""
    torch.manual_seed(0)
    make = VALUES[name]
    marks = []

    @ex.persist(reuse=True)
    def step():
        torch.manual_seed(0)
        return make()

    @ex.result
    def out(value):
        marks.append(fingerprint(value))
        return str(getattr(value, "device", "none"))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Sparse invariant checks")
        devices = [out(step()).compute(seed=1, scheduler="synchronous") for _ in range(2)]
        devices += [out(step()).compute(seed=1, reuse=False, scheduler="synchronous")]
    assert len(set(devices)) == 1
    assert marks[0] is not None
    assert len(set(marks)) == 1
    value = ex.get_persisted("step", 1)
    assert fingerprint(value) == marks[0]
    assert type(value) is type(make())
    assert list(ex.get_steps().query("Step == 'step'")["Reused From"].fillna(0)) == [0, 1, 0]


@pytest.mark.parametrize("size", [10, 1 << 22, (1 << 23) + 5])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "bfloat16", "complex64"])
def test_large_tensors_are_copied_whole(monkeypatch, size, dtype):
    """Part by part or at once, with or without a page-locked buffer, the copy is the same."""
    tensor = torch.arange(size, device="cuda").remainder(251).to(getattr(torch, dtype))
    assert torch.equal(on_host(tensor), tensor.cpu())
    assert torch.equal(on_host(tensor.reshape(1, -1)), tensor.cpu().reshape(1, -1))
    assert b"".join(part.numpy().tobytes() for part in parts_on_host(tensor)) == (
        tensor.cpu().view(torch.uint8).numpy().tobytes()
    )
    by_parts = fingerprint(tensor)
    monkeypatch.setattr(storages, "_LARGE", 1 << 40)
    assert fingerprint(tensor) == by_parts
    assert fingerprint(tensor[::2]) == fingerprint(tensor[::2].contiguous())


def test_fingerprints_tell_contents_apart():
    """Each change of a value on the GPU changes its fingerprint, in one element or in its kind."""
    base = torch.zeros(1000, device="cuda")
    found = [fingerprint(base)]
    for index in (0, 500, 999):
        other = base.clone()
        other[index] = 1
        found.append(fingerprint(other))
    found += [
        fingerprint(base.half()), fingerprint(base.reshape(10, 100)), fingerprint(base[1:]),
        fingerprint(nn.Parameter(base)),
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    assert fingerprint(torch.zeros(1000, device="cuda")) == found[0]


CHANGES = {
    "tensor": (lambda: torch.zeros(5, device="cuda"), lambda value: value.add_(1)),
    "module": (lambda: trained()[0], lambda value: value[0].weight.data.mul_(2)),
    "state": (lambda: trained()[0].state_dict(), lambda value: value["0.bias"].zero_()),
    "cupy": (lambda: cupy().zeros(5), lambda value: value.fill(1)),
}


@pytest.mark.parametrize("name", [*CHANGES])
def test_changes_in_place_are_seen(ex, name):
    """A step that changes its argument on the GPU is named."""
    made, changer, reader, both = define(ex, *CHANGES[name])
    value = made()
    result = both(changer(value), reader(value))
    (told,) = alarms(lambda: result.compute(scheduler="synchronous"))
    assert told.startswith("Step 'changer' changed in place what it was given as value.")


def test_compiled_function_is_a_step(ex):
    """What torch.compile makes of a function can be a step, and draws follow the seed there."""
    warnings.simplefilter("ignore")

    @torch.compile
    def noisy(x):
        return x + torch.rand_like(x)

    @ex
    def step():
        return noisy(torch.ones(4, device="cuda")).tolist()

    @ex.result
    def out(value):
        return value

    found = [out(step()).compute(seed=seed, scheduler="synchronous") for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_graphics_card_is_part_of_the_environment(ex):
    """The recorded environment names the card."""
    name = torch.cuda.get_device_name(0)
    assert name in ex.get_environment(category="gpu")


def test_points_are_numbers_on_the_gpu(ex):
    """A loss that is still on the GPU is a value, whatever its type."""

    @ex.result
    def train():
        for epoch, kind in enumerate((torch.float32, torch.bfloat16, torch.float16, torch.int64)):
            ex.save_metric("loss", epoch, torch.tensor([2], device="cuda", dtype=kind))
        ex.save_metric("cupy", 0, cupy().float32(1.5) * cupy().ones(()))

    train().compute(scheduler="synchronous")
    assert list(ex.load_metric("loss", 1)[1]) == [2, 2, 2, 2]
    assert list(ex.load_metric("cupy", 1)[1]) == [1.5]


def test_artifacts_from_the_gpu(ex):
    """What lives on the GPU can be saved as an artifact, and comes back equal."""
    state = trained()[0].state_dict()

    @ex.result
    def train():
        ex.save("state", state)
        ex.save("tensor", torch.arange(5, device="cuda"))

    train().compute(scheduler="synchronous")
    found = ex.load("state", 1)
    assert all(torch.equal(found[name].cpu(), state[name].cpu()) for name in state)
    assert ex.load("tensor", 1).tolist() == [0, 1, 2, 3, 4]
