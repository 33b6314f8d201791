"""Objects: bytes under their digest, arrays without copies, signatures."""

from __future__ import annotations

import mmap
import pickle
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import xxhash

from daskperiment.codec import Blob, dump_object, dump_record, load_object, load_record
from daskperiment.errors import CorruptRecordError, UntrustedObjectError
from daskperiment.records import Code, Environment

KEY = b"a secret of some length"
ENVIRONMENT = Environment({"python": {"version": "3.11"}})
ran: list[str] = []


def run_evil_code() -> None:
    ran.append("evil code")


class Evil:
    """Its pickle calls `run_evil_code` when it is loaded."""

    def __reduce__(self) -> Any:
        return run_evil_code, ()


def join(blob: Blob) -> bytes:
    """Give what a store keeps of a blob."""
    return b"".join(bytes(part) for part in blob.parts)


def private_map(path: Path, data: bytes) -> mmap.mmap:
    path.write_bytes(data)
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize(
    "value",
    [None, 1, {"a": [1, 2]}, {1, 2}, "x" * 10_000, np.float64, slice(1, 2)],
    ids=lambda value: type(value).__name__,
)
def test_values_survive(value: Any, key: bytes | None) -> None:
    """Values come back equal, signed or not."""
    blob = dump_object(value, key)
    assert load_object(join(blob), blob.digest, key) == value


def test_functions_survive() -> None:
    """A function that no module holds is kept, too."""
    step = 3
    blob = dump_object(lambda x: x + step)
    assert load_object(join(blob), blob.digest)(1) == 4


@pytest.mark.parametrize(
    "array",
    [
        np.arange(10_000.0),
        np.arange(10),
        np.zeros(0),
        np.array(5.0),
        np.asfortranarray(np.arange(10_000).reshape(100, 100)),
        np.arange(10_000)[::3],
        np.arange(10_000).reshape(100, 100)[:, 3:60],
        np.broadcast_to(np.arange(1000), (5, 1000)),
        np.zeros(1000, "i4,f8"),
        np.array(["a", None, 3.5], object),
        np.full(1000, np.datetime64("2024-01-01", "ns")),
        np.arange(3000, dtype=">u2"),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays_survive(array: Any, tmp_path: Path) -> None:
    """Arrays of any layout and dtype come back equal and writable, from bytes and from a map."""
    blob = dump_object(array)
    for data in (join(blob), private_map(tmp_path / "object", join(blob))):
        back = load_object(data, blob.digest)
        np.testing.assert_array_equal(back, array, strict=True)
        assert back.flags.writeable


def test_frames_survive() -> None:
    """A DataFrame of several blocks comes back equal, and can be written to."""
    frame = pd.DataFrame({"a": range(1000), "b": np.linspace(0, 1, 1000), "c": ["x"] * 1000})
    blob = dump_object(frame)
    back = load_object(join(blob), blob.digest)
    pd.testing.assert_frame_equal(back, frame)
    back.loc[0, "a"] = 5


def test_read_only_array_stays_read_only() -> None:
    """An array that was read-only comes back read-only, as from pickle itself."""
    array = np.arange(1000)
    array.flags.writeable = False
    blob = dump_object(array)
    assert not load_object(join(blob), blob.digest).flags.writeable


def test_dump_does_not_copy_buffers() -> None:
    """The parts of an object refer to the arrays themselves."""
    arrays = [np.arange(1000.0), np.asfortranarray(np.ones((50, 60)))]
    blob = dump_object(arrays)
    views = [np.frombuffer(part, "u1") for part in blob.parts if len(part)]
    for array in arrays:
        assert sum(np.shares_memory(array, view) for view in views) == 1


def test_load_does_not_copy_writable_buffers(tmp_path: Path) -> None:
    """Arrays are built over a writable buffer, and writing to them leaves the file alone."""
    blob = dump_object({"a": np.arange(1000.0), "b": np.ones(500)})
    whole = private_map(tmp_path / "object", join(blob))
    back = load_object(whole, blob.digest)
    for array in back.values():
        assert np.shares_memory(array, np.frombuffer(whole, "u1"))
        array[:] = -1
    assert (tmp_path / "object").read_bytes() == join(blob)


def test_load_copies_read_only_buffers() -> None:
    """From bytes, arrays are copies: writing to them changes neither the bytes nor each other."""
    blob = dump_object(np.arange(1000.0))
    data = join(blob)
    for _ in range(2):
        back = load_object(data, blob.digest)
        assert not np.shares_memory(back, np.frombuffer(data, "u1"))
        np.testing.assert_array_equal(back, np.arange(1000.0))
        back[:] = -1


@pytest.mark.parametrize("key", [None, KEY])
def test_layout(key: bytes | None) -> None:
    """Sizes add up, the digest is of all bytes, and each buffer is aligned to 64 bytes."""
    arrays = [np.full(1001, i, "u1") for i in range(1, 5)]
    blob = dump_object(arrays, key)
    data = join(blob)
    assert blob.size == len(data)
    assert blob.digest == xxhash.xxh3_128_hexdigest(data)
    assert [data.index(array.tobytes()) % 64 for array in arrays] == [0, 0, 0, 0]


def test_small_buffers_stay_in_the_pickle() -> None:
    """Many tiny arrays do not become many parts."""
    blob = dump_object([np.arange(5) for _ in range(100)])
    assert len(blob.parts) < 5


def test_unpicklable_value_raises() -> None:
    """What cannot be pickled raises pickle's own error."""
    with pytest.raises(TypeError, match="lock"):
        dump_object(threading.Lock())


def test_missing_class_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """If an intact object cannot be unpickled, the error is pickle's, with a note on top."""
    blob = dump_object(Path("a"))
    data = join(blob).replace(b"PosixPath", b"PosixMath")
    digest = xxhash.xxh3_128_hexdigest(data)
    with pytest.raises(AttributeError) as caught:
        load_object(data, digest)
    assert digest in caught.value.__notes__[0]


OBJECT = dump_object([np.arange(300.0), "text"])
SIGNED = dump_object([np.arange(300.0), "text"], KEY)


@pytest.mark.parametrize("blob", [OBJECT, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])
def test_every_changed_byte_is_noticed(blob: Blob, key: bytes | None) -> None:
    """A change of any single byte is noticed, and the message names the digest and what to do."""
    expected = CorruptRecordError if key is None else UntrustedObjectError
    data = bytearray(join(blob))
    for position in [*range(300), *range(300, len(data), 37), len(data) - 1]:
        data[position] ^= 0x21
        with pytest.raises(expected, match=f"{blob.digest}.*run its trial again"):
            load_object(bytes(data), blob.digest, key)
        data[position] ^= 0x21


@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])
def test_every_cut_is_noticed(key: bytes | None) -> None:
    """An object that is cut off anywhere, or has bytes behind it, is noticed."""
    expected = CorruptRecordError if key is None else UntrustedObjectError
    data = join(SIGNED)
    for length in [*range(300), *range(300, len(data), 37), len(data) - 1]:
        with pytest.raises(expected, match=SIGNED.digest):
            load_object(data[:length], SIGNED.digest, key)
    with pytest.raises(expected, match=SIGNED.digest):
        load_object(data + b"\0", SIGNED.digest, key)


def forge(data: bytes) -> tuple[bytes, str]:
    """Whoever can write to a store can make the digest fit: it is no secret."""
    return data, xxhash.xxh3_128_hexdigest(data)


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Evil()),
        join(dump_object(Evil())),
        join(dump_object(Evil(), b"another key")),
        join(SIGNED).replace(b"text", b"test"),
        join(SIGNED).replace(np.float64(7).tobytes(), np.float64(8).tobytes()),
        bytes(join(SIGNED)[:9]) + b"\0" + join(SIGNED)[10:],
        b"",
    ],
    ids=["pickle", "unsigned", "other key", "pickle changed", "array changed", "flag", "empty"],
)
def test_key_refuses_what_was_not_signed_with_it(data: bytes) -> None:
    """With a signing key nothing else is unpickled, even if its digest fits."""
    with pytest.raises(UntrustedObjectError, match="signing key"):
        load_object(*forge(data), KEY)
    assert ran == []


def test_unsigned_code_runs_without_a_key() -> None:
    """The test above can fail: without a key the same object runs its code."""
    load_object(*forge(join(dump_object(Evil()))))
    assert ran == ["evil code"]
    ran.clear()


def test_signature_does_not_fit_other_content() -> None:
    """The signature of one object is refused on another of the very same layout."""
    first, second = (join(dump_object(np.full(300, i), KEY)) for i in (1, 2))
    start = next(i for i in range(len(first)) if first[i] != second[i])
    mixed = second[:start] + first[start : start + 32] + second[start + 32 :]
    assert mixed not in (first, second)
    with pytest.raises(UntrustedObjectError, match="signature"):
        load_object(*forge(mixed), KEY)


def test_signature_covers_the_lengths() -> None:
    """The same bytes cut up in another way do not pass."""
    data = join(dump_object([np.zeros(640, "u1"), np.zeros(1280, "u1")], KEY))
    sizes = [msgspec.msgpack.encode(size) for size in (640, 1280)]
    swapped = data.replace(b"".join(sizes), b"".join(reversed(sizes)))
    assert swapped != data
    with pytest.raises(UntrustedObjectError, match="signature"):
        load_object(*forge(swapped), KEY)


def test_signed_object_under_another_digest_is_refused() -> None:
    """A validly signed object does not pass for another one."""
    with pytest.raises(UntrustedObjectError, match=OBJECT.digest):
        load_object(join(SIGNED), OBJECT.digest, KEY)


def test_signed_objects_load_without_a_key() -> None:
    """Someone without the key can read what was signed."""
    assert load_object(join(SIGNED), SIGNED.digest)[1] == "text"


def test_empty_key_is_refused() -> None:
    """An empty secret is no secret."""
    with pytest.raises(ValueError, match="empty"):
        dump_object(1, b"")
    with pytest.raises(ValueError, match="empty"):
        load_object(join(SIGNED), SIGNED.digest, b"")


def test_later_format_is_not_guessed_at() -> None:
    """An object of an unknown format version is refused by its number."""
    data = bytearray(join(OBJECT))
    data[8] = 2
    with pytest.raises(CorruptRecordError, match="version 2"):
        load_object(*forge(bytes(data)))


def test_shared_records_survive() -> None:
    """A record that trials share comes back equal from its object; equal ones have one digest."""
    blob = dump_record(ENVIRONMENT)
    assert blob == dump_record(Environment({"python": {"version": "3.11"}}))
    assert blob.size == len(join(blob))
    assert load_record(join(blob), blob.digest, Environment) == ENVIRONMENT
    assert load_record(memoryview(join(blob)), blob.digest, Environment) == ENVIRONMENT


def test_damaged_shared_record_is_reported() -> None:
    """A damaged shared record, or one of another type, names its digest."""
    blob = dump_record(ENVIRONMENT)
    for data in (b"", join(blob)[:-1], join(blob).replace(b"3.11", b"3.12")):
        with pytest.raises(CorruptRecordError, match=blob.digest):
            load_record(data, blob.digest, Environment)
    with pytest.raises(CorruptRecordError, match="Code"):
        load_record(join(blob), blob.digest, Code)
