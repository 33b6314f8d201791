"""What all groups of an experiment's methods share: its store, its parameters, its steps.

Graphs, planning and what runs in a trial are imported when something is declared or computed: who
only looks at trials waits for none of it.
"""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from daskperiment.capture.signatures import explained
from daskperiment.planning.trial_defaults import TrialDefaults
from daskperiment.recording.registry import recorder_for
from daskperiment.store.protocol import Store

if TYPE_CHECKING:
    import numpy as np

    from daskperiment.dashboard import Server
    from daskperiment.graph.step import StepFunction
    from daskperiment.parameters import Parameter, Parameters
    from daskperiment.planning.planner import Planner

__all__ = ["ExperimentBase", "explained_methods"]

E = TypeVar("E")


def explained_methods(kind: type[E]) -> type[E]:
    """Let the methods of a class name the nearest keyword where they are given an unknown one.

    They call themselves methods of an experiment, whatever group they belong to.
    """
    for name, method in list(vars(kind).items()):
        public = name == "__call__" or not name.startswith("_")
        if public and inspect.isfunction(method):
            method.__qualname__ = f"Experiment.{name}"
            # A point of a metric is saved a thousand times a second: it looks by itself.
            if name != "save_metric":
                setattr(kind, name, explained(method))
    return kind


class ExperimentBase:
    """An experiment's own things, which each group of its methods may use."""

    id: str
    """Its name, as it was given."""

    _store: Store
    _defaults: TrialDefaults
    _nodes: dict[str, Parameter]
    _steps: dict[str, StepFunction]
    _rng: np.random.Generator | None
    _server: Server | None

    @cached_property
    def _parameters(self) -> Parameters:
        from daskperiment.parameters import Parameters

        made = Parameters(f"{self.id}/{self._store.address}")
        # Of threads that ask for the first time at once, all get the same one.
        first: Parameters = vars(self).setdefault("_parameters", made)
        return first

    @cached_property
    def _planner(self) -> Planner:
        from daskperiment.planning.planner import Planner

        made = Planner(self._store, self._parameters, self._defaults)
        first: Planner = vars(self).setdefault("_planner", made)
        return first

    @property
    def seed(self) -> int | None:
        """Seed of every trial, None if each draws its own."""
        return self._defaults.seed

    def _store_caught_up(self) -> Store:
        """Return the store, once what waited for it in a journal is there, if that is possible."""
        recorder_for(self._store).catch_up()
        return self._store

    def _store_to_read(self) -> Store:
        """Return the store as `_store_caught_up`; with a signing key, what that vouches for."""
        from daskperiment.vouching import vouched

        return vouched(self._store_caught_up())
