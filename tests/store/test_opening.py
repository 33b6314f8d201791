"""From a backend to a store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dask
import pymongo
import pytest
import redis
import redis.asyncio

import daskperiment
from daskperiment.errors import StoreError
from daskperiment.store.file import FileStore
from daskperiment.store.opening import (
    journal_folder,
    list_experiments,
    open_store,
    resolve,
)

ROOT = Path(daskperiment.__file__).parent.parent


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def client():
    with pymongo.MongoClient("mongodb://localhost:1", connect=False) as client:
        yield client


# Folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "folder"),
    [
        ("some/folder", "some/folder"),
        (Path("some/../folder"), "folder"),
        ("file:///a%20b/c?d#e", "/a b/c?d#e"),
        ("file://localhost/a", "/a"),
        ("FILE:///a", "/a"),
        (None, "daskperiment_cache"),
    ],
)
def test_folders(tmp_path, monkeypatch, backend, folder):
    """Paths and file URLs name a folder, which is made absolute at once."""
    store = open_store(backend, "ex")
    monkeypatch.chdir("/")
    assert isinstance(store, FileStore)
    assert store.folder == tmp_path / folder / "ex"
    assert not store.folder.exists()


def test_address_is_a_backend(tmp_path):
    """The address of a store's root, given as backend, is the same place."""
    store = open_store(tmp_path / "ä b%20#?", "ex")
    root, _, id = store.address.rpartition("/")
    assert open_store(root, id).address == store.address


def test_configured_backend(tmp_path):
    """Without a backend the Dask configuration is asked, when the store is opened."""
    with dask.config.set({"daskperiment.backend": "file:///configured"}):
        assert open_store(None, "ex").folder == Path("/configured/ex")
    assert open_store(None, "ex").folder == tmp_path / "daskperiment_cache" / "ex"


def test_opening_loads_no_driver():
    """A folder is opened without loading the drivers of the servers, or pytest."""
    code = (
        "import sys; from daskperiment.store.opening import open_store\n"
        "open_store(None, 'ex'); print({'redis', 'pymongo', 'pytest'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"


# Servers and objects -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "backend",
    ["redis://:secret@localhost:1/2", "rediss://localhost:1", "unix:///tmp/none.sock"],
)
def test_redis_urls(backend):
    """URLs of Redis give a Redis store, whose address has no password; nothing is connected."""
    store = open_store(backend, "ex")
    assert type(store).__name__ == "RedisStore"
    assert "secret" not in store.address
    store.close()


def test_redis_objects():
    """Clients and pools of redis-py give a Redis store."""
    for make in (redis.Redis, redis.ConnectionPool):
        store = open_store(make(port=1), "ex")
        assert type(store).__name__ == "RedisStore"
        store.close()


def test_mongo(client):
    """URLs with a database name, and databases of pymongo, give a Mongo store."""
    for backend in ("mongodb://u:secret@localhost:1/db?connect=false", client["db"]):
        store = open_store(backend, "ex")
        assert type(store).__name__ == "MongoStore"
        assert "secret" not in store.address
        store.close()


def test_store_is_itself(tmp_path):
    """A store is taken as it is."""
    store = FileStore(tmp_path)
    assert open_store(store, "ex") is store


@pytest.mark.parametrize(
    "backend",
    [
        "",
        "file:relative",
        "redis:/localhost:6379/0",
        "Redis:localhost",
        "localhost:6379",
        "localhost",
        "127.0.0.1",
        "10.0.0.7/experiments",
        "redis;//localhost",
        "postgres/db",
        " ",
        "redis",
        "mongodb:localhost/db",
        "mongodb:/localhost/db",
        "local",
        "pymongo",
        "file://server/share",
        "file:///",
        "http://me:secret@host/a?password=secret",
        "ftp://me:sec@ret@host",
        "mongodb://me:secret@host",
        "mongodb://me:secret@host/?replicaSet=a",
        "mongodb+srv://me:secret@host/",
    ],
)
def test_bad_text(backend):
    """A text that names no place is a ValueError that shows it without password, and an example."""
    for call in (lambda: open_store(backend, "ex"), lambda: list_experiments(backend)):
        with pytest.raises(ValueError, match=r"://") as caught:
            call()
        assert "sec" not in str(caught.value)
        assert backend.partition("://")[0] in str(caught.value)


def test_bad_objects(client):
    """An object of another type is a TypeError that says what it is and what to give."""
    cases = {
        r"int.*Expected None": 5,
        r"asyncio.*not asynchronous": redis.asyncio.Redis(),
        r"object.*pathlib": object(),
    }
    for message, backend in cases.items():
        with pytest.raises(TypeError, match=message):
            open_store(backend, "ex")


def test_password_without_a_scheme():
    """A host with a password is shown without it."""
    with pytest.raises(ValueError, match=r"'localhost:6379/0' as backend") as caught:
        open_store("me:secret@localhost:6379/0", "ex")
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match=r"'host/experiments' as backend"):
        open_store("me@host/experiments", "ex")


def test_client_without_a_database(client):
    """A client or a collection of pymongo is a ValueError that says what of it to give."""
    with pytest.raises(ValueError, match=r"MongoClient.*client\['name'\]"):
        open_store(client, "ex")
    with pytest.raises(ValueError, match=r"Collection.*collection\.database"):
        open_store(client["db"]["collection"], "ex")


def test_home_folder(tmp_path, monkeypatch):
    """A text that begins with ~ is in the user's home folder, as in a shell; a Path is as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert resolve("~/runs") == tmp_path / "home" / "runs"
    assert resolve(Path("~/runs")) == tmp_path / "~" / "runs"


@pytest.mark.parametrize("name", ["localhost:6379", "local", "redis:/a", "127.0.0.1", "a@b"])
def test_folder_of_an_odd_name(tmp_path, monkeypatch, name):
    """What looks like a server is a folder where a Path, or a text with ./, says so."""
    monkeypatch.chdir(tmp_path)
    for backend in (Path(name), f"./{name}"):
        assert resolve(backend) == tmp_path / name


def test_incomplete_store(tmp_path):
    """A store that lacks some methods is refused with their names."""

    class Early:
        allocate = append = read = put = get = state = delete = close = print

    with pytest.raises(TypeError, match=r"Early.*find, sizes, remove, discard too; add them"):
        open_store(Early(), "ex")


# Listing -------------------------------------------------------------------------------------


def test_list_experiments(tmp_path):
    """The experiments of a folder are those that have a database there."""
    assert list_experiments(tmp_path / "none") == []
    for name in ("b", "a", "ab"):
        open_store(tmp_path, name).allocate("token", b"{}")
    (tmp_path / "other").mkdir()
    (tmp_path / "file").write_text("mine")
    assert list_experiments(tmp_path) == ["a", "ab", "b"]
    assert list_experiments(tmp_path.as_uri()) == ["a", "ab", "b"]
    open_store(tmp_path, "a").delete()
    assert list_experiments(tmp_path) == ["ab", "b"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_among_the_experiments(tmp_path):
    """A link to an experiment is one, and one that leads nowhere hides no other."""
    open_store(tmp_path, "a").allocate("token", b"{}")
    for name, target in {
        "b": "a",
        "none": "nothing",
        "self": "self",
        "there": "back",
        "back": "there",
        "file": __file__,
    }.items():
        (tmp_path / name).symlink_to(target)
    assert list_experiments(tmp_path) == ["a", "b"]


def test_listing_a_file(tmp_path):
    """A file instead of a folder is named."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="file"):
        list_experiments(tmp_path / "file")


def test_listing_a_store(tmp_path):
    """A store holds one experiment, so listing wants what it was made from."""
    with pytest.raises(TypeError, match="single one"):
        list_experiments(FileStore(tmp_path))


# Journals ------------------------------------------------------------------------------------


def test_journal_of_a_folder(tmp_path):
    """A folder holds its journals itself."""
    assert journal_folder(open_store(tmp_path, "ex")) == tmp_path / "ex" / "journal"


def test_journal_of_a_server(tmp_path, monkeypatch):
    """A server's journals are in the configured folder, else the user's state, by address."""
    first, second = (open_store("redis://localhost:1", name) for name in ("a", "ab"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    root = tmp_path / "state" / "daskperiment" / "journal"
    assert journal_folder(first).parent == root
    assert journal_folder(first) != journal_folder(second)
    assert journal_folder(open_store("redis://localhost:1", "a")) == journal_folder(first)
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    state = tmp_path / ".local" / "state"
    assert journal_folder(first).is_relative_to(state)
    with dask.config.set({"daskperiment.journal": "relative"}):
        assert journal_folder(first).parent == tmp_path / "relative"


def test_resolve_leaves_objects_alone(client):
    """What is no text or path is given back as it is."""
    database = client["db"]
    assert resolve(database) is database
