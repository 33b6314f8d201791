"""Trials with reusable objects, written by hand."""

from __future__ import annotations

from typing import Any

from daskperiment.pruning import prune
from daskperiment.store.protocol import Store
from tests.history.lab import NOW, Lab

__all__ = ["Shop", "Value"]


class Value:
    """Something that becomes an object, of some size."""

    def __init__(self, name: str, size: int = 1000) -> None:
        self.name = name
        self.data = name * (size // len(name))


class Shop(Lab):
    """Writes what trials with reuse write."""

    def __init__(self, store: Store | None = None) -> None:
        super().__init__()
        self.store = store or self.store
        for digest in ("c0de", "9a4f"):
            self.store.put(digest, [b"{}"])

    def keep(
        self,
        value: Any,
        *,
        ago: float,
        step: str = "prepare",
        reusable: bool = True,
        trial: int | None = None,
        ended: bool = True,
    ) -> str:
        """Write a trial with one step run that kept a value, and give the object's digest."""
        trial = trial or self.begin()
        kept = {"value": self.form(value)}
        self.step(trial, step, kept=kept, reusable=reusable, started=NOW - ago - 5, wall=5.0)
        if ended:
            self.succeed(trial, 0)
        return str(kept["value"]["digest"])

    def reuse(
        self, value: Any, *, ago: float, source: int, step: str = "prepare", ended: bool = True
    ) -> None:
        """Write a trial with one step run that took a value from an earlier trial."""
        trial = self.begin()
        kept = {"value": self.form(value)}
        self.step(trial, step, kept=kept, reused=source, started=NOW - ago - 5, wall=5.0)
        if ended:
            self.succeed(trial, 0)

    def prune(self, **limits: Any) -> list[str]:
        """Prune, and give the digests that were dropped."""
        return list(prune(self.store, **limits)["Digest"])

    def has(self, *digests: str) -> bool:
        """Tell whether the store has all of these objects."""
        return self.store.sizes(digests).keys() == set(digests)
