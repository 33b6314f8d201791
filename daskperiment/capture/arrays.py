"""Encodings of NumPy, SciPy and PyTorch values. None of these is imported here, only looked up."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from xxhash import xxh3_128

from daskperiment.capture.digest import BULK
from daskperiment.capture.encoding import Encoder, Handler, NoFingerprintError
from daskperiment.capture.origin import distribution

__all__ = ["encode_items", "encode_ndarray", "handler_for"]

_CHUNK = 1 << 20


def handler_for(kind: type) -> Handler | None:
    """Find the handler for a type of NumPy, SciPy or PyTorch, if they are loaded."""
    return _numpy(kind) or _scipy(kind) or _torch(kind)


def _numpy(kind: type) -> Handler | None:
    np: Any = sys.modules.get("numpy")
    if np is None or not hasattr(np, "ndarray"):
        return None
    pairs: list[tuple[Any, Handler]] = [
        (np.ma.MaskedArray, _masked),
        (np.generic, _scalar),
        (np.dtype, _dtype),
        (np.ufunc, _ufunc),
        (np.random.Generator, _generator),
        (np.random.RandomState, _random_state),
        (np.random.BitGenerator, _bit_generator),
    ]
    if kind in (np.ndarray, np.memmap, np.matrix, np.recarray):
        return encode_ndarray
    return next((handler for base, handler in pairs if issubclass(kind, base)), None)


def encode_ndarray(encoder: Encoder, value: Any) -> None:
    """Encode an array: dtype, shape, and its elements in C order, whatever its layout."""
    kind = type(value).__name__
    if kind in ("matrix", "recarray"):
        # Their operators and attributes are others than those of an array.
        encoder.tag(kind.encode())
    if value.dtype.str[0] == ">":
        # The order of bytes may change on the way through a file, the values do not.
        value = value.astype(value.dtype.newbyteorder("<"))
    encoder.tag(b"ndarray", value.ndim)
    _write_dtype(encoder, value.dtype)
    encoder.text(repr(value.shape))
    _write_elements(encoder, value)


def _write_elements(encoder: Encoder, value: Any) -> None:
    if value.dtype.names is not None:
        # Field by field: the padding between fields holds anything.
        for name in value.dtype.names:
            _write_elements(encoder, value[name])
    elif value.dtype.hasobject or value.dtype.kind == "T":
        with encoder.within(value) as entered:
            if entered:
                encode_items(encoder, value.ravel().tolist())
    else:
        _write_buffer(encoder, value)


def _write_buffer(encoder: Encoder, value: Any) -> None:
    plain = value.view(sys.modules["numpy"].ndarray)
    if plain.nbytes == 0:
        encoder.raw(b"")
    elif plain.flags.c_contiguous:
        encoder.raw(memoryview(plain.reshape(-1).view("u1")))
    elif plain.nbytes <= BULK:
        encoder.raw(plain.tobytes())
    else:
        _write_chunks(encoder, plain)


def _write_chunks(encoder: Encoder, value: Any) -> None:
    # Written so that a contiguous array of the same elements has the same encoding.
    state = xxh3_128()
    for chunk in _chunks(value):
        state.update(chunk)
    encoder.bulk += value.nbytes
    encoder.out += b"%x:" % value.nbytes
    encoder.out += state.digest()


def _chunks(value: Any) -> Iterator[Any]:
    """Give a large array's elements in C order, without a copy of the whole."""
    np: Any = sys.modules["numpy"]
    row = value.nbytes // len(value)
    if row > _CHUNK and value.ndim > 1:
        for part in value:
            yield from _chunks(part)
        return
    rows = max(1, _CHUNK // row)
    for start in range(0, len(value), rows):
        yield np.ascontiguousarray(value[start : start + rows]).reshape(-1).view("u1")


def encode_items(encoder: Encoder, items: list[Any]) -> None:
    """Encode a list's items; many texts are joined, which is much faster."""
    if not items or set(map(type, items)) != {str}:
        encoder.sequence(b"items", items, len(items))
        return
    encoder.tag(b"texts", len(items))
    encoder.text(" ".join(map(str, map(len, items))))
    encoder.text("".join(items))


def _write_dtype(encoder: Encoder, dtype: Any) -> None:
    if dtype.names is None:
        encoder.text(dtype.str if dtype.kind != "T" else repr(dtype))
        return
    encoder.tag(b"fields", len(dtype.names))
    for name in dtype.names:
        encoder.text(name)
        _write_dtype(encoder, dtype[name].base)
        encoder.text(repr(dtype[name].shape))


def _dtype(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"dtype")
    encoder.text(repr(value) if value.names is not None or value.kind == "T" else value.str)


def _scalar(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"scalar")
    _write_dtype(encoder, value.dtype)
    _write_elements(encoder, sys.modules["numpy"].asarray(value))


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
            encoder.tag(b"ufunc")
            encoder.text(f"{module}.{name} {distribution(module)}")
            return
    raise NoFingerprintError(f"{value!r} was made from a function that cannot be seen")


def _generator(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"generator")
    encoder.feed(value.bit_generator)


def _bit_generator(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"bits")
    encoder.feed(value.state)


def _random_state(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"randomstate")
    encoder.feed(value.get_state(legacy=False))


def _scipy(kind: type) -> Handler | None:
    sparse: Any = sys.modules.get("scipy.sparse")
    if sparse is None or not hasattr(sparse, "spmatrix"):
        return None
    bases = (sparse.spmatrix, getattr(sparse, "sparray", sparse.spmatrix))
    return _sparse if issubclass(kind, bases) else None


def _sparse(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"sparse")
    encoder.text(type(value).__name__)
    encoder.text(repr(value.shape))
    # Through CSR with sorted indices, so that the order in which it was filled does not matter.
    rows = value.reshape(1, -1) if value.ndim == 1 else value
    table = rows.tocsr(copy=True)
    table.sum_duplicates()
    for part in (table.indptr.astype("i8"), table.indices.astype("i8"), table.data):
        encode_ndarray(encoder, part)


def _torch(kind: type) -> Handler | None:
    torch: Any = sys.modules.get("torch")
    tensor = getattr(torch, "Tensor", None)
    return _tensor if isinstance(tensor, type) and issubclass(kind, tensor) else None


def _tensor(encoder: Encoder, value: Any) -> None:
    torch: Any = sys.modules["torch"]
    if value.layout is not torch.strided or value.is_quantized:
        raise NoFingerprintError(f"a tensor of layout {value.layout}")
    encoder.tag(b"tensor", value.dim())
    encoder.text(f"{value.dtype} {tuple(value.shape)} {value.requires_grad}")
    # As bytes: NumPy does not have all of its types, such as bfloat16.
    flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    encode_ndarray(encoder, flat.numpy())
