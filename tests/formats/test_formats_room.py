"""Formats without heavy libraries: those of the package, those of others, and planted files."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import daskperiment
from daskperiment import Experiment, formats
from daskperiment.codec import pack, unpack
from daskperiment.errors import (
    CorruptRecordError,
    FormatError,
    PersistedResultNotFoundError,
    StoreWarning,
    UnknownFormatError,
    UntrustedObjectError,
)
from daskperiment.formats import known_formats
from daskperiment.formats.format import joined
from daskperiment.formats.path_formats import unpacked


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    __hash__ = None  # type: ignore[assignment]


class PointFormat(formats.Format):
    name, suffix = "point", ".point"

    def takes(self, value: Any) -> bool:
        return type(value) is Point

    def write(self, value: Any) -> bytes:
        return f"{value.x} {value.y}".encode()

    def read(self, data: Any) -> Point:
        return Point(*map(int, data.split()))


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_formats, "_REGISTERED", {})


@pytest.fixture
def registered() -> None:
    daskperiment.formats.register(PointFormat())


def kept(value: Any, key: bytes | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    form, blob = pack(value, key, 0, formats.as_object)
    assert blob is not None
    return form, {blob.digest: joined(blob.parts)}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("a text", "text"), (b"bytes" * 500, "bytes"), ([1, 2.5, "x"], "json"),
        ({"a": (1, None)}, "json"), (np.ones((3, 4)), "npy"), (np.asfortranarray(np.eye(3)), "npy"),
        (np.empty(0), "npy"), (np.array(3), "npy"),
    ],
)  # fmt: skip
def test_an_output_comes_back_from_its_file(value: Any, name: str) -> None:
    """The form of an output names the format, and the object is its file and nothing else."""
    form, objects = kept(value)
    assert form["format"] == name
    back = unpack(form, objects.__getitem__, None, formats.read_file)
    assert type(back) is type(value)
    assert np.array_equal(back, value)
    if name == "npy":
        assert back.flags.writeable
        assert back.flags.f_contiguous == value.flags.f_contiguous
        assert np.load(io.BytesIO(*objects.values()), allow_pickle=False).shape == value.shape


def test_asked_for_by_name(tmp_path: Path) -> None:
    """`format=` decides, counts in the record and not in the cache key, and may be pickle."""
    ex = Experiment("asked", backend=tmp_path)

    def step(a: int) -> Any:
        return {"a": a, "x": np.ones(3)}

    @ex.result
    def last(value: Any) -> int:
        return int(value["x"].sum())

    a = ex.parameter("a", default=1)
    for trial, name in enumerate(["npz", "pickle", None], 1):
        last(ex.persist(step, reuse=True, format=name)(a)).compute()
        assert ex.get_persisted("step", trial)["a"] == 1
    assert ex.get_steps()["Reused From"].dropna().tolist() == [1, 1], "in whatever format"
    record = next(iter(ex._store.read("steps", [1]))).body
    assert b'"format":"npz"' in record


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_on_every_scheduler(tmp_path: Path, scheduler: str) -> None:
    """A format that was asked for is used wherever the step runs."""
    ex = Experiment(f"on_{scheduler}", backend=tmp_path)

    @ex.persist(format="npz")
    def pair() -> Any:
        return np.arange(3), {"k": np.ones(2)}

    @ex.result(persist=True, format="json")
    def last(values: Any) -> Any:
        return [int(values[0].sum())]

    assert last(pair()).compute(scheduler=scheduler) == [3]
    first, second = ex.get_persisted("pair", 1)
    assert first.tolist() == [0, 1, 2]
    assert second["k"].tolist() == [1, 1]
    assert ex.get_persisted("last", 1) == [3]


def test_unfit_output_is_told(tmp_path: Path) -> None:
    """A value that the format does not take is not kept, the trial succeeds, and it is said why."""
    ex = Experiment("unfit", backend=tmp_path)

    @ex.persist(format="npy")
    def step() -> Any:
        return {"a": object()}

    @ex.result
    def last(value: Any) -> int:
        return 1

    assert last(step()).compute() == 1
    with pytest.raises(PersistedResultNotFoundError, match=r"cannot be kept as 'npy'.*'pickle'"):
        ex.get_persisted("step", 1)


def test_bad_names_are_refused_at_once(tmp_path: Path) -> None:
    """An unknown format, no text, and one without a kept output are errors of the call."""
    ex = Experiment("names", backend=tmp_path)
    with pytest.raises(UnknownFormatError, match="did you mean 'parquet'"):
        ex.persist(print, format="parqet")
    with pytest.raises(TypeError, match="format is 3; expected the name"):
        ex.persist(print, format=3)
    with pytest.raises(ValueError, match="add persist=True"):
        ex.result(lambda: 1, format="npy")
    with pytest.raises(FormatError, match="type Point cannot"):
        formats.written_as("npy", Point(1, 2))


# Formats of others ------------------------------------------------------------------------------


def test_a_registered_format_is_used(registered: None, tmp_path: Path) -> None:
    """A registered format keeps outputs unasked where they come back equal, and loads them."""
    ex = Experiment("own", backend=tmp_path)

    @ex.persist
    def step() -> Any:
        return Point(1, 2)

    @ex.result
    def last(value: Any) -> int:
        return int(value.x)

    assert last(step()).compute() == 1
    assert ex.get_persisted("step", 1) == Point(1, 2)
    form, objects = kept(Point(3, 4))
    assert (form["format"], *objects.values()) == ("point", b"3 4")


def test_a_format_that_loses_something_is_not_used(registered: None) -> None:
    """What does not come back equal is pickled, though a format says that it takes it."""
    assert kept(Point(1, 2))[0]["format"] == "point"
    lossy = PointFormat()
    lossy.read = lambda data: Point(0, 0)  # type: ignore[method-assign]
    formats.register(lossy)
    assert "format" not in kept(Point(1, 2))[0]
    assert joined(formats.written_as("point", Point(1, 2)).parts) == b"1 2", "if it is asked for"


def test_what_is_no_format_is_refused(registered: None) -> None:
    """Something without a format's methods, or with the name of another, is refused."""
    with pytest.raises(TypeError, match="which has no name; expected an instance"):
        formats.register(print())
    wrong = PointFormat()
    wrong.name = "npy"
    with pytest.raises(ValueError, match="name is 'npy'"):
        formats.register(wrong)


def test_a_class_and_a_stranger_are_formats(registered: None) -> None:
    """A class is called, and an object that has what formats have is one."""

    class Plain:
        name = "plain point"
        takes = staticmethod(lambda value: type(value) is Point)
        write = staticmethod(lambda value: b"%d %d" % (value.x, value.y))
        read = staticmethod(lambda data: Point(*map(int, data.split())))

    formats.register(Plain)
    formats.register(PointFormat)
    assert formats.written_as("plain point", Point(1, 2)).parts == [b"1 2"]


def test_packages_bring_formats_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points are formats; one that cannot be loaded is told, and costs nothing else."""
    points = [
        EntryPoint("point", f"{__name__}:PointFormat", known_formats.GROUP),
        EntryPoint("broken", "no_such_module:Format", known_formats.GROUP),
    ]
    monkeypatch.setattr(known_formats, "entry_points", lambda group: points)
    monkeypatch.setattr(EntryPoint, "load", lambda self: _load(self))
    known_formats._brought_along.cache_clear()
    try:
        with pytest.warns(StoreWarning, match="The format 'broken' .*no_such_module"):
            assert formats.written_as("point", Point(1, 2)).parts == [b"1 2"]
        assert kept(Point(1, 2))[0]["format"] == "point"
    finally:
        known_formats._brought_along.cache_clear()


def _load(point: EntryPoint) -> Any:
    if point.name == "broken":
        raise ModuleNotFoundError("no_such_module")
    return PointFormat


MODULE = """
import daskperiment.formats

class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

class PointFormat(daskperiment.formats.Format):
    name, suffix = "point", ".point"

    def takes(self, value):
        return type(value) is Point

    def write(self, value):
        return f"{value.x} {value.y}".encode()

    def read(self, data):
        return Point(*map(int, data.split()))

    def preview(self, value):
        return daskperiment.formats.Preview("text", f"at {value.x}")
"""
USER = """
import sys
import daskperiment
import point_package
ex = daskperiment.Experiment("points", backend="file://" + sys.argv[1])

@ex.persist
def make(x):
    ex.save("corner", point_package.Point(x, 5))
    return point_package.Point(x, 4)

@ex.result
def last(point):
    return point.x

if __name__ == "__main__":
    last(make(3)).compute(scheduler="processes", num_workers=1)
"""


def test_an_installed_package_brings_its_format(tmp_path: Path) -> None:
    """As pip leaves it, a package's format is used by workers, and by who only loads."""
    site = tmp_path / "site"
    (site / "point_package").mkdir(parents=True)
    (site / "point_package" / "__init__.py").write_text(MODULE)
    (info := site / "point_package-1.0.dist-info").mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: point-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[daskperiment.formats]\npoint = point_package:PointFormat\n"
    )
    (tmp_path / "user.py").write_text(USER)
    load = (
        "import sys, daskperiment; "
        "ex = daskperiment.Experiment('points', backend='file://' + sys.argv[1]); "
        "print(ex.get_persisted('make', 1).y, ex.load('corner', 1).y, "
        "ex.get_artifacts(1)['Format'][0], 'at 3' in ex.get_artifacts(1)._repr_html_())"
    )
    path = os.pathsep.join([str(site), str(Path(daskperiment.__file__).parents[1])])
    told = [
        subprocess.run(
            [sys.executable, *words, str(tmp_path / "store")],
            env={**os.environ, "PYTHONPATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        for words in (["user.py"], ["-c", load])
    ]
    assert [one.returncode for one in told] == [0, 0], [one.stderr for one in told]
    assert told[1].stdout == "4 5 point True\n"


# What somebody planted --------------------------------------------------------------------------


class Planted:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('ran')",)


def planted_files() -> dict[str, bytes]:
    """Files that have a pickle where a format has something else."""
    evil = pickle.dumps(Planted())
    objects = io.BytesIO()
    np.save(objects, np.array([Planted()], dtype=object), allow_pickle=True)
    archive = io.BytesIO()
    np.savez(archive, **{"daskperiment.json": np.array([Planted()], dtype=object)})  # type: ignore[arg-type]
    return {
        "npy": objects.getvalue(), "npz": archive.getvalue(), "json": evil, "safetensors": evil,
        "png": evil,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "data"), planted_files().items())
def test_planted_pickles_do_not_run(name: str, data: bytes) -> None:
    """A pickle in the place of a format's file is refused: nothing of it runs."""
    form, _ = kept(np.ones(3))
    form |= {"format": name}
    from daskperiment.codec.object_format import digest_of

    form["digest"] = digest_of([data])
    with pytest.raises((CorruptRecordError, ImportError)):
        unpack(form, lambda digest: data, None, formats.read_file)


def test_a_damaged_file_is_not_read() -> None:
    """A file whose bytes are not those that were written is refused before its format sees it."""
    form, objects = kept(np.ones(30))
    data = bytearray(*objects.values())
    data[-1] ^= 1
    with pytest.raises(CorruptRecordError, match="digest"):
        unpack(form, lambda digest: bytes(data), None, formats.read_file)


def test_with_a_signing_key_only_signed_files_are_read() -> None:
    """A key that fits reads the file; another one, or a file of another format, is refused."""
    form, objects = kept(np.ones(3), b"key")
    get = objects.__getitem__
    assert unpack(form, get, b"key", formats.read_file).tolist() == [1, 1, 1]
    assert unpack(form, get, None, formats.read_file).tolist() == [1, 1, 1]
    unsigned = {name: part for name, part in form.items() if name != "seal"}
    for wrong in (unsigned, {**form, "format": "bytes"}):
        with pytest.raises(UntrustedObjectError):
            unpack(wrong, get, b"key", formats.read_file)
    with pytest.raises(UntrustedObjectError):
        unpack(form, get, b"another", formats.read_file)


def test_an_unknown_format_is_told() -> None:
    """A value in a format that is not registered here says so, and what to do."""
    form, objects = kept(np.ones(3))
    with pytest.raises(UnknownFormatError, match=r"'point'.*register"):
        unpack({**form, "format": "point"}, objects.__getitem__, None, formats.read_file)


def test_files_and_folders(tmp_path: Path) -> None:
    """A file is kept byte by byte, a folder as an archive that is the same for equal contents."""
    (tmp_path / "a" / "empty").mkdir(parents=True)
    (tmp_path / "a" / "b.txt").write_text("text")
    file = formats.written_as("file", tmp_path / "a" / "b.txt")
    assert joined(file.parts) == b"text"
    folder = formats.written_as("folder", tmp_path / "a")
    assert folder.parts == formats.written_as("folder", str(tmp_path / "a")).parts
    copy = unpacked(joined(folder.parts), "a", is_folder=True)
    assert (copy / "b.txt").read_text() == "text"
    assert (copy / "empty").is_dir()
    assert unpacked(b"x", "../../evil", is_folder=False).name == "evil"


ODD_NAMES = [
    b"a.txt",
    b"f\xff",
    b"\xfe/g\xfd",
    b"empty\xff/",
    b"esc\\xff",
    "größe \u202e🧪".encode(),
    b"nl\n",
]
"""Names of files and folders; those of Linux are any bytes."""


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Whatever bytes the names in a folder are, its copy has them, and its preview is text."""
    source = os.fsencode(tmp_path / "source")
    for name in ODD_NAMES:
        place = os.path.join(source, name)
        os.makedirs(place if name.endswith(b"/") else os.path.dirname(place), exist_ok=True)
        if not name.endswith(b"/"):
            Path(os.fsdecode(place)).write_bytes(name)
    folder = formats.written_as("folder", os.fsdecode(source))
    assert "f\\xff" in folder.format.preview(os.fsdecode(source)).text.encode().decode()
    copy = os.fsencode(unpacked(joined(folder.parts), "a", is_folder=True))
    for name in ODD_NAMES:
        place = os.path.join(copy, name)
        if name.endswith(b"/"):
            assert os.path.isdir(place)
        else:
            assert Path(os.fsdecode(place)).read_bytes() == name


@pytest.mark.parametrize("raw", [b"../../evil\xff", b"/evil\xff", b"other\xff", b"", b"\0" * 9])
def test_a_name_as_bytes_leads_nowhere_else(tmp_path: Path, raw: bytes) -> None:
    """An archive of a store whose names as bytes are others than those that are seen has no say."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        entry = zipfile.ZipInfo("seen")
        entry.extra = struct.pack("<HH", 0x6B64, len(raw)) + raw
        archive.writestr(entry, b"x")
        entry = zipfile.ZipInfo("../../up\\xff")
        entry.extra = struct.pack("<HH", 0x6B64, 9) + b"../../up\xff"[:9]
        archive.writestr(entry, b"y")
    copy = unpacked(content.getvalue(), "a", is_folder=True)
    found = [each.relative_to(copy).as_posix() for each in copy.rglob("*")]
    assert sorted(found) == ["seen", "up\udcff"]


def test_a_header_is_read_once_and_a_damaged_one_refused():
    """Equal headers are of equal arrays; what is cut off or changed within one is an error."""
    from daskperiment.formats import numpy_formats

    array = np.arange(6.0).reshape(2, 3)
    data = b"".join(bytes(part) for part in numpy_formats.NpyFormat().write(array))
    numpy_formats._header_of.cache_clear()
    for _ in range(3):
        np.testing.assert_array_equal(numpy_formats.array_of(data), array)
    assert numpy_formats._header_of.cache_info().misses == 1
    first, second = numpy_formats.array_of(data), numpy_formats.array_of(data)
    first[0, 0] = 7
    assert second[0, 0] == 0
    for cut in (0, 3, 7, 9, 11, 40):
        with pytest.raises(ValueError, match=r".+"):
            numpy_formats.array_of(data[:cut])
    with pytest.raises(ValueError, match=r".+"):
        numpy_formats.array_of(data[:8] + b"\xff\xff\xff\xff" + data[12:])
