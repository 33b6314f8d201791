"""What this machine saw last of an experiment whose trials are signed.

Signatures and numbers do not tell that the latest trials were removed, if all of each is, nor that
the latest notes on a trial were. A file of this user's, which is in no store, says which trial was
the latest, and how many notes were written here.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from daskperiment.store import rights
from daskperiment.store.opening import seen_file
from daskperiment.store.protocol import Owner, Store

__all__ = ["LatestSeen", "forget_seen", "latest_seen", "note_seen"]


_NOTED = 200
"""Trials of which it is kept how many notes were written, those that were written on last."""


class LatestSeen(Struct, frozen=True):
    """The latest signed trial that this machine saw, and when."""

    trial: int
    """Its id, 0 where none was seen, but notes were written."""
    token: str
    time: float
    key: str
    """Tells the key that it is signed with from others."""
    notes: dict[str, int] = {}
    """Token and writer, with a blank between them -> how many notes were written."""


def latest_seen(store: Store, key: bytes) -> LatestSeen | None:
    """Return what was noted of a store, None if nothing was with this key or it is damaged."""
    try:
        found = msgspec.json.decode(seen_file(store).read_bytes(), type=LatestSeen)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if found.key == _mark(key) else None


def note_seen(
    store: Store, owner: Owner | None, key: bytes, notes: Mapping[str, int] | None = None
) -> None:  # fmt: skip
    """Note a trial, if none with a higher id was seen, and numbers of notes; never raises.

    Where the trials of a store were lost, and its ids begin anew, what was noted stays until
    somebody removes the file: it is not for a writer to say that nothing is missing.
    """
    known = latest_seen(store, key) or LatestSeen(0, "", 0.0, _mark(key))
    told = {name: max(number, known.notes.get(name, 0)) for name, number in (notes or {}).items()}
    before = {name: number for name, number in known.notes.items() if name not in told}
    now = replace(known, notes=dict([*before.items(), *told.items()][-_NOTED:]))
    if owner is not None and known.trial < owner.trial:
        now = replace(now, trial=owner.trial, token=owner.token, time=time.time())
    if now != known:
        with suppress(OSError):  # it is one more witness, and no record
            _write(seen_file(store), msgspec.json.encode(now))


def forget_seen(store: Store) -> None:
    """Note nothing of a store any more: it was deleted here."""
    with suppress(OSError):
        seen_file(store).unlink()


def _mark(key: bytes) -> str:
    return hmac.digest(key, b"seen", "sha256")[:8].hex()


def _write(path: Path, body: bytes) -> None:
    rights.make_folder(path.parent, rights.PRIVATE_FOLDER)
    rights.write(path, body)
