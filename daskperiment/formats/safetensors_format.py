"""Tensors of torch and arrays of JAX, alone or in containers, as a safetensors file.

The format is simple: the length of a header, the header, which is JSON, and the tensors' bytes. It
is written and read here without a copy of them. What the file has besides what every reader
understands stands in its metadata: which containers the tensors are in.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from daskperiment.formats.format import Buffer, Format
from daskperiment.formats.numpy_formats import array_preview, is_exact_array
from daskperiment.formats.trees import OutOfTreeError, Tree, built, top_modules
from daskperiment.records import Preview

__all__ = ["FORMATS"]

_METADATA = "__metadata__"
_FORM = "daskperiment"
_ALIGNMENT = 64
_LONGEST_HEADER = 100_000_000

_TORCH = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
    "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
    "uint16": "U16", "uint32": "U32", "uint64": "U64",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "complex64": "C64",
}  # fmt: skip
"""Name of a type, in torch and in JAX -> its name in such files."""
_NAMES = {short: name for name, short in _TORCH.items()}


def _kind(value: Any) -> str | None:
    """Return which library's array something is; None if it is none."""
    modules = top_modules(value)
    if "torch" in modules and hasattr(value, "requires_grad"):
        if not _is_plain_tensor(value):
            raise OutOfTreeError("a tensor with more to it than its elements")
        return "torch"
    if "jax" in modules and hasattr(value, "weak_type"):
        if not _is_plain_jax(value):
            raise OutOfTreeError("an array of JAX with more to it than its elements")
        return "jax"
    if "numpy" in modules and is_exact_array(value) and value.dtype.name in _TORCH:
        # In the order of C and of this machine, as the file has it.
        if not value.flags.c_contiguous or not value.dtype.isnative:
            raise OutOfTreeError("an array in another order")
        return "numpy"
    return None


def _is_plain_tensor(value: Any) -> bool:
    torch = sys.modules["torch"]
    if type(value) is not torch.Tensor or value.layout is not torch.strided:
        return False
    own = value.device.type == "cpu" and value.is_contiguous() and not value.requires_grad
    simple = own and not (value.is_conj() or value.is_neg() or value.is_quantized)
    # Older versions of torch name dimensions.
    bare = not vars(value) and not any(getattr(value, "names", ()))
    return simple and bare and _type_name(value) in _TORCH


def _is_plain_jax(value: Any) -> bool:
    simple = value.is_fully_addressable and not value.weak_type and not _is_traced(value)
    return simple and len(value.devices()) == 1 and _type_name(value) in _TORCH


def _is_traced(value: Any) -> bool:
    return type(value).__name__ != "ArrayImpl"


def _type_name(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def _bytes_of(value: Any) -> Buffer:
    """Return the memory of an array, without a copy where it is not on another device."""
    if "torch" in top_modules(value):
        torch = sys.modules["torch"]
        flat = value.detach().reshape(-1).view(torch.uint8)
        return memoryview(flat.numpy()) if flat.numel() else b""
    np: Any = sys.modules["numpy"]
    array = np.asarray(value)
    return memoryview(array.reshape(-1).view("u1")) if array.nbytes else b""


class SafetensorsFormat(Format):
    """Tensors, the state of a module, a checkpoint of such: as a safetensors file."""

    name, suffix, media = "safetensors", ".safetensors", "application/x-safetensors"
    exact = swift = mapped = True

    def takes(self, value: Any) -> bool:
        """Whether a value consists of tensors of torch or JAX, with no more to them."""
        tree = self._tree(value)
        if tree is None or not any({"torch", "jax"} & top_modules(each) for each in tree.arrays):
            return False
        return not _share_memory(tree.arrays)

    def writes(self, value: Any) -> bool:
        """Whether a value consists of tensors, or of arrays of NumPy, with no more to them."""
        tree = self._tree(value)
        return tree is not None and bool(tree.arrays) and not _share_memory(tree.arrays)

    def _tree(self, value: Any) -> Tree | None:
        if not {"torch", "jax", "numpy"} & set(sys.modules):
            return None
        try:
            return Tree(value, _kind)
        except (OutOfTreeError, TypeError, RecursionError):
            return None

    def write(self, value: Any) -> list[Buffer]:
        """Return the header, and the memory of the tensors."""
        tree = Tree(value, _kind)
        names = _unique(tree.names)
        form = {"form": tree.form, "names": names}
        header: dict[str, Any] = {_METADATA: {_FORM: json.dumps(form)}}
        parts: list[Buffer] = []
        start = 0
        # Readers in other languages want the widest types first, so that all are aligned.
        order = sorted(range(len(names)), key=lambda n: -tree.arrays[n].dtype.itemsize)
        for number in order:
            array = tree.arrays[number]
            part = _bytes_of(array)
            end = start + len(part)
            header[names[number]] = {
                "dtype": _TORCH[_type_name(array)], "shape": list(array.shape),
                "data_offsets": [start, end],
            }  # fmt: skip
            parts.append(part)
            start = end
        text = json.dumps(header).encode()
        text += b" " * (-(len(text) + 8) % _ALIGNMENT)
        return [len(text).to_bytes(8, "little") + text, *parts]

    def read(self, data: Buffer) -> Any:
        """Return the value, in the memory that is given if that can be written to."""
        file = _SafetensorsFile(data)
        text = (file.header.pop(_METADATA, None) or {}).get(_FORM)
        if text is None:
            kind = "torch" if "torch" in sys.modules else "numpy"
            return {name: file.array(kind, name) for name in file.header}
        entry = json.loads(text)
        names = entry["names"]
        return built(entry["form"], lambda kind, number: file.array(kind, names[number]))

    def preview(self, value: Any) -> Preview:
        """Return the name, type and shape of each tensor."""
        tree = Tree(value, _kind)
        if tree.form[0] in ("torch", "jax"):
            return _tensor_preview(value)
        pairs = zip(tree.names[:50], tree.arrays, strict=False)
        columns = [[name, f"{_type_name(each)} {tuple(each.shape)}"] for name, each in pairs]
        return Preview("table", columns=columns)


def _tensor_preview(value: Any) -> Preview:
    try:
        return array_preview(sys.modules["numpy"].asarray(value))
    except TypeError:  # of a type that NumPy lacks
        return Preview("array", dtype=_type_name(value), shape=list(value.shape))


def _share_memory(arrays: list[Any]) -> bool:
    """Whether some tensors are views of the same memory: what is tied would come back untied."""
    seen: set[int] = set()
    for each in arrays:
        if "torch" in top_modules(each) and each.numel():
            pointer = each.untyped_storage().data_ptr()
            if pointer in seen:
                return True
            seen.add(pointer)
    return False


def _unique(names: list[str]) -> list[str]:
    twice = len({*names, _METADATA}) <= len(names)
    return [f"{n}.{name}" for n, name in enumerate(names)] if twice else names


class _SafetensorsFile:
    """The tensors of a file, each made when it is asked for."""

    def __init__(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        length = int.from_bytes(view[:8], "little")
        if not 0 < length <= min(_LONGEST_HEADER, len(view)):
            raise ValueError(f"a header of {length} bytes in a file of {len(view)}")
        self.header: dict[str, Any] = json.loads(bytes(view[8 : 8 + length]))
        body: Any = view[8 + length :]
        self._body = memoryview(bytearray(body)) if body.readonly else body

    def array(self, kind: str, name: str) -> Any:
        """Return a tensor by its name, as an array of a library."""
        entry = self.header[name]
        start, end = entry["data_offsets"]
        make = _MAKERS[kind]
        return make(self._body[start:end], _NAMES[entry["dtype"]], entry["shape"])


def _torch_tensor(data: memoryview, name: str, shape: list[int]) -> Any:
    import torch  # noqa: PLC0415  # heavy: only where a tensor of it is loaded

    dtype = getattr(torch, name)
    if not len(data):
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=torch.uint8).view(dtype).reshape(shape)


def _numpy_array(data: memoryview, name: str, shape: list[int]) -> Any:
    import numpy as np  # noqa: PLC0415  # as above

    return np.frombuffer(data, dtype=np.dtype(name)).reshape(shape)


def _jax_array(data: memoryview, name: str, shape: list[int]) -> Any:
    import jax.numpy as jnp  # noqa: PLC0415  # as above
    import numpy as np  # noqa: PLC0415  # as above

    return jnp.array(np.frombuffer(data, dtype=jnp.dtype(name)).reshape(shape))


_MAKERS: dict[str, Callable[[memoryview, str, list[int]], Any]] = {
    "torch": _torch_tensor, "jax": _jax_array, "numpy": _numpy_array,
}  # fmt: skip

FORMATS: tuple[Format, ...] = (SafetensorsFormat(),)
