"""What people return and read every week is reused, or there is a reason that is told."""

from __future__ import annotations

import json
import pickle

import pytest

import daskperiment
from daskperiment.capture.fingerprint import NoFingerprintError, exact_fingerprint, fingerprint

for _name in ("torch", "jax", "polars", "pyarrow", "xgboost", "lightgbm", "pydantic", "attrs"):
    pytest.importorskip(_name)
for _name in ("omegaconf", "PIL", "matplotlib", "networkx", "xarray"):
    pytest.importorskip(_name)

# What libraries say of one another is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")

import torch  # noqa: E402

from tests.libraries.everyday import BOTH, CONSTANTS, OUTPUTS, Net, seeded  # noqa: E402

NOT_KEPT = {"database connection": "cannot pickle"}
NO_FINGERPRINT = {
    "Figure": "nested too deeply|contain one another",
    "text stream": "has no fingerprint",
}
# A copy by pickle is another object for these, although each is what it is by its name.
NAMED = {"scipy.stats.norm", "frozen distribution", "environ", "colour map"}


def verdicts(ex, step):
    """Compute a step's result twice, and say what becomes of the step then."""

    @ex.result
    def last(value):
        return 1

    result = last(step())
    result.compute()
    result.compute()
    return ex.explain(result)[step.__name__]


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs(tmp_path, name):
    """What a step returns is reused, unless it cannot be kept: then it is said."""
    ex = daskperiment.Experiment("outputs", seed=1, backend=tmp_path)
    make = OUTPUTS[name]

    @ex.persist(reuse=True)
    def give():
        return make()

    found = verdicts(ex, give)
    if name in NOT_KEPT:
        assert NOT_KEPT[name] in found.reason
    else:
        assert found.verdict == "hit", found.reason


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants(tmp_path, name):
    """A step that reads such a value is reused, unless the value has no fingerprint."""
    ex = daskperiment.Experiment("constants", seed=1, backend=tmp_path)
    value = CONSTANTS[name]()

    @ex.persist(reuse=True)
    def read():
        return id(value) > 0

    found = verdicts(ex, read)
    if name in NO_FINGERPRINT:
        assert "value, which its code reads, has no fingerprint" in found.reason
        with pytest.raises(NoFingerprintError, match=NO_FINGERPRINT[name]):
            fingerprint(value)
    else:
        assert found.verdict == "hit", found.reason


def test_how_many():
    """Nearly all of the values of everyday work are reusable."""
    assert len(OUTPUTS) - len(NOT_KEPT) >= 54
    assert len(CONSTANTS) - len(NO_FINGERPRINT) >= 66


@pytest.mark.parametrize("name", sorted(BOTH.keys() - NAMED))
def test_copies(name):
    """A copy by pickle has the fingerprint of the original, and so has one made anew."""
    value = BOTH[name]()
    assert exact_fingerprint(pickle.loads(pickle.dumps(value))) == exact_fingerprint(value)
    assert exact_fingerprint(BOTH[name]()) == exact_fingerprint(value)


def test_in_other_processes(run_python):
    """Fingerprints are the same in processes that have another order of sets."""
    text = """
    import json, warnings
    warnings.simplefilter("ignore")
    from daskperiment.capture.fingerprint import NoFingerprintError, exact_fingerprint
    from tests.libraries.everyday import CONSTANTS
    found = {}
    for name, make in CONSTANTS.items():
        try:
            found[name] = exact_fingerprint(make())
        except NoFingerprintError:
            found[name] = None
    print(json.dumps(found))
    """
    first, second = (json.loads(run_python(text, seed)) for seed in (1, 2))
    assert first == second
    assert {name for name, known in first.items() if known is None} == set(NO_FINGERPRINT)


def test_kinds_of_tensors():
    """The same numbers in another kind of tensor are another value."""
    ones = torch.ones(2)
    values = [
        *(ones, torch.nn.Parameter(ones), torch.nn.Parameter(ones, requires_grad=False)),
        *(torch.ones(2, requires_grad=True), torch.ones(2, device="meta"), ones.half()),
        *(ones.bfloat16(), ones.reshape(2, 1), ones.to_sparse(), ones.numpy(), [1.0, 1.0]),
        torch.quantize_per_tensor(ones, 1.0, 0, torch.qint8),
        torch.nested.nested_tensor([ones]),
    ]
    assert len({fingerprint(value) for value in values}) == len(values)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices():
    """A tensor on a GPU is not its copy on the CPU."""
    ones = torch.ones(2)
    assert fingerprint(ones.cuda()) == fingerprint(torch.ones(2, device="cuda"))
    assert fingerprint(ones.cuda()) != fingerprint(ones)
    assert fingerprint(torch.nn.Linear(1, 1).cuda().state_dict()) != fingerprint(ones)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.inner.weight.data.add_(1e-7),
        lambda net: net.memory.weight_hh_l0.data.mul_(2),
        lambda net: net.inner.weight.requires_grad_(False),
        lambda net: net.eval(),
        lambda net: net.register_buffer("more", torch.ones(1)),
        lambda net: net.half(),
    ],
)
def test_what_counts_of_a_module(change):
    """Each number of a model counts, and how it is set."""
    net = seeded(Net)
    assert fingerprint(net) == fingerprint(seeded(Net))
    change(net)
    assert fingerprint(net) != fingerprint(seeded(Net))


def hooked(by):
    net = seeded(Net)
    net.register_forward_hook(lambda module, given, output: output + by)
    return net


def masked(last):
    mask = torch.tensor([True, False, last])
    return torch.masked.masked_tensor(torch.arange(3.0), mask)


def exported(width):
    return torch.export.export(seeded(lambda: torch.nn.Linear(2, width)), (torch.ones(1, 2),))


MADE = {
    # What torch counts in a process, as its hooks, is no part of what they are.
    "lazy layer": (lambda: torch.nn.LazyLinear(3), lambda: torch.nn.LazyLinear(4)),
    "hook": (lambda: hooked(1), lambda: hooked(2)),
    "masked tensor": (lambda: masked(True), lambda: masked(False)),
    "compiled": (lambda: torch.compile(seeded(Net)), lambda: torch.compile(Net())),
    "exported": (lambda: exported(2), lambda: exported(3)),
}


@pytest.mark.parametrize("name", MADE)
def test_made_twice_in_one_process(name):
    """What is made in the same way is the same, and what is made in another is another."""
    make, other = MADE[name]
    assert exact_fingerprint(make()) == exact_fingerprint(make())
    assert exact_fingerprint(make()) != exact_fingerprint(other())


def test_scripts_are_not_known():
    """What torch.jit made can be neither pickled nor told apart, and that is said."""
    with pytest.raises(NoFingerprintError):
        exact_fingerprint(torch.jit.script(seeded(Net).inner))
