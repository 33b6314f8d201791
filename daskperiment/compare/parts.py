"""What two trials have in common and what not, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

__all__ = [
    "ABSENT",
    "Absent",
    "Cause",
    "CauseKind",
    "Differences",
    "Pair",
    "StepComparison",
    "Verdict",
]

T = TypeVar("T")

CauseKind = Literal[
    "step",  # a step that it takes input from ended otherwise
    "graph",  # it takes other steps or parameters
    "parameter",
    "argument",  # its call gives it another value
    "code",
    "constant",
    "package",
    "file",  # one that it takes, or reads besides: its name says in words what changed
    "seed",
    "argument",  # an argument differs, and no step or parameter that it takes
    "in place",  # a step changed what it was given, which others take too
    "inputs",  # its arguments differ, and what made them differ is not recorded
    "unchecked",  # it takes input from a step whose output cannot be compared
    "unknown",  # something that it takes or reads has no fingerprint
    "environment",
    "impure",  # all that is recorded is the same
    "unexplained",  # what is recorded does not tell
]
Verdict = Literal[
    "same", "differs", "failed", "unchecked", "not run", "not needed", "added", "removed"
]


_UNVERIFIED: Final[dict[str, str]] = {
    "same": "it failed alike in both trials",
    "unchecked": "its output has no fingerprint",
    "not run": "it did not run to an end in both trials",
}


class Absent(Enum):
    """The type of `ABSENT`, which stands for what a trial does not have."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "(absent)"


ABSENT: Final = Absent.ABSENT


class Pair(NamedTuple, Generic[T]):
    """The same thing in the first and in the second trial."""

    first: T
    second: T


NOTHING: Final[Pair[Any]] = Pair(ABSENT, ABSENT)
NEITHER: Final[Pair[Any]] = Pair(None, None)


@dataclass(frozen=True)
class Cause:
    """One change that reaches a step."""

    kind: CauseKind
    name: str
    """What changed: a parameter, step, function, package; empty where that is not known."""
    step: str
    """Key of the step where the change comes in."""
    values: Pair[Any] = NOTHING
    """What it was in the two trials, where that can be shown."""
    code: tuple[str, ...] = ()
    """What changed of the code in an argument or a parameter, in words."""
    data: bool | None = None
    """Whether anything else in it changed; ``None`` where that is not known."""


@dataclass(frozen=True)
class StepComparison:
    """One step of the graph in two trials."""

    key: str
    """Its key in the second trial; of a step that only the first trial has, that in the first,
    which is told by its trial where the second one uses the key for another call."""
    verdict: Verdict
    """``same``: equal outputs, or it failed alike. ``differs``: other outputs. ``failed``: it
    failed in one, or in another way. ``unchecked``: an output has no fingerprint. ``not run``: it
    did not run to an end in both. ``not needed``: it did not run in a trial that took the outputs
    of all steps behind it from earlier trials. ``added``, ``removed``: only one trial has it."""
    statuses: Pair[str | None] = NEITHER
    """How the step runs ended; ``None`` for one that did not run."""
    failures: Pair[str | None] = NEITHER
    keys: Pair[str | None] = NEITHER
    """Its keys in the two trials, which differ if calls were put before it or left out."""
    reused: Pair[int | None] = NEITHER
    """The trials that the outputs were taken from."""
    note: str | None = None
    """Why the output is not checkable."""
    changes: tuple[Cause, ...] = ()
    """Changes of the step's own code, constants and packages, whatever came of them."""
    causes: tuple[Cause, ...] = ()
    """Changes that reach a step which ``differs`` or ``failed``."""

    @property
    def differs(self) -> bool:
        """Whether the step is known to have ended otherwise."""
        return self.verdict in ("differs", "failed")

    @property
    def is_verified(self) -> bool:
        """Whether it ended well in both trials with equal outputs, or had no need to run."""
        return self.verdict == "not needed" or (
            self.verdict == "same" and self.statuses == ("succeeded", "succeeded")
        )

    @property
    def is_origin(self) -> bool:
        """Whether it differs, and not because a step before it does."""
        return self.differs and all(cause.kind != "step" for cause in self.causes)


@dataclass(frozen=True)
class Differences:
    """What two trials have in common and what not.

    Every attribute is plain data or made of the classes of this module. A value that is not plain
    data is a :class:`~daskperiment.history.StoredObject`: nothing is unpickled.
    """

    first: int
    second: int
    statuses: Pair[str]
    targets: Pair[str]
    """Names of the steps whose calls are the results."""
    failures: Pair[str | None]
    """Why the trials failed, or count as lost."""
    results: Pair[Any]
    """`ABSENT` for a trial without result."""
    same_result: bool | None
    """``None`` where that is not known: not kept, or perhaps equal in other bytes."""
    seeds: Pair[int]
    stochastic: bool
    """Whether a step of either trial drew random numbers."""
    parameters: Mapping[str, Pair[Any]]
    """Those that differ; `ABSENT` for a trial that does not have one."""
    same_parameters: Mapping[str, Any]
    metrics: Mapping[str, Pair[Any]] = field(default_factory=dict)
    """Last value of each metric that differs in it; `ABSENT` for a trial without the metric."""
    same_metrics: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[StepComparison, ...] = ()
    """Every step of both trials, inputs before those who use them."""
    functions: Mapping[str, str] = field(default_factory=dict)
    """Functions and classes that differ: name -> unified diff."""
    packages: Mapping[str, Pair[Any]] = field(default_factory=dict)
    """Versions of installed packages that differ; `ABSENT` where one is not installed."""
    git: Mapping[str, Pair[Any]] = field(default_factory=dict)
    """What differs of commit, branch, uncommitted changes and so on."""
    environment: tuple[str, ...] = ()
    """What else differs in the environment, a line each."""
    problems: tuple[str, ...] = ()
    """What could not be read, and so not be compared."""
    sources: Pair[int | None] = NEITHER
    """The trials that they reproduce; ``None`` for one that reproduces none."""
    notes: tuple[str, ...] = ()
    """What a reproduction could not make as it was, such as versions of packages."""

    @property
    def first_difference(self) -> StepComparison | None:
        """The first step in graph order that is known to have ended otherwise."""
        return next((step for step in self.steps if step.differs), None)

    @property
    def identical(self) -> bool:
        """Whether result and output of every step were checked, and are equal in both trials."""
        return (
            self.same_result is True
            and self.statuses == ("succeeded", "succeeded")
            and bool(self.steps)
            and all(step.is_verified for step in self.steps)
            and not self.problems
        )

    @property
    def unverified(self) -> tuple[str, ...]:
        """Why `identical` may be False though no difference is known, a line each."""
        lines = [
            f"step {step.key!r}: {step.note or _UNVERIFIED[step.verdict]}"
            for step in self.steps
            if not step.is_verified and step.verdict in _UNVERIFIED
        ]
        if ABSENT in self.results:
            lines.append("the result: not both trials have one")
        elif self.same_result is None:
            lines.append("the result: it was not kept, or has no fingerprint")
        return (*lines, *self.problems)

    @property
    def same_outcome(self) -> bool:
        """Whether nothing that the trials returned or recorded is known to differ."""
        return (
            self.same_result is not False
            and self.statuses.first == self.statuses.second
            and self.failures.first == self.failures.second
            and not self.metrics
            and not any(step.differs for step in self.steps)
        )

    @property
    def same_conditions(self) -> bool:
        """Whether nothing that went into the trials is known to differ."""
        return not (
            self.targets.first != self.targets.second
            or (self.stochastic and self.seeds.first != self.seeds.second)
            or self.parameters
            or any(step.changes or step.verdict in ("added", "removed") for step in self.steps)
            or self.functions
            or self.packages
            or self.git
            or self.environment
        )

    @property
    def differs(self) -> bool:
        """Whether anything is known to differ, in what went in or in what came out."""
        return not (self.same_outcome and self.same_conditions)
