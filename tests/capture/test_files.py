"""What files hold: their digests, and what is read again to find them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

import pytest

from daskperiment.capture import files
from daskperiment.capture.encoding import NoFingerprintError
from daskperiment.capture.files import by_content, by_stamp, content_of, file_digest, source_of


def write(path, text="1", age=100):
    """Write a file that was settled some time ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    stamp = path.stat().st_mtime - age
    os.utime(path, (stamp, stamp))
    return path


def test_a_path_stands_for_name_and_content(tmp_path):
    """Moved and touched it is the same; renamed or with other content it is not."""
    first = write(tmp_path / "a" / "x.csv")
    known = by_content(first)
    assert by_content(write(tmp_path / "b" / "x.csv", age=5000)) == known
    assert by_content(write(tmp_path / "b" / "y.csv")) != known
    assert by_content(write(first, "2")) != known


def test_same_size_and_time_do_not_hide_another_content(tmp_path):
    """A content of equal length whose time of modification was set back is seen."""
    path = write(tmp_path / "x.csv", "1")
    before = path.stat()
    known = file_digest(str(path))
    path.write_text("2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_digest(str(path)) != known


def test_an_unchanged_file_is_read_once(tmp_path, monkeypatch):
    """Its size, times and inode tell that it is unchanged, once they are old enough to tell."""
    path = str(write(tmp_path / "x.csv"))
    monkeypatch.setattr(files, "_RECENT", -1_000_000_000)
    reads = []
    read = files._read_digest
    monkeypatch.setattr(files, "_read_digest", lambda path: reads.append(path) or read(path))
    assert file_digest(path) == file_digest(path)
    assert reads == [path]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write(folder / "a.csv", "2"),
        lambda folder: (folder / "a.csv").rename(folder / "c.csv"),
        lambda folder: write(folder / "deep" / "c.csv"),
        lambda folder: (folder / "deep" / "b.csv").unlink(),
    ],
)
def test_a_folder_is_its_names_and_contents(tmp_path, change):
    """Whatever is changed, renamed, added or removed within; not where it stands."""
    write(tmp_path / "one" / "a.csv")
    write(tmp_path / "one" / "deep" / "b.csv")
    known = content_of(str(tmp_path / "one"))
    assert list(known.parts) == ["a.csv", "deep/b.csv"]
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert by_content(tmp_path / "two") == by_content(tmp_path / "one")
    change(tmp_path / "two")
    assert by_content(tmp_path / "two") != by_content(tmp_path / "one")


def test_links_are_followed_and_circles_end(tmp_path):
    """A link stands for what it leads to, and a folder within itself is looked at once."""
    target = write(tmp_path / "data" / "x.csv")
    (tmp_path / "x.csv").symlink_to(target)
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    assert by_content(tmp_path / "x.csv") == by_content(target)
    assert list(content_of(str(tmp_path / "data")).parts) == ["x.csv"]


def test_what_is_not_there_is_its_text(tmp_path):
    """A path that leads nowhere, or that is no path of this machine, stands for itself."""
    assert by_content(tmp_path / "none") == by_stamp(tmp_path / "none") == str(tmp_path / "none")
    assert by_content(PurePosixPath(__file__)) == __file__


def test_a_folder_of_too_many_files_has_no_content(tmp_path, monkeypatch):
    """Somebody's home is no input."""
    monkeypatch.setattr(files, "MOST_FILES", 2)
    for name in "abc":
        write(tmp_path / name)
    with pytest.raises(NoFingerprintError, match="more than 2 files"):
        content_of(str(tmp_path))


def test_what_a_source_gives_to_a_step(tmp_path):
    """A path for a file, a sorted list for a pattern, the URL itself."""
    for name in ("b.csv", "a.csv"):
        write(tmp_path / name)
    assert source_of(tmp_path / "a.csv").value() == tmp_path / "a.csv"
    assert source_of(f"{tmp_path}/*.csv").value() == [tmp_path / "a.csv", tmp_path / "b.csv"]
    assert source_of("memory://a.csv").value() == "memory://a.csv"
    assert Path(source_of("~").value()) == Path.home()


@pytest.mark.parametrize("wrong", [1, None, ["a.csv"]])
def test_what_is_no_source_is_refused(wrong):
    """With what came and what was expected."""
    with pytest.raises(TypeError, match=r"ex\.file got .*; expected a path"):
        source_of(wrong)


def test_urls_are_their_content(tmp_path):
    """In memory, where no version is told, and on disk alike."""
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/daskperiment-files/a.csv", b"1")
    memory.pipe("/daskperiment-files/b.csv", b"2")
    folder = source_of("memory://daskperiment-files")
    one = source_of("memory://daskperiment-files/a.csv")
    before = folder.content(), one.content()
    assert list(before[0].parts) == ["a.csv", "b.csv"]
    assert source_of("memory://daskperiment-files/*.csv").content() == before[0]
    memory.pipe("/daskperiment-files/a.csv", b"3")
    assert folder.content().digest != before[0].digest
    assert one.content().digest != before[1].digest
    path = write(tmp_path / "x.csv")
    assert source_of(f"file://{path}").content() == source_of(path).content()
    with pytest.raises(NoFingerprintError, match="names no file"):
        source_of("memory://daskperiment-files/none").content()
