"""Large outputs are written while their digests are taken, and stand there as if they were not."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xxhash

import daskperiment
from daskperiment import experiment
from daskperiment.capture.fingerprint import bytes_of_arrays, is_array
from daskperiment.codec import buffer_digests, decode
from daskperiment.execution import kept_files, tasks
from daskperiment.formats import Format, kept_values, known_formats, register
from daskperiment.recording.delivery import Delivery
from daskperiment.recording.registry import close_recorders
from daskperiment.records import StepRun
from daskperiment.store import opening, rights
from daskperiment.store.file import objects
from daskperiment.store.file.objects import FileObjects, UnnamedObject
from daskperiment.store.file.store import FileStore
from tests.helpers.garbage import collect

ROWS = 500_000
"""Of 8 bytes: more than is worth a thread here, see `threads`."""


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a few megabytes worth a thread, whatever processors there are."""
    monkeypatch.setattr(tasks, "EARLY", 2 << 20)
    monkeypatch.setattr(kept_values, "threads_beside", lambda: 1)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[UnnamedObject]:
    """Note what is begun."""
    found: list[UnnamedObject] = []
    begin = UnnamedObject.begin

    def noted(self: UnnamedObject) -> None:
        begin(self)
        assert self._thread is not None
        found.append(self)

    monkeypatch.setattr(UnnamedObject, "begin", noted)
    return found


def _array(add: float) -> Any:
    return np.arange(float(ROWS)) + add


def _columns(add: float) -> Any:
    return np.asfortranarray(_array(add).reshape(-1, 5))


def _stretched(add: float) -> Any:
    return np.repeat(_array(add), 2)[::2]


def _records(add: float) -> Any:
    return _array(add).view([("one", "i4"), ("other", "f4")])


def _tensors(add: float) -> Any:
    torch = pytest.importorskip("torch")
    return {"a": torch.from_numpy(_array(add)), "inner": {"b": torch.ones(3)}}


def _itself(add: float) -> Any:
    torch = pytest.importorskip("torch")
    found: dict[str, Any] = {"a": torch.from_numpy(_array(add))}
    found["self"] = found  # kept by no format
    return found


VALUES = {
    "in rows": _array, "in columns": _columns, "with gaps": _stretched, "of records": _records,
    "tensors": _tensors,
}  # fmt: skip


def _files(folder: Path) -> dict[str, int]:
    """Return the files of large objects: name -> inode."""
    return {each.name: each.stat().st_ino for each in (folder / "early/objects").glob("*/*/*")}


def _computed(folder: Path, make: Any, add: float = 1.0, **options: Any) -> Any:
    """Persist what a function makes, in a trial."""
    ex = daskperiment.Experiment("early", backend=folder, **options)
    node = ex.result(type)(ex.persist(make)(ex.parameter("add")))
    node.bind(add=add).compute(scheduler="synchronous")
    return ex


def _output(ex: Any, step: str) -> str | None:
    """Return the fingerprint of what a step of the first trial returned."""
    runs = [decode(one.body, StepRun) for one in ex._store.read("steps", [1])]
    (found,) = [run.output for run in runs if run.step == step]
    return found


@pytest.mark.parametrize("name", VALUES)
def test_the_same_file_stands_there(
    name: str, tmp_path: Path, begun: list[UnnamedObject], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name and bytes are those of a file that is written when all is known of it."""
    make = VALUES[name]
    _computed(tmp_path / "early", make)
    assert len(begun) == 1
    monkeypatch.setattr(kept_values, "threads_beside", lambda: 0)
    ex = _computed(tmp_path / "late", make)
    assert len(begun) == 1
    early, late = ((tmp_path / each / "early/objects") for each in ("early", "late"))
    (there,) = _files(tmp_path / "early")
    (path,) = early.glob(f"*/*/{there}")
    assert path.read_bytes() == (late / path.relative_to(early)).read_bytes()
    other = daskperiment.Experiment("early", backend=tmp_path / "early")
    assert _output(ex, make.__name__) == _output(other, make.__name__)
    assert _output(ex, make.__name__)
    _assert_equal(ex.get_persisted(make.__name__, 1), make(1.0))


def _assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            _assert_equal(one[key], other[key])
    else:
        np.testing.assert_array_equal(one, other)


def test_it_is_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest is not waited for by who writes."""
    writes = threading.Event()
    reserve = objects._reserve

    def noted(*args: Any) -> None:
        writes.set()
        reserve(*args)

    class Late:
        def __init__(self) -> None:
            self._state = xxhash.xxh3_128()
            self.digest, self.hexdigest = self._state.digest, self._state.hexdigest

        def update(self, data: Any) -> None:
            if memoryview(data).nbytes > 1 << 20:
                assert writes.wait(60)
            self._state.update(data)

    monkeypatch.setattr(objects, "_reserve", noted)
    monkeypatch.setattr(buffer_digests, "xxh3_128", Late)
    ex = _computed(tmp_path, _array)
    np.testing.assert_array_equal(ex.get_persisted("_array", 1), _array(1.0))
    assert _output(ex, "_array")


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs", "ramfs"])
def test_room_is_reserved_where_that_saves_time(
    kind: str, at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is reserved once for each file on a disk, and for none that is memory."""
    sizes: list[int] = []
    looked_up: list[Path] = []
    monkeypatch.setattr(objects, "_fallocate", lambda: lambda *args: sizes.append(args[-1]))
    monkeypatch.setattr(rights, "file_system", lambda folder: looked_up.append(folder) or kind)
    monkeypatch.setattr(kept_values, "threads_beside", lambda: int(not at_once))
    monkeypatch.setattr(objects, "_ARE_MEMORY", {})
    ex = _computed(tmp_path, _array)
    assert looked_up
    (path,) = (tmp_path / "early/objects").glob("*/*/*")
    assert sizes == ([] if kind in ("tmpfs", "ramfs") else [path.stat().st_size])
    np.testing.assert_array_equal(ex.get_persisted("_array", 1), _array(1.0))


def test_a_device_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mounted is gone through once for all objects, whose folders are many."""
    looked_up: list[Path] = []
    monkeypatch.setattr(objects, "_ARE_MEMORY", {})
    monkeypatch.setattr(rights, "file_system", lambda folder: looked_up.append(folder) or "ext4")
    for number in range(8):
        store = FileStore(tmp_path / f"store{number % 2}")
        store.put(f"{number}{number:063}", [bytes(2 << 20)])
    assert len({path.parent for path in tmp_path.glob("*/objects/*/*/*")}) == 8
    assert len(looked_up) == 1


def test_an_object_is_kept_though_nothing_tells_what_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system does not say what is mounted, an object is written as on a disk."""

    def refuse(_: Path) -> str:
        raise PermissionError(errno.EACCES, "no /proc here")

    monkeypatch.setattr(objects, "_ARE_MEMORY", {})
    monkeypatch.setattr(rights, "file_system", refuse)
    FileStore(tmp_path).put("ab" * 32, [bytes(2 << 20)])
    (path,) = tmp_path.glob("objects/*/*/*")
    assert path.stat().st_size == 2 << 20


def test_what_is_there_stays(tmp_path: Path, begun: list[UnnamedObject]) -> None:
    """An output that another trial kept is not written again, and nothing is left of a try."""
    _computed(tmp_path, _array)
    before = _files(tmp_path)
    assert len(before) == 1
    for trial, tries in ((2, 1), (3, 2)):
        ex = _computed(tmp_path, _array)
        assert len(begun) == tries  # this process knows that it kept the same, another does not
        assert _files(tmp_path) == before
        np.testing.assert_array_equal(ex.get_persisted("_array", trial), _array(1.0))
        close_recorders()
        experiment._EXPERIMENTS.clear()


class Raw(Format):
    """A format of somebody else's."""

    name = "raw"

    def takes(self, value: Any) -> bool:
        return type(value) is np.ndarray

    def write(self, value: Any) -> bytes:
        found: bytes = value.tobytes()
        return found

    def read(self, data: bytes) -> Any:
        return np.frombuffer(data)


@pytest.mark.parametrize(
    "why", ["a pickle", "a format of others", "a place elsewhere", "of no format", "small"]
)
@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
def test_the_order_stays_where_it_matters(
    why: str, tmp_path: Path, begun: list[UnnamedObject], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where code of others has a say, or the file does not stay here, nothing is begun."""
    monkeypatch.setattr(known_formats, "_REGISTERED", {})
    make, options = {"of no format": _itself, "small": float}.get(why, _array), {}
    form = "pickle" if why == "a pickle" else None
    if why == "a format of others":
        register(Raw())
    if why == "a place elsewhere":
        options["objects"] = f"memory://early{os.getpid()}"
        monkeypatch.setattr(kept_files, "early_file", None)  # nor is a file made in vain
    ex = daskperiment.Experiment("early", backend=tmp_path, **options)
    node = ex.result(type)(ex.persist(make, format=form)(ex.parameter("add")))
    node.bind(add=1.0).compute(scheduler="synchronous")
    assert begun == []
    found = ex.get_persisted(make.__name__, 1)
    if why == "of no format":
        assert found["self"] is found
    else:
        np.testing.assert_array_equal(found, make(1.0))


def test_a_place_that_somebody_else_named(tmp_path: Path, begun: list[UnnamedObject]) -> None:
    """Who finds out late that large objects go elsewhere leaves nothing here, and learns it."""
    url = f"memory://named{os.getpid()}"
    _computed(tmp_path, _array, objects=url)
    close_recorders()
    experiment._EXPERIMENTS.clear()
    for trial in (2, 3):
        ex = _computed(tmp_path, _array, float(trial))
        assert len(begun) == 1
        assert _files(tmp_path) == {}
        np.testing.assert_array_equal(ex.get_persisted("_array", trial), _array(trial))
    files, root = fsspec.core.url_to_fs(url)
    assert len(files.find(root)) == 3


def _is_writer(*args: Any) -> bool:
    return threading.current_thread().name == "daskperiment-object"


def _starts_writer(*args: Any) -> bool:
    return bool(args[0].name == "daskperiment-object")


def _names_it(*args: Any) -> bool:
    return str(args[0]).endswith(".tmp") and "objects" in str(args[0])


FAULTS = {
    "no room": (objects, "_reserve", _is_writer, OSError(errno.ENOSPC, "no room")),
    "no folder": (rights, "make_folder", _is_writer, PermissionError(errno.EACCES, "not yours")),
    "no thread": (threading.Thread, "start", _starts_writer, RuntimeError("no new thread")),
    "no memory": (objects, "_reserve", _is_writer, MemoryError()),
    "no name": (os, "replace", _names_it, OSError(errno.EIO, "broken")),
    "deleted": (os, "replace", _names_it, FileNotFoundError(errno.ENOENT, "deleted")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_no_value(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong on the way is as if nothing had been begun, and nobody is told of it."""
    place, name, is_meant, error = FAULTS[fault]
    function, failed = getattr(place, name), []

    def replaced(*args: Any, **kwargs: Any) -> Any:
        if not failed and is_meant(*args):
            failed.append(1)
            if fault == "deleted":
                shutil.rmtree(tmp_path / "early/objects")
            raise error
        return function(*args, **kwargs)

    monkeypatch.setattr(place, name, replaced)
    ex = _computed(tmp_path, _array)
    assert failed
    assert len(_files(tmp_path)) == 1
    np.testing.assert_array_equal(ex.get_persisted("_array", 1), _array(1.0))


def test_without_threads_all_is_written_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a process can have no more threads, several large arrays are kept and known as well."""
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name in ("daskperiment-object", "daskperiment-digest"):
            raise RuntimeError("can't start new thread")
        start(thread)

    def both(add: float) -> Any:
        return [_array(add), _array(add + 1)]

    monkeypatch.setattr(buffer_digests, "_BESIDE", 1 << 20)
    monkeypatch.setattr(buffer_digests, "threads_beside", lambda: 1)
    outputs = []
    for folder in ("with", "without"):
        ex = _computed(tmp_path / folder, both)
        assert len(ex.get_persisted("both", 1)) == 2
        outputs.append(_output(ex, "both"))
        monkeypatch.setattr(threading.Thread, "start", refused)
    assert outputs[0] == outputs[1] is not None


def _sparse() -> Any:
    return pytest.importorskip("torch").eye(3).to_sparse()


UNMEASURED = {
    "sparse": _sparse,
    "among others": lambda: {"a": _sparse()},
    "storage": lambda: pytest.importorskip("torch").ones(3).untyped_storage(),
}


@pytest.mark.parametrize("name", UNMEASURED)
def test_what_tells_no_size_is_returned(name: str, tmp_path: Path) -> None:
    """A value whose library has no number of bytes for it is kept as any other."""

    def make(add: float) -> Any:
        return UNMEASURED[name]()

    ex = _computed(tmp_path, make)
    assert type(ex.get_persisted("make", 1)) is type(make(1.0))


class Answering:
    """Answers with an error that no attribute has."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


class Posing:
    """Looks for what it stands in for, in vain."""

    @property
    def __class__(self) -> Any:
        raise LookupError("nothing to stand in for")


def test_what_is_returned_is_asked_with_care() -> None:
    """To see whether a value is large, or an array, costs no value that answers oddly."""
    pytest.importorskip("torch")
    for value in (Answering(), {"a": Answering()}, {"a": Posing()}):
        assert bytes_of_arrays(value) == 0
        assert not is_array(value)


def _look(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(tasks, "fingerprint", interrupted)


def _start(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if _starts_writer(thread):
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)


def _start_late(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if _starts_writer(thread):
            thread.join()
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)


def _wait(monkeypatch: pytest.MonkeyPatch) -> None:
    join = threading.Thread.join

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        if _starts_writer(thread):
            raise KeyboardInterrupt
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)


@pytest.mark.parametrize("interrupted", [_look, _start, _start_late, _wait])
def test_an_interrupt_leaves_nothing(
    interrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who gives up while an output is looked at, once or twice, leaves no file of it."""
    with monkeypatch.context() as patched:
        interrupted(patched)
        with pytest.raises(KeyboardInterrupt):
            _computed(tmp_path, _array)
    writers = [each for each in threading.enumerate() if _starts_writer(each)]
    assert not writers or interrupted is not _look
    for each in writers:
        each.join()
    assert _files(tmp_path) == {}


BETWEEN = [
    tasks.StepRunner._succeeded, tasks.StepRunner._early_file, kept_files.unnamed_file,
    Delivery.unnamed, opening.unnamed_object, FileStore.unnamed_object, FileObjects.unnamed,
    UnnamedObject.__init__, UnnamedObject.begin, UnnamedObject.close,
]  # fmt: skip
"""What runs before and after an output is looked at."""


class Interruption:
    """Counts the lines, calls and returns of some functions, and interrupts at one of them."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.passed = 0
        self._codes = {each.__code__ for each in BETWEEN}

    def __call__(self, frame: Any, event: str, arg: Any) -> Any:
        """Take the place of `sys.settrace`'s function."""
        if frame.f_code not in self._codes:
            return None
        self.passed += 1
        if self.passed == self.place:
            raise KeyboardInterrupt
        return self


def _few(add: float) -> Any:
    return np.arange(3.0) + add


def _looks_interrupted(*args: Any) -> Any:
    raise OverflowError("here nothing else is of interest")


def test_an_interrupt_at_any_moment_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first thought of a file until it is closed no moment is one too late."""
    monkeypatch.setattr(tasks, "EARLY", 0)
    monkeypatch.setattr(tasks.StepRunner, "_look_at_output", _looks_interrupted)
    ex = daskperiment.Experiment("early", backend=tmp_path)
    node = ex.result(type)(ex.persist(_few)(ex.parameter("add")))
    place, interruption = 0, Interruption(1)
    while place == 0 or interruption.passed >= place:
        place += 1
        interruption = Interruption(place)
        before = sys.gettrace()
        sys.settrace(interruption)
        try:
            node.bind(add=place).compute(scheduler="synchronous")
        except (KeyboardInterrupt, OverflowError):
            pass  # not by pytest, which would hold what raised it
        finally:
            sys.settrace(before)
        for each in filter(_starts_writer, threading.enumerate()):
            each.join()
        if _files(tmp_path):
            collect()  # what raised the interrupt may refer to itself
        assert _files(tmp_path) == {}, place
    assert place > 50
