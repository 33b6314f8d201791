"""The way from a running trial to its store.

One recorder per store and process. Records go to the journal first and from there to the store:
at the end of a trial (or of a step in a process that is not the trial's home), and once a second
from a background thread that also sends signs of life. A store that is away stops none of this:
records wait in the journal and objects in the spool, and a warning says so once.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from daskperiment.codec import Blob, encode
from daskperiment.errors import StoreError, StoreUnavailableError, StoreWarning
from daskperiment.recording.heartbeat import Pulse
from daskperiment.recording.journal import Journal
from daskperiment.recording.outputs import Conflict, Outputs
from daskperiment.recording.pending import Spool
from daskperiment.recording.running import AliveTrials, remember
from daskperiment.records import Beat, CacheEntry, Ended, Failure, Output, Point
from daskperiment.store.liveness import heartbeat_timeout, whereabouts
from daskperiment.store.opening import check_arrival, identity_of, journal_folder
from daskperiment.store.protocol import Allocation, Record, Store
from daskperiment.warn import warn_user

if TYPE_CHECKING:
    from daskperiment.execution.lifecycle import Trial

__all__ = ["Attendant", "Recorder", "close_recorders", "recorder_for"]


class Attendant(Protocol):
    """Sees to trials that this process gave to others, such as workers of a cluster."""

    def __bool__(self) -> bool:
        """Whether there are any."""

    def look(self) -> None:
        """Write down the ends that nobody else writes down; may raise StoreError."""

    def numbers(self) -> set[int]:
        """Give the ids of those to keep alive; may raise StoreError."""

    def leave(self) -> None:
        """Write down that they are given up."""

    def forget(self) -> None:
        """See to them no more."""


class Recorder:
    """Records what happens in this process's trials of one store.

    Parameters
    ----------
    store : Store
        Where records end up.
    """

    def __init__(self, store: Store) -> None:
        folder = journal_folder(store)
        self.store = store
        self.pid = os.getpid()
        self._admitted = {None, identity_of(store)}
        self._journal = Journal(folder, store)
        self._spool = Spool(folder / "spool")
        self._delivering = threading.Lock()
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._outputs = Outputs()
        self._away = False
        self._beaten = 0.0
        self._pulse = Pulse(self)
        self.trials = AliveTrials()
        self.attendant: Attendant | None = None
        self.allocations: OrderedDict[str, Allocation] = OrderedDict()

    def admit(self, store: Store) -> None:
        """Make sure that a store of the same address is the same store.

        Raises
        ------
        StoreError
            If it comes from a machine where another folder has this name.
        """
        identity = identity_of(store)
        if identity not in self._admitted:
            check_arrival(store, whereabouts())
            self._admitted.add(identity)

    # Writing

    def write(self, stream: str, trial: int, id: str, record: Struct) -> None:
        """Write a record down. Never raises: what cannot be recorded is said in a warning."""
        try:
            self._journal.write(Record(stream, trial, id, encode(record)))
        except StoreError as error:
            self._complain(f"A record of trial {trial} could not be written: {error}")

    def point(self, trial: int, point: Point) -> None:
        """Write a metric point down. Never raises, as `write`."""
        try:
            self._journal.point(trial, point)
        except StoreError as error:
            self._complain(f"A point of trial {trial} could not be written: {error}")
        self._pulse.start()

    def output(self, id: str, output: Output) -> None:
        """Write down what a step returned, to be held against what it returned before."""
        if not self._outputs.has(id, output.output):
            self._outputs.add(id, output, lambda: self.write("outputs", 0, id, output))

    def entry(self, id: str, entry: CacheEntry) -> None:
        """Write down what is known of a recipe's output; the first to do so counts."""
        if not self._outputs.has(id):
            self.write("outputs", 0, id, entry)
            self._outputs.delivered(id)

    def put(self, blob: Blob) -> None:
        """Keep an object in the store.

        Raises
        ------
        StoreError
            If the store does not take it.
        """
        if blob.digest not in self._kept:
            self.store.put(blob.digest, blob.parts)
            remember(self._kept, blob.digest, "")

    def forget_object(self, digest: str) -> None:
        """Remember no longer that the store has an object."""
        self._kept.pop(digest, None)

    def keep(self, blob: Blob) -> None:
        """Keep an object, in the spool if the store is away.

        Raises
        ------
        StoreError
            If it could be kept neither in the store nor in the spool.
        """
        if self._away:
            self._spool.keep(blob.digest, blob.parts)
            return
        try:
            # Not by memory, as in `put`: another process may have pruned it since.
            self.store.put(blob.digest, blob.parts)
        except StoreUnavailableError as error:
            self._spool.keep(blob.digest, blob.parts)
            self._pulse.start()
            self._lost_contact(error)

    # Delivering

    def flush(self, timeout: float | None = None) -> None:
        """Deliver everything that waits, of this process and of dead ones.

        Raises
        ------
        StoreError
            If the store does not take it; nothing is lost then.
        """
        self._settle_abandoned()
        if self.attendant:
            self.attendant.look()
        self._spool.deliver(self.store)
        self._deliver(timeout)
        self._journal.recover()
        self._away = False

    def settle(self) -> None:
        """Deliver what waits if the store is there; else say once that it waits."""
        if self._away:
            return
        try:
            self._settle_abandoned()
            self._deliver()
        except StoreError as error:
            self._pulse.start()
            self._lost_contact(error)

    def catch_up(self) -> None:
        """Before a question is answered: deliver what waits.

        Raises
        ------
        StoreUnavailableError
            If the store is away, so that the question cannot be answered either.
        """
        try:
            self.flush()
        except StoreUnavailableError:
            raise
        except StoreError as error:
            self._lost_contact(error)

    @property
    def waiting(self) -> int:
        """How many records and objects are not in the store yet."""
        return self._journal.waiting + sum(1 for _ in self._spool.waiting())

    def remember_allocation(self, token: str, allocation: Allocation) -> None:
        """Remember the id of a trial, for other tasks of it in this process."""
        remember(self.allocations, token, allocation)

    def conflicts(self) -> list[Conflict]:
        """Take the outputs that differ from earlier ones, found since the last call."""
        return self._outputs.conflicts()

    def _deliver(self, timeout: float | None = None) -> None:
        # One at a time, so that whoever delivers an output is the one to hold it against others.
        with self._delivering, self._outputs.compared() as existing:
            existing += self._journal.flush(timeout)

    def _lost_contact(self, error: Exception) -> None:
        if isinstance(error, StoreUnavailableError):
            if self._away:
                return
            self._away = True
            self._outputs.forget()
            self._kept.clear()  # the server may come back with less than it had
        self._complain(
            f"{str(error).rstrip('.')}. What is recorded meanwhile waits in "
            f"{str(journal_folder(self.store))!r} and is delivered when the store is back; "
            "ex.flush() does it at once."
        )

    @staticmethod
    def _complain(message: str) -> None:
        warn_user(StoreWarning(message))

    # Trials of this process

    def begun(self, trial: Trial) -> None:
        """Count a trial as alive until it ends, or until its computation is dropped."""
        self.trials.begun(trial)
        self._pulse.start()

    @contextmanager
    def visiting(self, trial: Trial) -> Iterator[None]:
        """Count a trial of another process as alive while one of its steps runs here."""
        with self.trials.visiting(trial):
            self._pulse.start()
            yield

    def attend(self, attendant: Attendant) -> None:
        """Have somebody see to the trials that other processes compute for this one."""
        self.attendant = attendant

    def wake(self) -> None:
        """Make sure that the background thread looks at what is in flight."""
        self._pulse.start()

    def _settle_abandoned(self) -> None:
        for alive in self.trials.abandoned():
            now = time.time()
            failure = Failure("Abandoned", "its computation was dropped before the trial ended")
            ended = Ended("interrupted", now, now - alive.since, failure=failure)
            self.write("trials", alive.trial, "ended-interrupted-abandoned", ended)

    # The background thread

    @property
    def busy(self) -> bool:
        """Whether trials are alive or records wait."""
        alive = bool(self.trials) or bool(self.attendant)
        return alive or self._away or self._journal.waiting > 0

    def tick(self) -> None:
        """Send signs of life, and deliver what waits."""
        try:
            alive = self.trials or self.attendant
            if alive and time.monotonic() - self._beaten >= heartbeat_timeout() / 4:
                self._beat()
            self.flush()
        except StoreError as error:
            with suppress(StoreWarning):  # here nobody would see it raised
                self._lost_contact(error)

    def _beat(self) -> None:
        clock = self.store.state().clock
        self._beaten = time.monotonic()
        away = self.attendant.numbers() if self.attendant else set()
        for trial in self.trials.numbers | away:
            self.write("beats", trial, f"{clock:.0f}-{self.pid}", Beat(clock))

    def forget(self) -> None:
        """Remember nothing of the store's content, which is about to be removed."""
        self.settle()
        if self.attendant is not None:
            self.attendant.forget()
        self._journal.close()
        self._kept.clear()
        self._outputs.forget()
        self.allocations.clear()
        self.trials.forget_ended()

    def close(self) -> None:
        """Deliver what can be delivered and let go of everything."""
        if self.pid != os.getpid():
            return  # a fork: all of this is the parent's
        self._pulse.stop()
        if self.attendant:
            self.attendant.leave()
        self.trials.abandon_all()
        self._settle_abandoned()
        # A store that is away was tried a moment ago, and the process may end at once.
        if self._away or not self._delivered():
            self._complain(
                f"{self.waiting} records and objects for {self.store.address} wait in "
                f"{str(journal_folder(self.store))!r}. The next process that opens the experiment "
                "when the store can be reached delivers them."
            )
        with suppress(StoreError):
            self.store.close()

    def _delivered(self) -> bool:
        try:
            self._spool.deliver(self.store)  # before the records that name them
            self._deliver()
        except StoreError as error:
            self._complain(str(error))
            return False
        self._journal.close()
        return True


# One recorder per store and process is what makes one journal file per process.
_RECORDERS: dict[str, Recorder] = {}
_RECORDERS_LOCK = threading.Lock()


def recorder_for(store: Store) -> Recorder:
    """Get this process's recorder for a store.

    Raises
    ------
    StoreError
        If the store is a folder that other processes see and this one does not.
    """
    recorder = _RECORDERS.get(store.address)
    if recorder is None or recorder.pid != os.getpid():
        with _RECORDERS_LOCK:
            recorder = _RECORDERS.get(store.address)
            if recorder is None or recorder.pid != os.getpid():
                check_arrival(store, whereabouts())
                recorder = _RECORDERS[store.address] = Recorder(store)
                atexit.unregister(close_recorders)
                atexit.register(close_recorders)
    recorder.admit(store)
    return recorder


def close_recorders() -> None:
    """Close all recorders of this process; asked again, they are made anew."""
    with _RECORDERS_LOCK:
        recorders = list(_RECORDERS.values())
        _RECORDERS.clear()
    for recorder in recorders:
        recorder.close()
