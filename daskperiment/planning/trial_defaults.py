"""What an experiment says of all its trials, for those that are not asked for otherwise."""

from __future__ import annotations

__all__ = ["TrialDefaults"]


class TrialDefaults:
    """What holds for a trial where neither its options nor its steps say anything.

    Attributes
    ----------
    seed : int, optional
        Without it, each trial draws one.
    reuse : bool
        Whether kept outputs are reused.
    """

    def __init__(self) -> None:
        self.seed: int | None = None
        self.reuse = False
