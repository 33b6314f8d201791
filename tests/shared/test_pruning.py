"""Dropping objects from each kind of store."""

from __future__ import annotations

import pytest

import daskperiment
from daskperiment.errors import PersistedResultNotFoundError, StoreWarning
from daskperiment.history.steps import get_persisted
from daskperiment.pruning import prune
from daskperiment.recording.registry import close_recorders
from daskperiment.records import Output, Recipe
from daskperiment.store.opening import open_store
from tests.helpers.shop import Shop, Value
from tests.shared.conftest import KINDS


@pytest.fixture
def shop(place):
    """Make an experiment without trials."""
    shop = Shop(open_store(place.backend, "pruned"))
    yield shop
    close_recorders()
    shop.store.close()


def test_prune(shop):
    """What is dropped is gone from the store and what stays is whole, for other readers too."""
    sizes = {"a": 10, "b": 3_000_000, "c": 9_000_000, "d": 10}
    digests = {
        name: shop.keep(Value(name, size), ago=50 - index)
        for index, (name, size) in enumerate(sizes.items())
    }
    bound = shop.store.sizes([digests["a"]])[digests["a"]]
    told = prune(shop.store, max_bytes=bound, dry_run=True)
    assert shop.has(*digests.values())
    dropped = prune(shop.store, max_bytes=bound)
    assert dropped.equals(told)
    assert dropped["Digest"].tolist() == [digests[name] for name in "abc"]
    assert dropped["Size"].tolist()[1] > 3_000_000
    assert shop.store.sizes(digests.values()).keys() == {digests["d"]}
    assert get_persisted(shop.store, "prepare", 4).data == "d" * 10
    for trial in (1, 2, 3):
        with pytest.raises(PersistedResultNotFoundError, match="run the trial again"):
            get_persisted(shop.store, "prepare", trial)
    shop.keep(Value("c", 9_000_000), ago=1)
    assert get_persisted(shop.store, "prepare", 3).data == "c" * 9_000_000


def test_by_the_stores_clock(shop):
    """How long ago something was used is told by the store's clock."""
    digest = shop.keep(Value("a"), ago=0)
    age = shop.store.state().clock - 1_700_000_000.0
    assert shop.prune(older_than=age + 100) == []
    assert shop.prune(older_than=age - 100) == [digest]


@pytest.mark.parametrize("target", KINDS)
def test_copied_recipes(target, make_place):
    """A copy finds the same outputs and recipes, and has the objects that they name."""
    old, new = make_place("folder"), make_place(target)
    shop = Shop(open_store(old.backend, "copied"))
    shop.keep(Value("a"), ago=10)
    kept = {"value": shop.form(Value("named by its recipe alone"))}
    for number in range(1200):
        recipe = Recipe(1, "prepare", "prepare", kept=kept if number == 700 else None)
        shop.add("outputs", 0, f"r-{number}", recipe)
    shop.add("outputs", 0, "o", Output(1, "prepare", "prepare", "f", cache_key="r"))
    daskperiment.copy("copied", old.backend, new.backend)
    copied = open_store(new.backend, "copied")
    asked = [f"r-{number}" for number in range(600, 2000)] + ["o"]
    assert sorted(copied.find(asked)) == sorted(shop.store.find(asked))
    assert len(copied.find(asked)) == 601
    digest = kept["value"]["digest"]
    assert bytes(copied.get(digest)) == bytes(shop.store.get(digest))
    assert prune(copied, max_bytes=0)["Trial ID"].tolist() == [1]
    for store in (copied, shop.store):
        store.close()


def test_copy_of_what_was_pruned(tmp_path):
    """A copy says once which objects the source lacks, and has all others."""
    shop = Shop(open_store(tmp_path / "old", "pruned"))
    gone = [shop.keep(Value(f"{number}"), ago=50 - number) for number in range(5)]
    stays = shop.keep(Value("stays"), ago=1)
    assert shop.prune(older_than=shop.store.state().clock - 1_700_000_000.0 + 10) == gone
    with pytest.warns(StoreWarning, match=rf"lacks.*{gone[0]}.*and 2 more.*pruned") as caught:
        daskperiment.copy("pruned", tmp_path / "old", tmp_path / "new")
    assert len(caught) == 1
    assert open_store(tmp_path / "new", "pruned").sizes([*gone, stays]).keys() == {stays}
