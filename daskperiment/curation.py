"""Saying something of trials afterwards: tags, notes, names, and archiving.

Each is a record of its own, with its time and user; none changes what the trial recorded. They are
delivered as all records are: what was said while the store was away arrives when it is back.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from daskperiment.codec import signing_key_in_force
from daskperiment.errors import TrialIDNotFoundError
from daskperiment.formatting import shorten
from daskperiment.history.trial_records import as_trial_id, decoded, require_trial
from daskperiment.recording.registry import recorder_for
from daskperiment.records import BEGUN, Curation, curation_id
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Owner, Store

__all__ = ["archive", "note", "owners_of", "rename", "tag", "unarchive", "untag"]

_LONGEST_NAME = 100
_LONGEST_NOTE = 100_000
_SELECTOR = re.compile(r"best|latest|all|[-+\d,.]+", re.IGNORECASE)
"""What commands take for trials, or may once take, so that no trial may have it for a name."""


class _Token(Struct, gc=False):
    """Of how a trial began, that by which the store knows it."""

    token: str


def tag(store: Store, trials: int | Iterable[int], tags: Iterable[str]) -> None:
    """Give trials tags; one that a trial has already stays where it is."""
    _say(store, trials, tags=_checked_tags("tag", tags))


def untag(store: Store, trials: int | Iterable[int], tags: Iterable[str]) -> None:
    """Take tags from trials; one that a trial does not have is passed over."""
    _say(store, trials, untags=_checked_tags("untag", tags))


def note(store: Store, trials: int | Iterable[int], text: str) -> None:
    """Add a note to trials."""
    checked = _checked_text(text, "note", _LONGEST_NOTE)
    _say(store, trials, remark=checked)


def rename(store: Store, trial: int, name: str | None) -> None:
    """Give a trial a name, or take it away with None."""
    checked = "" if name is None else _checked_line(name, "name")
    if _SELECTOR.fullmatch(checked):
        raise ValueError(
            f"A trial's name is {name!r}, by which commands mean other trials; expected a text "
            "that is no number, and not 'best', 'latest' or 'all'."
        )
    _say(store, as_trial_id(store, trial), name=checked)


def archive(store: Store, trials: int | Iterable[int]) -> None:
    """Let tables leave trials out unless they are asked for all."""
    _say(store, trials, archived=True)


def unarchive(store: Store, trials: int | Iterable[int]) -> None:
    """Let tables list trials again."""
    _say(store, trials, archived=False)


def _say(store: Store, trials: int | Iterable[int], **said: Any) -> None:
    """Write the same of each trial, or of none if one of them is not there."""
    recorder = recorder_for(store)
    recorder.catch_up()
    owners = owners_of(store, trials)
    clock, user, key = store.state().clock, current_origin().user, signing_key_in_force()
    for owner in owners:
        record = Curation(time=clock, user=user, **said)
        id = curation_id(clock, uuid.uuid4().hex)
        recorder.write_signed("notes", owner.trial, id, record, owner, key)
    recorder.flush()


def _ids(store: Store, trials: int | Iterable[int]) -> list[int]:
    several = isinstance(trials, Iterable) and not isinstance(trials, (str, bytes))
    ids = [as_trial_id(store, each) for each in (trials if several else [trials])]  # type: ignore[union-attr]
    if not ids:
        raise TrialIDNotFoundError(
            "Got no trial: the list of trials is empty. Expected the id of a trial, or several."
        )
    return list(dict.fromkeys(ids))


def owners_of(store: Store, trials: int | Iterable[int]) -> list[Owner]:
    """Return trials that are there with their tokens, so that no stranger's trial is meant.

    Raises
    ------
    TrialIDNotFoundError
        If one of the trials is not there, or none is given.
    """
    ids = _ids(store, trials)
    begun = [one for one in store.read("trials", ids) if one.id == BEGUN]
    found = {trial: one.token for trial, one in decoded(begun, _Token)[0]}
    for trial in ids:
        if trial not in found:
            require_trial(store, trial)
    return [Owner(trial, found[trial]) for trial in ids if trial in found]


def _checked_tags(method: str, tags: Iterable[str]) -> list[str]:
    found = [_checked_line(each, "tag") for each in tags]
    if not found:
        raise TypeError(f"{method}() got no tag; expected one or several, as in {method}(3, 'x').")
    return list(dict.fromkeys(found))


def _checked_line(text: Any, what: str) -> str:
    checked = _checked_text(text, what, _LONGEST_NAME).strip()
    if "," in checked or not checked.isprintable():
        raise ValueError(
            f"A {what} is {shorten(repr(text), 60)}; expected one line of text without commas."
        )
    return checked


def _checked_text(text: Any, what: str, longest: int) -> str:
    if not isinstance(text, str):
        raise TypeError(
            f"A {what} is {shorten(repr(text), 60)} ({type(text).__name__}); expected text."
        )
    if not text.strip() or len(text) > longest:
        raise ValueError(
            f"A {what} has {len(text)} characters; expected 1 to {longest}, not all of them blank."
        )
    return text
