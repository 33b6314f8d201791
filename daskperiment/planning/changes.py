"""Telling the user what changed: code, environment, and outputs that should not differ."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from typing import TypeVar

from daskperiment.capture.code import changed_functions, diff_functions
from daskperiment.capture.environment import changes
from daskperiment.codec import decode, load_record
from daskperiment.errors import (
    CodeChangedWarning,
    CorruptRecordError,
    EnvironmentChangedWarning,
    ImpureStepWarning,
)
from daskperiment.recording.recorder import Recorder
from daskperiment.records import (
    Begun,
    Code,
    Environment,
    Function,
    Graph,
    Impurity,
    StepCode,
    impure_key_id,
)
from daskperiment.store.protocol import Store
from daskperiment.warn import warn_user

__all__ = ["ChangeWatch", "report_conflicts", "report_impurities"]

HERE = 0
"""Stands for a trial of this process, whose id is not known when its request is settled."""

MOST_LINES = 20
"""How many changes of the environment a warning names."""

T = TypeVar("T", Code, Environment, Graph)

LOOK_BACK = 20
"""How many of the latest trials are looked at for the code that a step had before."""


class ChangeWatch:
    """Compares each trial's code and environment with the previous trials'.

    Parameters
    ----------
    store : Store
        Where the trials of earlier processes are found.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._codes: dict[str, tuple[int, Code]] | None = None
        self._environment: tuple[int, Environment] | None = None
        self._seen: tuple[Code, Environment] | None = None
        self._lock = threading.Lock()

    def look(self, code: Code, environment: Environment) -> None:
        """Warn of what differs from before, and remember what the coming trial has."""
        if self._seen is not None and self._seen[0] is code and self._seen[1] is environment:
            return
        with self._lock:
            found = self._look(code, environment)
            self._seen = (code, environment)
        for warning in found:
            warn_user(warning)

    def _look(self, code: Code, environment: Environment) -> list[Warning]:
        known = self._known()
        found: list[Warning | None] = []
        for step in code.steps:
            if step in known:
                found.append(_code_warning(known[step], code, step))
            known[step] = (HERE, code)
        if self._environment is not None:
            found.append(_environment_warning(self._environment, environment))
        self._environment = (HERE, environment)
        return [warning for warning in found if warning is not None]

    def _known(self) -> dict[str, tuple[int, Code]]:
        if self._codes is None:
            # A trial that was run again may have run the code of long ago.
            latest = latest_trials(self._store, LOOK_BACK)
            trials = [(number, begun) for number, begun in latest if begun.source is None]
            objects = {begun.code: load(self._store, begun.code, Code) for _, begun in trials}
            self._codes = {
                step: (number, code)
                for number, begun in trials
                if (code := objects[begun.code]) is not None
                for step in code.steps
            }
            if trials:
                number, begun = trials[-1]
                environment = load(self._store, begun.environment, Environment)
                self._environment = (number, environment) if environment else None
        return self._codes


def load(store: Store, digest: str, type_: type[T]) -> T | None:
    """Load a record that is kept as an object; None if it is missing or damaged."""
    try:
        return load_record(store.get(digest), digest, type_)
    except (KeyError, CorruptRecordError):
        return None  # a damaged record of the past is no reason not to go on


def latest_trials(store: Store, count: int) -> list[tuple[int, Begun]]:
    """Read the first records of the latest trials, oldest first."""
    latest = store.state().latest
    if not latest:
        return []
    wanted = range(max(1, latest - count + 1), latest + 1)
    found = [
        (record.trial, decode(record.body, Begun))
        for record in store.read("trials", wanted)
        if record.id == "begun"
    ]
    return sorted(found, key=lambda item: item[0])


def _before(trial: int) -> str:
    return "an earlier trial of this process" if trial == HERE else f"trial {trial}"


def _code_warning(before: tuple[int, Code], code: Code, step: str) -> Warning | None:
    trial, old = before
    if old.steps[step].fingerprint == code.steps[step].fingerprint:
        return None
    parts = [_diff(name, *pair) for name, *pair in changed_functions(old, code, step)]
    parts += _other_changes(old.steps[step], code.steps[step])
    what = "\n".join(parts) or "The way in which its functions use each other changed."
    return CodeChangedWarning(f"The code of step {step!r} differs from {_before(trial)}:\n{what}")


def _other_changes(old: StepCode, new: StepCode) -> list[str]:
    lines = []
    for name in {**old.constants, **new.constants}:
        if old.constants.get(name) != new.constants.get(name):
            lines.append(f"The value of {name}, which it reads, changed.")
    for name in {**old.packages, **new.packages}:
        versions = old.packages.get(name, "not used"), new.packages.get(name, "not used")
        if versions[0] != versions[1]:
            lines.append(f"Package {name}: {versions[0]} -> {versions[1]}.")
    return lines


def _diff(name: str, old: Function | None, new: Function | None) -> str:
    if old is None or new is None:
        return f"{name} is {'no longer used' if new is None else 'used now'}."
    return diff_functions(old, new)


def _environment_warning(
    before: tuple[int, Environment], environment: Environment
) -> Warning | None:
    trial, old = before
    lines = [] if old == environment else changes(_worth_telling(old), _worth_telling(environment))
    if not lines:
        return None
    return EnvironmentChangedWarning(
        f"The environment differs from {_before(trial)}: {_listed(lines)}"
    )


def _listed(lines: list[str]) -> str:
    """Join lines: what changed before what was added or removed, and not too many."""
    with_options = sorted(lines, key=lambda line: " -> " not in line)
    rest = len(with_options) - MOST_LINES
    return "; ".join(with_options[:MOST_LINES]) + (f"; and {rest} more" if rest > 0 else "")


def _worth_telling(environment: Environment) -> Environment:
    # A commit or an edited file is everyday work; where it changes a step, that is reported.
    kept = {name: rows for name, rows in environment.categories.items() if name != "git"}
    # Its path is no reason to expect another output: versions and packages are told of besides.
    python = {name: text for name, text in kept.get("python", {}).items() if name != "executable"}
    return Environment({**kept, "python": python})


def report_conflicts(recorder: Recorder, quietly: bool = False) -> None:
    """Warn of steps that returned another output than before, and write it down.

    Quietly where another process, that of the user, reads what is written and warns.
    """
    found = recorder.conflicts()
    for ours, theirs in found:
        impurity = Impurity(ours.key, ours.step, theirs.trial)
        recorder.write("notes", ours.trial, f"impure-{ours.key}", impurity)
        # From now on neither output may be reused.
        for cache_key in {ours.cache_key, theirs.cache_key} - {None}:
            recorder.write("outputs", 0, impure_key_id(str(cache_key)), impurity)
        if not quietly:
            _warn_impure(recorder.store, ours.trial, impurity)
    if found and quietly:
        recorder.settle()  # whoever reads it looks as soon as the task is done


def report_impurities(store: Store, trials: Collection[int]) -> None:
    """Warn of the impure steps that other processes wrote down for trials."""
    for record in store.read("notes", trials):
        if record.id.startswith("impure-"):
            _warn_impure(store, record.trial, decode(record.body, Impurity))


def _warn_impure(store: Store, trial: int, impurity: Impurity) -> None:
    lines = list(_environment_changes(store, impurity.earlier, trial))
    where = "in this trial" if impurity.earlier == trial else f"in trial {impurity.earlier}"
    if lines:
        cause = f"What did change is the environment: {_listed(lines)}."
    else:
        cause = (
            "Nothing else that is recorded changed either, so it depends on something that is not "
            "among its inputs: a file, a clock, a global variable, a generator that is not ex.rng. "
            "Make that an argument or a parameter."
        )
    warn_user(
        ImpureStepWarning(
            f"Step {impurity.step!r} returned another output in trial {trial} than {where}, though "
            f"its code, its inputs and its seed are the same. {cause}"
        )
    )


def _environment_changes(store: Store, first: int, second: int) -> Iterable[str]:
    digests = {}
    for record in store.read("trials", [first, second]):
        if record.id == "begun":
            digests[record.trial] = decode(record.body, Begun).environment
    if len(set(digests.values())) < 2:
        return []
    old, new = (load(store, digests[trial], Environment) for trial in (first, second))
    return changes(old, new) if old and new else []
