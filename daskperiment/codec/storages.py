"""PyTorch's storages in objects: their bytes stand beside the pickle, as those of arrays do.

PyTorch's own pickling writes a storage with ``torch.save`` into the pickle, where its bytes are
copied several times; and what it writes for types that are newer than that way, such as
``float8``, cannot be read. Tensors, modules and optimizers name their storages, and the same one by
the same object: which tensors share one is kept.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import cloudpickle

__all__ = [
    "StoragePickler", "as_bytes", "is_large_on_gpu", "newer_tensor_of", "on_host", "parts_on_host",
    "storage_of", "typed_storage_of", "untyped",
]  # fmt: skip

_LARGE = 1 << 22
"""Bytes of a device from which on a page-locked buffer pays."""
_PART = 1 << 25
"""Bytes of that buffer."""


class StoragePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles what cloudpickle can, and storages as buffers; for processes that have PyTorch."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how a storage is made anew, and leave everything else to cloudpickle."""
        torch: Any = sys.modules["torch"]
        if isinstance(obj, torch.UntypedStorage) and obj.device.type != "meta":
            return storage_of, (pickle.PickleBuffer(_bytes_of(obj)), str(obj.device))
        if isinstance(obj, torch.storage.TypedStorage):
            return typed_storage_of, (untyped(obj), obj.dtype)
        if obj is _rebuild():
            return partial, (newer_tensor_of,)
        return super().reducer_override(obj)


def _bytes_of(storage: Any) -> Any:
    return on_host(as_bytes(storage)).numpy()


def as_bytes(storage: Any) -> Any:
    """Return a tensor of the bytes of a storage, in the same memory."""
    torch = _torch()
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def on_host(tensor: Any) -> Any:
    """Return a tensor in the processor's memory: itself, or a copy of what is on a device."""
    if not is_large_on_gpu(tensor):
        return tensor.cpu()
    torch = _torch()
    copy = torch.empty(tensor.shape, dtype=tensor.dtype)
    places = copy.view(-1).view(torch.uint8).split(_PART)
    for part, place in zip(parts_on_host(tensor), places, strict=True):
        place.copy_(part)
    return copy


def is_large_on_gpu(tensor: Any) -> bool:
    """Whether a tensor's memory is better copied by parts: see `parts_on_host`."""
    if tensor.device.type != "cuda" or tensor.layout is not _torch().strided:
        return False
    return bool(tensor.is_contiguous() and tensor.numel() * tensor.itemsize >= _LARGE)


def parts_on_host(tensor: Any) -> Iterator[Any]:
    """Yield a large tensor's bytes part by part; each part stands until the next one is asked for.

    They come by way of two page-locked buffers, to which a GPU writes several times as fast as to
    other memory: into one while the other is read.
    """
    torch = _torch()
    parts = tensor.view(-1).view(torch.uint8).split(_PART)
    try:
        buffers = [torch.empty(_PART, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
    except RuntimeError:  # the system lends no page-locked memory
        yield from (part.cpu() for part in parts)
        return
    with torch.cuda.device(tensor.device):
        under_way = _copy(parts[0], buffers[0])
        for number in range(len(parts)):
            done, filled = under_way
            if number + 1 < len(parts):
                under_way = _copy(parts[number + 1], buffers[(number + 1) % 2])
            done.synchronize()
            yield filled


def _copy(part: Any, buffer: Any) -> tuple[Any, Any]:
    """Begin a copy; return what tells its end, and where it goes."""
    filled = buffer[: part.numel()]
    filled.copy_(part, non_blocking=True)
    done = _torch().cuda.Event()
    done.record()
    return done, filled


def storage_of(data: Any, device: str) -> Any:
    """Return a storage over these bytes; one of a device has a copy of them."""
    torch = _torch()
    size = memoryview(data).nbytes
    if not size:
        return torch.UntypedStorage(0, device=device)
    if memoryview(data).readonly:
        data = bytearray(data)
    return torch.frombuffer(data, dtype=torch.uint8).to(device).untyped_storage()


def untyped(storage: Any) -> Any:
    """Return what a typed storage has its bytes in; the public way to it warns."""
    return vars(storage)["_untyped_storage"]


def typed_storage_of(storage: Any, dtype: Any) -> Any:
    """Return a storage that knows the type of its elements, as tensors are rebuilt from."""
    return _torch().storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


def newer_tensor_of(storage: Any, *about: Any) -> Any:
    """Return a tensor of a newer type, whose rebuilding asks for the storage that `about` types."""
    return _rebuild()(typed_storage_of(storage, _torch().uint8), *about)


def _rebuild() -> Any:
    """Return PyTorch's function for tensors of newer types, None where there are none."""
    return getattr(sys.modules["torch._utils"], "_rebuild_tensor_v3", None)


def _torch() -> Any:
    import torch  # noqa: PLC0415  # whoever loads a tensor has it

    return torch
