"""Outputs that are claimed: whether another process made one since the trial was planned."""

from __future__ import annotations

import time

from daskperiment.errors import StoreError
from daskperiment.execution.trial import TrialRequest
from daskperiment.recording.claims import Claim, ClaimLook
from daskperiment.recording.outputs import remember
from daskperiment.recording.recorder import Recorder
from daskperiment.reuse.cache_keys import StepKeys

__all__ = ["may_be_made"]

_SHORTEST = 0.5
"""Seconds after which the store is asked again, as others may do on other machines."""
_SHARE = 20
"""It is asked no longer than one part of so many of the time."""
_TRIALS = 16


def may_be_made(
    request: TrialRequest, recorder: Recorder, keys: StepKeys, claim: Claim | None
) -> bool:
    """Return whether the store may have a step's output by now, so that it has to be looked up.

    Parameters
    ----------
    request : TrialRequest
    recorder : Recorder
        Of its store.
    keys : StepKeys
        The step's.
    claim : Claim, optional
        To the output; None if there was none to be had.
    """
    if claim is None or claim.waited or len(recorder.outputs.unknown(keys.ids)) < len(keys.ids):
        return True
    claims = recorder.delivery.claims
    look = claims.looks.get(request.token)
    if look is not None:
        look.left.pop(keys.base, None)
    if look is None or claim.since > look.until or not claims.is_alone(look.arrival):
        look = _looked(request, recorder, look)
        remember(claims.looks, request.token, look, _TRIALS)
    return look.arrival is None or not look.made.isdisjoint(keys.ids)


def _looked(request: TrialRequest, recorder: Recorder, before: ClaimLook | None) -> ClaimLook:
    """Ask the store for all that a trial has yet to make, if nobody here can make it meanwhile."""
    left = before.left if before is not None else {
        keys.base: keys.ids for keys in request.step_keys.values() if keys.reusable
    }  # fmt: skip
    start, arrival = time.monotonic(), recorder.delivery.claims.arrival()
    if arrival is None:
        return ClaimLook(None, 0.0, frozenset(), left)
    ids = [id for some in left.values() for id in some]
    try:
        made = frozenset([record.id for record in request.setup.store.find(ids)])
    except StoreError:
        return ClaimLook(None, 0.0, frozenset(), left)
    now = time.monotonic()
    return ClaimLook(arrival, now + max(_SHORTEST, _SHARE * (now - start)), made, left)
