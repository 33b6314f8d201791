"""Signatures of records: with a signing key, a record says only what its writer let it say.

A signature covers all of a record and what it is for: its experiment, its trial, its id. So a
record cannot be changed, nor put in the place of another, nor can the object that it names.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from daskperiment.codec.bodies import encode
from daskperiment.codec.object_format import Buffer
from daskperiment.errors import UntrustedObjectError

__all__ = [
    "check_signature",
    "content_hash",
    "has_piece_signature",
    "has_signature",
    "signed",
    "signed_piece",
]

R = TypeVar("R", bound=Any)
"""A record with a field ``signature``."""

_UNSIGNED = frozenset({"signature", "birthplace", "latest"})
"""Fields that a signature does not cover; a record without signature has None there."""

_encode = msgspec.json.Encoder().encode


def signed(record: R, key: bytes, address: str, *purpose: object) -> R:
    """Return a record with its signature.

    Parameters
    ----------
    record : Struct
        It has a field ``signature``.
    key : bytes
        The signing key.
    address : str
        Of the store; its last part is the experiment, which keeps it when it is copied.
    *purpose : object
        What the record is for, such as its trial and its id.
    """
    return replace(record, signature=_signature(record, key, address, purpose))


def has_signature(record: Any, key: bytes, address: str, *purpose: object) -> bool:
    """Return whether a record has the signature that `signed` gave it."""
    given = record.signature or ""
    return hmac.compare_digest(given.encode(), _signature(record, key, address, purpose).encode())


def check_signature(
    what: str, record: Any, key: bytes | None, address: str, *purpose: object
) -> None:
    """Raise UntrustedObjectError if there is a key, and a record is not signed with it.

    `what` names the record in the message.
    """
    if key is None or has_signature(record, key, address, *purpose):
        return
    wrong = "its signature does not fit" if record.signature else "it is not signed"
    raise UntrustedObjectError(
        f"{what} is refused, because a signing key is configured and {wrong}: it was changed, "
        "belongs to another trial, or was written without this key. Run its trial again with the "
        "key, or, if you trust all who could write to the store, read it with "
        "daskperiment.signing-key unset"
    )


def content_hash(parts: Iterable[Buffer]) -> str:
    """Return a cryptographic digest of an object's bytes, which the digest of a store is not."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return state.hexdigest()


def signed_piece(piece: R, key: bytes, address: str, token: str) -> R:
    """Return a point or a piece of a log with its signature: there are thousands of them.

    `token` is the trial's.
    """
    return replace(piece, signature=_mac(piece, key, address, token))


def has_piece_signature(piece: Any, key: bytes, address: str, token: str) -> bool:
    """Return whether a point or a piece of a log has the signature that `signed_piece` gave it."""
    unsigned = replace(piece, signature="")
    given = piece.signature.encode("utf-8", "replace")
    return hmac.compare_digest(given, _mac(unsigned, key, address, token).encode())


def _mac(piece: Any, key: bytes, address: str, token: str) -> str:
    purpose = _purpose_of_pieces(type(piece).__name__, address, token)
    return hmac.digest(_usable(key), purpose + _encode(piece), "sha256")[:16].hex()


def _signature(record: Any, key: bytes, address: str, purpose: Iterable[object]) -> str:
    unsigned: dict[str, None] = dict.fromkeys(_UNSIGNED.intersection(record.__struct_fields__))
    text = _purpose(type(record).__name__, address, *purpose)
    text += encode(replace(record, **unsigned))
    return hmac.digest(_usable(key), text, "sha256").hex()


def _usable(key: bytes) -> bytes:
    if not key:
        raise ValueError("the signing key is empty; expected a secret of some length")
    return key


def _purpose(kind: str, address: str, *purpose: object) -> bytes:
    """Return what is signed before a record itself, so that it stands for nothing else."""
    experiment = re.split(r"[/#]", address)[-1]
    parts = (kind, experiment, *map(str, purpose), "")
    return "\0".join(parts).encode("utf-8", "surrogatepass")


_purpose_of_pieces = lru_cache(maxsize=256)(_purpose)
"""The same for pieces, of which thousands have one purpose."""
