"""The experiment: what people import, decorate with and ask.

Each group of its methods has a module here; the work is done in the rooms below.
"""

from __future__ import annotations

import os
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskperiment.capture.signatures import explained
from daskperiment.experiment.artifact_methods import ArtifactMethods
from daskperiment.experiment.autologging import AutologMethods
from daskperiment.experiment.checkpointing import CheckpointMethods
from daskperiment.experiment.config_methods import ConfigurationMethods
from daskperiment.experiment.curating import CuratingMethods
from daskperiment.experiment.declarations import Declarations
from daskperiment.experiment.questions import Questions
from daskperiment.experiment.upkeep import Upkeep
from daskperiment.formatting import html_table, plain_repr, shorten, table
from daskperiment.planning.trial_defaults import TrialDefaults
from daskperiment.recording.registry import is_caught_up, keep_large_objects, recorder_for, visiting
from daskperiment.records import is_experiment_id
from daskperiment.seeds import check_seed
from daskperiment.store import opening
from daskperiment.store.buckets import named_place
from daskperiment.store.object_methods import share_place
from daskperiment.store.protocol import Store

if TYPE_CHECKING:
    import pandas as pd

    from daskperiment.history.overview import ExperimentRow
    from daskperiment.result import Result

__all__ = ["Experiment", "experiment_of", "experiment_rows", "list_experiments"]


class Experiment(
    Declarations, ConfigurationMethods, ArtifactMethods, CheckpointMethods, AutologMethods,
    Questions, CuratingMethods, Upkeep,
):  # fmt: skip
    """A named set of steps and parameters, and its history in one store.

    Parameters
    ----------
    id : str
        Such as ``"iris-svm.v2"``: letters, digits, ``_``, ``-`` and ``.``, a letter or ``_``
        first.
    backend : str, pathlib.Path, redis.Redis, pymongo Database or Store, optional
        Where the history lives. None: the configured ``daskperiment.backend``, else the folder
        ``daskperiment_cache``. A path or ``"file:///path"`` is a folder that holds any number of
        experiments; ``"redis://…"``, ``"rediss://…"``, ``"unix://…"`` and ``"mongodb://host/db"``
        are servers.
    seed : int, optional
        Seed of every trial. Without it each trial draws one; it is recorded either way.
    reuse : bool, optional
        Whether outputs of persisted steps are taken from earlier trials where nothing that
        determines them changed. Steps and :meth:`Result.compute` may say otherwise.
    objects : str or pathlib.Path, optional
        Where objects above 100 kB are kept: a URL that fsspec opens, such as
        ``"s3://bucket/folder"``, or a folder. None: the configured ``daskperiment.objects``, else
        where those of the experiment are already, else in the store itself.

    Raises
    ------
    ValueError
        If `id` is no identifier, or `backend` names nothing that can be a store, or `objects` no
        place for objects.
    MissingLibraryError
        If the library that opens such URLs is not installed.

    Notes
    -----
    The same id and backend give the same object, with its parameters and steps kept: running a
    notebook's cell again changes nothing.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import daskperiment
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> ex = daskperiment.Experiment("adding", backend=folder)
    >>> a = ex.parameter("a", default=1)
    >>> b = ex.parameter("b", default=2)
    >>> @ex.result
    ... def add(a, b):
    ...     return a + b
    >>> add(a, b).compute()
    3
    >>> ex.get_history()[["a", "b", "Result", "Success"]]
              a  b  Result  Success
    Trial ID
    1         1  2       3     True
    """

    @explained
    def __new__(
        cls, id: str, backend: Any = None, seed: int | None = None, reuse: bool | None = None,
        *, objects: str | os.PathLike[str] | None = None,
    ) -> Experiment:  # fmt: skip
        """Return the experiment of this id and backend, made where there is none."""
        check_id(id)
        seed = check_seed(seed)
        if reuse is not None:
            from daskperiment.planning.planner import check_reuse

            check_reuse(reuse)
        place = named_place(objects)
        store = opening.open_store(backend, id)
        with _EXPERIMENTS_LOCK:
            known = _EXPERIMENTS.get((id, store.address))
            if known is None:
                known = super().__new__(cls)
                known._set_up(id, store)
                _EXPERIMENTS[id, store.address] = known
        share_place(store, known._store)
        # What is not given stays as it was.
        if place is not None:
            keep_large_objects(known._store, place)
        if seed is not None:
            known._defaults.seed = seed
        if reuse is not None:
            known._defaults.reuse = reuse
        return known

    def _set_up(self, id: str, store: Store) -> None:
        self.id = id
        self._store = store
        self._defaults = TrialDefaults()
        self._nodes = {}
        self._steps = {}
        self._rng = None
        self._server = None

    def __reduce__(self) -> Any:
        return Experiment, (self.id, self._store, self.seed, self._defaults.reuse)

    def __dask_tokenize__(self) -> Any:
        # What is recorded changes with each trial; a step that has it as an input stays the same.
        return Experiment, self.id, self._store.address, self.seed

    def __repr__(self) -> str:
        rows = [[name, shorten(value, 50)] for name, value in self._rows()]
        listed = f"\n{table([], rows, indent='  ')}" if rows else ""
        return f"Experiment({self.id!r}) in {self._store.address}{listed}"

    def _rows(self) -> list[list[str]]:
        texts = {name: plain_repr(value) for name, value in self._parameters.current({}).items()}
        rows = [[f"parameter {n}", texts.get(n, "no value")] for n in self._parameters.names]
        if self._steps:
            rows.append(["steps", ", ".join(self._steps)])
        if waiting := recorder_for(self._store).delivery.waiting:
            rows.append(["waiting", f"{waiting} records for the store; ex.flush() delivers them"])
        return rows

    def _repr_html_(self) -> str:
        head = [["experiment", self.id], ["store", self._store.address]]
        return html_table([], [[name, shorten(text, 80)] for name, text in head + self._rows()])


def check_id(id: Any) -> None:
    """Refuse what cannot be an experiment's id."""
    if not isinstance(id, str) or not is_experiment_id(id):
        raise ValueError(
            f"An experiment's id is {id!r}; expected letters, digits, '_', '-' and '.', a "
            "letter or '_' first and no '.' last, such as 'iris-svm.v2'."
        )
    if len(id.encode()) > 100:
        raise ValueError(f"An experiment's id has at most 100 bytes; {id!r} has more")


@explained
def list_experiments(backend: Any = None) -> pd.DataFrame:
    """List the experiments of a store.

    Parameters
    ----------
    backend : object, optional
        As for :class:`Experiment`.

    Returns
    -------
    pandas.DataFrame
        A row for each experiment.
    """
    from daskperiment.history.overview import experiments_frame

    return experiments_frame(experiment_rows(backend))


def experiment_rows(backend: Any = None) -> list[ExperimentRow]:
    """Return what `list_experiments` says of each experiment of a store, without pandas."""
    from daskperiment.history.overview import KnownRows
    from daskperiment.vouching import vouched

    target = opening.resolve(backend)
    known = KnownRows(str(target) if isinstance(target, Path) else "")
    rows, spare = [], opening.spare_names()
    for id in opening.list_experiments(target):
        store = opening.open_store(target, id)
        reader = vouched(store)
        caught_up = is_caught_up(store, spare)
        # What was counted is counted anew where each record is held against its signature.
        row = known.row(id, store) if reader is store and caught_up else None
        if row is None:
            with visiting(store) if not caught_up else closing(store):
                row = known.count(id, reader)
        rows.append(row)
    known.save()
    return rows


def experiment_of(result: Result) -> Experiment:
    """Return the experiment of this process that a result belongs to."""
    return next(
        ex for ex in _EXPERIMENTS.values() if ex._defaults is result.definition.planner.defaults
    )


# The same id and backend give the same object, so that a notebook's cell can run again.
_EXPERIMENTS: dict[tuple[str, str], Experiment] = {}
_EXPERIMENTS_LOCK = threading.Lock()
