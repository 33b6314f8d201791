"""Which experiments a dashboard shows, and their stores."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from daskperiment.errors import DaskperimentError
from daskperiment.formatting import shorten
from daskperiment.store.file import FileStore
from daskperiment.store.opening import list_experiments, open_store, resolve
from daskperiment.store.protocol import Store

__all__ = ["ExperimentNotFoundError", "Source"]


class ExperimentNotFoundError(DaskperimentError, LookupError):
    """The store holds no experiment of this id."""


class Source:
    """The experiments of a backend; every store is opened once.

    Parameters
    ----------
    backend : None, str, pathlib.Path, Store, or an object of redis-py or pymongo
        As for an experiment. A file store stands for the folder that it is in; another store, which
        does not tell what is beside it, for its one experiment.
    experiment : str, optional
        Id of the experiment of such a store.
    """

    def __init__(self, backend: Any = None, experiment: str | None = None) -> None:
        target = resolve(backend)
        self._lock = threading.Lock()
        self._opened: dict[str, Store] = {}
        self._given: dict[str, Store] = {}
        self._is_single = False
        if isinstance(target, FileStore):
            self._given[target.folder.name] = target
            target = target.folder.parent
        elif not isinstance(target, str | Path) and callable(getattr(target, "allocate", None)):
            self._given[experiment or _name_of(target)] = target
            self._is_single = True
        self._target = target
        self.address: str = target.address if self._is_single else _address(target)

    def experiments(self) -> list[str]:
        """List the ids of the experiments, sorted."""
        if self._is_single:
            return list(self._given)
        return [id for id in list_experiments(self._target) if id.isidentifier()]

    def store(self, experiment: str) -> Store:
        """Get an experiment's store.

        Raises
        ------
        ExperimentNotFoundError
            If there is none of this id.
        """
        with self._lock:
            store = self._given.get(experiment) or self._opened.get(experiment)
        if store is not None:
            return store
        # The id becomes part of a path: it is looked up, never just joined.
        if experiment not in self.experiments():
            raise ExperimentNotFoundError(
                f"There is no experiment {shorten(repr(experiment), 80)} in {self.address}. It may "
                "have been deleted, or it has no trial yet: go back to the list of experiments."
            )
        with self._lock:
            return self._opened.setdefault(experiment, open_store(self._target, experiment))

    def close(self) -> None:
        """Let go of connections; a store that the caller gave stays open."""
        with self._lock:
            opened = list(self._opened.values())
            self._opened.clear()
        for store in opened:
            store.close()


def _name_of(store: Store) -> str:
    path = unquote(urlsplit(store.address).path)
    name = path.rstrip("/").rpartition("/")[2]
    return name if name.isidentifier() else "experiment"


def _address(target: Any) -> str:
    if isinstance(target, Path):
        return str(target)
    if isinstance(target, str):
        scheme, separator, rest = target.partition("://")
        return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"
    return type(target).__name__
