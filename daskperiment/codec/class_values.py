"""Values of the user's own plain classes: members of enums, named tuples, dataclasses.

A record names their class by module and qualified name, and has their fields. Looking at one
imports nothing: where the class is not loaded, or is another by now, a `NamedValue` shows it. Only
loading imports the module.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

from daskperiment.errors import PersistedResultNotFoundError

__all__ = ["NamedValue", "build_named", "import_named", "named", "reduce_named"]

_CONTAINERS: dict[type, Callable[[Any], Any]] = {
    list: list, tuple: tuple, set: set, frozenset: frozenset,
}  # fmt: skip
_REDUCING = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__",
             "__getnewargs_ex__")  # fmt: skip
_DEEPEST = 100


class NamedValue:
    """A value by the name of its class, as a record has it: nothing is imported for it.

    Attributes
    ----------
    module, name : str
        Of its class, the name within the module.
    state : str or dict
        Name of an enum's member, or the fields by name.
    """

    __slots__ = ("module", "name", "state")

    def __init__(self, module: str, name: str, state: str | Mapping[str, Any]) -> None:
        self.module, self.name, self.state = module, name, state

    def load(self) -> Any:
        """Import the class and return the value.

        Raises
        ------
        PersistedResultNotFoundError
            If the class cannot be imported, or has other members or fields now.
        """
        try:
            import_module(self.module)
        except Exception as error:  # whatever a module of the user's own raises
            raise self._lost(f"its module cannot be imported: {error}") from error
        found = build_named([self.module, self.name, self.state])
        if isinstance(found, NamedValue):
            raise self._lost("the class is not there any more, or has other members or fields")
        return found

    def _lost(self, why: str) -> PersistedResultNotFoundError:
        return PersistedResultNotFoundError(
            f"the value {self!r} is of the class {self.module}.{self.name}, and {why}"
        )

    def __repr__(self) -> str:
        if isinstance(self.state, str):
            return f"{self.name}.{self.state}"
        return f"{self.name}({', '.join(f'{n}={value!r}' for n, value in self.state.items())})"

    def __eq__(self, other: object) -> bool:
        return self._what == other._what if isinstance(other, NamedValue) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.module, self.name, repr(self.state)))

    @property
    def _what(self) -> tuple[Any, ...]:
        return self.module, self.name, self.state


def named(value: Any, depth: int = _DEEPEST) -> Any:
    """Return a value in which those of plain classes stand by name, at any depth.

    The value itself where there is none in it.
    """
    kind = type(value)
    if not depth or (kind.__module__ == "builtins" and kind not in (*_CONTAINERS, dict)):
        return value
    if kind is dict:
        return {named(key, depth - 1): named(each, depth - 1) for key, each in value.items()}
    if kind in _CONTAINERS:
        return _CONTAINERS[kind](named(each, depth - 1) for each in value)
    state = _state_of(value, kind)
    if state is None or _found(kind.__module__, kind.__qualname__) is not kind:
        return value
    if isinstance(state, dict):
        state = {name: named(each, depth - 1) for name, each in state.items()}
    return NamedValue(kind.__module__, kind.__qualname__, state)


def _state_of(value: Any, kind: Any) -> str | dict[str, Any] | None:
    """Return all that a value of a plain class is made of; None for other classes."""
    if isinstance(value, enum.Enum):
        return value.name if kind.__members__.get(value.name) is value else None
    if _is_named_tuple(kind):
        return dict(zip(kind._fields, value, strict=True))
    if not _is_plain_dataclass(kind):
        return None
    names = [each.name for each in fields(kind)]
    if not set(getattr(value, "__dict__", names)) <= set(names):
        return None  # more was set on it than the class declares
    try:
        return {name: getattr(value, name) for name in names}
    except AttributeError:
        return None


def _is_plain_dataclass(kind: Any) -> bool:
    """Whether objects of a class are their fields, and nothing else."""
    # Of builtin bases, such as dict, an object has more; this package's own are no user's values.
    own = kind.__module__.partition(".")[0] != "daskperiment"
    bases = [each for each in kind.__mro__[:-1] if each.__module__ in ("builtins", "typing")]
    reducing = any(name in vars(each) for each in kind.__mro__[:-1] for name in _REDUCING)
    alone = all(each.__name__ == "Generic" for each in bases)
    return is_dataclass(kind) and own and alone and not reducing


def _is_named_tuple(kind: type) -> bool:
    # Made by NamedTuple or namedtuple itself: what inherits from one may have more.
    return kind.__bases__ == (tuple,) and hasattr(kind, "_fields")


def reduce_named(value: NamedValue) -> list[Any]:
    """Return what a record has of a named value."""
    return [value.module, value.name, value.state]


def build_named(parts: Any) -> Any:
    """Return the value of a record's parts if its class is loaded and fits, else by name."""
    module, name, state = parts
    if not (type(module) is str and type(name) is str and type(state) in (str, dict)):
        raise ValueError(f"expected the names of a class, got {parts!r:.60}")
    kind = _found(module, name)
    made = None
    if isinstance(kind, type):
        made = _member(kind, state) if type(state) is str else _record(kind, state)
    return NamedValue(module, name, state) if made is None else made


def _found(module: str, name: str) -> Any:
    """Return what a module that is loaded has under a name. No code is run for it."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found


def _member(kind: type, name: str) -> Any:
    is_enum = issubclass(kind, enum.Enum)
    return vars(kind).get("_member_map_", {}).get(name) if is_enum else None


def _record(kind: type, state: Mapping[str, Any]) -> Any:
    """Return an object of fields, made as unpickling does: its own code is not called."""
    if _is_named_tuple(kind):
        fits = list(kind._fields) == list(state)  # type: ignore[attr-defined]
        return tuple.__new__(kind, state.values()) if fits else None
    if not _is_plain_dataclass(kind) or {each.name for each in fields(kind)} != set(state):
        return None
    made: Any = object.__new__(kind)
    for name, value in state.items():
        object.__setattr__(made, name, value)
    return made


def import_named(value: Any) -> Any:
    """Return a value in which those that stand by name are loaded: their modules are imported.

    Raises
    ------
    PersistedResultNotFoundError
        If one cannot be.
    """
    if not any(isinstance(each, NamedValue) for each in _within(value)):
        return value
    kind = type(value)
    if kind is NamedValue:
        state = value.state
        if not isinstance(state, str):
            state = {name: import_named(each) for name, each in state.items()}
        return NamedValue(value.module, value.name, state).load()
    if kind is dict:
        return {import_named(key): import_named(each) for key, each in value.items()}
    return _CONTAINERS[kind](import_named(each) for each in value)


def _within(value: Any) -> Iterator[Any]:
    """Yield a value, and what stands in it."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        yield each
        if type(each) is dict:
            waiting += each.keys()
            waiting += each.values()
        elif type(each) in _CONTAINERS:
            waiting += each
