"""The recorders of this process: one for each store, which makes one journal file per process."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import ref

from daskperiment.store.buckets import BucketPlace
from daskperiment.store.liveness import whereabouts
from daskperiment.store.object_methods import name_place, share_place
from daskperiment.store.opening import CLAIMS, check_arrival, has_spare_folder, journal_folder
from daskperiment.store.protocol import Store

if TYPE_CHECKING:
    from daskperiment.recording.recorder import Recorder

__all__ = [
    "ADMITTED",
    "close_recorders",
    "has_trials",
    "is_caught_up",
    "keep_large_objects",
    "recorder_for",
    "visiting",
]


class _Registry:
    """Recorders by the address of their store, and by the stores that were admitted to them."""

    def __init__(self) -> None:
        self._recorders: dict[str, Recorder] = {}
        self.admitted: dict[int, tuple[ref[Store], Recorder]] = {}
        """By the ids of stores, for as long as these are there: it is looked up for each point."""
        self._lock = threading.Lock()

    def admit(self, store: Store) -> Recorder:
        """Return the recorder for a store, made if there is none, and remember it."""
        with self._lock:
            return self._admit(store)

    def _admit(self, store: Store) -> Recorder:
        # Where it came from another machine, its address may be another folder here.
        check_arrival(store, whereabouts())
        recorder = self._recorders.get(store.address)
        if recorder is None or recorder.pid != os.getpid():
            from daskperiment.recording.recorder import Recorder  # noqa: PLC0415  # once a store

            if recorder is not None:
                recorder.delivery.claims.close()  # the parent's, and not when it is garbage
            recorder = self._recorders[store.address] = Recorder(store)
            atexit.unregister(close_recorders)
            atexit.register(close_recorders)
        # What one of them knows of where large objects are, the other needs.
        share_place(store, recorder.store)
        key, admitted = id(store), self.admitted
        admitted[key] = ref(store, lambda _: admitted.pop(key, None)), recorder
        return recorder

    def leave_parent(self) -> None:
        """Admit all stores anew in a forked child: the recorders are its parent's."""
        self._lock = threading.Lock()  # which a thread of the parent may have held
        self.admitted.clear()

    def known(self, store: Store) -> Recorder | None:
        """Return the recorder that this process has for a store, if any."""
        recorder = self._recorders.get(store.address)
        return None if recorder is None or recorder.pid != os.getpid() else recorder

    def has_trials(self) -> bool:
        """Whether a trial runs in this process; takes no lock, for who interrupts anything."""
        return any(each.trials for each in list(self._recorders.values()))

    def take_all(self) -> list[Recorder]:
        """Return all recorders, and know none of them any more."""
        with self._lock:
            recorders = list(self._recorders.values())
            self._recorders.clear()
            self.admitted.clear()
        return recorders


# The process's, as its journal files are.
_REGISTRY = _Registry()
ADMITTED = _REGISTRY.admitted
"""The recorders of stores that were admitted, by the ids of these: for who asks at each point."""


def recorder_for(store: Store) -> Recorder:
    """Return this process's recorder for a store.

    Raises
    ------
    StoreError
        If the store is a folder that other processes see and this one does not, or if it comes
        from a machine where another folder has this name.
    """
    known = _REGISTRY.admitted.get(id(store))
    return _REGISTRY.admit(store) if known is None else known[1]


if hasattr(os, "register_at_fork"):
    # To ask at each point which process this is would be felt.
    os.register_at_fork(after_in_child=_REGISTRY.leave_parent)


def keep_large_objects(store: Store, place: BucketPlace) -> None:
    """Say where the large objects of a store go, whoever in this process writes to it.

    Raises
    ------
    TypeError
        If the store keeps all objects itself.
    """
    name_place(store, place)
    recorder = _REGISTRY.known(store)
    if recorder is not None:
        name_place(recorder.store, place)


def has_trials() -> bool:
    """Whether this process has a trial that began here and has not ended."""
    return _REGISTRY.has_trials()


def is_caught_up(store: Store, spare: frozenset[str]) -> bool:
    """Whether nothing waits for a store: nothing here, and no journal of another process.

    `spare` is what `spare_names` returns: it is the same for a thousand stores.
    """
    recorder = _REGISTRY.known(store)
    if recorder is not None and recorder.busy:
        return False
    # Where this process has no recorder, what bears its number is that of one before it.
    own = f"-{os.getpid()}-" if recorder is not None else ""
    try:
        names = os.listdir(journal_folder(store))
    except OSError:
        names = []  # there is none, or it is for others to deliver
    waiting = any(not own or own not in name for name in names if name != CLAIMS)
    return not waiting and not has_spare_folder(store, spare)


@contextmanager
def visiting(store: Store) -> Iterator[None]:
    """Deliver what waits for a store that is to be read once; let go of it again.

    Where this process uses the store besides, it stays open.
    """
    from daskperiment.recording.recorder import Recorder  # noqa: PLC0415  # as above

    known = _REGISTRY.known(store)
    recorder = known or Recorder(store)
    try:
        recorder.hand_over()
        yield
    finally:
        if known is None:
            recorder.close()
        elif known.store is not store:
            store.close()


def close_recorders() -> None:
    """Close all recorders of this process; asked again, they are made anew."""
    failure: Exception | None = None
    for recorder in _REGISTRY.take_all():
        try:
            recorder.close()
        except Exception as error:  # of one store; the others have records to deliver, too
            failure = failure or error
    if failure is not None:
        raise failure
