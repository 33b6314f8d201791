from __future__ import annotations

import pickle

import dask
import pytest

from daskperiment.codec import pack
from daskperiment.errors import (
    CorruptRecordError,
    PersistedResultNotFoundError,
    StoreError,
    UntrustedObjectError,
)
from daskperiment.history import StoredObject
from daskperiment.history.stored_values import MISSING, viewed, viewed_all
from daskperiment.history.tables import get_history, get_parameters
from daskperiment.store.file import FileStore


class Model:
    """Something that is not plain data."""

    def __init__(self, lr):
        self.lr = lr

    def __eq__(self, other):
        return isinstance(other, Model) and self.lr == other.lr

    def __repr__(self):
        return f"Model(lr={self.lr})"


def stored(lab, value, key=None):
    return viewed(lab.form(value, key), lab.store)


def test_plain_values_are_values(lab):
    """Plain data comes back as it was, alone and in columns."""
    values = [1, "a", None, (1, {2}), float("inf"), 10**400, {"a": [1]}]
    forms = [lab.form(value) for value in values]
    assert viewed_all(forms, lab.store) == values
    assert viewed_all([*forms, MISSING], lab.store) == [*values, MISSING]


def test_stored_object_tells_what_it_is(lab):
    """What is not plain data says its type, repr and size, in a short repr of its own."""
    value = stored(lab, Model(0.1))
    assert isinstance(value, StoredObject)
    assert value.type == str(Model)
    assert value.repr == "Model(lr=0.1)"
    assert value.size > 50
    assert value.reason is None
    assert repr(value).startswith("StoredObject(Model(lr=0.1), ")
    assert len(repr(stored(lab, Model("x" * 10_000)))) < 100


def test_load(lab):
    """Loading gives the value."""
    assert stored(lab, Model(0.1)).load() == Model(0.1)


def test_equality(lab):
    """Two stored objects are equal if they stand for the same bytes; they can be counted."""
    first, again, other = (stored(lab, Model(lr)) for lr in (1, 1, 2))
    assert first == again
    assert first != other
    assert first != Model(1)
    assert {first, again, other} == {first, other}


def test_pickling_keeps_the_way_to_a_folder(lab, tmp_path):
    """A stored object of a folder can go to another process and be loaded there."""
    lab.store = FileStore(tmp_path / "folder")
    copy = pickle.loads(pickle.dumps(stored(lab, Model(3))))
    assert copy.load() == Model(3)


def test_pickling_leaves_a_server_behind(lab):
    """A stored object of a server, whose store may hold a password, says what to do instead."""
    value = stored(lab, Model(3))
    copy = pickle.loads(pickle.dumps(value))
    assert copy == value
    with pytest.raises(StoreError, match=r"memory://lab.*Ask the experiment"):
        copy.load()


def test_not_kept(lab):
    """Loading what was not kept says why it was not."""
    value = stored(lab, (n for n in [1]))
    assert "generator" in value.reason
    assert "not kept" in repr(value)
    with pytest.raises(PersistedResultNotFoundError, match=r"was not kept.*generator"):
        value.load()


def test_pruned(lab):
    """Loading an object that is gone says so."""
    value = stored(lab, Model(1))
    lab.store._objects.clear()
    with pytest.raises(PersistedResultNotFoundError, match="as prune\\(\\) does"):
        value.load()


@pytest.mark.parametrize("length", [0, 10, 100])
def test_cut_off(lab, length):
    """A cut-off object is damaged, and is not unpickled."""
    value = stored(lab, Model(1))
    for digest, body in lab.store._objects.items():
        lab.store._objects[digest] = body[:length]
    with pytest.raises(CorruptRecordError, match="damaged"):
        value.load()


def test_signing_key(lab):
    """With a key, given or configured, only what was signed with it is loaded."""
    signed, unsigned = stored(lab, Model(1), b"secret"), stored(lab, Model(2))
    assert signed.load("secret") == Model(1)
    with pytest.raises(UntrustedObjectError):
        unsigned.load(b"secret")
    with dask.config.set({"daskperiment.signing-key": "secret"}):
        assert signed.load() == Model(1)
        with pytest.raises(UntrustedObjectError):
            unsigned.load()


def test_damaged_value_hides_nothing_else(lab):
    """A value of an unknown or damaged form shows as such; the rest of its row is there."""
    id = lab.begin({"a": 1, "b": 2})
    lab.compute(id, "b", 0)
    streams = lab.store._streams["trials"]
    identity = (id, "computed-b")
    for value in (b'{"$":"hologram","v":1}', b'{"$":"object"}'):
        body = b'{"name":"b","value":' + value + b"}"
        streams[identity] = streams[identity]._replace(body=body)
        parameters = get_parameters(lab.store, id)
        assert parameters["a"] == 1
        assert parameters["b"].repr == "<damaged>"
        with pytest.raises(PersistedResultNotFoundError):
            parameters["b"].load()


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_is_unpickled_by_looking(lab, tmp_path):
    """History and parameters do not run what a malicious pickle would run."""
    mark = tmp_path / "exploded"
    trial = lab.begin({"model": Bomb(str(mark))})
    lab.compute(trial, "computed", Bomb(str(mark)))
    lab.succeed(trial, Bomb(str(mark)))
    frame = get_history(lab.store, ["model"], verbose=True, running=True)
    assert isinstance(frame.loc[1, "Result"], StoredObject)
    assert isinstance(frame.loc[1, "computed"], StoredObject)
    repr(frame)
    frame.to_html()
    repr(get_parameters(lab.store, trial))
    assert not mark.exists()
    frame.loc[1, "Result"].load().close()
    assert mark.exists()


def test_pack_of_damaged_reference_is_not_confused(lab):
    """A plain dict that looks like a reference is a plain dict."""
    value = {"$": "object", "type": "x", "repr": "y"}
    data, blob = pack(value)
    assert blob is None
    assert viewed(data, lab.store) == value


def test_pickles_from_before_the_module_was_renamed(lab):
    """A table that was pickled when the module was called values is read."""
    new, old = b"daskperiment.history.stored_values", b"daskperiment.history.values"
    value = stored(lab, Model(3))
    assert pickle.loads(pickle.dumps(value, protocol=0).replace(new, old)) == value
