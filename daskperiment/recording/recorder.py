"""What records the trials of one store in this process.

Records are delivered at the end of a trial (or of a step in a process that does not compute the
trial), and once a second from a background thread that also sends signs of life. Those of short
trials that one task of a cluster runs are delivered together, at the end of the task at the latest.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import uuid
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from daskperiment.codec import encode, sealed, signed
from daskperiment.errors import StoreError, StoreUnavailableError, StoreWarning
from daskperiment.recording.delivery import Delivery
from daskperiment.recording.heartbeat import TICK, Heartbeat
from daskperiment.recording.journal import SeriesWriter
from daskperiment.recording.listeners import RecorderListener
from daskperiment.recording.outputs import DREW, ObservedOutputs, remember
from daskperiment.recording.record_signer import RecordSigner
from daskperiment.recording.system_metrics import SystemMetrics, WatchedTrial
from daskperiment.recording.witness import forget_seen, note_seen
from daskperiment.records import (
    BEGUN,
    Beat,
    CacheEntry,
    Ended,
    Failure,
    LogPiece,
    Output,
    Point,
    beat_id,
    ended_id,
)
from daskperiment.store.liveness import heartbeat_timeout
from daskperiment.store.opening import let_go
from daskperiment.store.protocol import Allocation, Owner, Record, Store

__all__ = ["BegunTrial", "Recorder", "RunningTrial", "RunningTrials"]

_TOGETHER = 0.1
"""Seconds for which the ends of a batch's trials wait for each other."""


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
    system : SystemMetrics
        What they use of the machine.
    outputs : ObservedOutputs
        What steps returned, to be held against what they returned before.
    delivery : Delivery
        The way to the store, of records and of objects.
    listeners : list of RecorderListener
    steps_here : callable
        Returns for each trial the steps of it that run in this process, and since when. Whoever
        runs steps sets it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.pid = os.getpid()
        self.trials = RunningTrials()
        self.system = SystemMetrics()
        self.outputs = ObservedOutputs()
        self.listeners: list[RecorderListener] = []
        self.steps_here: Callable[[], dict[Owner, dict[str, float]]] = dict
        self._told: dict[Owner, dict[str, float]] = {}
        self._heartbeat = Heartbeat(self)
        self.delivery = Delivery(store, self.outputs, self.wake)
        self.delivery.on_loss = self._on_loss
        self.delivery.writes.running = lambda: self.trials.owners
        self._journal = self.delivery.journal
        self._journal.on_much = self._heartbeat.hasten
        self._beaten = self._clock = 0.0
        """When signs of life were sent last, by the own clock and by the store's."""
        self._gathering = 0.0
        """Since when ends wait for others, 0 if none does."""
        self._name = f"{self.pid}.{uuid.uuid4().hex[:8]}"
        self._beats = itertools.count()
        self._closed = False
        self.signer = RecordSigner(store.address, self._name)
        self._begun: OrderedDict[str, BegunTrial] = OrderedDict()

    # Writing

    def write(
        self, stream: str, trial: int, id: str, record: Struct, owner: Owner | None = None
    ) -> bool:
        """Write a record down. Never raises: what cannot be recorded is said in a warning.

        Return whether it survives SIGKILL of this process: not if it waits in memory.
        """
        written = Record(stream, trial, id, encode(record, trial), owner)
        if self.delivery.stuck:
            self.delivery.write_held()
        try:
            self._journal.write(written)
        except StoreError as error:
            return self.delivery.hold(written, error)
        return True

    def write_signed(
        self, stream: str, trial: int, id: str, record: Any, owner: Owner, key: bytes | None
    ) -> bool:
        """Write a record of a trial down, with its number and signature if there is a key."""
        if key is None:
            return self.write(stream, trial, id, record, owner)
        self.delivery.writes.key = key
        with self.signer.lock:
            return self.write(stream, trial, id, self.signer.record(record, owner, key), owner)

    def write_note(self, trial: int, id: str, record: Any) -> None:
        """Write a note on a trial of this process, signed if its records are."""
        owner = self.owner_of(trial)
        key = None if owner is None else self.delivery.writes.key
        if owner is None or key is None:
            self.write("notes", trial, id, record, owner)
        else:
            self.write_signed("notes", trial, id, record, owner, key)

    def point(self, owner: Owner, point: Point, key: bytes | None = None) -> None:
        """Write a metric point of a trial down. Never raises, as `write`."""
        if key is not None:
            with self.signer.lock:
                self.point(owner, self.signer.point(owner, point, key))
            return
        if self.delivery.stuck:
            self.delivery.write_held()
        try:
            self._journal.point(owner.trial, point, owner)
        except StoreError as error:
            body = sealed(b'{"points":[%b]}' % msgspec.json.encode(point), owner.trial)
            id = uuid.uuid4().hex
            self.delivery.hold(Record("points", owner.trial, id, body, owner), error)
        if not self._heartbeat.runs:
            self._heartbeat.start()

    def writer(self, store: Store, owner: Owner, metric: str) -> SeriesWriter:
        """Return what writes points of a metric of a trial, as long as nothing unusual happens."""
        if self._heartbeat.runs and not self.delivery.stuck and not self._closed:
            self._journal.quicken()
        return SeriesWriter(self._journal, store, owner, metric)

    def pieces(
        self, owner: Owner, pieces: Sequence[LogPiece], patience: float, key: bytes | None = None
    ) -> bool:  # fmt: skip
        """Write pieces of a trial's log down, as `Journal.pieces`. Never raises, as `write`."""
        if key is not None:
            with self.signer.lock:
                made = self.signer.pieces(owner, pieces, key, numbered=True)
                taken = self.pieces(owner, made, patience)
                if not taken:
                    self.signer.forget(owner, len(made))
                return taken
        if self.delivery.stuck:
            self.delivery.write_held()
        try:
            taken = self._journal.pieces(owner.trial, pieces, owner, patience)
        except StoreError as error:
            taken, lines = True, b",".join(map(msgspec.json.encode, pieces))
            body = sealed(b'{"lines":[%b]}' % lines, owner.trial)
            self.delivery.hold(Record("logs", owner.trial, uuid.uuid4().hex, body, owner), error)
        return taken

    def output(self, id: str, output: Output, owner: Owner | None = None) -> None:
        """Write down what a step returned, to be held against what it returned before."""
        if not self.outputs.has(id, output.output):
            self.outputs.add(id, output, lambda: self.write("outputs", 0, id, output, owner))

    def entry(
        self, ids: Iterable[str], entry: CacheEntry, owner: Owner | None = None,
        key: bytes | None = None,
    ) -> None:  # fmt: skip
        """Write down what is known under cache keys, signed if there is a signing key.

        The first to do so counts.
        """
        for id in self.outputs.unknown(ids):
            known = entry if key is None else signed(entry, key, self.store.address, id)
            self.write("outputs", 0, id, known, owner)
            self.outputs.delivered(id, DREW if entry.drew else "")

    # Trials of this process

    def begin(
        self, owner: Owner, token: str, handle: object | None, key: bytes | None = None,
        every: float = 0.0,
    ) -> None:  # fmt: skip
        """Count a trial as running until it ends, or until its handle is dropped.

        By `key` its end is signed then, and what it uses is looked at so often.
        """
        self.trials.begin(owner, token, handle, key, every)
        if not self._heartbeat.runs:
            self._heartbeat.start()

    def end(self, token: str) -> None:
        """Count a trial as ended, and hold on to none of its values."""
        self.trials.end(token)
        self.outputs.changes.pop(token, None)

    def visit(
        self, owner: Owner, token: str, begun: bytes, key: bytes | None = None, every: float = 0.0
    ) -> AbstractContextManager[None]:
        """Count a trial of another process as running while one of its steps runs here."""
        writes = self.delivery.writes
        if owner not in writes.begun:
            remember(writes.begun, owner, begun)
            writes.known = writes.known or Record("trials", owner.trial, BEGUN, b"", owner)
            if writes.deletion is None:
                writes.look_for_deletion()
        self._heartbeat.start()
        if every:
            self.system.note_place(self.pid)
        return self.trials.visit(owner, token, key, every)

    def has_settled(self, token: str) -> bool:
        """Whether a trial ended in this process, and left nothing for its caller to see to."""
        ended = self.trials.has_ended(token)
        return ended and not self.listeners and not self.outputs.found_conflicts

    def begun(self, token: str) -> BegunTrial | None:
        """Return what a trial began with in this process, None if in none or long ago."""
        return self._begun.get(token)

    def owner_of(self, trial: int) -> Owner | None:
        """Return the latest trial of this id that this process wrote to, None if it is long ago."""
        owners = reversed(list(self.delivery.writes.begun))
        return next((owner for owner in owners if owner.trial == trial), None)

    def remember_begun(self, token: str, begun: BegunTrial) -> None:
        """Remember what a trial began with, for other tasks of it in this process."""
        remember(self._begun, token, begun)
        writes, owner = self.delivery.writes, begun.owner
        remember(writes.begun, owner, begun.first_record)
        writes.known = Record("trials", owner.trial, BEGUN, b"", owner)
        if writes.deletion is None:
            writes.look_for_deletion()

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

    def settle_soon(self) -> None:
        """Deliver as `settle`, but together what many short trials write one after the other.

        It stands in the journal meanwhile. Outputs that others wait for do not wait.
        """
        now = time.monotonic()
        self._gathering = self._gathering or now
        if now - self._gathering > _TOGETHER or self.delivery.claims.made:
            self.settle_gathered()

    def settle_gathered(self) -> None:
        """Deliver what waits after `settle_soon`: no more comes soon."""
        self._gathering = 0.0
        self.settle()

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
        if not self._heartbeat.runs:
            self._heartbeat.start()  # which lets go of what the question opens
        self.hand_over()

    def hand_over(self) -> None:
        """Deliver what waits; as `catch_up`, for who lets go of the store at once."""
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
        id, owner = ended_id("interrupted", "abandoned"), running.owner
        self.write_signed("trials", owner.trial, id, ended, owner, running.key)

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
            self._tell_steps()
            for each, point in self.system.points(
                self.trials.watched, self.delivery.writes.begun.get
            ):
                self.point(each.owner, point, each.key)
            self.flush()
        except StoreWarning:
            return  # of a loss, made an error by a filter: here nobody would see it raised
        except StoreError as error:
            if not self._closed:  # else it was said, and the store is closed under this thread
                with suppress(StoreWarning):  # here nobody would see it raised
                    self.delivery.lost_contact(error)

    def rest(self) -> None:
        """Close the files, which are opened again when they are needed: nothing is to do."""
        self._note_seen()
        self.delivery.rest()
        let_go(self.store)

    def _note_seen(self) -> None:
        writes = self.delivery.writes
        if writes.key is not None and not self.delivery.waiting:
            owner = None if writes.known is None else writes.known.owner
            note_seen(self.store, owner, writes.key, self.signer.notes())

    def _beat(self) -> None:
        known = self.delivery.writes.known
        state = self.store.state(known)
        clock = state.clock
        if not state.stands:
            self.delivery.went_back(state.latest, known)
        self._beaten, self._clock = time.monotonic(), clock
        # By the store's clock: those of two hosts may differ by more than the timeout.
        elsewhere = [listener.trials_alive() for listener in self.listeners]
        here = self.trials.owners
        for listener in self.listeners:
            listener.on_beat({owner.trial for owner in here})
        self._told = {owner: steps for owner, steps in self._long_steps().items() if owner in here}
        for owner in here.union(*elsewhere):
            self._write_beat(owner, clock)

    def _long_steps(self) -> dict[Owner, dict[str, float]]:
        """Return which steps run here for a second or longer: of short ones nothing is told."""
        now = time.time()
        found = {
            owner: {key: since for key, since in steps.items() if now - since >= TICK}
            for owner, steps in self.steps_here().items()
        }
        return {owner: steps for owner, steps in found.items() if steps}

    def _tell_steps(self) -> None:
        """Tell of steps that run, besides what the regular signs of life told."""
        new = {
            owner: steps for owner, steps in self._long_steps().items()
            if not steps.items() <= self._told.get(owner, {}).items()
        }  # fmt: skip
        here = self.trials.owners if new else set()
        for owner in here & new.keys():
            self._told[owner] = new[owner]
            # What the store's clock shows, without asking for it once more.
            self._write_beat(owner, self._clock + time.monotonic() - self._beaten)

    def _write_beat(self, owner: Owner, clock: float) -> None:
        id = beat_id(clock, self._name, next(self._beats))
        self.write("beats", owner.trial, id, Beat(clock, self._told.get(owner, {})), owner)

    # The end

    def _on_loss(self) -> None:
        for listener in self.listeners:
            listener.on_loss()

    def delete(self) -> None:
        """Delete all that the store has, and what waits here for it: nothing of it comes back.

        Raises
        ------
        StoreError
            If the store cannot be deleted; what waits is still there then.
        """
        for listener in self.listeners:
            listener.on_forget()
        self.delivery.delete()
        forget_seen(self.store)
        self.trials.take_dropped()
        self._begun.clear()
        self.trials.forget_ended()

    def close(self) -> None:
        """Deliver what can be delivered and let go of everything."""
        if self.pid != os.getpid():
            return  # a fork: all of this is the parent's
        self._closed = True
        self._journal.slow_down()
        self._heartbeat.stop()
        for listener in self.listeners:
            listener.on_close()
        self.trials.drop_all()
        self._end_dropped()
        self.delivery.close()
        self._note_seen()
        with suppress(StoreError):
            self.store.close()


class BegunTrial(NamedTuple):
    """What a trial began with."""

    allocation: Allocation
    owner: Owner
    first_record: bytes
    over: bool = False
    """Whether it ended before its own first task came."""


class RunningTrial(NamedTuple):
    """A trial that this process keeps alive."""

    owner: Owner
    since: float
    finalizer: weakref.finalize[[str], Any] | None
    key: bytes | None = None
    """By which its records are signed."""
    every: float = 0.0
    """Seconds between two looks at what it uses of the machine; 0 if there are none."""
    at_home: bool = True
    """Whether this process computes it."""


class RunningTrials:
    """Which trials run here: begun and not ended, or another process's while one step runs."""

    def __init__(self) -> None:
        self._running: dict[str, RunningTrial] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._dropped: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self._running)

    @property
    def watched(self) -> list[WatchedTrial]:
        """The trials whose use of the machine is looked at."""
        running = [one for one in list(self._running.values()) if one.every]
        return [WatchedTrial(one.owner, one.since, one.every, one.key, one.at_home)
                for one in running]  # fmt: skip

    @property
    def owners(self) -> set[Owner]:
        """The trials that run, with their tokens in the store."""
        return {running.owner for running in list(self._running.values())}

    def begin(
        self, owner: Owner, token: str, handle: object | None = None, key: bytes | None = None,
        every: float = 0.0,
    ) -> None:  # fmt: skip
        """Count a trial as running until it ends.

        Parameters
        ----------
        owner : Owner
            Its id, and its token in the store.
        token : str
            The token that it was asked for with.
        handle : object, optional
            Counts as dropped when this is garbage; without one whoever follows the trial knows.
        key : bytes, optional
            By which its records are signed.
        every : float
            Seconds between two looks at what it uses of the machine.
        """
        finalizer = None
        if handle is not None:
            # A garbage collector may run this anywhere: it must take no lock.
            finalizer = weakref.finalize(handle, self._dropped.append, token)
            finalizer.atexit = False  # whoever closes asks for those that are left
        self._running[token] = RunningTrial(owner, time.time(), finalizer, key, every)

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
    def visit(
        self, owner: Owner, token: str, key: bytes | None = None, every: float = 0.0
    ) -> Iterator[None]:
        """Count a trial of another process as running while one of its steps runs here."""
        visit = f"{token}/{threading.get_ident()}"
        self._running[visit] = RunningTrial(owner, time.time(), None, key, every, at_home=False)
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
