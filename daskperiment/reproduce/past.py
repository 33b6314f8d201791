"""What is taken over from the trial that is run again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from daskperiment.errors import (
    CorruptRecordError,
    ReproductionError,
    StoreUnavailableError,
    UntrustedObjectError,
)
from daskperiment.graph.result import ResultNode
from daskperiment.history.stored_values import loaded
from daskperiment.history.trial_records import RecordedTrial, part_of, trial_or_raise
from daskperiment.records import Code, Graph, Node
from daskperiment.store.protocol import Store

__all__ = ["check_wiring", "load", "past_trial", "values_of"]

T = TypeVar("T", Code, Graph)


def past_trial(store: Store, trial_id: int, name: str) -> RecordedTrial:
    """Read the trial that is to be run again.

    Raises
    ------
    TrialIDNotFoundError
        If there is none.
    ReproductionError
        If it still runs, or is one of another result.
    """
    trial = trial_or_raise(store, trial_id)
    if trial.begun.result != name:
        raise ReproductionError(
            f"Trial {trial.trial} computed the result {trial.begun.result!r}, and this is "
            f"{name!r}; call reproduce({trial.trial}) of {trial.begun.result!r}"
        )
    if trial.status == "running":
        raise ReproductionError(
            f"Trial {trial.trial} is still running; reproduce it when it has ended "
            "(ex.get_history(running=True) tells)"
        )
    return trial


def load(store: Store, trial: RecordedTrial, name: str, type_: type[T]) -> T:
    """Load a record that a trial refers to.

    Raises
    ------
    ReproductionError
        If it is missing or damaged.
    """
    try:
        return part_of(store, trial, name, type_)
    except CorruptRecordError as error:
        raise ReproductionError(
            f"The recorded {error}. "
            "Use code='current' to run the trial's parameters and seed with today's code."
        ) from error


def values_of(
    store: Store, trial: RecordedTrial, result: ResultNode, key: bytes | None
) -> tuple[dict[str, Any], list[str]]:
    """Load the values of a trial's parameters.

    Returns
    -------
    values : dict
        Of the parameters that are declared today; computed ones among them.
    notes : list of str
        Which parameters are not as they were.

    Raises
    ------
    ReproductionError
        If a value cannot be loaded, and the result is bound to no other.
    UntrustedObjectError
        If a value's object is not signed with the key.
    """
    parameters = result._planner.parameters
    bound = result._options.values
    values: dict[str, Any] = {}
    notes: list[str] = []
    for name, form in trial.parameters.items():
        if name not in parameters.names:
            notes.append(f"parameter {name!r} is not declared any more: its value is not used")
            continue
        try:
            values[name] = loaded(form, store, key)
        except (StoreUnavailableError, UntrustedObjectError):
            raise
        except Exception as error:  # unpickling may raise anything
            if name not in bound:
                raise _not_loaded(trial.trial, name, error) from error
            values[name] = bound[name]
            notes.append(f"the recorded value of parameter {name!r} cannot be loaded: the one "
                         "that the result is bound to is used")  # fmt: skip
    return values, [*notes, *_not_recorded(result, values)]


def _not_loaded(trial: int, name: str, error: Exception) -> ReproductionError:
    kwargs = f"{name}=..." if name.isidentifier() else f"**{{{name!r}: ...}}"
    return ReproductionError(
        f"The value of parameter {name!r} in trial {trial} cannot be loaded: {error}. "
        f"If you have it, give it: bind({kwargs}).reproduce({trial})."
    )


def _not_recorded(result: ResultNode, values: Mapping[str, Any]) -> list[str]:
    """Name the parameters that the graph takes and that the trial has no value of."""
    today = result._planner.parameters.current(result._options.values)
    return [
        f"parameter {name!r} has no recorded value: today's is used" if name in today
        else f"parameter {name!r} has no recorded value: it is computed anew"
        for name in result._template.parameters
        if name not in values
    ]  # fmt: skip


def check_wiring(trial: int, recorded: Graph, today: Graph) -> None:
    """Refuse a graph whose steps are connected in another way.

    Raises
    ------
    ReproductionError
        Naming the first step that is, or that only one of them has.
    """
    old, new = ({node.key: node for node in graph.nodes} for graph in (recorded, today))
    for key in dict.fromkeys([*old, *new]):
        before, now = old.get(key), new.get(key)
        if before != now:
            raise ReproductionError(
                f"Step {key!r} of trial {trial} {_wiring(before)}, and {_wiring(now)} in this "
                "result. Recorded are the steps' code and which steps take which, not the "
                "arguments of each call; build the result as it was, or use code='current'."
            )


def _wiring(node: Node | None) -> str:
    if node is None:
        return "is not there"
    taken = ", ".join([*node.steps, *node.parameters])
    return f"takes {taken}" if taken else "takes no step and no parameter"
