"""What the page may ask: questions about the experiments of a store, answered with plain data."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

from msgspec import Struct
from toolz import partition_all

from daskperiment.dashboard.artifact_files import ArtifactFile, file_to_send
from daskperiment.dashboard.comparisons import compare_trials
from daskperiment.dashboard.damage import begins_with, undamaged
from daskperiment.dashboard.details import describe_trial
from daskperiment.dashboard.metric_cache import CHUNK
from daskperiment.dashboard.table import Look, TrialTable
from daskperiment.errors import DaskperimentError, StoreError, StoreUnavailableError
from daskperiment.formatting import shorten
from daskperiment.history.trial_records import read_trials
from daskperiment.records import (
    BEGUN,
    ENDED,
    REMOVED,
    EndStatus,
    is_experiment_id,
    outweighs,
    record_kind,
)
from daskperiment.store.file import FileStore, FolderState
from daskperiment.store.opening import (
    folder_state,
    let_go,
    list_experiments,
    open_store,
    read_at_rest,
    resolve,
)
from daskperiment.store.protocol import Store, Stored
from daskperiment.vouching import silently, vouched

if TYPE_CHECKING:
    from daskperiment.dashboard.charts import CurveStyle
    from daskperiment.dashboard.influence import InfluenceOptions

__all__ = ["Chosen", "DashboardAPI", "ExperimentNotFoundError", "Source", "TrialCounter"]

Chosen = Sequence[int] | Look
"""Trials that are named, or those that a look finds."""

_TABLES = 6
"""Experiments that are remembered at once: those that somebody looked at last."""
_PATIENCE = 60.0
"""Seconds after which nobody waits for a reading any more, if none asked how far it came."""

# The experiments of a store ----------------------------------------------------------------------


class ExperimentNotFoundError(DaskperimentError, LookupError):
    """The store holds no experiment of this id."""


class Source:
    """The experiments of a backend; every store is opened once.

    A file store stands for the folder that it is in; another store, which does not say what is
    beside it, for its one experiment, whose id is then given.
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
        """Return the ids of the experiments, sorted."""
        if self._is_single:
            return list(self._given)
        return [id for id in list_experiments(self._target) if is_experiment_id(id)]

    def stores(self) -> list[tuple[str, Store]]:
        """Return all experiments with their stores; they are listed once."""
        if self._is_single:
            return list(self._given.items())
        return [(id, self._store(id)) for id in self.experiments()]

    def store(self, experiment: str) -> Store:
        """Return an experiment's store; ExperimentNotFoundError if there is none of this id."""
        with self._lock:
            known = experiment in self._given or experiment in self._opened
        if known:
            return self._store(experiment)
        # The id becomes part of a path: it is looked up, never just joined.
        if experiment not in self.experiments():
            raise ExperimentNotFoundError(
                f"There is no experiment {shorten(repr(experiment), 80)} in {self.address}. It may "
                "have been deleted, or it has no trial yet: go back to the list of experiments."
            )
        return self._store(experiment)

    def _store(self, experiment: str) -> Store:
        with self._lock:
            store = self._given.get(experiment) or self._opened.get(experiment)
            if store is None:
                store = self._opened[experiment] = open_store(self._target, experiment)
            return store

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
    return name if is_experiment_id(name) else "experiment"


def _address(target: Any) -> str:
    if isinstance(target, Path):
        return str(target)
    if isinstance(target, str):
        scheme, separator, rest = target.partition("://")
        return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"
    return type(target).__name__


# How many trials they have -----------------------------------------------------------------------


class _CountedStart(Struct, gc=False):
    token: str
    started: float


class _CountedEnd(Struct, gc=False):
    status: EndStatus
    finished: float


class TrialCounter:
    """Counts the trials of one experiment without keeping them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._state: FolderState | None = None
        """That of the folder when it was counted, if later writes show in it."""
        self._known: dict[str, Any] = {}
        self._clear()

    def _clear(self) -> None:
        self._position = 0
        self._first: tuple[int, str] | None = None
        self._begun: set[int] = set()
        self._ended: dict[int, EndStatus] = {}
        self._latest: float | None = None

    def count(self) -> dict[str, Any]:
        """Read what is new, and return how many trials there are, and when the latest changed.

        A folder that did not change is not opened again.
        """
        with self._lock:
            state = folder_state(self._store)
            if state is not None and state == self._state:
                return self._known
            found = self._count(state)
            over = not {"running", "lost"} & found["counts"].keys()
            settled = state is not None and state.is_settled() and over
            self._state, self._known = state if settled else None, found
            return found

    def _count(self, state: FolderState | None) -> dict[str, Any]:
        # An experiment can be deleted and begun anew.
        if self._first is not None and not begins_with(self._store, *self._first):
            self._clear()
        records: Iterable[Stored] | None
        records = None if self._position else read_at_rest(self._store, "trials", state)
        if records is None:
            records = self._store.read("trials", after=self._position)
        for chunk in partition_all(CHUNK, records):
            self._position = chunk[-1].position
            self._add(chunk)
        pending = self._begun - self._ended.keys()
        rest = read_trials(self._store, pending) if pending else {}
        statuses = [*self._ended.values(), *(trial.status for trial in rest.values())]
        counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
        return {"trials": len(self._begun), "counts": counts, "latest": self._latest}

    def _add(self, chunk: Sequence[Stored]) -> None:
        for one in chunk:
            if one.id == REMOVED:
                self._begun.discard(one.trial)
                self._ended.pop(one.trial, None)
        begun = [one for one in chunk if one.id == BEGUN]
        for one, start in undamaged(begun, _CountedStart):
            self._begun.add(one.trial)
            self._first = self._first or (one.trial, start.token)
            self._latest = max(self._latest or start.started, start.started)
        ended = [one for one in chunk if record_kind(one.id) == ENDED]
        for one, end in undamaged(ended, _CountedEnd):
            if outweighs(end.status, self._ended.get(one.trial)):
                self._ended[one.trial] = end.status
            self._latest = max(self._latest or end.finished, end.finished)


# Questions ---------------------------------------------------------------------------------------


class DashboardAPI:
    """Answers all questions about the experiments of a source. Any number of threads may ask."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._counters: dict[str, TrialCounter] = {}
        self._tables: OrderedDict[str, TrialTable] = OrderedDict()
        self._forgotten: WeakSet[TrialTable] = WeakSet()
        """Those that only a question that is being answered still needs."""
        self._is_stopped = False

    def experiments(self) -> dict[str, Any]:
        """Return how many trials each experiment has; one that cannot be read hides no other.

        Only if the store is away, so that nothing is known of any, StoreUnavailableError is raised.
        """
        found = [self._counts(id, store) for id, store in self._source.stores()]
        return {"address": self._source.address, "experiments": found}

    def trials(
        self, experiment: str, look: Look, start: int, size: int, seen: str, group: str = ""
    ) -> dict[str, Any]:
        """Return one page of the table of trials; only a word if the page has seen all of it."""
        table = self._table(experiment)
        version = str(table.glance())
        if version == seen and not table.trials.running and not table.trials.reading:
            return {"unchanged": True, "version": version}
        page = table.page(look, start, size, group)
        return {**page, "version": version, "address": table.store.address}

    def found(self, experiment: str, look: Look) -> dict[str, Any]:
        """Return the ids of the trials that a look finds."""
        table = self._table(experiment)
        table.refresh()
        return {"ids": table.found(look)}

    def metrics(
        self,
        experiment: str,
        chosen: Chosen,
        names: Sequence[str],
        style: CurveStyle,
        with_figures: bool,
    ) -> dict[str, Any]:
        """Return the curves of trials."""
        from daskperiment.dashboard.charts import draw_metrics  # noqa: PLC0415  # a table needs no Bokeh

        table, trials = self._chosen(experiment, chosen)
        return draw_metrics(table, trials, names, style, with_figures)

    def influence(
        self, experiment: str, chosen: Chosen, options: InfluenceOptions
    ) -> dict[str, Any]:
        """Return parameters against results."""
        from daskperiment.dashboard.influence import draw_influence  # noqa: PLC0415  # as above

        table, trials = self._chosen(experiment, chosen)
        return draw_influence(table, trials, options)

    def importance(self, experiment: str, chosen: Chosen, up: str) -> dict[str, Any]:
        """Return how much each parameter matters for a result."""
        from daskperiment.dashboard.influence import rank_parameters  # noqa: PLC0415  # as above

        table, trials = self._chosen(experiment, chosen)
        return rank_parameters(table, trials, up)

    def _chosen(self, experiment: str, chosen: Chosen) -> tuple[TrialTable, Sequence[int]]:
        table = self._table(experiment)
        table.refresh()
        return table, table.found(chosen) if isinstance(chosen, Look) else chosen

    def compare(self, experiment: str, chosen: Chosen) -> dict[str, Any]:
        """Return trials side by side."""
        table, trials = self._chosen(experiment, chosen)
        return compare_trials(table, trials)

    def trial(self, experiment: str, trial: int) -> dict[str, Any]:
        """Return all of one trial."""
        return describe_trial(self._source.store(experiment), trial)

    def artifact(self, experiment: str, trial: int, name: str, use: str) -> ArtifactFile:
        """Return the file of an artifact."""
        store = vouched(self._source.store(experiment), silently)
        return file_to_send(store, trial, name, use)

    def stop_reading(self) -> None:
        """Have nobody wait any more for a long history that is read for the first time."""
        with self._lock:
            self._is_stopped = True
            tables = [*self._tables.values(), *self._forgotten]
        for table in tables:
            table.trials.close()

    def close(self) -> None:
        """Close the stores, when nothing is read of them any more."""
        self.stop_reading()
        self._source.close()

    def _counts(self, experiment: str, store: Store) -> dict[str, Any]:
        try:
            with self._lock:
                counter = self._counters.get(experiment)
                if counter is None:
                    counter = self._counters[experiment] = TrialCounter(vouched(store, silently))
            return {"experiment": experiment, **counter.count()}
        except StoreUnavailableError:
            raise
        except StoreError as error:
            return {"experiment": experiment, "problem": str(error)}
        finally:
            let_go(store)  # of a thousand, all would not have enough descriptors

    def _table(self, experiment: str) -> TrialTable:
        store = self._source.store(experiment)
        forgotten = []
        with self._lock:
            table = self._tables.pop(experiment, None) or TrialTable(vouched(store, silently))
            self._tables[experiment] = table  # behind those that were asked for before it
            table.asked = time.monotonic()
            for id in [*self._tables][:-_TABLES]:
                if not self._tables[id].is_waited_for(table.asked - _PATIENCE):
                    forgotten.append(self._tables.pop(id))
            self._forgotten.update(forgotten)
            is_stopped = self._is_stopped
        if is_stopped:
            table.trials.close()
        for one in forgotten:
            one.trials.stop()
        return table
