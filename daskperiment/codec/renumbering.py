"""Records as they are written for a store in which their trials have other ids.

What a record says of trials, by their ids, is changed along, in its body and in its own id. All
else stays as it was written, fields that this version does not know included.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from daskperiment.codec.bodies import decode, parsed, sealed
from daskperiment.codec.signed_records import has_signature, signed
from daskperiment.records import (
    IMPURE,
    SWEEP,
    Begun,
    Birthplace,
    CacheEntry,
    Impurity,
    StepRun,
    record_kind,
    reused_run_id,
)

__all__ = ["Renumbering", "with_trial"]

_FIELDS = ("trial", "reused", "earlier")
"""Fields of step runs, outputs, cache entries and impurities that are ids of trials."""
_NAMED = [b'"%b":' % name.encode() for name in (*_FIELDS, "latest")]
_SIGNED = b'"signature":'
_TOLD = re.compile(
    r"((?:the output that|the output of|its inputs are those of|"
    r"another seed for random numbers than in|had been changed by another step in|"
    r"the steps before it read in|it went on from a checkpoint of) )trial (\d+)"
)
"""How reasons and notes name a trial."""
_SAID = b" trial "


def with_trial(body: bytes, trial: int) -> bytes:
    """Return the body of an output or a cache entry of another trial."""
    fields = msgspec.json.decode(body)
    if not isinstance(fields, dict) or "trial" not in fields:
        return body
    return _whole({**fields, "trial": trial})


def _whole(fields: dict[str, Any]) -> bytes:
    """Return a body of these fields, with a checksum of its own."""
    fields.pop("checksum", None)
    return sealed(msgspec.json.encode(fields))


class Renumbering:
    """Trial ids of one store, and which ids these trials have in another one.

    Parameters
    ----------
    address : str
        Of the store that records come from.
    key : bytes, optional
        The signing key, by which what was signed is signed anew.

    Attributes
    ----------
    changes : bool
        Whether any trial has another id than it had.
    unsigned : int
        How many records had a signature that does not fit any more.
    """

    def __init__(self, address: str, key: bytes | None = None) -> None:
        self._address = address
        self._key = key
        self._ids: dict[int, int] = {}
        self._tokens: dict[int, str] = {}
        self.changes = False
        self.unsigned = 0

    def __contains__(self, trial: int) -> bool:
        return trial in self._ids

    def add(self, trial: int, now: int, token: str = "") -> None:
        """Note the id that a trial has in the other store; `token` is in both the trial's."""
        self._ids[trial] = now
        self._tokens[trial] = token
        self.changes = self.changes or trial != now

    def now(self, trial: int) -> int:
        """Return the id that a trial has; 0 if it is not known, and others have new ones."""
        return self._ids.get(trial, 0 if self.changes else trial)

    def first_record(self, body: bytes, trial: int) -> bytes:
        """Return a trial's first record, which says where the trial was recorded.

        One that is damaged is as it was; CorruptRecordError is raised of it.
        """
        fields = parsed(body)
        changed = dict(fields)
        born = Birthplace(self._address, trial)
        changed.setdefault("birthplace", msgspec.to_builtins(born))
        for name in ("source", "resumes"):
            if isinstance(fields.get(name), int):
                changed[name] = self.now(fields[name]) or None
        if any(changed.get(name) != fields.get(name) for name in ("source", "resumes")):
            self._sign(changed, body, Begun, ((), ()))
        return _whole(changed)

    def record(self, stream: str, trial: int, id: str, body: bytes) -> tuple[str, bytes]:
        """Return the id and the body of a record of a trial, as they are in the other store."""
        if not self.changes or not self._tells_of_trials(stream, trial, body):
            return id, body
        fields = parsed(body)
        if not isinstance(fields, dict):
            return id, body
        changed = self._changed(fields)
        if stream == "notes" and record_kind(id) == SWEEP and "latest" in fields:
            changed["latest"] = 0  # its trials may have any ids: all are looked at
        changes = changed != fields
        if stream == "steps" and (changes or self.now(trial) != trial):
            self._sign(changed, body, StepRun, ((trial,), (self.now(trial),)))
        elif stream == "outputs" and changes:
            self._sign(changed, body, CacheEntry, ((id,), (id,)))
        elif stream == "notes" and changes and record_kind(id) == IMPURE:
            purpose = (self._tokens.get(trial, ""),)
            self._sign(changed, body, Impurity, (purpose, purpose))
        key, reused = str(fields.get("key")), fields.get("reused")
        if type(reused) is int and id == reused_run_id(key, reused):
            id = reused_run_id(key, changed["reused"])
        return id, body if changed == fields else _whole(changed)

    def _changed(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a record with the ids that trials have now."""
        changed = dict(fields)
        for name in _FIELDS:
            if type(fields.get(name)) is int:
                changed[name] = self.now(fields[name])
        for name in ("reason", "note"):
            if isinstance(fields.get(name), str):
                changed[name] = _TOLD.sub(self._told, fields[name])
        return changed

    def trial_of(self, body: bytes) -> int:
        """Return the trial that an output or a cache entry is of, 0 if it does not say."""
        fields = parsed(body)
        trial = fields.get("trial") if isinstance(fields, dict) else None
        return trial if type(trial) is int else 0

    def _tells_of_trials(self, stream: str, trial: int, body: bytes) -> bool:
        """Whether a record may have to change: most need not be decoded."""
        if stream not in ("steps", "outputs", "notes"):
            return False
        signed_for_trial = _SIGNED in body and self.now(trial) != trial
        return signed_for_trial or _SAID in body or any(name in body for name in _NAMED)

    def _told(self, match: re.Match[str]) -> str:
        now = self.now(int(match[2]))
        return match[1] + (f"trial {now}" if now else "a trial that was not copied along")

    def _sign(
        self, changed: dict[str, Any], body: bytes, type_: type[Any],
        purposes: tuple[tuple[object, ...], tuple[object, ...]],
    ) -> None:  # fmt: skip
        """Sign what was rightly signed as it is now; what was not, stays so.

        `purposes` are what it was for, and what it is for now.
        """
        if not changed.get("signature"):
            return
        before, now = purposes
        if self._key is None:
            self.unsigned += 1
        elif has_signature(decode(body, type_), self._key, self._address, *before):
            record = decode(_whole(dict(changed)), type_)
            changed["signature"] = signed(record, self._key, self._address, *now).signature
