"""What is asked of one trial beyond its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from daskperiment.client.progress import ProgressReporter

__all__ = ["TrialOptions", "check_reuse"]


@dataclass(frozen=True)
class TrialOptions:
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
    progress: ProgressReporter | None = None
    """Told of each step, if somebody watches."""

    def refined(self, **asked: Any) -> TrialOptions:
        """Return options that also ask for what is given here and not None."""
        asked = {name: value for name, value in asked.items() if value is not None}
        return replace(self, **asked) if asked else self


def check_reuse(reuse: Any) -> bool | None:
    """Refuse what does not say whether to reuse outputs.

    Raises
    ------
    TypeError
        If it is neither True, False nor None.
    """
    if reuse is None or isinstance(reuse, bool):
        return reuse
    raise TypeError(f"reuse is {reuse!r}; expected True, False or None")
