"""A table of what trials keep under names, with previews below it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import pandas as pd

from daskperiment.errors import DaskperimentError
from daskperiment.formatting import harmless
from daskperiment.history.artifacts import KeptArtifact, artifacts_of, thumbnail_bytes
from daskperiment.history.columns import column, frame_of, moments
from daskperiment.history.previews import preview_html
from daskperiment.history.stored_values import MISSING
from daskperiment.history.trial_records import as_trial_id, require_trial
from daskperiment.store.protocol import Store

__all__ = ["get_artifacts"]

_SHOWN = 20
"""Artifacts whose previews a notebook shows."""
_PNG = b"\x89PNG\r\n"


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
