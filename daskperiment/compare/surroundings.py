"""What differs around two trials: packages, git and the rest of the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from daskperiment.capture.environment import changes
from daskperiment.compare.causes import changed_entries
from daskperiment.compare.parts import Pair
from daskperiment.records import Environment

__all__ = ["Surroundings", "compare_surroundings"]

PACKAGES = "requirements"
GIT = "git"
_UNLISTED: dict[str, dict[str, str]] = {GIT: {}}
_UNREACHING: dict[str, dict[str, str]] = {GIT: {}, "memory": {}}
"""A step's own code is compared as such, whatever the repository holds."""


@dataclass(frozen=True)
class Surroundings:
    """What differs of two trials' environments."""

    packages: dict[str, Pair[Any]] = field(default_factory=dict)
    git: dict[str, Pair[Any]] = field(default_factory=dict)
    environment: tuple[str, ...] = ()
    """What else differs, a line each."""
    reaching: tuple[str, ...] = ()
    """What may change the output of a step that does not change itself, a line each."""


def compare_surroundings(old: Environment | None, new: Environment | None) -> Surroundings:
    """Compare two environments; if one could not be read, nothing is known to differ."""
    if old is None or new is None or old == new:
        return Surroundings()
    return Surroundings(
        packages=_changed(old, new, PACKAGES),
        git=_changed(old, new, GIT),
        # With the same packages in both, only what is no package is listed.
        environment=tuple(changes(_only(old, {**_UNLISTED, PACKAGES: _of(new, PACKAGES)}),
                                  _only(new, _UNLISTED))),
        reaching=tuple(changes(_only(old, _UNREACHING), _only(new, _UNREACHING))),
    )  # fmt: skip


def _of(environment: Environment, category: str) -> dict[str, str]:
    return environment.categories.get(category, {})


def _changed(old: Environment, new: Environment, category: str) -> dict[str, Pair[Any]]:
    return changed_entries(_of(old, category), _of(new, category))


def _only(environment: Environment, others: dict[str, dict[str, str]]) -> Environment:
    """Exchange some categories for others."""
    return Environment({**environment.categories, **others})
