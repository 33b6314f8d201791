"""Tensors of every layout: equal ones have one fingerprint, others another."""

from __future__ import annotations

import pickle

import pytest

from daskperiment.capture.fingerprint import exact_fingerprint

torch = pytest.importorskip("torch", "2.5")
nn = torch.nn

# Of prototypes PyTorch says that they are some.
pytestmark = pytest.mark.filterwarnings("ignore")

PAIR = ([[1.0, 0.0], [0.0, 2.0]],)


def eye():
    return torch.tensor(*PAIR)


def per_channel(axis, scale=0.5):
    scales, zeros = torch.tensor([1.0, scale]), torch.tensor([0, 0])
    return torch.quantize_per_channel(torch.ones(2, 2), scales, zeros, axis, torch.qint8)


def nested(*lengths, **options):
    return torch.nested.nested_tensor([torch.ones(n) for n in lengths], **options)


def coo(values, size, indices=((0, 1), (0, 1))):
    return torch.sparse_coo_tensor(list(map(list, indices)), values, size)


def with_unit():
    made = torch.ones(2)
    made.unit = "m"
    return made


OTHER = {
    "dense": eye,
    "transposed": lambda: torch.arange(4.0).reshape(2, 2).T,
    "in order": lambda: torch.arange(4.0).reshape(2, 2),
    "flat": lambda: torch.arange(4.0),
    "scalar": lambda: torch.tensor(1.0),
    "one": lambda: torch.ones(1),
    "empty": lambda: torch.empty(0),
    "empty of integers": lambda: torch.empty(0, dtype=torch.int64),
    "no rows": lambda: torch.empty(0, 3),
    "no columns": lambda: torch.empty(3, 0),
    "zero": lambda: torch.tensor([0.0]),
    "negative zero": lambda: torch.tensor([-0.0]),
    **{
        str(kind): lambda kind=kind: torch.tensor([1.0, 2.0]).to(kind)
        for kind in (
            *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
            *(torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.complex128),
            *(torch.int8, torch.uint8, torch.int64, torch.bool),
        )
    },
    "conjugate": lambda: torch.tensor([1 + 2j]).conj(),
    "complex": lambda: torch.tensor([1 + 2j]),
    "imaginary parts": lambda: torch.tensor([1 + 2j, 3 + 4j]).imag,
    "negated view": lambda: torch.tensor([1 + 2j, 3 + 4j]).conj().imag,
    "coo": lambda: eye().to_sparse(),
    "coo, larger": lambda: coo([1.0, 2.0], (3, 3)),
    "coo, dense rows": lambda: torch.sparse_coo_tensor([[0, 1]], PAIR[0], (2, 2)),
    "coo, a zero kept": lambda: coo([1.0, 2.0, 0.0], (2, 2), ((0, 1, 0), (0, 1, 1))),
    "coo, empty": lambda: torch.sparse_coo_tensor(size=(2, 2)),
    "csr": lambda: eye().to_sparse_csr(),
    "csr, learnt": lambda: eye().to_sparse_csr().requires_grad_(),
    "csc": lambda: eye().to_sparse_csc(),
    "bsr": lambda: eye().to_sparse_bsr((1, 1)),
    "bsr, one block": lambda: eye().to_sparse_bsr((2, 2)),
    "bsc": lambda: eye().to_sparse_bsc((1, 1)),
    "meta": lambda: torch.ones(2, device="meta"),
    "meta, longer": lambda: torch.ones(3, device="meta"),
    "meta, learnt": lambda: torch.ones(2, device="meta", requires_grad=True),
    "ones": lambda: torch.ones(2),
    "learnt": lambda: torch.ones(2, requires_grad=True),
    "parameter": lambda: nn.Parameter(torch.ones(2)),
    "frozen parameter": lambda: nn.Parameter(torch.ones(2), requires_grad=False),
    "buffer": lambda: nn.Buffer(torch.ones(2)),
    "buffer, not kept": lambda: nn.Buffer(torch.ones(2), persistent=False),
    "with an attribute": with_unit,
    "not yet made": nn.UninitializedParameter,
    "buffer not yet made": nn.UninitializedBuffer,
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8),
    "quantized, scale": lambda: torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.qint8),
    "quantized, zero": lambda: torch.quantize_per_tensor(torch.ones(2), 1.0, 1, torch.qint8),
    "quantized, type": lambda: torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint8),
    "quantized by row": lambda: per_channel(0),
    "quantized by column": lambda: per_channel(1),
    "quantized by row, scale": lambda: per_channel(0, 0.25),
    "nested": lambda: nested(2, 3),
    "nested, order": lambda: nested(3, 2),
    "jagged": lambda: nested(2, 3, layout=torch.jagged),
    "mkldnn": lambda: torch.ones(2, 2).to_mkldnn(),
    "list": lambda: [1.0, 2.0],
    "array": lambda: torch.tensor([1.0, 2.0]).numpy(),
}
EQUAL = {
    "slice": (lambda: torch.arange(8.0).reshape(2, 4)[:, ::2], [[0.0, 2.0], [4.0, 6.0]]),
    "transposed": (lambda: torch.tensor([[0.0, 4.0], [2.0, 6.0]]).T, [[0.0, 2.0], [4.0, 6.0]]),
    "expanded": (lambda: torch.ones(1, 1).expand(2, 2), [[1.0, 1.0], [1.0, 1.0]]),
    "offset": (lambda: torch.arange(3.0)[1:], [1.0, 2.0]),
    "single of a column": (lambda: torch.arange(8.0).reshape(2, 4)[1:, 1], [5.0]),
    "single imaginary part": (lambda: torch.tensor([1 + 2j]).imag, [2.0]),
    "single negated": (lambda: torch.tensor([1 + 2j]).conj().imag, [-2.0]),
    "scalar of a view": (lambda: torch.arange(8.0)[::2][3], 6.0),
    "channels last": (
        lambda: torch.ones(1, 2, 1, 1).to(memory_format=torch.channels_last),
        [[[[1.0]], [[1.0]]]],
    ),
}


def test_no_two_are_taken_for_one_another():
    """Each has a fingerprint, the same when it is made anew, and of no other."""
    found = {name: exact_fingerprint(make()) for name, make in OTHER.items()}
    assert found == {name: exact_fingerprint(make()) for name, make in OTHER.items()}
    alike: dict[str, list[str]] = {}
    for name, each in found.items():
        alike.setdefault(each, []).append(name)
    assert [names for names in alike.values() if len(names) > 1] == []


@pytest.mark.parametrize("name", EQUAL)
def test_layout_in_memory_does_not_count(name):
    """Strides and offsets are not content: a view is what a tensor of its own is."""
    make, content = EQUAL[name]
    assert exact_fingerprint(make()) == exact_fingerprint(torch.tensor(content))
    assert exact_fingerprint(pickle.loads(pickle.dumps(make()))) == exact_fingerprint(make())


def test_a_copy_by_pickle_is_equal():
    """What travels to a worker is what it was, for all that can travel."""
    compared = 0
    for name, make in OTHER.items():
        try:
            copy = pickle.loads(pickle.dumps(make()))
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            continue  # PyTorch pickles not all of its types
        assert exact_fingerprint(copy) == exact_fingerprint(make()), name
        compared += 1
    assert compared >= 40
