"""What trials keep under names: a table of it, and the values themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import Any, NamedTuple

import msgspec
import pandas as pd
from msgspec import Struct

from daskperiment.codec import check_signature, object_ref, signing_key_in_force, unpack
from daskperiment.errors import ArtifactNotFoundError, CorruptRecordError, DaskperimentError
from daskperiment.formats import PICKLE, format_named, read_file
from daskperiment.formats.path_formats import media_of, unpacked
from daskperiment.formatting import harmless, nearest
from daskperiment.history.columns import column, frame_of, moments
from daskperiment.history.previews import preview_html
from daskperiment.history.stored_values import MISSING
from daskperiment.history.trial_records import as_trial_id, intact, require_trial, trial_or_raise
from daskperiment.records import ARTIFACT, Artifact, ObjectRef, record_kind
from daskperiment.store.protocol import Buffer, Store, Stored

__all__ = [
    "KeptArtifact",
    "artifact_bytes",
    "artifacts_of",
    "get_artifacts",
    "load_artifact",
    "thumbnail_bytes",
]

_PATHS = ("file", "folder")
_SHOWN = 20
"""Artifacts whose previews a notebook shows."""
_PNG = b"\x89PNG\r\n"
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
    notes = (one for one in store.read("notes", wanted) if record_kind(one.id) == ARTIFACT)
    for trial, artifact in intact(notes, Artifact):
        # What the trial saved itself counts, though the reused one is the latest by the clock.
        _add(found, trial, artifact, reused=False)
    return sorted(found.values(), key=lambda one: (one.trial, one.artifact.added))


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


def get_artifacts(store: Store, trial_id: int | None = None) -> pd.DataFrame:
    """Return a table of the artifacts of a trial, or of all trials; nothing of them is loaded.

    ``Step`` is missing for what was added from outside, ``Format`` and ``Digest`` for what could
    not be kept; ``Size`` is in bytes, ``Added`` in UTC. A notebook shows previews below it.
    """
    trials = None if trial_id is None else [as_trial_id(store, trial_id)]
    kept = artifacts_of(store, trials)
    if trials and not kept:
        require_trial(store, trials[0])
    index = pd.RangeIndex(len(kept))

    def texts(values: list[str | None]) -> pd.Series:
        return column([MISSING if value is None else value for value in values], index)

    columns = [
        ("Trial ID", pd.Series([one.trial for one in kept], index=index, dtype="int64")),
        ("Step", texts([one.artifact.step for one in kept])),
        ("Name", texts([one.artifact.name for one in kept])),
        ("Format", texts([one.format for one in kept])),
        ("Size", pd.Series([one.reference.size for one in kept], index=index, dtype="int64")),
        ("Digest", texts([one.reference.digest for one in kept])),
        ("Added", moments([one.artifact.added for one in kept], index)),
    ]
    frame = frame_of(columns, index)
    plain: Callable[[], str | None] = getattr(frame, "_repr_html_")  # noqa: B009

    def with_previews() -> str:
        return f"{plain() or ''}{_gallery(store, kept)}"

    # On this one object: what is made of it, and what equals it, is a DataFrame like any other.
    object.__setattr__(frame, "_repr_html_", with_previews)
    return frame


def _gallery(store: Store, kept: list[KeptArtifact]) -> str:
    """Return the previews of artifacts as HTML; of them nothing is loaded but small pictures."""
    shown = kept[:_SHOWN]
    figures = [
        f"<figure><figcaption>{escape(harmless(f'{one.artifact.name} of trial {one.trial}'))}"
        f"</figcaption>{preview_html(one.reference, _picture(store, one))}</figure>"
        for one in shown
    ]
    more = len(kept) - len(shown)
    return "".join([*figures, f"<p>and {more} more artifacts</p>" if more else ""])


def _picture(store: Store, one: KeptArtifact) -> bytes | None:
    if one.artifact.thumbnail is None:
        return None
    try:
        found = thumbnail_bytes(store, one)
    except (DaskperimentError, LookupError):  # lost, damaged, or a store that is away
        return None
    return found if found.startswith(_PNG) else None


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
