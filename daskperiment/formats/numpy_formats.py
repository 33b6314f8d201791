"""Arrays of NumPy: one in an npy file, and containers of some in an npz file."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from functools import lru_cache
from typing import Any

from daskperiment.formats.format import Buffer, Format
from daskperiment.formats.trees import OutOfTreeError, Tree, built
from daskperiment.records import Preview

__all__ = ["FORMATS", "array_of", "array_preview", "is_exact_array"]

_ALIGNMENT = 64
_SAMPLE = 1 << 15
"""Elements that the statistics of a preview are made of, at most."""
_RUN = 8
"""So many of them stand side by side in large arrays."""
_TREE = "daskperiment.json"
_STATISTICS = ("min", "mean", "max")


def is_exact_array(value: Any) -> bool:
    """Whether an npy file keeps an array with all that it is."""
    np: Any = sys.modules.get("numpy")
    if np is None or type(value) is not np.ndarray:
        return False
    dtype = value.dtype
    if dtype.hasobject or dtype.kind == "T" or dtype.metadata is not None:
        return False
    descr = np.lib.format.dtype_to_descr(dtype) if dtype.names else dtype.str
    return bool(np.lib.format.descr_to_dtype(descr) == dtype) if dtype.kind == "V" else True


def array_preview(value: Any) -> Preview:
    """Return shape, type and statistics of an array."""
    np: Any = sys.modules["numpy"]
    stats: dict[str, str] = {}
    if value.dtype.kind in "iufb" and value.size:
        flat = value.reshape(-1) if value.flags.c_contiguous else value.ravel("K")
        step = -(-flat.size // _SAMPLE)
        if step > _RUN:
            # Some at a time, for as many looks into memory: each costs more than all figures of it.
            runs = flat[: flat.size // (step * _RUN) * step * _RUN].reshape(-1, step * _RUN)
            sample, of = runs[:, :_RUN].reshape(-1), f"{_RUN} of every {step * _RUN} elements"
        else:
            # Copied, as each figure would walk through all of the memory.
            sample, of = np.ascontiguousarray(flat[::step]), f"every {step}th element"
        with np.errstate(all="ignore"):
            stats = {name: f"{getattr(np, name)(sample):.6g}" for name in _STATISTICS}
            if value.dtype.kind == "f":
                stats["nan"] = str(int(np.isnan(sample).sum()))
        if step > 1:
            stats["of"] = of
    return Preview("array", dtype=str(value.dtype), shape=list(value.shape), stats=stats)


class NpyFormat(Format):
    """An array, as an npy file."""

    name, suffix, media = "npy", ".npy", "application/x-npy"
    exact = swift = mapped = True

    def takes(self, value: Any) -> bool:
        """Whether it is an array without Python objects."""
        return is_exact_array(value)

    def writes(self, value: Any) -> bool:
        """Whether NumPy makes an array of it that has no Python objects."""
        try:
            return is_exact_array(sys.modules["numpy"].asarray(value))
        except Exception:  # whatever a class's __array__ raises
            return False

    def write(self, value: Any) -> list[Buffer]:
        """Return the header, and the array's own memory."""
        np: Any = sys.modules["numpy"]
        array = np.asarray(value)
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        ordered = array.T if fortran else np.ascontiguousarray(array).reshape(array.shape)
        header = io.BytesIO()
        np.lib.format.write_array_header_2_0(header, {
            "descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": bool(fortran),
            "shape": array.shape,
        })  # fmt: skip
        data = ordered.reshape(-1).view("u1") if array.nbytes else b""
        return [header.getvalue(), *([memoryview(data)] if array.nbytes else [])]

    def read(self, data: Buffer) -> Any:
        """Return the array, in the memory that is given if that can be written to."""
        return array_of(data)

    def preview(self, value: Any) -> Preview:
        """Return shape, type and statistics."""
        return array_preview(sys.modules["numpy"].asarray(value))


def array_of(data: Buffer) -> Any:
    """Return the array of an npy file; no object in it is unpickled."""
    import numpy as np  # noqa: PLC0415  # here the library may be needed for the first time

    view = memoryview(data).cast("B")
    first = bytes(view[:12])
    length = first[8:10] if first[6:7] == b"\x01" else first[8:12]
    longest = 8 + len(length) + int.from_bytes(length, "little")
    shape, fortran, dtype, size = _header_of(bytes(view[: min(longest, 1 << 16)]))
    if dtype.hasobject:
        raise ValueError("the file has pickled objects in it, which are not loaded")
    body: Any = view[size:]
    body = bytearray(body) if body.readonly else body
    return np.ndarray(shape, dtype, body, order="F" if fortran else "C")


@lru_cache(maxsize=64)
def _header_of(head: bytes) -> tuple[Any, bool, Any, int]:
    """Return shape, order, type and the header's own size: to read it takes longer than a hit."""
    np: Any = sys.modules["numpy"]
    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    read = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
    return (*read(file), file.tell())


def _kind(value: Any) -> str | None:
    if is_exact_array(value):
        return "array"
    if isinstance(value, _arrays()):
        raise OutOfTreeError(f"an array of {type(value)!r}")
    return None


def _arrays() -> tuple[type, ...]:
    np: Any = sys.modules.get("numpy")
    return () if np is None else (np.ndarray,)


class NpzFormat(Format):
    """Containers of arrays and plain values, and sparse matrices, as an npz file."""

    name, suffix, media = "npz", ".npz", "application/x-npz"
    exact = True

    def takes(self, value: Any) -> bool:
        """Whether a value consists of plain values and of one array at least."""
        try:
            return bool(Tree(value, _kind).arrays)
        except (OutOfTreeError, TypeError, RecursionError):
            return False

    def write(self, value: Any) -> bytes:
        """Return an archive with a file for each array, and one that says how they hang together.

        It is the same for equal values.
        """
        tree, target = Tree(value, _kind), io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name, array in zip(_names(tree), tree.arrays, strict=True):
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                    for part in _NPY.write(array):
                        file.write(part)
            entry = {"form": tree.form, "names": _names(tree)}
            archive.writestr(zipfile.ZipInfo(_TREE), json.dumps(entry))
        return target.getvalue()

    def read(self, data: Buffer) -> Any:
        """Return the value."""
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entry = json.loads(archive.read(_TREE))
            names = entry["names"]
            return built(
                entry["form"], lambda _, n: array_of(bytearray(archive.read(f"{names[n]}.npy")))
            )

    def preview(self, value: Any) -> Preview:
        """Return the name, type and shape of each array."""
        tree = Tree(value, _kind)
        pairs = list(zip(tree.names, tree.arrays, strict=True))
        columns = [[name, f"{each.dtype} {each.shape}"] for name, each in pairs[:50]]
        return Preview("table", columns=columns)


def _names(tree: Tree) -> list[str]:
    """Return a name for each array that no other has, and that is a name everywhere."""
    plain = [name.replace("/", "_").replace("\\", "_")[:100] for name in tree.names]
    twice = len(set(plain)) < len(plain)
    return [f"{n}_{name}" for n, name in enumerate(plain)] if twice else plain


_NPY = NpyFormat()

FORMATS: tuple[Format, ...] = (_NPY, NpzFormat())
