"""What has been trained in a step so far: which calls of libraries are its own, and their names."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from daskperiment.errors import StoreWarning, UncertainStepError
from daskperiment.execution.context import RunningStep
from daskperiment.execution.helper_threads import running_step
from daskperiment.warn import warn_user

__all__ = ["MANY", "StepTrainings", "TrainingObserver", "part_of_training", "trainings_for"]

MANY = 100
"""Trainings by one library that are recorded of one step."""

_ALIKE = dict.fromkeys(("keras", "lightning", "transformers"), "networks")
"""Libraries whose metrics may have equal names, such as ``val_loss``: they are counted together."""

_WITHIN: ContextVar[bool] = ContextVar("daskperiment_within_training", default=False)


@contextmanager
def part_of_training() -> Iterator[None]:
    """Let all that is called meanwhile in this thread be a part of what is reported already."""
    reset = _WITHIN.set(True)
    try:
        yield
    finally:
        _WITHIN.reset(reset)


class TrainingObserver:
    """Travels with trials: says whose trainings their steps record, and sees to it where they run.

    Parameters
    ----------
    libraries : tuple of str
        Names of those whose calls are recorded.
    see_to : callable
        Called with these names before a step runs, in its process.
    """

    def __init__(
        self, libraries: tuple[str, ...], see_to: Callable[[tuple[str, ...]], None]
    ) -> None:
        self.libraries = libraries
        self._see_to = see_to

    def __call__(self, running: RunningStep) -> None:
        """Let the step that is about to run be recorded."""
        self._see_to(self.libraries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrainingObserver) and self.libraries == other.libraries

    def __hash__(self) -> int:
        return hash(self.libraries)


class StepTrainings:
    """The trainings of one step.

    A call within another, such as those by which a search fits its candidates, is a part of that
    one. So is a call in a helper thread while the step's own thread waits for a training.
    """

    def __init__(self, running: RunningStep) -> None:
        trial = running.trial
        own = trial is not None and running.key == trial.result
        self.lead = "" if own else f"{running.key}/"
        """Stands before all names, so that steps of one trial that train alike are kept apart."""
        self._thread = running.thread
        self._own_depth = 0
        self._counts: Counter[str] = Counter()
        self._made: dict[int, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    @property
    def within(self) -> bool:
        """Whether what is called now is a part of a training."""
        return _WITHIN.get() or (self._own_depth > 0 and threading.get_ident() != self._thread)

    @contextmanager
    def outermost(self) -> Iterator[None]:
        """Let all that is called meanwhile be a part of this training."""
        own = threading.get_ident() == self._thread
        self._own_depth += own
        try:
            with part_of_training():
                yield
        finally:
            self._own_depth -= own

    def count(self, kind: str) -> int:
        """Count something, and return how many came before it."""
        with self._lock:
            self._counts[kind] += 1
            return self._counts[kind] - 1

    def prefix(self, library: str, kind: str = "") -> str | None:
        """Return what stands before the names of the next training; None if there were too many.

        Trainings of each `kind` are counted alone, where they have names of their own.
        """
        before = self.count(f"{_ALIKE.get(library, library)} {kind}")
        if before == MANY:
            warn_user(StoreWarning(
                f"A step trains more than {MANY} times with {library}; the rest is not recorded "
                f"by autolog. Give those that matter a callback of daskperiment.integrations."
                f"{library} with a prefix."
            ))  # fmt: skip
        if before >= MANY:
            return None
        return f"{self.lead}{before + 1}/" if before else self.lead

    def knows(self, subject: Any) -> bool:
        """Whether this step trained a model or trainer already."""
        kept = self._made.get(id(subject))
        return kept is not None and kept[0]() is subject

    def reporter(
        self, library: str, subject: Any, make: Callable[[str], Any], anew: bool = False,
        kind: str = "",
    ) -> Any:  # fmt: skip
        """Return what reports a model or trainer of the step: the same each time, or a new one."""
        if self.knows(subject) and not anew:
            return self._made[id(subject)][1]
        prefix = self.prefix(library, kind)
        made = None if prefix is None else make(prefix)
        self._made[id(subject)] = weakref.ref(subject), made
        return made


def trainings_for(library: str) -> StepTrainings | None:
    """Return the trainings of the step that runs here; None where this call is none of them."""
    try:
        running = running_step()
    except UncertainStepError:  # as outside of steps: the library goes on as if nobody listened
        return None
    if running is None or running.trial is None or running.halted is not None:
        return None
    seen = (each for each in running.trial.observers if isinstance(each, TrainingObserver))
    if not any(library in each.libraries for each in seen):
        return None
    if running.trainings is None:
        running.trainings = StepTrainings(running)
    found: StepTrainings = running.trainings
    return None if found.within else found
