"""An object's file is read once to find out that it is intact, and again whenever it changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daskperiment.codec import ObjectFile, check_object, dump_object, load_object
from daskperiment.codec import object_format as module
from daskperiment.errors import CorruptRecordError

ARRAY = np.arange(1000.0)


class Place:
    """A file with an object, whose times are long past, and what a store knows of it."""

    def __init__(self, path: Path, key: bytes | None = None) -> None:
        blob = dump_object(ARRAY, key)
        self.path, self.digest, self.key = path, blob.digest, key
        self.intact: dict[str, tuple[int, ...]] = {}
        path.write_bytes(b"".join(blob.parts))

    def settle(self) -> None:
        """Wait until a change would have another time: no program can set the time of change."""
        while max(os.stat(self.path).st_ctime_ns, os.stat(self.path).st_mtime_ns) + 1.2e8 > (
            time.time_ns()
        ):
            time.sleep(0.01)

    def map(self) -> Any:
        """Map the file as a store does."""
        with open(self.path, "rb") as file:
            return ObjectFile.of(file, self.intact)

    def load(self) -> Any:
        """Load the value."""
        return load_object(self.map(), self.digest, self.key)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many bytes each digest is taken of."""
    noted: list[int] = []
    has_digest = module.has_digest

    def noting(view: memoryview, digest: str) -> bool:
        noted.append(view.nbytes)
        return has_digest(view, digest)

    monkeypatch.setattr(module, "has_digest", noting)
    return noted


def test_intact_file_is_read_once(tmp_path: Path, reads: list[int]) -> None:
    """What was found to be intact is not read again, and what is loaded is the same."""
    place = Place(tmp_path / "object")
    place.settle()
    reads.clear()
    for _ in range(3):
        np.testing.assert_array_equal(place.load(), ARRAY)
    assert len(reads) == 1


def test_recent_file_is_read_every_time(tmp_path: Path, reads: list[int]) -> None:
    """A file that may change without another time is not trusted."""
    place = Place(tmp_path / "object")
    os.utime(place.path, ns=(0, time.time_ns() + 10**12))  # changed in the future, by its time
    reads.clear()
    for _ in range(3):
        place.load()
    assert len(reads) == 3


def flip(path: Path) -> None:
    """Change one byte in place, and put the time of modification back."""
    times = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-100, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replace(path: Path) -> None:
    """Put another file of the same size and times in its place."""
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size - 1) + b"x")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def cut(path: Path) -> None:
    """Cut the last byte off."""
    os.truncate(path, path.stat().st_size - 1)


def grow(path: Path) -> None:
    """Add a byte."""
    with open(path, "ab") as file:
        file.write(b"x")


def empty(path: Path) -> None:
    """Leave nothing, as a power failure may."""
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [flip, replace, cut, grow, empty])
def test_every_change_is_seen(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A file that was intact and is changed behind the store's back is refused."""
    place = Place(tmp_path / "object")
    place.settle()
    place.load()
    assert place.intact
    damage(place.path)
    with pytest.raises(CorruptRecordError):
        place.load()


def test_damaged_file_is_never_known(tmp_path: Path) -> None:
    """What was refused once is refused again."""
    place = Place(tmp_path / "object")
    flip(place.path)
    place.settle()
    for _ in range(2):
        with pytest.raises(CorruptRecordError):
            place.load()
    assert place.intact == {}


def test_another_objects_file_is_not_taken_for_it(tmp_path: Path) -> None:
    """That a file is intact under its own digest says nothing for another one."""
    place = Place(tmp_path / "object")
    place.settle()
    place.load()
    with pytest.raises(CorruptRecordError):
        load_object(place.map(), "0" * 32)


@pytest.mark.parametrize("key", [None, b"secret"])
def test_who_checks_reads_all(tmp_path: Path, reads: list[int], key: bytes | None) -> None:
    """A check reads every byte whatever is known of the file, and so does loading with a key."""
    place = Place(tmp_path / "object", key)
    place.settle()
    place.load()
    reads.clear()
    check_object(place.map(), place.digest)
    if key is not None:
        place.load()
    size = place.path.stat().st_size
    assert reads == [size] * (1 if key is None else 2)


def test_written_arrays_leave_the_file_alone(tmp_path: Path) -> None:
    """Who writes into a loaded array changes neither the file nor what is loaded next."""
    place = Place(tmp_path / "object")
    place.settle()
    place.load()[:] = 0
    np.testing.assert_array_equal(place.load(), ARRAY)
