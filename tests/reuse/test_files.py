"""Files as inputs: changed content runs the steps that take them, and nothing else does."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.resources
import linecache
import os
import pkgutil
import shutil
import string
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

import daskperiment
from daskperiment.errors import ImpureStepWarning
from daskperiment.execution.observed_files import ObservedFiles
from tests.reuse.work import ran, write


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("files", backend=tmp_path / "store", seed=0)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "x.csv").write_text("1")
    return folder


def reading(ex, log, source):
    """Make a result of a step that reads all files that it is given."""

    @ex.persist(reuse=True)
    def read(source):
        write(log, "read")
        found = source if isinstance(source, list) else [source]
        return [path.read_text() for path in found if path.is_file()]

    @ex.result
    def total(texts):
        return texts

    return total(read(source))


WAYS = {
    "path": lambda ex, data: data / "x.csv",
    "parameter": lambda ex, data: ex.parameter("source", default=data / "x.csv"),
    "file": lambda ex, data: ex.file(data / "x.csv"),
    "text": lambda ex, data: ex.file(str(data / "x.csv")),
    "file of parameter": lambda ex, data: ex.file(ex.parameter("s", default=str(data / "x.csv"))),
    "file of part": lambda ex, data: ex.file(
        ex.parameter("config", default={"data": str(data / "x.csv"), "rate": 1})["data"]
    ),
    "pattern": lambda ex, data: ex.file(str(data / "*.csv")),
    "folder": lambda ex, data: ex.file(data),
}


@pytest.mark.parametrize("way", WAYS)
def test_content_counts_and_nothing_else(ex, data, log, way):
    """Touching runs nothing, a change does, and going back is a hit again."""
    result = reading(ex, log, WAYS[way](ex, data))
    first = result.compute()
    assert (result.compute(), ran(log)) == (first, {"read": 1})
    os.utime(data / "x.csv", (1, 1))
    assert (result.compute(), ran(log)) == (first, {})
    (data / "x.csv").write_text("2")
    assert ex.explain(result)["read"].reason.startswith("file ")
    result.compute()
    assert ran(log) == {"read": 1}
    (data / "x.csv").write_text("1")
    assert (result.compute(), ran(log)) == (first, {})


def test_a_moved_file_is_the_same(ex, data, log, tmp_path):
    """Its own name and its content are what counts, not the folder."""
    assert reading(ex, log, ex.file(data / "x.csv")).compute() == ["1"]
    shutil.move(data / "x.csv", tmp_path / "x.csv")
    assert reading(ex, log, ex.file(tmp_path / "x.csv")).compute() == ["1"]
    assert ran(log) == {"read": 1}


def test_a_file_that_is_not_there_fails_the_trial(ex, data, log):
    """With an error that says what to give instead; the trial is recorded as failed."""
    with pytest.raises(FileNotFoundError, match="names no file or folder"):
        reading(ex, log, ex.file(data / "none.csv")).compute()
    assert ex.get_history()["Success"].tolist() == [False]
    assert "names no file" in ex.get_history()["Description"][1]


def test_a_computed_parameter_may_name_the_file(ex, data, log):
    """What a step or function returns is known when it has run: then nothing is reused."""
    stem = ex.parameter("stem", default="x")

    @ex.parameter
    def path(stem):
        return str(data / f"{stem}.csv")

    result = reading(ex, log, ex.file(path))
    assert result.compute() == ["1"]
    assert "turns out only when" in ex.explain(result)["read"].reason
    assert stem.name == "stem"


# What steps read by themselves --------------------------------------------------------------------


KINDS = ["folder", "redis", "mongo"]
SCHEDULERS = ["synchronous", "threads", "processes", "cluster"]


def hidden(ex, log, path):
    """Make a result of two kept steps, the first of which reads a file that it is not given."""
    path = str(path)

    @ex.persist(reuse=True)
    def load():
        write(log, "load")
        with open(path) as file:
            return file.read()

    @ex.persist(reuse=True)
    def double(text):
        write(log, "double")
        return text * 2

    @ex.result
    def total(text):
        return text

    return total(double(load()))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_file_that_a_step_opens_counts(ex, data, log, scheduler, request):
    """For the steps behind it too, on every scheduler; going back finds the first outputs."""
    client = request.getfixturevalue("client") if scheduler == "cluster" else None
    how = {} if client else {"scheduler": scheduler}
    result = hidden(ex, log, data / "x.csv")
    assert (result.compute(**how), ran(log)) == ("11", {"load": 1, "double": 1})
    assert (result.compute(**how), ran(log)) == ("11", {})
    (data / "x.csv").write_text("2")
    assert "file x.csv changed" in ex.explain(result)["load"].reason
    assert "file x.csv changed since load read it" in ex.explain(result)["double"].reason
    assert (result.compute(**how), ran(log)) == ("22", {"load": 1, "double": 1})
    (data / "x.csv").write_text("1")
    assert (result.compute(**how), ran(log)) == ("11", {})
    os.utime(data / "x.csv", (1, 1))
    assert (result.compute(**how), ran(log)) == ("11", {})


def by_open(name):
    with open(name) as file:
        return file.read()


ASKING = {
    "open": by_open,
    "Path": lambda name: Path(name).read_text(),
    "folder": lambda name: by_open(os.listdir()[0]),
    "if it is there": lambda name: by_open(name) if Path(name).is_file() else "",
}


@pytest.mark.parametrize("way", ASKING)
@pytest.mark.parametrize("scheduler", [each for each in SCHEDULERS if each != "cluster"])
def test_a_relative_path_counts_where_the_trial_is_computed(
    ex, tmp_path, log, scheduler, way, monkeypatch
):
    """In another working directory it is another file; the same content there is the same input."""
    for name, content in {"first": "1", "second": "2", "copy": "1"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.csv").write_text(content)
    ask = ASKING[way]

    @ex.persist(reuse=True)
    def load():
        write(log, "load")
        return ask("x.csv")

    @ex.result
    def total(text):
        return text

    def compute(name):
        monkeypatch.chdir(tmp_path / name)
        return total(load()).compute(scheduler=scheduler), ran(log).get("load", 0)

    assert [compute("first"), compute("first")] == [("1", 1), ("1", 0)]
    assert compute("second") == ("2", 1)
    assert [compute("first"), compute("second"), compute("copy")] == [("1", 0), ("2", 0), ("1", 0)]
    (tmp_path / "second" / "x.csv").write_text("3")
    assert [compute("second"), compute("first")] == [("3", 1), ("1", 0)]


def test_a_relative_path_in_another_working_directory(tmp_path, monkeypatch):
    """A worker that is somewhere else than who planned the trial tells the whole path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("1")
    told = {}
    for home in (str(tmp_path), "/elsewhere", ""):
        files = ObservedFiles(home)
        files.opened("x.csv", os.O_RDONLY)
        files.opened(str(tmp_path / "x.csv"), os.O_RDONLY)
        told[home] = {(state.name, state.relative) for state in files.reads(digests=True)}
    name = str(tmp_path / "x.csv")
    assert told.pop(str(tmp_path)) == {(name, "x.csv"), (name, None)}
    assert list(told.values()) == [{(name, None)}] * 2


def test_a_step_that_goes_elsewhere_itself(ex, tmp_path, log, monkeypatch):
    """What it opens there counts under its whole path, wherever the trial is computed."""
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "there" / "x.csv").write_text("1")

    @ex.persist(reuse=True)
    def load(there):
        write(log, "load")
        before = os.getcwd()
        os.chdir(there)
        try:
            return by_open("x.csv")
        finally:
            os.chdir(before)

    @ex.result
    def total(text):
        return text

    result = total(load(str(tmp_path / "there")))
    found = []
    for place in (tmp_path, tmp_path / "here", tmp_path):
        monkeypatch.chdir(place)
        found.append((result.compute(scheduler="synchronous"), ran(log).get("load", 0)))
    assert found == [("1", 1), ("1", 0), ("1", 0)]


READERS = {
    "linecache": lambda folder: linecache.getline(os.path.join(folder, "odd.txt"), 1).strip(),
    "pkgutil": lambda folder: pkgutil.get_data("odd", "odd.txt").decode(),
    "resources": lambda folder: importlib.resources.files("odd").joinpath("odd.txt").read_text(),
}


@pytest.mark.parametrize("way", READERS)
def test_a_file_that_is_read_by_what_reads_sources(ex, data, monkeypatch, way):
    """What Python has to read modules reads data as well; what it reads by itself is none."""
    folder = data / "odd"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(data))
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    (folder / "__init__.py").write_text("")
    (folder / "odd.txt").write_text("1")

    @ex.persist(reuse=True)
    def read(folder):
        traceback.format_stack()
        return READERS[way](folder)

    @ex.result
    def total(text):
        return text

    result = total(read(str(folder)))
    assert result.compute() == "1"
    (folder / "__init__.py").write_text("# changed\n")
    assert ex.explain(result)["read"].verdict == "hit"
    (folder / "odd.txt").write_text("2")
    assert ex.explain(result)["read"].reason == "file odd.txt changed since read read it"


@pytest.mark.parametrize("kind", ["link to itself", "file for a folder", "folder", "nothing"])
def test_a_file_that_cannot_be_read(ex, data, kind):
    """That a file could not be read is known as well: the step runs once it can be."""
    path = data / "odd" / "x.csv" if kind == "file for a folder" else data / "odd"
    (data / "odd").unlink(missing_ok=True)
    if kind == "link to itself":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "file for a folder":
        path.parent.write_text("")

    @ex.persist(reuse=True)
    def read():
        try:
            with open(path) as file:
                return file.read()
        except OSError as error:
            return type(error).__name__

    @ex.result
    def total(text):
        return text

    result = total(read())
    before = result.compute()
    assert before.endswith("Error")
    assert ex.explain(result)["read"].verdict == "hit"
    shutil.rmtree(path) if kind == "folder" else (data / "odd").unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.write_text("1")
    assert "file" in ex.explain(result)["read"].reason
    assert result.compute() == "1"


@pytest.mark.parametrize("folder", ["/proc", "/dev", "/sys", "/proc/self"])
def test_what_the_system_tells_is_no_file(folder):
    """What stands there is another at every moment: which processes run, and what they use."""
    files = ObservedFiles()
    files.listed(folder)
    files.opened(os.path.join(folder, "stat"), os.O_RDONLY)
    assert files.reads(digests=True) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_process_sees_it(kind, make_place, data, log, open_again):
    """In every store."""
    backend = make_place(kind).backend
    first = hidden(open_again("later", backend, reuse=True), log, data / "x.csv")
    assert first.compute() == "11"
    again = hidden(open_again("later", backend, reuse=True), log, data / "x.csv")
    assert (again.compute(), ran(log)) == ("11", {"load": 1, "double": 1})
    (data / "x.csv").write_text("2")
    again = hidden(open_again("later", backend, reuse=True), log, data / "x.csv")
    assert (again.compute(), ran(log)) == ("22", {"load": 1, "double": 1})


def test_a_trial_without_reuse_tells_later_ones(ex, data, log):
    """What was read is known by its time then; steps behind it are not trusted unseen."""
    result = hidden(ex, log, data / "x.csv")
    result.compute(reuse=False)
    assert (result.compute(), ran(log)) == ("11", {"load": 1, "double": 2})
    assert (result.compute(), ran(log)) == ("11", {})
    (data / "x.csv").write_text("2")
    assert (result.compute(), ran(log)) == ("22", {"load": 1, "double": 1})


def test_a_file_that_changes_while_its_step_runs(ex, data, log):
    """Nobody knows which content the output is of, so it is not trusted."""
    path = str(data / "x.csv")

    @ex.result(persist=True, reuse=True)
    def read():
        write(log, "read")
        with open(path) as file:
            text = file.read()
        os.system(f"echo 2 >> '{path}'")  # somebody else
        return text

    read().compute()
    assert "changed while it ran" in ex.explain(read())["read"].reason
    read().compute()
    assert ran(log) == {"read": 2}


def test_an_environment_variable_that_a_step_reads(ex, log, monkeypatch):
    """Set, changed and unset, it is another input, and the reason names it."""

    @ex.result(persist=True, reuse=True)
    def read():
        write(log, "read")
        return os.environ.get("DASKPERIMENT_TEST_MODE")

    assert (read().compute(), read().compute(), ran(log)) == (None, None, {"read": 1})
    monkeypatch.setenv("DASKPERIMENT_TEST_MODE", "fast")
    assert "DASKPERIMENT_TEST_MODE changed" in ex.explain(read())["read"].reason
    assert (read().compute(), read().compute(), ran(log)) == ("fast", "fast", {"read": 1})
    monkeypatch.delenv("DASKPERIMENT_TEST_MODE")
    assert (read().compute(), ran(log)) == (None, {})


MODE, KIND = "DASKPERIMENT_TEST_MODE", "DASKPERIMENT_TEST_KIND"


def copied():
    return dict(os.environ)


def handed_on():
    return len([subprocess, {**os.environ, "OMP_NUM_THREADS": "1"}][:1])


@pytest.mark.parametrize(("read", "other"), {
    lambda: dict(os.environ)["DASKPERIMENT_TEST_MODE"]: "hit",
    lambda: os.environ.copy().get(MODE): "hit",
    lambda: {**os.environ}["DASKPERIMENT_TEST_MODE"]: "hit",
    lambda: copied().pop("DASKPERIMENT_TEST_MODE"): "hit",
    lambda: [os.environ[name] for name in os.environ if name.lower() == MODE.lower()]: "hit",
    lambda: [v for k, v in os.environ.items() if k.startswith("DASKPERIMENT_TEST_MO")]: "hit",
    lambda: [v for k, v in os.environ.items() if k.startswith("DASKPERIMENT_")]: "miss",
    lambda: sorted(os.environ.values()): "miss",
    lambda: os.environb[b"DASKPERIMENT_TEST_MODE"]: "hit",
    lambda: string.Template("$DASKPERIMENT_TEST_MODE").substitute(os.environ): "hit",
}.items())  # fmt: skip
def test_the_environment_as_a_whole(ex, monkeypatch, read, other):
    """Of a copy the variables count that the code means: the one it names, or all."""
    step = ex.result(persist=True, reuse=True)(read)
    monkeypatch.setenv(MODE, "fast")
    monkeypatch.setenv(KIND, "one")
    before = step().compute()

    def verdict():
        (told,) = ex.explain(step())
        return told.verdict

    assert verdict() == "hit"
    monkeypatch.setenv(KIND, "two")
    assert verdict() == other
    monkeypatch.setenv(KIND, "one")
    monkeypatch.setenv(MODE, "slow")
    assert (verdict(), step().compute() != before) == ("miss", True)


def test_an_environment_that_is_handed_on(ex, monkeypatch):
    """A copy for another process says nothing of what the step takes from it."""
    step = ex.result(persist=True, reuse=True)(handed_on)
    step().compute()
    monkeypatch.setenv(MODE, "slow")
    assert [told.verdict for told in ex.explain(step())] == ["hit"]


def test_a_file_that_a_step_wrote_must_be_there(ex, data, log):
    """Gone or changed, the step runs; a log that it adds to is no output."""
    path = str(data / "out.txt")

    @ex.result(persist=True, reuse=True)
    def export(number):
        write(log, "export")
        with open(path, "w") as file:
            file.write(str(number))
        return number

    assert (export(1).compute(), export(1).compute(), ran(log)) == (1, 1, {"export": 1})
    os.unlink(path)
    assert "out.txt is gone" in ex.explain(export(1))["export"].reason
    assert (export(1).compute(), ran(log)) == (1, {"export": 1})
    with open(path, "w") as file:
        file.write("by hand")
    assert (export(1).compute(), ran(log)) == (1, {"export": 1})
    assert (export(1).compute(), ran(log)) == (1, {})


def test_an_impure_step_names_the_file(ex, data):
    """Where nothing is reused, a warning says what the step read and found otherwise."""
    path = str(data / "x.csv")

    @ex.result
    def read():
        with open(path) as file:
            return file.read()

    read().compute()
    (data / "x.csv").write_text("22")
    with pytest.warns(ImpureStepWarning, match=r"It read file .*x\.csv, and found something else"):
        read().compute()


# Folders that a step writes into ------------------------------------------------------------------


def into(ex, source, log):
    """Make a result of a kept step that leaves something else in a folder each time."""

    @ex.persist(reuse=True)
    def export(folder):
        write(log, "export")
        folder = folder if isinstance(folder, Path) else next(iter(folder.values()))
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / f"{time.time_ns()}.txt").write_text(str(time.time_ns()))
        with open(folder / "steps.log", "a") as file:
            file.write("it ran\n")
        (folder / "old.tmp").write_text("")
        os.replace(folder / "old.tmp", folder / "new.txt")
        return (folder / "x.csv").read_text()

    @ex.result
    def total(text):
        return text

    return total(export(source))


FOLDERS = {
    "path": lambda ex, data: data,
    "parameter": lambda ex, data: ex.parameter("folder", default=data),
    "part": lambda ex, data: ex.parameter("config", default={"rate": 1, "out": data})["out"],
    "dict": lambda ex, data: ex.parameter("config", default={"out": data}),
    "file": lambda ex, data: ex.file(data),
}


@pytest.mark.parametrize("way", FOLDERS)
def test_a_folder_that_a_step_writes_into(ex, data, log, way):
    """What the step itself left there runs nothing; what somebody else changes there does."""
    result = into(ex, FOLDERS[way](ex, data), log)
    assert [result.compute() for _ in range(3)] == ["1"] * 3
    assert ran(log) == {"export": 1}
    (data / "x.csv").write_text("2")
    assert [result.compute() for _ in range(3)] == ["2"] * 3
    assert ran(log) == {"export": 1}
    (data / "new.txt").unlink()
    assert (result.compute(), result.compute(), ran(log)) == ("2", "2", {"export": 1})


@pytest.mark.parametrize("scheduler", ["synchronous", "processes", "cluster"])
def test_a_folder_that_a_step_writes_into_elsewhere(ex, data, log, scheduler, request):
    """Wherever the step runs."""
    client = request.getfixturevalue("client") if scheduler == "cluster" else None
    how = {} if client else {"scheduler": scheduler, "num_workers": 1}
    result = into(ex, data, log)
    assert (result.compute(**how), result.compute(**how), ran(log)) == ("1", "1", {"export": 1})


def test_a_folder_that_others_write_into_meanwhile(ex, data, log):
    """What somebody else put there while the step ran is not taken for the step's own."""

    @ex.result(persist=True, reuse=True)
    def export(folder):
        write(log, "export")
        (folder / "mine.txt").write_text("1")
        os.system(f"echo 2 > '{folder / 'theirs.csv'}'")
        return sorted(path.name for path in folder.glob("*.csv"))

    assert export(data).compute()
    assert export(data).compute() == ["theirs.csv", "x.csv"]
    assert ran(log) == {"export": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_a_step_writes_into_in_every_store(kind, make_place, data, log, open_again):
    """A later process knows what the step left there."""
    backend = make_place(kind).backend
    for _ in range(3):
        ex = open_again("into", backend)
        assert into(ex, ex.file(data), log).compute() == "1"
    assert ran(log) == {"export": 1}


@dataclasses.dataclass
class Source:
    name: str
    train: Path


@pytest.mark.parametrize("kind", ["dict", "object", "argument"])
def test_a_path_deep_in_a_value_is_told(ex, data, kind):
    """A file that a part of a parameter or argument names is recorded, and the reason names it."""
    source = Source("plain", data / "x.csv")
    given = [source] if kind != "dict" else {"rate": 1, "data": dataclasses.asdict(source)}
    config = given if kind == "argument" else ex.parameter("config", default=given)

    @ex.persist(reuse=True)
    def read(config):
        return (config["data"]["train"] if kind == "dict" else config[0].train).read_text()

    @ex.result
    def total(text):
        return text

    result = total(read(config))
    result.compute()
    (data / "x.csv").write_text("2")
    assert ex.explain(result)["read"].reason == "file x.csv changed"


# What is told of files ----------------------------------------------------------------------------


def test_reason_and_comparison_name_the_file(ex, data):
    """How many parts of a folder changed, before the steps run and afterwards."""
    for number in range(40):
        (data / f"{number}.csv").write_text("1")
    single = ex.parameter("single", default=data / "x.csv")

    @ex.persist(reuse=True)
    def count(folder, single):
        return sum(len(path.read_text()) for path in folder.iterdir())

    @ex.result
    def total(number):
        return number

    result = total(count(ex.file(data), single))
    result.compute()
    for number in (3, 5):
        (data / f"{number}.csv").write_text("22")
    (data / "x.csv").write_text("22")
    expected = "file data changed (3 of 41 parts); file x.csv changed"
    assert ex.explain(result)["count"].reason == expected
    result.compute()
    comparison = ex.compare(1, 2)
    step = next(step for step in comparison.steps if step.key == "count")
    assert [(cause.kind, cause.name) for cause in step.causes] == [
        ("file", "file data changed (3 of 41 parts)"),
        ("file", "file x.csv changed"),
    ]
    assert "file data changed (3 of 41 parts)" in repr(comparison)


def test_files_are_recorded_without_reuse(ex, data):
    """Of a trial that keeps nothing too; a change without effect is told as well."""

    @ex.result
    def total(path):
        return 1

    result = total(ex.file(data / "x.csv"))
    result.compute()
    (data / "x.csv").write_text("2")
    result.compute()
    assert "What differs had no effect: file x.csv changed" in repr(ex.compare(1, 2))


def test_comparison_names_what_a_step_read(ex, data, log, monkeypatch):
    """A file and a variable that were not among its arguments."""
    path = str(data / "x.csv")

    @ex.result(persist=True, reuse=True)
    def read():
        with open(path) as file:
            return file.read(), os.environ.get("DASKPERIMENT_TEST_MODE")

    read().compute()
    (data / "x.csv").write_text("2")
    monkeypatch.setenv("DASKPERIMENT_TEST_MODE", "fast")
    read().compute()
    causes = [cause.name for cause in ex.compare(1, 2).steps[0].causes]
    assert causes == [
        "file x.csv changed", "environment variable DASKPERIMENT_TEST_MODE changed",
    ]  # fmt: skip


# Files that steps return --------------------------------------------------------------------------


def file_output(data, name):
    (data / name).write_bytes(b"content" * 20_000)
    return data / name


def text_output(data, name):
    return str(file_output(data, name))


def folder_output(data, name):
    (data / name / "deep").mkdir(parents=True)
    (data / name / "deep" / "empty").touch()
    return file_output(data, f"{name}/part").parent


def dict_output(data, name):
    return {"model": file_output(data, name), "score": 1}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("make", [file_output, text_output, folder_output, dict_output])
def test_a_hit_brings_files_back(ex, data, log, make, scheduler, request):
    """What a step made and returned by its path is kept, and is there again after a hit."""
    client = request.getfixturevalue("client") if scheduler == "cluster" else None
    how = {} if client else {"scheduler": scheduler}
    place = str(data)

    @ex.persist(reuse=True)
    def build(name):
        write(log, "build")
        return make(Path(place), name)

    @ex.result
    def size(made):
        path = Path(made["model"] if isinstance(made, dict) else made)
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        return sum(file.stat().st_size for file in files if file.is_file())

    result = size(build("made"))
    assert result.compute(**how) == 140_000
    for spoil in ("gone", "changed"):
        made = data / "made"
        if made.is_dir():
            shutil.rmtree(made)
        elif spoil == "gone":
            made.unlink()
        else:
            made.write_text("by hand")
        assert result.compute(**how) == 140_000
    assert ran(log) == {"build": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_kept_in_every_store(kind, make_place, data, log, open_again):
    """And brought back in a later process."""
    backend = make_place(kind).backend
    place = str(data)
    for _ in range(2):
        ex = open_again("kept", backend, reuse=True)

        @ex.result(persist=True)
        def build():
            write(log, "build")
            return file_output(Path(place), "made")

        assert build().compute().read_bytes() == b"content" * 20_000
        (data / "made").unlink()
    assert ran(log) == {"build": 1}


@pytest.mark.parametrize("kept", [True, False])
def test_somebody_elses_file_is_never_written_over(ex, data, log, kept):
    """A path to what was there before stands for what it holds, for steps behind it too."""
    os.utime(data / "x.csv", (1, 1))
    time.sleep(0.02)
    place = str(data)

    @(ex.persist(reuse=True) if kept else ex)
    def find():
        write(log, "find")
        return Path(place, "x.csv")

    @ex.persist(reuse=True)
    def read(path):
        write(log, "read")
        return path.read_text()

    @ex.result
    def total(text):
        return text

    result = total(read(find()))
    assert (result.compute(), result.compute(), ran(log)) == ("1", "1", {"find": 1, "read": 1})
    (data / "x.csv").write_text("2")
    time.sleep(0.02)
    assert "x.csv changed" in ex.explain(result)["read"].reason
    assert (result.compute(), result.compute(), ran(log)) == ("2", "2", {"find": 1, "read": 1})
    assert (data / "x.csv").read_text() == "2"


@pytest.mark.parametrize("wrap", [lambda path: path, lambda path: [path], lambda path: {"p": path}])
def test_writing_to_a_path_changes_no_argument(ex, data, wrap):
    """The path stays what it was, and nothing is warned of; warnings are errors here."""
    out = ex.parameter("out", default=wrap(data))

    @ex.persist(reuse=True)
    def export(out):
        path = out["p"] if isinstance(out, dict) else out[0] if isinstance(out, list) else out
        (path / "new.txt").write_text("1")
        return 1

    @ex.result
    def both(first, out):
        return first

    assert both(export(out), out).compute(scheduler="synchronous") == 1


SETTERS = {
    "default": "os.environ.setdefault(NAME, 'own')",
    "value": "os.environ[NAME] = os.environ.get(NAME, 'own')",
    "asked before": "NAME in os.environ or os.environ.update({NAME: 'own'})",
    "taken away": "os.environ.get(NAME); os.environ[NAME] = 'x'; del os.environ[NAME]",
    "popped": "os.environ.get(NAME); os.environ[NAME] = 'x'; os.environ.pop(NAME)",
}


@pytest.fixture
def setter(tmp_path, monkeypatch):
    """Return a way to make a function, of an installed package or of the user, from a line."""
    monkeypatch.setenv("DASKPERIMENT_TEST_MODE", "")
    monkeypatch.delenv("DASKPERIMENT_TEST_MODE")

    def make(line, folder="site-packages"):
        place = tmp_path / folder
        place.mkdir()
        text = f"import os\nNAME = 'DASKPERIMENT_TEST_MODE'\ndef prepare():\n    {line}\n"
        (place / "preparing.py").write_text(text)
        if folder == "site-packages":
            info = place / "preparing-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: preparing\nVersion: 1.0\n")
            (info / "RECORD").write_text("preparing.py,,\n")
        monkeypatch.syspath_prepend(place)
        monkeypatch.delitem(sys.modules, "preparing", raising=False)
        return importlib.import_module("preparing").prepare

    return make


def prepared(ex, log, prepare):
    """Make a result of a step that calls something first."""

    @ex.result(persist=True, reuse=True)
    def read():
        write(log, "read")
        prepare()
        return 1

    return read


@pytest.mark.parametrize("line", [*SETTERS])
def test_a_default_that_a_library_sets_is_no_change(ex, log, monkeypatch, setter, line):
    """What a library reads and sets by itself re-runs nothing, here or in a fresh process."""
    read = prepared(ex, log, setter(SETTERS[line]))
    assert (read().compute(), read().compute(), ran(log)) == (1, 1, {"read": 1})
    monkeypatch.delenv("DASKPERIMENT_TEST_MODE", raising=False)
    assert (read().compute(), ran(log)) == (1, {})
    monkeypatch.setenv("DASKPERIMENT_TEST_MODE", "the user's")
    assert "DASKPERIMENT_TEST_MODE changed" in ex.explain(read())["read"].reason
    assert (read().compute(), ran(log)) == (1, {"read": 1})


def test_what_the_users_code_sets_is_a_change(ex, log, setter):
    """A step of the user's that behaves otherwise the second time is run the second time."""
    read = prepared(ex, log, setter(SETTERS["default"], folder="project"))
    assert (read().compute(), read().compute(), ran(log)) == (1, 1, {"read": 2})
