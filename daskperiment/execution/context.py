"""Which step runs here: a context variable that the step's wrapper sets."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from daskperiment.errors import StepEndedError

if TYPE_CHECKING:
    import numpy as np

    # Who declares an experiment needs to know which step runs, and nothing yet of what it runs in.
    from daskperiment.execution.trial import TrialHandle
    from daskperiment.recording.journal import SeriesWriter
    from daskperiment.records import Artifact, FileState
    from daskperiment.store.protocol import Owner

__all__ = ["ACTIVE", "CURRENT", "TURN", "RunningStep", "halt_steps", "steps_here"]

Halt = Literal["ended", "interrupted", "forked"]
"""Why a step can do no more: it returned, its trial was interrupted, or this is a forked child."""

_WHY: dict[Halt, str] = {
    "ended": "it has ended. Wait in the step for the threads that it starts.",
    "interrupted": "its trial was interrupted.",
    "forked": "this is a process that it started, which has a copy of its generator: each such "
    "process would draw the same. Draw a seed in the step, and pass it to the process.",
}


@dataclass(slots=True, weakref_slot=True)
class RunningStep:
    """A step while it runs."""

    key: str
    seed: int
    trial: TrialHandle | None
    """None while a step is computed alone, without a trial: what belongs to one is dropped then."""
    stochastic: bool = False
    asked_for_trial: bool = False
    """Whether the step read its trial's id, so that its output may differ for that reason."""
    disturbed: bool = False
    """Whether others may have used the global random state while this step drew from it."""
    files: Any = None
    """What it reads and writes, where that is observed."""
    reads: Sequence[FileState] = ()
    """What it read besides its arguments, once it has run."""
    unordered: bool = False
    """Whether threads of the step drew from its generator in an order that timing decided."""
    halted: Halt | None = None
    """Why it can draw and save points no more, None while it can."""
    since: float = field(default_factory=time.time)
    """When it began to take its inputs, in seconds since the Unix epoch."""
    thread: int = field(default_factory=threading.get_ident)
    """The thread in which the step itself runs."""
    submitted: int = 0
    """How many calls the step has given to threads."""
    beside: tuple[str, ...] = ()
    """Keys of the steps that began here while it ran."""
    rehearsed: bool = False
    """Whether no step runs: a test calls the functions of steps, which are told the trial id 0."""
    log: Any = None
    """What it says, once it has said something."""
    metrics: set[str] = field(default_factory=set)
    """Names of the metrics that the step saved."""
    named: set[str] = field(default_factory=set)
    """Those of them that its checkpoints name."""
    writers: dict[str, SeriesWriter] = field(default_factory=dict)
    """What writes on with the points of some of them."""
    artifacts: list[Artifact] = field(default_factory=list)
    """What the step saved."""
    at_end: list[Callable[[], None]] = field(default_factory=list)
    """What is called when its function has returned, to write down what is known only then."""
    made_of: tuple[str, str | None] = ("", None)
    """Fingerprints of the step's code and of its arguments."""
    checkpoints: list[str] = field(default_factory=list)
    """Digests of the checkpoints that the step has now, the oldest first."""
    doubted_origin: str = ""
    """Why what it went on from may not be what it would have come to itself."""
    restored: Any = None
    """The checkpoint that the step went on from, once it asked for it."""
    trainings: Any = None
    """What libraries trained in it, where somebody observes that."""
    _rng: np.random.Generator | None = None
    _entropy: random.Random | None = None
    _drawn: tuple[int, int] = (-1, 0)
    """The latest turn in which ``ex.rng`` was asked for, and the thread that did."""

    @property
    def rng(self) -> np.random.Generator:
        """The step's own random generator, made at its first use."""
        self.stochastic = True
        if self.halted is not None:
            raise self.refusal("draw from ex.rng")
        if self.submitted:
            self._note_turn()
        if self._rng is None:
            import numpy as np  # noqa: PLC0415  # who only looks at trials waits for none of it

            self._rng = np.random.default_rng(self.seed)
        return self._rng

    def entropy(self, bits: int) -> int:
        """Return bits for the seed of a generator that the step makes without one."""
        self.stochastic = True
        if self.submitted:
            self._note_turn()
        if self._entropy is None:
            self._entropy = random.Random(f"entropy {self.seed}")
        return self._entropy.getrandbits(bits)

    def generators(self) -> tuple[np.random.Generator | None, random.Random | None]:
        """Return the step's own generators, as far as it used them."""
        return self._rng, self._entropy

    def next_turn(self) -> int:
        """Return the turn of a call that is given to a thread now.

        A call by a call has the turn of that one: which of several such calls comes first is
        decided by timing.
        """
        outer = TURN.get()
        if outer is not None:
            return outer
        self.submitted += 1
        return 2 * self.submitted - 1

    def _note_turn(self) -> None:
        """Notice a draw that does not come where it came if each call ran as it was given."""
        turn, thread = TURN.get(), threading.get_ident()
        if turn is None:
            # In another thread it came with a copy of the context: the latest call, most likely.
            turn = 2 * self.submitted - (thread != self.thread)
        last, other = self._drawn
        if turn < last or (turn == last and thread != other):
            self.unordered = True
        self._drawn = max(turn, last), thread

    def check_goes_on(self, what: str) -> None:
        """Raise StepEndedError if the step ended or was interrupted; a fork goes on by itself."""
        if self.halted is not None and self.halted != "forked":
            raise self.refusal(what)

    def refusal(self, what: str) -> StepEndedError:
        """Return the error that says why the step cannot do this any more."""
        trial = f" of trial {self.trial.trial}" if self.trial is not None else ""
        why = _WHY[self.halted or "ended"]
        return StepEndedError(f"Step {self.key!r}{trial} can {what} no more: {why}")


CURRENT: ContextVar[RunningStep | None] = ContextVar("daskperiment_running_step", default=None)
# A module global because a ContextVar cannot travel in a pickle.

TURN: ContextVar[int | None] = ContextVar("daskperiment_turn", default=None)
"""Place of the call that runs in this thread among those that its step gave to threads."""

ACTIVE: list[RunningStep] = []
"""The steps that run in this process, in the order in which they began.

Whoever seeds the global random state for steps sees to it, under a lock of its own.
"""


def steps_here() -> dict[Owner, dict[str, float]]:
    """Return for each trial the steps of it that run in this process, and since when."""
    found: dict[Owner, dict[str, float]] = {}
    for step in list(ACTIVE):
        if step.trial is not None:
            found.setdefault(step.trial.owner, {})[step.key] = step.since
    return found


def halt_steps(token: str) -> None:
    """Let the steps of an interrupted trial that still run here draw and save no more."""
    for step in list(ACTIVE):
        if step.trial is not None and step.trial.token == token:
            step.halted = "interrupted"
