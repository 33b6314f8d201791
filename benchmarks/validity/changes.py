"""Generated changes of projects, and what each of them must lead to."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.validity.fragments import COSMETICS, FORMS
from benchmarks.validity.project import Knob, Project, State, Step, make_project

__all__ = ["Change", "Ledger", "Sequence", "sequences"]

PER_PROJECT = 20


class Change(NamedTuple):
    """One change, and the state of the project after it."""

    kind: str
    form: str
    knob: Knob | None
    """What was turned; ``None`` for a cosmetic edit."""
    state: State
    back: bool = False
    """Whether it goes back to a number that the knob once had."""

    @property
    def place(self) -> str:
        return self.knob.name if self.knob else self.form


@dataclass(frozen=True)
class Sequence:
    """A project, how it is at first, and changes of it one after the other."""

    number: int
    project: Project
    first: State
    changes: tuple[Change, ...]


def sequences(count: int, seed: int = 1, extras: bool = True) -> Iterator[Sequence]:
    """Yield projects with `count` changes in all, the kinds in turns.

    Parameters
    ----------
    count : int
        Number of changes.
    seed : int
        The same seed gives the same changes.
    extras : bool
        Whether pydantic and attrs are installed.
    """
    generator = random.Random(seed)
    turns = _in_turns(generator, [*FORMS, "cosmetic"])
    number = 0
    while count > 0:
        kinds = [next(turns) for _ in range(min(count, PER_PROJECT))]
        yield _sequence(generator, number, kinds, extras)
        count -= len(kinds)
        number += 1


def _in_turns(generator: random.Random, kinds: list[str]) -> Iterator[str]:
    while True:
        generator.shuffle(kinds)
        yield from kinds


def _sequence(generator: random.Random, number: int, kinds: list[str], extras: bool) -> Sequence:
    wanted = list(dict.fromkeys(kind for kind in kinds if kind != "cosmetic"))
    more = [generator.choice(wanted) for _ in range(4)] if wanted else []
    more = [kind for kind in more if kind != "seed"]
    project = make_project(generator, [*wanted, *more], extras)
    state = State({knob.name: 10 + place for place, knob in enumerate(project.knobs())})
    return Sequence(number, project, state, tuple(_changes(generator, project, state, kinds)))


def _changes(
    generator: random.Random, project: Project, state: State, kinds: list[str]
) -> Iterator[Change]:
    had = {name: [number] for name, number in state.numbers.items()}
    fresh = 100
    for kind in kinds:
        if kind == "cosmetic":
            form = generator.choice(COSMETICS)
            state = state.edited(form)
            yield Change(kind, form, None, state)
            continue
        knob = generator.choice([knob for knob in project.knobs() if knob.kind == kind])
        older = [number for number in had[knob.name] if number != state.numbers[knob.name]]
        back = bool(older) and generator.random() < 0.3
        fresh += generator.randint(1, 9)
        number = generator.choice(older) if back else fresh
        had[knob.name].append(number)
        state = state.turned(knob.name, number)
        yield Change(kind, knob.form, knob, state, back)


@dataclass
class Ledger:
    """What one tool has run so far: whether a step must run is known from it."""

    project: Project
    _known: dict[str, set[Any]] = field(default_factory=dict)

    def must_run(self, state: State, outputs: Mapping[str, Any]) -> set[str]:
        """Return the steps that never ran with what they depend on now, inputs included."""
        return {
            step.name
            for step in self.project.steps
            if self._key(step, state, outputs) not in self._known.get(step.name, ())
        }

    def enter(self, state: State, outputs: Mapping[str, Any]) -> None:
        """Note that each step's output is known for what it depends on now."""
        for step in self.project.steps:
            self._known.setdefault(step.name, set()).add(self._key(step, state, outputs))

    def _key(self, step: Step, state: State, outputs: Mapping[str, Any]) -> Any:
        return self.project.facts(step, state), tuple(outputs[name] for name in step.inputs)
