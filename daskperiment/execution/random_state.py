"""The global random state while steps run.

Each step run has a seed of its own (:mod:`daskperiment.seeds`). ``random``, ``numpy.random`` and
the families of generators that are imported are seeded with it for as long as the step runs, one
that a step imports as soon as it is there; what the user's own code had comes back afterwards.

The global state is one per process. Steps that run at the same time in one process share it, so
what they draw from it depends on timing. That is noticed and reported, not prevented. A step that
computes another trial and waits for it draws on afterwards where it was. Dask draws from the state
too, on a worker's event loop, when it estimates the size of a message: that is prevented.
"""

from __future__ import annotations

import ctypes
import os
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.random import mtrand

from daskperiment.errors import RandomStateWarning
from daskperiment.execution.context import ACTIVE, RunningStep
from daskperiment.execution.generators import (
    PACKAGES,
    ArrivalFinder,
    GeneratorFamily,
    families_of,
    imported_families,
    move_python,
    python_position,
)
from daskperiment.execution.helper_threads import carry_steps, waits_for
from daskperiment.execution.system_entropy import ISOLATED_PACKAGES, SystemDraws, seed_unseeded
from daskperiment.execution.unseen_draws import notice_states
from daskperiment.warn import warn_user

__all__ = [
    "IsolatedLibraries",
    "doubt_of",
    "global_position",
    "move_globally",
    "release_step",
    "seed_step",
    "steps_in_turn",
]


class IsolatedLibraries:
    """Libraries that get a generator of their own, as they are imported.

    Dask's estimates of sizes, a worker's event loop and the drivers of servers draw from the module
    ``random`` at any moment. A step that runs meanwhile would draw other numbers than last time.
    """

    def __init__(self) -> None:
        self._generator = random.Random()
        self._module = ModuleType(random.__name__)
        vars(self._module).update(vars(random))
        self._replace(self._module)
        self._seen: set[str] = set()
        self._count = 0

    def update(self) -> bool:
        """Isolate what was imported since the last time, and return whether something was."""
        if len(sys.modules) == self._count:
            return False
        if not self._count:  # what they change is imported by now
            carry_steps()
            seed_unseeded()
            notice_states(random, ["setstate"])
            notice_states(np.random, ["set_state"])
        self._count = len(sys.modules)
        for name in sys.modules.keys() - self._seen:
            self._seen.add(name)
            if name == "dask.sizeof" or name.partition(".")[0] in ISOLATED_PACKAGES:
                self._replace(sys.modules.get(name))
        return True

    def _replace(self, module: ModuleType | None) -> None:
        """Replace what a module draws from, where that is the generator that steps use."""
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is random:
                setattr(module, name, self._module)
            elif getattr(value, "__self__", None) is _SHARED:
                setattr(module, name, getattr(self._generator, value.__name__))


_SHARED = random.random.__self__  # type: ignore[attr-defined]  # typeshed calls it a function
"""The generator behind the functions of the module ``random``."""

_set_state = random.setstate
"""Without what notices that a step calls it."""
_seed_generator = super(random.Random, _SHARED).seed
"""Of all that the function of the module does, what it does with a number."""


def _give_seed(seed: int) -> None:
    _seed_generator(seed)
    _SHARED.gauss_next = None


class _DrawFinder(Protocol):
    """Tells whether something was drawn from the generators since they were marked."""

    looking_draws: bool
    """Whether a look takes a draw away."""

    def mark(self, again: Callable[[], Any]) -> None:
        """Remember where they are; `again` brings them there."""

    def drawn(self) -> bool:
        """Return whether they are elsewhere now."""


class _DrawsByOutput:
    """Tells it by the next raw output.

    Parameters
    ----------
    python : random.Random
    bits : numpy.random.MT19937
    """

    looking_draws = True

    def __init__(self, python: random.Random, bits: Any) -> None:
        self._python, self._bits = python, bits
        self._expected = (0, 0)

    def mark(self, again: Callable[[], Any]) -> None:
        self._expected = self._next()
        again()

    def drawn(self) -> bool:
        return self._next() != self._expected

    def _next(self) -> tuple[int, int]:
        return self._python.getrandbits(64), int(self._bits.random_raw())


class _DrawsByMemory:
    """Tells it by where the generators stand in their memory, which a look does not change.

    Both have 624 words and, in front or behind, the number of those that were given out. If all
    were, the words are others, and so they are for another seed: all but the first.
    """

    looking_draws = False

    def __init__(self, python: random.Random, bits: Any) -> None:
        found = ctypes.c_uint32 * (_WORDS + 1)
        self._python = found.from_address(id(python) + object.__basicsize__)
        self._numpy = found.from_address(bits.ctypes.state_address)
        self._owners = python, bits  # as long as they are looked at
        self._marked: tuple[int, ...] = ()

    def mark(self, again: Callable[[], Any]) -> None:
        python, numpy = self._python, self._numpy
        self._marked = python[0], python[2], numpy[1], numpy[_WORDS]

    def drawn(self) -> bool:
        python, numpy = self._python, self._numpy
        return (python[0], python[2], numpy[1], numpy[_WORDS]) != self._marked


_WORDS = 624


def _draw_finder(python: random.Random, bits: Any) -> _DrawFinder:
    """Return what tells of draws: by memory, where that is seen to be laid out as expected."""
    small = random.Random.__basicsize__ < object.__basicsize__ + 4 * (_WORDS + 1)
    if sys.implementation.name != "cpython" or small:
        return _DrawsByOutput(python, bits)
    own = random.Random(1), np.random.MT19937(1)
    return (_DrawsByMemory if _finds_draws(_DrawsByMemory(*own), *own) else _DrawsByOutput)(
        python, bits
    )


def _finds_draws(finder: _DrawFinder, python: random.Random, bits: Any) -> bool:
    """Whether draws of each generator are found, be they as many as there are words, and seeds."""
    numpy = np.random.RandomState(bits)
    draws: list[Callable[[], Any]] = [
        lambda: python.getrandbits(32), lambda: python.getrandbits(32 * _WORDS),
        lambda: bits.random_raw(), lambda: bits.random_raw(_WORDS),
        lambda: python.seed(2), lambda: numpy.seed(2),
    ]  # fmt: skip
    found = []
    for draw in draws:
        python.seed(1)
        numpy.seed(1)
        for turned in (False, True):  # with all words given out, and with some
            if turned:
                python.getrandbits(32), bits.random_raw()
            finder.mark(lambda: None)
            found.append(not finder.drawn())
            draw()
            found.append(finder.drawn())
    return all(found)


class _WaitingStep(NamedTuple):
    """A step that waits for the steps of trials that it computes, and where its draws were."""

    step: RunningStep
    state: tuple[Any, Any]
    seed: int
    families: list[GeneratorFamily]


class _GlobalRandomState:
    """Seeds the process's global random state for steps, and tells which of them drew from it.

    Reading the whole state, to see whether something was drawn, would cost more than the rest of a
    small step. So does giving it back: between steps of which one follows the other in one thread,
    it stays as it is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bits = np.random.MT19937(0)
        self._levels: list[_WaitingStep] = []
        """Those below that of the steps that draw now, the outermost first."""
        self._steps: list[RunningStep] = []
        """The steps that draw now: all that run here, but for those that wait for others."""
        self._isolated = IsolatedLibraries()
        self._system = SystemDraws()
        self._finder = ArrivalFinder(PACKAGES, self.arrived)
        self._draws = _draw_finder(_SHARED, self._bits)
        self._holders = 0
        """How many threads run steps of which one follows the other."""
        self._forget()

    def _forget(self) -> None:
        self._seed = 0
        self._failed = False
        self._outside: Any = None
        """What the user's own code had, while it does not have it."""
        self._families: list[GeneratorFamily] = []

    def enter(self, step: RunningStep, outer: object) -> None:
        with self._lock:
            # A step comes from the one that waits, or from the only one that draws.
            if self._levels and not (outer is self._levels[-1].step or self._alone(outer)):
                self._join_levels()
            if ACTIVE:
                self._enter_beside(step, outer)
            else:
                if self._isolated.update() and self._finder not in sys.meta_path:
                    sys.meta_path.insert(0, self._finder)
                self._failed = False
                if self._outside is None:
                    self._take_over()
            ACTIVE.append(step)
            self._steps.append(step)
            self._reseed(step.seed)

    def _take_over(self) -> None:
        """Put away what the user's own code has."""
        self._outside = (random.getstate(), mtrand.get_bit_generator())
        mtrand.set_bit_generator(self._bits)
        if os.urandom is not self._system:
            self._system.read = os.urandom
        # The second is what SystemRandom calls.
        os.urandom = self._system
        setattr(random, "_urandom", self._system)  # noqa: B010
        if sys.modules.keys() & PACKAGES:
            self._families = imported_families()

    def __enter__(self) -> None:
        """Keep what the user's own code has until the end of steps that follow one another."""
        with self._lock:
            self._holders += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders and not ACTIVE and self._outside is not None:
                self._restore()

    def _alone(self, step: object) -> bool:
        return len(self._steps) == 1 and self._steps[0] is step

    def _enter_beside(self, step: RunningStep, outer: object) -> None:
        waits = self._alone(outer) and waits_for(self._steps[0], step)
        # Before a look, which may take a draw away.
        state = (random.getstate(), self._bits.state) if waits else (None, None)
        self._note_draws()
        for other in ACTIVE:
            other.beside = (*other.beside, step.key)
        if waits:
            level = _WaitingStep(self._steps[0], state, self._seed, self._families)
            self._levels.append(level)
            self._steps, self._families = [], imported_families()

    def leave(self, step: RunningStep) -> None:
        with self._lock:
            rest = self._steps[1:]
            if rest or self._steps[0] is not step:
                rest = self._others(step)
            self._note_draws()
            step.halted = step.halted or "ended"
            # By identity: two steps of two trials may be equal records.
            ACTIVE[:] = [other for other in ACTIVE if other is not step]
            self._steps = rest
            if not ACTIVE:
                if not self._holders:
                    self._restore()
            elif not self._steps:
                self._go_on(self._levels.pop())

    def _others(self, step: RunningStep) -> list[RunningStep]:
        """Return the steps that draw besides one that ends."""
        if not any(other is step for other in self._steps):
            self._join_levels()
        return [other for other in self._steps if other is not step]

    def _go_on(self, level: _WaitingStep) -> None:
        """Let the step draw on that waited for those of a level."""
        for family in self._families:
            arrived = any(each is family for each in level.families)
            self._try(partial(family.seed, level.seed) if arrived else family.restore)
        self._steps, self._seed, self._families = [level.step], level.seed, level.families
        again = partial(self._set, level.state)
        again()
        self._draws.mark(again)

    def _set(self, state: tuple[Any, Any]) -> None:
        _set_state(state[0])
        self._bits.state = state[1]

    def _join_levels(self) -> None:
        """Let all steps share the state: somebody is there whom none of them waits for."""
        self._note_draws()
        while self._levels:
            steps, level = self._steps, self._levels.pop()
            self._go_on(level)
            self._steps += steps

    def position(self, step: RunningStep) -> dict[str, Any] | None:
        with self._lock:
            if not self._alone(step):
                return None
            # Before what reads the others: that might draw.
            found: dict[str, Any] = {"python": python_position(_SHARED)}
            found["numpy"] = np.random.get_state(legacy=False)
            for family in self._families:
                found.setdefault(family.package, []).append(self._try(family.position))
            return found

    def move(self, step: RunningStep, position: dict[str, Any]) -> None:
        for package in PACKAGES & position.keys():  # before the lock, which `arrived` takes
            import_module(package)
        with self._lock:
            if not self._alone(step):
                return
            move_python(_SHARED, position["python"])
            drew, counts = step.stochastic, Counter[str]()  # setting a state is noticed as a draw
            np.random.set_state(position["numpy"])
            for family in self._families:
                states = position.get(family.package, [])[counts[family.package] :]
                counts[family.package] += 1
                if states and states[0] is not None:
                    self._try(partial(family.move, states[0]))
            step.stochastic = drew

    def _restore(self) -> None:
        python, bits = self._outside
        _set_state(python)
        mtrand.set_bit_generator(bits)
        os.urandom = self._system.read
        setattr(random, "_urandom", self._system.read)  # noqa: B010
        for family in self._families:
            self._try(family.restore)
        self._forget()

    def _reseed(self, seed: int) -> None:
        self._seed = seed
        self._seed_both()
        self._draws.mark(self._seed_both)
        for family in self._families:
            self._try(partial(family.seed, seed))

    def _seed_both(self) -> None:
        _give_seed(self._seed)
        np.random.seed(self._seed & 0xFFFFFFFF)

    def _try(self, act: Callable[[], Any]) -> Any:
        """Have a family do something. If it fails, who runs now is taken to draw."""
        try:
            return act()
        except Exception:  # a device in trouble must not become the step's failure
            self._failed = True

    def arrived(self, package: str) -> None:
        """Seed a package that a step, or somebody beside it, has imported."""
        with self._lock:
            if self._outside is not None:
                found = families_of(package)
                for families in (self._families, *(level.families for level in self._levels)):
                    families += found
                for family in found:
                    self._try(partial(family.seed, self._seed))

    def _note_draws(self) -> None:
        drawn, supposed = self._draws.drawn(), False
        for family in self._families:
            if self._try(family.drawn):
                drawn, supposed = drawn or family.observed, supposed or not family.observed
        alone = len(self._steps) == 1
        for step in self._steps if drawn or supposed or self._failed else ():
            step.stochastic = True
            step.disturbed = step.disturbed or (drawn and not alone)
        if not alone and (drawn or self._draws.looking_draws or self._families):
            # A look took a draw away from the others, or would find what is known: they begin anew.
            self._reseed(self._seed)


_STATE = _GlobalRandomState()


def seed_step(step: RunningStep, outer: object = None) -> None:
    """Seed the global random state for one step, until `release_step`.

    A step that computes a trial, and waits for it, draws on where it was: `outer` is that one.
    """
    _STATE.enter(step, outer)


def global_position(step: RunningStep) -> dict[str, Any] | None:
    """Return where the global generators are; None if others draw from them besides the step."""
    return _STATE.position(step)


def move_globally(step: RunningStep, position: dict[str, Any]) -> None:
    """Bring the global generators to a position, unless others draw from them besides the step."""
    _STATE.move(step, position)


def steps_in_turn() -> AbstractContextManager[None]:
    """Leave the global random state to the steps that this thread runs one after the other.

    Nothing of the user's runs between them, so that it need not be given back each time.
    """
    return _STATE


def release_step(step: RunningStep) -> None:
    """Restore the global random state, and notice whether the step used it.

    Warns
    -----
    RandomStateWarning
        If the step drew from the global state while another step of this process ran.
    """
    _STATE.leave(step)
    if step.disturbed or step.unordered:
        _warn(step)


def doubt_of(running: RunningStep) -> str | None:
    """Return why what ran may return something else next time, although all known is equal."""
    if running.asked_for_trial:
        return "it read the trial's id"
    if running.disturbed:
        return "it shared the global random state with another step"
    if running.doubted_origin:
        return running.doubted_origin
    if running.unordered:
        return "its threads drew from ex.rng in an order that timing decided"
    return None


def _warn(step: RunningStep) -> None:
    trial = f" of trial {step.trial.trial}" if step.trial is not None else ""
    if step.unordered:
        text = (
            f"Threads of step {step.key!r}{trial} drew from ex.rng at the same time, so which of "
            "them drew what depends on timing. Give each call a generator of its own, made in the "
            "step: ex.rng.spawn(n) makes n."
        )
        warn_user(RandomStateWarning(text))
    if step.disturbed:
        text = (
            f"Step {step.key!r}{trial} ran while another step in this process used the global "
            "random state (random, numpy.random or torch), so what was drawn depends on timing. "
            "Draw from ex.rng instead, or compute with scheduler='synchronous' or "
            "scheduler='processes'."
        )
        warn_user(RandomStateWarning(text))
