"""What trials use of the machine, on each store: recorded while they run, and kept apart."""

from __future__ import annotations

import json
import time

import dask
import pytest
from click.testing import CliRunner
from dask.multiprocessing import get as get_in_processes

import daskperiment
from daskperiment.cli import cli
from daskperiment.compare import compare
from daskperiment.copying import copy
from daskperiment.recording.registry import recorder_for
from tests.shared.conftest import open_again

NAMES = {"system/cpu_percent", "system/memory_mb"}


@pytest.fixture(autouse=True)
def looked_at_when_told(monkeypatch):
    """Trials are looked at by the tests' own calls alone, however long the machine takes."""
    monkeypatch.setattr("daskperiment.recording.heartbeat.TICK", 3600)


def long_trial(ex, seconds=11.0):
    """Make a result whose step takes long by the clock by which trials are looked at."""

    @ex.result
    def train(a):
        ex.save_metric("loss", 1, a)
        recorder = recorder_for(ex._store)
        begun = recorder.delivery.writes.begun[recorder.owner_of(ex.current_trial_id)]
        start = json.loads(begun)["started"]
        for passed in range(int(seconds) + 1):
            recorder.system._clock = lambda now=start + passed: now
            recorder.tick()
        del recorder.system._clock
        recorder.system._clock = time.time
        return a

    return train(ex.parameter("a", default=1))


def test_recorded_and_kept_apart(place):
    """A long trial has points under system/, at seconds; lists of what was saved leave them out."""
    ex = daskperiment.Experiment("busy", backend=place.backend)
    result = long_trial(ex)
    result.compute()
    result.compute()
    for each in (ex, open_again("busy", place.backend)):
        assert each.get_metrics(1) == each.get_metrics() == ["loss"]
        assert set(each.get_metrics(1, system=True)) >= NAMES
        memory = each.load_metric("system/memory_mb", [1, 2])
        assert memory.index.tolist()[:2] == [5, 10]
        assert (memory > 10).all().all()
        names = each.get_history(metrics=True, verbose=True).columns
        assert [name for name in names if "metrics." in name] == ["metrics.loss"]
    assert not [name for name in map(str, compare(ex._store, 1, 2).metrics) if "system" in name]


def test_copied_exported_and_deleted(place, tmp_path):
    """Copies and exports have them, with the artifacts; a deletion leaves none."""
    ex = daskperiment.Experiment("busy", backend=place.backend)
    long_trial(ex).compute()
    ex.save("report", {"accuracy": 0.5}, trial_id=1)
    copy("busy", place.backend, tmp_path / "copy")
    copied = daskperiment.Experiment("busy", backend=tmp_path / "copy")
    memory = ex.load_metric("system/memory_mb", 1)
    assert copied.load_metric("system/memory_mb", 1).equals(memory)
    words = ["export", "busy", str(tmp_path / "out"), "--backend", str(tmp_path / "copy")]
    assert CliRunner().invoke(cli, words).exit_code == 0
    told = json.loads((tmp_path / "out" / "trials" / "000001.json").read_text(encoding="utf-8"))
    points = [[second, used] for second, used in memory[1].items()]
    assert [second for second, _ in points[:2]] == [5, 10]
    assert told["system_metrics"]["system/memory_mb"] == points
    (artifact,) = told["artifacts"]
    assert (artifact["name"], artifact["format"], artifact["step"]) == ("report", "json", None)
    assert artifact["digest"] == ex.get_artifacts(1)["Digest"][0]
    ex.delete_trials(1)
    assert ex.get_metrics(system=True) == []
    assert len(ex.get_artifacts()) == 0


@pytest.mark.parametrize("said", [False, 3])
def test_switched_off_or_slower(tmp_path, said):
    """The configuration switches them off, or says how many seconds lie between two points."""
    with dask.config.set({"daskperiment.system-metrics": said}):
        ex = daskperiment.Experiment("off", backend=tmp_path)
        long_trial(ex).compute()
    found = ex.get_metrics(1, system=True)
    assert bool(found) is bool(said)
    if said:
        assert ex.load_metric("system/memory_mb", 1).index.tolist() == [3, 6, 9]


@pytest.mark.parametrize("said", ["often", 0, -1, None])
def test_configured_nonsense(tmp_path, said):
    """What is neither a switch nor a number of seconds is refused."""
    ex = daskperiment.Experiment("nonsense", backend=tmp_path)
    with (
        dask.config.set({"daskperiment.system-metrics": said}),
        pytest.raises(ValueError, match="expected True, False or a number of seconds from 1"),
    ):
        long_trial(ex).compute()


def test_short_trials_do_nothing(tmp_path, monkeypatch):
    """A trial of a moment does not look at the machine at all."""
    ex = daskperiment.Experiment("short", backend=tmp_path)
    system = recorder_for(ex._store).system
    monkeypatch.setattr(system, "_look", lambda: pytest.fail("it looked"))

    @ex.result
    def quick(a):
        recorder_for(ex._store).tick()
        return a

    assert quick(ex.parameter("a", default=1)).compute() == 1
    assert ex.get_metrics(1, system=True) == []


def test_processes(tmp_path):
    """Steps in other processes have a series for each process."""
    ex = daskperiment.Experiment("processes", backend=tmp_path)

    @ex.result
    def wait(a):
        import time

        from daskperiment.execution.context import CURRENT

        store, deadline = CURRENT.get().trial.store, time.monotonic() + 60
        while not list(store.read("points", [1])):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return a

    with dask.config.set({"daskperiment.system-metrics": 1}):
        wait(ex.parameter("a", default=1)).compute(scheduler=get_in_processes, num_workers=1)
    (name,) = (one for one in ex.get_metrics(1, system=True) if one.endswith("/memory_mb"))
    assert name.startswith("system/process-")
    assert len(ex.load_metric(name, 1)) >= 1


def test_signed(tmp_path):
    """With a signing key they are signed, as all points of a trial are."""
    with dask.config.set({"daskperiment.signing-key": "a key of these tests"}):
        ex = daskperiment.Experiment("signed", backend=tmp_path)
        long_trial(ex).compute()
        assert len(ex.load_metric("system/memory_mb", 1)) == 2
