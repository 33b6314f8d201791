"""A folder that travels to another process must be the same folder there."""

from __future__ import annotations

import pickle
import shutil
import sqlite3

import pytest

from daskperiment.errors import StoreError
from daskperiment.store.file import FileStore
from daskperiment.store.opening import check_arrival


@pytest.fixture
def store(tmp_path):
    """Make a store that something was written to."""
    made = FileStore(tmp_path / "folder")
    made.allocate("token", b"{}")
    yield made
    made.close()


def arrived(store):
    return pickle.loads(pickle.dumps(store))


def test_same_folder(store):
    """The same folder is recognised, also by a store that travelled twice."""
    check_arrival(arrived(store), "here")
    check_arrival(arrived(arrived(store)), "here")


def test_missing_folder(store):
    """Where there is no such folder, the message says so and how to go on; none is made."""
    other = arrived(store)
    store.delete()
    with pytest.raises(StoreError) as caught:
        check_arrival(other, "worker tcp://somewhere")
    message = str(caught.value)
    for part in (repr(str(store.folder)), "no such folder", "tcp://somewhere", "redis://host"):
        assert part in message
    assert not store.folder.exists()


def test_empty_folder(store):
    """A folder of the same name without an experiment is not taken for the right one."""
    other = arrived(store)
    store.delete()
    store.folder.mkdir()
    with pytest.raises(StoreError, match="holds no experiment"):
        check_arrival(other, "here")
    assert list(store.folder.iterdir()) == []


def test_another_folder(store):
    """A folder of the same name with another experiment is not taken for the right one."""
    other = arrived(store)
    store.delete()
    store.allocate("token", b"{}")
    with pytest.raises(StoreError, match="is another one"):
        check_arrival(other, "here")


def test_before_anything_is_written(tmp_path):
    """A folder that is not there yet has no identity: pickling makes none, opening is allowed."""
    store = FileStore(tmp_path / "folder")
    other = arrived(store)
    assert not store.folder.exists()
    check_arrival(other, "here")
    assert other.allocate("token", b"{}").trial == 1
    other.close()


def test_folder_from_before_there_were_identities(store):
    """A folder of an earlier version gets an identity when it is first sent somewhere."""
    store.close()
    with sqlite3.connect(store.folder / "records.sqlite") as connection:
        connection.execute("DROP TABLE _identity")
    connection.close()
    check_arrival(arrived(store), "here")
    shutil.move(store.folder, store.folder.with_name("moved"))
    moved = FileStore(store.folder.with_name("moved"))
    assert pickle.dumps(moved)[-40:] == pickle.dumps(arrived(moved))[-40:]
    moved.close()
