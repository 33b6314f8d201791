"""Asking: the trials, what is known of each, and how they differ.

What answers is imported when somebody asks: with it comes pandas, which takes longer to import than
everything else together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from daskperiment.experiment.base import ExperimentBase, explained_methods
from daskperiment.records import BEGUN, Code, Environment

if TYPE_CHECKING:
    import pandas as pd
    from dask.delayed import Delayed

    from daskperiment.compare import Comparison
    from daskperiment.explain.explanation import Explanation
    from daskperiment.graph.step import StepFunction
    from daskperiment.history.best_trial import Mode
    from daskperiment.result import Result

__all__ = ["Questions"]

P = TypeVar("P", Code, Environment)


@explained_methods
class Questions(ExperimentBase):
    """The methods that answer questions about trials; they change nothing."""

    def get_trial_ids(self, within: Collection[int] | None = None) -> list[int]:
        """Return the ids of all trials that are there, sorted.

        Parameters
        ----------
        within : collection of int, optional
            Only those of these ids.

        Returns
        -------
        list of int
            Of trials in any state. Ids of trials that were deleted are missing.
        """
        from daskperiment.history.trial_records import possible_ids

        wanted = None if within is None else possible_ids(within)
        records = self._store_to_read().read("trials", wanted)
        return sorted({one.trial for one in records if one.id == BEGUN})

    def get_history(
        self, verbose: bool = False, running: bool = False, *, where: str | None = None,
        sort: str | Sequence[str] | None = None, limit: int | None = None, expand: bool = False,
        metrics: bool = False, archived: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Return the trials as a table. Nothing is unpickled.

        Parameters
        ----------
        verbose : bool
            Whether to add the result's step, seed, type of the result, status, start, host, user,
            Git commit and, where histories were merged, the store and the id that each trial was
            recorded under.
        running : bool
            Whether to add the trials that are still running.
        where : str, optional
            Only trials for which this holds, such as ``'lr > 0.1 and kind == "rbf"'``: comparisons,
            ``and``, ``or``, ``not``, ``in``, ``contains(kind, "rb")`` and ``startswith``. Names are
            those of the columns, verbose ones too, with parts behind dots, such as ``Result.f1``;
            ``metrics.loss`` is the last value of a metric, ``metrics.loss.min`` and ``.max`` the
            lowest and the highest; ``"baseline" in tags`` asks for a tag. A name that is no
            identifier stands in backticks. Nothing of it is evaluated as code.
        sort : str or sequence of str, optional
            The column to sort by, or several; ``"-Result"`` begins with the highest. Rows without
            a value come last. Without it the rows are by trial id.
        limit : int, optional
            How many rows at most, of those that come first.
        expand : bool
            Whether dicts, data classes and named tuples among parameters and results have a column
            for each of their parts, too, such as ``Result.f1``.
        metrics : bool
            Whether to add the last value of each metric, as ``metrics.loss``.
        archived : bool
            Whether to add the trials that were archived.

        Returns
        -------
        pandas.DataFrame
            A row for each ended trial. Index ``Trial ID``; columns: the parameters in order of
            declaration, missing in trials that they do not reach, ``Result``, ``Success``,
            ``Finished`` (UTC), ``Process Time`` (a timedelta) and ``Description`` (of the failure,
            else NaN). Then ``Name``, ``Tags`` (a tuple of texts), ``Notes`` (one text) and
            ``Archived``, each only if one of the trials has it.

        Raises
        ------
        FilterError
            If `where`, `sort` or `limit` cannot be understood, or names what there is not.
        """
        from daskperiment.history.tables import get_history

        return get_history(
            self._store_to_read(), self._parameters.names, verbose, running, where=where,
            sort=sort, limit=limit, expand=expand, metrics=metrics, archived=archived,
        )  # fmt: skip

    def best(self, by: str, mode: Mode = "max", where: str | None = None) -> int:
        """Return the id of the best trial of those that succeeded and are not archived.

        Parameters
        ----------
        by : str
            What is compared: a column or a part of one, such as ``"Result"``, ``"Result.f1"`` or a
            parameter, or a metric: ``"metrics.loss"`` is its last value, ``"metrics.loss.min"`` its
            lowest. Trials without a number there, or with nan, do not count.
        mode : {"max", "min"}
            Whether the highest or the lowest is best. Of equal ones it is the earliest.
        where : str, optional
            Only trials for which this holds, as in :meth:`get_history`.

        Returns
        -------
        int
            The id of the trial.

        Raises
        ------
        TrialIDNotFoundError
            If no trial has a number there.
        FilterError
            If there is no such column, or `where` cannot be understood.
        ValueError
            If `mode` is something else.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import daskperiment
        >>> ex = daskperiment.Experiment("best_of", backend=pathlib.Path(tempfile.mkdtemp()))
        >>> @ex.result
        ... def score(x):
        ...     return {"f1": 1 - (x - 2) ** 2, "cost": x}
        >>> for x in (1, 2, 3):
        ...     _ = score(x).compute()
        >>> ex.best("Result.f1")
        2
        >>> ex.best("Result.cost", mode="min", where="Result.f1 < 1")
        1
        """
        from daskperiment.history.best_trial import best_trial

        return best_trial(self._store_to_read(), self._parameters.names, by, mode, where)

    def get_steps(self, trial_id: int | None = None) -> pd.DataFrame:
        """Return the step runs of one trial, or of all, as a table.

        Raises
        ------
        TrialIDNotFoundError
            If there is no such trial.
        """
        from daskperiment.history.steps import get_steps

        return get_steps(self._store_to_read(), trial_id)

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
        from daskperiment.codec import signing_key_in_force
        from daskperiment.graph.step import StepFunction
        from daskperiment.history.steps import get_persisted

        name = step.name if isinstance(step, StepFunction) else step
        # What nobody vouches for is refused with an error that says so, and not left out.
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
            If none of the trials has such a metric; trials without it have no column.
        """
        from daskperiment.history.metrics import load_metric

        return load_metric(self._store_to_read(), metric_key, trial_id)

    def get_metrics(self, trial_id: int | None = None, *, system: bool = False) -> list[str]:
        """Return the names of the metrics of one trial, or of all.

        Parameters
        ----------
        trial_id : int, optional
        system : bool
            Whether to list, in place of what steps saved, what trials used of the machine:
            processor, memory, disk, network, GPUs. :meth:`load_metric` loads either.
        """
        from daskperiment.history.metrics import get_metrics

        return get_metrics(self._store_to_read(), trial_id, system)

    def get_code(self, trial_id: int | None = None) -> str:
        """Return the source of the steps and of the user's functions that they use.

        Parameters
        ----------
        trial_id : int, optional
            As it was in that trial. Without it, as it is now.
        """
        from daskperiment.capture.code_changes import source_text

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
        from daskperiment.capture.environment import describe

        return describe(self._environment(trial_id), category)

    def get_python_packages(self, trial_id: int | None = None) -> str:
        """Return a trial's installed packages, or the current ones: ``name==version`` lines."""
        from daskperiment.capture.environment import packages_text

        return packages_text(self._environment(trial_id))

    def compare(self, first: int, second: int) -> Comparison:
        """Compare two trials: what differs, and which change explains which difference.

        Raises
        ------
        TrialIDNotFoundError
            If there is no such trial.
        """
        from daskperiment.compare import compare
        from daskperiment.planning.result_node import PAUSE

        with PAUSE:
            return compare(self._store_to_read(), first, second)

    def get_log(self, trial_id: int, step: str | None = None) -> str:
        """Return what the steps of a trial printed, logged and warned of.

        Parameters
        ----------
        trial_id : int
            The trial. One that runs may be asked, too.
        step : str, optional
            Name of a step, or the Key of one of its calls, as :meth:`get_steps` shows it.

        Returns
        -------
        str
            A line for each line of what they wrote: date and time in UTC, the step's Key, whence it
            came, and the text. That is ``stdout`` or ``stderr``, ``warning``, or the level of a
            logging record. Of a step run that says very much the beginning and the end are kept,
            some 64,000 characters of each. A step that was reused did not run, and says nothing.

        Raises
        ------
        TrialIDNotFoundError
            If there is no such trial.
        StepNotFoundError
            If it has no such step.
        """
        from daskperiment.history.logs import get_log

        return get_log(self._store_to_read(), trial_id, step)

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
        from dask.delayed import Delayed

        from daskperiment.explain.explanation import explain_forecasts, explain_trial
        from daskperiment.planning.result_node import PAUSE
        from daskperiment.result import Result

        if isinstance(result, Result):  # which is a Delayed too
            with PAUSE:
                return explain_forecasts(result.name, *result.definition.forecasts())
        if isinstance(result, Delayed):
            raise TypeError(
                f"Expected a result or the id of a trial, got {result!r}. A result is made by "
                "calling a function that is decorated with @ex.result."
            )
        with PAUSE:
            return explain_trial(self._store_to_read(), result)

    def _environment(self, trial_id: int | None) -> Environment:
        if trial_id is None:
            return self._planner.environment()
        return self._recorded(trial_id, Environment)

    def _recorded(self, trial_id: int, type_: type[P]) -> P:
        from daskperiment.history.trial_records import part_of, trial_or_raise

        store = self._store_to_read()
        return part_of(store, trial_or_raise(store, trial_id), type_)
