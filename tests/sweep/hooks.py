"""What a test makes a step do: in a module, so that a step that was pickled finds it too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["HOOKS", "call"]

HOOKS: list[Callable[[Any], Any]] = []


def call(value: Any) -> None:
    """Call the hooks of the running test."""
    for hook in tuple(HOOKS):
        hook(value)
