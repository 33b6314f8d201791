"""Who takes part in the storm, each in a process of its own; run by `processes.Nursery`.

All of a trial follows from its token: whoever sees a row, a point or a kept value can tell
whether it belongs to that trial. What had returned is told in files, which a kill leaves.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import dask
import distributed
import git
import msgspec
import numpy as np
import pymongo
import redis

import daskperiment
from daskperiment import dashboard, experiment
from daskperiment.copying import copy
from daskperiment.errors import DaskperimentWarning, StoreError
from daskperiment.recording.registry import close_recorders, recorder_for
from tests.survival.forks import take_orders

__all__ = [
    "ID",
    "Logbook",
    "Told",
    "check_rows",
    "check_trials",
    "kept_by",
    "number_of",
    "points_in",
]

ID = "storm"
EPOCHS = 6
PRELOADED = (experiment, distributed, git, pymongo, redis, dashboard)
"""What the roles need sooner or later, imported before they are forked."""


def number_of(token: str) -> int:
    """Return the number that a trial's result, points and kept value are made of."""
    return int(hashlib.sha256(token.encode()).hexdigest()[:6], 16)


def kept_by(token: str) -> Any:
    """Return what the trial of a token keeps: of one in 40 so much that it is a file."""
    number = number_of(token)
    return np.arange(200_000.0 if number % 40 == 0 else 2_000.0) + number


class Told(NamedTuple):
    """What writers had told when it was read."""

    points: dict[int, set[int]]
    """Trial -> the epochs of points that a kill cannot take back any more."""
    trials: dict[int, str]
    """Trial -> token, of those whose result was returned."""
    stored: dict[int, str]
    """Those of them of which nothing waited any more: anybody can read them."""


class Logbook:
    """A folder where each process has a file for what it knows; no weather reaches it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: int | None = None

    @property
    def ends(self) -> bool:
        """Whether all shall come to their end."""
        return (self.folder / "stop").exists()

    def end(self) -> None:
        """Say that all shall come to their end."""
        (self.folder / "stop").touch()

    def tell(self, *lines: str) -> None:
        """Write lines down, for good."""
        if self._file is None:
            name = f"{os.getpid()}-{time.time_ns()}.told"
            self._file = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())
        os.fsync(self._file)

    def lines(self) -> Iterator[list[str]]:
        """Yield the words of all lines that anybody told, in the order in which they began to."""
        for file in sorted(self.folder.glob("*.told"), key=lambda file: file.stem.split("-")[1]):
            for line in file.read_text().split("\n")[:-1]:
                yield line.split(" ", 2)

    def told(self) -> Told:
        """Return what was told of trials."""
        found = Told({}, {}, {})
        for what, *words in self.lines():
            if what == "point":
                found.points.setdefault(int(words[0]), set()).add(int(words[1]))
            elif what in ("trial", "stored"):
                (found.trials if what == "trial" else found.stored)[int(words[0])] = words[1]
        return found

    def counts(self) -> Counter[str]:
        """Return how often each thing was told."""
        return Counter(words[0] for words in self.lines())

    def faults(self) -> list[str]:
        """Return what must not happen and did."""
        return [" ".join(words[1:]) for words in self.lines() if words[0] == "fault"]

    @contextmanager
    def watched(self, doing: str, may_be_full: bool = False) -> Iterator[None]:
        """Tell what is raised as a fault; that something is full may be none."""
        try:
            yield
        except StoreError as error:
            if not may_be_full or not _tells_of_no_room(error):
                self._fault(doing, error)
            else:
                self.tell(f"refused {doing}")
                time.sleep(0.05)
        except Exception as error:
            self._fault(doing, error)

    def _fault(self, doing: str, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)[-4:]
        places = " < ".join(f"{Path(one.filename).name}:{one.lineno}" for one in reversed(where))
        text = f"{doing}: {type(error).__name__}: {error!s:.700} ({places})"
        self.tell("fault " + " ".join(text.split()))

    def watch_warnings(self) -> None:
        """Tell how often records had to wait, and of all that is lost as a fault."""
        warnings.simplefilter("error")
        warnings.simplefilter("always", DaskperimentWarning)
        warnings.showwarning = self._warned

    def _warned(self, message: Any, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        waits = any(word in text for word in ("waits in", "wait in", "waits in memory"))
        self.tell("waited" if waits and " lost" not in text else f"fault warned: {text:.700}")


def _tells_of_no_room(error: StoreError) -> bool:
    text = str(error)
    return any(word in text for word in ("No space is left", "maxmemory", "out of memory"))


# Checks -----------------------------------------------------------------------------------------


def check_rows(history: Any, told: Told, complete: bool = True) -> None:
    """Each row is of one trial, what was told is there, and no trial is there twice."""
    for trial, row in history.iterrows():
        token, status = row["token"], row["Status"]
        assert status in ("succeeded", "running", "lost"), (trial, status, row.to_dict())
        assert row["share"] == number_of(token) % 3, (trial, row.to_dict())
        if status == "succeeded":
            assert row["Result"] == {"token": token, "number": number_of(token)}, (trial, token)
    assert history["token"].is_unique, history["token"][history["token"].duplicated()]
    for trial, token in told.stored.items():
        assert trial in history.index, f"trial {trial} is not there"
        row = history.loc[trial]
        assert (row["Status"], row["token"]) == ("succeeded", token), (trial, row.to_dict())
    if complete:
        assert history.index.tolist() == list(range(1, len(history) + 1)), history.index.tolist()


def check_trials(ex: Any, trials: dict[int, str], steps: bool = True) -> None:
    """All that trials recorded is there, once, and their own."""
    if not trials:
        return
    found = ex.load_metric("loss", list(trials))
    for trial, token in trials.items():
        number = number_of(token)
        points = found[trial].dropna()
        expected = {epoch: number + epoch for epoch in range(EPOCHS)}
        assert points.to_dict() == expected, (trial, points.to_dict(), expected)
        kept = ex.get_persisted("keep", trial)
        assert np.array_equal(kept, kept_by(token)), (trial, kept[:2], number)
        if steps:
            names = sorted(ex.get_steps(trial)["Step"])
            assert names == ["keep", "prepare", "score"], (trial, names)


class _Points(msgspec.Struct):
    points: list[tuple[str, int, float, float]]


def points_in(store: Any) -> Counter[tuple[int, int]]:
    """Return how often a store has each point."""
    bodies = (
        (one.trial, msgspec.json.decode(one.body, type=_Points)) for one in store.read("points")
    )
    return Counter((trial, point[1]) for trial, batch in bodies for point in batch.points)


# Roles ------------------------------------------------------------------------------------------


def define(ex: Any, during: Callable[[str], None]) -> Any:
    """Return a result of which everything follows from its token."""

    @ex.persist(reuse=True)
    def prepare(share):
        return np.arange(5_000.0) * share

    @ex.persist
    def keep(token, prepared):
        assert prepared[1] == number_of(token) % 3
        during(token)
        return kept_by(token)

    @ex.result
    def score(kept, token):
        assert kept[0] == number_of(token)
        return {"token": token, "number": number_of(token)}

    token = ex.parameter("token")
    return score(keep(token, prepare(ex.parameter("share"))), token)


class _Writer:
    """Computes trials, and tells what a kill cannot take back."""

    def __init__(self, backend: Any, logbook: Logbook) -> None:
        self._logbook = logbook
        self._ex = daskperiment.Experiment(ID, backend=backend)
        self._delivery = recorder_for(self._ex._store).delivery
        self._untold: list[str] = []
        self._trial = 0
        self._result = define(self._ex, self._train)

    def compute(self, token: str) -> None:
        """Compute one trial."""
        values = {"token": token, "share": number_of(token) % 3}
        result = self._result.bind(**values).compute(scheduler="synchronous")
        assert result == {"token": token, "number": number_of(token)}, (token, result)
        self._say(f"trial {self._trial} {token}")
        if not self._delivery.waiting:
            self._say(f"stored {self._trial} {token}")

    def finish(self) -> None:
        """Deliver what waits, and tell it."""
        self._ex.flush()
        self._say()
        assert not self._untold

    def _train(self, token: str) -> None:
        self._trial = self._ex.current_trial_id
        for epoch in range(EPOCHS):
            self._ex.save_metric("loss", epoch, number_of(token) + epoch)
            self._say(f"point {self._trial} {epoch}")

    def _say(self, *lines: str) -> None:
        # What waits in memory because the disk is full is not safe from a kill, and not told yet.
        self._untold += lines
        if not self._delivery.stuck and not self._delivery._pending.in_memory:
            self._logbook.tell(*self._untold)
            self._untold.clear()


def writer(backend, logbook, seed):
    """Compute trials until killed or told to stop."""
    generator = random.Random(seed)
    made = _Writer(backend, logbook)
    while not logbook.ends:
        with logbook.watched("a trial", may_be_full=True):
            made.compute(f"tok{generator.getrandbits(80):020x}")
    with logbook.watched("the end of a writer"):
        made.finish()


def reader(backend, logbook, seed):
    """Ask for everything again and again."""
    generator = random.Random(seed)
    ex = daskperiment.Experiment(ID, backend=backend)
    while not logbook.ends:
        with logbook.watched("reading"):
            told = logbook.told()
            if not told.stored:
                time.sleep(0.05)
                continue
            check_rows(ex.get_history(verbose=True, running=True), told)
            some = generator.sample(sorted(told.stored.items()), min(3, len(told.stored)))
            check_trials(ex, dict(some))
            logbook.tell("read")


def pruner(backend, logbook, seed):
    """Drop what can be had again."""
    generator = random.Random(seed)
    ex = daskperiment.Experiment(ID, backend=backend)
    while not logbook.ends:
        time.sleep(generator.random() * 0.5)
        with logbook.watched("pruning", may_be_full=True):
            dropped = ex.prune(max_bytes=0)
            assert set(dropped["Step"]) <= {"prepare"}, dropped
            logbook.tell("pruned")


def copier(backend, logbook, seed):
    """Copy the experiment to another store, and again what was added."""
    generator = random.Random(seed)
    target = logbook.folder / f"copy-{os.getpid()}"
    while not logbook.ends:
        time.sleep(generator.random() * 0.5)
        with logbook.watched("copying"):
            told = logbook.told()
            if not told.stored:
                continue
            with warnings.catch_warnings():
                # An output was pruned between its record and the copy of it: that is said.
                warnings.filterwarnings("ignore", ".*lacks objects")
                copy(ID, backend, target)
            ex = daskperiment.Experiment(ID, backend=target)
            check_rows(ex.get_history(verbose=True, running=True), told)
            some = generator.sample(sorted(told.stored.items()), min(10, len(told.stored)))
            check_trials(ex, dict(some))
            logbook.tell("copied")


def neighbour(backend, logbook, seed):
    """Record in another experiment of the same backend, and delete it."""
    ex = daskperiment.Experiment("neighbour", backend=backend)

    @ex.result
    def nothing(a):
        ex.save_metric("loss", 0, float(a))
        return a

    result = nothing(ex.parameter("a"))
    while not logbook.ends:
        with logbook.watched("the neighbour", may_be_full=True):
            for number in range(3):
                assert result.bind(a=number).compute(scheduler="synchronous") == number
            ex.delete()
            logbook.tell("deleted")
        time.sleep(0.05)


def board(backend, logbook, seed):
    """Serve the dashboard."""
    with logbook.watched("the dashboard"):
        server = dashboard.start(backend, experiment=ID, port=0)
        logbook.tell(f"port {server.port}")
        while not logbook.ends:
            time.sleep(0.05)
        server.stop()


def run(name: str, backend: str, folder: str, journal: str, seed: int) -> None:
    """Play a role."""
    dask.config.set({"daskperiment.journal": journal})
    logbook = Logbook(Path(folder))
    logbook.watch_warnings()
    with logbook.watched(f"all of a {name}"):
        globals()[name](backend if "://" in backend else Path(backend), logbook, seed)
        close_recorders()
    os._exit(0)  # taking all modules apart is a matter of seconds


if __name__ == "__main__":
    take_orders(run)
