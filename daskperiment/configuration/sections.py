"""The tree of a configuration: sections, which have classes, and leaves, which hold values."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final, Literal, NamedTuple

import msgspec

from daskperiment.configuration.annotations import ANY
from daskperiment.formatting import shorten
from daskperiment.no_value import NO_VALUE

__all__ = [
    "AT",
    "Leaf",
    "ConfigSection",
    "Variants",
    "build",
    "is_section",
    "read_tree",
]


AT: Final = "in the section "
"""What a note begins with that says where in a configuration an exception was raised."""


@dataclass(frozen=True)
class Leaf:
    """One value of a configuration."""

    hint: Any = ANY
    """Its annotation."""
    default: Any = NO_VALUE
    reference: bool = False
    """Whether its default follows from other leaves, as OmegaConf's interpolations do."""


@dataclass(frozen=True)
class ConfigSection:
    """A part of a configuration that has names in it, and what it is made with."""

    kind: type
    """Its class; dict for mappings."""
    parts: Mapping[str, ConfigSection | Variants | Leaf] = field(default_factory=dict)

    def leaves(self, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
        """Yield the dotted name of each leaf, and the leaf."""
        for name, part in self.parts.items():
            if isinstance(part, Leaf):
                yield f"{prefix}{name}", part
            elif isinstance(part, ConfigSection):
                yield from part.leaves(f"{prefix}{name}.")
            else:
                yield from part.leaves(f"{prefix}{name}")


@dataclass(frozen=True)
class Variants:
    """Sections of which one is chosen, by the value of a parameter with the name of the place."""

    choices: Mapping[str, ConfigSection]
    default: str

    def leaves(self, path: str) -> Iterator[tuple[str, Leaf]]:
        """Yield the name of the variant, and the leaves that any of them has."""
        yield path, Leaf(Literal[tuple(self.choices)], self.default)
        found: dict[str, Leaf] = {}
        for choice in (self.default, *self.choices):
            for name, leaf in self.choices[choice].leaves(f"{path}."):
                known = found.setdefault(name, leaf)
                if known.hint != leaf.hint:
                    found[name] = Leaf(known.hint | leaf.hint, known.default, known.reference)
        yield from found.items()


class _Member(NamedTuple):
    name: str
    hint: Any
    value: Any
    reference: bool = False


def read_tree(source: Any, path: str = "") -> ConfigSection:
    """Return the tree of a configuration, given as a value or as a class with defaults.

    Raises
    ------
    TypeError
        If it is none, naming the path.
    """
    parts: dict[str, ConfigSection | Variants | Leaf] = {}
    for name, hint, value, reference in _members(source, path):
        where = f"{path}.{name}" if path else name
        if not isinstance(name, str) or not name or "." in name:
            raise TypeError(
                f"A configuration has the name {name!r} at {path or 'its top'}; expected text "
                "without a dot, for dots stand between the names of a path."
            )
        if is_section(value) and not _is_mapping_by_type(hint):
            parts[name] = read_tree(value, where)
        elif value is NO_VALUE and _is_record(hint):
            parts[name] = read_tree(hint, where)
        else:
            parts[name] = Leaf(hint, value, reference)
    kind = source if isinstance(source, type) else type(source)
    is_dict = isinstance(source, Mapping) and not _is_omegaconf(source)
    return ConfigSection(dict if is_dict else kind, parts)


def is_section(value: Any) -> bool:
    """Whether a value is a part of a tree that has names in it, and is no value of its own."""
    if isinstance(value, type):
        return False
    if isinstance(value, Mapping) and not _is_omegaconf(value):
        return bool(value) and all(isinstance(name, str) for name in value)
    if _is_omegaconf(value):
        return bool(value)
    return _is_record(type(value)) or isinstance(value, (SimpleNamespace, Namespace))


def _is_record(kind: Any) -> bool:
    """Whether a class declares the fields of its objects."""
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__")
        or hasattr(kind, "model_fields") or hasattr(kind, "__struct_fields__")
    )  # fmt: skip


def _is_mapping_by_type(hint: Any) -> bool:
    """Whether a field is declared as a dict: its names are data, and may be others."""
    return (typing.get_origin(hint) or hint) in (dict, Mapping)


def _is_omegaconf(value: Any) -> bool:
    loaded = sys.modules.get("omegaconf")
    return loaded is not None and isinstance(value, loaded.DictConfig)


# What stands in a section -------------------------------------------------------------------------


def _members(source: Any, path: str) -> Iterator[_Member]:
    kind = source if isinstance(source, type) else type(source)
    if _is_omegaconf(source):
        yield from _of_omegaconf(source)
    elif isinstance(source, Mapping):
        yield from (_Member(name, ANY, value) for name, value in source.items())
    elif isinstance(source, (SimpleNamespace, Namespace)):
        yield from (_Member(name, ANY, value) for name, value in vars(source).items())
    elif _is_record(kind):
        for name, default in _declared(kind, path):
            value = default() if source is kind else getattr(source, name)
            yield _Member(name, _hints(kind).get(name, ANY), value)
        if source is not kind:  # what a pydantic model was given beside its fields
            extra = getattr(source, "model_extra", None) or {}
            yield from (_Member(name, ANY, value) for name, value in extra.items())
    else:
        at = f" at {path}" if path else ""
        raise TypeError(
            f"A configuration is {shorten(repr(source), 60)} ({kind.__name__}){at}; expected a "
            "dict, a dataclass, an attrs or pydantic model, an OmegaConf configuration, or the "
            "path of a YAML, TOML or JSON file."
        )


def _of_omegaconf(source: Any) -> Iterator[_Member]:
    access = sys.modules["omegaconf"].OmegaConf
    for name in source:
        if access.is_missing(source, name):
            yield _Member(name, ANY, NO_VALUE)
        elif is_section(value := source[name]) and not access.is_interpolation(source, name):
            yield _Member(name, ANY, value)
        else:
            is_tree = access.is_config(value)
            refers = access.is_interpolation(source, name) or (
                is_tree and "${" in access.to_yaml(value, resolve=False)
            )
            plain = access.to_container(value, resolve=True) if is_tree else value
            yield _Member(name, dict if isinstance(plain, dict) else ANY, plain, refers)


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception:  # a name that only a type checker knows: the class checks by itself
        return {}


def _declared(kind: type, path: str) -> Iterator[tuple[str, Any]]:
    """Yield each field of a class, and a function that makes its default."""
    if hasattr(kind, "model_fields"):
        for name, each in kind.model_fields.items():
            open = each.is_required() or getattr(each, "default_factory_takes_validated_data", None)
            yield name, (lambda: NO_VALUE) if open else _default_of(each)
    elif hasattr(kind, "__attrs_attrs__"):
        for each in kind.__attrs_attrs__:
            if each.init:
                yield each.name, _made_by_attrs(each.default)
    elif hasattr(kind, "__struct_fields__"):
        for each in msgspec.structs.fields(kind):
            yield each.name, _made(each.default, each.default_factory, msgspec.NODEFAULT)
    else:
        _refuse_init_only(kind, path)
        for each in dataclasses.fields(kind):
            if each.init:
                yield each.name, _made(each.default, each.default_factory, dataclasses.MISSING)


def _default_of(pydantic_field: Any) -> Any:
    return lambda: pydantic_field.get_default(call_default_factory=True)


def _made_by_attrs(default: Any) -> Any:
    if type(default).__name__ == "Factory":
        return (lambda: NO_VALUE) if default.takes_self else default.factory
    return lambda: NO_VALUE if type(default).__name__ == "_Nothing" else default


def _made(default: Any, factory: Any, missing: Any) -> Any:
    if factory is not missing:
        return factory
    return lambda: NO_VALUE if default is missing else default


def _refuse_init_only(kind: type, path: str) -> None:
    names = {each.name for each in dataclasses.fields(kind)}
    for name, each in inspect.signature(kind).parameters.items():
        if name not in names and each.default is each.empty and each.kind not in _OPEN:
            raise TypeError(
                f"{kind.__qualname__} at {path or 'the top'} of a configuration takes {name!r} "
                "only when it is made, and keeps it nowhere, so that it cannot be made again; "
                "give it a default."
            )


_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


# And back -----------------------------------------------------------------------------------------


def build(section: ConfigSection, values: Mapping[str, Any], prefix: str = "") -> Any:
    """Return the object of a section, made of the values of its leaves by their dotted names.

    Whatever the section's class raises for them is raised.
    """
    parts = {}
    for name, part in section.parts.items():
        where = f"{prefix}{name}"
        if isinstance(part, Leaf):
            parts[name] = values[where]
        elif isinstance(part, ConfigSection):
            parts[name] = build(part, values, f"{where}.")
        else:
            parts[name] = build(part.choices[values[where]], values, f"{where}.")
    kind = section.kind
    if kind is dict:
        return parts
    if hasattr(kind, "model_validate"):
        try:
            return kind.model_validate(_by_alias(kind, parts))
        except Exception as error:
            if prefix:  # its own text begins at this section
                error.add_note(f"{AT}{prefix[:-1]}")
            raise
    if kind.__module__.startswith("omegaconf"):
        return import_module("omegaconf").OmegaConf.create(parts, flags={"allow_objects": True})
    if hasattr(kind, "__attrs_attrs__"):
        # Private fields are given without their underscore.
        names = {each.name: each.alias for each in kind.__attrs_attrs__}
        return kind(**{names[name]: value for name, value in parts.items()})
    return kind(**parts)


def _by_alias(kind: Any, parts: Mapping[str, Any]) -> dict[str, Any]:
    if kind.model_config.get("populate_by_name") or kind.model_config.get("validate_by_name"):
        return dict(parts)
    named = {}
    for name, value in parts.items():
        field = kind.model_fields.get(name)  # what a model takes besides has none
        alias = None if field is None else field.validation_alias
        first, *_ = getattr(alias, "choices", [alias])  # any of them does
        named[first if isinstance(first, str) else name] = value
    return named
