"""Outputs that are known under a step's inputs, where its cache key led to none.

A cache key is made before anything runs, of the code of all steps before. When these return what
they returned in an earlier trial, the step's inputs tell that its output is known after all. It is
looked up in the step's own task, when the inputs are there.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from daskperiment.codec import unpack
from daskperiment.errors import CorruptRecordError, StoreError, StoreWarning
from daskperiment.execution.kept_files import restore_files
from daskperiment.execution.trial import TrialHandle
from daskperiment.formats import read_file
from daskperiment.recording.outputs import ObservedOutputs
from daskperiment.recording.recorder import Recorder
from daskperiment.recording.registry import recorder_for
from daskperiment.records import INEXACT, Argument, CacheEntry, cache_entry_id
from daskperiment.reuse.cache_entries import CacheEntries, Hit
from daskperiment.reuse.cache_keys import CacheKey, StepKeys
from daskperiment.reuse.reuse_plan import NEVER_RUN
from daskperiment.store.protocol import Store
from daskperiment.warn import warn_user

__all__ = ["KnownOutput", "OutputsByInputs", "are_exact", "distrust"]


def are_exact(arguments: Iterable[Argument]) -> bool:
    """Return whether fingerprints of arguments tell all that an output may depend on."""
    return not any((each.fingerprint or "").startswith(INEXACT) for each in arguments)


class KnownOutput(NamedTuple):
    """An output that an earlier trial's step returned for the same inputs."""

    entry: CacheEntry
    value: Any
    reason: str
    """Why it was found only when the inputs were there."""


class OutputsByInputs:
    """What a store knows of one step's outputs by its inputs, in one trial.

    Parameters
    ----------
    keys : StepKeys
        Of the step; `keys.call` is not None.
    inputs : str
        Fingerprint of all that the step gets.
    seed : int
        The step's.
    """

    def __init__(self, keys: StepKeys, inputs: str, seed: int) -> None:
        assert keys.call is not None
        self.key: CacheKey = keys.call.of_inputs(inputs, seed)
        self._hint = keys.hint
        self._by_code = cache_entry_id(keys.call.code)
        self._keys = keys
        self._entries: CacheEntries | None = None

    def find(self, trial: TrialHandle, recorder: Recorder) -> KnownOutput | None:
        """Return the output of an earlier trial, loaded; None if the step has to run."""
        outputs, base = recorder.outputs, self.key.base
        if not self._keys.expected and not (
            outputs.has_inputs(base) if trial.at_home else self._is_hinted(outputs)
        ):
            return None  # whoever runs for the first time need not ask for each step
        if outputs.awaits_inputs(base):
            recorder.settle()  # what ran a moment ago in this process counts too
        hit = self._hit(recorder, trial.signing_key)
        if hit is None:
            return None
        try:
            value = unpack(hit.entry.kept["value"], trial.store.get, trial.signing_key, read_file)
            if "files" in hit.entry.kept:
                restore_files(hit.entry.kept["files"], trial.store.get, trial.signing_key)
        except Exception as error:  # unpickling runs the user's code, which may fail in any way
            distrust(trial.store, hit, error)
            return None
        return KnownOutput(hit.entry, value, _reason(hit.entry.trial, self._keys.reason))

    def _is_hinted(self, outputs: ObservedOutputs) -> bool:
        return not outputs.unknown([self._hint])

    def read(self, store: Store, signing_key: bytes | None = None) -> CacheEntries:
        """Read what is known under the key."""
        self._entries = entries = CacheEntries(store, signing_key)
        with suppress(StoreError):  # a store that is away knows nothing
            entries.read([self.key.base, self.key.seeded])
        return entries

    def _hit(self, recorder: Recorder, signing_key: bytes | None) -> Hit | None:
        entries = self.read(recorder.store, signing_key)
        with suppress(StoreError):  # as above
            hit = entries.hit(self.key.base, self.key.seeded, drew=False)
            # One that was dropped to make room is nothing to warn of.
            gone = hit is not None and hit.digest and not recorder.store.sizes([hit.digest])
            return None if gone else hit
        return None

    def ids(self, drew: bool, outputs: ObservedOutputs) -> list[str]:
        """Return the ids under which to write down what the step returned, and note that they are.

        Parameters
        ----------
        drew : bool
            Whether it drew random numbers.
        outputs : ObservedOutputs
            Of the recorder that writes it down.
        """
        known, base, seeded = self._entries, self.key.base, self.key.seeded
        outputs.note_inputs(base)
        next_id = known.next_id if known is not None else cache_entry_id
        told = drew and known is not None and known.all(base)
        found = [] if told else [next_id(base)]
        if drew:
            return [*found, next_id(seeded), self._hint]
        # What was drawn is never taken where no other nodes give the step anything.
        return [*found, self._hint, self._by_code]


def _reason(trial: int, why: str | None) -> str:
    known = f"its inputs are those of trial {trial}"
    return known if why in (None, NEVER_RUN) else f"{known}, though {why}"


def distrust(store: Store, hit: Hit, error: Exception) -> None:
    """Say that a kept output cannot be loaded, and remove it if it is damaged."""
    entry = hit.entry
    warn_user(
        StoreWarning(
            f"The output that trial {entry.trial} kept of step {entry.key!r} cannot be loaded, so "
            f"the step runs again: {type(error).__name__}: {error}"
        )
    )
    if isinstance(error, CorruptRecordError) and hit.digest:
        # Otherwise a new output, which may have the same digest, would not be written.
        with suppress(StoreError):
            store.discard([hit.digest])
            recorder_for(store).delivery.forget_object(hit.digest)
