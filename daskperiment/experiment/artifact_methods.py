"""Artifacts: the named values and files that a trial keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskperiment.errors import TrialIDNotFoundError
from daskperiment.execution.context import CURRENT
from daskperiment.execution.helper_threads import running_step
from daskperiment.experiment.base import explained_methods
from daskperiment.experiment.in_steps import StepMethods
from daskperiment.recording.registry import recorder_for
from daskperiment.store.protocol import Owner

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ArtifactMethods"]


@explained_methods
class ArtifactMethods(StepMethods):
    """The methods that save and load what a trial keeps."""

    def save(
        self, name: str, value: Any, format: str | None = None, trial_id: int | None = None
    ) -> None:
        """Save a value or a file as an artifact of a trial.

        In a step it belongs to the trial that runs; with `trial_id`, in a step or outside, it is
        added to that trial. When this returns, it survives the end of the process. Saved again
        under the same name, the later one counts. A step that is reused brings along what it saved
        when it ran. In a step that is computed alone, without a trial, nothing is saved.

        Parameters
        ----------
        name : str
            Of the artifact, such as ``"confusion"`` or ``"plots/roc"``; at most 200 characters.
        value : object
            A figure, a table, an array, a model, anything that can be pickled; or a
            :class:`~pathlib.Path` of a file or folder, whose content is saved.
        format : str, optional
            Name of the format, such as ``"png"`` or ``"parquet"``; see :doc:`values`. Without it,
            an open format that gives the value back exactly, else one that shows it, else pickle.
            ``"file"`` and ``"folder"`` also take a path that is text.
        trial_id : int, optional
            The trial to add it to.

        Raises
        ------
        TrialIDNotFoundError
            Outside a step without `trial_id`, or if there is no such trial.
        StepEndedError
            If the step has ended, or its trial was interrupted.
        UnknownFormatError, FormatError
            If there is no such format, or it does not take the value.
        InputFileError
            If there is no file or folder at a path.
        TypeError, ValueError
            If the name is no text, empty or too long.

        See Also
        --------
        load : Get the value.
        get_artifacts : The artifacts of a trial.
        """
        from daskperiment.execution.step_records import check_artifact_name, save_artifact
        from daskperiment.formats import check_format_name

        check_artifact_name(name)
        wanted = check_format_name(format)
        current = CURRENT.get()
        if trial_id is not None and not (current and current.rehearsed):
            return self._add(name, value, wanted, trial_id)
        if current is None and running_step() is None:
            raise TrialIDNotFoundError(
                f"No step of experiment {self.id!r} runs here, so there is no trial to save "
                f"{name!r} in. Save it in a step while a result is computed, or add it to a trial: "
                f"ex.save({name!r}, value, trial_id=ex.trial_id)."
            )
        return save_artifact(self._running(), name, value, wanted)

    def _add(self, name: str, value: Any, wanted: str | None, trial_id: int) -> None:
        """Add an artifact to a trial from outside of its steps."""
        from daskperiment.codec import signing_key_in_force
        from daskperiment.history.trial_records import trial_or_raise
        from daskperiment.recording.artifact_writer import write_artifact

        recorder = recorder_for(self._store)
        trial = trial_or_raise(self._store_to_read(), trial_id)
        owner = recorder.owner_of(trial.trial) or Owner(trial.trial, trial.begun.token)
        write_artifact(recorder, owner, name, value, wanted, signing_key=signing_key_in_force())
        recorder.settle()

    def load(self, name: str, trial_id: int) -> Any:
        """Return an artifact of a trial.

        Of an artifact that was pickled this runs code of whoever wrote it (see the signing key); of
        all other formats it runs none.

        Parameters
        ----------
        name : str
            Of the artifact.
        trial_id : int
            The trial.

        Returns
        -------
        object
            What was saved. Of a picture an image of Pillow, of a page its text, and of a file or
            folder the :class:`~pathlib.Path` of a copy, which is removed when the process ends.

        Raises
        ------
        TrialIDNotFoundError
            If there is no such trial.
        ArtifactNotFoundError
            If it has no such artifact.
        PersistedResultNotFoundError
            If the artifact could not be kept.
        UntrustedObjectError
            If a signing key is configured and the artifact is unsigned or altered.
        """
        from daskperiment.history.artifacts import load_artifact

        return load_artifact(self._store_to_read(), name, trial_id)

    def get_artifacts(self, trial_id: int | None = None) -> pd.DataFrame:
        """Return the artifacts of one trial, or of all, as a table. Nothing of them is loaded.

        Parameters
        ----------
        trial_id : int, optional
            The trial.

        Returns
        -------
        pandas.DataFrame
            Columns ``Trial ID``, ``Step`` (missing if it was added from outside), ``Name``,
            ``Format`` and ``Digest`` (missing if it could not be kept), ``Size`` in bytes and
            ``Added`` in UTC. Of a name that was saved more than once, the latest.

        Raises
        ------
        TrialIDNotFoundError
            If there is no such trial.
        """
        from daskperiment.history.artifact_table import get_artifacts

        return get_artifacts(self._store_to_read(), trial_id)
