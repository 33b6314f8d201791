"""Artifacts in a report: pictures as data of the page, of all else what was kept as a preview."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

from daskperiment.errors import (
    CorruptRecordError,
    PersistedResultNotFoundError,
    UntrustedObjectError,
)
from daskperiment.history.artifacts import (
    KeptArtifact,
    artifact_bytes,
    artifacts_of,
    thumbnail_bytes,
)
from daskperiment.history.previews import padded, preview_facts
from daskperiment.records import Preview
from daskperiment.reports.markup import Markup, data_table, tag
from daskperiment.store.protocol import Store

__all__ = ["ArtifactGallery"]

_OF_ONE, _OF_ALL = 2_000_000, 15_000_000
"""Bytes of one picture, and of all: what a mail takes."""


class ArtifactGallery:
    """The artifacts of trials, with as many pictures as the report has room for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._room = _OF_ALL

    def of(self, trial: int) -> Markup | None:
        """Return the artifacts of a trial; nothing if it has none."""
        found = [self._figure(one) for one in artifacts_of(self._store, [trial])]
        return tag("div", found, class_="gallery") if found else None

    def _figure(self, one: KeptArtifact) -> Markup:
        told = f" {one.format or 'not kept'}, {one.reference.size:,} bytes"
        name = tag("figcaption", tag("b", one.artifact.name), told)
        return tag("figure", name, list(self._shown(one)))

    def _shown(self, one: KeptArtifact) -> Iterator[Markup]:
        reference = one.reference
        if reference.reason:
            yield tag("p", f"Not kept: {reference.reason}")
            return
        try:
            picture = self._picture(one)
        except (CorruptRecordError, PersistedResultNotFoundError, UntrustedObjectError) as error:
            yield tag("p", str(error))
            return
        if picture is not None:
            media, data = picture
            source = f"data:{media};base64,{b64encode(data).decode()}"
            yield tag("img", src=source, alt=one.artifact.name)
        elif reference.preview is not None:
            yield from _preview(reference.preview, f"{one.artifact.name}, trial {one.trial}")
        else:
            yield tag("pre", reference.repr, tabindex=0)
        if picture is None and one.is_picture:
            yield tag("p", "The picture is left out: the report has no room for it.")

    def _picture(self, one: KeptArtifact) -> tuple[str, bytes] | None:
        """Return the file of a picture, or a small one of it, with its media type."""
        whole = one.is_picture and one.reference.size <= min(_OF_ONE, self._room)
        if whole:
            data = bytes(artifact_bytes(self._store, one.artifact.name, one.trial)[1])
            media = one.media
        elif one.artifact.thumbnail is not None:
            data, media = thumbnail_bytes(self._store, one), "image/png"
        else:
            return None
        if len(data) > self._room:
            return None
        self._room -= len(data)
        return media, data


def _preview(found: Preview, of: str) -> Iterator[Markup]:
    if told := preview_facts(found):
        yield tag("p", told)
    if found.text and found.kind == "html":
        yield tag("p", "A page; what stands in it is not shown here.")
    elif found.text:
        yield tag("pre", found.text, tabindex=0)
    columns = padded(found.columns, 2)
    names = [name for name, _ in columns]
    if names and found.rows:
        yield data_table(f"First rows of {of}", names, padded(found.rows, len(names)))
    elif names:
        yield data_table(f"Parts of {of}", ["Name", "Type"], columns)
