"""Trials that wait, when they begin, for a store that is away."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import pandas as pd
import pytest
from distributed import Client

import daskperiment
from daskperiment.errors import StoreUnavailableError, StoreWarning
from daskperiment.planning.planner import patience
from daskperiment.recording import patience as patience_module
from daskperiment.store.file.store import FileStore
from tests.shared.conftest import open_again
from tests.shared.test_outage import server  # noqa: F401

PATIENT = {"daskperiment.patience": "20s"}


def define(ex: daskperiment.Experiment, reuse: bool = False) -> Any:
    a = ex.parameter("a", default=1)

    @ex.persist(reuse=reuse)
    def half(a: int) -> float:
        return a / 2

    @ex.result
    def twice(half: float) -> float:
        return 4 * half

    return twice(half(a))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let nobody wait in earnest; tell what for."""
    found: list[float] = []

    class Clock:
        now = 0.0

        @classmethod
        def monotonic(cls) -> float:
            return cls.now

        @classmethod
        def sleep(cls, seconds: float) -> None:
            found.append(seconds)
            cls.now += seconds

    monkeypatch.setattr(patience_module, "time", Clock)
    return found


class Away:
    """Makes a method of the folder's stores fail so many times, before or after its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str, after: bool) -> None:
        self.left = 0
        real = getattr(FileStore, method)

        def away(store: Any, *args: Any, **kwargs: Any) -> Any:
            if self.left <= 0:
                return real(store, *args, **kwargs)
            self.left -= 1
            if after:
                real(store, *args, **kwargs)
            raise StoreUnavailableError("the server fails over")

        monkeypatch.setattr(FileStore, method, away)


WAYS: dict[str, Callable[[Any], Any]] = {
    "alone": lambda result: result.compute(scheduler="synchronous"),
    "threads": lambda result: result.compute(scheduler="threads"),
    "swept": lambda result: result.sweep({"a": [1]}, progress=False, scheduler="synchronous"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize(
    ("method", "after"), [("put", False), ("allocate", False), ("allocate", True), ("find", False),
                          ("state", False), ("append", False), ("read", False)],
)  # fmt: skip
def test_a_patient_trial_begins_once(
    way: str, reuse: bool, method: str, after: bool, ex: Any, monkeypatch: pytest.MonkeyPatch,
    pauses: list[float],
) -> None:  # fmt: skip
    """Whatever a store refuses first, and though an answer was lost, it is one trial, with hits."""
    result = define(ex, reuse)
    result.compute(scheduler="synchronous")
    away = Away(monkeypatch, method, after)
    with dask.config.set(PATIENT), warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)  # that it is away, and what waits
        away.left = 3
        WAYS[way](result)
        away.left = 0
    history = ex.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == ["succeeded"] * 2
    reused = ex.get_steps(2).set_index("Step").loc["half", "Reused From"]
    assert pd.notna(reused) is reuse
    assert method != "allocate" or pauses[:2] == [0.05, 0.1]


@pytest.mark.parametrize("way", [*WAYS, "later"])
@pytest.mark.parametrize("known", [0, 1], ids=["of all", "of a process"])
@pytest.mark.parametrize("method", ["put", "allocate", "state", "append", "read", "get"])
def test_the_first_trial_is_patient_too(
    method: str, known: int, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    pauses: list[float],
) -> None:  # fmt: skip
    """What a process reads once, such as the code that steps had before, is waited for as well."""
    for _ in range(known):
        define(daskperiment.Experiment("first", backend=tmp_path)).compute(scheduler="synchronous")
    ex = open_again("first", tmp_path)
    away = Away(monkeypatch, method, after=False)
    with dask.config.set(PATIENT), warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)  # that it is away, and what waits
        result = define(ex)
        away.left = 3
        if way == "later":
            dask.compute(result, scheduler="synchronous")
        else:
            WAYS[way](result)
        away.left = 0
    assert ex.get_history(running=True)["Success"].tolist() == [True] * (known + 1)


@pytest.mark.parametrize("given", [None, 0, "0s"])
def test_without_patience_it_is_told_at_once(
    given: Any, ex: Any, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    """Off by default: a trial that cannot begin says so, and nobody waits."""
    result = define(ex)
    away = Away(monkeypatch, "allocate", after=False)
    away.left = 1
    with (
        dask.config.set({"daskperiment.patience": given}),
        pytest.raises(StoreUnavailableError, match="fails over"),
    ):
        result.compute(scheduler="synchronous")
    assert pauses == []


def test_patience_ends(ex: Any, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    """A store that stays away is told of after the time, with the setting; the sweep ends."""
    result = define(ex)
    away = Away(monkeypatch, "allocate", after=False)
    away.left = 10**9
    with dask.config.set(PATIENT), pytest.raises(StoreUnavailableError) as caught:
        result.compute(scheduler="synchronous")
    assert caught.value.__notes__ == ["It was waited 20 s for it (daskperiment.patience)."]
    assert sum(pauses) == pytest.approx(20)
    assert max(pauses) == 1
    with pytest.raises(StoreUnavailableError):
        result.sweep({"a": [1, 2]}, progress=False, scheduler="synchronous")
    assert sum(pauses) == pytest.approx(50), "a sweep waits by default, and not for each trial"


@pytest.mark.parametrize("given", ["soon", -1, "inf", True, [], float("nan")])
def test_what_is_no_time_is_refused(given: Any, ex: Any) -> None:
    """A setting that is no time is an error that says what was expected."""
    result = define(ex)
    with dask.config.set({"daskperiment.patience": given}):
        with pytest.raises(ValueError, match=r"daskperiment.patience is .* expected a time"):
            patience()
        with pytest.raises(ValueError, match=r"daskperiment\.patience is"):
            result.compute(scheduler="synchronous")
    assert (patience(), patience("a sweep")) == (0.0, 30.0)


def test_patience_travels(ex: Any) -> None:
    """Whoever submits decides, whatever is configured on the worker."""
    result = define(ex)
    with dask.config.set({"daskperiment.patience": "7s"}):
        planner, definition = ex._planner, result.definition
        source = planner.plan(definition.template, definition.options).source
        sent = pickle.dumps(source)
    assert pickle.loads(sent).request().patience == 7


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    with (
        dask.config.set({"distributed.worker.profile.enabled": False}),
        Client(processes=False, n_workers=2, threads_per_worker=2, dashboard_address=":0",
               set_as_default=False) as client,
    ):  # fmt: skip
        yield client


@pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning")
@pytest.mark.parametrize(("method", "times"), [("allocate", 12), ("put", 4)])
def test_a_sweep_on_a_cluster_waits(
    method: str, times: int, cluster: Client, ex: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many trials that a store refuses at once, in threads of workers, are all recorded once."""
    away = Away(monkeypatch, method, after=False)
    result = define(ex)
    away.left = times
    with cluster.as_current():
        frame = result.sweep({"a": range(40)}, progress=False)
    assert frame["Success"].tolist() == [True] * 40
    assert sorted(frame["a"]) == list(range(40))
    assert away.left <= 0


@pytest.mark.parametrize("server", ["redis", "mongo"], indirect=True)
@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
def test_a_sweep_outlasts_its_server(server: Any) -> None:  # noqa: F811
    """A server that is killed in a sweep, and comes back, costs the sweep no trial."""
    ex = daskperiment.Experiment("patient", backend=server.place)
    a = ex.parameter("a")
    back: list[threading.Thread] = []

    @ex.result
    def square(a: int) -> int:
        if a == 2 and not back:
            server.kill()
            back.append(threading.Timer(1.0, server.start))
            back[0].start()
        return a * a

    with dask.config.set({"daskperiment.patience": "100s"}):
        frame = square(a).sweep({"a": range(6)}, progress=False, scheduler="synchronous")
    back[0].join()
    assert frame["Result"].tolist() == [a * a for a in range(6)]
    assert open_again("patient", server.place).trial_id == 6


@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
def test_a_trial_waits_for_a_server_that_stands_still(server: Any) -> None:  # noqa: F811
    """A patient trial begins when a stopped server goes on; one without patience is refused."""
    ex = daskperiment.Experiment("patient", backend=server.place)
    define(ex).compute(scheduler="synchronous")
    dask.config.set({"daskperiment.timeout": 2})  # until the end of the test
    result = define(open_again("patient", server.place))
    os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(StoreUnavailableError):
        result.compute(scheduler="synchronous")
    goes_on: list[bool] = []

    def go_on() -> None:
        goes_on.append(True)
        os.kill(server.pid, signal.SIGCONT)

    going_on = threading.Timer(1.5, go_on)
    going_on.start()
    with dask.config.set({"daskperiment.patience": "100s"}):
        assert result.compute(scheduler="synchronous") == 2
    assert goes_on
    going_on.join()
    dask.config.set({"daskperiment.timeout": 60})
    assert open_again("patient", server.place).get_history()["Success"].tolist() == [True] * 2
