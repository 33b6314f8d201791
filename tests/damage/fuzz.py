"""A fuzzer of stores: it damages a healthy one and asks everything that can be asked of it.

It counts what must never happen: another exception than a DaskperimentError, an answer that takes
too long, a row that shows what no trial recorded, and a pickle that is run by looking. A seed gives
the same mutations again. By hand, for longer::

    python -m tests.damage.fuzz --seconds 600 --seed 7
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import daskperiment
from daskperiment import experiment
from daskperiment.cli.checkup import examine
from daskperiment.copying import copy
from daskperiment.errors import DaskperimentError
from daskperiment.recording import journal_format as frames
from daskperiment.recording.registry import close_recorders
from daskperiment.records import Origin
from daskperiment.store.liveness import current_origin
from daskperiment.store.opening import open_store
from daskperiment.store.protocol import Record

__all__ = ["FolderTarget", "Fuzzer", "Tally"]

ID = "fuzzed"
_PATIENCE = 10.0
"""Seconds that this process may work at a question; it may wait longer, see `limit`."""
_SQL = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


class Canary:
    """Leaves a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> Any:
        return sing, (self.file,)


def sing(file: str) -> Canary:
    """Show that something is unpickled."""
    Path(file).touch()
    return Canary(Path(file))


class Tally(NamedTuple):
    """What a run of the fuzzer saw."""

    mutations: int
    questions: int
    refused: int
    """Questions that a DaskperimentError answered."""
    faults: list[str]
    """What must never happen: one line each, the mutation with it."""


def record_trials(backend: Any, canary: Path) -> Any:
    """Record trials that succeeded and failed, with metrics and objects; return their rows."""
    ex = daskperiment.Experiment(ID, seed=1, backend=backend)
    x = ex.parameter("x", default=1)

    @ex.persist(reuse=True)
    def load(x: int) -> Any:
        return np.arange(1000) * x

    @ex.result
    def fit(values: Any, x: int) -> Any:
        for epoch in range(3):
            ex.save_metric("loss", epoch, x / (epoch + 1))
        if x == 3:
            raise ValueError("three")
        if x == 4:
            return Canary(canary)
        return {"score": int(values.sum()), "when": (x, 2.5)}

    result = fit(load(x), x)
    for value in range(1, 7):
        try:
            result.bind(x=value).compute(scheduler="synchronous")
        except ValueError:
            assert value == 3
    canary.unlink(missing_ok=True)  # recording takes values apart; looking must not
    return shown(ex)


def shown(ex: Any) -> dict[int, tuple[str, str, str]]:
    """Return what the history shows of each trial."""
    table = ex.get_history(verbose=True, running=True)
    names = ("x", "Result", "Seed")
    cells = zip(*(map(repr, table.get(name, [])) for name in names), strict=False)
    return dict(zip(table.index, cells, strict=True))


def forget() -> None:
    """Make this process a fresh one, as far as experiments are concerned."""
    close_recorders()
    experiment._EXPERIMENTS.clear()


def write_journal(folder: Path) -> None:
    """Leave the journal of a process that is gone, with records and points of trial 1."""
    origin = Origin(current_origin().host, "another boot", 1, 0.0, "somebody")
    point = frames.encode_frame(frames.POINT, 1, b'["extra",0,0.5,1.0]')
    record = frames.encode_record(Record("notes", 1, "extra", b'{"a":1}'))
    data = frames.encode_header(frames.JournalHeader("a" * 32, origin)) + (point + record) * 20
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"gone-1-{'a' * 32}.journal").write_bytes(data)


# What is damaged -------------------------------------------------------------------------------


class FolderTarget:
    """A folder, made anew from a healthy one for each mutation."""

    def __init__(self, root: Path) -> None:
        self.healthy, self.backend = root / "healthy", root / "damaged"
        self.canary = root / "canary"
        self.rows = record_trials(self.healthy, self.canary)
        forget()
        write_journal(self.healthy / ID / "journal")
        with closing(sqlite3.connect(self._file(self.healthy))) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def restore(self) -> None:
        """Make everything as it was."""
        shutil.rmtree(self.backend, ignore_errors=True)
        shutil.copytree(self.healthy, self.backend)

    def mutate(self, rng: random.Random) -> str:
        """Damage something, and say what."""
        ways = [self._bits, self._bits, self._cut, self._hole, self._record, self._row]
        return rng.choice([*ways, self._journal])(rng)

    @staticmethod
    def _file(backend: Path) -> Path:
        return backend / ID / "records.sqlite"

    def _journal(self, rng: random.Random) -> str:
        (file,) = (self.backend / ID / "journal").glob("*.journal")
        data = file.read_bytes()
        for _ in range(rng.choice([1, 3, 20])):
            place = rng.randrange(len(data))
            piece = rng.choice([b"", b"\xff\xfe", b"\x00", b"\xff" * 8, rng.randbytes(4)])
            data = data[:place] + piece + data[place + rng.randrange(12) :]
        file.write_bytes(data)
        return "bytes of a journal changed"

    def _bits(self, rng: random.Random) -> str:
        file = self._file(self.backend)
        data = bytearray(file.read_bytes())
        count = rng.choice([1, 1, 3, 20, 100])
        for _ in range(count):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        return f"{count} bits flipped"

    def _cut(self, rng: random.Random) -> str:
        file = self._file(self.backend)
        data = file.read_bytes()
        end = rng.randrange(len(data))
        file.write_bytes(data[:end])
        return f"cut after {end} of {len(data)} bytes"

    def _hole(self, rng: random.Random) -> str:
        file = self._file(self.backend)
        data = bytearray(file.read_bytes())
        begin, size = rng.randrange(len(data)), rng.choice([64, 512, 4096, 20000])
        filling = rng.choice([bytes(size), rng.randbytes(size)])[: len(data) - begin]
        data[begin : begin + len(filling)] = filling
        file.write_bytes(data)
        return f"{len(filling)} bytes overwritten at {begin}"

    def _record(self, rng: random.Random) -> str:
        return self._change(rng, lambda value: mutated(value, rng))

    def _row(self, rng: random.Random) -> str:
        odd = [None, -1, 10**18, "x", b"\xff\xfe", 1.5, "", "ended", "ended-", "begun-"]
        return self._change(rng, lambda value: rng.choice(odd))

    def _change(self, rng: random.Random, change: Callable[[Any], Any]) -> str:
        with closing(sqlite3.connect(self._file(self.backend))) as connection:
            table = rng.choice([name for (name,) in connection.execute(_SQL)])
            rows = connection.execute(f'SELECT rowid, * FROM "{table}"').fetchall()
            if not rows:
                return "nothing"
            row = rng.choice(rows)
            names = [one[1] for one in connection.execute(f'PRAGMA table_info("{table}")')]
            place = rng.randrange(len(names))
            if rng.random() < 0.2:
                connection.execute(f'DELETE FROM "{table}" WHERE rowid = ?', row[:1])
                told = f"{table} without row {row[1:3]!r}"
            else:
                # To which trial a record belongs is no part of what its checksum covers: another
                # number that may be one is an edit, and no damage that could be seen.
                moved = names[place] == "trial"
                value = rng.choice([-1, 10**18, "x"]) if moved else change(row[place + 1])
                with_ = f'UPDATE OR REPLACE "{table}" SET "{names[place]}" = ? WHERE rowid = ?'
                try:
                    connection.execute(with_, (value, row[0]))
                except (sqlite3.Error, OverflowError):
                    return "nothing"
                told = f"{table}.{names[place]} of row {row[0]} is {value!r:.200}"
            connection.commit()
        return told


def mutated(value: Any, rng: random.Random) -> Any:
    """Return a value with a few of its bytes changed, or other JSON in its place."""
    if isinstance(value, int):
        return rng.choice([value + 1, -value, 10**15, 0])
    data = bytearray(value.encode() if isinstance(value, str) else value or b"")
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.randrange(len(data) + 1)
        piece = rng.choice([b"", b"9", b"\xff", b"null", b"[]", b"-1", b"1e999", b'{"$":"x"}'])
        data[place : place + rng.randrange(3)] = piece
    return bytes(data) if isinstance(value, bytes) else data.decode("utf-8", "replace")


# What is asked ---------------------------------------------------------------------------------


def questions(backend: Any, target: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what can be asked of an experiment, each of them by name."""
    ex = daskperiment.Experiment(ID, seed=1, backend=backend)
    yield "history", lambda: shown(ex)
    yield "steps", ex.get_steps
    yield "metrics", lambda: ex.get_metrics(1)
    yield "metric", lambda: ex.load_metric("loss", [1, 2])
    yield "parameters", lambda: ex.get_parameters(2)
    yield "code", lambda: ex.get_code(1)
    yield "environment", lambda: ex.get_environment(2)
    yield "packages", lambda: ex.get_python_packages(2)
    yield "compare", lambda: str(ex.compare(1, 2))
    yield "explain", lambda: str(ex.explain(1))
    yield "persisted", lambda: ex.get_persisted("load", 1)
    yield "experiments", lambda: daskperiment.list_experiments(backend)
    yield "prune", lambda: ex.prune(max_bytes=0, dry_run=True)
    yield "check", lambda: examine(open_store(backend, ID), 5)
    yield "copy", lambda: copied(backend, target)


def copied(backend: Any, target: Path) -> dict[int, tuple[str, str, str]]:
    """Return what the history shows of a copy."""
    shutil.rmtree(target, ignore_errors=True)
    copy(ID, backend, target)
    return shown(daskperiment.Experiment(ID, seed=1, backend=target))


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise _LateError in this thread after so long of work, or after ten times as long in all.

    A machine that does other things, or stops for a while, makes no question a slow one.
    """

    def late(*_: object) -> None:
        raise _LateError

    timers = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    before = {number: signal.signal(number, late) for number in timers.values()}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


class _LateError(BaseException):
    """A question took too long."""


class Fuzzer:
    """Damages a target again and again, and asks all questions each time."""

    def __init__(self, target: Any, scratch: Path, seed: int) -> None:
        self.target, self._scratch, self._seed = target, scratch, seed
        self.slowest: dict[str, float] = {}
        self.report: Callable[[str], object] = lambda line: None

    def run(self, mutations: int, seconds: float = float("inf"), least: int = 0) -> Tally:
        """Try so many mutations, or as many as fit into so many seconds, but so many at least."""
        deadline = time.monotonic() + seconds
        asked = refused = done = 0
        faults: list[str] = []
        for number in range(mutations):
            if number >= least and time.monotonic() > deadline:
                break
            rng = random.Random(f"{self._seed}-{number}")
            self.target.restore()
            told = f"mutation {self._seed}-{number}: {self.target.mutate(rng)}"
            for name, fault in self._ask():
                asked += 1
                refused += fault is None
                if fault:
                    faults.append(f"{told}: {name}: {fault}")
                    self.report(faults[-1])
            done += 1
        return Tally(done, asked, refused, faults)

    def _ask(self) -> Iterator[tuple[str, str | None]]:
        """Yield for each question what went wrong: empty if nothing did, None if it was refused."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", daskperiment.errors.DaskperimentWarning)
            forget()
            try:
                listed = list(questions(self.target.backend, self._scratch / "copy"))
            except DaskperimentError:
                yield "open", None
                return
            for name, question in listed:
                yield name, self._fault(name, question)
            with_fault = None
            try:
                forget()
            except Exception as error:
                with_fault = f"{type(error).__name__}: {error}"
            yield "close", with_fault or ""

    def _fault(self, name: str, question: Callable[[], Any]) -> str | None:
        began = time.monotonic()
        try:
            with limit(_PATIENCE):
                answer = question()
        except DaskperimentError:
            return None
        except _LateError:
            return f"took more than {_PATIENCE:g} s of work, or ten times as long"
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__}: {error!s:.200} ({where.filename}:{where.lineno})"
        finally:
            self.slowest[name] = max(self.slowest.get(name, 0), time.monotonic() - began)
        if self.target.canary.exists():
            self.target.canary.unlink()
            return "ran a pickle"
        if name in ("history", "copy"):
            return self._changed(answer)
        return ""

    def _changed(self, rows: dict[int, Any]) -> str:
        wrong = {
            trial: row
            for trial, row in rows.items()
            if not _is_true(row, self.target.rows.get(trial))
        }
        return f"shows {wrong!r:.300}" if wrong else ""


def _is_true(row: tuple[str, ...], healthy: tuple[str, ...] | None) -> bool:
    """Whether each cell is the one that was recorded, or says that it cannot be known."""
    if healthy is None:
        return False
    unknown = ("MISSING", "<NA>", "nan", "damaged")
    return all(
        one == other or any(word in one for word in unknown)
        for one, other in zip(row, healthy, strict=True)
    )


def main() -> int:
    """Fuzz a folder for as long as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    try:
        fuzzer = Fuzzer(FolderTarget(root), root, given.seed)
        fuzzer.report = lambda line: print(line, flush=True)
        tally = fuzzer.run(sys.maxsize, given.seconds)
    finally:
        shutil.rmtree(root, ignore_errors=True)

    print(tally._replace(faults=[]), len(tally.faults), dict(fuzzer.slowest))
    return bool(tally.faults)


if __name__ == "__main__":
    sys.exit(main())
