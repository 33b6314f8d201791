"""Encodings of arrays: NumPy and SciPy.

Neither is imported here, only looked up among the loaded modules: without its library there is no
such value.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from xxhash import xxh3_128

from daskperiment.capture.encoding import (
    BULK,
    Encoder,
    Handler,
    NoFingerprintError,
    by_parts,
)
from daskperiment.capture.members import wrapped_by
from daskperiment.capture.origin import distribution

__all__ = [
    "array_handler",
    "encode_byte_parts",
    "encode_lasting",
    "encode_ndarray",
    "spaced",
    "write_items",
    "write_texts",
]

_CHUNK = 1 << 20
_EXTENDED = 63
"""Bits after the point of floats that have ten bytes, and stand in twelve or sixteen."""


def array_handler(kind: type) -> Handler | None:
    """Return the handler for a type of these libraries; None for another type."""
    return _numpy(kind) or _scipy(kind)


def _numpy(kind: type) -> Handler | None:
    np: Any = sys.modules.get("numpy")
    if np is None or not hasattr(np, "ndarray"):
        return None
    # Most particular first, here and below: a masked array is an array, too.
    pairs: tuple[tuple[Any, Handler], ...] = (
        (np.ma.MaskedArray, _masked),
        (np.generic, _scalar),
        (np.dtype, _dtype),
        (np.ufunc, _ufunc),
        (np.random.Generator, by_parts(b"generator", lambda value: [value.bit_generator])),
        (np.random.RandomState, _random_state),
        (np.random.BitGenerator, by_parts(b"bits", _bits)),
    )
    if kind in (np.ndarray, np.memmap, np.matrix, np.recarray):
        return encode_lasting
    return next((handler for base, handler in pairs if issubclass(kind, base)), None)


def _bits(value: Any) -> list[Any]:
    # How many were spawned of it decides which come next.
    spawned = getattr(getattr(value, "seed_seq", None), "n_children_spawned", 0)
    return [value.state, spawned] if spawned else [value.state]


def _random_state(encoder: Encoder, value: Any) -> None:
    if value is getattr(sys.modules["numpy"].random.mtrand, "_rand", None):
        # The one that all share: a step that draws from it is noticed, and its seed counts.
        encoder.tag(b"globalrandomstate")
        return
    encoder.tag(b"randomstate")
    encoder.feed(value.get_state(legacy=False))


def encode_lasting(encoder: Encoder, value: Any) -> None:
    """Write an array that is there as long as what is encoded; as `encode_ndarray`."""
    if value.nbytes <= BULK or not value.flags.c_contiguous or value.dtype.str[0] == ">":
        encode_ndarray(encoder, value)
    else:
        _encode(encoder, value, encoder.lasting)


def encode_ndarray(encoder: Encoder, value: Any) -> None:
    """Write an array: dtype, shape, and its elements in C order, whatever its layout."""
    if value.dtype.str[0] == ">":
        # The order of bytes may change on the way through a file, the values do not.
        value = value.astype(value.dtype.newbyteorder("<"))
    _encode(encoder, value, encoder.raw)


def _encode(encoder: Encoder, value: Any, write: Callable[[memoryview], None]) -> None:
    kind = type(value).__name__
    if kind in ("matrix", "recarray"):
        # Their operators and attributes are others than those of an array.
        encoder.tag(kind.encode())
    encoder.tag(b"ndarray", value.ndim)
    _write_dtype(encoder, value.dtype)
    encoder.text(repr(value.shape))
    _write_elements(encoder, value, write)


def encode_byte_parts(encoder: Encoder, size: int, parts: Iterable[Any]) -> None:
    """Write many bytes that come part by part, as an array of all of them is written."""
    encoder.tag(b"ndarray", 1)
    _write_dtype(encoder, sys.modules["numpy"].dtype("u1"))
    encoder.text(repr((size,)))
    _write_digest(encoder, size, parts)


def _write_elements(encoder: Encoder, value: Any, write: Callable[[memoryview], None]) -> None:
    if value.dtype.names is not None:
        # Field by field: the padding between fields holds anything.
        for name in value.dtype.names:
            _write_elements(encoder, value[name], encoder.raw)
    elif value.dtype.hasobject or value.dtype.kind == "T":
        with encoder.within(value) as entered:
            if entered:
                write_items(encoder, value.ravel().tolist())
    elif value.dtype.char in "gG":
        _write_buffer(encoder, _without_padding(value), encoder.raw)
    else:
        _write_buffer(encoder, value, write)


def _without_padding(value: Any) -> Any:
    """Return a copy of the longest floats; the bytes between them, which hold anything, are 0."""
    np: Any = sys.modules["numpy"]
    kind = np.finfo(np.longdouble)
    copy = np.array(value, order="C")
    if kind.nmant == _EXTENDED:
        copy.reshape(-1).view("u1").reshape(-1, kind.dtype.itemsize)[:, 10:] = 0
    return copy


def _write_buffer(encoder: Encoder, value: Any, write: Callable[[memoryview], None]) -> None:
    plain = value.view(sys.modules["numpy"].ndarray)
    if plain.nbytes == 0:
        encoder.raw(b"")
    elif plain.flags.c_contiguous:
        write(memoryview(plain.reshape(-1).view("u1")))
    elif plain.nbytes <= BULK:
        encoder.raw(plain.tobytes())
    else:
        _write_chunks(encoder, plain)


def _write_chunks(encoder: Encoder, value: Any) -> None:
    # Written so that a contiguous array of the same elements has the same encoding.
    _write_digest(encoder, value.nbytes, _chunks(value))


def _write_digest(encoder: Encoder, size: int, parts: Iterable[Any]) -> None:
    state = xxh3_128()
    for part in parts:
        state.update(part)
    encoder.out += b"%x:" % size + state.digest()


def _chunks(value: Any) -> Iterator[Any]:
    """Yield a large array's elements in C order, without a copy of the whole."""
    np: Any = sys.modules["numpy"]
    row = value.nbytes // len(value)
    if row > _CHUNK and value.ndim > 1:
        for part in value:
            yield from _chunks(part)
        return
    rows = max(1, _CHUNK // row)
    for start in range(0, len(value), rows):
        yield np.ascontiguousarray(value[start : start + rows]).reshape(-1).view("u1")


def write_items(encoder: Encoder, items: list[Any]) -> None:
    """Write a list's items; many texts are joined, which is much faster."""
    if not items or set(map(type, items)) != {str}:
        encoder.sequence(b"items", items, len(items))
        return
    lengths = spaced(list(map(len, items)))
    write_texts(encoder, lengths, len(items), "".join(items).encode("utf-8", "surrogatepass"))


def write_texts(encoder: Encoder, lengths: str, count: int, data: Any) -> None:
    """Write one text or more, joined in UTF-8, with how many characters each has."""
    encoder.tag_text(b"texts", lengths, count)
    encoder.raw(data)


def spaced(numbers: list[int]) -> str:
    """Return the text of numbers with spaces between them."""
    # The text of a list is made faster than those of its items.
    return str(numbers)[1:-1].replace(",", "")


def _write_dtype(encoder: Encoder, dtype: Any) -> None:
    if dtype.names is None:
        encoder.text(_dtype_text(dtype))
        return
    encoder.tag(b"fields", len(dtype.names))
    for name in dtype.names:
        encoder.text(name)
        _write_dtype(encoder, dtype[name].base)
        encoder.text(repr(dtype[name].shape))


def _dtype_text(dtype: Any) -> str:
    # The types that libraries add, such as bfloat16, all have the code of raw bytes.
    described = dtype.names is not None or dtype.kind == "T" or dtype.isbuiltin == 2
    return repr(dtype) if described else str(dtype.str)


def _dtype(encoder: Encoder, value: Any) -> None:
    encoder.tag_text(b"dtype", _dtype_text(value))


def _scalar(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"scalar")
    _write_dtype(encoder, value.dtype)
    _write_elements(encoder, sys.modules["numpy"].asarray(value), encoder.raw)


def _masked(encoder: Encoder, value: Any) -> None:
    np: Any = sys.modules["numpy"]
    encoder.tag(b"masked")
    # What lies under the mask is not part of the value.
    encode_ndarray(encoder, value.filled(np.zeros((), value.dtype)[()]))
    encode_ndarray(encoder, np.ma.getmaskarray(value))
    encode_ndarray(encoder, np.asarray(value.fill_value))


def _ufunc(encoder: Encoder, value: Any) -> None:
    name = value.__name__
    for module in ("numpy", "scipy.special"):
        if getattr(sys.modules.get(module), name, None) is value:
            encoder.tag_text(b"ufunc", f"{module}.{name} {distribution(module)}")
            return
    inner = wrapped_by(value)
    if inner is None:
        raise NoFingerprintError(f"{value!r} was made from a function that cannot be seen")
    encoder.tag_text(b"ufunc of", f"{value.nin} {value.nout}")
    encoder.feed(value.identity)
    encoder.feed(inner)


def _scipy(kind: type) -> Handler | None:
    sparse: Any = sys.modules.get("scipy.sparse")
    if sparse is None or not hasattr(sparse, "spmatrix"):
        return None
    bases = (sparse.spmatrix, getattr(sparse, "sparray", sparse.spmatrix))
    return _sparse if issubclass(kind, bases) else None


def _sparse(encoder: Encoder, value: Any) -> None:
    encoder.tag_text(b"sparse", type(value).__name__)
    encoder.text(repr(value.shape))
    # Through CSR with sorted indices, so that the order in which it was filled does not matter.
    table = (value.reshape(1, -1) if value.ndim == 1 else value).tocsr(copy=True)
    table.sum_duplicates()
    for part in (table.indptr.astype("i8"), table.indices.astype("i8"), table.data):
        encode_ndarray(encoder, part)
