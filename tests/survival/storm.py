"""The storm: all that may happen to a store, at once, and then it is counted.

Four writers, two readers, a dashboard that is asked, prune, copy, and a neighbour that is deleted
again and again, each in a process of its own. They are killed at random moments, and the disk
fills and empties. A seed gives the same kills and fillings again, as far as the machine does. By
hand, for longer::

    python -m tests.survival.storm --seconds 600 --kills 50 --seed 7 --store redis
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import dask
import redis

import daskperiment
from daskperiment.cli.checkup import examine
from daskperiment.recording.registry import close_recorders
from daskperiment.store.opening import open_store
from tests.store.mongo_server import running as mongo_server
from tests.store.redis_server import redis_server, server_of_wheel
from tests.survival.processes import Nursery
from tests.survival.storm_roles import ID, Logbook, Told, check_rows, check_trials, points_in

__all__ = ["PROGRAM", "WORK", "Storm", "Tally", "Weather", "small_disk", "stores"]

PROGRAM = Path(__file__).with_name("storm_roles.py")
_ROLES = ["writer"] * 4 + ["reader"] * 2 + ["board", "pruner", "copier", "neighbour"]
WORK = ("stored", "read", "copied", "pruned", "deleted", "answered")
"""What each of them tells when it did its work once."""
_PATIENCE = 60.0


class Tally(NamedTuple):
    """What a storm saw."""

    trials: int
    """In the history at the end."""
    told: int
    """Trials whose results were returned, and that no kill could take back any more."""
    points: int
    """Points of which the same holds."""
    kills: int
    fillings: int
    """Times that the disk, or the server's memory, was full."""
    events: dict[str, int]
    """What else was told: readings, copies, prunings, deletions, answers, waiting, refusals."""
    lost: int
    mixed: int
    doubled: int
    faults: list[str]
    """What must never happen: one line each."""


# The weather ------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Mount a small disk on a folder; False if this user may not."""
    folder.mkdir(parents=True, exist_ok=True)
    order = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(order, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


class Weather:
    """Fills a disk and a server's memory for a moment, again and again.

    Parameters
    ----------
    disk : pathlib.Path or None
        A small disk that may be filled.
    limit_memory : callable, optional
        Told whether the server shall have no memory left.
    """

    def __init__(
        self, disk: Path | None, limit_memory: Callable[[bool], object] | None = None
    ) -> None:
        self._disk, self._limit_memory = disk, limit_memory
        self.fillings = 0

    def fill(self, left: int) -> None:
        """Leave room for so many bytes at most."""
        if self._disk is not None:
            with suppress(OSError), open(self._disk / "ballast", "wb") as file:
                size = 0
                for step in (1 << 24, 1 << 20, 1 << 16, 1 << 12):
                    while self._room() - left >= step:
                        os.posix_fallocate(file.fileno(), size, step)
                        size += step
        if self._limit_memory is not None:
            self._limit_memory(True)
        self.fillings += self._disk is not None or self._limit_memory is not None

    def clear(self) -> None:
        """Make room again."""
        if self._disk is not None:
            (self._disk / "ballast").unlink(missing_ok=True)
        if self._limit_memory is not None:
            self._limit_memory(False)

    def _room(self) -> int:
        assert self._disk is not None
        found = os.statvfs(self._disk)
        return found.f_bavail * found.f_frsize


# The storm --------------------------------------------------------------------------------------


class Storm:
    """Processes that work on one store, and what happens to them.

    Parameters
    ----------
    backend : pathlib.Path or str
        What they work on.
    folder : pathlib.Path
        For what they tell; not on the disk that fills.
    weather : Weather
    seed : int
    """

    def __init__(self, backend: Any, folder: Path, weather: Weather, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._backend, self._weather = backend, weather
        self._logbook = Logbook(folder)
        self._random = random.Random(seed)
        self._pids: list[int] = []
        self._kills = 0

    def run(self, place: Nursery, seconds: float, kills: int) -> Tally:
        """Let it rage for so long, with so many kills, and count what it did.

        The place is where the processes come from: a nursery of `PROGRAM`.
        """
        blowing = threading.Event()
        with ExitStack() as stack:
            self._pids = [self._start(place, role) for role in _ROLES]
            helpers = [
                threading.Thread(target=helper, args=(blowing,))
                for helper in (self._blow, self._visit)
            ]
            for thread in helpers:
                thread.start()
                stack.callback(thread.join)
            stack.callback(blowing.set)
            self._kill(place, seconds, kills)
            self._wait_for_all()
            blowing.set()
            # On a slow machine one of them still fills the disk, which is to stay empty now.
            for thread in helpers:
                thread.join()
            self._weather.clear()
            self._logbook.end()
            self._join(place)
        return self._count()

    def _start(self, place: Nursery, role: str) -> int:
        seed = self._random.getrandbits(60)
        journal = dask.config.get("daskperiment.journal")
        return place.start(role, self._backend, str(self._logbook.folder), journal, seed)

    def _kill(self, place: Nursery, seconds: float, kills: int) -> None:
        """Kill at random moments, and start anew who was killed."""
        begin = time.monotonic()
        # None before all are at work, and the last so early that it is followed by something.
        moments = sorted(self._random.uniform(0.1, 0.95) * seconds for _ in range(kills))
        for moment in moments:
            time.sleep(max(0.0, begin + moment - time.monotonic()))
            weights = [3 if role == "writer" else 1 for role in _ROLES]
            (number,) = self._random.choices(range(len(_ROLES)), weights)
            with suppress(ProcessLookupError):
                os.kill(self._pids[number], signal.SIGKILL)
            if (code := place.join(self._pids[number])) != -signal.SIGKILL:
                self._logbook.tell(f"fault a {_ROLES[number]} ended with {code}")
            self._pids[number] = self._start(place, _ROLES[number])
            self._kills += 1
        time.sleep(max(0.0, begin + seconds - time.monotonic()))

    def _wait_for_all(self) -> None:
        """Go on until each kind of work was done, on a machine that is slow."""
        deadline = time.monotonic() + _PATIENCE
        while not set(WORK) <= set(self._logbook.counts()) and time.monotonic() < deadline:
            time.sleep(0.1)

    def _join(self, place: Nursery) -> None:
        for role, pid in zip(_ROLES, self._pids, strict=True):
            if code := place.join(pid):
                self._logbook.tell(f"fault a {role} ended with {code}")

    def _blow(self, blowing: threading.Event) -> None:
        """Fill the disk for a moment, again and again."""
        generator = random.Random(self._random.random())
        logbook = Logbook(self._logbook.folder)
        with logbook.watched("filling the disk"):
            while not blowing.wait(generator.uniform(0.3, 1.5)):
                self._weather.fill(generator.choice([0, 0, 4096, 65536, 1 << 20]))
                blowing.wait(generator.uniform(0.05, 0.8))
                self._weather.clear()
                blowing.wait(generator.uniform(0, 0.05))

    def _visit(self, blowing: threading.Event) -> None:
        """Ask the dashboard, whichever runs."""
        logbook = Logbook(self._logbook.folder)
        while not blowing.wait(0.1):
            ports = [words[1] for words in logbook.lines() if words[0] == "port"]
            with logbook.watched("the dashboard's answer"):
                for port in ports[-1:]:
                    self._ask(f"http://127.0.0.1:{port}/api/experiments", logbook)

    @staticmethod
    def _ask(address: str, logbook: Logbook) -> None:
        try:
            for what in ("", f"/{ID}/trials?size=100", f"/{ID}/trials/1"):
                with urllib.request.urlopen(address + what, timeout=_PATIENCE) as answer:
                    found = json.load(answer)
                for row in found.get("rows", []):
                    tokens = set(re.findall("tok[0-9a-f]{20}", json.dumps(row)))
                    assert len(tokens) == 1, row
                logbook.tell("answered")
        except urllib.error.HTTPError as error:
            if error.code != 404:  # it has no trial yet
                logbook.tell(f"fault the dashboard's answer: {error} {error.read().decode()}")
        except (OSError, HTTPException):
            pass  # it was killed, maybe in the midst of an answer, or is not up yet

    # Counting

    def _count(self) -> Tally:
        """Count what is there, and what is not."""
        close_recorders()
        told, counts = self._logbook.told(), self._logbook.counts()
        ex = daskperiment.Experiment(ID, backend=self._backend)
        ex.flush()
        history = ex.get_history(verbose=True, running=True)
        store = open_store(self._backend, ID)
        with closing(store):
            points = points_in(store)
            with self._logbook.watched("the end"):
                check_rows(history, told._replace(stored=told.trials))
                assert "running" not in set(history["Status"]), history["Status"].value_counts()
                check_trials(ex, told.trials)
            self._check_store(store, told)
        rows = history[history["Status"] == "succeeded"]
        missing = [one for one, token in told.trials.items() if not _is_there(rows, one, token)]
        wanted = {(trial, epoch) for trial, epochs in told.points.items() for epoch in epochs}
        mixed = [one for one, row in rows.iterrows() if row["Result"]["token"] != row["token"]]
        twice = [one for one, count in points.items() if count > 1]
        events = {name: counts[name] for name in sorted(counts) if name not in _NO_EVENTS}
        return Tally(
            len(history), len(told.trials), len(wanted), self._kills, self._weather.fillings,
            events, len(missing) + len(wanted - set(points)), len(mixed),
            len(twice) + int(history["token"].duplicated().sum()), self._logbook.faults(),
        )  # fmt: skip

    def _check_store(self, store: Any, told: Told) -> None:
        """The store is sound, but for what kills leave: each of that is found, and told of.

        An object that no record names yet, and pieces of one, are removed by a repair. A value that
        waited in memory while all was full is gone with its process, and was not told of.
        """
        # What rests on something damaged is seen when that is mended.
        for found in (found for _ in range(2) for found in examine(store).findings):
            if found.mend is not None:
                self._logbook.tell("left-over")
                found.mend()
        for found in examine(store).findings:
            named = re.search(r": missing, named by 'keep-.* of trial (\d+) in 'steps'", str(found))
            if named is None or int(named[1]) in told.trials:
                self._logbook.tell(f"fault check: {found}")


_NO_EVENTS = ("fault", "point", "trial", "port")


def _is_there(rows: Any, trial: int, token: str) -> bool:
    return trial in rows.index and rows.loc[trial, "token"] == token


# By hand ----------------------------------------------------------------------------------------


@contextmanager
def stores(kind: str, root: Path, megabytes: int) -> Iterator[tuple[Any, Weather]]:
    """Make a store of a kind, and the weather that it has."""
    disk = root / "disk"
    with ExitStack() as stack:
        mounted = stack.enter_context(small_disk(disk, megabytes))
        stack.enter_context(dask.config.set({"daskperiment.journal": str(disk / "journal")}))
        filled = disk if mounted else None
        if kind == "folder":
            yield disk / "store", Weather(filled)
        elif kind == "redis":
            server = stack.enter_context(redis_server(server_of_wheel(), root / "server"))
            yield server.url, Weather(filled, _memory_of(server.port))
        else:
            server = stack.enter_context(mongo_server(root / "server"))
            yield server.url("storm"), Weather(filled)


def _memory_of(port: int) -> Callable[[bool], object]:
    """Return what takes the memory from a Redis server, and gives it back."""

    def limit(none_left: bool) -> None:
        with redis.Redis(port=port) as client:
            client.config_set("maxmemory", 1 if none_left else 0)

    return limit


def main() -> int:
    """Let a storm rage for as long as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", choices=["folder", "redis", "mongo"], default="folder")
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the small disk")
    parser.add_argument("--keep", action="store_true", help="keep what they told")
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    try:
        with stores(given.store, root, given.megabytes) as (backend, weather):
            place = Nursery(PROGRAM)
            storm = Storm(backend, root / "told", weather, given.seed)
            tally = storm.run(place, given.seconds, given.kills)
            close_recorders()
            place.close()
    finally:
        if not given.keep:
            shutil.rmtree(root, ignore_errors=True)
    print(*tally.faults, sep="\n")
    print(tally._replace(faults=[]), len(tally.faults), root if given.keep else "")
    return bool(tally.faults or tally.lost or tally.mixed or tally.doubled)


if __name__ == "__main__":
    sys.exit(main())
