"""Large buffers are read once, and an object's digest still tells every change of a byte."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import xxhash

from daskperiment.capture.fingerprint import exact_fingerprint, fingerprint
from daskperiment.codec import Blob, check_object, load_object
from daskperiment.codec import buffer_digests as module
from daskperiment.codec.buffer_digests import BufferDigests, has_digest
from daskperiment.errors import CorruptRecordError
from daskperiment.formats import as_object

MEGABYTE = 1 << 20


@dataclass
class Study:
    """A value that no format keeps."""

    scores: Any
    weights: Any


def array(size: int, seed: int = 0) -> Any:
    """Return some megabytes of noise."""
    return np.random.default_rng(seed).random(size * MEGABYTE // 8)


def tensors() -> Any:
    """Return the state of a network whose layers have odd sizes."""
    torch = pytest.importorskip("torch")
    sizes = (3 * MEGABYTE + 5, 17, 2 * MEGABYTE + 1, 9 * MEGABYTE)
    return {f"layer{n}": torch.arange(size, dtype=torch.uint8) for n, size in enumerate(sizes)}


VALUES = {
    "an array": lambda: array(3),
    "a transposed array": lambda: array(4).reshape(1024, -1).T,
    "an array of small numbers": lambda: np.arange(5 * MEGABYTE, dtype="u1"),
    "arrays in a pickle": lambda: Study(array(2), array(9, 1)),
    "the same array twice": lambda: Study(*[array(2)] * 2),
    "arrays in a dict": lambda: {"a": array(2), "b": array(3, 1)},
    "a long text": lambda: "x" * 3 * MEGABYTE,
    "many bytes": lambda: random.Random(0).randbytes(3 * MEGABYTE),
    "tensors": tensors,
}


def whole(blob: Blob) -> bytearray:
    """Return an object's bytes."""
    return bytearray(b"".join(blob.parts))


def made(value: Any, key: bytes | None = None, buffers: BufferDigests | None = None) -> Blob:
    """Return the object of a value."""
    blob = as_object(value, key, buffers)[1]
    assert blob is not None
    return blob


@pytest.mark.parametrize("name", VALUES)
def test_every_byte_counts(name: str) -> None:
    """The digest is the same whatever was known before, and no byte changes without it."""
    value = VALUES[name]()
    known = BufferDigests()
    fingerprint(value, str, known)
    blob = made(value, None, known)
    data = whole(blob)
    assert made(value).digest == blob.digest
    assert has_digest(memoryview(data), blob.digest)
    assert not has_digest(memoryview(data[:-1]), blob.digest)
    places = [0, 7, 8, 16, 40, 100, 127, 128, 200, MEGABYTE, len(data) // 2, -MEGABYTE, -65, -1]
    for place in places:
        data[place] ^= 4
        assert not has_digest(memoryview(data), blob.digest), place
        data[place] ^= 4
    assert has_digest(memoryview(data), blob.digest)


@pytest.mark.parametrize("name", VALUES)
def test_earlier_digests_are_known(name: str) -> None:
    """An object whose digest was taken of all of its bytes is still found to be intact."""
    data = whole(made(VALUES[name]()))
    assert has_digest(memoryview(data), xxhash.xxh3_128_hexdigest(data))


def test_signed_objects_are_checked() -> None:
    """With a signature before the buffers the object is the same, and still found damaged."""
    value = Study(array(2), array(3, 1))
    blob = made(value, b"key")
    data = whole(blob)
    loaded = load_object(bytes(data), blob.digest, b"key")
    np.testing.assert_array_equal(loaded.weights, value.weights)
    check_object(data, blob.digest)
    data[-5] ^= 1
    with pytest.raises(CorruptRecordError, match="its bytes have the digest"):
        check_object(data, blob.digest)


def test_headers_that_lie_are_damage() -> None:
    """Whatever a file tells of its buffers, it is digested or refused, and nothing else."""
    chance = random.Random(1)
    for name in ("an array", "arrays in a pickle", "tensors"):
        blob = made(VALUES[name]())
        data = whole(blob)
        head = bytes(data[:200])
        for _ in range(20):
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(200)] = chance.randrange(256)
            assert has_digest(memoryview(data), blob.digest) == (bytes(data[:200]) == head)
            data[:200] = head


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("name", VALUES)
def test_threads_change_nothing(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests that are taken beside are the same, in the order of the value."""
    value = VALUES[name]()
    before = fingerprint(value), exact_fingerprint(value), made(value).digest
    monkeypatch.setattr(module, "_BESIDE", MEGABYTE)
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: range(threads), raising=False)
    assert (fingerprint(value), exact_fingerprint(value), made(value).digest) == before
