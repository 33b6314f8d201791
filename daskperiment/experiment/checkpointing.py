"""Checkpoints: what a training loop keeps of its state, so that a later trial can go on."""

from __future__ import annotations

from typing import Any

from daskperiment.experiment.base import explained_methods
from daskperiment.experiment.in_steps import StepMethods
from daskperiment.formatting import shorten

__all__ = ["CheckpointMethods"]


@explained_methods
class CheckpointMethods(StepMethods):
    """The methods by which a step keeps its state, and goes on from it."""

    def checkpoint(self, state: Any, epoch: Any, keep: int | None = None) -> None:
        """Keep the state of a training loop, so that a later trial can go on from it.

        When this returns, it survives the end of the process, also while the store is away. Of each
        step the latest checkpoints are kept, those before them are dropped. Where random generators
        are is kept along: ``random``, NumPy, PyTorch and :attr:`rng`. In a step that is computed
        alone, without a trial, and in :func:`~daskperiment.testing.no_trial` nothing is kept.

        Parameters
        ----------
        state : object
            What the loop needs to go on, such as ``{"model": model.state_dict(), "optimizer":
            optimizer.state_dict()}``, an estimator or plain data: anything that can be pickled. It
            is kept as it is now.
        epoch : int or other plain value
            Up to where it is. Points that come after it are to be saved again: save the metrics of
            an epoch before its checkpoint.
        keep : int, optional
            How many checkpoints of this step are kept. Without it, the Dask configuration value
            ``daskperiment.checkpoints``, else 1.

        Raises
        ------
        TrialIDNotFoundError
            Outside a step.
        StepEndedError
            If the step has ended, or its trial was interrupted.
        CheckpointError
            If the state cannot be kept.
        TypeError, ValueError
            If the epoch is no plain value, or `keep` no integer from 1.

        See Also
        --------
        restore : Get it back.
        Result.resume : Go on with a trial.
        """
        from daskperiment.execution.checkpoints import checkpoints_to_keep, save_checkpoint

        running = self._running()
        count = checkpoints_to_keep(keep)
        plain = _plain_epoch(state, epoch)
        running.check_goes_on("keep checkpoints")
        save_checkpoint(running, state, plain, count)

    def restore(self, default: Any = None) -> Any:
        """Return state and epoch of the latest checkpoint that this trial goes on from.

        In a trial that :meth:`Result.resume` runs, it is that of the same step in the trial that it
        goes on from. Random generators are brought to where they were at the checkpoint: call it
        last before the loop, a second time if need be, so that what is drawn to set up the model
        does not move them. The
        points of metrics that had been saved by then are points of this trial from now on. Where a
        cluster runs a step again because its worker died, it goes on from its own checkpoint.

        Parameters
        ----------
        default : object
            What is returned where there is no checkpoint: in all other trials, in a step that is
            computed alone, and in :func:`~daskperiment.testing.no_trial`.

        Returns
        -------
        tuple of object
            ``(state, epoch)``, or `default`.

        Raises
        ------
        TrialIDNotFoundError
            Outside a step.
        StepEndedError
            If the step has ended, or its trial was interrupted.
        StoreUnavailableError
            If this trial goes on from another one, and the store is away.
        UntrustedObjectError
            If a signing key is configured, and the checkpoint is not signed with it.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import daskperiment
        >>> ex = daskperiment.Experiment("loop", backend=pathlib.Path(tempfile.mkdtemp()))
        >>> breaks = [True]
        >>> @ex.result
        ... def train():
        ...     total, last = ex.restore(default=(0, 0))
        ...     for epoch in range(last + 1, 11):
        ...         total += epoch
        ...         ex.save_metric("total", epoch, total)
        ...         ex.checkpoint(total, epoch)
        ...         if epoch == 7 and breaks.pop():
        ...             raise RuntimeError("out of memory")
        ...     return total
        >>> s = train()
        >>> s.compute()
        Traceback (most recent call last):
        RuntimeError: out of memory
        >>> breaks.append(False)
        >>> s.resume(1)
        55
        >>> len(ex.load_metric("total", 2))
        10
        """
        from daskperiment.execution.checkpoints import restored

        running = self._running()
        running.check_goes_on("restore a checkpoint")
        found = restored(running)
        return default if found is None else found


def _plain_epoch(state: Any, epoch: Any) -> Any:
    """Return an epoch as a plain value; a TypeError says if epoch and state are the other way."""
    from daskperiment.codec import NotPlainError, to_plain

    give = getattr(type(epoch), "item", None)  # a number of NumPy, a tensor of one element
    try:
        plain = give(epoch) if callable(give) else epoch
        to_plain(plain)
    except (NotPlainError, ValueError, RuntimeError):
        swapped = isinstance(state, int)
        hint = " The state stands before it: checkpoint(state, epoch)." if swapped else ""
        raise TypeError(
            f"The epoch of a checkpoint is {shorten(repr(epoch), 60)} ({type(epoch).__name__}); "
            f"expected a number or another plain value.{hint}"
        ) from None
    return plain
