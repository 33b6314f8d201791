"""Checkpoints on each store: a trial that did not end is gone on with, and nothing is lost."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import msgspec
import pytest
from dask import config

import daskperiment
from daskperiment.cli.checkup import examine
from daskperiment.codec import encode
from daskperiment.errors import StoreWarning, TrialReusedError, UntrustedObjectError
from daskperiment.recording.checkpoint_records import kept_checkpoints, superseded_objects
from daskperiment.recording.registry import recorder_for
from daskperiment.store.protocol import Record
from tests.reproduce.loops import BREAK, EPOCHS, define
from tests.shared.conftest import open_again
from tests.shared.test_outage import server  # noqa: F401  # a fixture

ROOT = Path(daskperiment.__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    """Name a folder for a store."""
    return tmp_path / "store"


def undisturbed(folder):
    """Return what the loop comes to where nothing breaks, and its curve."""
    ex = daskperiment.Experiment("undisturbed", backend=folder, seed=5)
    result = define(ex).compute(scheduler="synchronous")
    return result, ex.load_metric("loss", 1)[1].tolist()


def test_killed_and_resumed(place, tmp_path):
    """After SIGKILL at epoch 7 of 10 three more are run: one curve of 10, and the same bits."""
    backend = place.backend if isinstance(place.backend, str) else str(place.backend)
    done = subprocess.run(
        [sys.executable, "-m", "tests.reproduce.loops", backend, "run", "synchronous"],
        cwd=ROOT, env={**os.environ, BREAK: "7 SIGKILL"}, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    ex = daskperiment.Experiment("loops", backend=place.backend, seed=99)
    result = define(ex).resume(1, scheduler="synchronous")
    expected, curve = undisturbed(tmp_path / "other")
    assert result == expected
    found = ex.load_metric("loss", 2)[2]
    assert found.index.tolist() == list(range(1, EPOCHS + 1))
    assert found.tolist() == curve
    own = [point for one in ex._store.read("points", [2]) for point in [one.body.count(b'"loss"')]]
    assert sum(own) == EPOCHS
    # What the step before had kept was taken, though it may not be reused.
    assert ex.load_metric("prepared", 2)[2].tolist() == [1.0] * EPOCHS
    history = ex.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == ["lost", "succeeded"]
    assert history["Seed"].tolist() == [5, 5]


def test_the_latest_are_kept(place):
    """Of each step as many states stay as are asked for, and their objects alone."""
    ex = daskperiment.Experiment("few", backend=place.backend)

    @ex.result
    def train(keep):
        for epoch in range(5):
            ex.checkpoint({"epoch": epoch}, epoch, keep)

    train(None).compute()
    with config.set({"daskperiment.checkpoints": 3}):
        train(None).compute()
    train(2).compute()
    ex = open_again("few", place.backend)
    kept, superseded = kept_checkpoints(ex._store), superseded_objects(ex._store)
    there = {
        trial: [
            one.checkpoint.epoch for one in each if ex._store.sizes(one.digests)
        ] for (trial, _), each in kept.items()
    }  # fmt: skip
    assert there == {1: [4], 2: [4, 3, 2], 3: [4, 3]}
    assert len(superseded) == 4 + 2 + 3
    assert not ex._store.sizes(superseded)


def test_a_store_that_is_away(server, monkeypatch):  # noqa: F811
    """States that are kept while the server is away wait, only the latest, and a trial goes on."""
    ex = daskperiment.Experiment("away", backend=server.place)

    @ex.result
    def train():
        last = ex.restore(default=(0, 0))[1]
        for epoch in range(last + 1, 6):
            if epoch == 3 and not last:
                server.kill()
            ex.save_metric("loss", epoch, epoch)
            ex.checkpoint([epoch], epoch)
        if not last:
            raise RuntimeError("broken")
        return last

    with pytest.warns(StoreWarning, match="waits in"), pytest.raises(RuntimeError):
        train().compute()
    spool = recorder_for(ex._store).delivery.folder / "spool"
    assert len(list(spool.iterdir())) == 1
    server.start()
    assert train().resume(1) == 5
    assert len(ex.load_metric("loss", 2)) == 5


def test_signed(folder, monkeypatch):
    """With a signing key a checkpoint that was written without it is refused."""
    ex = daskperiment.Experiment("signed", backend=folder, seed=5)
    monkeypatch.setenv(BREAK, "7")
    for key in ("k", None):
        with config.set({"daskperiment.signing-key": key}), pytest.raises(RuntimeError):
            define(ex).compute(scheduler="synchronous")
    monkeypatch.delenv(BREAK)
    with config.set({"daskperiment.signing-key": "k"}):
        with pytest.warns(StoreWarning, match="Nothing vouches for trials 2:") as told:
            assert len(define(ex).resume(1, scheduler="synchronous")) == EPOCHS
        assert {one.filename for one in told} == {__file__}
        with (
            pytest.warns(StoreWarning, match="Nothing vouches for trials 2:"),
            pytest.raises(UntrustedObjectError, match="signing key"),
        ):
            define(ex).resume(2, scheduler="synchronous")


def test_names_that_nobody_signed(folder):
    """An unsigned checkpoint before it makes no point of another step one of the new trial."""
    ex = daskperiment.Experiment("forged", backend=folder)
    runs = itertools.count()

    @ex
    def prepare():
        ex.save_metric("prepared", 0, next(runs))

    @ex.result
    def train(_):
        start = ex.restore(default=None)
        ex.save_metric("loss", 0, 0)
        ex.checkpoint(0, 0)
        if start is None:
            raise RuntimeError("broken")

    node = train(prepare())
    with config.set({"daskperiment.signing-key": "k"}):
        with pytest.raises(RuntimeError, match="broken"):
            node.compute(scheduler="synchronous")
        ((kept,),) = kept_checkpoints(ex._store).values()
        forged = msgspec.structs.replace(
            kept.checkpoint, metrics=["prepared"], saved=0.0, serial=None, signature=None
        )
        ex._store.append([Record("notes", 1, "checkpoint-train-0.0-1", encode(forged, 1))])
        with warnings.catch_warnings(record=True):  # they tell of it
            warnings.simplefilter("always")
            node.resume(1, scheduler="synchronous")
            assert ex.load_metric("prepared", 2)[2].tolist() == [1]
            assert ex.load_metric("loss", 2)[2].tolist() == [0]


def broken_trial(ex, monkeypatch, keep=2):
    """Record a trial that failed at epoch 7."""
    monkeypatch.setenv(BREAK, "7")
    with config.set({"daskperiment.checkpoints": keep}), pytest.raises(RuntimeError):
        define(ex).compute(scheduler="synchronous", seed=5)
    monkeypatch.delenv(BREAK)


def test_copied(folder, monkeypatch, tmp_path):
    """A copy has the checkpoints that count, under other ids too, and goes on from them."""
    ex = daskperiment.Experiment("copied", backend=folder)
    broken_trial(ex, monkeypatch)
    with pytest.raises(RuntimeError):
        monkeypatch.setenv(BREAK, "9")
        define(ex).resume(1, scheduler="synchronous")
    monkeypatch.delenv(BREAK)
    other = daskperiment.Experiment("copied", backend=tmp_path / "other")
    broken_trial(other, monkeypatch)
    daskperiment.copy("copied", folder, tmp_path / "other")
    merged = open_again("copied", tmp_path / "other")
    assert merged.get_history(verbose=True)["Resumes"].dropna().tolist() == [2]
    result = define(merged)
    assert result.resume(3, scheduler="synchronous") == undisturbed(tmp_path / "third")[0]
    assert merged.load_metric("loss", 4).index.tolist() == list(range(1, EPOCHS + 1))


def test_looked_over_and_pruned(folder, monkeypatch):
    """Checks miss no state that was dropped; pruning keeps what may be gone on with, only that."""
    ex = daskperiment.Experiment("pruned", backend=folder)
    broken_trial(ex, monkeypatch, keep=1)
    define(ex).compute(scheduler="synchronous", seed=5)
    assert not examine(ex._store).findings
    kept = kept_checkpoints(ex._store)
    live = {trial: each[0].digests for (trial, _), each in kept.items()}
    dropped = ex.prune(max_bytes=0)
    assert dropped["Digest"].tolist() == live[2]
    assert ex._store.sizes(live[1])
    assert not ex._store.sizes(live[2])
    assert not examine(ex._store).findings, "what was pruned is not missed"
    define(ex).resume(1, scheduler="synchronous")
    assert set(ex.prune(max_bytes=0)["Digest"]) > set(live[1])
    assert not examine(ex._store).findings, "nor is what a trial that succeeded went on from"


def test_lost_states_are_missed(folder, monkeypatch):
    """Of a trial that may be gone on with, a check misses a state that is not there."""
    ex = daskperiment.Experiment("missed", backend=folder)
    broken_trial(ex, monkeypatch, keep=1)
    (kept,) = kept_checkpoints(ex._store).values()
    ex._store.discard(kept[0].digests)
    (finding,) = examine(ex._store).findings
    assert finding.what.startswith("missing, named by 'checkpoint-")


def test_left_by_a_killed_process(folder, monkeypatch):
    """A state that a later one took the place of, and that nobody dropped, is removed."""
    ex = daskperiment.Experiment("left", backend=folder)
    with monkeypatch.context() as patched:
        patched.setattr(type(recorder_for(ex._store).delivery), "drop_object", lambda *_: None)
        broken_trial(ex, monkeypatch, keep=1)
    superseded = superseded_objects(ex._store)
    assert len(ex._store.sizes(superseded)) == 6
    (finding,) = examine(ex._store).findings
    assert finding.what.startswith("6 objects")
    assert len(ex.prune(max_bytes=0)) == 6
    assert not examine(ex._store).findings
    assert len(define(ex).resume(1, scheduler="synchronous")) == EPOCHS


def test_deleted(folder, monkeypatch):
    """Whoever deletes a trial deletes its checkpoints; the trial that went on keeps its curve."""
    ex = daskperiment.Experiment("deleted", backend=folder)
    broken_trial(ex, monkeypatch)
    define(ex).resume(1, scheduler="synchronous")
    digests = [one for (trial, _), each in kept_checkpoints(ex._store).items() if trial == 1
               for one in each[0].digests]  # fmt: skip
    assert ex._store.sizes(digests)
    with pytest.raises(TrialReusedError, match="trial 1 is reused by trial 2"):
        ex.delete_trials([1])
    ex.delete_trials([1], force=True)
    assert not ex._store.sizes(digests)
    assert len(ex.load_metric("loss", 2)) == EPOCHS
    assert not examine(ex._store).findings


def test_a_trial_that_was_gone_on_with_is_not_deleted(place):
    """Nor is it where no output of it was taken, only its checkpoint; unless somebody insists."""
    ex = daskperiment.Experiment("line", backend=place.backend)

    @ex.result
    def train(breaks):
        _, last = ex.restore(default=(0, 0))
        ex.checkpoint(1, last + 1)
        if breaks and not last:
            raise RuntimeError("broken")
        return last

    result = train(ex.parameter("breaks", default=True))
    with pytest.raises(RuntimeError):
        result.compute(scheduler="synchronous")
    assert result.resume(1, scheduler="synchronous") == 1
    with pytest.raises(TrialReusedError, match="trial 1 is reused by trial 2"):
        ex.delete_trials(1)
    ex.delete_trials(1, force=True)
    assert list(ex.get_history().index) == [2]
