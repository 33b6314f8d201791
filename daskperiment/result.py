"""The result: what people compute, sweep and reproduce."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from daskperiment.capture.signatures import explained
from daskperiment.planning.result_node import ResultNode, T_co

if TYPE_CHECKING:
    import pandas as pd

    from daskperiment.compare import Comparison

__all__ = ["Result"]


class Result(ResultNode[T_co]):
    """The node made by calling a function decorated with :meth:`Experiment.result`.

    It is a :class:`dask.delayed.Delayed`: whoever computes it, in whatever way and on whatever
    scheduler, runs a trial. Every computation is a trial of its own.
    """

    __slots__ = ()

    def sweep(
        self, space: Any = None, n_trials: int | None = None, sampler: Any = "grid",
        seed: int | None = None, on_error: str = "continue", resume: str | None = None,
        progress: bool = True, detach: bool = False, **keywords: Any,
    ) -> pd.DataFrame:  # fmt: skip
        """Run a trial at each of many points, and return the table of these trials.

        Parameters
        ----------
        space : dict of str to object
            Parameter -> a list, range, array or other finite iterable of plain values; for
            ``"random"`` also an object with the method ``rvs``, such as a frozen distribution of
            ``scipy.stats``; for Optuna's samplers also one of ``optuna.distributions``.
        n_trials : int, optional
            How many trials the sweep has, at most. Of a grid, the first so many points.
        sampler : str, optuna.Study or optuna.samplers.BaseSampler
            ``"grid"``: every combination, the last parameter changing fastest. ``"random"``:
            random points, none twice if all parameters have lists. ``"tpe"``: Optuna's standard
            sampler. With Optuna the result has to be a number.
        seed : int, optional
            Makes random points the same again, and gives each trial a seed derived from this one
            and its point. Without it, trials have seeds as those of :meth:`compute` have.
        on_error : {"continue", "raise"}
            What a failed trial does to the others. ``"raise"`` cancels those that run or wait and
            raises what the trial raised.
        resume : str, optional
            Id of a sweep that was cut off: what it still misses is run. Whatever else is left out
            is taken from its record. Trials that failed are not repeated; interrupted and lost
            ones are.
        progress : bool
            Whether to show how many trials are done, running and failed.
        detach : bool
            Whether the cluster goes on when this process has ended: the call returns at once, with
            the trials that are there. With `resume`, another process follows the sweep to its end.
        **keywords
            ``direction`` ("minimize" or "maximize", for Optuna's samplers) and ``reuse``, as for
            :meth:`compute`; others as for :func:`dask.compute`, such as ``scheduler``. Where Dask
            would compute on a cluster, trials run there at the same time; else one after the
            other.

        Returns
        -------
        pandas.DataFrame
            As :meth:`Experiment.get_history` gives it, of the sweep's trials alone, failed ones
            included; ``attrs["sweep"]`` is the sweep's id.

        Raises
        ------
        ParameterUndeclaredError, ParameterUndefinedError, TypeError, ValueError
            If the sweep could not run as asked. Nothing is run then.
        """
        # pandas, which sweeps and comparisons need, takes long to import: only when asked for.
        from daskperiment.sweep import sweep  # noqa: PLC0415

        return sweep(
            self, space, n_trials=n_trials, sampler=sampler, seed=seed, on_error=on_error,
            resume=resume, progress=progress, detach=detach, **keywords,
        )  # fmt: skip

    def reproduce(self, trial_id: int, code: str = "current", **keywords: Any) -> Comparison:
        """Run a trial again with its parameters and seed, and compare it with its new run.

        Parameters
        ----------
        trial_id : int
            The trial.
        code : {"current", "recorded"}
            Run today's code, or that of the trial. With the recorded one, a step whose code is
            still the same is run as it is; the others are made anew of their recorded source.
        **keywords
            As for :func:`dask.compute`, such as ``scheduler``.

        Returns
        -------
        Comparison
            Of the trial with its new run, a trial of its own; also if a step raises an exception.

        Raises
        ------
        TrialIDNotFoundError
            If there is no such trial.
        ReproductionError
            If the trial is still running or of another result, if a value cannot be loaded, or if
            the recorded code cannot be run. Nothing is recorded then.
        ParameterUndefinedError
            If a parameter has neither a recorded value nor one today. Nothing is recorded then.
        UntrustedObjectError
            If a signing key is configured, and a parameter's object is not signed with it, or
            recorded code that was not signed with it would have to be run.
        """
        from daskperiment.reproduce import reproduce  # noqa: PLC0415  # as above

        return reproduce(self, trial_id, code, keywords)

    def resume(self, trial_id: int, reuse: bool | None = None, **keywords: Any) -> Any:
        """Go on with a trial that did not come to its end, and return its result.

        What is run is a new trial with the parameters and the seed of that one, and a link to it.
        What steps of that one had kept when they finished is taken, whatever may be reused. Where a
        step asks for :meth:`Experiment.restore` it gets its latest checkpoint, and goes on from
        there: its metrics are one curve, with no point twice. If the loop is deterministic, it
        comes to what it would have come to undisturbed. A trial that went on from another one can
        be gone on with in turn.

        Parameters
        ----------
        trial_id : int
            The trial: lost, failed, interrupted or pruned.
        reuse : bool, optional
            As for :meth:`compute`, of what other trials kept.
        **keywords
            As for :func:`dask.compute`, such as ``scheduler``.

        Returns
        -------
        object
            What the result's function returned.

        Raises
        ------
        TrialIDNotFoundError
            If there is no such trial.
        ResumptionError
            If the trial succeeded, is still running or is of another result, or if a value of a
            parameter cannot be loaded. Nothing is recorded then.
        ParameterUndefinedError
            If a parameter has neither a recorded value nor one today. Nothing is recorded then.
        UntrustedObjectError
            If a signing key is configured, and what is to be taken is not signed with it.
        Exception
            What a step raised, unchanged; the new trial is recorded as failed.

        Warns
        -----
        ResumptionWarning
            If code changed since, if a checkpoint cannot be loaded, if the result is bound to other
            values, or if another trial went on from it already.
        """
        from daskperiment.reproduce import resume  # noqa: PLC0415  # as above

        return resume(self, trial_id, reuse, keywords)

    @explained
    def main(self, argv: Sequence[str] | None = None) -> None:
        """Run as the command line of a script: ``python script.py a=1 b=2 --seed 1``.

        Computes one trial, or a sweep, and ends the process: with status 0, with 1 if the trial
        failed, with 2 for wrong usage, with 130 after Ctrl-C. ``--help`` lists the parameters.
        Nothing is done where the script is only loaded, as by ``daskperiment run``.

        Parameters
        ----------
        argv : sequence of str, optional
            The arguments; without it, those of the process.
        """
        from daskperiment.cli.computation import main_for  # noqa: PLC0415  # for scripts only

        main_for(self, argv)
