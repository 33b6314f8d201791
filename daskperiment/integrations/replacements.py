"""Functions of libraries with others in their place, which report what a step trains."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import update_wrapper, wraps
from types import CodeType, FunctionType
from typing import Any

from daskperiment.integrations.training_calls import StepTrainings, trainings_for

__all__ = ["Around", "Replacements", "open_methods", "reporting"]

Around = Callable[[StepTrainings, Callable[..., Any], Any, Any], Any]
"""Calls a function with its arguments in a step, and sees to it that the training is reported."""

_NOTHING: Any = object()


class Replacements:
    """What was put in the place of a library's functions, and can be taken away again."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Put something in the place of an attribute, or of none."""
        # A function's code is none of its own attributes.
        own = getattr(owner, name) if name == "__code__" else vars(owner).get(name, _NOTHING)
        self._done.append((owner, name, own))
        setattr(owner, name, value)

    def replace_code(self, function: FunctionType, library: str, around: Around) -> None:
        """Let a function do as `reporting` says, for all who have hold of it.

        It stays the same function: whoever imported it by its name, or pickles it, has this one.
        """
        twin = FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__,
            function.__closure__,
        )  # fmt: skip
        twin.__kwdefaults__ = function.__kwdefaults__
        signature = inspect.signature(function)
        update_wrapper(twin, function)
        self.replace(function, "__signature__", signature)
        self.replace(function, "__code__", _calling(reporting(library, around, twin), function))

    def restore(self) -> None:
        """Make all as it was."""
        for owner, name, original in reversed(self._done):
            if original is _NOTHING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        self._done = []


def _calling(replacement: Callable[..., Any], function: FunctionType) -> CodeType:
    """Return code for a function that hands its arguments on to another one."""

    def hand_on(*args: Any, **kwargs: Any) -> Any:
        function: Any = "replacement"
        return function(*args, **kwargs)

    own = function.__code__
    constants = tuple(
        replacement if each == "replacement" else each for each in hand_on.__code__.co_consts
    )
    return hand_on.__code__.replace(
        co_consts=constants, co_freevars=own.co_freevars, co_name=own.co_name,
        co_qualname=own.co_qualname,
    )  # fmt: skip


def reporting(library: str, around: Around, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function for the place of another: `around` it where a step's training is recorded.

    Everywhere else, and within another training, it is what it was.
    """

    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        trainings = trainings_for(library)
        if trainings is None:
            return original(*args, **kwargs)
        with trainings.outermost():
            return around(trainings, original, args, kwargs)

    return call


def open_methods(
    library: str, cls: type, arounds: Mapping[str, Around], done: Replacements
) -> None:
    """Replace methods of a class where it has them from."""
    for name, around in arounds.items():
        owner = next((each for each in cls.__mro__ if name in vars(each)), None)
        if owner is not None and inspect.isfunction(vars(owner)[name]):
            done.replace(owner, name, reporting(library, around, vars(owner)[name]))
