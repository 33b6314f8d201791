"""What records the trials of one store in this process.

Records are delivered at the end of a trial (or of a step in a process that does not compute the
trial), and once a second from a background thread that also sends signs of life.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import uuid
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from daskperiment.codec import encode, sealed, signed
from daskperiment.errors import StoreError, StoreUnavailableError, StoreWarning
from daskperiment.recording.delivery import Delivery
from daskperiment.recording.heartbeat import Heartbeat
from daskperiment.recording.outputs import ObservedOutputs, remember
from daskperiment.records import Beat, CacheEntry, Ended, Failure, Output, Point, beat_id, ended_id
from daskperiment.store.liveness import heartbeat_timeout
from daskperiment.store.protocol import Allocation, Record, Store

__all__ = ["Recorder", "RecorderListener", "RunningTrial", "RunningTrials"]


class RecorderListener:
    """Somebody who takes part in what a recorder does now and then.

    Such as whoever follows trials that other processes compute. Each method may be left out.
    """

    def __bool__(self) -> bool:
        """Whether the background thread has to run for it."""
        return False

    def on_flush(self) -> None:
        """Write what is still to be written, before all is delivered; may raise StoreError."""

    def trials_alive(self) -> set[int]:
        """Return the ids of trials to send signs of life for; may raise StoreError."""
        return set()

    def on_beat(self, trials: set[int]) -> None:
        """Look after the trials that run here, a few times a minute; may raise StoreError."""

    def on_close(self) -> None:
        """Write what is still to be written: the process ends."""

    def on_forget(self) -> None:
        """Forget what was read of the store: its records are about to be deleted."""


class Recorder:
    """Records what happens in this process's trials of one store.

    Parameters
    ----------
    store : Store
        Where records end up.

    Attributes
    ----------
    trials : RunningTrials
        The trials to send signs of life for.
    outputs : ObservedOutputs
        What steps returned, to be held against what they returned before.
    delivery : Delivery
        The way to the store, of records and of objects.
    listeners : list of RecorderListener
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.pid = os.getpid()
        self.trials = RunningTrials()
        self.outputs = ObservedOutputs()
        self.listeners: list[RecorderListener] = []
        self._heartbeat = Heartbeat(self)
        self.delivery = Delivery(store, self.outputs, self.wake)
        self._journal = self.delivery.journal
        self._beaten = 0.0
        self._name = f"{self.pid}.{uuid.uuid4().hex[:8]}"
        self._beats = itertools.count()
        self._closed = False
        self._allocations: OrderedDict[str, Allocation] = OrderedDict()

    # Writing

    def write(self, stream: str, trial: int, id: str, record: Struct) -> None:
        """Write a record down. Never raises: what cannot be recorded is said in a warning."""
        written = Record(stream, trial, id, encode(record))
        if self.delivery.stuck:
            self.delivery.write_held()
        try:
            self._journal.write(written)
        except StoreError as error:
            self.delivery.hold(written, error)

    def point(self, trial: int, point: Point) -> None:
        """Write a metric point down. Never raises, as `write`."""
        if self.delivery.stuck:
            self.delivery.write_held()
        try:
            self._journal.point(trial, point)
        except StoreError as error:
            body = sealed(b'{"points":[%b]}' % msgspec.json.encode(point))
            self.delivery.hold(Record("points", trial, uuid.uuid4().hex, body), error)
        if not self._heartbeat.runs:
            self._heartbeat.start()

    def output(self, id: str, output: Output) -> None:
        """Write down what a step returned, to be held against what it returned before."""
        if not self.outputs.has(id, output.output):
            self.outputs.add(id, output, lambda: self.write("outputs", 0, id, output))

    def entry(self, ids: Iterable[str], entry: CacheEntry, key: bytes | None = None) -> None:
        """Write down what is known under cache keys, signed if there is a signing key.

        The first to do so counts.
        """
        for id in self.outputs.unknown(ids):
            known = entry if key is None else signed(entry, key, self.store.address, id)
            self.write("outputs", 0, id, known)
            self.outputs.delivered(id)

    # Trials of this process

    def begin(self, trial: int, token: str, handle: object | None) -> None:
        """Count a trial as running until it ends, or until its handle is dropped."""
        self.trials.begin(trial, token, handle)
        if not self._heartbeat.runs:
            self._heartbeat.start()

    def visit(self, trial: int, token: str) -> AbstractContextManager[None]:
        """Count a trial of another process as running while one of its steps runs here."""
        self._heartbeat.start()
        return self.trials.visit(trial, token)

    def has_settled(self, token: str) -> bool:
        """Whether a trial ended in this process, and left nothing for its caller to see to."""
        ended = self.trials.has_ended(token)
        return ended and not self.listeners and not self.outputs.found_conflicts

    def allocation(self, token: str) -> Allocation | None:
        """Return the id that a trial was given by this process, None if by none or long ago."""
        return self._allocations.get(token)

    def remember_allocation(self, token: str, allocation: Allocation) -> None:
        """Remember the id of a trial, for other tasks of it in this process."""
        remember(self._allocations, token, allocation)

    # Delivering

    def settle(self) -> None:
        """Deliver the records that wait if the store is there; else say once that they wait."""
        delivery = self.delivery
        if delivery.away:
            return
        self._end_dropped()
        try:
            delivery.deliver()
        except StoreError as error:
            delivery.lost_contact(error)

    def flush(self, timeout: float | None = None) -> None:
        """Deliver everything that waits, of this process and of dead ones.

        Raises
        ------
        StoreError
            If the store does not take it; nothing is lost then.
        """
        # Ends that only this process can write go with the rest.
        self._end_dropped()
        for listener in self.listeners:
            listener.on_flush()
        self.delivery.flush(timeout)

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
            self.delivery.lost_contact(error)

    def _end_dropped(self) -> None:
        for running in self.trials.take_dropped():
            self._end_abandoned(running)

    def _end_abandoned(self, running: RunningTrial) -> None:
        now = time.time()
        failure = Failure("Abandoned", "its computation was dropped before the trial ended")
        ended = Ended("interrupted", now, now - running.since, failure=failure)
        self.write("trials", running.trial, ended_id("interrupted", "abandoned"), ended)

    # The background thread

    def wake(self) -> None:
        """Start the background thread unless it runs."""
        self._heartbeat.start()

    @property
    def busy(self) -> bool:
        """Whether trials run or records wait."""
        running = bool(self.trials) or any(self.listeners)
        waiting = self.delivery.away or self.delivery.holds or self._journal.waiting > 0
        return running or waiting

    def tick(self) -> None:
        """Send signs of life, and deliver what waits."""
        try:
            running = self.trials or any(self.listeners)
            if running and time.monotonic() - self._beaten >= heartbeat_timeout() / 4:
                self._beat()
            self.flush()
        except StoreError as error:
            if not self._closed:  # else it was said, and the store is closed under this thread
                with suppress(StoreWarning):  # here nobody would see it raised
                    self.delivery.lost_contact(error)

    def _beat(self) -> None:
        clock = self.store.state().clock
        self._beaten = time.monotonic()
        # By the store's clock: those of two hosts may differ by more than the timeout.
        elsewhere = [listener.trials_alive() for listener in self.listeners]
        here = self.trials.numbers
        for listener in self.listeners:
            listener.on_beat(here)
        id = beat_id(clock, self._name, next(self._beats))
        for trial in here.union(*elsewhere):
            self.write("beats", trial, id, Beat(clock))

    # The end

    def forget(self) -> None:
        """Remember nothing of the store's content, which is about to be removed."""
        self.settle()
        for listener in self.listeners:
            listener.on_forget()
        self._journal.close()
        self.delivery.forget()
        self._allocations.clear()
        self.trials.forget_ended()

    def close(self) -> None:
        """Deliver what can be delivered and let go of everything."""
        if self.pid != os.getpid():
            return  # a fork: all of this is the parent's
        self._closed = True
        self._heartbeat.stop()
        for listener in self.listeners:
            listener.on_close()
        self.trials.drop_all()
        self._end_dropped()
        self.delivery.close()
        with suppress(StoreError):
            self.store.close()


class RunningTrial(NamedTuple):
    """A trial that this process keeps alive."""

    trial: int
    since: float
    finalizer: weakref.finalize[[str], Any] | None


class RunningTrials:
    """Which trials run here: begun and not ended, or another process's while one step runs."""

    def __init__(self) -> None:
        self._running: dict[str, RunningTrial] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._dropped: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self._running)

    @property
    def numbers(self) -> set[int]:
        """Ids of the trials that run."""
        return {running.trial for running in list(self._running.values())}

    def begin(self, trial: int, token: str, handle: object | None = None) -> None:
        """Count a trial as running until it ends.

        Parameters
        ----------
        trial : int
            Its id.
        token : str
        handle : object, optional
            Counts as dropped when this is garbage; without one whoever follows the trial knows.
        """
        finalizer = None
        if handle is not None:
            # A garbage collector may run this anywhere: it must take no lock.
            finalizer = weakref.finalize(handle, self._dropped.append, token)
            finalizer.atexit = False  # whoever closes asks for those that are left
        self._running[token] = RunningTrial(trial, time.time(), finalizer)

    def end(self, token: str) -> None:
        """Count a trial as ended."""
        running = self._running.pop(token, None)
        if running is not None and running.finalizer is not None:
            running.finalizer.detach()
        remember(self._ended, token, "")

    def has_ended(self, token: str) -> bool:
        """Whether the trial ended in this process, lately."""
        return token in self._ended

    @contextmanager
    def visit(self, trial: int, token: str) -> Iterator[None]:
        """Count a trial of another process as running while one of its steps runs here."""
        visit = f"{token}/{threading.get_ident()}"
        self._running[visit] = RunningTrial(trial, time.time(), None)
        try:
            yield
        finally:
            self._running.pop(visit, None)

    def take_dropped(self) -> list[RunningTrial]:
        """Return the trials whose computation was dropped before they ended, each once."""
        found = []
        while self._dropped:
            running = self._running.pop(self._dropped.popleft(), None)
            if running is not None:
                found.append(running)
        return found

    def drop_all(self) -> None:
        """Count all as dropped: the process ends."""
        self._dropped.extend(self._running)

    def forget_ended(self) -> None:
        """Forget which trials ended here."""
        self._ended.clear()
