"""Recording what libraries train in steps, without a line in the training code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daskperiment.experiment.base import ExperimentBase, explained_methods

if TYPE_CHECKING:
    from daskperiment.integrations.autolog import Autolog

__all__ = ["AutologMethods"]


@explained_methods
class AutologMethods(ExperimentBase):
    """The method that turns the recording of libraries on."""

    def autolog(self, *libraries: str) -> Autolog:
        """Record what libraries train in the steps of this experiment, from now on.

        The training code stays as it is. What is recorded is what the callbacks and loggers of
        ``daskperiment.integrations`` record, and with scikit-learn also what functions of
        ``sklearn.metrics`` return. It is recorded of trials that begin while it is on, in steps
        alone, wherever these run; in other code, other experiments and unit tests the libraries do
        what they always do. Callbacks and loggers that the code gives them are kept; where one of
        ``daskperiment.integrations`` is among them, there is no second one. No library is imported
        by this call, nor later unless the code does it.

        Parameters
        ----------
        *libraries : str
            Of ``"sklearn"``, ``"lightning"``, ``"transformers"``, ``"keras"``, ``"xgboost"`` and
            ``"lightgbm"``. Without any, all of them that are installed.

        Returns
        -------
        Autolog
            Its method ``off()`` turns off what this call turned on; as a context manager it is
            turned off at the end of the block.

        Raises
        ------
        TypeError, ValueError
            If a name is none of these.
        MissingLibraryError
            If a library is not installed.

        Notes
        -----
        The second training of a step by the same library has ``2/`` before its names, the third
        one ``3/``. In steps other than the result's the step's key stands before them, such as
        ``fit/``: two steps of one trial are kept apart.

        Examples
        --------
        ::

            with ex.autolog("xgboost"):
                fit(rate).compute()
        """
        from daskperiment.integrations.autolog import autolog

        return autolog(self._planner, libraries)
