"""Whatever ``ex.file`` is given, changed content runs the step, and what is not there is told."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import daskperiment
from daskperiment.errors import DaskperimentError, InputFileError
from tests.reuse.work import ran, write


class EtagFileSystem(MemoryFileSystem):
    """An object store that tells versions, and whose objects are too large to be read for them."""

    protocol = "etagged"
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]
    told = "etag"

    def info(self, path, **kwargs):
        found = super().info(path, **kwargs)
        return {**found, self.told: f"v{len(self.cat_file(path))}"} if found["size"] else found


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("sources", backend=tmp_path / "store", seed=0)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def memory():
    fsspec.register_implementation("etagged", EtagFileSystem, clobber=True)
    yield
    for kind in (MemoryFileSystem, EtagFileSystem):
        kind.store.clear()


def taking(ex, log, source):
    """Make a result of a kept step that gets a source of ex.file."""

    @ex.persist(reuse=True)
    def take(source):
        write(log, "take")
        return str(source)

    @ex.result
    def out(text):
        return text

    return out(take(ex.file(source)))


def put(path, text):
    """Write to a path or a URL."""
    with fsspec.open(path, "w") as file:
        file.write(text)


def replaced(path, text):
    """Replace a file at once by another of the same size and time."""
    times = os.stat(path)
    new = Path(f"{path}.new")
    new.write_text(text)
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(new, path)


def written_over(path, text):
    """Write into a file, and set its time back."""
    times = os.stat(path)
    with open(path, "r+") as file:
        file.write(text)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def link(data):
    (data / "link.csv").symlink_to(data / "a.csv")
    return data / "link.csv"


def loop(data):
    (data / "loop").symlink_to(data)
    return data


NOT_UTF8 = os.fsdecode(b"\xff\xfe.csv")

LOCAL = {
    "path": lambda data: data / "a.csv",
    "text": lambda data: str(data / "a.csv"),
    "bytes": lambda data: os.fsencode(data / "a.csv"),
    "link": link,
    "folder": lambda data: data,
    "folder in itself": loop,
    "pattern": lambda data: str(data / "*.csv"),
    "question mark": lambda data: str(data / "?.csv"),
    "recursive": lambda data: str(data.parent / "**" / "a.csv"),
    "file URL": lambda data: f"file://{data}/a.csv",
    "file URL of folder": lambda data: f"file://{data}",
}


@pytest.mark.parametrize("change", [replaced, written_over])
@pytest.mark.parametrize("source", LOCAL)
def test_change_that_keeps_size_and_time(ex, data, log, source, change):
    """A file replaced or written over is seen though its size and its time are as before."""
    (data / "a.csv").write_text("1")
    result = taking(ex, log, LOCAL[source](data))
    assert (result.compute(), ran(log)) == (result.compute(), {"take": 1})
    change(data / "a.csv", "2")
    assert ex.explain(result)["take"].reason.startswith("file ")
    result.compute()
    change(data / "a.csv", "1")
    result.compute()
    os.utime(data / "a.csv", (1, 1))
    result.compute()
    assert ran(log) == {"take": 1}


@pytest.mark.parametrize("kind", ["memory", "etagged"])
@pytest.mark.parametrize("source", ["data/a.csv", "data", "data/*.csv"])
def test_urls(ex, log, memory, kind, source):
    """Objects, folders and patterns of a file system count by their content or their versions."""
    put(f"{kind}://data/a.csv", "1")
    result = taking(ex, log, f"{kind}://{source}")
    assert (result.compute(), result.compute()) == (f"{kind}://{source}",) * 2
    assert ran(log) == {"take": 1}
    put(f"{kind}://data/a.csv", "22")
    assert ex.explain(result)["take"].reason.startswith("file ")
    assert (result.compute(), ran(log)) == (f"{kind}://{source}", {"take": 1})
    put(f"{kind}://data/a.csv", "1")
    assert (result.compute(), ran(log)) == (f"{kind}://{source}", {})


def test_version_stands_for_the_content(ex, log, memory):
    """Where a store tells a version nothing is read: equal versions are equal content."""
    put("etagged://data/a.csv", "1")
    result = taking(ex, log, "etagged://data/a.csv")
    result.compute()
    put("etagged://data/a.csv", "2")  # its version is its length
    result.compute()
    assert ran(log) == {"take": 1}


MISSING = {
    "file": lambda data: data / "none.csv",
    "link to nothing": lambda data: ((data / "l").symlink_to(data / "none"), data / "l")[1],
    "pattern": lambda data: str(data / "*.parquet"),
    "URL": lambda data: "memory://none.csv",
    "pattern URL": lambda data: "memory://none/*.csv",
    "file URL": lambda data: f"file://{data}/none.csv",
    "unknown protocol": lambda data: "nosuch://a.csv",
}


@pytest.mark.parametrize("source", MISSING)
def test_what_is_not_there(ex, data, log, memory, source):
    """An error of ours and of Python's says what was given and what to give; no step runs."""
    with pytest.raises(FileNotFoundError, match=r"ex\.file\('.*(Give the path|cannot)") as caught:
        taking(ex, log, MISSING[source](data)).compute()
    assert isinstance(caught.value, InputFileError)
    assert isinstance(caught.value, DaskperimentError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert ran(log) == {}
    assert ex.get_history()["Success"].tolist() == [False]


def test_file_that_comes_and_goes(ex, data, log):
    """A deleted input fails the trial, and is a hit again when it is back."""
    (data / "a.csv").write_text("1")
    result = taking(ex, log, data / "a.csv")
    result.compute()
    (data / "a.csv").unlink()
    with pytest.raises(InputFileError):
        result.compute()
    (data / "a.csv").write_text("1")
    result.compute()
    assert ran(log) == {"take": 1}


@pytest.mark.parametrize("way", ["argument", "folder", "opened", "returned"])
def test_name_that_is_not_utf8(ex, data, log, way):
    """A file of such a name is an input, is observed, and comes back, as others do."""
    path = data / NOT_UTF8
    path.write_text("1")
    name = str(path)

    @ex.persist(reuse=True)
    def take(source):
        write(log, "take")
        if way == "returned":
            (source / f"{NOT_UTF8}.out").write_text("made")
            return source / f"{NOT_UTF8}.out"
        with open(name) as file:
            return file.read()

    @ex.result
    def out(value):
        return value.read_text() if way == "returned" else value

    source = {"argument": lambda: ex.file(path), "opened": lambda: 1}.get(way, lambda: data)()
    result = out(take(source))
    expected = "made" if way == "returned" else "1"
    assert (result.compute(), result.compute(), ran(log)) == (expected, expected, {"take": 1})
    if way == "returned":
        (data / f"{NOT_UTF8}.out").unlink()
        assert (result.compute(), ran(log)) == ("made", {})
        return
    path.write_text("2")
    assert ex.explain(result)["take"].reason.startswith("file ")
    assert (result.compute(), result.compute()) == ("2", "2")
    assert repr(ex.explain(result)).encode()


def test_content_is_read_once(ex, data, log, monkeypatch):
    """As long as size, times and inode stay, a file is not read again to know its content."""
    from daskperiment.capture import files

    for name in ("a.csv", "b.csv"):
        (data / name).write_text("1")
    reads = []
    digest = files._read_digest
    monkeypatch.setattr(files, "_read_digest", lambda path: reads.append(path) or digest(path))
    monkeypatch.setattr(files, "_RECENT", -1)  # as if the files were written long ago
    files._known_digest.cache_clear()
    result = taking(ex, log, data)
    for _ in range(3):
        result.compute()
    assert len(reads) == 2
    os.utime(data / "a.csv", (1, 1))
    result.compute()
    assert len(reads) == 3
