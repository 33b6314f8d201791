"""Encodings of objects of any class, by what pickle would make of them: their reduction.

Not by the bytes of a pickle, which differ between equal objects, but by its parts: the function
that rebuilds the object, its arguments and the state, each written by the encoders of its own type.
What a library has under a name of its own, such as ``torch.strided``, is written by that name.
"""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from daskperiment.capture.encoding import Encoder, NoFingerprintError, combine
from daskperiment.capture.members import foreign_parts
from daskperiment.capture.origin import distribution, is_own, module_of, origin_of

__all__ = ["ObjectEncoder", "name_of", "open_state", "write_state"]

_CONTAINERS = (dict, list, set, bytearray)
_FOREIGN = ("installed", "python")
# Their objects may be large, and are known to survive a round trip.
# What their iterators have left differs with every look.
_ITERATING = ("builtins", "itertools")
_SHARED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
_KNOWN = ("torch", "sklearn", "scipy", "numpy", "pandas", "typing", "types")


def name_of(value: Any) -> str:
    """Return what stands for code that is not the user's: module, name, and package's version."""
    module, name = foreign_parts(value)
    return _versioned(module, name)


def _versioned(module: str, name: str) -> str:
    found = distribution(module) if origin_of(module) == "installed" else None
    return combine("named", module, name, *(found or ()))


def _library_name(value: Any) -> str | None:
    """Return the name under which a library has an object; None if it has none.

    A container is what is in it, whoever has it.
    """
    if isinstance(value, _CONTAINERS):
        return None
    for module in dict.fromkeys((*_lines(module_of(value)), *_lines(type(value).__module__))):
        if origin_of(module) in _FOREIGN:
            for name, item in list(vars(sys.modules.get(module, types)).items()):
                if item is value:
                    return _versioned(module, name)
    return None


def _lines(module: str | None) -> Iterator[str]:
    """Yield a module and the packages that it is in."""
    while module:
        yield module
        module = module.rpartition(".")[0]


def _reduction(value: Any) -> Any:
    reduce = copyreg.dispatch_table.get(type(value))
    try:
        return value.__reduce_ex__(4) if reduce is None else reduce(value)
    except Exception as error:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        raise NoFingerprintError(f"{name} has no fingerprint: {error}") from None


def _write_reduction(encoder: Encoder, value: Any, parts: Any) -> None:
    if isinstance(parts, str):
        # The name of a global: an object that is there once.
        module = module_of(value) or type(value).__module__
        encoder.tag_text(b"global", _versioned("" if is_own(module) else module, parts))
        encoder.feed(type(value))
        return
    build, arguments, *rest = parts
    state, items, pairs = (*rest, None, None, None)[:3]
    encoder.tag(b"object")
    encoder.feed(type(value))
    encoder.feed(build)
    encoder.feed(arguments)
    write_state(encoder, open_state(type(value), state))
    if items is not None:
        encoder.feed(list(items))
    if pairs is not None:
        encoder.mapping(dict(pairs))


def open_state(kind: type, state: Any) -> Any:
    """Return the state of an object without what follows from the rest of it."""
    if type(state) is tuple and len(state) == 2 and isinstance(state[1], dict):
        # Attributes and slots, as Python itself gives them.
        state = {**(state[0] or {}), **state[1]} if isinstance(state[0], dict | None) else state
    if type(state) is not dict or not set(map(type, state)) <= {str}:
        return state
    found = {name: item for name, item in state.items() if not _is_remembered(kind, name)}
    return _with_hooks_in_order(found) if hasattr(kind, "register_forward_hook") else found


def _with_hooks_in_order(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a torch module with hooks by order: torch counts all of a process."""
    hooks = {name: item for name, item in state.items()
             if "_hooks" in name and isinstance(item, dict)}  # fmt: skip
    ids = sorted({id for item in hooks.values() for id in item if type(id) is int})
    if not ids:
        return state
    places = {id: place for place, id in enumerate(ids)}
    ordered = {name: [(places.get(id, id), hook) for id, hook in item.items()]
               for name, item in hooks.items()}  # fmt: skip
    return {**state, **ordered}


def _is_remembered(kind: type, name: str) -> bool:
    return isinstance(getattr(kind, name, None), functools.cached_property)


def write_state(encoder: Encoder, state: Any) -> None:
    """Write the state of an object; where an attribute has no fingerprint, say which."""
    if type(state) is not dict or not set(map(type, state)) <= {str}:
        encoder.feed(state)
        return
    encoder.tag(b"state", len(state))
    for name in sorted(state):
        encoder.text(name)
        try:
            encoder.feed(state[name])
        except NoFingerprintError as error:
            raise error.within(f"its {name}") from None


class ObjectEncoder:
    """Writes objects of any class, and knows which classes keep their fingerprints.

    Whether the fingerprint is the same after a round trip through pickle is tried once for each
    class, on the first object that comes. Safe for any number of threads.
    """

    def __init__(self, digest: Callable[[Any], bytes]) -> None:
        self._digest = digest
        self._found: dict[type, str] = {}
        self._lock = threading.RLock()

    def encode(self, encoder: Encoder, value: Any) -> None:
        """Write an object by the name that it has in its library, else by its reduction."""
        kind = type(value)
        if kind is object or (hasattr(kind, "__next__") and kind.__module__ in _ITERATING):
            _write_identity(encoder, value)
            return
        named = _library_name(value)
        if named is not None:
            encoder.tag_text(b"builtin", named)
            return
        with encoder.within(value) as entered:
            if entered:
                _write_reduction(encoder, value, _reduction(value))
        if kind.__module__.partition(".")[0] not in _KNOWN:
            self._check(kind, value)

    def _check(self, kind: type, value: Any) -> None:
        with self._lock:
            if kind not in self._found:
                # What is inside of such an object may be of its class again.
                self._found[kind] = ""
                self._found[kind] = self._difference(value)
            found = self._found[kind]
        if found:
            raise NoFingerprintError(f"{kind.__module__}.{kind.__qualname__} {found}")

    def _difference(self, value: Any) -> str:
        try:
            again = _copied(value)
        except Exception as error:
            return f"cannot be pickled: {error}"
        try:
            same = self._digest(value) == self._digest(again)
        except NoFingerprintError as error:
            return f"has no fingerprint: {error.reason}"
        return "" if same else "has no fingerprint: it is another one after a round trip by pickle"


class _SharingPickler(pickle.Pickler):
    """Pickles objects without their code, which the copy shares with them."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, 4)
        self.shared: list[Any] = []

    def persistent_id(self, item: Any) -> int | None:
        if not isinstance(item, _SHARED):
            return None
        self.shared.append(item)
        return len(self.shared) - 1


class _SharingUnpickler(pickle.Unpickler):
    """Gives the copies the code that was left out."""

    def __init__(self, file: io.BytesIO, shared: list[Any]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, place: Any) -> Any:
        return self._shared[place]


def _copied(value: Any) -> Any:
    """Return what pickle makes of an object, with the same code."""
    file = io.BytesIO()
    pickler = _SharingPickler(file)
    pickler.dump(value)
    file.seek(0)
    return _SharingUnpickler(file, pickler.shared).load()


def _write_identity(encoder: Encoder, value: Any) -> None:
    """Write an object that is nothing but itself, by the names that own modules have for it."""
    names = {
        name
        for module in list(sys.modules)
        if type(value) is object and is_own(module)
        for name, item in list(getattr(sys.modules[module], "__dict__", {}).items())
        if item is value
    }
    if not names:
        kind = type(value)
        raise NoFingerprintError(f"{kind.__module__}.{kind.__qualname__} has no fingerprint")
    encoder.tag_text(b"sentinel", " ".join(sorted(names)))
