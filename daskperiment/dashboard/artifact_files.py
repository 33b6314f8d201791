"""Artifacts for the page: what it tells of them, and their files with what a browser may do.

A file comes from whoever could write to the store. So pictures go to a picture's place, where
nothing of them runs, pages into a frame that is nobody's, and everything else is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

import msgspec

from daskperiment.dashboard.damage import undamaged
from daskperiment.errors import ArtifactNotFoundError, DaskperimentError
from daskperiment.formats import format_named
from daskperiment.history.artifacts import (
    KeptArtifact,
    artifact_bytes,
    artifacts_of,
    thumbnail_bytes,
)
from daskperiment.store.protocol import Store, Stored

__all__ = ["ArtifactFile", "describe_artifacts", "file_to_send"]

_STILL = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; "
    "frame-ancestors 'self'"
)
"""What a file may do: show itself, in an origin that is nobody's."""
_ALIVE = (
    "sandbox allow-scripts; default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "font-src data:; worker-src blob:; frame-ancestors 'self'; script-src 'unsafe-inline' "
    "'unsafe-eval' https://cdn.jsdelivr.net https://cdn.plot.ly"
)
"""What a page may do whose scripts somebody runs: still in an origin of its own, without a network
but for the libraries of charts."""


class ArtifactFile(NamedTuple):
    """A file on its way to a browser."""

    body: bytes
    headers: Mapping[str, str]


def describe_artifacts(store: Store, trial: int) -> list[dict[str, Any]]:
    """Return what the page tells of a trial's artifacts; nothing of them is read."""
    return [_described(one) for one in artifacts_of(store, [trial], _intact)]


def _intact(records: Iterable[Stored], type_: type[Any]) -> Iterator[tuple[int, Any]]:
    # The page counts the damaged ones where it shows the steps.
    return ((stored.trial, record) for stored, record in undamaged(list(records), type_))


def _described(one: KeptArtifact) -> dict[str, Any]:
    artifact, reference = one.artifact, one.reference
    return {
        "name": artifact.name,
        "step": artifact.step,
        "added": artifact.added,
        "reused": one.reused,
        "file": artifact.file,
        "format": one.format,
        "type": reference.type,
        "text": reference.repr,
        "size": reference.size,
        "digest": reference.digest,
        "reason": reference.reason,
        "preview": msgspec.to_builtins(reference.preview),
        "thumbnail": artifact.thumbnail is not None,
        "shown": _shown(one),
        "load": f"ex.load({artifact.name!r}, {one.trial})",
    }


def _shown(one: KeptArtifact) -> str | None:
    """Return as what the page shows a file: a picture, a page, or not at all."""
    if one.is_picture:
        return "picture"
    return "page" if one.media == "text/html" else None


def file_to_send(store: Store, trial: int, name: str, use: str) -> ArtifactFile:
    """Return an artifact's file for one use.

    Parameters
    ----------
    use : str
        ``show`` in a picture's place or a frame, ``run`` for a page whose scripts may run in its
        frame, ``thumbnail``; for all else it is downloaded.

    Raises
    ------
    ArtifactNotFoundError
        If there is no such artifact, or it cannot be shown in this way.
    DaskperimentError
        As :func:`daskperiment.history.artifacts.artifact_bytes`.
    """
    one, data = artifact_bytes(store, name, trial)
    shown = _shown(one)
    if use == "thumbnail" and one.artifact.thumbnail is not None:
        small = thumbnail_bytes(store, one)
        return ArtifactFile(small, _headers("image/png", _STILL))
    if use in ("show", "run"):
        if shown is None or (use == "run" and shown != "page"):
            raise ArtifactNotFoundError(f"Artifact {name!r} of trial {trial} is not shown here.")
        media = one.media + ("; charset=utf-8" if shown == "page" else "")
        return ArtifactFile(bytes(data), _headers(media, _ALIVE if use == "run" else _STILL))
    headers = _headers("application/octet-stream", _STILL)
    headers["Content-Disposition"] = f'attachment; filename="{_file_name(one)}"'
    return ArtifactFile(bytes(data), headers)


def _headers(media: str, policy: str) -> dict[str, str]:
    return {"Content-Type": media, "Content-Security-Policy": policy}


def _file_name(one: KeptArtifact) -> str:
    """Return the name under which a browser saves a file: letters, digits and few signs."""
    name = one.artifact.file or f"{PurePath(one.artifact.name).name}{_suffix(one)}"
    if one.format == "folder":
        name += ".zip"
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in name)
    return plain.strip(" .") or "artifact"


def _suffix(one: KeptArtifact) -> str:
    try:
        return format_named(one.format or "").suffix
    except DaskperimentError:
        return ".pickle"
