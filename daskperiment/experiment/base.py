"""What all groups of an experiment's methods share: its store, its parameters, its steps."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from daskperiment.capture.signatures import explained
from daskperiment.graph.step import StepFunction
from daskperiment.parameters import Parameter, Parameters
from daskperiment.planning.planner import Planner
from daskperiment.recording.registry import recorder_for
from daskperiment.store.protocol import Store
from daskperiment.vouching import vouched

if TYPE_CHECKING:
    from daskperiment.dashboard import Server

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
    _parameters: Parameters
    _planner: Planner
    _nodes: dict[str, Parameter]
    _steps: dict[str, StepFunction]
    _rng: np.random.Generator | None
    _server: Server | None

    @property
    def seed(self) -> int | None:
        """Seed of every trial, None if each draws its own."""
        return self._planner.seed

    def _store_caught_up(self) -> Store:
        """Return the store, once what waited for it in a journal is there, if that is possible."""
        recorder_for(self._store).catch_up()
        return self._store

    def _store_to_read(self) -> Store:
        """Return the store as `_store_caught_up`; with a signing key, what that vouches for."""
        return vouched(self._store_caught_up())
