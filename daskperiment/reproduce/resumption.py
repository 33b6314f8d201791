"""Goes on with a trial that did not come to its end: from its checkpoints and kept outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from daskperiment.capture.code_changes import changed_functions
from daskperiment.capture.fingerprint import NoFingerprintError, fingerprint
from daskperiment.codec import check_signature, is_object, signing_key_in_force
from daskperiment.errors import (
    CorruptRecordError,
    ResumptionError,
    ResumptionWarning,
)
from daskperiment.execution.trial import Resumption
from daskperiment.formatting import listed
from daskperiment.graph.keywords import check_keywords
from daskperiment.history.kept_columns import resumed_by
from daskperiment.history.trial_records import (
    RecordedTrial,
    decoded,
    part_of,
    read_trials,
)
from daskperiment.planning.planner import TrialOptions, check_reuse
from daskperiment.planning.result_node import ResultNode
from daskperiment.recording.checkpoint_records import KeptCheckpoint, kept_checkpoints
from daskperiment.recording.registry import recorder_for
from daskperiment.records import CacheEntry, Code, StepRun
from daskperiment.reproduce.past_trial import RESUMING, past_trial, recorded_values
from daskperiment.reuse.cache_entries import Hit
from daskperiment.store.protocol import Store
from daskperiment.vouching import vouched
from daskperiment.warn import warn_user

__all__ = ["resume"]

_LONGEST = 1000
"""Trials of which one went on from the other, at most."""
_TAKEN: Final = ("seed",)


def resume(
    result: ResultNode, trial_id: int, reuse: bool | None, dask_keywords: Mapping[str, Any]
) -> Any:
    """Go on with a trial, and return its result.

    Parameters, result and errors are those of :meth:`Result.resume`.
    """
    _check_arguments(reuse, dask_keywords)
    store = result.definition.planner.store
    recorder_for(store).catch_up()
    reader = vouched(store)
    past = _unfinished_trial(reader, trial_id, result.name)
    values, notes = recorded_values(store, past, result, RESUMING)
    line = _line(reader, past)
    resumption = Resumption(past.trial, _checkpoints(store, line), _outputs(store, line))
    notes += [*_bound(result, values), *_changes(reader, past, result), *_later(reader, past)]
    if notes:
        warn_user(ResumptionWarning(f"Trial {past.trial} is gone on with: {'; '.join(notes)}."))
    options = TrialOptions(
        values=values, seed=past.begun.seed, sweep=past.begun.sweep, resumption=resumption,
        reuse=result.definition.options.reuse if reuse is None else reuse,
    )  # fmt: skip
    return result.compute_with(options, dask_keywords)


def _check_arguments(reuse: Any, keywords: Mapping[str, Any]) -> None:
    check_reuse(reuse)
    for name in _TAKEN:
        if name in keywords:
            raise TypeError(
                f"resume() takes no {name!r}: it goes on with the trial's own; call compute() for "
                "another run"
            )
    check_keywords("resume", keywords, ("trial_id", "reuse"))


def _unfinished_trial(store: Store, trial_id: int, name: str) -> RecordedTrial:
    past = past_trial(store, trial_id, name, RESUMING)
    if past.status == "succeeded":
        raise ResumptionError(
            f"Trial {past.trial} succeeded, so there is nothing to go on with; reproduce"
            f"({past.trial}) runs it again, and compute() is a new trial"
        )
    return past


def _line(store: Store, past: RecordedTrial) -> list[RecordedTrial]:
    """Return a trial, what it went on from, what that went on from, and so on."""
    line = [past]
    while (before := line[-1].begun.resumes) is not None and len(line) < _LONGEST:
        found = read_trials(store, [before]).get(before)
        if found is None or found.trial in [each.trial for each in line]:
            break  # it was deleted, or never copied
        line.append(found)
    return line


def _checkpoints(
    store: Store, line: Sequence[RecordedTrial]
) -> dict[str, Sequence[KeptCheckpoint]]:
    """Return the checkpoints of each step, the latest first."""
    kept = kept_checkpoints(store, [each.trial for each in line])
    found: dict[str, list[KeptCheckpoint]] = {}
    for past in line:
        for (trial, step), each in kept.items():
            if trial == past.trial:
                live = each[: max(1, each[0].checkpoint.keep)]
                found.setdefault(step, []).extend(live)
    return dict(found)


# What finished steps kept ------------------------------------------------------------------------


def _outputs(store: Store, line: Sequence[RecordedTrial]) -> dict[str, Hit]:
    """Return what steps returned that had finished and kept it; of the latest trial that has it."""
    key, found = signing_key_in_force(), {}
    for past in line:
        for _, run in decoded(list(store.read("steps", [past.trial])), StepRun, warn=False)[0]:
            if not _is_kept(run) or run.key in found:
                continue
            if key is not None:
                what = f"The record of step {run.key!r} in trial {past.trial}"
                check_signature(what, run, key, store.address, past.trial)
            found[run.key] = Hit(run.cache_key or "", _entry(run, past.trial))
    return found


def _is_kept(run: StepRun) -> bool:
    if run.status != "succeeded" or run.cache_key is None or not run.kept or run.changed:
        return False
    form = run.kept.get("value")
    return not is_object(form) or bool(form.get("digest"))


def _entry(run: StepRun, trial: int) -> CacheEntry:
    return CacheEntry(
        trial if run.reused is None else run.reused, run.key, run.step, run.stochastic,
        run.output, run.kept, metrics=run.metrics, reads=run.reads, written=run.written,
        artifacts=run.artifacts,
    )  # fmt: skip


# What the user has to know -----------------------------------------------------------------------


def _bound(result: ResultNode, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a note on each parameter that the result is bound to another value of."""
    for name, bound in result.definition.options.values.items():
        with suppress(NoFingerprintError):  # nobody can tell
            if name in values and fingerprint(bound) != fingerprint(values[name]):
                yield f"parameter {name!r} is bound to another value, and the trial's is used"


def _changes(store: Store, past: RecordedTrial, result: ResultNode) -> Iterator[str]:
    """Yield a note on each step whose code is another one than in the trial."""
    definition = result.definition
    now = definition.planner.code(definition.template.functions)
    try:
        before = part_of(store, past, Code)
    except CorruptRecordError as error:
        yield f"whether its code is still the same is not known, as its {error}"
        return
    for step, code in now.steps.items():
        old = before.steps.get(step)
        if old is None:
            yield f"step {step!r} is new"
        elif old.fingerprint != code.fingerprint:
            names = [name for name, *_ in changed_functions(before, now, step)]
            what = f" ({listed(names, 3)})" if names else ""
            yield f"the code of step {step!r} is another one than it was{what}"


def _later(store: Store, past: RecordedTrial) -> Iterator[str]:
    """Yield a note if later trials went on from it, too: they may have come further."""
    later = resumed_by(store, past)[-1:]
    for last in read_trials(store, later).values() if later else ():
        further = "" if last.status in ("succeeded", "running") else (
            f"; resume({last.trial}) goes on from where that came to"
        )  # fmt: skip
        yield f"trial {last.trial} ({last.status}) went on from it already{further}"
