"""What stands in a step's call: nodes of the graph among plain arguments.

Dask's own way to find nodes optimises the graph of those it finds inside lists and dicts. Steps
and parameters could not be told apart afterwards, so they are found here, as they are.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections import UserDict, UserList, deque
from collections.abc import (
    Collection,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from dataclasses import fields, is_dataclass
from functools import partial
from types import FunctionType, GeneratorType, MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from dask.base import is_dask_collection, tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.utils import is_namedtuple_instance

from daskperiment.execution.calls import SCALARS
from daskperiment.execution.tasks import run_step
from daskperiment.graph.dask_tasks import Dict, GraphNode, List, Task, TaskRef, function_of
from daskperiment.graph.keywords import CheckedNode

__all__ = ["CallNode", "find_node", "new_key", "unpack", "unpack_arguments"]

_SEQUENCES = frozenset({list, tuple, set, frozenset})
_SETS = frozenset({set, frozenset})
_ITERATORS: dict[type, type] = {
    type(iter([])): list,
    type(iter(())): tuple,
    type(iter(set())): set,
    type(reversed([])): list,
}
_LAZY: tuple[type, ...] = (
    GeneratorType, map, filter, zip, enumerate, reversed,
    type(iter({}.keys())), type(iter({}.values())), type(iter({}.items())),
    *(each for each in vars(itertools).values() if isinstance(each, type)),
)  # fmt: skip
_VIEWS = (KeysView, ValuesView, ItemsView)


class CallNode(CheckedNode):
    """What the call of a step makes."""

    __slots__ = ()

    def as_input(self) -> CallNode:
        """Return what stands for this node where another step takes it."""
        return self


def unpack_arguments(
    step: str, names: Sequence[str], values: Iterable[Any], nodes: list[Any], own: Any = None
) -> list[Any]:
    """Return what stands in a task for the arguments of a step's call.

    Parameters
    ----------
    step : str
        Name of the step.
    names, values
        The arguments.
    nodes : list
        Gets the nodes that were found.
    own : object, optional
        The object that the step is a method of: it may hold nodes that the step does not use.

    Raises
    ------
    TypeError
        If an argument holds a node at a place where it would not be computed.
    """
    forms: list[Any] = []
    for name, value in zip(names, values, strict=True):
        count = len(nodes)
        try:
            forms.append(unpack(value, nodes))
        except _HiddenNodeError as error:
            if value is own:
                del nodes[count:]
                forms.append(value)
                continue
            raise TypeError(
                f"Argument {name!r} of step {step!r} holds {error.node!r} at {name}{error.path}, "
                "where it would not be computed. Nodes are found in lists, tuples, sets, dicts, "
                "slices, iterators of them, dataclasses, attrs classes and named tuples: pass it "
                "in one of these, or as an argument of its own."
            ) from None
    return forms


def unpack(value: Any, nodes: list[Any]) -> Any:
    """Replace the nodes in an argument by references, and add them to a list.

    Parameters
    ----------
    value : object
        An argument; nodes are found in lists, tuples, sets, dicts, slices, dataclasses, attrs
        classes and named tuples, however deep.
    nodes : list
        Gets the nodes that were found.

    Returns
    -------
    object
        The argument itself if there is no node in it.
    """
    kind = type(value)
    if kind in SCALARS:
        return value
    if isinstance(value, Delayed):
        node = value.as_input() if isinstance(value, CallNode) else value
        nodes.append(node)
        return TaskRef(node.key)
    if kind in _SEQUENCES:
        return _container(value, kind, _members(value) if kind in _SETS else value, nodes)
    if kind is dict:
        return _dict(value, nodes)
    if kind is slice:
        return _container(value, _slice, [value.start, value.stop, value.step], nodes)
    return _unpack_rarer(value, kind, nodes)


def _unpack_rarer(value: Any, kind: type, nodes: list[Any]) -> Any:
    if kind in _ITERATORS:
        return unpack(_ITERATORS[kind](value), nodes)
    if isinstance(value, _LAZY):
        return _lazy(value, nodes)
    if isinstance(value, _VIEWS) and find_node(list(value)):
        return unpack(list(value), nodes)
    if is_dask_collection(value):
        return unpack(_gather(value), nodes)
    if (is_dataclass(value) and not isinstance(value, type)) or hasattr(kind, "__attrs_attrs__"):
        return _object(value, nodes)
    if is_namedtuple_instance(value):
        return _namedtuple(value, nodes)
    found = find_node(value)
    if found is not None:
        raise _HiddenNodeError(*found)
    return value


def _container(value: Any, make: Any, items: Iterable[Any], nodes: list[Any]) -> Any:
    forms = []
    for item in items:
        try:
            forms.append(item if type(item) in SCALARS else unpack(item, nodes))
        except _HiddenNodeError as error:
            raise error.within(f"[{len(forms)}]") from None
    if not any(map(_is_reference, forms)):
        return value
    return List(*forms) if make is list else Task(None, make, List(*forms))


def _members(value: Collection[Any]) -> Collection[Any]:
    """Return the members of a set, nodes as they were made.

    The order of calls tells the seeds of steps, and that of a set is another in each process.
    """
    rich = [item for item in value if type(item) not in SCALARS]
    if len(rich) < 2 or find_node(rich) is None:
        return value
    return [*(item for item in value if type(item) in SCALARS), *sorted(rich, key=_made)]


def _made(value: Any) -> tuple[str, str]:
    """Return what tells when a node was made, or the node in another value."""
    found = find_node(value)
    if found is None:
        return "", ""
    node = found[1]
    if isinstance(node, CallNode):
        return _stamp(node.as_input().key), ""
    # Of other nodes, when the latest step before it was called.
    layers = node.dask.layers if isinstance(node.dask, HighLevelGraph) else {}
    calls = [name for name, layer in layers.items()
             if name in layer and function_of(layer[name]) is run_step]  # fmt: skip
    return max(map(_stamp, calls), default=""), str(node.key)


def new_key(name: str) -> str:
    """Return a key for the call of a step: they are in the order of the calls, but for the name."""
    return f"{name}-{time.perf_counter_ns():016x}{uuid.uuid4().hex[:16]}"


def _stamp(key: Any) -> str:
    return str(key).rpartition("-")[2]


def _dict(value: dict[Any, Any], nodes: list[Any]) -> Any:
    pairs = []
    for key, item in value.items():
        try:
            pairs.append((unpack(key, nodes), unpack(item, nodes)))
        except _HiddenNodeError as error:
            raise error.within(f"[{key!r}]") from None
    return (
        Dict(dict(pairs)) if any(_is_reference(form) for pair in pairs for form in pair) else value
    )


def _lazy(value: Any, nodes: list[Any]) -> Any:
    """Return a list for an iterator of nodes; one that begins otherwise may have no end."""
    first = list(itertools.islice(value, 1))
    if find_node(first) is not None:
        return unpack([*first, *value], nodes)
    return itertools.chain(first, value)


def _namedtuple(value: Any, nodes: list[Any]) -> Any:
    kind, state = type(value), _state(value)
    items = _container(value, kind, value, nodes)
    attributes = _container(state, tuple, state.values(), nodes)
    if items is value and attributes is state:
        return value
    return Task(None, _tuple_again, kind, List(*_forms(items, value)), tuple(state),
                List(*_forms(attributes, state.values())))  # fmt: skip


def _forms(form: Any, items: Iterable[Any]) -> Iterable[Any]:
    """Return the parts of what became of a container: the items themselves without a node."""
    return form.args[0].args if isinstance(form, Task) else items


def _tuple_again(kind: Any, items: list[Any], names: Sequence[str], values: list[Any]) -> Any:
    made = tuple.__new__(kind, items)  # what a subclass does beyond that was done before
    for name, value in zip(names, values, strict=True):
        object.__setattr__(made, name, value)
    return made


def _is_reference(form: Any) -> bool:
    return isinstance(form, (TaskRef, GraphNode))


def _slice(bounds: list[Any]) -> slice:
    return slice(*bounds)


def _gather(collection: Any) -> Delayed:
    """Return one node for a Dask array or another collection of many parts."""
    finalize, extra = collection.__dask_postcompute__()
    name = f"gather-{tokenize(collection)}"
    task = Task(name, finalize, _references(collection.__dask_keys__()), *extra)
    graph = HighLevelGraph.from_collections(name, {name: task}, dependencies=[collection])
    return Delayed(name, graph)


def _references(keys: Any) -> Any:
    return List(*map(_references, keys)) if isinstance(keys, list) else TaskRef(keys)


# Objects with fields -----------------------------------------------------------------------------


def _object(value: Any, nodes: list[Any]) -> Any:
    """Return what makes an object anew: with the values of nodes, all else as it is."""
    state = _state(value)
    forms = {}
    for name, item in state.items():
        try:
            forms[name] = unpack(item, nodes)
        except _HiddenNodeError as error:
            raise error.within(f".{name}") from None
    if not any(map(_is_reference, forms.values())):
        return value
    kind = type(value)
    given = _given(value)
    # What a class of compiled code holds is not seen.
    for names in (given, {}) if all(base.__flags__ & _HEAP for base in kind.__mro__[:-1]) else ():
        # First by its class, which may check and convert; then as pickle would do it.
        try:
            made = _again(kind, names, tuple(state), *state.values())
            if _same_state(_state(made), state):
                return Task(None, _again, kind, names, tuple(forms), *forms.values())
        except Exception:  # the class's own code may fail in any way
            continue
    raise TypeError(
        f"A node stands in {kind.__qualname__}, of which no equal object can be made once "
        "the node is computed. Pass the node as an argument of its own, and make the object in "
        "the step."
    )


_HEAP = 1 << 9
"""Flag of classes that are defined in Python."""


def _again(kind: type, given: Mapping[str, str], names: Sequence[str], *values: Any) -> Any:
    """Return an object of a class with this state.

    `given` has the arguments that the class is called with: what each is called, and the attribute
    that it becomes. Without any, the class is not called.
    """
    state = dict(zip(names, values, strict=True))
    if given:
        made = kind(**{argument: state.pop(name) for argument, name in given.items()})
    else:
        made = object.__new__(kind)
    for name, value in state.items():
        # Frozen classes refuse what is no trick of this kind.
        object.__setattr__(made, name, value)
    return made


def _given(value: Any) -> dict[str, str]:
    """Return the arguments of an object's class, with the attributes that hold them."""
    if is_dataclass(value):
        return {field.name: field.name for field in fields(value) if field.init}
    declared = type(value).__attrs_attrs__
    return {field.alias or field.name: field.name for field in declared if field.init}


def _same_state(made: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    if made.keys() != state.keys():
        return False
    return all(made[name] is value or _equal(made[name], value) for name, value in state.items())


def _equal(made: Any, value: Any) -> bool:
    if type(made) is not type(value) or find_node(value) is not None:
        return False
    return bool(made == value)


def _state(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, in its dict and in its slots."""
    state = dict(getattr(value, "__dict__", {}))
    for name in _slot_names(type(value)):
        if hasattr(value, name):
            state[name] = getattr(value, name)
    # attrs keeps a hash there, which is another once a node has become its value.
    return {name: None if name == "_attrs_cached_hash" else item for name, item in state.items()}


def _slot_names(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            hidden = name.startswith("__") and not name.endswith("__")
            if name not in ("__dict__", "__weakref__"):
                yield f"_{base.__name__.lstrip('_')}{name}" if hidden else name


# Nodes where nobody looks for them ---------------------------------------------------------------

_MOST = 100_000
"""How many values are looked at for nodes, before it is given up."""
_REDUCING = {"__reduce__", "__reduce_ex__"}
_CLOSED = (str, bytes, bytearray, memoryview, type, ModuleType, FunctionType)


class _HiddenNodeError(Exception):
    """A node stands where it would not be computed."""

    def __init__(self, path: str, node: Delayed) -> None:
        super().__init__(path)
        self.path = path
        self.node = node

    def within(self, place: str) -> _HiddenNodeError:
        """Return the same, seen from what holds it."""
        return _HiddenNodeError(place + self.path, self.node)


def find_node(value: Any) -> tuple[str, Delayed] | None:
    """Return the path of a node in a value, and the node; None if there is none.

    It looks into containers of all kinds and into the attributes of objects, but not into those
    whose class says by itself what pickle keeps of them.
    """
    waiting: list[tuple[str, Any]] = [("", value)]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        path, value = waiting.pop()
        if isinstance(value, Delayed):
            return path, value
        if type(value) not in SCALARS and id(value) not in seen:
            seen.add(id(value))
            waiting += [(path + place, item) for place, item in _parts(value)]
    return None


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, _CLOSED) or is_dask_collection(value):
        return ()
    if isinstance(value, (dict, UserDict, MappingProxyType)):
        return [*_numbered(value, ".keys()"), *((f"[{k!r}]", item) for k, item in value.items())]
    if isinstance(value, (list, tuple, set, frozenset, deque, UserList)):
        return _numbered(value)
    if isinstance(value, partial):
        return [*_numbered(value.args, ".args"), *_numbered(value.keywords.values(), ".keywords")]
    if type(value).__module__.partition(".")[0] in ("numpy", "pandas"):
        known = str(getattr(value, "dtype", "")) == "object"
        return _numbered(np.ravel(value).tolist()) if known else ()
    return _attributes(value)


def _numbered(values: Iterable[Any], name: str = "") -> list[tuple[str, Any]]:
    return [(f"{name}[{n}]", item) for n, item in enumerate(itertools.islice(values, _MOST))
            if type(item) not in SCALARS]  # fmt: skip


def _attributes(value: Any) -> list[tuple[str, Any]]:
    kind = type(value)
    closed = any(vars(base).keys() & _REDUCING for base in kind.__mro__[:-1])
    names = getattr(kind, "__struct_fields__", None)  # msgspec keeps them nowhere else
    if closed and names is None and kind is not SimpleNamespace:
        return []
    found = {name: getattr(value, name, None) for name in names or ()} or _state(value)
    return [(f".{name}", item) for name, item in found.items()]
