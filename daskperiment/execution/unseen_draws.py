"""Draws that leave no trace in a generator, because whoever draws puts its state back.

``torch.random.fork_rng`` does so, and whoever keeps a state and sets it again. When a step sets the
state of a generator that the process has once, nobody can tell what it drew before: it counts as
drawing. A state that is set by a generator's own method is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from daskperiment.errors import UncertainStepError
from daskperiment.execution.context import ACTIVE, RunningStep
from daskperiment.execution.helper_threads import running_step

__all__ = ["notice_states"]


def notice_states(owner: Any, names: Iterable[str]) -> None:
    """Count steps as drawing that call functions of a module, from now on.

    Parameters
    ----------
    owner : module
    names : iterable of str
        Functions that set the state of a generator; those that the module lacks do not matter.
    """
    for name in names:
        function = getattr(owner, name, None)
        if function is not None and not hasattr(function, _MARK):
            setattr(owner, name, _noticing(function))


_MARK = "_daskperiment_noticing"


def _noticing(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def set_state(*args: Any, **kwargs: Any) -> Any:
        for step in _steps_here():
            step.stochastic = True
        return function(*args, **kwargs)

    setattr(set_state, _MARK, True)
    return set_state


def _steps_here() -> list[RunningStep]:
    """Return the step that this thread works for, or all that run where it may be any of them."""
    try:
        step = running_step()
    except UncertainStepError:
        return [each for each in ACTIVE if each.halted is None]
    return [step] if step is not None and step.halted is None else []
