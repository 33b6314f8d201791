"""Looking after the store, and showing it: the page, pruning, delivery, deletion.

What shows and prunes is imported when somebody asks for it, with pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daskperiment.experiment.base import ExperimentBase, explained_methods
from daskperiment.recording.registry import recorder_for

if TYPE_CHECKING:
    from datetime import timedelta

    import pandas as pd

    from daskperiment.dashboard import Frame, Server

__all__ = ["Upkeep"]


@explained_methods
class Upkeep(ExperimentBase):
    """The methods that act on an experiment's store as a whole."""

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
        declared; the next trial is number 1. Other processes that have the experiment open say so
        when they notice, and bring nothing back but the trials that they still record.
        """
        recorder_for(self._store).delete()
        self._planner.forget()
