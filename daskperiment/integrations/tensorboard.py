"""TensorBoard: scalars of event files become points of the trial."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from daskperiment.errors import InputFileError
from daskperiment.integrations.step_report import StepReport

__all__ = ["save_events"]

_ALL = {"scalars": 0, "tensors": 0, "images": 1, "audio": 1, "histograms": 1}
"""How many events of each kind are kept while reading; 0 is all of them."""


def save_events(folder: str | Path, prefix: str = "") -> list[str]:
    """Save the scalars of TensorBoard's event files as points; to be called in a step.

    Points keep their steps and times. Each folder that has event files is a run: the names of
    metrics are those of the scalars, with the path of the run below `folder` before them.

    Parameters
    ----------
    folder : str or pathlib.Path
        Of event files, of folders of such, or one event file.
    prefix : str
        Stands before the names of metrics.

    Returns
    -------
    list of str
        The names of the metrics.

    Raises
    ------
    InputFileError
        If there are no event files.
    TrialIDNotFoundError
        Outside a step.

    Examples
    --------
    ::

        @ex.result
        def imported():
            return save_events("runs/2024")
    """
    report, names = StepReport(prefix), []
    for run, file in _runs(Path(folder)):
        accumulator = EventAccumulator(str(file), size_guidance=_ALL)
        accumulator.Reload()
        for tag in _tags(accumulator):
            name = f"{run}/{tag}" if run else tag
            report.series(name, _measured(accumulator, tag))
            names.append(prefix + name)
    return names


def _runs(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield each run: its path below the folder, and its own folder."""
    if folder.is_file():
        yield "", folder
        return
    found = sorted({path.parent for path in folder.rglob("*tfevents*") if path.is_file()})
    if not found:
        raise InputFileError(
            f"There are no event files of TensorBoard in {str(folder)!r}: none has 'tfevents' in "
            "its name. Give the folder that tensorboard --logdir would get."
        )
    for each in found:
        run = each.relative_to(folder).as_posix()
        yield "" if run == "." else run, each


def _tags(accumulator: Any) -> list[str]:
    tags = accumulator.Tags()
    return [*tags["scalars"], *(tag for tag in tags["tensors"] if _is_scalar(accumulator, tag))]


def _is_scalar(accumulator: Any, tag: str) -> bool:
    """Whether tensors are scalars, as newer writers put them."""
    metadata = accumulator.SummaryMetadata(tag)
    return str(metadata.plugin_data.plugin_name) == "scalars"


def _measured(accumulator: Any, tag: str) -> Iterator[tuple[int, float, float]]:
    if tag in accumulator.Tags()["scalars"]:
        for event in accumulator.Scalars(tag):
            yield event.step, event.value, event.wall_time
    else:
        for event in accumulator.Tensors(tag):
            value = tensor_util.make_ndarray(event.tensor_proto).item()
            yield event.step, value, event.wall_time
