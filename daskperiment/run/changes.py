"""Telling the user what changed: code, environment, and outputs that should not differ."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable
from typing import TypeVar

from daskperiment.capture.code import changed_functions, diff_functions
from daskperiment.capture.environment import changes
from daskperiment.codec import decode, load_record
from daskperiment.errors import (
    CodeChangedWarning,
    EnvironmentChangedWarning,
    ImpureStepWarning,
    StoreError,
)
from daskperiment.records import Begun, Code, Environment, Function, Impurity
from daskperiment.run.recorder import Recorder
from daskperiment.store.protocol import Store

__all__ = ["ChangeWatch", "report_conflicts", "report_impurities"]

T = TypeVar("T", Code, Environment)

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

    def look(self, code: Code, environment: Environment, trial: int = 0) -> None:
        """Warn of what differs from before, and remember what is there now.

        Parameters
        ----------
        code, environment
            What the coming trial has.
        trial : int
            Its id, if known; 0 for "an earlier trial of this process".
        """
        with self._lock:
            seen, self._seen = self._seen, (code, environment)
            if seen is None or seen[0] is not code or seen[1] is not environment:
                self._look(code, environment, trial)

    def _look(self, code: Code, environment: Environment, trial: int) -> None:
        try:
            known = self._known()
        except (StoreError, KeyError):
            return  # whoever begins the trial meets the same store and says what is wrong
        for step in code.steps:
            if step in known:
                _report_code(known[step], code, step)
            known[step] = (trial, code)
        if self._environment is not None:
            _report_environment(self._environment, environment)
        self._environment = (trial, environment)

    def _known(self) -> dict[str, tuple[int, Code]]:
        if self._codes is None:
            codes: dict[str, tuple[int, Code]] = {}
            objects: dict[str, Code] = {}
            for number, begun in latest_trials(self._store, LOOK_BACK):
                if begun.code not in objects:
                    objects[begun.code] = load(self._store, begun.code, Code)
                codes.update((step, (number, objects[begun.code]))
                             for step in objects[begun.code].steps)  # fmt: skip
                environment = number, begun.environment
            if codes:
                number, digest = environment
                self._environment = number, load(self._store, digest, Environment)
            self._codes = codes
        return self._codes


def load(store: Store, digest: str, type_: type[T]) -> T:
    """Load a record that is kept as an object."""
    return load_record(store.get(digest), digest, type_)


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
    return f"trial {trial}" if trial else "an earlier trial of this process"


def _report_code(before: tuple[int, Code], code: Code, step: str) -> None:
    trial, old = before
    if old.steps[step].fingerprint == code.steps[step].fingerprint:
        return
    parts = [_diff(name, *pair) for name, *pair in changed_functions(old, code, step)]
    what = "\n".join(parts) or "What changed is a constant or a package that it uses."
    warnings.warn(
        f"The code of step {step!r} differs from {_before(trial)}:\n{what}",
        CodeChangedWarning,
        stacklevel=2,
    )


def _diff(name: str, old: Function | None, new: Function | None) -> str:
    if old is None or new is None:
        return f"{name} is {'no longer used' if new is None else 'used now'}."
    return diff_functions(old, new)


def _report_environment(before: tuple[int, Environment], environment: Environment) -> None:
    trial, old = before
    lines = [] if old == environment else changes(_without_git(old), _without_git(environment))
    if lines:
        warnings.warn(
            f"The environment differs from {_before(trial)}: " + "; ".join(lines),
            EnvironmentChangedWarning,
            stacklevel=2,
        )


def _without_git(environment: Environment) -> Environment:
    # A commit or an edited file is everyday work; where it changes a step, that is reported.
    kept = {name: rows for name, rows in environment.categories.items() if name != "git"}
    return Environment(kept)


def report_conflicts(recorder: Recorder) -> None:
    """Warn of steps that returned another output than before, and write it down."""
    for ours, theirs in recorder.conflicts():
        impurity = Impurity(ours.key, ours.step, theirs.trial)
        recorder.write("notes", ours.trial, f"impure-{ours.key}", impurity)
        _warn_impure(recorder.store, ours.trial, impurity)


def report_impurities(store: Store, trial: int) -> None:
    """Warn of the impure steps that other processes wrote down for a trial."""
    for record in store.read("notes", [trial]):
        if record.id.startswith("impure-"):
            _warn_impure(store, trial, decode(record.body, Impurity))


def _warn_impure(store: Store, trial: int, impurity: Impurity) -> None:
    lines = list(_environment_changes(store, impurity.earlier, trial))
    where = "in this trial" if impurity.earlier == trial else f"in trial {impurity.earlier}"
    if lines:
        cause = "What did change is the environment: " + "; ".join(lines) + "."
    else:
        cause = (
            "Nothing else that is recorded changed either, so it depends on something that is not "
            "among its inputs: a file, a clock, a global variable, a generator that is not ex.rng. "
            "Make that an argument or a parameter."
        )
    warnings.warn(
        f"Step {impurity.step!r} returned another output in trial {trial} than {where}, though its "
        f"code, its inputs and its seed are the same. {cause}",
        ImpureStepWarning,
        stacklevel=3,
    )


def _environment_changes(store: Store, first: int, second: int) -> Iterable[str]:
    digests = {}
    for record in store.read("trials", [first, second]):
        if record.id == "begun":
            digests[record.trial] = decode(record.body, Begun).environment
    if len(set(digests.values())) < 2:
        return []
    return changes(
        load(store, digests[first], Environment), load(store, digests[second], Environment)
    )
