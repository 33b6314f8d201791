"""Encodings of tensors: PyTorch and JAX, looked up among the loaded modules only."""

from __future__ import annotations

import sys
from typing import Any

from daskperiment.capture.encoding import Encoder, Handler
from daskperiment.capture.fingerprint.arrays import (
    encode_byte_parts,
    encode_lasting,
    encode_ndarray,
)
from daskperiment.capture.origin import is_own
from daskperiment.codec.storages import as_bytes, is_large_on_gpu, parts_on_host, untyped

__all__ = ["tensor_handler"]

_COMPRESSED = ("crow_indices", "col_indices", "ccol_indices", "row_indices")
_KINDS = ("_is_buffer", "_is_param")


def tensor_handler(kind: type) -> Handler | None:
    """Return the handler for a type of these libraries; None for another type."""
    return _torch(kind) or _jax(kind)


def _torch(kind: type) -> Handler | None:
    torch: Any = sys.modules.get("torch")
    tensor = getattr(torch, "Tensor", None)
    if isinstance(tensor, type) and issubclass(kind, tensor):
        return _tensor
    return _OTHERS.get(kind.__name__) if kind.__module__ in _MODULES else None


def _tensor(encoder: Encoder, value: Any) -> None:
    torch: Any = sys.modules["torch"]
    if torch.nn.parameter.is_lazy(value):  # has neither shape nor elements before its first use
        about = f"{type(value).__qualname__} {value.dtype} {value.device} {value.requires_grad}"
        encoder.tag_text(b"lazytensor", about)
        return
    strided = value.layout is torch.strided and not value.is_quantized and not value.is_nested
    kind = type(value)
    encoder.tag(b"tensor" if strided else b"parts", value.dim())
    shape = "" if value.is_nested else tuple(value.shape)
    about = f"{value.dtype} {shape} {value.requires_grad}"
    # Ways in which a tensor of the same elements behaves in another way.
    about += "" if kind is torch.Tensor else f" {kind.__qualname__}"
    about += "" if value.device.type == "cpu" else f" {value.device}"
    encoder.text(about)
    if is_own(kind.__module__):
        encoder.feed(kind)
    _write_attributes(encoder, value)
    if (parts := _parts_of_wrapper(value)) is not None:
        encoder.feed(parts)
        return
    value = value.detach()
    if not strided:
        _write_parts(encoder, value)
    elif value.device.type != "meta":
        _write_elements(encoder, value)


def _parts_of_wrapper(value: Any) -> list[Any] | None:
    """Return what a tensor consists of that only wraps others; None for one of its own."""
    if type(value).__module__.startswith("torch.masked."):
        return [value.get_data(), value.get_mask()]
    if value.is_nested or not hasattr(type(value), "__tensor_flatten__"):
        return None
    names, context = value.__tensor_flatten__()
    return [*(getattr(value, name) for name in names), context]


def _write_attributes(encoder: Encoder, value: Any) -> None:
    """Write what was set on a tensor, such as that it is a buffer; not the notes of libraries."""
    named = {
        name: each
        for name, each in vars(value).items()
        if name in _KINDS or not name.startswith("_")
    }
    if named:
        encoder.feed(named)


def _write_elements(encoder: Encoder, value: Any) -> None:
    torch: Any = sys.modules["torch"]
    there = value.as_subclass(torch.Tensor).resolve_conj().resolve_neg()
    if is_large_on_gpu(there):
        size = there.numel() * there.itemsize
        encode_byte_parts(encoder, size, (part.numpy() for part in parts_on_host(there)))
        return
    flat = there.cpu().contiguous().reshape(-1)
    if flat.stride() != (1,):  # a single element may keep the stride of what it was taken from
        flat = flat.clone(memory_format=torch.contiguous_format)
    # As bytes: NumPy does not have all of its types, such as bfloat16.
    encode = encode_lasting if flat.data_ptr() == value.data_ptr() else encode_ndarray
    encode(encoder, flat.view(torch.uint8).numpy())


def _write_parts(encoder: Encoder, value: Any) -> None:
    """Write a tensor of another layout: by what it is made of."""
    torch: Any = sys.modules["torch"]
    encoder.text(f"{value.layout}")
    if value.is_nested:
        encoder.feed(list(value.unbind()))
    elif value.is_quantized:
        encoder.text(f"{value.qscheme()} {_scales(value)}")
        _tensor(encoder, value.int_repr())
    elif value.layout is torch.sparse_coo:
        whole = value.coalesce()
        encoder.feed([whole.indices(), whole.values()])
    elif value.layout is getattr(torch, "_mkldnn", None):
        _tensor(encoder, value.to_dense())
    else:
        names = [name for name in _COMPRESSED if _has(value, name)]
        encoder.feed([getattr(value, name)() for name in names] + [value.values()])


def _scales(value: Any) -> str:
    if "per_tensor" in str(value.qscheme()):
        return f"{value.q_scale()} {value.q_zero_point()}"
    scales, zeros = value.q_per_channel_scales(), value.q_per_channel_zero_points()
    return f"{scales.tolist()} {zeros.tolist()} {value.q_per_channel_axis()}"


def _has(value: Any, name: str) -> bool:
    try:
        getattr(value, name)()
    except RuntimeError:
        return False
    return True


def _generator(encoder: Encoder, value: Any) -> None:
    encoder.tag_text(b"torchgenerator", str(value.device))
    _tensor(encoder, value.get_state())


def _untyped_storage(encoder: Encoder, value: Any) -> None:
    encoder.tag_text(b"torchstorage", str(value.device))
    if value.device.type != "meta":
        _tensor(encoder, as_bytes(value))


def _typed_storage(encoder: Encoder, value: Any) -> None:
    encoder.tag_text(b"torchstorage", str(value.dtype))
    _untyped_storage(encoder, untyped(value))


_MODULES = ("torch", "torch._C", "torch.storage")
_OTHERS: dict[str, Handler] = {
    "Generator": _generator,
    "UntypedStorage": _untyped_storage,
    "TypedStorage": _typed_storage,
}


def _jax(kind: type) -> Handler | None:
    jax: Any = sys.modules.get("jax")
    array = getattr(jax, "Array", None)
    known = array is not None and kind.__module__.startswith("jax") and issubclass(kind, array)
    return _jax_array if known else None


def _jax_array(encoder: Encoder, value: Any) -> None:
    jax: Any = sys.modules["jax"]
    np: Any = sys.modules["numpy"]
    platforms = sorted({device.platform for device in value.devices()})
    weak = getattr(value, "weak_type", None)
    encoder.tag_text(b"jax", f"{value.dtype} {value.shape} {weak} {platforms}")
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        encoder.text(str(jax.random.key_impl(value)))
        value = jax.random.key_data(value)
    encode_ndarray(encoder, np.asarray(value))
