"""From a named value to a trial's artifact: its object first, and then the record that names it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import msgspec

from daskperiment.codec import Blob, pickled
from daskperiment.codec.object_format import digest_of
from daskperiment.errors import StoreError
from daskperiment.formats import (
    PICKLE,
    Written,
    format_named,
    object_of,
    preview_beside,
    written_as,
    written_for_artifact,
)
from daskperiment.recording.delivery import warn_in_memory
from daskperiment.recording.recorder import Recorder
from daskperiment.records import Artifact, ObjectRef, artifact_id
from daskperiment.store.protocol import Owner

__all__ = ["write_artifact"]

_LARGEST = 256 << 10
"""Bytes of a thumbnail."""


def write_artifact(
    recorder: Recorder, owner: Owner, name: str, value: Any, wanted: str | None, *,
    step: str | None = None, signing_key: bytes | None = None,
) -> Artifact:  # fmt: skip
    """Keep a value as an artifact of a trial, and return its record.

    When this returns, value and record survive the end of this process; else a warning says so.

    Parameters
    ----------
    recorder : Recorder
    owner : Owner
        The trial.
    name : str
    value : object
    wanted : str or None
        Name of a format.
    step : str, optional
        Key of the step run that saves it.
    signing_key : bytes, optional

    Raises
    ------
    UnknownFormatError, FormatError
        If there is no such format, or it does not take the value.
    InputFileError
        If there is no file or folder at a path.
    """
    # A value that was asked for in a format is an error at once; what cannot be pickled is noted.
    file = written_for_artifact(value) if wanted is None else _written(wanted, value)
    form, blob = (
        pickled(value, signing_key) if file is None else object_of(file, value, signing_key)
    )
    if file is None and (preview := preview_beside(value)) is not None:
        form["preview"] = msgspec.to_builtins(preview)
    added = time.time()
    lasting, form = _kept(recorder, form, blob)
    artifact = Artifact(
        name, form, added, step,
        "" if file is None else file.format.file_name(value), _thumbnail(recorder, file, value),
    )  # fmt: skip
    id = artifact_id(name, added, os.getpid())
    lasting &= recorder.write_signed("notes", owner.trial, id, artifact, owner, signing_key)
    if not lasting:
        warn_in_memory(f"Artifact {name!r} of trial {owner.trial}")
    return artifact


def _written(wanted: str, value: Any) -> Written | None:
    return None if wanted == PICKLE else written_as(wanted, value)


def _kept(
    recorder: Recorder, form: dict[str, Any], blob: Blob | None
) -> tuple[bool, dict[str, Any]]:  # fmt: skip
    """Keep an object; return whether it survives this process, and its form."""
    if blob is None:
        return True, form
    try:
        return recorder.delivery.keep(blob), form
    except StoreError as error:  # a warning told it, and the step goes on
        return True, {**form, "digest": None, "reason": f"{type(error).__name__}: {error}"}


def _thumbnail(recorder: Recorder, file: Written | None, value: Any) -> Any:
    with suppress(Exception):  # a picture of the value, and not the value
        data = file.format.thumbnail(value) if file is not None else None
        if data is None or len(data) > _LARGEST:
            return None
        blob = Blob(digest_of([data]), [data], len(data))
        recorder.delivery.keep(blob)
        return msgspec.to_builtins(
            ObjectRef("image/png", "thumbnail", size=blob.size, digest=blob.digest,
                      format=format_named("png").name)
        )  # fmt: skip
    return None
