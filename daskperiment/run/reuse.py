"""What of a trial's graph need not run, because its output is known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from daskperiment.run.facts import Facts, Hit, fact_id, latest, why_not
from daskperiment.run.recipes import Formula, Known, Recipe, Unknown
from daskperiment.store.protocol import Store

__all__ = [
    "Arrangement",
    "Mark",
    "NEVER_RUN",
    "arrange",
    "plain_marks",
]

Key = Hashable

NEVER_RUN = "never run"


class Mark(NamedTuple):
    """What a step run writes down of its recipe."""

    base: str
    """Empty, as the other, if the step has none."""
    seeded: str
    ids: tuple[str, ...] = ()
    """Ids of the records that tell later trials of the output."""
    reusable: bool = False
    reason: str | None = None
    """Why it runs, where its output might have been reused."""


@dataclass(frozen=True)
class Arrangement:
    """What runs in a trial, what is taken from earlier ones and what trials can share."""

    marks: Mapping[str, Mark] = field(default_factory=dict)
    """By place."""
    hits: Mapping[Key, Hit] = field(default_factory=dict)
    shared: Mapping[Key, str] = field(default_factory=dict)
    """Nodes that trials in flight run once for all -> what names their content."""
    seeded: Mapping[Key, str] = field(default_factory=dict)
    """Recipes with the trial's seeds."""
    computed: Mapping[Key, Sequence[Any]] = field(default_factory=dict)
    """Hit -> the parameters before it that are computed."""
    needed: frozenset[Key] = frozenset()
    reasons: Mapping[Key, str] = field(default_factory=dict)
    """Why those of the reusable steps that are no hits must run."""

    @property
    def making(self) -> frozenset[str]:
        """What names the content that the trial makes and others can share."""
        running = self.needed - self.hits.keys()
        return frozenset(name for key, name in self.shared.items() if key in running)


def arrange(
    store: Store, formulas: Iterable[Formula], recipes: Mapping[Key, Recipe],
    reusable: Collection[Key], in_flight: Callable[[str], bool],
) -> Arrangement:  # fmt: skip
    """Decide what runs.

    Parameters
    ----------
    store : Store
        Where outputs of earlier trials are.
    formulas : iterable of Formula
        Inputs before those who take them; the result is the last.
    recipes : mapping
        Of every node.
    reusable : collection
        Keys of the steps whose outputs may be reused.
    in_flight : callable
        Tells whether a trial in flight makes what has this name.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    table = {formula.key: formula for formula in formulas}
    return _Arranging(store, table, recipes, reusable, in_flight).arrangement()


class _Arranging:
    def __init__(
        self, store: Store, formulas: Mapping[Key, Formula], recipes: Mapping[Key, Recipe],
        reusable: Collection[Key], in_flight: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self.store = store
        self.formulas = formulas
        self.recipes = recipes
        self.last = list(formulas)[-1]
        self.reusable = set(reusable)
        self.in_flight = in_flight
        self.facts = Facts(store)
        self.before = self._ancestors(self.reusable)
        self.drew: dict[Key, bool | None] = {}
        self.suspects: dict[Key, str] = {}
        self.reasons: dict[Key, str] = {}

    def arrangement(self) -> Arrangement:
        known = {key: r for key in self.before if isinstance(r := self.recipes[key], Known)}
        self.facts.look({recipe.base for recipe in known.values()})
        for key in self.before:
            self.drew[key] = self._draws(key)
        self.facts.look({r.seeded for key, r in known.items() if self.drew[key]})
        self.suspects = self._distrusted()
        shared = self._shared()
        hits = self._present({key: hit for key in self.reusable if (hit := self._hit(key))})
        computed = {key: self._computed(key) for key in hits}
        return Arrangement(
            marks={formula.place: self._mark(formula) for formula in self._marked()},
            hits=hits, shared=shared, computed=computed,
            seeded={key: recipe.seeded for key, recipe in known.items()},
            needed=self._needed(hits, computed), reasons=self.reasons,
        )  # fmt: skip

    def _ancestors(self, keys: Iterable[Key]) -> list[Key]:
        """List nodes and all before them, inputs first."""
        found: set[Key] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in found and key in self.formulas:
                found.add(key)
                waiting += self.formulas[key].refs
        return [key for key in self.formulas if key in found]

    def _draws(self, key: Key) -> bool | None:
        """Tell whether a node or any before it draws random numbers; None if nobody knows."""
        formula, recipe = self.formulas[key], self.recipes[key]
        before = [self.drew.get(ref, False) for ref in formula.refs]
        if any(before):
            return True
        if isinstance(recipe, Unknown):
            return None
        if formula.place and recipe.base != recipe.seeded:
            facts = self.facts.all(recipe.base)
            before.append(any(fact.drew for fact in facts) if facts else None)
        return True if any(before) else None if None in before else False

    def _name(self, key: Key) -> str:
        """Name what determines a node's output: with seeds where they matter."""
        recipe = self.recipes[key]
        assert isinstance(recipe, Known)
        return recipe.seeded if self.drew.get(key) else recipe.base

    def _distrusted(self) -> dict[Key, str]:
        """Find the nodes whose outputs recipes do not determine, and say of each why."""
        found: dict[Key, str] = {}
        for key in self.before:
            why = self._suspicion(key) or self._suspicion_before(key, found)
            if why:
                found[key] = why
        return found

    def _suspicion(self, key: Key) -> str | None:
        recipe = self.recipes[key]
        if isinstance(recipe, Unknown):
            return None
        if recipe.base in self.facts.impure:
            return "impure: with nothing changed, it once returned another output"
        facts = self.facts.all(self._name(key)) or self.facts.all(recipe.base)
        if facts and all(fact.note for fact in facts):
            return why_not(facts[-1])
        return None

    def _suspicion_before(self, key: Key, found: Mapping[Key, str]) -> str | None:
        refs = (ref for ref in self.formulas[key].refs if ref in found)
        ref = next(refs, None)
        if ref is None:
            return None
        place, why = self.formulas[ref].place, found[ref]
        return why if why.startswith("before it") or not place else f"before it, {place}: {why}"

    def _hit(self, key: Key) -> Hit | None:
        recipe = self.recipes[key]
        if isinstance(recipe, Unknown):
            self.reasons[key] = recipe.reason
            return None
        if key in self.suspects:
            self.reasons[key] = self.suspects[key]
            return None
        if self.in_flight(self._name(key)):
            # By the key that is in flight, so that what follows has the same keys too.
            self.reasons[key] = "a trial in flight runs it"
            return None
        facts = [] if self.drew[key] is None else self.facts.all(self._name(key))
        fact = latest(facts)
        if fact is not None:
            # Where it comes from tells why, should it turn out that it cannot be loaded.
            self.reasons[key] = f"the output that trial {fact.trial} kept could not be loaded"
            return Hit(self._name(key), fact)
        self.reasons[key] = (why_not(facts[-1]) if facts else None) or NEVER_RUN
        return None

    def _present(self, hits: dict[Key, Hit]) -> dict[Key, Hit]:
        digests = {hit.digest for hit in hits.values() if hit.digest}
        there = self.store.sizes(digests) if digests else {}
        for key, hit in hits.items():
            if hit.digest and hit.digest not in there:
                self.reasons[key] = (
                    f"the output that trial {hit.fact.trial} kept is no longer in the store"
                )
        return {key: hit for key, hit in hits.items() if not hit.digest or hit.digest in there}

    def _computed(self, key: Key) -> list[Key]:
        return [k for k in self._ancestors([key]) if self.formulas[k].parameter]

    def _needed(
        self, hits: Mapping[Key, Hit], computed: Mapping[Key, Sequence[Key]]
    ) -> frozenset[Key]:
        needed: set[Key] = set()
        waiting = [self.last]
        while waiting:
            key = waiting.pop()
            if key not in needed:
                needed.add(key)
                formula = self.formulas.get(key)
                waiting += computed[key] if key in hits else formula.refs if formula else ()
        return frozenset(needed)

    def _shared(self) -> dict[Key, str]:
        shared: dict[Key, str] = {}
        for key in self.before:
            recipe = self.recipes[key]
            refs = [ref for ref in self.formulas[key].refs if ref in self.formulas]
            if (
                isinstance(recipe, Known)
                and all(ref in shared for ref in refs)
                and key not in self.suspects
            ):
                shared[key] = self._name(key)
        return shared

    def _marked(self) -> list[Formula]:
        known = {key for key, recipe in self.recipes.items() if isinstance(recipe, Known)}
        return [f for f in self.formulas.values() if f.place and f.key in known | self.reusable]

    def _mark(self, formula: Formula) -> Mark:
        recipe, key = self.recipes[formula.key], formula.key
        reason = self.reasons.get(key)
        if isinstance(recipe, Unknown):
            return Mark("", "", (), reusable=True, reason=reason)
        return Mark(recipe.base, recipe.seeded, self._ids(key), key in self.reusable, reason)

    def _ids(self, key: Key) -> tuple[str, ...]:
        """Make the ids of the records to write: none for what is known already."""
        if key not in self.drew:
            return ids_of(self.formulas[key], self.recipes[key])
        recipe, drew = self.recipes[key], self.drew[key]
        assert isinstance(recipe, Known)
        if recipe.base in self.facts.impure:
            return ()
        persisted = self.formulas[key].persist
        wanted = [] if drew and self.facts.all(recipe.base) else [recipe.base]
        if persisted and drew is not False:
            wanted.append(recipe.seeded)
        counts = [(name, len(self.facts.all(name))) for name in wanted]
        return tuple(fact_id(name, count) for name, count in counts if persisted or not count)


def ids_of(formula: Formula, recipe: Recipe) -> tuple[str, ...]:
    """Make the ids of the records to write where nothing was looked up."""
    assert isinstance(recipe, Known)
    wanted = [recipe.base, recipe.seeded] if formula.persist else [recipe.base]
    return tuple(map(fact_id, wanted))


def plain_marks(formulas: Iterable[Formula], recipes: Mapping[Key, Recipe]) -> dict[str, Mark]:
    """Make the marks of a trial that reuses nothing, so that later ones may reuse it."""
    return {
        formula.place: Mark(recipe.base, recipe.seeded, ids_of(formula, recipe))
        for formula in formulas
        if formula.place and isinstance(recipe := recipes[formula.key], Known)
    }
