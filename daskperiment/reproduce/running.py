"""Run a trial again, and compare the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from daskperiment.capture.origin import is_own, module_of
from daskperiment.compare import Comparison, compare
from daskperiment.errors import ReproductionError
from daskperiment.graph.replacement import with_functions
from daskperiment.graph.result import ResultNode
from daskperiment.graph.template import Template
from daskperiment.history.trial_records import RecordedTrial, find_trial
from daskperiment.planning.options import TrialOptions
from daskperiment.planning.planner import signing_key
from daskperiment.recording.recorder import recorder_for
from daskperiment.records import Code, Graph
from daskperiment.reproduce.past import check_wiring, load, past_trial, values_of
from daskperiment.reproduce.rebuild import Rebuilt, rebuild
from daskperiment.reuse.cache_keys import UsedFunction
from daskperiment.store.protocol import Store

__all__ = ["CODES", "reproduce"]

CODES: Final = ("current", "recorded")
"""Which code a trial can be run again with."""

_TAKEN: Final = ("seed", "reuse")


def reproduce(
    result: ResultNode, trial_id: int, code: str = "current",
    dask_keywords: Mapping[str, Any] | None = None,
) -> Comparison:  # fmt: skip
    """Run a trial again, and compare it with its new run.

    Parameters, result and errors are those of :meth:`Result.reproduce`.
    """
    keywords = dict(dask_keywords or {})
    _check(code, keywords)
    store = result._planner.store
    recorder_for(store).catch_up()
    past = past_trial(store, trial_id, result.name)
    values, notes = values_of(store, past, result, signing_key())
    rebuilt = _rebuilt(store, past, result) if code == "recorded" else Rebuilt()
    order = TrialOptions(values=values, seed=past.begun.seed, reuse=False, source=past.trial)
    again = with_functions(result, rebuilt.functions).with_options(order)
    before = store.state().latest
    try:
        again.compute(**keywords)
    except Exception as error:
        new = _find(store, again.computed_token, before)
        if new is None or new.ended is None:
            raise
        notes.append(f"computing trial {new.trial} raised {type(error).__name__}")
    else:
        new = _find(store, again.computed_token, before)
    return _compared(store, past, new, [*notes, *rebuilt.notes])


def _check(code: Any, keywords: Mapping[str, Any]) -> None:
    if code not in CODES:
        raise ValueError(
            f"code is {code!r}; expected 'current' to run today's code, or 'recorded' to run the "
            "code of the trial"
        )
    for name in _TAKEN:
        if name in keywords:
            raise TypeError(
                f"reproduce() takes no {name!r}: it runs with the trial's own seed and computes "
                "every step; call compute() for another run"
            )


def _rebuilt(store: Store, past: RecordedTrial, result: ResultNode) -> Rebuilt:
    template = result._template
    check_wiring(past.trial, load(store, past, "graph", Graph), template.graph)
    recorded = load(store, past, "code", Code)
    today = result._planner.code(template.functions)
    rebuilt = rebuild(past.trial, recorded, today, template.functions, signing_key())
    return replace(rebuilt, notes=(*rebuilt.notes, *_unrecorded(template)))


def _unrecorded(template: Template) -> Iterator[str]:
    """Name the user's functions in the graph that are no steps, whose code is not recorded."""
    for spec in template.specs.specs:
        if spec.place and not spec.step and not spec.parameter:
            uses = [part.function for part in spec.parts if isinstance(part, UsedFunction)]
            if any(is_own(module_of(template.specs.functions[label])) for label in uses):
                yield f"{spec.place!r} is no step, so its code is not recorded: today's is run"


def _find(store: Store, token: str | None, before: int) -> RecordedTrial | None:
    recorder_for(store).catch_up()
    return find_trial(store, token, before)


def _compared(
    store: Store, past: RecordedTrial, new: RecordedTrial | None, notes: list[str]
) -> Comparison:
    if new is None:
        raise ReproductionError(
            f"Trial {past.trial} was run again, but the new trial is not in {store.address}. "
            "Was the experiment deleted meanwhile?"
        )
    comparison = compare(store, past.trial, new.trial)
    return replace(comparison, notes=tuple(dict.fromkeys(notes)))
