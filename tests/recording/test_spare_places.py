"""Where records wait when the disk of their store is full and the process ends."""

from __future__ import annotations

import tempfile
from pathlib import Path

import dask
import pytest
from msgspec.structs import replace

from daskperiment.errors import StoreError
from daskperiment.recording import journal as journals
from daskperiment.recording import spare_places
from daskperiment.recording.journal import Journal
from daskperiment.recording.owned_writes import OwnedWrites
from daskperiment.recording.pending_objects import PendingObjects
from daskperiment.recording.spare_places import SparePlaces
from daskperiment.store.liveness import current_origin
from daskperiment.store.opening import open_store, spare_folders
from daskperiment.store.protocol import Record, Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Open a folder; the other places are in the test's own folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with dask.config.set({"daskperiment.journal": str(tmp_path / "journals")}):
        store = open_store(tmp_path / "store", "a")
        yield store
        store.close()


def leave(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Write a record and an object down as a process does that is gone afterwards."""
    waiting = PendingObjects(tmp_path / "file" / "spool")
    (tmp_path / "file").touch()  # no folder can be made in it
    waiting.keep("ab", [b"value"])
    dead = replace(current_origin(), born=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(journals, "current_origin", lambda: dead)
        written = Record("steps", 0, "left", b"{}")
        return SparePlaces(store, OwnedWrites(store)).take(
            lambda journal: journal.write(written), waiting
        )


def test_delivered_from_there(store, tmp_path, monkeypatch):
    """What waits there is counted, delivered once, and leaves no file."""
    used = leave(store, tmp_path, monkeypatch)
    assert used == spare_folders(store)[:1]
    places = SparePlaces(store, OwnedWrites(store))
    assert places.waiting == 2
    for _ in range(2):
        places.deliver()
    assert [one.id for one in store.read("steps")] == ["left"]
    assert bytes(store.get("ab")) == b"value"
    assert places.waiting == 0
    assert not used[0].exists()


def test_no_file_is_left_of_what_could_not_be_written(store, monkeypatch):
    """A place that refuses a record is left as it was, and the next one has it, once delivered."""
    first, second = spare_folders(store)
    add, refused = journals.JournalFile.add, []

    def refuse(file, data, count):
        if file.path.parent == first:
            refused.append(file.path)
            raise StoreError("no space left")
        add(file, data, count)

    monkeypatch.setattr(journals.JournalFile, "add", refuse)
    places = SparePlaces(store, OwnedWrites(store))
    assert places.write(Record("steps", 0, "left", b"{}"))
    assert (len(refused), places.used, places.waiting) == (1, [second], 1)
    assert not list(first.glob("*.journal"))
    places.flush()
    places.deliver()
    assert [one.id for one in store.read("steps")] == ["left"]
    assert (places.used, places.holds, second.exists()) == ([], False, False)


def test_objects_have_their_share_of_a_place(store, monkeypatch):
    """Objects wait in another place up to a limit of bytes in all, for the next process too."""
    monkeypatch.setattr(spare_places, "_ROOM", 10)
    places = SparePlaces(store, OwnedWrites(store))
    assert [places.keep(digest, [b"12345678"]) for digest in ("aa", "bb", "cc")] == [
        True, True, False,
    ]  # fmt: skip
    assert (places.holds, places.waiting, len(places.used)) == (True, 2, 2)
    SparePlaces(store, OwnedWrites(store)).deliver()  # as the next process does
    assert bytes(store.get("aa")) == bytes(store.get("bb")) == b"12345678"
    assert places.waiting == 0


def test_deleted_with_the_experiment(store, tmp_path, monkeypatch):
    """What waits there for an experiment that is deleted comes back under no id."""
    leave(store, tmp_path, monkeypatch)
    places = SparePlaces(store, OwnedWrites(store))
    places.discard()
    places.deliver()
    assert (places.waiting, list(store.read("steps")), store.sizes(["ab"])) == (0, [], {})


def test_places_of_others_are_passed_by(store, tmp_path, monkeypatch):
    """Where somebody else may write, nothing is put and nothing is believed."""
    first, second = spare_folders(store)
    first.parent.mkdir(parents=True)
    first.parent.chmod(0o777)
    assert leave(store, tmp_path, monkeypatch) == [second]
    second.parent.chmod(0o777)
    places = SparePlaces(store, OwnedWrites(store))
    assert places.waiting == 0
    places.deliver()
    assert list(store.read("steps")) == []
    second.parent.chmod(0o700)
    places.deliver()
    assert len(list(store.read("steps"))) == 1


def test_stores_on_servers_have_one_more_place(tmp_path):
    """Their journals are in the folder for them already: the other place is a temporary one."""
    store = open_store("redis://127.0.0.1:1/0", "a")
    [folder] = spare_folders(store)
    assert folder.parent.parent == Path(tempfile.gettempdir())
    assert Journal(folder, store).waiting == 0
