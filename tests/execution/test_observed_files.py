"""What a step reads besides its arguments is seen, and what is no input of it is not."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import daskperiment
from daskperiment.capture.files import paths_in
from daskperiment.codec import decode
from daskperiment.formats import known_formats
from daskperiment.records import StepRun
from tests.helpers.calls import calls_of


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("watched", backend=tmp_path / "store", seed=0)


@pytest.fixture
def data(tmp_path):
    """Make files of several kinds."""
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.csv", "deep/c.csv"):
        (folder / name).write_text("x\n1\n")
    np.save(folder / "x.npy", np.arange(3))
    with sqlite3.connect(folder / "x.db") as connection:
        connection.execute("create table t (x)")
    connection.close()
    (folder / "link.csv").symlink_to(folder / "a.csv")
    return str(folder)


def seen(ex, function, *values):
    """Return what a step reads and writes; names are those within the folder of its first value."""

    def step(*values):
        function(*values)
        return 0

    ex.result(persist=True, reuse=True, version=str(function))(step)(*values).compute()
    latest = ex.trial_id
    (run,) = [decode(record.body, StepRun) for record in ex._store.read("steps", [latest])]
    base = str(values[0])
    read = {(s.kind, s.name if s.kind == "variable" else os.path.relpath(s.name, base))
            for s in run.reads}  # fmt: skip
    return read, {os.path.relpath(state.name, base) for state in run.written}


def opened(data):
    with open(f"{data}/a.csv") as file:
        file.read()


def by_number(data):
    number = os.open(f"{data}/a.csv", os.O_RDONLY)
    with open(number) as file:
        file.read()


def by_sqlite(data):
    connection = sqlite3.connect(f"{data}/x.db")
    connection.execute("select * from t").fetchall()
    connection.close()


def in_thread(data):
    thread = threading.Thread(target=opened, args=[data])
    thread.start()
    thread.join()


def in_pool(data):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(opened, data).result()


def from_another_folder(data):
    before = os.getcwd()
    os.chdir(data)
    try:
        Path("a.csv").read_text()
    finally:
        os.chdir(before)


def copied(data):
    """Copy what is read; what nobody finds later is no output."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(f"{data}/a.csv", folder)
        Path(folder, "a.csv").read_text()


READS = {
    opened: {("file", "a.csv")},
    by_number: {("file", "a.csv")},
    in_thread: {("file", "a.csv")},
    in_pool: {("file", "a.csv")},
    from_another_folder: {("file", "a.csv")},
    copied: {("file", "a.csv")},
    by_sqlite: {("file", "x.db"), ("file", "x.db-wal")},
    lambda data: Path(data, "a.csv").read_text(): {("file", "a.csv")},
    lambda data: Path(data, "link.csv").read_text(): {("file", "link.csv")},
    lambda data: pd.read_csv(f"{data}/a.csv"): {("file", "a.csv")},
    lambda data: np.load(f"{data}/x.npy"): {("file", "x.npy")},
    lambda data: np.memmap(f"{data}/x.npy", mode="r")[:1]: {("file", "x.npy")},
    lambda data: os.listdir(data): {("names", ".")},
    lambda data: list(Path(data).glob("*.csv")): {("names", ".")},
    lambda data: list(os.walk(data)): {("names", "."), ("names", "deep")},
    lambda data: os.environ.get("WATCHED"): {("variable", "WATCHED")},
    lambda data: os.getenv("WATCHED", "x"): {("variable", "WATCHED")},
    lambda data: "WATCHED" in os.environ: {("variable", "WATCHED")},
}


@pytest.mark.parametrize("read", READS)
def test_what_is_read(ex, data, read):
    """By any function of Python, in threads of the step too, and by any name."""
    assert seen(ex, read, data) == (READS[read], set())


def missing(data):
    try:
        opened(f"{data}/none")
    except FileNotFoundError:
        pass


def test_what_is_not_there_is_read_too(ex, data):
    """A step that finds nothing would do something else if there were something."""
    assert seen(ex, missing, data) == ({("file", "none/a.csv")}, set())


def imports(data):
    sys.path.insert(0, data)
    try:
        import watched_module  # noqa: F401
    finally:
        sys.path.remove(data)


def appends(data):
    with open(f"{data}/log", "a") as file:
        file.write("it ran\n")


@pytest.mark.parametrize(
    "act",
    [
        imports,
        appends,
        lambda data: subprocess.run([sys.executable, "-c", ""], check=True),
        lambda data: dict(os.environ),
        lambda data: tempfile.TemporaryFile().close(),
        lambda data: pd.__file__ and open(pd.__file__).close(),
    ],
)
def test_what_is_no_input(ex, data, act):
    """Code is captured as such; logs, installed files and copies of the environment are nothing."""
    Path(data, "watched_module.py").write_text("x = 1")
    seen(ex, act, data)  # what is imported at first use is no matter
    sys.modules.pop("watched_module", None)
    read, written = seen(ex, act, data)
    assert ({name for kind, name in read if kind == "file"}, written) == (set(), set())


def replaces(data):
    Path(data, "new.tmp").write_text("1")
    os.replace(f"{data}/new.tmp", f"{data}/new")


WRITES = {
    lambda data: Path(data, "new").write_text("1"): (set(), {"new"}),
    lambda data: np.save(f"{data}/new.npy", np.arange(3)): (set(), {"new.npy"}),
    lambda data: shutil.copy(f"{data}/a.csv", f"{data}/new"): ({("file", "a.csv")}, {"new"}),
    replaces: (set(), {"new"}),
    lambda data: Path(data, "a.csv").write_text(Path(data, "a.csv").read_text()): (
        {("file", "a.csv")}, {"a.csv"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("write", WRITES)
def test_what_is_written(ex, data, write):
    """What a step leaves behind is its output, and what it read before is its input."""
    assert seen(ex, write, data) == WRITES[write]


def test_what_a_path_leads_to_is_no_observation(ex, data):
    """A file among the arguments counts by its content, wherever it stands."""
    assert seen(ex, lambda path: path.read_text(), Path(data, "a.csv")) == (set(), set())


def test_nothing_is_watched_outside_of_steps(data):
    """An event costs a look at a table then, and a variable is what it is."""
    opened(data)
    assert os.environ["PATH"] == dict(os.environ)["PATH"]
    assert "WATCHED" not in os.environ


LATE = """
import os, sys
import daskperiment

ex = daskperiment.Experiment("late", backend=sys.argv[1], seed=1)

@ex.persist(reuse=True)
def read(name):
    return open(name).read()

@ex.result
def size(text):
    return len(text)

size(read(sys.argv[0])).compute(scheduler="synchronous")
daskperiment.recording.registry.close_recorders()
# As the interpreter clears a module that something still refers to.
names = vars(sys.modules["daskperiment.execution.observed_files"])
for name in names:
    names[name] = None
open(sys.argv[0]).close()
os.listdir(".")
os.environ.get("HOME")
os._exit(0)
"""


def test_files_opened_while_the_interpreter_ends(tmp_path):
    """What is opened when all modules are gone is no trouble of the program's."""
    program = tmp_path / "program.py"
    program.write_text(LATE)
    done = subprocess.run(
        [sys.executable, program, tmp_path / "store"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def holding_itself():
    found = {"a": 1}
    found["self"] = found
    return found


def list_in_itself():
    found = [{}]
    found[0]["all"] = found
    return found


def deep():
    found = {}
    for _ in range(20_000):
        found = {"in": found}
    return found


def tuple_in_itself():
    inner = []
    found = (inner,)
    inner.append(found)
    return found


@pytest.mark.parametrize("make", [holding_itself, list_in_itself, deep, tuple_in_itself])
@pytest.mark.parametrize("persist", [False, True])
def test_paths_are_looked_for_in_what_contains_itself(ex, make, persist):
    """However a value is nested, looking for paths in it fails no step."""
    returned = (ex.persist(make) if persist else ex(make))()
    node = ex.result(lambda value: len(value))(returned)
    assert node.compute(scheduler="synchronous") == len(make())


def test_paths_are_looked_for_once_in_what_is_there_twice(tmp_path):
    """One thing that is in a value many times is gone through once, and its paths are found."""
    value = inner = [[tmp_path]]
    for _ in range(18):
        value = [value, value]
    found = []
    assert calls_of(lambda: found.extend(paths_in(value))) < 1000
    assert found == [tmp_path]
    assert list(paths_in([inner, {"x": tmp_path / "x"}])) == [tmp_path, tmp_path / "x"]


def _saved(ex, base):
    known_formats._brought_along.cache_clear()
    ex.save("found", np.arange(3))


@pytest.mark.parametrize("ask", [_saved, lambda ex, base: metadata.version("numpy")])
def test_what_packages_say_of_themselves_is_no_input(ask, ex, tmp_path):
    """Which formats packages bring along is asked in a step, and another finder may answer."""
    pytest.importorskip("importlib_metadata")  # puts a finder of its own in front
    assert seen(ex, lambda base: ask(ex, base), str(tmp_path)) == (set(), set())
