"""The trials that this process gave to a cluster, followed until they have ended.

A worker writes down how a trial ends. What no worker can see is written down here: workers that
were killed, an error of a task that trials share, a future that was cancelled. The client's event
loop only notes what became of a trial's last task, before anybody can release it. The recorder's
background thread, once a second, and whoever asks for the history do the rest.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from toolz import groupby

from daskperiment.client.submitted import (
    Beginning,
    SubmittedTrial,
    TaskOutcome,
    TrialBegan,
    TrialNews,
)
from daskperiment.cluster import Submission, submission
from daskperiment.codec import decode
from daskperiment.errors import CorruptRecordError, StoreError
from daskperiment.execution.context import halt_steps
from daskperiment.execution.lifecycle import failure_of, status_of
from daskperiment.execution.purity import report_impurities
from daskperiment.recording.listeners import RecorderListener
from daskperiment.recording.outputs import remember
from daskperiment.recording.recorder import Recorder
from daskperiment.records import DESERTED, Ended, EndStatus, Failure, StepRun, ended_id
from daskperiment.store.liveness import heartbeat_timeout
from daskperiment.store.protocol import Owner

__all__ = ["Tracker", "follow", "tracker_of"]

_REMEMBERED = 100_000
"""Of trials that are followed no more though they never began."""

_DESERTED = Failure("NoWorkersError", "NoWorkersError(all workers of the cluster are gone)")


def follow(
    recorder: Recorder, token: str, key: Any, in_flight: frozenset[str] = frozenset(),
    watched: bool = False, secrets: Sequence[Any] = (), signing_key: bytes | None = None,
) -> bool:  # fmt: skip
    """See to the end of a trial that a client of this process submits.

    Parameters
    ----------
    recorder : Recorder
        Of the trial's store.
    token : str
        The trial's token.
    key : hashable
        Key of its last task.
    in_flight : frozenset of str
        Cache keys whose content the trial makes.
    watched : bool
        Whether somebody calls `Tracker.note` before what became of the task is forgotten.
    secrets : sequence of Secret
        What no record of its end may quote.
    signing_key : bytes, optional
        By which that is signed.

    Returns
    -------
    bool
        False if no client submits this task, so that there is nothing to follow.
    """
    found = submission(key)
    if found is None:
        return False
    tracker = tracker_of(recorder)
    if tracker is None:
        tracker = Tracker(recorder)
        recorder.listeners.append(tracker)
    tracker.add(token, found, in_flight, watched, secrets, signing_key)
    return True


def _client_number(item: tuple[str, SubmittedTrial]) -> int:
    return id(item[1].submission.client)


def tracker_of(recorder: Recorder) -> Tracker | None:
    """Return what follows the trials of a recorder's store, ``None`` if none was ever followed."""
    return next((each for each in recorder.listeners if isinstance(each, Tracker)), None)


class Tracker(RecorderListener):
    """The trials of one store that this process submitted and that have not ended.

    Parameters
    ----------
    recorder : Recorder
        Writes down how they end.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._submitted: dict[str, SubmittedTrial] = {}
        self._begun: dict[int, SubmittedTrial] = {}
        self._given_up: OrderedDict[str, TaskOutcome] = OrderedDict()
        self._asked: set[int] = set()
        self._news = TrialNews(recorder.store)
        self._lock = threading.RLock()

    def __bool__(self) -> bool:
        return bool(self._submitted)

    def follows(self, token: str) -> bool:
        """Whether this trial is one of them."""
        return token in self._submitted

    def is_over(self, token: str) -> bool:
        """Whether nobody waits for a trial any more, so that it has an end or is about to get one.

        One that was cancelled may begin all the same, if a worker was about to begin it.
        """
        trial = self._submitted.get(token)
        return token in self._given_up if trial is None else trial.outcome() is not None

    def in_flight(self) -> frozenset[str]:
        """Cache keys whose content the trials make whose last tasks have not ended."""
        trials = [trial for trial in list(self._submitted.values()) if trial.outcome() is None]
        return frozenset().union(*(trial.in_flight for trial in trials))

    def add(
        self, token: str, submitted: Submission, in_flight: frozenset[str] = frozenset(),
        watched: bool = False, secrets: Sequence[Any] = (), signing_key: bytes | None = None,
    ) -> None:  # fmt: skip
        """Follow a trial."""
        known = self._submitted.get(token)
        if known is not None and known.submission.state is submitted.state:
            return  # the same submission: its graph is pickled more than once
        with self._lock:
            if not self._submitted:
                with suppress(StoreError):  # then all is read, once
                    self._catch_up() if self._given_up else self._news.start()
            trial = self._submitted[token] = SubmittedTrial(
                submitted, in_flight, secrets=secrets, key=signing_key
            )
        if not watched:
            # On the client's event loop: whoever waits for the future may release it at once, and
            # then nobody can tell any more how it ended.
            submitted.call(trial.watch)
        self._recorder.wake()

    def note(self, tokens: Iterable[str]) -> None:
        """Note what became of the last tasks of trials, as the client knows it at this moment."""
        for token in tokens:
            trial = self._submitted.get(token)
            if trial is not None:
                trial.note()

    def drop(self, token: str) -> None:
        """Follow a trial no more: somebody else has seen to its end."""
        trial = self._submitted.pop(token, None)
        if trial is not None and trial.began is not None:
            self._begun.pop(trial.began.trial, None)

    def find(self, token: str) -> Beginning | None:
        """Return when a trial began, if it is followed and has begun.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        trial = self._submitted.get(token)
        if trial is not None and trial.began is None:
            self._catch_up()
        return None if trial is None else trial.began

    def trials_alive(self) -> set[Owner]:
        """Return the trials that have begun and not ended.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        self._catch_up()
        trials = list(self._submitted.values())
        return {t.began.owner for t in trials if t.began is not None and not t.ended}

    def on_flush(self) -> None:
        """Write down the ends that only the client knows, and report what workers noticed.

        Raises
        ------
        StoreError
            If the store cannot be read; nothing is lost then.
        """
        with self._lock:
            trials = list(self._submitted.items())
            done = [(token, one, outcome) for token, one in trials if (outcome := one.outcome())]
            # Before the others: a cluster without workers tells nothing of its tasks.
            self._give_up([trial for _, trial in trials if trial.outcome() is None])
            if done or self._given_up:
                self._catch_up()
            over = {token: trial for token, trial, outcome in done if self._see_to(trial, outcome)}
            self._report(over)
            for token, _, outcome in done:
                if outcome.status == "cancelled":
                    halt_steps(token)  # a cluster of threads may have its workers here
            for token, trial in over.items():
                self._recorder.end(token)
                self.drop(token)
                if trial.gone and (outcome := trial.outcome()):
                    remember(self._given_up, token, outcome, _REMEMBERED)
            self._ask({token: trial for token, trial, _ in done if token not in over})

    def on_close(self) -> None:
        """Write down that trials which have not ended are given up: this process ends."""
        with self._lock, suppress(StoreError):
            self.on_flush()
            if self._submitted or self._given_up:
                self._catch_up()
            for trial in list(self._submitted.values()):
                if trial.began is not None and not trial.ended:
                    text = "the process that waited for its result ended before it did"
                    self._end(trial.began, "interrupted", Failure("Abandoned", text))
            self._clear()

    def on_loss(self) -> None:
        """Read the stream of trials from its beginning: positions may stand for others now."""
        with self._lock:
            self._news = TrialNews(self._recorder.store)

    def on_forget(self) -> None:
        """Follow nothing: the records are about to be deleted."""
        with self._lock:
            self._clear()
            self._news = TrialNews(self._recorder.store)

    def _clear(self) -> None:
        self._submitted.clear()
        self._begun.clear()
        self._given_up.clear()

    def _catch_up(self) -> None:
        with self._lock:
            for news in self._news.read():
                if isinstance(news, TrialBegan):
                    token = news.token.partition("/")[0]
                    trial = self._submitted.get(token)
                    if trial is None and token in self._given_up:
                        # Against its cluster's word: it was very late.
                        self._close(news.began, self._given_up.pop(token))
                    if trial is not None:
                        trial.began, trial.ended = news.began, False
                        self._begun[news.began.trial] = trial
                elif news in self._begun:
                    self._begun[news].ended = True

    def _see_to(self, trial: SubmittedTrial, outcome: TaskOutcome) -> bool:
        """Write the end that a trial needs, and return whether that was all."""
        if outcome.status == "finished" or trial.ended:
            return True
        if trial.began is None:
            return trial.gone
        if outcome.status == "cancelled" and trial.deserted is not None:
            self._end(trial.began, "failed", _DESERTED, key=trial.key)
        else:
            self._close(trial.began, outcome)
        return True

    def _ask(self, unclear: dict[str, SubmittedTrial]) -> None:
        """Ask clusters whether trials that are over, and never began, may still begin."""
        for number, group in groupby(_client_number, unclear.items()).items():
            submission = group[0][1].submission
            if submission.client.status == "closed":
                for _, trial in group:
                    trial.gone = True  # nobody can tell any more
            elif number not in self._asked:
                self._asked.add(number)
                keys = [trial.submission.key for _, trial in group]
                submission.ask(keys, partial(self._told, number, group))

    def _told(
        self, number: int, group: list[tuple[str, SubmittedTrial]], tasks: set[Any] | None
    ) -> None:
        if tasks is not None:
            # The keys of a trial's tasks have its token in them, but for a task that runs several.
            tokens = {part for key in tasks for part in re.split(r"\W", str(key))}
            for token, trial in group:
                trial.note_presence(token in tokens or trial.submission.key in tasks)
        self._asked.discard(number)

    def _close(self, began: Beginning, outcome: TaskOutcome) -> None:
        error = outcome.error
        if error is None:
            failure = Failure("CancelledError", "its computation was cancelled")
            return self._end(began, "interrupted", failure, key=outcome.key)
        failure = failure_of(error.with_traceback(outcome.traceback), secrets=outcome.secrets)
        if outcome.status == "cancelled":
            return self._end(began, "interrupted", failure, key=outcome.key)
        known = self._failed_step(began.trial, failure)
        return self._end(began, status_of(error), known or failure, key=outcome.key)

    def _give_up(self, trials: list[SubmittedTrial]) -> None:
        """Write down that trials failed whose cluster has had no workers for long.

        A success outweighs it, should workers come back.
        """
        for trial in trials:
            trial.note_workers()
        limit = time.monotonic() - heartbeat_timeout()
        alone = [one for one in trials if one.deserted is not None and one.deserted < limit]
        if alone:
            self._catch_up()
        for trial in alone:
            if trial.began is not None and not trial.ended:
                self._end(trial.began, "failed", _DESERTED, DESERTED, trial.key)

    def _failed_step(self, trial: int, failure: Failure) -> Failure | None:
        """Return the failure of the step that raised an error, as it wrote it down."""
        for record in self._recorder.store.read("steps", [trial]):
            with suppress(CorruptRecordError):
                found = decode(record.body, StepRun).failure
                if found is not None and found.description == failure.description:
                    return found
        return None

    def _end(
        self, began: Beginning, status: EndStatus, failure: Failure, id: str | None = None,
        key: bytes | None = None,
    ) -> None:  # fmt: skip
        now = time.time()
        ended = Ended(status, now, max(0.0, now - began.started), failure=failure)
        id = id or ended_id(status, "caller")
        self._recorder.write_signed("trials", began.trial, id, ended, began.owner, key)

    def _report(self, over: dict[str, SubmittedTrial]) -> None:
        """Warn here, in the process of the user, of impure steps that workers found."""
        told = self._recorder.trials.has_ended
        trials = [one.began.trial for token, one in over.items() if one.began and not told(token)]
        if trials:
            with suppress(Warning):  # made an error by a filter, nobody would see it here
                report_impurities(self._recorder.store, trials)
