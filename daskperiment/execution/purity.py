"""Steps that returned another output than before, though nothing that is known of them changed."""

from __future__ import annotations

from collections.abc import Collection

from daskperiment.capture.environment import changes
from daskperiment.capture.files import changed_reads
from daskperiment.codec import decode, find_record
from daskperiment.errors import ImpureStepWarning
from daskperiment.recording.recorder import Recorder
from daskperiment.recording.registry import recorder_for
from daskperiment.records import (
    ALTERED,
    BEGUN,
    IMPURE,
    SPOILED,
    Alteration,
    Begun,
    Code,
    Environment,
    Impurity,
    SpoiledInput,
    StepCode,
    altered_id,
    impure_key_id,
    impure_step_id,
    record_kind,
    spoiled_id,
)
from daskperiment.store.protocol import Store
from daskperiment.warn import warn_user

__all__ = [
    "joined_changes",
    "report_conflicts",
    "report_impurities",
]

MOST_LINES = 20
"""How many changes of the environment a warning names."""


def joined_changes(lines: list[str]) -> str:
    """Return lines as one text: what changed before what was added or removed, and not too many."""
    with_options = sorted(lines, key=lambda line: " -> " not in line)
    rest = len(with_options) - MOST_LINES
    return "; ".join(with_options[:MOST_LINES]) + (f"; and {rest} more" if rest > 0 else "")


def report_conflicts(recorder: Recorder, quietly: bool = False) -> None:
    """Warn of steps that returned another output than before, and write it down.

    Quietly where another process, that of the user, reads what is written and warns.
    """
    altered, found = recorder.outputs.alterations(), recorder.outputs.conflicts()
    for trial, noted in altered:
        recorder.write_note(trial, _id_of(noted), noted)
        if not quietly:
            _warn_noted(recorder, noted)
    for ours, theirs, id in found:
        owner = recorder.owner_of(ours.trial)
        recorder.write("outputs", 0, id, ours, owner)
        reads = changed_reads(theirs.reads, ours.reads)
        impurity = Impurity(ours.key, ours.step, theirs.trial, reads)
        recorder.write_note(ours.trial, impure_step_id(ours.key), impurity)
        # From now on neither output may be reused, unless it is known what else it rests on.
        keys = {ours.cache_key, theirs.cache_key, ours.by_inputs, theirs.by_inputs}
        for cache_key in set() if reads else keys - {None}:
            recorder.write("outputs", 0, impure_key_id(str(cache_key)), impurity)
        if not quietly:
            _warn_impure(recorder.store, ours.trial, impurity)
    if (found or altered) and quietly:
        recorder.settle()  # whoever reads it looks as soon as the task is done


def report_impurities(store: Store, trials: Collection[int]) -> None:
    """Warn of the impure steps that other processes wrote down for trials."""
    for record in store.read("notes", trials):
        if record_kind(record.id) == IMPURE:
            _warn_impure(store, record.trial, decode(record.body, Impurity))
        elif record_kind(record.id) == ALTERED:
            _warn_altered(decode(record.body, Alteration))
        elif record_kind(record.id) == SPOILED:
            _warn_noted(recorder_for(store), decode(record.body, SpoiledInput))


def _id_of(noted: Alteration | SpoiledInput) -> str:
    if isinstance(noted, SpoiledInput):
        return spoiled_id(noted.key, noted.by)
    return altered_id(noted.key)


def _warn_noted(recorder: Recorder, noted: Alteration | SpoiledInput) -> None:
    if isinstance(noted, Alteration):
        _warn_altered(noted)
    elif not recorder.outputs.is_told(noted):
        names = ", ".join(noted.arguments)
        warn_user(
            ImpureStepWarning(
                f"Step {noted.key!r} got as {names} what step {noted.by!r} had changed in place "
                "before it ran: its output was made of the changed one, and is reused only where "
                f"that is given. Let {noted.by!r} work on a copy and return that, and let "
                f"{noted.key!r} take what it returns if it wants the changed one."
            )
        )


def _warn_altered(alteration: Alteration) -> None:
    arguments, beside = ", ".join(alteration.arguments), alteration.beside[:MOST_LINES]
    others = f", or {' or '.join(map(repr, beside))} at the same time," if beside else ""
    warn_user(
        ImpureStepWarning(
            f"Step {alteration.key!r}{others} changed in place what it was given as {arguments}. "
            "Others that take the same object get the changed one or not, depending on what runs "
            "first and where. Let the step work on a copy, and return that."
        )
    )


def _warn_impure(store: Store, trial: int, impurity: Impurity) -> None:
    begun = _begun(store, impurity.earlier, trial)
    lines = _environment_changes(store, begun.get(impurity.earlier), begun.get(trial))
    code = _step_code(store, begun.get(trial), impurity)
    where = "in this trial" if impurity.earlier == trial else f"in trial {impurity.earlier}"
    if impurity.reads:
        cause = (
            f"It read {', '.join(impurity.reads[:MOST_LINES])}, and found something else there. "
            "Make that an argument: ex.file(path) for a file."
        )
    elif lines:
        cause = f"What did change is the environment: {joined_changes(lines)}."
    elif code is not None and code.states:
        cause = (
            f"Its code changes {', '.join(code.states[:MOST_LINES])}, which it reads. Make that an "
            "argument, or something that only the step's own call has."
        )
    elif code is not None and code.clocks:
        cause = (
            f"Its code reads a clock: {', '.join(code.clocks[:MOST_LINES])}. Make the time an "
            "argument or a parameter."
        )
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


def _begun(store: Store, *trials: int) -> dict[int, Begun]:
    return {
        record.trial: decode(record.body, Begun)
        for record in store.read("trials", list(dict.fromkeys(trials)))
        if record.id == BEGUN
    }


def _environment_changes(store: Store, first: Begun | None, second: Begun | None) -> list[str]:
    if first is None or second is None or first.environment == second.environment:
        return []
    digests = first.environment, second.environment
    old, new = (find_record(store.get, digest, Environment) for digest in digests)
    return list(changes(old, new)) if old and new else []


def _step_code(store: Store, begun: Begun | None, impurity: Impurity) -> StepCode | None:
    """Return what is known of a step's code: clocks that it reads, state that it changes."""
    code = find_record(store.get, begun.code, Code) if begun is not None else None
    if code is None:
        return None
    return code.steps.get(impurity.key) or code.steps.get(impurity.step)
