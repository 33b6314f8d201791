"""With a signing key, whoever reads is told of points, logs, notes and artifacts that changed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import dask
import msgspec
import pytest

import daskperiment
from daskperiment.cli.signature_check import SignatureCheck
from daskperiment.codec import sealed
from daskperiment.errors import MetricNotFoundError, StoreWarning
from daskperiment.history.artifact_table import get_artifacts
from daskperiment.history.curated import curated
from daskperiment.history.logs import get_log
from daskperiment.history.metrics import load_metric
from daskperiment.history.steps import get_steps
from daskperiment.history.tables import get_history
from daskperiment.vouching import VouchedStore
from tests.shared.conftest import open_again
from tests.shared.test_signature_check import KEY, Tampered, define, filled

_SET = {"daskperiment.signing-key": KEY.decode()}
Edit = Callable[[str, Any], Any]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make trials once; what is changed is changed above the store."""
    root = tmp_path_factory.mktemp("vouched")
    with dask.config.set({**_SET, "daskperiment.journal": str(root / "journals")}):
        return filled(root / "store", "threads")


def fields(one: Any) -> Any:
    """Return the fields of a stored record, but for what `sealed` adds."""
    found = msgspec.json.decode(one.body)
    return {name: value for name, value in found.items() if name not in ("of", "checksum")}


def with_fields(one: Any, new: Any) -> Any:
    """Return a stored record of other fields whose checksum fits, as anybody can make it."""
    return one._replace(body=sealed(msgspec.json.encode(new), one.trial))


def edited(stream: str, wanted: Callable[[Any], bool], change: Callable[[Any], Any]) -> Edit:
    """Return an edit of some records of trial 1 in one stream."""

    def edit(where: str, one: Any) -> Any:
        if where != stream or one.trial != 1 or not wanted(one):
            return one
        return with_fields(one, change(fields(one)))

    return edit


def of_pieces(name: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[Any], Any]:
    return lambda found: {name: change(found[name])}


def any_record(one: Any) -> bool:
    return True


def kind(name: str) -> Callable[[Any], bool]:
    return lambda one: one.id.startswith(name)


def gone(stream: str, wanted: Callable[[Any], bool]) -> Edit:
    """Return an edit that removes records of trial 1."""
    return lambda where, one: (
        None if where == stream and one.trial == 1 and wanted(one) else one
    )  # fmt: skip


RUN = ["loss", 77, 1, 1.0, [0.5] * 64]
"""Points as loops save them without a signing key."""

EDITS: dict[str, tuple[Edit, str]] = {
    "a point's value": (
        edited("points", any_record, of_pieces("points", lambda p: [[*p[0][:2], 9, *p[0][3:]],
                                                                    *p[1:]])), "points"),
    "a point's signature": (
        edited("points", any_record, of_pieces("points", lambda p: [one[:4] for one in p])),
        "points"),
    "a point that is gone": (
        edited("points", any_record, of_pieces("points", lambda p: [p[0], *p[2:]])), "points"),
    "the last point that is gone": (
        edited("points", any_record, of_pieces("points", lambda p: p[:-1])), "points"),
    "a point that stands there twice": (
        edited("points", any_record, of_pieces("points", lambda p: [*p, p[0]])), "points"),
    "a new point": (
        edited("points", any_record,
               of_pieces("points", lambda p: [*p, ["loss", 77, 0.5, 1.0]])), "points"),
    "a run beside points": (
        edited("points", any_record, lambda found: {**found, "runs": [RUN]}), "points"),
    "a run in the place of points": (
        edited("points", any_record, lambda found: {"runs": [RUN]}), "points"),
    "all points that are gone": (gone("points", any_record), "points"),
    "a line of a log": (
        edited("logs", any_record, of_pieces("lines", lambda p: [[*p[0][:6], "lie\n", *p[0][7:]],
                                                                 *p[1:]])), "logs"),
    "a log that is gone": (gone("logs", any_record), "logs"),
    "an artifact": (
        edited("notes", kind("artifact-table"), lambda found: {**found, "name": "other"}), "notes"),
    "an artifact that is gone": (gone("notes", kind("artifact-table")), "notes"),
    "a tag": (edited("notes", kind("curated"), lambda found: {**found, "tags": ["x"]}), "notes"),
    "a tag without a signature": (
        edited("notes", kind("curated"), lambda found: {
            name: each for name, each in found.items() if name not in ("signature", "serial")}),
        "notes"),
    "a result": (
        edited("trials", kind("ended"), lambda found: {**found, "value": 99}), "trials"),
    "a step run": (
        edited("steps", kind("second"), lambda found: {**found, "wall": 0.5}), "steps"),
    "a step run that is gone": (gone("steps", kind("second")), "steps"),
}  # fmt: skip


def ask(store: Any, stream: str) -> None:
    """Ask a question that reads a stream."""
    questions: dict[str, Callable[[], Any]] = {
        "points": lambda: load_metric(store, "loss", [1, 3]),
        "logs": lambda: get_log(store, 1),
        "notes": lambda: (get_artifacts(store, 1), curated(store, [1])),
        "trials": lambda: get_history(store, ["n"]),
        "steps": lambda: get_steps(store, 1),
    }
    questions[stream]()


@pytest.mark.parametrize("what", EDITS)
def test_what_changed_is_told_of_on_reading_and_by_check(store: Any, what: str) -> None:
    """Whatever somebody without the key did to a trial, reader and check name the trial."""
    edit, stream = EDITS[what]
    tampered = Tampered(store, edit)
    with pytest.warns(StoreWarning, match="trial 1[ :]"):
        ask(VouchedStore(tampered, KEY), stream)
    lines = [f"{one.place}: {one.what}" for one in SignatureCheck(tampered, KEY, bool).run()]
    assert any("trial 1" in line for line in lines), lines
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(VouchedStore(store, KEY), stream)


@pytest.mark.parametrize("stream", ["points", "logs", "notes"])
def test_what_two_trials_swapped_is_told_of(store: Any, stream: str) -> None:
    """Points, logs and notes that changed places with another trial's are found in both."""
    own = {n: list(store.read(stream, [n])) for n in (1, 3)}
    wanted = {"notes": "artifact-table"}.get(stream, "")
    first = {n: next(one for one in each if one.id.startswith(wanted)) for n, each in own.items()}

    def edit(where: str, one: Any) -> Any:
        if where == stream and one in first.values():
            return with_fields(one, fields(first[4 - one.trial]))
        return one

    tampered = Tampered(store, edit)
    lines = [one.place for one in SignatureCheck(tampered, KEY, bool).run()]
    assert {1, 3} <= {n for n in (1, 3) for line in lines if f"trial {n}" in line}
    with pytest.warns(StoreWarning, match="does not fit"), suppress(MetricNotFoundError):
        ask(VouchedStore(tampered, KEY), stream)


def test_only_what_is_wrong_is_left_out(store: Any) -> None:
    """Of a record with one edited point the others are shown, and of a row all but its end."""
    edit, _ = EDITS["a point's value"]
    with pytest.warns(StoreWarning, match="1 of its 5 points"):
        loss = load_metric(VouchedStore(Tampered(store, edit), KEY), "loss", 1)
    assert loss[1].tolist() == load_metric(store, "loss", 1)[1].tolist()[1:]
    edit, _ = EDITS["a result"]
    with pytest.warns(StoreWarning, match="ended-succeeded"):
        table = get_history(VouchedStore(Tampered(store, edit), KEY), ["n"])
    assert 99 not in table["Result"].tolist()
    assert table.loc[3, "Result"] == get_history(store, ["n"]).loc[3, "Result"]


def test_on_every_store_what_is_whole_is_shown_without_a_word(place: Any) -> None:
    """With the key, all answers are those that the store holds, whichever store it is."""
    with dask.config.set(_SET):
        ex = daskperiment.Experiment("whole", backend=place.backend)
        s = define(ex)
        s.compute(scheduler="threads")
        s.bind(n=2).compute(scheduler="synchronous")
        ex.tag([1, 2], "kept")
        ex = open_again("whole", place.backend)
        loss, log, runs = ex.load_metric("loss", [1, 2]), ex.get_log(1), ex.get_steps(2)
        table, kept = ex.get_history(expand=True), ex.get_artifacts()
        assert ex.load("table", 2) == [3, 4]
    assert loss.equals(ex.load_metric("loss", [1, 2]))
    assert len(loss) == 4
    assert log == ex.get_log(1)
    assert "second 2" in log
    assert runs.equals(ex.get_steps(2))
    assert table.equals(ex.get_history(expand=True))
    assert set(kept["Name"]) == {"table", "model"}


def test_an_edit_of_any_store_is_told_of(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The experiment's own methods hold each store's points against their signatures."""
    with dask.config.set(_SET):
        ex = daskperiment.Experiment("edited", backend=place.backend)
        define(ex).compute(scheduler="synchronous")
        edit, read = EDITS["a point's value"][0], ex._store.read
        monkeypatch.setattr(
            type(ex._store), "read",
            lambda self, stream, *args, **kw: [edit(stream, one)
                                               for one in read(stream, *args, **kw)],
        )  # fmt: skip
        with pytest.warns(StoreWarning, match="1 of its 5 points"):
            ex.load_metric("loss", 1)


def test_trials_without_the_key_are_shown_and_named(tmp_path: Any) -> None:
    """What was recorded before there was a key is not hidden, and is said to be so."""
    ex = daskperiment.Experiment("before", backend=tmp_path)
    s = define(ex)
    s.compute(scheduler="synchronous")
    with dask.config.set(_SET):
        s.compute(scheduler="synchronous", reuse=False)
        with pytest.warns(StoreWarning, match="Nothing vouches for trials 1:"):
            assert len(ex.get_history()) == 2
        with pytest.warns(StoreWarning, match="Nothing vouches for trials 1:"):
            assert len(ex.load_metric("loss", [1, 2])) == 4


def test_without_a_key_nothing_more_is_written(tmp_path: Any) -> None:
    """Points and pieces have no more parts than before, and no record has a number."""
    ex = daskperiment.Experiment("plain", backend=tmp_path)
    define(ex).compute(scheduler="synchronous")
    ex.tag(1, "kept")
    for one in ex._store.read("points"):
        assert {len(point) for point in json.loads(one.body)["points"]} == {4}
    for one in ex._store.read("logs"):
        assert {len(piece) for piece in json.loads(one.body)["lines"]} == {7}
    words = (b'"serial"', b'"signature"', b'"counts"', b'"vouched"')
    for stream in ("trials", "steps", "notes", "outputs"):
        for one in ex._store.read(stream):
            assert not any(word in one.body for word in words)


_KILLED = """
import os, sys, signal
import daskperiment

ex = daskperiment.Experiment("killed", backend=sys.argv[1])


@ex.persist
def first():
    ex.save_metric("loss", 0, 1.0)
    ex.save("table", [1])
    return 1


@ex.result
def work(a):
    for epoch in range(100):
        ex.save_metric("loss", 1 + epoch, 0.5)
        print("epoch", epoch, "." * 2000)
    ex.save("model", {"a": 1})
    os.kill(os.getpid(), signal.SIGKILL)


work(first()).compute(scheduler="synchronous")
"""


def test_what_a_killed_process_left_is_whole(tmp_path: Any, monkeypatch: Any) -> None:
    """A process without the key delivers what a killed one had signed, and nothing is missing."""
    monkeypatch.setenv("DASK_DASKPERIMENT__SIGNING_KEY", KEY.decode())
    run = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    ex = daskperiment.Experiment("killed", backend=tmp_path)
    assert len(ex.load_metric("loss", 1)) == 101
    assert list(SignatureCheck(ex._store, KEY, bool).run()) == []
    with dask.config.set(_SET):
        assert len(ex.load_metric("loss", 1)) == 101
        assert "epoch 99 " in ex.get_log(1)
        assert set(ex.get_artifacts()["Name"]) == {"table", "model"}


@pytest.mark.parametrize("has_key", [True, False])
def test_a_deletion_by_somebody_without_the_key_is_found(tmp_path: Any, has_key: bool) -> None:
    """A trial that a holder of the key deleted is meant to be gone; another one is told of."""
    with dask.config.set(_SET):
        ex = daskperiment.Experiment("deleted", backend=tmp_path)
        s = define(ex)
        for n in (1, 2):
            s.bind(n=n).compute(scheduler="synchronous")
    with dask.config.set(_SET if has_key else {}):
        ex.delete_trials(1)
    lines = [f"{one.place}: {one.what}" for one in SignatureCheck(ex._store, KEY, bool).run()]
    assert bool(lines) is not has_key
    assert all("trial 1" in line and "deleted by somebody" in line for line in lines)


def test_copies_keep_what_is_signed(tmp_path: Any) -> None:
    """Points, logs and notes are as whole in a copy that gives their trials other ids."""
    with dask.config.set(_SET):
        for name in ("a", "b"):
            ex = daskperiment.Experiment("merged", backend=tmp_path / name)
            define(ex).bind(n=2).compute(scheduler="synchronous")
            ex.tag(1, name)
        daskperiment.copy("merged", [tmp_path / "a", tmp_path / "b"], tmp_path / "c")
        both = open_again("merged", tmp_path / "c")
        assert list(SignatureCheck(both._store, KEY, bool).run()) == []
        assert both.get_history(expand=True)["Tags"].tolist() == [("a",), ("b",)]
        assert len(both.load_metric("loss", [1, 2])) == 4
