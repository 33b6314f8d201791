"""What a class would do besides its source: attributes, fields, annotations, however it was made.

A default may come from a constant, a field from a call, a whole class from a table: the source
then says only where it is from. So the values that the finished class holds count, its own and
what a library keeps of its fields: dataclasses, attrs, pydantic, msgspec.
"""

from __future__ import annotations

import enum
import functools
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from daskperiment.capture.code_objects import defaults_in, fingerprint_code
from daskperiment.capture.encoding import combine
from daskperiment.capture.members import ATOMS, is_absent, is_own_class, state_of, wrapped_by
from daskperiment.capture.origin import is_own, origin_of
from daskperiment.capture.source import NO_SOURCE, SourceInfo, belongs, methods

__all__ = [
    "NameOf",
    "annotations_of",
    "class_without_source",
    "declarations_of",
    "functions_behind",
    "has_fields",
    "libraries_named",
    "makes_classes",
    "members_of",
    "other_defaults",
    "own_subclasses",
    "parts_of_annotation",
]

_ADDRESS = re.compile(" at 0x[0-9a-f]+", re.IGNORECASE)
_SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_DESCRIPTORS = (functools.partialmethod, functools.singledispatchmethod)


# Attributes.


def members_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield a class's attributes that its behaviour depends on."""
    found = [(k, v) for k, v in list(vars(cls).items()) if not _is_generated(cls, k, v)]
    if issubclass(cls, enum.Enum):
        found = [(k, v) for k, v in found if list(functions_behind(v))]
    for key, value in found:
        if isinstance(value, functools.partialmethod):
            yield key, functools.partial(value.func, *value.args, **value.keywords)
        else:
            singly = isinstance(value, functools.singledispatchmethod)
            yield key, value.dispatcher if singly else value


def _is_generated(cls: type, key: str, value: Any) -> bool:
    if key == "_abc_impl":
        return True
    special = key.startswith("__") and key.endswith("__")
    functions = [_innermost(function) for function in functions_behind(value)]
    if functions:
        # Dataclasses and others write special methods, which follow from the class's fields.
        return special and all(_is_generated_function(key, f) for f in functions)
    if special:
        return _is_written_by_library(cls, key, value)
    # Slots, and what Python itself makes of functions, follow from the source.
    plain = isinstance(value, _SLOTS) or origin_of(type(value).__module__) == "python"
    return hasattr(type(value), "__get__") and plain and not isinstance(value, _DESCRIPTORS)


_WRITTEN = frozenset(
    {"__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__hash__", "__slots__"}
    | {"__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"}
    | {"__firstlineno__", "__static_attributes__", "__type_params__", "__classcell__"}
    | {"__abstractmethods__", "__orig_bases__", "__parameters__", "__match_args__"}
    | {"__slotnames__", "__signature__", "__class_vars__", "__private_attributes__", "__fields__"}
    | {"__protocol_attrs__", "__non_callable_proto_members__", "__config__", "__weakref_slot__"}
    | {"__dataclass_fields__", "__dataclass_params__", "__test__"}
)
"""Special attributes that Python and libraries write from what else the class says."""


def _is_written_by_library(cls: type, key: str, value: Any) -> bool:
    if key in _WRITTEN or key.startswith(("__pydantic_", "__attrs_", "__struct_", "__sklearn_")):
        return key != "__slots__" or bool({*_DECLARED} & vars(cls).keys())
    return not _is_plain(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return type(value) in ATOMS or is_own(type(value).__module__) or isinstance(value, type)


def _is_generated_function(key: str, function: FunctionType) -> bool:
    """Whether a special method was written by a library, from what the class says otherwise."""
    name, file = function.__code__.co_qualname, function.__code__.co_filename
    if name.startswith("_ClassBuilder."):
        return True  # of attrs, which has these in its own file
    if not file.startswith("<"):
        return False
    # Not any function without a file: what came by pickle has none either, nor has a terminal.
    named = str(function.__globals__.get("__name__")).startswith("namedtuple_")
    return name == key or "__create_fn__" in name or (named and name == "<lambda>")


def _innermost(function: FunctionType) -> FunctionType:
    while type(inner := wrapped_by(function)) is FunctionType:
        function = inner
    return function


def functions_behind(value: Any) -> Iterator[FunctionType]:
    """Yield the functions behind a class's attribute: a method, a property, a static method."""
    if isinstance(value, property):
        inner = [value.fget, value.fset, value.fdel]
    elif isinstance(value, functools.cached_property):
        inner = [value.func]
    else:
        inner = [getattr(value, "__func__", value)]
    for item in inner:
        found = item if type(item) is FunctionType else wrapped_by(item)
        if type(found) is FunctionType:
            yield found


def makes_classes(cls: type, key: str) -> bool:
    """Whether a method runs when a class is made, and not when it is used."""
    of_metaclass = issubclass(cls, type) and key in ("__new__", "__init__", "__prepare__")
    return of_metaclass or key in ("__init_subclass__", "__set_name__")


_WITH_FIELDS = ("_field_defaults", "__dataclass_fields__", "__attrs_attrs__")


def has_fields(cls: type) -> bool:
    """Whether a library wrote the constructor of a class from its fields."""
    return not vars(cls).keys().isdisjoint(_WITH_FIELDS)


def other_defaults(cls: type) -> list[tuple[str, Any]]:
    """Return the defaults of such a constructor that were set to others than the fields say."""
    declared = dict(vars(cls).get("_field_defaults", {}))
    fields = vars(cls).get("__dataclass_fields__", {})
    declared |= {name: field.default for name, field in fields.items()}
    declared |= {each.alias: each.default for each in vars(cls).get("__attrs_attrs__", ())}
    pairs = [(key, function) for key in ("__new__", "__init__")
             for function in functions_behind(vars(cls).get(key))]  # fmt: skip
    return [
        (f"{key}({name})", value)
        for key, function in pairs if _is_generated_function(key, function)
        for name, value in defaults_in(function)
        if value is not declared.get(name, _ABSENT)
        and type(value).__name__ not in ("_HAS_DEFAULT_FACTORY_CLASS", "_Nothing")
    ]  # fmt: skip


_ABSENT = object()


def own_subclasses(cls: type) -> list[tuple[str, type]]:
    """Return the user's classes that extend a class directly, in an order that imports leave."""
    every: list[type] = type.__subclasses__(cls)
    found = [(each.__qualname__, each) for each in every if is_own_class(each)]
    return sorted(found, key=lambda pair: (pair[0], pair[1].__module__))


# Fields, as libraries keep them.


def declarations_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class's fields are declared with: defaults, factories, validators, metadata."""
    held = vars(cls)
    for key, read in _DECLARED.items():
        if key in held:
            yield from read(held[key])
    defaults = getattr(cls, "__struct_defaults__", None)  # of msgspec, whose classes are compiled
    if isinstance(defaults, tuple):
        yield from ((f"default {n}", getattr(v, "factory", v)) for n, v in enumerate(defaults))
        yield "options", _ADDRESS.sub("", repr(state_of(getattr(cls, "__struct_config__", None))))


def _fields_of(fields: Any) -> Iterator[tuple[str, Any]]:
    for name, each in fields.items():
        state = {key: item for key, item in state_of(each).items() if not key.startswith("_")}
        # Most are switches: together they are one setting.
        yield f"{name} options", " ".join(sorted(k for k, v in state.items() if v is True))
        for key, item in state.items():
            if not (key in _DERIVED or isinstance(item, bool) or is_absent(item)):
                yield f"{name} {key}", item
        # A default of True is one, too.
        default = state.get("default")
        yield from [(f"{name} default", default)] if isinstance(default, bool) else []
        # Where a class was made of types, these stand in no other place.
        form = state.get("annotation", state.get("outer_type_"))
        parts = enumerate(parts_of_annotation(form))
        yield from ((f"{name}: {n}", part) for n, part in parts if type(part) is not NameOf)
        yield from _settings_of_old_field(name, each)


def _settings_of_old_field(name: str, each: Any) -> Iterator[tuple[str, Any]]:
    # Pydantic 1 keeps constraints a level deeper, and validators by their names.
    for key, item in state_of(getattr(each, "field_info", None)).items():
        if not key.startswith("_") and not is_absent(item):
            yield f"{name} {key}", item
    for key, item in (getattr(each, "class_validators", None) or {}).items():
        yield f"{name} {key}", getattr(item, "func", item)


def _attributes_of(fields: Any) -> Iterator[tuple[str, Any]]:
    yield from _fields_of({each.name: each for each in fields})


def _params_of(params: Any) -> Iterator[tuple[str, Any]]:
    yield "options", repr(params)


def _decorators_of(infos: Any) -> Iterator[tuple[str, Any]]:
    for kind, each in state_of(infos).items():
        for name, decorator in each.items() if isinstance(each, dict) else ():
            info = getattr(decorator, "info", None)
            for key in ("fields", "mode"):
                if isinstance(item := getattr(info, key, None), (str, tuple)):
                    yield f"{kind} {name} {key}", item


_DECLARED: dict[str, Any] = {
    "__dataclass_fields__": _fields_of,
    "__dataclass_params__": _params_of,
    "__attrs_attrs__": _attributes_of,
    "__pydantic_fields__": _fields_of,
    "__private_attributes__": _fields_of,
    "__pydantic_decorators__": _decorators_of,
    "__pydantic_config__": lambda config: [("config", dict(config or {}))],
    "__fields__": _fields_of,
}
"""Where libraries keep the fields of a class, and how they are read."""

_DERIVED = frozenset(
    {"name", "type", "inherited", "annotation", "type_", "outer_type_", "model_config"}
    | {"class_validators", "field_info", "validators", "pre_validators", "post_validators"}
    | {"validate_always", "sub_fields", "key_field", "sub_fields_mapping", "eq_key", "order_key"}
    | {"evaluated"}
)
"""Parts of a field that are said elsewhere: its annotation counts by itself."""


# Annotations.


class NameOf(str):
    """The name or text of something whose value says no more."""


def annotations_of(value: Any) -> dict[str, Any]:
    """Return the annotations of a class or function, not those of a base."""
    try:
        return inspect.get_annotations(value)
    except Exception:
        # What they name may not be there at this moment, or not at all.
        return dict(getattr(value, "__dict__", {}).get("__annotations__", {}))


def parts_of_annotation(form: Any, depth: int = 20) -> Iterator[Any]:
    """Yield classes, values and names (`NameOf`) that a type annotation consists of."""
    origin = typing.get_origin(form)
    if isinstance(form, str) or depth == 0:  # an alias may stand for itself
        yield NameOf(form if isinstance(form, str) else "...")
    elif (metadata := getattr(form, "__metadata__", None)) is not None:
        yield from parts_of_annotation(form.__origin__, depth - 1)
        yield from metadata
    elif origin is typing.Literal:
        yield from typing.get_args(form)
    elif isinstance(form, (list, tuple)) or origin not in (None, form):
        inner = form if isinstance(form, (list, tuple)) else (origin, *typing.get_args(form))
        for item in inner:
            yield from parts_of_annotation(item, depth - 1)
    else:
        yield from _leaf_of_annotation(form, depth)


def libraries_named(part: Any, variables: Mapping[str, Any]) -> dict[str, None]:
    """Return the libraries whose classes a part of an annotation names, itself or in its text."""
    named: list[Any] = [part]
    if isinstance(part, NameOf):
        named = [variables.get(name) for name in re.findall(r"[^\W\d]\w*", part)]
    found = [each.__name__ for each in named if isinstance(each, ModuleType)]
    found += [each.__module__ for each in named if isinstance(each, type)]
    return {name.partition(".")[0]: None for name in found}


def _leaf_of_annotation(form: Any, depth: int) -> Iterator[Any]:
    if isinstance(form, typing.ForwardRef):
        yield NameOf(form.__forward_arg__)
    elif isinstance(form, type) or type(form) is FunctionType:
        yield form
    elif (
        type(form).__module__ in ("typing", "types", "typing_extensions")
        or form is None
        or form is ...
    ):
        yield NameOf(getattr(form, "__name__", None) or _ADDRESS.sub("", repr(form)))
        for key in ("__supertype__", "__bound__", "__value__"):
            if (inner := getattr(form, key, None)) is not None:
                yield from parts_of_annotation(inner, depth - 1)
    elif type(form).__name__ == "InitVar":
        yield from parts_of_annotation(form.type, depth - 1)
    else:
        yield form


# Classes without source.


def class_without_source(cls: type) -> SourceInfo:
    """Return what the code of its methods and the names of its attributes say of a class."""
    own = [f for f in methods(cls) if belongs(f, cls)]
    codes = sorted(f"{f.__name__} {fingerprint_code(f.__code__)}" for f in own)
    names = sorted(key for key, _ in members_of(cls))
    bases = [base.__qualname__ for base in cls.__bases__]
    kinds = [_ADDRESS.sub("", f"{k}: {v}") for k, v in annotations_of(cls).items()]
    parts = [cls.__qualname__, "bases", *bases, "names", *names, "kinds", *kinds, "code", *codes]
    fingerprint = combine(*parts)
    return SourceInfo(fingerprint, fingerprint, note=NO_SOURCE)
