"""Large objects in places of fsspec: the contract of stores, and what places may not do."""

from __future__ import annotations

import itertools
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import msgspec
import pytest
from dask import config

import daskperiment
from daskperiment.errors import (
    CorruptRecordError,
    DaskperimentError,
    MissingLibraryError,
    ObjectsUnavailableError,
    StoreError,
)
from daskperiment.store.buckets import Bucket, BucketPlace, named_place
from daskperiment.store.file import FileStore
from daskperiment.store.object_methods import LARGE
from daskperiment.store.protocol import Record
from daskperiment.testing import StoreConformance

_NUMBERS = itertools.count()
LARGE_BODY = b"x" * (LARGE + 1)


class TestContractWithPlace(StoreConformance):
    """A store whose large objects are elsewhere keeps the contract."""

    # Of records alone, which are where they were.
    test_processes = None
    test_survives_the_process = None

    @pytest.fixture
    def make_store(self, tmp_path: Path) -> Callable[[str], FileStore]:
        named = named_place(tmp_path / "bucket")

        def make(name: str) -> FileStore:
            store = FileStore(tmp_path / "stores" / name)
            store.name_place(named)
            return store

        return make


@pytest.fixture
def url() -> str:
    """Name a place in memory that nobody else has."""
    return f"memory://place{next(_NUMBERS)}"


def stored(url: str) -> list[str]:
    """List the files of a place."""
    files, root = fsspec.core.url_to_fs(url)
    return sorted(files.find(root)) if files.exists(root) else []


def store_at(folder: Path, url: object = None) -> FileStore:
    store = FileStore(folder)
    store.name_place(named_place(url))
    return store


def test_only_large_objects_go_elsewhere(tmp_path, url):
    """Objects above the limit are in the place, under their digests; smaller ones are not."""
    store = store_at(tmp_path / "ex", url)
    store.put("aa11", [bytes(LARGE)])
    assert stored(url) == []
    store.put("bb22", [memoryview(LARGE_BODY)[:10], LARGE_BODY[10:]])
    (path,) = stored(url)
    assert path.endswith("/bb/bb22")
    assert "/ex-" in path
    assert not list((tmp_path / "ex" / "objects").glob("*/*/*"))
    assert store.sizes(["aa11", "bb22", "cc"]) == {"aa11": LARGE, "bb22": LARGE + 1}
    assert sorted(store.digests()) == ["aa11", "bb22"]


def test_who_named_no_place_finds_them(tmp_path, url):
    """Where objects are is recorded: a store opened without a word of it reads and writes there."""
    store_at(tmp_path / "ex", url).put("bb22", [LARGE_BODY])
    later = store_at(tmp_path / "ex")
    assert bytes(later.get("bb22")) == LARGE_BODY
    later.put("cc33", [LARGE_BODY])
    assert len(stored(url)) == 2


def test_two_places(tmp_path, url):
    """A place that is named later is used from then on, and what is in the first is still found."""
    store_at(tmp_path / "ex", url).put("bb22", [LARGE_BODY])
    store = store_at(tmp_path / "ex", f"{url}-new")
    store.put("cc33", [LARGE_BODY])
    store_at(tmp_path / "ex").put("dd44", [LARGE_BODY])
    assert len(stored(url)) == 1
    assert len(stored(f"{url}-new")) == 2
    assert set(store_at(tmp_path / "ex").sizes(["bb22", "cc33", "dd44"])) == {
        "bb22",
        "cc33",
        "dd44",
    }
    store_at(tmp_path / "ex", url).put("ee55", [LARGE_BODY])
    assert len(stored(url)) == 2


def test_experiments_share_a_place(tmp_path, url):
    """Experiments of one name in two folders share a bucket; deleting one leaves the other's."""
    first, second = store_at(tmp_path / "a" / "ex", url), store_at(tmp_path / "b" / "ex", url)
    for each in (first, second):
        each.put("bb22", [LARGE_BODY])
    assert len(stored(url)) == 2
    first.delete()
    assert len(stored(url)) == 1
    assert bytes(second.get("bb22")) == LARGE_BODY


def test_deleting_leaves_what_is_not_ours(tmp_path):
    """Of a folder that a record calls the place of objects, nothing but objects is removed."""
    home = tmp_path / "home"
    (home / "ab").mkdir(parents=True)
    for name in ("letter.txt", "ab/letter.txt", "ab/cd11", "ab/ab11"):
        (home / name).write_text("mine")
    store = FileStore(tmp_path / "ex")
    body = msgspec.json.encode({"base": "file:///x", "root": f"file://{home}"})
    store.append([Record("places", 0, "planted", body)])
    store.delete()
    left = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    assert left == ["ab/cd11", "ab/letter.txt", "letter.txt"]


@pytest.mark.parametrize(
    "root", ["sftp://evil/x", "http://evil/x", "reference://x", "simplecache::file:///x", "git://x"]
)
def test_records_lead_to_no_host(tmp_path, root):
    """A record that names a host or a chain of file systems is not followed."""
    store = FileStore(tmp_path / "ex")
    body = msgspec.json.encode({"base": root, "root": root})
    store.append([Record("places", 0, "planted", body)])
    with pytest.raises(StoreError, match="If you trust that"):
        store.get("bb22")


def test_damaged_records_of_places_are_passed_over(tmp_path, url):
    """What is no record of a place leads nowhere, and costs no object."""
    store = store_at(tmp_path / "ex", url)
    store.put("bb22", [LARGE_BODY])
    store.append([Record("places", 0, "odd", b'{"base":3}'), Record("places", 0, "odder", b"[]")])
    assert bytes(FileStore(tmp_path / "ex").get("bb22")) == LARGE_BODY


def test_cut_objects(tmp_path):
    """An object that is shorter than it was is damage, and is written again by a later put."""
    bucket = Bucket(BucketPlace(f"file://{tmp_path}"))
    bucket.put("bb22", [LARGE_BODY])
    (tmp_path / "bb" / "bb22").write_bytes(b"half")
    bucket.put("bb22", [LARGE_BODY])
    assert bytes(bucket.get("bb22")) == LARGE_BODY

    class Cut:
        protocol = "cut"

        def info(self, path):
            return {"type": "file", "size": 10}

        def cat_file(self, path, start, end):
            return b"" if start else b"half"

    from daskperiment.store import buckets

    with pytest.raises(CorruptRecordError, match="ends after 4 of 10 bytes"):
        buckets._get(Cut(), "x")


def test_failed_writes_leave_nothing(tmp_path, monkeypatch):
    """Where a file grows as it is written, it has its name only when it is whole."""
    from fsspec.implementations.local import LocalFileSystem

    bucket = Bucket(BucketPlace(f"file://{tmp_path}"))

    def fail(self, path, value, **more):
        Path(path).write_bytes(value[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "pipe_file", fail)
    with pytest.raises(StoreError, match="No space left"):
        bucket.put("bb22", [LARGE_BODY])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert bucket.sizes(["bb22"]) == {}


@pytest.mark.parametrize(
    ("named", "kind", "text"),
    [
        (3, TypeError, "has the type int; expected a URL of fsspec"),
        ("", ValueError, "expected a URL of fsspec"),
        ("s3:bucket", ValueError, "expected a URL of fsspec"),
        ("s3://", ValueError, "expected a URL of fsspec"),
        ("simplecache::s3://bucket", ValueError, "expected a URL of fsspec"),
        ("s3://bucket?key=secret", ValueError, "Options of a file system are the Dask"),
        ("nowhere://bucket", ValueError, "fsspec knows no 'nowhere'"),
    ],
)
def test_what_is_no_place(tmp_path, named, kind, text):
    """What names no place is refused at once: what came, what was expected, and no secret."""
    with pytest.raises(kind, match=text) as caught:
        daskperiment.Experiment("refused", backend=tmp_path, objects=named)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "text"), [("s3fs", "pip install"), ("fsspec", "pip install fsspec")]
)
def test_missing_libraries(tmp_path, monkeypatch, module, text):
    """Without fsspec, or s3fs, the error says how to install it; it is an ImportError."""
    # What was loaded once is known to fsspec by its protocol.
    loaded = sys.modules["fsspec.registry"]._registry
    monkeypatch.delitem(loaded, "s3", raising=False)
    for name in [one for one in sys.modules if one.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingLibraryError, match=text) as caught:
        daskperiment.Experiment("missing", backend=tmp_path, objects="s3://bucket/folder")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, DaskperimentError)


def test_secrets_of_places(tmp_path, monkeypatch):
    """User and password of a URL, and options, go to workers with the store, and nowhere else."""
    pytest.importorskip("s3fs")

    class Refusing:
        protocol = "s3"
        retries = 0

        def __init__(self, url, key, secret, **options):
            self.secret = secret

        def info(self, path):
            raise PermissionError(f"the secret {self.secret} is wrong")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url, **rest: (Refusing(url, **rest), url))
    with config.set({"daskperiment.objects-options": {"token": "hunter3"}}):
        place = named_place("s3://me:hunter%32@bucket/folder/")
    assert place == ("s3://bucket/folder", {"key": "me", "secret": "hunter2", "token": "hunter3"})
    store = FileStore(tmp_path / "ex")
    store.name_place(place)
    with pytest.raises(StoreError, match=r"secret \*\*\* is wrong") as caught:
        store.put("bb22", [LARGE_BODY])
    assert "hunter" not in f"{caught.value} {store!r} {store.address}"
    assert b"hunter" not in b"".join(one.body for one in store.read("places"))
    assert pickle.loads(pickle.dumps(store)).place == place
    assert pickle.loads(pickle.dumps(store.without_secrets())).place is None


def test_away_is_told_from_refused(tmp_path, monkeypatch):
    """A service that cannot be reached has an error of its own, by which objects wait for it."""

    class EndpointConnectionError(Exception):
        pass

    EndpointConnectionError.__name__ = "HTTPClientError"

    class Away:
        protocol = "memory"

        def info(self, path):
            raise EndpointConnectionError("no route")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url, **rest: (Away(), url))
    with pytest.raises(ObjectsUnavailableError, match="memory://x cannot be reached"):
        Bucket(BucketPlace("memory://x")).put("bb22", [LARGE_BODY])


def test_custom_stores_keep_their_objects(tmp_path):
    """A store of somebody else's keeps all objects itself: naming a place for it is refused."""

    class Passing:
        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            return getattr(self._store, name)

    with pytest.raises(TypeError, match="keeps all objects itself"):
        daskperiment.Experiment("own", backend=Passing(FileStore(tmp_path / "x")), objects=tmp_path)
