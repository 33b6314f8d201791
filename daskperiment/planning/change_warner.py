"""Warnings of what changed in code and environment since the previous trials."""

from __future__ import annotations

import threading

from daskperiment.capture.code_changes import changed_functions, diff_functions, same_names
from daskperiment.capture.environment import changes
from daskperiment.codec import find_record
from daskperiment.errors import CodeChangedWarning, EnvironmentChangedWarning
from daskperiment.execution.lifecycle import latest_trials
from daskperiment.execution.purity import joined_changes
from daskperiment.records import Code, Environment, Function, StepCode
from daskperiment.store.protocol import Store
from daskperiment.vouching import silently, vouched
from daskperiment.warn import warn_user

__all__ = ["LOOK_BACK", "ChangeWarner"]

HERE = 0
"""Stands for a trial of this process, whose id is not known when its request is settled."""

LOOK_BACK = 20
"""How many of the latest trials are looked at for the code that a step had before."""


class ChangeWarner:
    """Warns where a trial's code or environment differs from the previous trials' in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._codes: dict[str, tuple[int, Code]] | None = None
        self._environment: tuple[int, Environment] | None = None
        self._seen: tuple[Code, Environment] | None = None
        self._lock = threading.Lock()

    def check(self, code: Code, environment: Environment) -> None:
        """Warn of what differs from before, and remember what the coming trial has."""
        # By identity: a snapshot is the same object as long as nothing changes.
        if self._seen is not None and self._seen[0] is code and self._seen[1] is environment:
            return
        with self._lock:
            found = self._warnings(code, environment)
            self._seen = (code, environment)
        for warning in found:
            warn_user(warning)

    def _warnings(self, code: Code, environment: Environment) -> list[Warning]:
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
            store = vouched(self._store, silently)
            latest = latest_trials(store, LOOK_BACK)
            trials = [(number, begun) for number, begun in latest if begun.source is None]
            objects = {begun.code: find_record(store.get, begun.code, Code) for _, begun in trials}
            if trials:
                number, begun = trials[-1]
                environment = find_record(store.get, begun.environment, Environment)
                self._environment = (number, environment) if environment else None
            # At last: a store that goes away between two questions is asked all of them again.
            self._codes = {
                step: (number, code)
                for number, begun in trials
                if (code := objects[begun.code]) is not None
                for step in code.steps
            }
        return self._codes


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
    before = same_names(old.constants, new.constants)
    for name in {**before, **new.constants}:
        values = before.get(name, ""), new.constants.get(name, "")
        # What had no fingerprint may be the same all the same.
        if None not in values and values[0] != values[1]:
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
        f"The environment differs from {_before(trial)}: {joined_changes(lines)}"
    )


def _worth_telling(environment: Environment) -> Environment:
    # A commit or an edited file is everyday work; where it changes a step, that is reported.
    kept = {name: rows for name, rows in environment.categories.items() if name != "git"}
    # Its path is no reason to expect another output: versions and packages are told of besides.
    python = {name: text for name, text in kept.get("python", {}).items() if name != "executable"}
    return Environment({**kept, "python": python})
