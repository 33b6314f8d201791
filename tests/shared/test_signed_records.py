"""With a signing key, records say only what their writer let them say, on every store."""

from __future__ import annotations

from typing import Any

import dask
import msgspec
import numpy as np
import pytest

import daskperiment
from daskperiment.codec import decode, encode, has_signature, signed
from daskperiment.errors import UntrustedObjectError
from daskperiment.records import CacheEntry, StepRun
from daskperiment.store.protocol import Record
from tests.shared.conftest import open_again

KEY = b"a secret of the tests"
_SET = {"daskperiment.signing-key": KEY.decode()}


def define(ex: daskperiment.Experiment) -> Any:
    n = ex.parameter("n", default=0)

    @ex.persist(reuse=True)
    def model(n: int) -> Any:
        return np.full(1000, n)

    @ex.persist
    def plain(m: Any) -> int:
        return int(m[0])

    @ex.result
    def total(p: int) -> int:
        return p

    return total(plain(model(n)))


def change(monkeypatch: pytest.MonkeyPatch, store: Any, edit: Any) -> None:
    """Let a store hand out records as somebody changed them, with checksums that fit."""
    read, find = store.read, store.find

    def changed_read(stream: str, *args: Any, **kwargs: Any) -> Any:
        return [
            one._replace(body=edit(stream, one.trial, one.id, one.body))
            for one in read(stream, *args, **kwargs)
        ]

    def changed_find(ids: Any) -> list[Record]:
        return [one._replace(body=edit("outputs", 0, one.id, one.body)) for one in find(ids)]

    monkeypatch.setattr(type(store), "read", lambda self, *a, **k: changed_read(*a, **k))
    monkeypatch.setattr(type(store), "find", lambda self, ids: changed_find(ids))


def test_swapped_objects_are_refused(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signed object in the place of another, or a plain value edited, is found and not reused."""
    with dask.config.set(_SET):
        ex = daskperiment.Experiment("signed", backend=place.backend)
        result = define(ex)
        result.compute(scheduler="synchronous")
        for n in (1, 2):
            result.bind(n=n).compute(scheduler="synchronous")
        assert ex.get_persisted("model", 2)[0] == 1
        assert ex.get_persisted("plain", 2) == 1
        ex = open_again("signed", place.backend)
        result = define(ex)
        kept = {
            (one.trial, run.step): run.kept
            for one in ex._store.read("steps")
            if (run := decode(one.body, StepRun)).kept
        }

        def edit(stream: str, trial: int, id: str, body: bytes) -> bytes:
            if stream == "steps":
                run = decode(body, StepRun)
                if run.kept:
                    return encode(msgspec.structs.replace(run, kept=kept[3, run.step]))
            if stream == "outputs" and id.startswith("r-"):
                entry = decode(body, CacheEntry)
                if entry.kept:
                    return encode(msgspec.structs.replace(entry, kept=kept[3, entry.step]))
            return body

        change(monkeypatch, ex._store, edit)
        for step in ("model", "plain"):
            for trial in (1, 2):
                with pytest.raises(UntrustedObjectError, match=rf"{step}.*trial {trial}.*signed|"
                                                               rf"{step}.*signature"):  # fmt: skip
                    ex.get_persisted(step, trial)
        assert ex.get_persisted("model", 3)[0] == 2
        assert result.bind(n=1).compute(scheduler="synchronous", reuse=True) == 1


def test_a_trial_without_key_is_refused_with_one(place: Any) -> None:
    """What was recorded without a key is neither loaded nor reused with one."""
    ex = daskperiment.Experiment("signed", backend=place.backend)
    define(ex).compute(scheduler="synchronous")
    ex = open_again("signed", place.backend)
    with dask.config.set(_SET):
        for step in ("model", "plain"):
            with pytest.raises(UntrustedObjectError, match="not signed"):
                ex.get_persisted(step, 1)
        define(ex).compute(scheduler="synchronous", reuse=True)
        assert ex.get_steps(2).set_index("Step").loc["model", "Status"] == "succeeded"
        assert ex.get_steps(2)["Reused From"].isna().all()
        define(ex).compute(scheduler="synchronous", reuse=True)
        assert ex.get_steps(3).set_index("Step").loc["plain", "Reused From"] == 2
        assert ex.get_persisted("plain", 3) == 0


def test_a_copy_keeps_its_signatures(place: Any, tmp_path: Any) -> None:
    """Signatures hold in a copy of the experiment, wherever it is."""
    with dask.config.set(_SET):
        ex = daskperiment.Experiment("signed", backend=place.backend)
        define(ex).compute(scheduler="synchronous")
        daskperiment.copy("signed", place.backend, tmp_path / "copy")
        copy = daskperiment.Experiment("signed", backend=tmp_path / "copy")
        assert copy.get_persisted("plain", 1) == 0


def test_what_a_signature_covers() -> None:
    """Key, experiment, trial, and every field: with any other, a signature does not fit."""
    entry = CacheEntry(1, "model", "model", kept={"value": 1})
    good = signed(entry, KEY, "file:///a/ex", 3, "id")
    for address in ("file:///a/ex", "file:///b/ex", "redis://host/0#ex"):
        assert has_signature(good, KEY, address, 3, "id")
    other = msgspec.structs.replace(good, kept={"value": 2})
    for record, key, address, purpose in [
        (good, b"other", "file:///a/ex", (3, "id")),
        (good, KEY, "file:///a/ey", (3, "id")),
        (good, KEY, "file:///a/ex", (4, "id")),
        (good, KEY, "file:///a/ex", (3, "ie")),
        (other, KEY, "file:///a/ex", (3, "id")),
        (entry, KEY, "file:///a/ex", (3, "id")),
    ]:
        assert not has_signature(record, key, address, *purpose)
    assert has_signature(decode(encode(good), CacheEntry), KEY, "file:///a/ex", 3, "id")
