"""What a store knows of the outputs that recipes led to.

Two kinds of facts are kept under recipes, as records of the stream ``outputs``: what is known of
the output that a recipe led to (``r-<recipe>``, and ``r-<recipe>~1`` and so on for outputs that
took the place of lost ones), and that a recipe once led to two outputs (``x-<recipe>``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from daskperiment.codec import decode, is_object
from daskperiment.errors import CorruptRecordError
from daskperiment.records import Recipe as Fact
from daskperiment.store.protocol import Store

__all__ = ["Facts", "Hit", "fact_id", "impure_id", "latest", "look_up", "why_not", "worth_writing"]

GENERATIONS = 4
"""How many outputs of one recipe are asked for at once."""


class Hit(NamedTuple):
    """An output that stands in for a step."""

    recipe: str
    fact: Fact

    @property
    def digest(self) -> str | None:
        """Digest of the output's object, None if it is plain data."""
        form = self.fact.kept["value"]
        return form["digest"] if is_object(form) else None


def fact_id(recipe: str, generation: int = 0) -> str:
    """Make the id of the record that holds what is known of a recipe's output."""
    return f"r-{recipe}~{generation}" if generation else f"r-{recipe}"


def impure_id(recipe: str) -> str:
    """Make the id of the record that says that a recipe led to two outputs."""
    return f"x-{recipe}"


class Facts:
    """What a store knows of recipes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._facts: dict[str, list[Fact]] = {}
        self.impure: set[str] = set()

    def look(self, recipes: Collection[str]) -> None:
        """Read what is known of some recipes, a few outputs of each."""
        wanted, first = [recipe for recipe in recipes if recipe not in self._facts], 0
        self._facts.update((recipe, []) for recipe in wanted)
        while wanted:
            found = self._read(wanted, range(first, first + GENERATIONS))
            for recipe in wanted:
                self._facts[recipe] += found.get(recipe, [])
            first += GENERATIONS
            wanted = [recipe for recipe in wanted if len(self._facts[recipe]) == first]

    def _read(self, recipes: list[str], generations: Iterable[int]) -> dict[str, list[Fact]]:
        ids = {fact_id(recipe, n): recipe for recipe in recipes for n in generations}
        marks = {impure_id(recipe): recipe for recipe in recipes}
        found: dict[str, list[Fact]] = {}
        bodies = {record.id: record.body for record in self._store.find([*ids, *marks])}
        self.impure.update(marks[id] for id in bodies if id in marks)
        for id, recipe in ids.items():
            if id in bodies:
                found.setdefault(recipe, []).append(_decoded(bodies[id]))
        return found

    def all(self, recipe: str) -> list[Fact]:
        """Give what is known of a recipe's outputs, oldest first."""
        return self._facts.get(recipe, [])


def _decoded(body: bytes) -> Fact:
    try:
        return decode(body, Fact)
    except CorruptRecordError as error:
        return Fact(0, "", "", note=f"its record is damaged: {error}")


def worth_writing(ids: Sequence[str], fact: Fact) -> list[str]:
    """Choose the records to write: another output of a recipe only if it can be reused."""
    if fact.note:
        # Of an output that is not to be trusted only whether the step draws is of use.
        ids = ids[:1]
    return [id for id in ids if "~" not in id or why_not(fact) is None]


def look_up(store: Store, base: str, seeded: str, drew: bool) -> Hit | None:
    """Find the output of a step that another trial may have run since the trial was arranged.

    Parameters
    ----------
    store : Store
    base, seeded : str
        The step's recipe, without and with the trial's seeds.
    drew : bool
        Whether anything before the step drew random numbers.
    """
    facts = Facts(store)
    facts.look([base, seeded])
    if base in facts.impure:
        return None
    drew = drew or any(fact.drew for fact in facts.all(base))
    recipe = seeded if drew else base
    fact = latest(facts.all(recipe))
    return Hit(recipe, fact) if fact is not None else None


def latest(facts: Sequence[Fact]) -> Fact | None:
    """Choose the newest output that can be reused."""
    return next((fact for fact in reversed(facts) if why_not(fact) is None), None)


def why_not(fact: Fact) -> str | None:
    """Say why an output cannot be reused; None if it can."""
    if fact.note:
        return f"the output of trial {fact.trial} is not to be trusted: {fact.note}"
    if fact.kept is None:
        return "its output was not kept: the step was not persisted"
    form = fact.kept.get("value")
    if is_object(form) and not form.get("digest"):
        return f"output not kept: {form.get('reason') or 'no reason is known'}"
    return None
