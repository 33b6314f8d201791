"""Any value that can be pickled <-> an object: bytes that are kept under their digest.

The digest is xxh3_128 of all of its bytes, where large buffers stand for their own digests. It is
not cryptographic, on purpose: it runs at the speed of memory and finds damage, no more. Anyone can
make bytes for a given digest. Trust comes from the signature alone, which covers every byte but its
own and thereby the lengths too.
"""

from __future__ import annotations

import functools
import hmac
import io
import mmap
import os
import pickle
import re
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import cloudpickle

from daskperiment.codec.buffer_digests import (
    BufferDigests,
    digest_of,
    digest_of_object,
    has_digest,
)
from daskperiment.codec.object_layout import DamageError, ObjectLayout, lay_out
from daskperiment.codec.storages import StoragePickler
from daskperiment.errors import (
    CorruptRecordError,
    OtherPythonError,
    OtherPythonWarning,
    UntrustedObjectError,
)
from daskperiment.warn import warn_user

__all__ = [
    "PYTHON",
    "Blob",
    "Buffer",
    "ObjectFile",
    "check_object",
    "checked_file",
    "digest_of",
    "dump_object",
    "load_object",
    "seal",
]

Buffer = Any
"""Something that supports the buffer protocol: bytes, memoryview, mmap."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The minor version of Python that runs here: pickled code is for that one alone."""

_OUT_OF_BAND = 512
"""Buffers smaller than this stay in the pickle, where they cost less than a part of their own."""


_Stamp = tuple[int, ...]

_RECENT = 100_000_000
"""Nanoseconds within which a second change of a file may leave its times as they are."""


class ObjectFile(mmap.mmap):
    """A private, writable memory map of an object's file.

    Reading megabytes once more takes longer than a trial. What was found to be intact is not read
    again while the file is the same by its device, inode, size and times; whoever writes into it
    changes a time that no program can set.
    """

    _stamp: _Stamp
    _intact: dict[str, _Stamp]

    @classmethod
    def of(cls, file: io.BufferedIOBase, intact: dict[str, _Stamp]) -> Buffer:
        """Map a file that is open for reading; an empty one cannot be mapped.

        `intact` is what the store knows while it is open: digest -> stamp of the intact file.
        """
        state = os.fstat(file.fileno())
        if state.st_size == 0:
            return b""  # cut off by a power failure
        data = cls(file.fileno(), 0, access=mmap.ACCESS_COPY)
        times = state.st_mtime_ns, state.st_ctime_ns
        data._stamp = (*times, state.st_size, state.st_ino, state.st_dev)
        data._intact = intact
        return data

    def has(self, digest: str) -> bool:
        """Whether the file has a digest; it is read unless that is known."""
        if self._intact.get(digest) == self._stamp:
            return True
        if not has_digest(memoryview(self), digest):
            return False
        if max(self._stamp[:2]) + _RECENT < time.time_ns():
            self._intact[digest] = self._stamp
        return True


class Blob(NamedTuple):
    """An object on its way into a store."""

    digest: str
    parts: Sequence[Buffer]
    """The object's bytes in order. Parts refer to the arrays themselves, which must not change
    before the object is written."""
    size: int


def dump_object(
    value: Any, signing_key: bytes | None = None, buffers: BufferDigests | None = None
) -> Blob:
    """Return a value pickled into an object; large buffers are referred to, never copied.

    `buffers` are digests that are known of the value's, which those found here are added to.

    Raises whatever pickling raises, if the value cannot be pickled.
    """
    apart: list[memoryview] = []

    def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _OUT_OF_BAND:
            return True
        apart.append(raw)
        return False

    stream = _pickled(value, keep_in_band)
    parts = _laid_out([stream, *apart], signing_key)
    size = sum(_size(part) for part in parts)
    return Blob(digest_of_object(parts, size, buffers), parts, size)


def _pickled(value: Any, keep_in_band: Callable[[pickle.PickleBuffer], bool]) -> bytes:
    if not hasattr(sys.modules.get("torch"), "UntypedStorage"):
        pickled: bytes = cloudpickle.dumps(value, protocol=5, buffer_callback=keep_in_band)
        return pickled
    with io.BytesIO() as file:
        StoragePickler(file, protocol=5, buffer_callback=keep_in_band).dump(value)
        return file.getvalue()


def _laid_out(contents: list[Buffer], signing_key: bytes | None) -> list[Buffer]:
    head, paddings = lay_out([_size(content) for content in contents], signing_key is not None)
    tail = [part for pair in zip(paddings, contents, strict=True) for part in pair]
    if signing_key is not None:
        head += _sign(signing_key, [head, *tail])
    return [head + tail[0], *(part for part in tail[1:] if _size(part))]


def _size(part: Buffer) -> int:
    return part.nbytes if isinstance(part, memoryview) else len(part)


def _sign(key: bytes, parts: Iterable[Buffer]) -> bytes:
    if not key:
        raise ValueError("the signing key is empty; expected a secret of some length")
    state = hmac.new(key, digestmod="sha256")
    for part in parts:
        state.update(part)
    return state.digest()


def load_object(
    data: Buffer, digest: str, signing_key: bytes | None = None, python: str | None = None
) -> Any:
    """Return the value of an object, whose bytes are checked first.

    `python` is the minor version that pickled it, if that is known. An `OtherPythonWarning` says
    that it is not the one that runs here.

    Unpickling runs code of whoever wrote the object. With a signing key, that is somebody who had
    the key; without one, anybody who could write to the store. Signed objects load without a key.

    Over data that are writable and private, as a memory map with ``ACCESS_COPY`` is, arrays are
    built without copying. Otherwise their bytes are copied once. Arrays that were writable come
    back writable either way.

    Raises
    ------
    CorruptRecordError
        If the bytes are not those that were written.
    UntrustedObjectError
        The same, and also if they were not signed, when a signing key is given. Nothing has been
        unpickled then.
    OtherPythonError
        If another version of Python compiled code that is in it: to run it can end this process.
    """
    stream, buffers = _checked(data, digest, signing_key)
    if python is not None and python != PYTHON:
        warn_user(OtherPythonWarning(
            f"The object {digest!r} was pickled by Python {python} and is loaded by {PYTHON}: what "
            f"comes out may not be what went in. Load it with Python {python}, or run its trial "
            "again with this one."
        ))  # fmt: skip
    return _unpickle(stream, buffers, digest, python or PYTHON)


def seal(name: str, parts: Iterable[Buffer], key: bytes | None) -> str | None:
    """Return what shows who wrote a file of a format, if there is a signing key."""
    return None if key is None else _sign(key, [f"format {name}\0".encode(), *parts]).hex()


def checked_file(
    data: Buffer, digest: str, name: str, given: str | None, signing_key: bytes | None = None
) -> Buffer:
    """Return the bytes of a file of a format, once they are found to be what was written.

    Parameters
    ----------
    data : buffer
    digest : str
        Of the bytes.
    name : str
        Of the format.
    given : str or None
        What `seal` returned for it.
    signing_key : bytes, optional

    Raises
    ------
    CorruptRecordError, UntrustedObjectError
        As `load_object`.
    """
    view = memoryview(data)
    view = view.cast("B") if view.nbytes else view
    try:
        if signing_key is not None:
            # What is checked must be what is read, even if the file changes in between.
            data = view = memoryview(bytes(view))
            _check_seal(view, name, given, signing_key)
        if signing_key is not None or not (isinstance(data, ObjectFile) and data.has(digest)):
            _check_digest(view, digest)
    except DamageError as error:
        raise _refusal(digest, error, signing_key) from None
    return view


def _check_seal(view: memoryview, name: str, given: str | None, key: bytes) -> None:
    if given is None:
        raise DamageError("it is not signed")
    if not hmac.compare_digest(given.encode(), (seal(name, [view], key) or "").encode()):
        raise DamageError("its signature does not fit its content and the key")


def check_object(data: Buffer, digest: str, signing_key: bytes | None = None) -> None:
    """Check an object's bytes as `load_object` does, with its errors, and unpickle nothing."""
    _checked(memoryview(data), digest, signing_key)  # every byte, whatever is known of a file


def _checked(data: Buffer, digest: str, signing_key: bytes | None) -> tuple[Buffer, list[Buffer]]:
    view = memoryview(data)
    view = view.cast("B") if view.nbytes else view
    try:
        layout = ObjectLayout.of(view)
        stream: Buffer = view[layout.contents[0]]
        if signing_key is not None:
            # What is checked must be what is unpickled, even if the file changes in between.
            stream = bytes(stream)
            _check_signature(view, stream, layout, signing_key)
        if signing_key is not None or not (isinstance(data, ObjectFile) and data.has(digest)):
            _check_digest(view, digest)
    except DamageError as error:
        raise _refusal(digest, error, signing_key) from None
    return stream, _buffers(view, layout)


def _check_signature(view: memoryview, stream: bytes, layout: ObjectLayout, key: bytes) -> None:
    if not layout.signed:
        raise DamageError("it is not signed")
    pickled = layout.contents[0]
    before, after = view[layout.body : pickled.start], view[pickled.stop :]
    covered = [view[: layout.head], before, stream, after]
    signature = view[layout.head : layout.body].tobytes()
    if not hmac.compare_digest(signature, _sign(key, covered)):
        raise DamageError("its signature does not fit its content and the key")


def _check_digest(view: memoryview, digest: str) -> None:
    if not has_digest(view, digest):
        raise DamageError(f"its bytes have the digest {digest_of([view])!r}")


def _refusal(digest: str, error: DamageError, signing_key: bytes | None) -> Exception:
    if signing_key is None:
        return CorruptRecordError(
            f"the object {digest!r} is damaged: {error}; restore it from a backup or another "
            "store, or delete it and run its trial again"
        )
    return UntrustedObjectError(
        f"the object {digest!r} is refused, because a signing key is configured and {error}; "
        "run its trial again with the key, or, if you trust all who could write to the store, "
        "load it with daskperiment.signing-key unset"
    )


def _buffers(view: memoryview, layout: ObjectLayout) -> list[Buffer]:
    buffers = [view[where] for where in layout.contents[1:]]
    return [bytearray(buffer) for buffer in buffers] if view.readonly else buffers


def _unpickle(stream: Buffer, buffers: list[Buffer], digest: str, python: str) -> Any:
    try:
        if python != PYTHON:
            return _ForeignUnpickler(io.BytesIO(stream), buffers, digest, python).load()
        if _CLASSES.search(stream) is None:
            return pickle.loads(stream, buffers=buffers)
        return _CarefulUnpickler(io.BytesIO(stream), buffers=buffers).load()
    except OtherPythonError:
        raise
    except Exception as error:
        error.add_note(
            f"This came from the object {digest!r}, whose bytes are intact. Unpickling needs the "
            "classes and packages that it was written with: install or import them and try again."
        )
        raise


_CLASSES = re.compile(b"_make_skeleton_(class|enum)")
"""What a pickle names that has classes in it, of a script or of a function."""
_LOADED: weakref.WeakSet[type] = weakref.WeakSet()
"""Classes that came out of objects."""


class _CarefulUnpickler(pickle.Unpickler):
    """Unpickles values together with their classes, and leaves the classes of this process alone.

    A class that pickle knows is given back its attributes as they were when the value was kept:
    what was set since, and each method that was edited, would be gone without a word.
    """

    def __init__(self, file: io.BytesIO, buffers: list[Buffer]) -> None:
        super().__init__(file, buffers=buffers)
        self._in_use: set[type] = set()

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module != "cloudpickle.cloudpickle":
            return found
        if name in ("_make_skeleton_class", "_make_skeleton_enum"):
            return functools.partial(self._class, found)
        return functools.partial(self._set, found) if name == "_class_setstate" else found

    def _class(self, make: Callable[..., type], *arguments: Any) -> type:
        known = getattr(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_ID", {})
        in_use = arguments[-2] in known
        cls = make(*arguments)
        if not in_use:
            _LOADED.add(cls)
        elif cls not in _LOADED:
            self._in_use.add(cls)
        return cls

    def _set(self, set_state: Callable[[type, Any], type], cls: type, state: Any) -> type:
        return cls if cls in self._in_use else set_state(cls, state)


_CODE = frozenset(
    {
        ("builtins", "code"),
        ("cloudpickle.cloudpickle", "_fill_function"),
        ("cloudpickle.cloudpickle", "_make_function"),
        ("cloudpickle.cloudpickle", "_make_skel_func"),
        ("marshal", "loads"),
        ("types", "CodeType"),
        ("types", "FunctionType"),
    }
)
"""What a pickle names before it hands over code: module and name."""


class _ForeignUnpickler(_CarefulUnpickler):
    """Unpickles what another version of Python pickled, but no code that it compiled.

    Bytecode is for one minor version alone: functions of another one do not fail, but end the
    interpreter.
    """

    def __init__(
        self, file: io.BytesIO, buffers: list[Buffer], digest: str, python: str
    ) -> None:  # fmt: skip
        super().__init__(file, buffers=buffers)
        self._digest = digest
        self._python = python

    def find_class(self, module: str, name: str) -> Any:
        # Older protocols name modules by what they were called in Python 2.
        if (module.replace("__builtin__", "builtins"), name) in _CODE:
            raise self._refusal()
        found = super().find_class(module, name)
        return self._named_type if name == "_builtin_type" else found

    def _named_type(self, name: str) -> Any:
        if name == "CodeType":
            raise self._refusal()
        return super().find_class("cloudpickle.cloudpickle", "_builtin_type")(name)

    def _refusal(self) -> OtherPythonError:
        return OtherPythonError(
            f"the object {self._digest!r} has a function in it that Python {self._python} "
            f"compiled; Python {PYTHON}, which runs here, might crash on it. Load it with Python "
            f"{self._python}, or run its trial again with this one. Functions of modules that can "
            "be imported are kept by name, and load everywhere"
        )
