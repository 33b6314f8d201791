"""What is asked of one trial beyond its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Order"]


@dataclass(frozen=True)
class Order:
    """What whoever computes a result asks of the trial."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Parameter values that stand in for those of the experiment."""
    seed: int | None = None
    """Without it, the experiment's; without that, a fresh one."""
    reuse: bool | None = None
    """Whether outputs of earlier trials may be taken; None leaves it to experiment and steps."""
    sweep: str | None = None
    """Id of the sweep that the trial belongs to."""
    source: int | None = None
    """The trial that this one reproduces."""
