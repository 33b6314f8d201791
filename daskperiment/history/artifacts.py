"""What trials keep under names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from daskperiment.codec import check_signature, object_ref, signing_key_in_force, unpack
from daskperiment.errors import ArtifactNotFoundError, CorruptRecordError, DaskperimentError
from daskperiment.formats import PICKLE, format_named, read_file
from daskperiment.formats.path_formats import media_of, unpacked
from daskperiment.formatting import nearest
from daskperiment.history.trial_records import as_trial_id, intact, require_trial, trial_or_raise
from daskperiment.records import ARTIFACT, Artifact, ObjectRef, artifact_ids
from daskperiment.store.opening import read_notes, read_starting
from daskperiment.store.protocol import Buffer, Store, Stored

__all__ = [
    "KeptArtifact",
    "artifact_bytes",
    "artifacts_of",
    "load_artifact",
    "thumbnail_bytes",
]

_PATHS = ("file", "folder")
_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"})


class KeptArtifact(NamedTuple):
    """An artifact of a trial, with what its record says of the value."""

    trial: int
    artifact: Artifact
    reference: ObjectRef
    reused: bool
    """Whether it came with the output of a step that another trial ran."""

    @property
    def format(self) -> str | None:
        """Name of its format; None if it was not kept."""
        return (self.reference.format or PICKLE) if self.reference.digest else None

    @property
    def media(self) -> str:
        """Media type of its file."""
        if self.format == "file":
            return media_of(self.artifact.file)
        try:
            return format_named(self.format or "").media
        except DaskperimentError:  # a pickle, or a format that is not known here
            return "application/octet-stream"

    @property
    def is_picture(self) -> bool:
        """Whether its file is a picture that a browser shows, and runs nothing of."""
        return self.media in _PICTURES


class _ReusedArtifacts(Struct, gc=False):
    """What a step run says of the artifacts that came with a reused output."""

    artifacts: list[Artifact] = []
    reused: int | None = None


Reader = Callable[[Iterable[Stored], type[Any]], Iterable[tuple[int, Any]]]
"""Returns the records of a type with their trials, those that are intact."""


def artifacts_of(
    store: Store, trials: Iterable[int] | None = None, intact: Reader = intact
) -> list[KeptArtifact]:
    """Return the artifacts of some trials, or of all: of each name the latest, in order.

    `intact` says what becomes of records that are damaged: a warning.
    """
    wanted = None if trials is None else list(trials)
    found: dict[tuple[int, str], KeptArtifact] = {}
    for trial, run in intact(store.read("steps", wanted), _ReusedArtifacts):
        if run.reused is not None:
            for artifact in run.artifacts:
                _add(found, trial, artifact, reused=True)
    for trial, artifact in intact(read_notes(store, ARTIFACT, wanted), Artifact):
        # What the trial saved itself counts, though the reused one is the latest by the clock.
        _add(found, trial, artifact, reused=False)
    return sorted(found.values(), key=lambda one: (one.trial, one.artifact.added))


def _saved(store: Store, trial: int, name: str) -> dict[str, KeptArtifact]:
    """Return the artifact of a name that a trial saved itself, if there is one."""
    found: dict[tuple[int, str], KeptArtifact] = {}
    if type(name) is str and name.isprintable():  # what cannot be one is in no index
        for _, artifact in intact(
            read_starting(store, "notes", trial, artifact_ids(name)), Artifact
        ):
            _add(found, trial, artifact, reused=False)
    return {one.artifact.name: one for one in found.values() if one.artifact.name == name}


def _add(
    found: dict[tuple[int, str], KeptArtifact], trial: int, artifact: Artifact, reused: bool
) -> None:  # fmt: skip
    known = found.get((trial, artifact.name))
    if known is None or known.reused or known.artifact.added <= artifact.added:
        reference = _reference(artifact)
        found[trial, artifact.name] = KeptArtifact(trial, artifact, reference, reused)


def _reference(artifact: Artifact) -> ObjectRef:
    try:
        return object_ref(artifact.value)
    except CorruptRecordError as error:
        return ObjectRef("?", "<damaged>", reason=str(error))


def load_artifact(
    store: Store, name: str, trial_id: int, signing_key: str | bytes | None = None
) -> Any:
    """Return the value of a trial's artifact; of a file or folder the path of a copy.

    Raises TrialIDNotFoundError, ArtifactNotFoundError, PersistedResultNotFoundError if the value
    is not there, CorruptRecordError and UntrustedObjectError.
    """
    key = signing_key_in_force(signing_key)
    one = find_artifact(store, name, trial_id, key)
    form = msgspec.to_builtins(one.reference)
    if one.format not in _PATHS:
        return unpack(form, store.get, key, read_file)
    data = unpack(form, store.get, key, lambda _, body: body)
    return unpacked(data, one.artifact.file, is_folder=one.format == "folder")


def artifact_bytes(store: Store, name: str, trial_id: int) -> tuple[KeptArtifact, Buffer]:
    """Return a trial's artifact with the bytes of its file, of a pickle too: nothing is loaded.

    Raises as `load_artifact`.
    """
    one = find_artifact(store, name, trial_id, signing_key_in_force())
    form = msgspec.to_builtins(msgspec.structs.replace(one.reference, format=one.format))
    return one, unpack(form, store.get, None, lambda _, body: body)


def thumbnail_bytes(store: Store, one: KeptArtifact) -> bytes:
    """Return the small picture of an artifact that has one.

    Raises PersistedResultNotFoundError and CorruptRecordError.
    """
    form = one.artifact.thumbnail
    # Whoever wrote the record may say of anything that it is the picture.
    form = {**form, "format": object_ref(form).format or "png"}
    return bytes(unpack(form, store.get, None, lambda _, body: body))


def find_artifact(store: Store, name: str, trial_id: int, key: bytes | None) -> KeptArtifact:
    """Return the artifact of a name of a trial, whose signature fits if there is a key."""
    trial = as_trial_id(store, trial_id)
    # Of many that are loaded one by one, not all are read each time.
    kept = _saved(store, trial, name)
    if name not in kept:
        kept = {one.artifact.name: one for one in artifacts_of(store, [trial])}
    if not kept:
        require_trial(store, trial)
    if name not in kept:
        names = ", ".join(map(repr, kept)) or "none"
        raise ArtifactNotFoundError(
            f"Trial {trial} has no artifact {name!r}{nearest(str(name), kept)}. Its artifacts are: "
            f"{names}; ex.save(name, value) saves one."
        )
    one = kept[name]
    if key is not None and not one.reused:
        token = trial_or_raise(store, trial).begun.token
        what = f"The record of artifact {name!r} of trial {trial}"
        check_signature(what, one.artifact, key, store.address, token)
    return one
