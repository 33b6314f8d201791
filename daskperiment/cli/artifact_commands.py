"""Artifacts from a shell: listed, written to files, and added to trials. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from textwrap import indent

from daskperiment.cli import output
from daskperiment.cli.exit_status import Failed, Refused
from daskperiment.cli.listings import print_frame
from daskperiment.cli.lookup import find, store_of, trial_of
from daskperiment.errors import DaskperimentError
from daskperiment.formats import format_named
from daskperiment.formatting import plain_repr
from daskperiment.history.artifacts import KeptArtifact, artifact_bytes, artifacts_of
from daskperiment.history.previews import preview_text
from daskperiment.store.protocol import Store

__all__ = ["get_artifact", "list_artifacts", "print_previews", "save_artifact"]


def list_artifacts(
    backend: str | None, id: str, trial: int | None, format_: str, limit: int | None = None,
    preview: bool | None = None,
) -> None:  # fmt: skip
    """Print the artifacts of a trial, or of all trials, and what is told of each value.

    Unless it is said, that is told of those of one trial, and to people.
    """
    experiment = find(backend, id)
    number = None if trial is None else trial_of(experiment, trial)
    print_frame(experiment.get_artifacts(number)[:limit], format_)
    unasked = number is not None and output.is_terminal()
    if format_ == "table" and (unasked if preview is None else preview):
        trials = None if number is None else [number]
        print_previews(store_of(backend, id), trials, limit)


def print_previews(
    store: Store, trials: Sequence[int] | None, limit: int | None = None
) -> None:  # fmt: skip
    """Print what was told of artifacts when they were kept; nothing of them is loaded."""
    for one in artifacts_of(store, trials)[:limit]:
        size = f"{one.reference.size:,} bytes"
        told = f"{plain_repr(one.artifact.name)} of trial {one.trial}: {one.format}, {size}"
        output.print_text(f"\n{told}\n{indent(preview_text(one.reference), '  ')}")


def get_artifact(
    backend: str | None, id: str, name: str, trial: int, output_: Path | None
) -> None:  # fmt: skip
    """Write the file of an artifact, of one that was pickled the pickle."""
    experiment = find(backend, id)
    number = trial_of(experiment, trial)
    one, data = artifact_bytes(store_of(backend, id), name, number)
    path = output_ or Path(_file_name(one))
    if output_ is None and path.exists():
        raise Refused(f"The file {str(path)!r} is there already; give another with --output.")
    try:
        path.write_bytes(data)
    except OSError as error:
        raise Failed(f"Cannot write {str(path)!r}: {error}") from error
    size = f"{one.reference.size:,} bytes"
    output.print_text(f"{plain_repr(name)} of trial {number}: {size} written to {path}.")


def _file_name(one: KeptArtifact) -> str:
    name = one.artifact.file or PurePath(one.artifact.name).name or "artifact"
    if one.format == "folder":
        return f"{name}.zip"
    if one.artifact.file:
        return PurePath(name).name or "artifact"
    try:
        return name + format_named(one.format or "").suffix
    except DaskperimentError:
        return f"{name}.pickle"


def save_artifact(
    backend: str | None, id: str, name: str, path: Path, trial: int
) -> None:  # fmt: skip
    """Add a file or folder to a trial as an artifact."""
    experiment = find(backend, id)
    number = trial_of(experiment, trial)
    experiment.save(name, path, trial_id=number)
    output.print_text(f"{plain_repr(name)} added to trial {number} of {id}.")
