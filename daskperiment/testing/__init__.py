"""For tests: of functions that are steps, and of stores that somebody else writes.

`no_trial` lets a unit test call a plain function that saves metrics or draws random numbers.
:class:`StoreConformance` shows that a store keeps its contract; it needs pytest, and is imported
when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from daskperiment.execution.context import CURRENT, RunningStep
from daskperiment.execution.random_state import release_step, seed_step
from daskperiment.seeds import check_seed

if TYPE_CHECKING:
    from daskperiment.testing.conformance import StoreConformance

__all__ = ["StoreConformance", "no_trial"]


@contextmanager
def no_trial(seed: int = 0) -> Iterator[None]:
    """Let functions of steps be called as they are, without a trial, as in a unit test.

    What a step asks of its experiment is answered, and nothing is recorded: ``save_metric``,
    ``save_metrics``, ``save`` and ``checkpoint`` check what they are given and drop it,
    ``restore`` gives its default, ``ex.rng`` and the global random state have a seed,
    ``ex.trial_id`` and ``ex.current_trial_id`` are 0. As in a step, calling a step is calling its
    function: nothing has to be unwrapped. It holds for all experiments, and for the threads that
    the block starts.

    Parameters
    ----------
    seed : int
        Of all random numbers. The same seed gives the same draws.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import daskperiment
    >>> from daskperiment.testing import no_trial
    >>> ex = daskperiment.Experiment("tested", backend=pathlib.Path(tempfile.mkdtemp()))
    >>> @ex.result
    ... def train(epochs):
    ...     for epoch in range(epochs):
    ...         ex.save_metric("loss", epoch, 1 / (epoch + 1))
    ...     return int(ex.rng.integers(100))
    >>> with no_trial(seed=1):
    ...     assert 0 <= train(3) < 100
    >>> ex.trial_id
    0
    """
    given = check_seed(seed)
    # A step that belongs to no trial: whatever asks for a trial finds none, and drops what it has.
    step = RunningStep("no_trial", 0 if given is None else given, None, rehearsed=True)
    reset = CURRENT.set(step)
    seed_step(step, reset.old_value)
    try:
        yield
    finally:
        release_step(step)
        CURRENT.reset(reset)


def __getattr__(name: str) -> Any:
    if name == "StoreConformance":
        return import_module("daskperiment.testing.conformance").StoreConformance
    raise AttributeError(f"module 'daskperiment.testing' has no attribute {name!r}")
