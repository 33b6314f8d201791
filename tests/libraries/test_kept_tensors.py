"""PyTorch's tensors, modules and optimizers in objects: what is kept comes back as it was."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

from daskperiment.capture.fingerprint import fingerprint
from daskperiment.codec.object_format import dump_object, load_object

torch = pytest.importorskip("torch", "2.5")
nn = torch.nn
NEWER = [name for name in ("float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64")
         if hasattr(torch, name)]  # fmt: skip


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(9, 9), nn.Linear(9, 9)
        self.second.weight = self.first.weight


def typed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ones(300).storage()


VALUES = {
    **{name: lambda name=name: torch.ones(300).to(getattr(torch, name)) for name in NEWER},
    "float": lambda: torch.arange(300.0),
    "small": lambda: torch.arange(3),
    "empty": lambda: torch.empty(0, 3),
    "number": lambda: torch.tensor(3.0),
    "bfloat16": lambda: torch.arange(300).bfloat16(),
    "boolean": lambda: torch.arange(300) > 5,
    "complex": lambda: torch.ones(300, dtype=torch.complex128).conj(),
    "transposed": lambda: torch.arange(600.0).reshape(20, 30).t(),
    "stretched": lambda: torch.ones(1).expand(100, 100),
    "part": lambda: torch.arange(1000.0)[500::2],
    "meta": lambda: torch.ones(3, device="meta"),
    "gradient": lambda: torch.ones(300, requires_grad=True),
    "parameter": lambda: nn.Parameter(torch.ones(300)),
    "sparse": lambda: torch.eye(30).to_sparse(),
    "module": lambda: nn.Linear(30, 30),
    "state": lambda: nn.LSTM(3, 30).state_dict(),
    "optimizer": lambda: torch.optim.Adam(nn.Linear(30, 30).parameters()).state_dict(),
    "tied": Tied,
    "packed": lambda: nn.utils.rnn.pack_sequence([torch.ones(300), torch.ones(3)]),
    "untyped storage": lambda: torch.arange(300).untyped_storage(),
    "typed storage": typed,
    "among arrays": lambda: {"tensor": torch.ones(300), "array": np.ones(300), "text": "x"},
}


def kept(value):
    """What comes back of a value from the bytes of its object."""
    blob = dump_object(value)
    return load_object(b"".join(map(bytes, blob.parts)), blob.digest)


@pytest.mark.parametrize("name", [*VALUES])
def test_values_come_back(name):
    """Each comes back with its type and fingerprint; new types of elements as well as old ones."""
    torch.manual_seed(0)
    value = VALUES[name]()
    found = kept(value)
    assert type(found) is type(value)
    assert fingerprint(found) == fingerprint(value)
    assert fingerprint(value) is not None


@pytest.mark.parametrize("name", NEWER)
def test_pickle_alone_does_not_have_the_newer_types(name):
    """Why storages have a way of their own: without it, what is written cannot be read."""
    stream = pickle.dumps(VALUES[name]())
    with pytest.raises(AttributeError):
        pickle.loads(stream)


def test_shared_memory_stays_shared():
    """What was one memory before is one afterwards: views, tied weights, a module's parameters."""
    base = torch.zeros(1000)
    first, second = kept([base, base[100:]])
    first[100] = 7
    assert second[0] == 7
    tied = kept(Tied())
    assert tied.first.weight is tied.second.weight
    net = nn.Linear(30, 30)
    net, optimizer = kept((net, torch.optim.SGD(net.parameters())))
    assert optimizer.param_groups[0]["params"][0] is net.weight


def test_separate_memory_stays_separate():
    """Equal tensors are not made one, nor those without elements."""
    first, second, empty, other = kept(
        [torch.zeros(1000), torch.zeros(1000), torch.empty(0), torch.empty(0)]
    )
    first.add_(1)
    assert float(second.sum()) == 0
    assert empty is not other


def test_bytes_of_tensors_stand_in_the_object_once():
    """An object is as large as its tensors, whose memory is referred to and not copied."""
    tensors = [torch.rand(100_000) for _ in range(4)]
    blob = dump_object({"all": tensors, "again": tensors[0], "part": tensors[1][5:]})
    assert blob.size < 4 * 400_000 + 5_000
    addresses = {np.frombuffer(part, np.uint8).ctypes.data for part in blob.parts if len(part)}
    assert {tensor.data_ptr() for tensor in tensors} <= addresses


def test_loaded_tensors_can_be_changed_and_the_object_cannot(ex):
    """A tensor that was loaded is writable and private: what is kept does not change with it."""
    made = ex.persist(lambda: torch.zeros(100_000))

    @ex.result
    def out(value):
        return float(value.sum())

    out(made()).compute()
    step = ex.get_steps(1)["Step"].iloc[0]
    first = ex.get_persisted(step, 1)
    first += 1
    assert float(ex.get_persisted(step, 1).sum()) == 0


def test_signed_objects(monkeypatch):
    """A signed object has its storages under the signature."""
    blob = dump_object(torch.ones(1000), b"key")
    data = bytearray(b"".join(map(bytes, blob.parts)))
    assert torch.equal(load_object(data, blob.digest, b"key"), torch.ones(1000))
    data[-1] ^= 1
    with pytest.raises(Exception, match="refused"):
        load_object(data, blob.digest, b"key")
