"""What a running step writes down besides its run: points of metrics, and artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daskperiment.capture.signatures import check_name
from daskperiment.errors import StoreWarning
from daskperiment.execution.context import RunningStep
from daskperiment.recording.artifact_writer import write_artifact
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Point
from daskperiment.warn import warn_user

__all__ = ["check_artifact_name", "finish", "save_artifact", "save_points"]

_LONGEST = 200
"""Characters of an artifact's name."""


def save_points(running: RunningStep, points: Sequence[Point]) -> None:
    """Save points of metrics for a step's trial; where it has none they are dropped.

    Raises
    ------
    StepEndedError
        If the step has ended, or its trial was interrupted.
    """
    running.check_goes_on("save points")
    if running.trial is not None:
        recorder = recorder_for(running.trial.store)
        for point in points:
            running.metrics.add(point.metric)
            recorder.point(running.trial.owner, point, running.trial.signing_key)


def save_artifact(running: RunningStep, name: str, value: Any, wanted: str | None) -> None:
    """Save an artifact of a step's trial; where it has none it is dropped.

    Parameters
    ----------
    running : RunningStep
    name : str
        As `check_artifact_name` lets it pass.
    value : object
    wanted : str or None
        Name of a format.

    Raises
    ------
    StepEndedError
        If the step has ended, or its trial was interrupted.
    UnknownFormatError, FormatError
        If there is no such format, or it does not take the value.
    InputFileError
        If there is no file or folder at a path.
    """
    running.check_goes_on("save artifacts")
    trial = running.trial
    if trial is not None:
        artifact = write_artifact(
            recorder_for(trial.store), trial.owner, name, value, wanted, step=running.key,
            signing_key=trial.signing_key,
        )  # fmt: skip
        running.artifacts.append(artifact)


def finish(running: RunningStep) -> None:
    """Write down what was left for the end of a step; what fails there does not fail the step."""
    for act in running.at_end:
        try:
            act()
        except Exception as error:  # of a library's, about a model of whatever kind
            warn_user(StoreWarning(f"Not all that step {running.key!r} made could be recorded: "
                                   f"{type(error).__name__}: {error}"))  # fmt: skip


def check_artifact_name(name: Any) -> None:
    """Refuse what is no name of an artifact.

    Raises
    ------
    TypeError, ValueError
        If it is no text, empty, too long, or has halves of characters, which no store takes.
    """
    check_name(name, "An artifact")
    if len(name) > _LONGEST:
        raise ValueError(
            f"An artifact's name has at most {_LONGEST} characters; {name[:40]!r}… has {len(name)}."
        )
    if any("\ud800" <= each <= "\udfff" for each in name):
        raise ValueError(
            f"An artifact's name is {name!r}, which has halves of characters and cannot be "
            "written; name.encode(errors='replace').decode() can be."
        )
