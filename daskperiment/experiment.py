"""The experiment: what people import, decorate with and ask.

What only answers questions is imported when somebody asks: with it comes pandas, which takes longer
to import than everything else together.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar

import numpy as np
from dask.delayed import Delayed

from daskperiment.capture.code import source_text
from daskperiment.capture.environment import describe, packages_text
from daskperiment.capture.signatures import explained, unknown_keyword
from daskperiment.codec import NotPlainError, signing_key_in_force, to_plain
from daskperiment.errors import TrialIDNotFoundError
from daskperiment.execution.context import CURRENT, RunningStep
from daskperiment.execution.helper_threads import bound, running_step
from daskperiment.execution.lifecycle import undefined
from daskperiment.formatting import html_table, plain_repr, shorten, table
from daskperiment.graph.step import Step, StepCall, StepFunction, file_node
from daskperiment.parameters import NO_VALUE, Parameter, Parameters, check_name
from daskperiment.planning.planner import Planner, check_reuse
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Code, Environment, Point
from daskperiment.result import Result
from daskperiment.seeds import check_seed
from daskperiment.store import opening
from daskperiment.store.protocol import Store

if TYPE_CHECKING:
    from datetime import timedelta

    import pandas as pd

    from daskperiment.compare import Comparison
    from daskperiment.dashboard import Frame, Server
    from daskperiment.explain.explanation import Explanation

__all__ = ["Experiment", "experiment_of", "list_experiments"]

P = TypeVar("P", Code, Environment)
E = TypeVar("E")
Q = ParamSpec("Q")
R = TypeVar("R")


def _explained(kind: type[E]) -> type[E]:
    """Let the methods of a class name the nearest keyword where they are given an unknown one."""
    for name, method in list(vars(kind).items()):
        # A point of a metric is saved a thousand times a second: it looks by itself.
        public = name == "__call__" or not name.startswith("_")
        if public and inspect.isfunction(method) and name != "save_metric":
            setattr(kind, name, explained(method))
    kind.__new__ = staticmethod(explained(kind.__new__))  # type: ignore[method-assign]
    return kind


@_explained
class Experiment:
    """A named set of steps and parameters, and its history in one store.

    Parameters
    ----------
    id : str
        An identifier, such as ``"iris_svm"``.
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

    Raises
    ------
    ValueError
        If `id` is no identifier, or `backend` names nothing that can be a store.

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

    id: str
    """Its name, as it was given."""

    def __new__(
        cls, id: str, backend: Any = None, seed: int | None = None, reuse: bool | None = None
    ) -> Experiment:
        """Return the experiment of this id and backend, made where there is none."""
        check_id(id)
        seed, reuse = check_seed(seed), check_reuse(reuse)
        store = opening.open_store(backend, id)
        with _EXPERIMENTS_LOCK:
            known = _EXPERIMENTS.get((id, store.address))
            if known is None:
                known = super().__new__(cls)
                known._set_up(id, store)
                _EXPERIMENTS[id, store.address] = known
        # What is not given stays as it was.
        if seed is not None:
            known._planner.seed = seed
        if reuse is not None:
            known._planner.reuse = reuse
        return known

    def _set_up(self, id: str, store: Store) -> None:
        self.id = id
        self._store = store
        self._parameters = Parameters(f"{id}/{store.address}")
        self._planner = Planner(store, self._parameters)
        self._nodes: dict[str, Parameter] = {}
        self._steps: dict[str, StepFunction] = {}
        self._rng: np.random.Generator | None = None
        self._server: Server | None = None

    def __reduce__(self) -> Any:
        return Experiment, (self.id, self._store, self.seed, self._planner.reuse)

    @property
    def seed(self) -> int | None:
        """Seed of every trial, None if each draws its own."""
        return self._planner.seed

    def _store_caught_up(self) -> Store:
        """Return the store, once what waited for it in a journal is there, if that is possible."""
        recorder_for(self._store).catch_up()
        return self._store

    # Declaring

    def parameter(
        self, name: str | Callable[..., Any], default: Any = NO_VALUE, secret: bool = False
    ) -> Parameter:
        """Declare a parameter.

        Parameters
        ----------
        name : str or callable
            The parameter's name. Or, as a decorator, a function: the parameter has its name, and
            a default computed in each trial from the parameters that its arguments name, unless
            it was set.
        default : object, optional
            The value while none is set; None is a value.
        secret : bool
            Whether the value, such as a password, is used and compared only: no record, text or
            message has it. What is computed from a secret parameter by functions that are no
            steps is secret, too. What a step returns is not.

        Returns
        -------
        Parameter
            A node that stands for the value.

        Raises
        ------
        ParameterUndeclaredError
            If a function's argument names no parameter.
        """
        if not isinstance(secret, bool):
            raise TypeError(f"secret is {secret!r}; expected True or False")
        if callable(name):
            return self._computed_parameter(name, secret)
        self._parameters.declare(name, default, secret)
        self._nodes[name] = Parameter.plain(self._parameters, name)
        return self._nodes[name]

    def file(self, source: Any) -> Delayed:
        """Declare files as an input: a node that stands for them.

        Parameters
        ----------
        source : str, pathlib.Path or node
            The path of a file or folder, a pattern such as ``"data/*.csv"``, a URL that fsspec
            opens such as ``"s3://bucket/key"``, or a node that gives one of these, such as a
            parameter.

        Returns
        -------
        dask.delayed.Delayed
            A step that takes it gets an absolute :class:`~pathlib.Path`, for a pattern a sorted
            list of them, and a URL as it is. What counts is the content: of a file with its own
            name, of a folder or pattern with the names within; where an object store tells a
            version or an etag, that. Moving or touching files re-runs nothing.

        Raises
        ------
        TypeError
            If `source` is none of these. Files that are not there are an error of the trial.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import daskperiment
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "numbers.txt").write_text("1 2 3")
        >>> ex = daskperiment.Experiment("reading", backend=folder / "store")
        >>> @ex.persist(reuse=True)
        ... def read(path):
        ...     return [int(text) for text in path.read_text().split()]
        >>> @ex.result
        ... def total(numbers):
        ...     return sum(numbers)
        >>> s = total(read(ex.file(folder / "numbers.txt")))
        >>> s.compute()
        6
        >>> _ = (folder / "numbers.txt").write_text("4 5 6")
        >>> s.compute()
        15
        """
        return file_node(source)

    def _computed_parameter(self, function: Callable[..., Any], secret: bool) -> Parameter:
        name, arguments = function.__name__, inspect.signature(function).parameters
        # An argument with a default may name something else than a parameter.
        wanted = [n for n, a in arguments.items() if n in self._nodes or a.default is a.empty]
        self._parameters.declare_computed(name, tuple(wanted), secret)
        inputs = {argument: self._nodes[argument] for argument in wanted}
        self._nodes[name] = Parameter.computed(self._parameters, name, function, inputs, self.seed)
        return self._nodes[name]

    def __call__(
        self, function: Callable[..., Any] | None = None, *, nout: int | None = None
    ) -> Any:
        """Decorate a function: it becomes a step, and calling it makes a node of the graph.

        Parameters
        ----------
        function : callable, optional
            Without it, a decorator is returned, so that ``@ex()`` works.
        nout : int, optional
            Number of outputs, if the function returns that many: the node can be unpacked.

        Returns
        -------
        callable
            Its ``__wrapped__`` is the function itself.
        """
        return self._decorate(function, Step, persist=False, nout=nout)

    def persist(
        self, function: Callable[..., Any] | None = None, *, nout: int | None = None,
        reuse: bool | None = None, version: str | None = None, ignore: Sequence[str] = (),
    ) -> Any:  # fmt: skip
        """Decorate a function: a step whose output is kept in each trial.

        Parameters
        ----------
        function : callable, optional
            Without it, a decorator is returned.
        nout : int, optional
            Number of outputs.
        reuse : bool, optional
            True: the output of an earlier trial is taken where nothing that determines it changed.
            False: never. None: as the experiment says.
        version : str, optional
            Counts as part of the code. Give another one where the step depends on something that
            its code does not show, such as a file that was replaced.
        ignore : sequence of str
            Names of arguments that the output does not depend on, such as ``n_jobs`` or
            ``verbose``: with other values the output is reused all the same.

        See Also
        --------
        get_persisted : Get such an output.
        explain : What would be reused, and what not and why.
        """
        return self._decorate(
            function, Step, persist=True, nout=nout, reuse=reuse, version=version, ignore=ignore
        )

    def result(
        self, function: Callable[..., Any] | None = None, *, persist: bool = False,
        nout: int | None = None, reuse: bool | None = None, version: str | None = None,
        ignore: Sequence[str] = (),
    ) -> Any:  # fmt: skip
        """Decorate a function: calling it makes a :class:`Result`, and computing that is a trial.

        Parameters
        ----------
        function : callable, optional
            Without it, a decorator is returned.
        persist : bool
            Whether the output is kept for :meth:`get_persisted` too.
        nout : int, optional
            Number of outputs.
        reuse, version, ignore
            As for :meth:`persist`; they need `persist`.
        """
        return self._decorate(
            function, partial(Result, self._planner), persist=persist, nout=nout, reuse=reuse,
            version=version, ignore=ignore,
        )  # fmt: skip

    def _decorate(self, function: Any, wrap: Callable[[StepCall], Any], **traits: Any) -> Any:
        if function is None:
            return lambda function: self._decorate(function, wrap, **traits)
        step = StepFunction(function, wrap, seed=self.seed, **traits)
        self._steps[step.name] = step
        return step

    def set_parameters(self, /, **values: Any) -> None:
        """Set values of parameters, for all trials that begin from now on.

        Raises
        ------
        ParameterUndeclaredError
            If a name is not declared. Nothing is set then.
        TypeError
            If a value is a node, which is no data before it is computed. Nothing is set then.
        """
        self._parameters.set(values)

    def get_parameters(self, trial_id: int | None = None) -> dict[str, Any]:
        """Return parameter values.

        Parameters
        ----------
        trial_id : int, optional
            Of that trial. Without it, the current values of those that have one. Secrets are not
            shown: compute the parameter to have its value.
        """
        if trial_id is None:
            return self._parameters.current({})
        from daskperiment.history.tables import get_parameters

        return get_parameters(self._store_caught_up(), trial_id)

    def check_executable(self) -> None:
        """Check that every parameter has a value.

        Raises
        ------
        ParameterUndefinedError
            Naming every parameter that has none.
        """
        parameters = self._parameters
        if missing := parameters.missing(parameters.names, parameters.current({})):
            raise undefined(missing)

    # In a running step

    def _running(self) -> RunningStep:
        running = CURRENT.get() or running_step()  # most often a call less
        trial = running.trial if running else None
        if running is None or (trial and trial.store.address != self._store.address):
            raise TrialIDNotFoundError(
                f"No step of experiment {self.id!r} runs here, so there is no current trial. Use "
                "this inside a step while a result is computed; ex.trial_id tells the latest id."
            )
        return running

    @property
    def trial_id(self) -> int:
        """Id of the latest trial, 0 before the first."""
        return self._store.state().latest

    @property
    def current_trial_id(self) -> int:
        """Id of the trial in which this step runs.

        Raises
        ------
        TrialIDNotFoundError
            Outside a trial's step.
        """
        running = self._running()
        running.asked_for_trial = True
        if running.trial is None:
            raise TrialIDNotFoundError(
                "This step is computed alone, so there is no trial; compute a result for one."
            )
        return running.trial.trial

    @property
    def rng(self) -> np.random.Generator:
        """In a step, its random generator: the same seed gives the same draws on every scheduler.

        Outside a step, as in a unit test of the function alone, it is one generator for the
        experiment, seeded with the experiment's seed. In a thread that a step starts it is the
        step's; see :meth:`wrap`.

        Raises
        ------
        UncertainStepError
            In a thread that may work for one of several steps.
        StepEndedError
            If the step has ended, or its trial was interrupted.
        """
        if (running := CURRENT.get() or running_step()) is not None:
            return running.rng
        if self._rng is None:
            self._rng = np.random.default_rng(self.seed)
        return self._rng

    def wrap(self, function: Callable[Q, R]) -> Callable[Q, R]:
        """Return a function that works for the running step in whatever thread it is called.

        A thread that a step starts belongs to the step where that is certain: in a
        ``ThreadPoolExecutor``, in ``asyncio``, in joblib's threads, and in other threads as long as
        no other step runs in the process. Elsewhere :attr:`rng` and :meth:`save_metric` raise
        unless the thread calls what this returns. It does not reach other processes.

        Parameters
        ----------
        function : callable
            May be a coroutine function.

        Returns
        -------
        callable
            Outside a step, as in a unit test of the function alone, `function` itself.

        Raises
        ------
        TypeError
            If `function` cannot be called.
        UncertainStepError
            In a thread that may itself work for one of several steps.

        Examples
        --------
        ::

            @ex
            def search(grid):
                score = ex.wrap(score_and_save)
                threads = [Thread(target=score, args=(point,)) for point in grid]
        """
        if not callable(function):
            raise TypeError(
                f"ex.wrap got {shorten(repr(function), 60)}; expected the function that a thread "
                "is to call."
            )
        running = running_step()
        return function if running is None else bound(running, function)

    def save_metric(self, metric_key: str, epoch: Any, value: Any, **unknown: Never) -> None:
        """Save a point of a metric; to be called in a step.

        When this returns, the point survives the end of the process. In a step that is computed
        alone, without a trial, the point is dropped.

        Parameters
        ----------
        metric_key : str
            Name of the metric.
        epoch : int or other plain value
            Where the point stands in the series; of two points for one epoch the later counts.
        value : float or other plain value
            May be nan or infinite.

        Raises
        ------
        TrialIDNotFoundError
            Outside a step, or in a thread that may work for one of several steps.
        StepEndedError
            If the step has ended, or its trial was interrupted.
        TypeError
            If the name is no text, if epoch or value is no plain value, or for any other keyword.
        """
        if unknown:
            known = ("metric_key", "epoch", "value")
            raise unknown_keyword("save_metric", next(iter(unknown)), known)
        running = self._running()
        if metric_key.__class__ is not str or not metric_key:  # a call less for each point
            check_name(metric_key, "metric")
        point = Point(metric_key, _plain(epoch, "epoch"), _plain(value, "value"), time.time())
        if running.halted is not None and running.halted != "forked":
            raise running.refusal("save points")
        if running.trial is not None:
            running.metrics.add(metric_key)
            recorder_for(running.trial.store).point(running.trial.owner, point)

    # Asking

    def get_history(self, verbose: bool = False, running: bool = False) -> pd.DataFrame:
        """Return the trials as a table. Nothing is unpickled.

        Parameters
        ----------
        verbose : bool
            Whether to add the result's step, seed, type of the result, status, start, host, user,
            Git commit and, where histories were merged, the store and the id that each trial was
            recorded under.
        running : bool
            Whether to add the trials that are still running.

        Returns
        -------
        pandas.DataFrame
            A row for each ended trial. Index ``Trial ID``; columns: the parameters in order of
            declaration, missing in trials that they do not reach, ``Result``, ``Success``,
            ``Finished`` (UTC), ``Process Time`` (a timedelta) and ``Description`` (of the failure,
            else NaN).
        """
        from daskperiment.history.tables import get_history

        return get_history(self._store_caught_up(), self._parameters.names, verbose, running)

    def get_steps(self, trial_id: int | None = None) -> pd.DataFrame:
        """Return the step runs of one trial, or of all, as a table.

        Raises
        ------
        TrialIDNotFoundError
            If there is no such trial.
        """
        from daskperiment.history.steps import get_steps

        return get_steps(self._store_caught_up(), trial_id)

    def get_persisted(self, step: str | StepFunction, trial_id: int) -> Any:
        """Return the value that a persisted step returned in a trial.

        This unpickles: it runs code of whoever wrote the object (see the signing key).

        Parameters
        ----------
        step : str or step
            Name of the step; if it ran more than once in the trial, its ``Key`` in
            :meth:`get_steps`.
        trial_id : int
            The trial.

        Raises
        ------
        TrialIDNotFoundError
            If there is no such trial.
        PersistedResultNotFoundError
            If the trial kept no value of this step.
        UntrustedObjectError
            If a signing key is configured and the object is unsigned or altered.
        """
        from daskperiment.history.steps import get_persisted

        name = step.name if isinstance(step, StepFunction) else step
        return get_persisted(self._store_caught_up(), name, trial_id, signing_key_in_force())

    def load_metric(self, metric_key: str, trial_id: int | Sequence[int]) -> pd.DataFrame:
        """Return a metric of one or several trials.

        Returns
        -------
        pandas.DataFrame
            Index ``Epoch``; one column per trial, the columns named ``Trial ID``.

        Raises
        ------
        TrialIDNotFoundError
            If there is no such trial.
        MetricNotFoundError
            If a trial has no such metric.
        """
        from daskperiment.history.metrics import load_metric

        return load_metric(self._store_caught_up(), metric_key, trial_id)

    def get_metrics(self, trial_id: int | None = None) -> list[str]:
        """Return the names of the metrics of one trial, or of all."""
        from daskperiment.history.metrics import get_metrics

        return get_metrics(self._store_caught_up(), trial_id)

    def get_code(self, trial_id: int | None = None) -> str:
        """Return the source of the steps and of the user's functions that they use.

        Parameters
        ----------
        trial_id : int, optional
            As it was in that trial. Without it, as it is now.
        """
        if trial_id is None:
            functions = {name: step.__wrapped__ for name, step in self._steps.items()}
            return source_text(self._planner.code(functions))
        return source_text(self._recorded(trial_id, Code))

    def get_environment(self, trial_id: int | None = None, category: str | None = None) -> str:
        """Describe the environment of a trial, or the current one.

        Parameters
        ----------
        trial_id : int, optional
            The trial; without it, here and now.
        category : str, optional
            Such as ``"git"`` or ``"requirements"``; without it, a summary.

        Raises
        ------
        ValueError
            If there is no such category.
        """
        return describe(self._environment(trial_id), category)

    def get_python_packages(self, trial_id: int | None = None) -> str:
        """Return a trial's installed packages, or the current ones: ``name==version`` lines."""
        return packages_text(self._environment(trial_id))

    def compare(self, first: int, second: int) -> Comparison:
        """Compare two trials: what differs, and which change explains which difference.

        Raises
        ------
        TrialIDNotFoundError
            If there is no such trial.
        """
        from daskperiment.compare import compare

        return compare(self._store_caught_up(), first, second)

    def explain(self, result: Result | Delayed | int) -> Explanation:
        """Explain for each step whether its output would be reused, and if not, why.

        Parameters
        ----------
        result : Result or int
            A result, to be told what computing it now would do; nothing is run or recorded. Where
            reuse is switched off for all its steps, what it would do with ``reuse=True``. Or the
            id of a trial, to be told what it did.

        Returns
        -------
        Explanation
            Printed, a table with a line for each step.

        Raises
        ------
        ParameterUndefinedError
            If a parameter of the result has no value.
        TrialIDNotFoundError
            If there is no such trial.
        """
        from daskperiment.explain.explanation import explain_forecasts, explain_trial

        if isinstance(result, Result):  # which is a Delayed too
            return explain_forecasts(result.name, *result.definition.forecasts())
        if isinstance(result, Delayed):
            raise TypeError(
                f"Expected a result or the id of a trial, got {result!r}. A result is made by "
                "calling a function that is decorated with @ex.result."
            )
        return explain_trial(self._store_caught_up(), result)

    def _environment(self, trial_id: int | None) -> Environment:
        if trial_id is None:
            return self._planner.environment()
        return self._recorded(trial_id, Environment)

    def _recorded(self, trial_id: int, type_: type[P]) -> P:
        from daskperiment.history.trial_records import part_of, trial_or_raise

        return part_of(self._store, trial_or_raise(self._store, trial_id), type_)

    def start_dashboard(self, port: int = 5000, blocking: bool | None = None) -> Server | None:
        """Show the experiments of this store as a web page, on this machine alone.

        Needs the extra ``dashboard``. The page only reads, and never unpickles.

        Parameters
        ----------
        port : int
            Where to listen; another free port if it is taken.
        blocking : bool, optional
            Whether to return only after Ctrl-C. None: in a script yes, in a notebook no.

        Returns
        -------
        Server or None
            Where it does not block: with ``url``, ``port`` and ``stop()``.
        """
        from daskperiment.dashboard import launch

        return launch(self._store, self.id, port=port, blocking=blocking)

    def dashboard(self, height: int = 700) -> Frame:
        """Show the dashboard in a notebook's cell.

        Parameters
        ----------
        height : int
            In pixels.
        """
        if self._server is None or not self._server.is_running:
            from daskperiment.dashboard import start

            self._server = start(self._store, experiment=self.id)
        return self._server.frame(height)

    def prune(
        self, max_bytes: int | None = None, older_than: timedelta | float | None = None,
        dry_run: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Drop outputs that were kept for reuse, the least recently used first.

        Whatever else refers to an object keeps it: results, parameters and the outputs of steps
        that were persisted without reuse stay. A dropped output is made anew when it is needed.

        Parameters
        ----------
        max_bytes : int, optional
            How much of them may stay.
        older_than : datetime.timedelta or float, optional
            Those last used longer ago go; a number counts seconds.
        dry_run : bool
            Whether to drop nothing, and only return what would be dropped.

        Returns
        -------
        pandas.DataFrame
            What was dropped, a row for each object.
        """
        from daskperiment.pruning import prune

        return prune(self._store_caught_up(), max_bytes, older_than, dry_run)

    def flush(self, timeout: float | None = None) -> None:
        """Deliver what waits for the store.

        Parameters
        ----------
        timeout : float, optional
            Give up after so many seconds; what is left keeps waiting.

        Raises
        ------
        StoreUnavailableError
            If the store is away. Nothing is lost.
        """
        recorder_for(self._store).flush(timeout)

    def delete(self) -> None:
        """Remove this experiment's records from the store, and nothing else.

        What waits on this machine to be delivered goes with them. Parameters and steps stay
        declared; the next trial is number 1.
        """
        recorder_for(self._store).delete()
        self._planner.forget()

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
    if not isinstance(id, str) or not id.isidentifier():
        raise ValueError(
            f"An experiment's id is {id!r}; expected an identifier: letters, digits and "
            "underscores, not beginning with a digit, such as 'iris_svm'."
        )
    if len(id.encode()) > 100:
        raise ValueError(f"An experiment's id has at most 100 bytes; {id!r} has more")


def _plain(value: Any, what: str) -> Any:
    if value.__class__ is int and -(2**63) <= value < 2**63:
        return value
    try:
        return to_plain(value)
    except NotPlainError as error:
        raise TypeError(
            f"The {what} of a metric is {shorten(repr(value), 60)} ({type(value).__name__}); "
            "expected a number or another plain value. Convert it, for example with float()."
        ) from error


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
    from daskperiment.history.tables import experiment_row, experiments_frame

    stores = {id: opening.open_store(backend, id) for id in opening.list_experiments(backend)}
    for store in stores.values():
        recorder_for(store).catch_up()
    return experiments_frame(experiment_row(id, store) for id, store in stores.items())


def experiment_of(result: Result) -> Experiment:
    """Return the experiment of this process that a result belongs to."""
    return next(ex for ex in _EXPERIMENTS.values() if ex._planner is result.definition.planner)


# The same id and backend give the same object, so that a notebook's cell can run again.
_EXPERIMENTS: dict[tuple[str, str], Experiment] = {}
_EXPERIMENTS_LOCK = threading.Lock()
