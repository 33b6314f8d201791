"""What a trial's recorded code holds, looked up by name."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from daskperiment.capture.constants import fingerprint_constant
from daskperiment.capture.found import Constant
from daskperiment.capture.origin import module_of
from daskperiment.capture.walk import Walk
from daskperiment.records import Code, Function

__all__ = ["Record", "short"]

_MAIN = "__main__."
_NUMBER = re.compile(r"#\d+$")


def short(name: str) -> str:
    """Give a name as records have it: without ``__main__``."""
    return name.removeprefix(_MAIN)


class Record:
    """The functions, classes and constants of a trial's code.

    Parameters
    ----------
    code : Code
    """

    def __init__(self, code: Code) -> None:
        self._functions: defaultdict[str, list[Function]] = defaultdict(list)
        self._constants: defaultdict[str, set[str | None]] = defaultdict(set)
        self.unknown: dict[str, None] = {}
        """Constants that were taken as they are today, for want of a fingerprint."""
        for function in code.functions.values():
            self._functions[function.name].append(function)
        for step in code.steps.values():
            for name, fingerprint in step.constants.items():
                self._constants[_NUMBER.sub("", name)].add(fingerprint)

    def functions(self, name: str) -> list[Function]:
        """List the functions and classes of this full name."""
        return self._functions.get(short(name), [])

    def ending(self, name: str) -> list[Function]:
        """List the functions and classes of this name in any module."""
        return [
            function
            for known, functions in self._functions.items()
            if known.rpartition(".")[2] == name and "<locals>" not in known
            for function in functions
        ]

    def has_constant(self, name: str) -> bool:
        """Tell whether a value was read under this full name."""
        return short(name) in self._constants

    def covers(self, name: str, value: Any) -> bool:
        """Tell whether a value of today, with all of the user's code behind it, is as recorded.

        Parameters
        ----------
        name : str
            The full name under which it is read.
        value : object
        """
        walk = Walk(value)
        base = module_of(value) or ""
        return all(
            any(unit.fingerprint == known.fingerprint for known in self.functions(unit.name))
            for unit in walk.units
        ) and all(self._covers_constant(name, base, each) for each in walk.constants.values())

    def _covers_constant(self, name: str, base: str, constant: Constant) -> bool:
        # Without an owner it is the value itself, or part of it.
        own = constant.owner < 0
        full = short(name + constant.name[len(base) :] if own else constant.name)
        known = self._constants.get(full, set())
        if None in known:
            self.unknown[full] = None
            return True
        return bool(known) and fingerprint_constant(constant.value)[0] in known
