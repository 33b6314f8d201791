"""Curating: what people say of trials afterwards.

What writes it down is imported when somebody says something, with pandas.
"""

from __future__ import annotations

from collections.abc import Iterable

from daskperiment.experiment.base import ExperimentBase, explained_methods

__all__ = ["CuratingMethods"]


@explained_methods
class CuratingMethods(ExperimentBase):
    """The methods that add to trials what people think of them; what was recorded stays."""

    def tag(self, trials: int | Iterable[int], *tags: str) -> None:
        """Give trials tags.

        Parameters
        ----------
        trials : int or iterable of int
            Ids of trials, such as part of the index of :meth:`get_history`.
        *tags : str
            Each one line without commas, of at most 100 characters.

        Raises
        ------
        TrialIDNotFoundError
            If one of the trials is not there. Then none has the tags.
        ValueError, TypeError
            If a tag is empty or no text, or none is given.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import daskperiment
        >>> ex = daskperiment.Experiment("tagging", backend=pathlib.Path(tempfile.mkdtemp()))
        >>> @ex.result
        ... def square(x):
        ...     return x * x
        >>> [square(x).compute() for x in (2, 3)]
        [4, 9]
        >>> ex.tag(2, "baseline")
        >>> ex.note(2, "as in the paper")
        >>> ex.get_history()[["Result", "Tags", "Notes"]]
                  Result         Tags            Notes
        Trial ID
        1              4           ()              NaN
        2              9  (baseline,)  as in the paper
        """
        from daskperiment import curation

        curation.tag(self._store, trials, tags)

    def untag(self, trials: int | Iterable[int], *tags: str) -> None:
        """Take tags from trials; one that a trial does not have is passed over.

        Parameters and errors are those of :meth:`tag`.
        """
        from daskperiment import curation

        curation.untag(self._store, trials, tags)

    def note(self, trials: int | Iterable[int], text: str) -> None:
        """Add a note to trials; notes are kept with time and user, and never replaced.

        Parameters
        ----------
        trials : int or iterable of int
            Ids of trials.
        text : str
            Any text of up to 100,000 characters.

        Raises
        ------
        TrialIDNotFoundError
            If one of the trials is not there. Then none has the note.
        """
        from daskperiment import curation

        curation.note(self._store, trials, text)

    def rename(self, trial_id: int, name: str | None) -> None:
        """Give a trial a name, which need not be the only one of its kind.

        Parameters
        ----------
        trial_id : int
            The trial.
        name : str or None
            One line without commas that is no number; None takes the name away.

        Raises
        ------
        TrialIDNotFoundError
            If there is no such trial.
        ValueError
            If commands could take the name for another trial, as they could ``"best"``.
        """
        from daskperiment import curation

        curation.rename(self._store, trial_id, name)

    def archive(self, trials: int | Iterable[int]) -> None:
        """Leave trials out of tables, unless these are asked for with ``archived=True``.

        Nothing is removed; :meth:`unarchive` lists them again.

        Parameters
        ----------
        trials : int or iterable of int
            Ids of trials.

        Raises
        ------
        TrialIDNotFoundError
            If one of the trials is not there. Then none is archived.
        """
        from daskperiment import curation

        curation.archive(self._store, trials)

    def unarchive(self, trials: int | Iterable[int]) -> None:
        """List trials in tables again; parameters and errors are those of :meth:`archive`."""
        from daskperiment import curation

        curation.unarchive(self._store, trials)

    def delete_trials(self, trials: int | Iterable[int], *, force: bool = False) -> None:
        """Delete trials for good, with the values and artifacts that no other trial uses.

        Their ids are never given out again. What still runs of a deleted trial runs on, and is
        recorded no more. Steps whose outputs were only theirs run again when they are needed.

        Parameters
        ----------
        trials : int or iterable of int
            Ids of trials.
        force : bool
            Whether to delete trials, too, of which others reuse what they kept. What others reuse
            stays, with the metrics that came with it.

        Raises
        ------
        TrialIDNotFoundError
            If one of the trials is not there. Then none is deleted.
        TrialReusedError
            If a trial that stays reuses what one of them kept; the message names both. Then none
            is deleted.
        CorruptRecordError
            If a record is damaged, so that it is not known what other trials use.

        See Also
        --------
        archive : Leave trials out of tables, and keep them.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import daskperiment
        >>> ex = daskperiment.Experiment("deleting", backend=pathlib.Path(tempfile.mkdtemp()))
        >>> @ex.result
        ... def square(x):
        ...     return x * x
        >>> [square(x).compute() for x in (2, 3)]
        [4, 9]
        >>> ex.delete_trials(2)
        >>> square(5).compute()
        25
        >>> ex.get_trial_ids()
        [1, 3]
        """
        from daskperiment import removal

        removal.delete_trials(self._store, trials, force)
        self._planner.forget()
