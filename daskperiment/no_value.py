"""What stands where no value was given."""

from __future__ import annotations

from typing import Final

__all__ = ["NO_VALUE"]


class _NoValue:
    def __repr__(self) -> str:
        return "<no value>"

    def __reduce__(self) -> str:
        return "NO_VALUE"


NO_VALUE: Final = _NoValue()
"""Stands for "nothing was given", since None is a value."""
