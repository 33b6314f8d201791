"""A configuration as an experiment has it: its leaves, and the values that fit them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from daskperiment.configuration.annotations import ANY, converted, is_secret, parsed
from daskperiment.configuration.sections import (
    AT,
    ConfigSection,
    Leaf,
    Variants,
    build,
    is_section,
    read_tree,
)
from daskperiment.errors import ConfigurationError, InputFileError
from daskperiment.formatting import listed, nearest, plain_repr, shorten
from daskperiment.no_value import NO_VALUE
from daskperiment.secret_values import concealed, revealed

__all__ = ["ConfigTree"]


class ConfigTree:
    """The sections and leaves of a configuration.

    Parameters
    ----------
    source : object
        As for :meth:`Experiment.config`.
    variants : mapping, optional
        Dotted path of a section -> name -> what it may be.

    Attributes
    ----------
    section : ConfigSection
        All of it.
    leaves : dict of str to Leaf
        By dotted names.
    secrets : frozenset of str
        Names of those whose values are shown nowhere.
    """

    def __init__(self, source: Any, variants: Mapping[str, Any] | None = None) -> None:
        read = _read(source)
        self.section = read_tree(read)
        self._source = copy.deepcopy(read) if _has_references(self.section) else None
        for path, choices in (variants or {}).items():
            self.section = _with_variants(self.section, path.split("."), path, choices)
        self.leaves: dict[str, Leaf] = dict(self.section.leaves())
        self.secrets = frozenset(n for n, leaf in self.leaves.items()
                                 if is_secret(leaf.hint, leaf.default))  # fmt: skip
        self._groups = dict(_groups(self.section))
        for name, leaf in self.leaves.items():
            if leaf.default is not NO_VALUE:
                self.leaves[name] = Leaf(leaf.hint, self._fit(name, leaf.default), leaf.reference)
        defaults = {name: leaf.default for name, leaf in self.leaves.items()}
        self.check({**defaults, **self.dependent({})}, {})

    def part(self, path: str) -> ConfigSection | Variants | Leaf | None:
        """Return what stands at a dotted path, None if there is nothing."""
        found: Any = self.section
        for name in path.split(".") if path else ():
            parts = found.parts if isinstance(found, ConfigSection) else {}
            if isinstance(found, Variants):
                parts = {n: p for each in found.choices.values() for n, p in each.parts.items()}
            found = parts.get(name)
        return found  # type: ignore[no-any-return]

    def spread(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return values with those of whole sections as those of their leaves.

        Raises
        ------
        ConfigurationError
            If a section is given something without names in it.
        """
        if all(name in self.leaves or not self.part(name) for name in values):
            return values
        found: dict[str, Any] = {}
        for name, value in values.items():
            part = self.part(name) if name else None
            if not isinstance(part, ConfigSection):
                found[name] = value
            elif is_section(value):
                given = read_tree(value, name)
                found.update({n: leaf.default for n, leaf in given.leaves(f"{name}.")})
            else:
                kind = "a dict" if part.kind is dict else part.kind.__qualname__
                leaves = listed([leaf for leaf, _ in part.leaves(f"{name}.")], 4)
                raise _misfit(name, value, ValueError(
                    f"expected {kind} or values of its own: {leaves}"
                ))  # fmt: skip
        return found

    def fitted(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return values with those of leaves as their types have them.

        Raises
        ------
        ConfigurationError
            Naming the first that does not fit.
        """
        if self.leaves.keys().isdisjoint(values):
            return values
        return {name: self._fit(name, value) if name in self.leaves else value
                for name, value in values.items()}  # fmt: skip

    def parsed(self, name: str, text: str, otherwise: Callable[[str], Any]) -> Any:
        """Return what a text of the command line means for a leaf; as `otherwise` without a type.

        Raises
        ------
        ConfigurationError
            If it fits in no way.
        """
        hint = self.leaves[name].hint
        if hint is ANY:
            return otherwise(text)
        try:
            return parsed(text, hint)
        except ValueError as error:
            raise _misfit(name, text, error) from None

    def _fit(self, name: str, value: Any) -> Any:
        try:
            return converted(value, self.leaves[name].hint)
        except (ValueError, TypeError) as error:
            shown = "<secret>" if name in self.secrets else value
            raise _misfit(name, shown, error) from None

    def dependent(self, explicit: Mapping[str, Any]) -> dict[str, Any]:
        """Return the defaults that follow from values that were given.

        Those of a group of variants are the chosen one's; a leaf that it lacks is None. What refers
        to other leaves has their values.
        """
        found: dict[str, Any] = {}
        for path, group in self._groups.items():
            name = explicit.get(path, group.default)
            chosen = group.choices.get(name, group.choices[group.default])
            has = dict(chosen.leaves(f"{path}."))
            for leaf in self.leaves:
                if leaf.startswith(f"{path}.") and leaf not in explicit:
                    found[leaf] = has[leaf].default if leaf in has else None
        if self._source is not None:
            found.update(self._referred(explicit))
        return found

    def _referred(self, explicit: Mapping[str, Any]) -> dict[str, Any]:
        omegaconf, tree = import_module("omegaconf"), copy.deepcopy(self._source)
        access = omegaconf.OmegaConf
        with omegaconf.read_write(tree):
            for name, value in explicit.items():
                if name in self.leaves and not self._in_variants(name):
                    access.update(tree, name, value, force_add=True)
        resolved = {name: access.select(tree, name) for name, leaf in self.leaves.items()
                    if leaf.reference and name not in explicit}  # fmt: skip
        return {name: access.to_container(value, resolve=True) if access.is_config(value) else value
                for name, value in resolved.items()}  # fmt: skip

    def _in_variants(self, name: str) -> bool:
        return any(name == path or name.startswith(f"{path}.") for path in self._groups)

    def check(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """Refuse values that the classes of the sections refuse.

        Parameters
        ----------
        values : mapping
            Of all leaves that have one. Where some lack one, nothing is known yet.
        given : mapping
            What is given now: of a group of variants, leaves of the chosen one alone.

        Raises
        ------
        ConfigurationError
            Naming the section and what its class says.
        """
        for path, group in self._groups.items():
            _check_chosen(path, group, values, given)
        if any(values.get(name, NO_VALUE) is NO_VALUE for name in self.leaves):
            return
        secrets = [values[name] for name in self.secrets]
        try:
            build(self.section, {name: revealed(value) for name, value in values.items()})
        except Exception as error:
            shown = {name: "<secret>" if name in self.secrets else value
                     for name, value in given.items()}  # fmt: skip
            told = concealed(_told(error, shown, not secrets), secrets)
            raise ConfigurationError(told) from (None if secrets else error)

    def check_space(self, space: Mapping[str, Iterable[Any]], values: Mapping[str, Any]) -> None:
        """Refuse a space with leaves that a variant lacks which the space or a value chooses."""
        for path, group in self._groups.items():
            for chosen in space.get(path, [values.get(path)]):
                _check_chosen(path, group, {path: chosen}, space)


# Reading ------------------------------------------------------------------------------------------


def _yaml(text: str) -> Any:
    yaml = import_module("yaml")  # it comes with Dask

    class YamlLoader(yaml.SafeLoader):  # type: ignore[misc,name-defined]  # it is loaded when needed
        """Reads 1e-3 as a number, as YAML 1.2 does, and refuses a name that stands there twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [f"{key.value}" for key, _ in node.value if key.tag in _YAML_NAMES]
            _refuse_repeated(names, node.start_mark.line + 1)
            return super().construct_mapping(node, deep)

    YamlLoader.add_implicit_resolver("tag:yaml.org,2002:float", _YAML_FLOAT, list("-+0123456789."))
    return yaml.load(text, YamlLoader)  # a SafeLoader


_YAML_NAMES = ("tag:yaml.org,2002:str",)
"""What is looked at for repetitions: neither ``<<`` nor what is no text."""
_YAML_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
"""Numbers that YAML 1.1 takes for text."""


def _json(text: str) -> Any:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        _refuse_repeated([name for name, _ in found])
        return dict(found)

    return json.loads(text, object_pairs_hook=pairs)


def _refuse_repeated(names: list[str], line: int | None = None) -> None:
    """Refuse names of which one hides the other."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        where = f" in what begins in line {line}" if line else ""
        raise ValueError(f"{twice!r} stands there twice{where}")


def _toml(text: str) -> Any:
    return import_module("tomllib").loads(text)  # slow to load


_READERS: dict[str, Callable[[str], Any]] = {
    ".yaml": _yaml, ".yml": _yaml, ".toml": _toml, ".json": _json,
}  # fmt: skip


def _read_file(path: Path) -> Mapping[str, Any]:
    """Return the tree that stands in a file.

    Raises
    ------
    InputFileError
        If it cannot be read.
    ConfigurationError
        If it is written wrongly, or holds no tree.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigurationError(
            f"The configuration file {str(path)!r} ends in {path.suffix!r}; expected one of "
            f"{', '.join(_READERS)}."
        )
    try:
        tree = reader(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputFileError(
            f"The configuration file {str(path)!r} cannot be read: {error.strerror or error}."
        ) from error
    except Exception as error:  # each reader has errors of its own
        text = " ".join(str(error).split())
        raise ConfigurationError(
            f"The configuration file {str(path)!r} is no {reader.__name__[1:].upper()}: {text}"
        ) from error
    if not isinstance(tree, Mapping):
        raise ConfigurationError(
            f"The configuration file {str(path)!r} holds {tree!r:.60}; expected names and values."
        )
    return tree


def _read(source: Any) -> Any:
    return _read_file(Path(source)) if isinstance(source, (str, Path)) else source


def _has_references(section: ConfigSection) -> bool:
    return any(leaf.reference for _, leaf in section.leaves())


def _groups(section: ConfigSection, prefix: str = "") -> list[tuple[str, Variants]]:
    found: list[tuple[str, Variants]] = []
    for name, part in section.parts.items():
        if isinstance(part, Variants):
            found.append((f"{prefix}{name}", part))
        elif isinstance(part, ConfigSection):
            found += _groups(part, f"{prefix}{name}.")
    return found


def _with_variants(
    section: ConfigSection, names: list[str], path: str, choices: Any
) -> ConfigSection:
    """Return a section with a group of variants in place of what stands at a path."""
    name, *rest = names
    if rest:
        inner = section.parts.get(name)
        if not isinstance(inner, ConfigSection):
            raise ConfigurationError(
                f"There is no section for the variants of {path!r}"
                f"{nearest(name, section.parts) or '; ' + _names(section.parts)}"
            )
        part: Any = _with_variants(inner, rest, path, choices)
    else:
        part = _variants(section.parts.get(name), path, choices)
    return ConfigSection(section.kind, {**section.parts, name: part})


def _variants(standing: Any, path: str, choices: Any) -> Variants:
    if not isinstance(choices, Mapping) or not choices:
        raise ConfigurationError(
            f"The variants of {path!r} are {shorten(repr(choices), 60)}; expected a dict of name "
            "-> configuration."
        )
    sections = {name: read_tree(_read(each), path) for name, each in choices.items()}
    return Variants(sections, _standing_choice(standing, path, sections))


def _standing_choice(standing: Any, path: str, sections: Mapping[str, ConfigSection]) -> str:
    """Return the variant that a configuration has as it was given, the first if it says nothing."""
    value = standing.default if isinstance(standing, Leaf) else standing
    if value is None or value is NO_VALUE:
        return next(iter(sections))
    if isinstance(value, str) and value in sections:
        return value
    equal = [name for name, each in sections.items() if each == value]
    if not equal:
        raise ConfigurationError(
            f"The configuration has {shorten(plain_repr(value), 60)} at {path!r}, which is none of "
            f"its variants: {', '.join(map(repr, sections))}. Give it the name of one."
        )
    return equal[0]


def _check_chosen(
    path: str, group: Variants, values: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    chosen: Any = values.get(path)
    if chosen not in group.choices:
        return
    has = dict(group.choices[chosen].leaves(f"{path}."))
    for name, value in given.items():
        if name.startswith(f"{path}.") and name not in has and value is not None:
            others = [each for each, section in group.choices.items()
                      if name in dict(section.leaves(f"{path}."))]  # fmt: skip
            raise ConfigurationError(
                f"{name} is given, but {path} is {chosen!r}, which has no such leaf; "
                f"{', '.join(map(repr, others))} has. Choose that: {path}={others[0]!r}."
            )


def _misfit(name: str, value: Any, error: Exception) -> ConfigurationError:
    text = str(error) or type(error).__name__
    return ConfigurationError(
        f"{name} is {shorten(plain_repr(value), 60)} ({type(value).__name__}); {text}."
    )


def _told(error: Exception, given: Mapping[str, Any], with_inputs: bool) -> str:
    listed = ", ".join(f"{name}={shorten(plain_repr(each), 40)}" for name, each in given.items())
    details = getattr(error, "errors", None)
    if callable(details):  # pydantic's, which has the path of each value
        notes = getattr(error, "__notes__", [])
        path = "".join(f"{each.removeprefix(AT)}." for each in notes if each.startswith(AT))
        told = "; ".join(_detail(path, each, with_inputs) for each in details())
    else:
        told = f"{type(error).__name__}: {error}"
    return f"The configuration does not take {listed or 'its own defaults'}: {told}"


def _detail(path: str, detail: Mapping[str, Any], with_input: bool) -> str:
    place, what = path + ".".join(map(str, detail["loc"])), detail["msg"]
    if not detail["loc"]:  # of the section as a whole
        return f"{path[:-1]}: {what}" if path else what
    value = f" is {shorten(plain_repr(detail['input']), 40)}" if with_input else ""
    return f"{place}{value}: {what}"


def _names(parts: Mapping[str, Any]) -> str:
    return f"there are {', '.join(parts) or 'none'}"
