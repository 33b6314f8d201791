"""Running what is no step but part of a trial: computed parameters, functions between steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from daskperiment.capture.code_inside import with_content
from daskperiment.capture.secret_key import covered
from daskperiment.codec import pack
from daskperiment.execution.calls import Call, UserFunction
from daskperiment.execution.context import RunningStep
from daskperiment.execution.given_values import exact_or_none, given_between
from daskperiment.execution.lifecycle import fail, failure_of, keep_or_explain
from daskperiment.execution.observed_files import HIDDEN_NAME, without_secrets
from daskperiment.execution.random_state import doubt_of
from daskperiment.execution.running import run_alone, run_seeded, watched
from daskperiment.execution.tasks import deliver_visit
from daskperiment.execution.trial import TrialHandle
from daskperiment.recording.registry import recorder_for
from daskperiment.records import CacheEntry, Computed, computed_id
from daskperiment.secret_values import revealed
from daskperiment.seeds import step_seed

__all__ = ["run_between", "run_parameter", "run_unrecorded"]


def run_parameter(
    trial: TrialHandle | None, name: str, function: UserFunction, seed: int | None,
    names: tuple[str, ...], /, *values: Any,
) -> Any:  # fmt: skip
    """Compute a parameter's default, unless the parameter was set; record the value."""
    if trial is None:
        return run_alone(Call(name, function, seed=seed, keywords=names), values)
    if name in trial.values:
        return revealed(trial.values[name])
    inputs = dict(zip(names, values, strict=True))
    value, _ = run_unrecorded(trial, f"parameter {name}", function.__wrapped__, (), inputs)
    recorder = recorder_for(trial.store)
    known = value if trial.secrets is None else covered({name: value}, trial.secrets)[name]
    form, blob = pack(known, trial.signing_key, most=None)
    form = with_content(keep_or_explain(recorder, form, blob), known)
    computed = Computed(name, form)
    recorder.write_signed(
        "trials", trial.trial, computed_id(name), computed, trial.owner, trial.signing_key
    )
    deliver_visit(trial, recorder)
    return value


def run_between(
    trial: TrialHandle, label: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Run a function that is no step but part of a trial, so that its failure is recorded."""
    return run_unrecorded(trial, label, function, args, kwargs)[0]


def _note_changes(
    trial: TrialHandle, before: dict[str, str], after: dict[str, str], values: dict[Any, Any]
) -> None:
    """Note what a function changed of its arguments, for the steps that get it after that."""
    altered = [(value, "") for name, value in values.items()
               if after.get(str(name), "") != before.get(str(name), "")]  # fmt: skip
    if altered:
        recorder_for(trial.store).outputs.changes_in(trial.token).altered.extend(altered)


def run_unrecorded(
    trial: TrialHandle, label: str, function: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[Any, RunningStep]:
    """Run a function that is no step, seeded by its place; record only that it fails."""
    running = RunningStep(label, step_seed(trial.seed, label), trial)
    trial.returned.take()  # this may change it
    keys = trial.step_keys.get(label)
    # Before the function runs: it might change what it was given.
    new = keys is not None and bool(recorder_for(trial.store).outputs.unknown(keys.ids))
    given = given_between(args, kwargs) if new else {}
    files = watched(running, (*args, *kwargs.values()), trial.directory)
    try:
        value = run_seeded(running, function, args, kwargs)
    except BaseException as error:
        with suppress(Warning):  # as in a step
            secrets = () if trial.secrets is None else trial.secret_values
            fail(trial, failure_of(error, label, secrets), error)
        raise
    if given:
        _note_changes(
            trial, given, given_between(args, kwargs), {**dict(enumerate(args)), **kwargs}
        )
    reads = files.reads(keys is not None) if files.noted else []
    running.reads = without_secrets(reads, trial.secret_values) if trial.secrets else reads
    if keys is not None:
        hidden = HIDDEN_NAME if len(running.reads) < len(reads) else None
        entry = CacheEntry(
            trial.trial, label, "", running.stochastic, note=hidden or doubt_of(running),
            reads=tuple(running.reads), exact=exact_or_none(value) if new else None, given=given,
        )  # fmt: skip
        recorder_for(trial.store).entry(keys.ids, entry, trial.owner, trial.signing_key)
    return value, running
