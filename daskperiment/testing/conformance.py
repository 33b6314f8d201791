"""The suite for stores: shows that one keeps the contract of :mod:`daskperiment.store.protocol`.

Subclass it in a test module, say how to make a store, and run pytest::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def make_store(self, tmp_path):
            return lambda name: MyStore(tmp_path / name)

Needs pytest.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterator
from contextlib import closing

import pytest

from daskperiment.store.protocol import Store
from daskperiment.testing.object_tests import ObjectTests, contents, fill
from daskperiment.testing.record_tests import MakeStore, RecordTests, allocate_many, body, values
from daskperiment.testing.removal_tests import RemovalTests

__all__ = ["StoreConformance"]


class StoreConformance(RecordTests, RemovalTests, ObjectTests):
    """Every sentence of the contract as a test.

    A subclass gives the fixture ``make_store``: a callable that takes a name (lower-case letters,
    digits, underscores) and returns a new store object. Equal names are the same experiment, other
    names are other experiments in the same place (folder, server, database). Each test starts
    with an empty place; closing servers is the fixture's part, closing stores is the suite's.
    """

    password: str | None = None
    """The password that the stores connect with, if any: it must not show in their address."""

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Return the callable that makes a store; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture make_store")

    @pytest.fixture
    def open_store(self, make_store: MakeStore) -> Iterator[MakeStore]:
        """Return a callable that makes a store, which is closed after the test."""
        made: list[Store] = []

        def make(name: str) -> Store:
            made.append(make_store(name))
            return made[-1]

        yield make
        for store in made:
            store.close()

    @pytest.fixture
    def store(self, open_store: MakeStore) -> Store:
        """Return a store on an empty experiment."""
        return open_store("a")

    # Life of a store -------------------------------------------------------------------------

    def test_delete(self, open_store: MakeStore) -> None:
        """Deleting empties the experiment; it can be used again and counts from one."""
        store, other = open_store("a"), open_store("a")
        for handle in (store, other):
            fill(handle, 1)
        store.delete()
        for handle in (store, other, open_store("a")):
            assert contents(handle) == (0, [], [], None, None)
        assert other.allocate("token1", body(2)).trial == 1
        assert values(store.read("trials")) == [2]

    def test_delete_twice(self, store: Store) -> None:
        """Deleting what is empty is no error."""
        store.delete()
        fill(store, 1)
        store.delete()
        store.delete()
        assert store.state().latest == 0

    def test_isolation(self, open_store: MakeStore) -> None:
        """Experiments whose names are prefixes of each other share nothing, deleting included."""
        stores = [open_store(name) for name in ("a", "ab", "a_b", "b", "a1")]
        for n, store in enumerate(stores):
            fill(store, n)
        expected = [contents(store) for store in stores]
        assert [found[1] for found in expected] == [[0], [1], [2], [3], [4]]
        for n, store in enumerate(stores):
            store.delete()
            assert [contents(s) for s in stores[n + 1 :]] == expected[n + 1 :]
            assert contents(store) == (0, [], [], None, None)

    def test_close(self, store: Store) -> None:
        """A closed store opens again when it is used, and closing twice is no error."""
        store.close()
        fill(store, 1)
        store.close()
        store.close()
        assert values(store.read("trials")) == [1]
        store.close()
        assert store.allocate("token2", body(2)).trial == 2

    def test_pickle(self, open_store: MakeStore) -> None:
        """A pickled store is on the same experiment, also one that is in use."""
        store = open_store("a")
        fresh = pickle.loads(pickle.dumps(store))
        fill(store, 1)
        used = pickle.loads(pickle.dumps(store))
        with closing(fresh), closing(used):
            assert fresh.address == used.address == store.address
            assert contents(fresh) == contents(used) == contents(store)

    def test_address(self, open_store: MakeStore) -> None:
        """The address is a URL, one for each experiment, and shows no password."""
        first, second, again = open_store("a"), open_store("ab"), open_store("a")
        assert "://" in first.address
        assert first.address == again.address != second.address
        for text in (first.address, repr(first), str(first)):
            assert self.password is None or self.password not in text

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_fork(self, store: Store) -> None:
        """A store that is in use goes on in a forked child and in its parent."""
        fill(store, 0)
        # A daemon, so that one that hangs ends with the tests.
        child = multiprocessing.get_context("fork").Process(
            target=allocate_many, args=(store, "child", 20), daemon=True
        )
        child.start()
        allocate_many(store, "parent", 20)
        child.join(120)
        assert child.exitcode == 0
        assert store.state().latest == len(list(store.read("trials"))) == 41
