"""The trial that is run again, or gone on with: whether it can be, and the values that it had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from daskperiment.capture.secret_key import covered, secret_parameters
from daskperiment.codec import is_object, signing_key_in_force
from daskperiment.errors import (
    DaskperimentError,
    ReproductionError,
    ResumptionError,
    StoreUnavailableError,
    UntrustedObjectError,
)
from daskperiment.history.stored_values import loaded
from daskperiment.history.trial_records import RecordedTrial, trial_or_raise
from daskperiment.planning.result_node import ResultNode
from daskperiment.secret_values import may_differ
from daskperiment.store.protocol import Store

__all__ = ["REPRODUCING", "RESUMING", "Again", "past_trial", "recorded_values"]


class Again(NamedTuple):
    """In which way a trial is run again."""

    name: str
    """Of the method."""
    error: type[DaskperimentError]


REPRODUCING = Again("reproduce", ReproductionError)
RESUMING = Again("resume", ResumptionError)


def past_trial(store: Store, trial_id: int, name: str, again: Again) -> RecordedTrial:
    """Return the trial that is to be run again; it has ended, and computed this result."""
    trial = trial_or_raise(store, trial_id)
    if trial.begun.result != name:
        raise again.error(
            f"Trial {trial.trial} computed the result {trial.begun.result!r}, and this is "
            f"{name!r}; call {again.name}({trial.trial}) of {trial.begun.result!r}"
        )
    if trial.status == "running":
        raise again.error(
            f"Trial {trial.trial} is still running; {again.name} it when it has ended "
            "(ex.get_history(running=True) tells)"
        )
    return trial


def recorded_values(
    store: Store, trial: RecordedTrial, result: ResultNode, again: Again
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of a trial's parameters, and notes on those that are not as they were.

    Only parameters that are declared today are among them; computed ones are too. A value that
    cannot be loaded is an error unless the result is bound to another; an object that is not
    signed with the configured key always is one.
    """
    parameters, key = result.definition.planner.parameters, signing_key_in_force()
    bound = result.definition.options.values
    values: dict[str, Any] = {}
    notes: list[str] = []
    for name, form in trial.parameters.items():
        if name not in parameters.names:
            notes.append(f"parameter {name!r} is not declared any more: its value is not used")
            continue
        if is_object(form) and form.get("mark") is not None:
            notes += _take_secret(values, name, form["mark"], trial.trial, result, again)
            continue
        try:
            values[name] = loaded(form, store, key)
        except (StoreUnavailableError, UntrustedObjectError):
            raise
        except Exception as error:  # unpickling may raise anything
            if name not in bound:
                raise _not_loaded(trial.trial, name, error, again) from error
            values[name] = bound[name]
            notes.append(f"the recorded value of parameter {name!r} cannot be loaded: the one "
                         "that the result is bound to is used")  # fmt: skip
    return values, [*notes, *_not_recorded(result, values)]


def _take_secret(
    values: dict[str, Any], name: str, mark: str, trial: int, result: ResultNode, again: Again
) -> list[str]:
    """Add the value of a parameter that was secret, as it is today; return notes on it."""
    definition = result.definition
    parameters = definition.planner.parameters
    today = parameters.current(definition.options.values)
    if name not in today:
        if parameters.is_computed(name):
            return []
        kwargs = f"{name}=..." if name.isidentifier() else f"**{{{name!r}: ...}}"
        raise again.error(
            f"Parameter {name!r} was secret in trial {trial}, so that no record has its value. "
            f"Give it: bind({kwargs}).{again.name}({trial}), or ex.set_parameters({kwargs})."
        )
    values[name] = today[name]
    given = covered({name: today[name]}, secret_parameters(frozenset([name])))[name]
    differs = may_differ(mark, given.mark)
    if differs is None:
        return [f"whether the secret {name!r} is that of trial {trial} is not known: it was "
                "recorded with another key, or has no fingerprint"]  # fmt: skip
    return [f"the secret {name!r} is another one than in trial {trial}"] if differs else []


def _not_loaded(trial: int, name: str, error: Exception, again: Again) -> DaskperimentError:
    kwargs = f"{name}=..." if name.isidentifier() else f"**{{{name!r}: ...}}"
    return again.error(
        f"The value of parameter {name!r} in trial {trial} cannot be loaded: {error}. "
        f"If you have it, give it: bind({kwargs}).{again.name}({trial})."
    )


def _not_recorded(result: ResultNode, values: Mapping[str, Any]) -> list[str]:
    """Return notes on the parameters that the graph takes and that the trial has no value of."""
    definition = result.definition
    today = definition.planner.parameters.current(definition.options.values)
    return [
        f"parameter {name!r} has no recorded value: today's is used" if name in today
        else f"parameter {name!r} has no recorded value: it is computed anew"
        for name in definition.template.parameters
        if name not in values
    ]  # fmt: skip
