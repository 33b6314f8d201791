"""The fuzzer sees what it is there to see."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daskperiment.errors import CorruptRecordError
from tests.damage import fuzz


class Target:
    """Nothing is damaged: what goes wrong is up to the questions."""

    def __init__(self, folder: Path) -> None:
        self.backend, self.canary = folder / "store", folder / "canary"
        self.rows = {1: ("1", "2", "3"), 2: ("1", "2", "3")}

    def restore(self) -> None:
        """Do nothing."""

    def mutate(self, rng: random.Random) -> str:
        """Do nothing, and say so."""
        return f"nothing {rng.random()}"


def refused() -> None:
    raise CorruptRecordError("damaged")


def wrong() -> None:
    raise KeyError("bare")


@pytest.mark.parametrize(
    ("name", "question", "fault"),
    [
        ("steps", lambda target: None, None),
        ("steps", lambda target: refused(), None),
        ("steps", lambda target: wrong(), "KeyError: 'bare'"),
        ("steps", lambda target: time.sleep(5), "took more than"),
        ("steps", lambda target: target.canary.touch(), "ran a pickle"),
        ("history", lambda target: {1: ("1", "2", "3")}, None),
        ("history", lambda target: {1: ("1", "damaged", "3"), 2: ("1", "2", "3")}, None),
        ("history", lambda target: {1: ("1", "4", "3")}, "shows {1:"),
        ("history", lambda target: {3: ("1", "2", "3")}, "shows {3:"),
    ],
)
def test_what_counts_as_a_fault(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    question: Callable[[Target], Any],
    fault: str | None,
) -> None:
    """Refusals and gaps are none; other exceptions, hangs, false rows and run pickles are."""
    target = Target(tmp_path)
    if fault == "took more than":  # all others are at once, unless the machine does other things
        monkeypatch.setattr(fuzz, "_PATIENCE", 0.02)
    asked = [(name, lambda: question(target))]
    monkeypatch.setattr(fuzz, "questions", lambda backend, scratch: iter(asked))
    tally = fuzz.Fuzzer(target, tmp_path, seed=3).run(2)
    assert tally.mutations == 2
    assert len(tally.faults) == (2 if fault else 0)
    assert all(fault is not None and fault in line for line in tally.faults)
    assert tally == fuzz.Fuzzer(target, tmp_path, seed=3).run(2)  # a seed repeats it
