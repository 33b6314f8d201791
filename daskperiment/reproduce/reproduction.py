"""Runs a trial again with its parameters and seed, and compares it with its new run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from daskperiment.capture.origin import is_own, module_of
from daskperiment.codec import check_signature, content_hash, signing_key_in_force
from daskperiment.compare import Comparison, compare
from daskperiment.errors import (
    CorruptRecordError,
    ReproductionError,
    UntrustedObjectError,
)
from daskperiment.graph.keywords import check_keywords
from daskperiment.graph.template import Template
from daskperiment.history.trial_records import RecordedTrial, find_trial, part_of
from daskperiment.planning.planner import TrialOptions
from daskperiment.planning.result_node import ResultNode
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Code, Graph, Node
from daskperiment.reproduce.past_trial import REPRODUCING, past_trial, recorded_values
from daskperiment.reproduce.rebuild import RebuiltSteps, rebuild
from daskperiment.reuse.key_parts import UsedFunction
from daskperiment.store.protocol import Store
from daskperiment.vouching import silently, vouched

__all__ = ["CODES", "reproduce"]

T = TypeVar("T", Code, Graph)

CODES: Final = ("current", "recorded")
"""Which code a trial can be run again with."""

_TAKEN: Final = ("seed", "reuse")


def reproduce(
    result: ResultNode, trial_id: int, code: str = "current",
    dask_keywords: Mapping[str, Any] | None = None,
) -> Comparison:  # fmt: skip
    """Run a trial again, and return its comparison with the new run.

    Parameters, result and errors are those of :meth:`Result.reproduce`.
    """
    keywords = dict(dask_keywords or {})
    _check_arguments(code, keywords)
    store = result.definition.planner.store
    recorder_for(store).catch_up()
    # Comparing it tells of what nobody vouches for; its code is refused.
    past = past_trial(vouched(store, silently), trial_id, result.name, REPRODUCING)
    values, notes = recorded_values(store, past, result, REPRODUCING)
    steps = _rebuilt(store, past, result) if code == "recorded" else RebuiltSteps()
    options = TrialOptions(values=values, seed=past.begun.seed, reuse=False, source=past.trial)
    again = result.definition.with_functions(steps.functions).with_options(options)
    before = store.state().latest
    plan = again.plan()
    try:
        again.compute(plan, keywords)
    except Exception as error:
        new = _find(store, plan.token, before)
        if new is None or new.ended is None:
            raise
        notes.append(f"computing trial {new.trial} raised {type(error).__name__}")
    else:
        new = _find(store, plan.token, before)
    return _compared(store, past, new, [*notes, *steps.notes])


def _check_arguments(code: Any, keywords: Mapping[str, Any]) -> None:
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
    check_keywords("reproduce", keywords, ("trial_id", "code"))


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
    comparison = compare(vouched(store), past.trial, new.trial)
    return replace(comparison, notes=tuple(dict.fromkeys(notes)))


# Recorded code -----------------------------------------------------------------------------------


def _rebuilt(store: Store, past: RecordedTrial, result: ResultNode) -> RebuiltSteps:
    template = result.definition.template
    _check_graph(past.trial, _load(store, past, Graph), template.graph)
    recorded = _load(store, past, Code)
    today = result.definition.planner.code(template.functions)
    trust = partial(_check_signed, store, past, signing_key_in_force())
    steps = rebuild(past.trial, recorded, today, template.functions, trust)
    return replace(steps, notes=(*steps.notes, *_unrecorded(template)))


def _check_signed(store: Store, past: RecordedTrial, key: bytes | None, step: str) -> None:
    """Raise UntrustedObjectError if there is a key, and the code is not what its holder recorded.

    `step` is one whose recorded code would run.
    """
    if key is None:
        return
    what = f"The recorded code of step {step!r} in trial {past.trial}"
    check_signature(what, past.begun, key, store.address)
    if past.begun.code_hash != content_hash([store.get(past.begun.code)]):
        raise UntrustedObjectError(
            f"{what} is refused: its object {past.begun.code!r} is not the one that was signed. "
            "Restore it from a backup, or use code='current'."
        )


def _load(store: Store, trial: RecordedTrial, type_: type[T]) -> T:
    try:
        return part_of(store, trial, type_)
    except CorruptRecordError as error:
        raise ReproductionError(
            f"The recorded {error}. "
            "Use code='current' to run the trial's parameters and seed with today's code."
        ) from error


def _check_graph(trial: int, recorded: Graph, today: Graph) -> None:
    """Refuse a graph whose steps are connected in another way, naming the first of them."""
    old, new = ({node.key: node for node in graph.nodes} for graph in (recorded, today))
    for key in dict.fromkeys([*old, *new]):
        before, now = old.get(key), new.get(key)
        if _wiring(before) != _wiring(now):
            raise ReproductionError(
                f"Step {key!r} of trial {trial} {_inputs(before)}, and {_inputs(now)} in this "
                "result. Recorded are the steps' code and which steps take which, not the "
                "arguments of each call; build the result as it was, or use code='current'."
            )


def _wiring(node: Node | None) -> Any:
    return node and (node.step, node.steps, node.parameters)


def _inputs(node: Node | None) -> str:
    if node is None:
        return "is not there"
    taken = ", ".join([*node.steps, *node.parameters])
    return f"takes {taken}" if taken else "takes no step and no parameter"


def _unrecorded(template: Template) -> Iterator[str]:
    """Yield a note on each of the user's functions in the graph that is no step."""
    for spec in template.key_specs.specs:
        if spec.place and not spec.step and not spec.parameter:
            uses = [part.function for part in spec.parts if isinstance(part, UsedFunction)]
            if any(is_own(module_of(template.key_specs.functions[label])) for label in uses):
                yield f"{spec.place!r} is no step, so its code is not recorded: today's is run"
