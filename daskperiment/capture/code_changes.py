"""How the code of steps differs between two trials, and how people read it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from daskperiment.records import Code, Function, StepCode

__all__ = [
    "changed_constants",
    "changed_functions",
    "diff_functions",
    "names_of_changes",
    "same_names",
    "source_text",
    "unknown_constants",
]

_T = TypeVar("_T")
_Pair = tuple[str | None, str | None]
_Change = tuple[str, "Function | None", "Function | None"]


def unknown_constants(code: StepCode) -> list[str]:
    """Return the names of what a step's code reads and nobody can tell whether it changed."""
    names = code.constants if None in code.constants.values() else ()
    return [name for name in names if code.constants[name] is None and name not in code.states]


def changed_functions(old: Code, new: Code, step: str) -> list[_Change]:
    """Return name, old and new of the functions of a step that differ between two captures.

    The step's own function is first. ``None`` stands for a function that is not used there.
    """
    before, after = _functions_of(old, step), _functions_of(new, step)
    before = same_names(before, after)
    # What differs in its file or note alone is no change of the code.
    pairs = [(name, before.get(name), after.get(name)) for name in {**after, **before}]
    return [each for each in pairs if len({f and f.fingerprint for f in each[1:]}) > 1]


def changed_constants(old: Code, new: Code, step: str) -> dict[str, _Pair]:
    """Return the fingerprints of what a step's code reads and that changed, by name.

    An empty one stands for what one of them does not read, ``None`` for what has none; if both
    read it, that may be the same. What only holds code that changed, or is written in it, is told
    by that.
    """
    before, after = old.steps[step], new.steps[step]
    found = _differing(before, after)
    functions = changed_functions(old, new, step) if found else []
    if not functions:
        return found
    data = same_names(before.data, after.data)
    return {
        name: pair for name, pair in found.items()
        if not (name in data and data[name] == after.data.get(name))
        and not _is_written_in(name, functions)
    }  # fmt: skip


def _differing(before: StepCode, after: StepCode) -> dict[str, _Pair]:
    constants = same_names(before.constants, after.constants)
    pairs = {name: (constants.get(name, ""), after.constants.get(name, ""))
             for name in {**constants, **after.constants}}  # fmt: skip
    return {name: pair for name, pair in pairs.items()
            if pair[0] != pair[1] and (None not in pair or "" in pair)}  # fmt: skip


def _is_written_in(name: str, functions: Iterable[_Change]) -> bool:
    """Whether a value stands in the source of a class or function, and its line there changed."""
    for owner, old, new in functions:
        part = name.removeprefix(owner)
        if old is None or new is None or part == name or part[:1] not in (".", "("):
            continue
        word = re.compile(rf"^[-+](?![-+]).*\b{re.escape(part.strip('.()'))}\b", re.MULTILINE)
        if word.search(diff_functions(old, new)):
            return True
    return False


def names_of_changes(old: Code, new: Code, step: str) -> frozenset[str]:
    """Return the names of the functions and constants of a step's code that changed."""
    before, after = old.steps.get(step), new.steps.get(step)
    if before is None or after is None or before.fingerprint == after.fingerprint:
        return frozenset()
    functions = [name for name, _, _ in changed_functions(old, new, step)]
    return frozenset([*functions, *_differing(before, after)])


def same_names(old: Mapping[str, _T], new: Mapping[str, _T]) -> dict[str, _T]:
    """Return old things under the names that they have now.

    Run as a script, a module has no name: its ``f`` is ``module.f`` where it is imported.
    """
    added = [name for name in new if name not in old]
    names = {}
    for name in old:
        found = [n for n in added if n.endswith(f".{name}") or name.endswith(f".{n}")]
        names[name] = found[0] if name not in new and len(found) == 1 else name
    return {names[name]: value for name, value in old.items()}


def _functions_of(code: Code, step: str) -> dict[str, Function]:
    known = code.steps.get(step)
    return {} if known is None else {name: code.functions[name] for name in known.functions}


def diff_functions(old: Function, new: Function) -> str:
    """Return how a function's source changed, as a unified diff.

    Where one of them has no source, a line says so instead.
    """
    if old.source is None or new.source is None:
        missing = (old if old.source is None else new).note or "no source"
        return f"{new.name} changed; {missing}."
    texts = old.source.splitlines(), new.source.splitlines()
    before, after = (f"{each.name} ({each.file or 'no file'})" for each in (old, new))
    diff = difflib.unified_diff(*texts, f"{before} before", f"{after} after", lineterm="")
    return "\n".join(diff)


def source_text(code: Code, steps: Iterable[str] | None = None) -> str:
    """Return the source of steps (all if none are named), and then of what they use.

    ValueError if there is no such step.
    """
    names = list(code.steps) if steps is None else list(steps)
    unknown = [name for name in names if name not in code.steps]
    if unknown:
        raise ValueError(f"There is no step {unknown[0]!r}. Known steps: {list(code.steps)!r}.")
    used = [code.steps[name].functions for name in names]
    # Each step's own function is the first of its functions.
    own = {functions[0]: name for name, functions in zip(names, used, strict=True)}
    helpers = {key: "" for functions in used for key in functions if key not in own}
    named = {**own, **helpers}.items()
    return "\n\n\n".join(_block(code.functions[key], step) for key, step in named)


def _block(function: Function, step: str) -> str:
    title = f"step {step}" if step else function.name
    place = f", from {function.file}" if function.file else ""
    text = (function.source or f"# {function.note or 'no source'}").strip("\n")
    return f"# {title}{place}\n{text}"
