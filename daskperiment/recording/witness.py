"""What this machine saw last of an experiment whose trials are signed.

Signatures and numbers do not tell that the latest trials were removed, if all of each is. A file of
this user's, which is in no store, says which one was the latest.
"""

from __future__ import annotations

import hmac
import time
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from daskperiment.store import rights
from daskperiment.store.opening import seen_file
from daskperiment.store.protocol import Owner, Store

__all__ = ["LatestSeen", "forget_seen", "latest_seen", "note_seen"]


class LatestSeen(Struct, frozen=True):
    """The latest signed trial that this machine saw, and when."""

    trial: int
    token: str
    time: float
    key: str
    """Tells the key that it is signed with from others."""


def latest_seen(store: Store, key: bytes) -> LatestSeen | None:
    """Return what was noted of a store, None if nothing was with this key or it is damaged."""
    try:
        found = msgspec.json.decode(seen_file(store).read_bytes(), type=LatestSeen)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if found.key == _mark(key) else None


def note_seen(store: Store, owner: Owner, key: bytes) -> None:
    """Note a trial, if none with a higher id was seen; never raises.

    Where the trials of a store were lost, and its ids begin anew, what was noted stays until
    somebody removes the file: it is not for a writer to say that nothing is missing.
    """
    known = latest_seen(store, key)
    if known is None or known.trial < owner.trial:
        with suppress(OSError):  # it is one more witness, and no record
            body = msgspec.json.encode(
                LatestSeen(owner.trial, owner.token, time.time(), _mark(key))
            )
            _write(seen_file(store), body)


def forget_seen(store: Store) -> None:
    """Note nothing of a store any more: it was deleted here."""
    with suppress(OSError):
        seen_file(store).unlink()


def _mark(key: bytes) -> str:
    return hmac.digest(key, b"seen", "sha256")[:8].hex()


def _write(path: Path, body: bytes) -> None:
    rights.make_folder(path.parent, rights.PRIVATE_FOLDER)
    rights.write(path, body)
