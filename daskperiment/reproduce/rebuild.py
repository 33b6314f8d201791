"""The functions of a trial's steps, as they were in that trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from daskperiment.capture.code import CodeCapture, fingerprint_with
from daskperiment.capture.code_changes import changed_functions, same_names
from daskperiment.errors import ReproductionError
from daskperiment.execution.calls import UserFunction
from daskperiment.records import Code
from daskperiment.reproduce.recorded_code import (
    NotRebuiltError,
    RebuiltFunction,
    RecordedCode,
    check_source,
)
from daskperiment.reproduce.resolver import CodeResolver

__all__ = ["RebuiltSteps", "rebuild"]


@dataclass(frozen=True)
class RebuiltSteps:
    """The functions of steps, built from a trial's recorded code."""

    functions: Mapping[str, UserFunction] = field(default_factory=dict)
    """Step -> function; empty if the code of all steps is still the same."""
    notes: tuple[str, ...] = ()
    """What could not be built as it was, a line each."""


def rebuild(
    trial: int, recorded: Code, today: Code, functions: Mapping[str, Callable[..., Any]],
    trust: Callable[[str], None] = lambda step: None,
) -> RebuiltSteps:  # fmt: skip
    """Return the functions of a trial's steps, built from its record where the code has changed.

    `functions` are today's, by step. `trust` is called with a step whose recorded code would run,
    and raises if that must not be. ReproductionError is raised if a step cannot be built as it
    was. What is built is captured again and compared with the record, so that nothing else is run
    in its place.
    """
    changed = [
        step for step, function in functions.items()
        if not _is_unchanged(trial, recorded, today, step, function)
    ]  # fmt: skip
    record = RecordedCode(recorded)
    resolver = CodeResolver(record, today, functions.values())
    for step in changed:
        trust(step)
        _check_sources(trial, recorded, today, step)
    built: dict[str, Callable[..., Any]] = {}
    for step in changed:
        try:
            names = [recorded.functions[key] for key in recorded.steps[step].functions]
            built[step] = resolver.step_function(names, functions[step])
        except NotRebuiltError as error:
            raise _refused(trial, step, str(error)) from error
        except Exception as error:  # the definition runs the user's own code
            raise _refused(trial, step, f"{type(error).__name__}: {error}") from error
    now = CodeCapture().capture(built)
    for step, function in built.items():
        _verify(trial, recorded, now, step, function, resolver.missing)
    notes = (*_package_notes(recorded, {**today.steps, **now.steps}), *_constant_notes(record))
    sources = resolver.sources()
    # Unchanged ones too: they may get objects of classes that were built.
    every = {**functions, **built} if built else {}
    return RebuiltSteps({step: RebuiltFunction(f, sources) for step, f in every.items()}, notes)


def _is_unchanged(trial: int, recorded: Code, today: Code, step: str, function: Any) -> bool:
    """Return whether today's function is the recorded one, but for the versions of packages."""
    if step not in recorded.steps:
        raise _refused(trial, step, "its code is not in the record")
    old = recorded.steps[step]
    return old.fingerprint in (
        today.steps[step].fingerprint, fingerprint_with(function, old.packages)
    )  # fmt: skip


def _check_sources(trial: int, recorded: Code, today: Code, step: str) -> None:
    now = list(today.functions.values())
    try:
        for key in recorded.steps[step].functions:
            check_source(recorded.functions[key], now)
    except NotRebuiltError as error:
        raise _refused(trial, step, str(error)) from error


def _refused(trial: int, step: str, reason: str) -> ReproductionError:
    return ReproductionError(
        f"Step {step!r} cannot be made as it was in trial {trial}: {reason}. Nothing was run. "
        "Check out the code of that time, or use code='current' to run today's code."
    )


def _verify(
    trial: int, recorded: Code, now: Code, step: str, function: Any, missing: Mapping[str, None]
) -> None:
    old, new = recorded.steps[step], now.steps[step]
    if old.fingerprint in (new.fingerprint, fingerprint_with(function, old.packages)):
        return
    reasons = [
        f"{name} {_difference(*pair)}" for name, *pair in changed_functions(recorded, now, step)
    ]
    constants = same_names(old.constants, new.constants)
    reasons += [
        f"{name} has not the value that it had, of which only a fingerprint is recorded"
        for name in {**constants, **new.constants}
        if constants.get(name) != new.constants.get(name)
    ]
    reasons += [f"package {name} is not used" for name in old.packages if name not in new.packages]
    reasons += [f"nothing is known of the name {name} any more" for name in missing]
    reason = "; ".join(reasons) or "its functions use each other in another way than they did"
    raise _refused(trial, step, reason)


def _difference(old: Any, new: Any) -> str:
    if new is None:
        return "is used in the record and could not be put in its place"
    if old is None:
        return "is used now and not in the record"
    return f"comes out otherwise than recorded ({old.note or new.note or 'its source differs'})"


def _package_notes(recorded: Code, now: Mapping[str, Any]) -> Iterator[str]:
    for step, old in recorded.steps.items():
        new = now[step].packages if step in now else {}
        for name, version in old.packages.items():
            if name in new and new[name] != version:
                yield f"package {name} was {version} in the trial and is {new[name]}"


def _constant_notes(record: RecordedCode) -> Iterator[str]:
    for name in record.unknown:
        yield (
            f"the value of {name} changes or has no fingerprint, so it is not recorded: "
            "it is what it is now"
        )
