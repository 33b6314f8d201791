"""Seeing to trials that this process gave to a cluster, until they have ended.

A worker writes down how a trial ends. What no worker can see is written down here: workers that
were killed, an error of a task that trials share, a future that was cancelled. The client's event
loop only notes what became of a trial's last task, before anybody can release it. The recorder's
background thread, once a second, and whoever asks for the history do the rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from daskperiment.client.submitted import Begin, BeginNews, Flight, News, Outcome
from daskperiment.cluster import Submission, submission
from daskperiment.codec import decode
from daskperiment.errors import CorruptRecordError, StoreError
from daskperiment.execution.lifecycle import DESERTED, failure_of, status_of
from daskperiment.planning.changes import report_impurities
from daskperiment.recording.recorder import Recorder
from daskperiment.records import Ended, EndStatus, Failure, StepRun
from daskperiment.store.liveness import heartbeat_timeout

__all__ = ["Followed", "follow", "followed"]

PATIENCE = 10.0
"""Seconds in which a trial that was cancelled may still begin, on a worker that was at it."""

_DESERTED = Failure("NoWorkersError", "NoWorkersError(all workers of the cluster are gone)")


def follow(
    recorder: Recorder, token: str, key: Any, keep: Any = None, witnessed: bool = False
) -> bool:
    """See to the end of a trial that a client of this process submits.

    Parameters
    ----------
    recorder : Recorder
        Of the trial's store.
    token : str
        The trial's token.
    key : hashable
        Key of its last task.
    keep : object, optional
        Held until the trial is known to have ended.
    witnessed : bool
        Whether somebody calls `Followed.witness` before what became of the task is forgotten.

    Returns
    -------
    bool
        False if no client submits this task, so that there is nothing to follow.
    """
    found = submission(key)
    if found is None:
        return False
    if recorder.attendant is None:
        recorder.attend(Followed(recorder))
    attendant = recorder.attendant
    if isinstance(attendant, Followed):
        attendant.add(token, found, keep, witnessed)
    return True


def followed(recorder: Recorder) -> Followed | None:
    """Give the trials that are followed, ``None`` if there never was one."""
    attendant = recorder.attendant
    return attendant if isinstance(attendant, Followed) else None


class Followed:
    """The trials of one store that this process submitted and that have not ended.

    Parameters
    ----------
    recorder : Recorder
        Writes down how they end.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._flights: dict[str, Flight] = {}
        self._begun: dict[int, Flight] = {}
        self._news = News(recorder.store)
        self._lock = threading.RLock()

    def __bool__(self) -> bool:
        return bool(self._flights)

    def follows(self, token: str) -> bool:
        """Whether this trial is one of them."""
        return token in self._flights

    def kept(self) -> list[Any]:
        """Give what is held for the trials that are in flight."""
        flights = list(self._flights.values())
        return [f.keep for f in flights if f.keep is not None and f.outcome() is None]

    def add(
        self, token: str, submitted: Submission, keep: Any = None, witnessed: bool = False
    ) -> None:
        """Follow a trial."""
        known = self._flights.get(token)
        if known is not None and known.submission.state is submitted.state:
            return  # the same submission: its graph is pickled more than once
        with self._lock:
            if not self._flights:
                with suppress(StoreError):  # then all is read, once
                    self._news.start()
            flight = self._flights[token] = Flight(submitted, keep)
        if not witnessed:
            submitted.call(flight.watch)
        self._recorder.wake()

    def witness(self, tokens: Iterable[str]) -> None:
        """Note what became of the last tasks of trials, as the client knows it at this moment."""
        for token in tokens:
            flight = self._flights.get(token)
            if flight is not None:
                flight.note()

    def drop(self, token: str) -> None:
        """Follow a trial no more: somebody else has seen to its end."""
        flight = self._flights.pop(token, None)
        if flight is not None and flight.begin is not None:
            self._begun.pop(flight.begin.trial, None)

    def find(self, token: str) -> Begin | None:
        """Tell how a trial began, if it is followed and has begun.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        flight = self._flights.get(token)
        if flight is not None and flight.begin is None:
            self._catch_up()
        return None if flight is None else flight.begin

    def numbers(self) -> set[int]:
        """Give the ids of the trials that are in flight, to be kept alive.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        self._catch_up()
        flights = list(self._flights.values())
        return {f.begin.trial for f in flights if f.begin is not None and not f.ended}

    def look(self) -> None:
        """Write down the ends that only the client knows, and report what workers noticed.

        Raises
        ------
        StoreError
            If the store cannot be read; nothing is lost then.
        """
        with self._lock:
            flights = list(self._flights.items())
            done = [(token, f, outcome) for token, f in flights if (outcome := f.outcome())]
            self._give_up([flight for _, flight in flights if flight.outcome() is None])
            if not done:
                return
            self._catch_up()
            over = {t: flight for t, flight, outcome in done if self._is_over(flight, outcome)}
            self._report(over)
            for token in over:
                self._recorder.trials.ended(token)
                self.drop(token)

    def leave(self) -> None:
        """Write down that trials in flight are given up: this process ends."""
        with self._lock, suppress(StoreError):
            self.look()
            if self._flights:
                self._catch_up()
            for flight in list(self._flights.values()):
                if flight.begin is not None and not flight.ended:
                    text = "the process that waited for its result ended before it did"
                    self._end(flight.begin, "interrupted", Failure("Abandoned", text))
            self._clear()

    def forget(self) -> None:
        """Follow nothing: the records are about to be deleted."""
        with self._lock:
            self._clear()
            self._news = News(self._recorder.store)

    def _clear(self) -> None:
        self._flights.clear()
        self._begun.clear()

    def _catch_up(self) -> None:
        with self._lock:
            for news in self._news.read():
                if isinstance(news, BeginNews):
                    flight = self._flights.get(news.token.partition("/")[0])
                    if flight is not None:
                        flight.begin, flight.ended = news.begin, False
                        self._begun[news.begin.trial] = flight
                elif news in self._begun:
                    self._begun[news].ended = True

    def _is_over(self, flight: Flight, outcome: Outcome) -> bool:
        """Tell whether a trial needs no more attention, having given it what it needed."""
        if outcome.status == "finished" or flight.ended:
            return True
        if flight.begin is None:
            return flight.age() > PATIENCE
        if outcome.status == "cancelled" and flight.deserted is not None:
            self._end(flight.begin, "failed", _DESERTED)
        else:
            self._close(flight.begin, outcome)
        return True

    def _close(self, begin: Begin, outcome: Outcome) -> None:
        error = outcome.error
        if error is None:
            failure = Failure("CancelledError", "its computation was cancelled")
            return self._end(begin, "interrupted", failure)
        failure = failure_of(error.with_traceback(outcome.traceback))
        if outcome.status == "cancelled":
            return self._end(begin, "interrupted", failure)
        known = self._failed_step(begin.trial, failure)
        return self._end(begin, status_of(error), known or failure)

    def _give_up(self, flights: list[Flight]) -> None:
        """Write down that trials failed whose cluster has had no workers for long.

        A success outweighs it, should workers come back.
        """
        for flight in flights:
            flight.look_for_workers()
        limit = time.monotonic() - heartbeat_timeout()
        lone = [f for f in flights if f.deserted is not None and f.deserted < limit]
        if lone:
            self._catch_up()
        for flight in lone:
            if flight.begin is not None and not flight.ended:
                self._end(flight.begin, "failed", _DESERTED, DESERTED)

    def _failed_step(self, trial: int, failure: Failure) -> Failure | None:
        """Find the step of the trial that raised an error, as it wrote it down."""
        for record in self._recorder.store.read("steps", [trial]):
            with suppress(CorruptRecordError):
                found = decode(record.body, StepRun).failure
                if found is not None and found.description == failure.description:
                    return found
        return None

    def _end(
        self, begin: Begin, status: EndStatus, failure: Failure, id: str | None = None
    ) -> None:
        now = time.time()
        ended = Ended(status, now, max(0.0, now - begin.started), failure=failure)
        self._recorder.write("trials", begin.trial, id or f"ended-{status}-caller", ended)

    def _report(self, over: dict[str, Flight]) -> None:
        """Warn here, in the process of the user, of impure steps that workers found."""
        told = self._recorder.trials.has_ended
        trials = [f.begin.trial for token, f in over.items() if f.begin and not told(token)]
        if trials:
            with suppress(Warning):  # made an error by a filter, nobody would see it here
                report_impurities(self._recorder.store, trials)
