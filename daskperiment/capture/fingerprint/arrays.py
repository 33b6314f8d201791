"""Encodings of arrays, tensors and data frames: NumPy, SciPy, PyTorch and pandas.

None of these is imported here, only looked up among the loaded modules: without its library there
is no such value.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from xxhash import xxh3_128

from daskperiment.capture.encoding import (
    BULK,
    Encoder,
    Handler,
    NoFingerprintError,
    by_attributes,
    by_parts,
)
from daskperiment.capture.fingerprint.python_values import encode_repr
from daskperiment.capture.origin import distribution, is_own

__all__ = ["handler_for"]

_CHUNK = 1 << 20


def handler_for(kind: type) -> Handler | None:
    """Return the handler for a type of these libraries; None for another type."""
    return _numpy(kind) or _scipy(kind) or _torch(kind) or _pandas(kind)


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
        (np.random.RandomState, by_parts(b"randomstate", lambda v: [v.get_state(legacy=False)])),
        (np.random.BitGenerator, by_parts(b"bits", lambda value: [value.state])),
    )
    if kind in (np.ndarray, np.memmap, np.matrix, np.recarray):
        return _ndarray
    return next((handler for base, handler in pairs if issubclass(kind, base)), None)


def _ndarray(encoder: Encoder, value: Any) -> None:
    """Write an array: dtype, shape, and its elements in C order, whatever its layout."""
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
                _write_items(encoder, value.ravel().tolist())
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
    encoder.out += b"%x:" % value.nbytes + state.digest()


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


def _write_items(encoder: Encoder, items: list[Any]) -> None:
    """Write a list's items; many texts are joined, which is much faster."""
    if not items or set(map(type, items)) != {str}:
        encoder.sequence(b"items", items, len(items))
        return
    encoder.tag_text(b"texts", " ".join(map(str, map(len, items))), len(items))
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
    described = value.names is not None or value.kind == "T"
    encoder.tag_text(b"dtype", repr(value) if described else value.str)


def _scalar(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"scalar")
    _write_dtype(encoder, value.dtype)
    _write_elements(encoder, sys.modules["numpy"].asarray(value))


def _masked(encoder: Encoder, value: Any) -> None:
    np: Any = sys.modules["numpy"]
    encoder.tag(b"masked")
    # What lies under the mask is not part of the value.
    _ndarray(encoder, value.filled(np.zeros((), value.dtype)[()]))
    _ndarray(encoder, np.ma.getmaskarray(value))
    _ndarray(encoder, np.asarray(value.fill_value))


def _ufunc(encoder: Encoder, value: Any) -> None:
    name = value.__name__
    for module in ("numpy", "scipy.special"):
        if getattr(sys.modules.get(module), name, None) is value:
            encoder.tag_text(b"ufunc", f"{module}.{name} {distribution(module)}")
            return
    raise NoFingerprintError(f"{value!r} was made from a function that cannot be seen")


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
        _ndarray(encoder, part)


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
    _ndarray(encoder, value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def _pandas(kind: type) -> Handler | None:
    pd: Any = sys.modules.get("pandas")
    if pd is None or not hasattr(pd, "DataFrame"):
        return None
    pairs: tuple[tuple[Any, Handler], ...] = (
        (pd.DataFrame, _frame),
        (pd.Series, _series),
        (pd.MultiIndex, _multi_index),
        (pd.RangeIndex, by_attributes(b"rangeindex", "start", "stop", "step", "name")),
        (pd.Index, _index),
        (pd.api.extensions.ExtensionArray, _column),
        (pd.CategoricalDtype, by_parts(b"categories", lambda v: [v.categories, v.ordered])),
        ((pd.api.extensions.ExtensionDtype, pd.Period), encode_repr),
        (pd.offsets.BaseOffset, _offset),
        ((pd.Timestamp, pd.Timedelta), _instant),
        ((type(pd.NA), type(pd.NaT)), encode_repr),
        (pd.Interval, by_attributes(b"interval", "left", "right", "closed")),
    )
    return next((handler for base, handler in pairs if issubclass(kind, base)), None)


def _instant(encoder: Encoder, value: Any) -> None:
    encode_repr(encoder, value)
    encoder.text(value.unit)


def _offset(encoder: Encoder, value: Any) -> None:
    """Write a date offset with what its text leaves out: holidays, hours, its normalization."""
    encode_repr(encoder, value)
    encoder.feed(value.normalize)
    # A calendar follows from the days that it was made of.
    encoder.mapping({k: v for k, v in value.kwds.items() if k != "calendar"})


def _frame(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"frame", value.shape[1])
    _write_subclass(encoder, value, "DataFrame")
    encoder.feed(value.columns)
    encoder.feed(value.index)
    for place in range(value.shape[1]):
        _column(encoder, value.iloc[:, place].array)
    encoder.feed(value.attrs)


def _series(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"series")
    _write_subclass(encoder, value, "Series")
    encoder.feed(value.name)
    encoder.feed(value.index)
    _column(encoder, value.array)
    encoder.feed(value.attrs)


def _write_subclass(encoder: Encoder, value: Any, usual: str) -> None:
    kind = type(value)
    # A subclass may behave in another way.
    encoder.text("" if kind.__qualname__ == usual else kind.__qualname__)
    if is_own(kind.__module__):
        encoder.feed(kind)
    # Where pandas lets subclasses name the attributes that they add.
    added = getattr(kind, "_metadata", ())
    for name in added if kind.__qualname__ != usual else ():
        encoder.feed(getattr(value, name, None))


def _multi_index(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"multiindex", value.nlevels)
    encoder.feed(list(value.names))
    for level in range(value.nlevels):
        _column(encoder, value.get_level_values(level).array)


def _index(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"index")
    encoder.feed(value.name)
    encoder.feed(getattr(value, "freqstr", None))
    _column(encoder, value.array)


def _column(encoder: Encoder, value: Any) -> None:
    """Write the values of a column: the type, and the data in the form that says it all."""
    pd: Any = sys.modules["pandas"]
    dtype = value.dtype
    encoder.tag_text(b"column", str(dtype), len(value))
    if isinstance(value, pd.Categorical):
        encoder.feed(value.categories)
        encoder.feed(value.ordered)
        _ndarray(encoder, value.codes)
    elif isinstance(value, pd.arrays.IntervalArray):
        encoder.feed(value.left)
        encoder.feed(value.right)
    elif isinstance(value, pd.arrays.SparseArray):
        _ndarray(encoder, value.to_dense())
    elif dtype.kind in "mM" or isinstance(value, pd.arrays.PeriodArray):
        _ndarray(encoder, value.view("i8"))
    elif isinstance(dtype, pd.api.extensions.ExtensionDtype):
        _extension(encoder, value)
    else:
        _ndarray(encoder, value.to_numpy())


def _extension(encoder: Encoder, value: Any) -> None:
    if value.dtype.kind == "O" and hasattr(value.dtype, "numpy_dtype"):
        # For a step None is not nan.
        _write_items(encoder, value.to_numpy().tolist())
        return
    missing = value.isna()
    _ndarray(encoder, missing)
    kind = getattr(value.dtype, "numpy_dtype", None)
    if getattr(kind, "kind", "O") in "biuf" and hasattr(value.dtype, "na_value"):
        _ndarray(encoder, value.to_numpy(dtype=kind, na_value=0))
    else:
        # Texts and what else there is, without the many forms of a missing value.
        _write_items(encoder, value[~missing].to_numpy(dtype=object).tolist())
