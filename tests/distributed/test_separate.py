"""A script, a scheduler and workers as users start them: they share nothing but a store."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import daskperiment
from tests.distributed.clusters import wait_until

SCRIPT = """
import json, logging, pathlib, sys
import distributed
import daskperiment
import beside

logging.getLogger("distributed").setLevel(logging.CRITICAL)
FACTOR = 5
ex = daskperiment.Experiment("script", backend=pathlib.Path(sys.argv[2]))


class Model:
    def __init__(self, weight):
        self.weight = weight

    def score(self):
        return scaled(self.weight)


def scaled(x):
    return FACTOR * x


@ex.persist
def fit(a):
    ex.save_metric("loss", 0, a)
    return Model(a)


@ex
def score(model):
    if model.weight < 0:
        raise ValueError("below zero")
    return model.score()


@ex.result
def report(score, model):
    return score + model.weight


@ex.result
def foreign(a):
    return beside.double(a)


def error_of(future):
    error = future.exception()
    return type(error.__cause__ or error).__name__


def main():
    a = ex.parameter("a", 2)
    model = fit(a)
    result = report(score(model), model)
    with distributed.Client(sys.argv[1]) as client:
        client.wait_for_workers(2)
        said = {
            "compute": result.compute(),
            "list": client.gather(client.compute([result.bind(a=i) for i in range(5)])),
            "submit": client.submit(lambda r: r.bind(a=7).compute(), result).result(),
            "failed": error_of(client.compute(result.bind(a=-1))),
            "foreign": error_of(client.compute(foreign(a))),
            "modules": list(client.run(modules).values()),
        }
    print(json.dumps(said))


def modules():
    from importlib.util import find_spec

    return [name for name in ("daskperiment", "beside", "tests") if find_spec(name)]


if __name__ == "__main__":
    main()
"""


@contextmanager
def program(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of Dask's programs in a folder of its own, where it can import little."""
    alone = folder / "importable"
    alone.mkdir(parents=True)
    (alone / "daskperiment").symlink_to(Path(daskperiment.__file__).parent)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "dask", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(alone)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Start a scheduler, and two workers with their nannies."""
    file = tmp_path / "scheduler.json"
    place = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--no-dashboard"]
    with ExitStack() as stack:
        order = ["scheduler", "--port", "0", "--scheduler-file", str(file), *place]
        stack.enter_context(program(tmp_path / "scheduler", *order))
        found: str = json.loads(wait_until(lambda: file.exists() and file.read_text()))["address"]
        for name in ("left", "right"):
            order = ["worker", found, "--name", name, "--nthreads", "1", *place]
            stack.enter_context(program(tmp_path / name, *order))
        yield found


def test_script_on_workers_that_know_only_daskperiment(tmp_path: Path, address: str) -> None:
    """Steps, classes and helpers of a script run on workers that cannot import it, and record."""
    script = tmp_path / "script" / "script.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    (script.parent / "beside.py").write_text("def double(x):\n    return 2 * x\n")
    store = tmp_path / "store"
    done = subprocess.run(
        [sys.executable, str(script), address, str(store)], stdout=subprocess.PIPE, check=True
    )
    said = json.loads(done.stdout)
    assert said["compute"] == 12
    assert said["list"] == [0, 6, 12, 18, 24]
    assert said["submit"] == 42
    assert said["failed"] == "ValueError"
    # What the script imports from its own folder is not there: the user is told so.
    assert said["foreign"] == "ModuleNotFoundError"
    assert said["modules"] == [["daskperiment"]] * 2
    check_records(daskperiment.Experiment("script", backend=store))


def check_records(ex: daskperiment.Experiment) -> None:
    history = ex.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == ["succeeded"] * 7 + ["failed"]
    assert sorted(history["a"]) == [-1, 0, 1, 2, 2, 3, 4, 7]
    assert history["Description"][8] == "ValueError(below zero)"
    assert ex.load_metric("loss", 7)[7].tolist() == [7]
    steps = ex.get_steps()
    assert len(steps) == 3 * 7 + 2
    assert set(steps["Host"]) == {socket.gethostname()}
    assert set(steps["Worker Name"]) <= {"left", "right"}
    assert steps["Worker"].str.match(r"tcp://127\.0\.0\.1:\d+$").all()
    # One process of a worker has one address and one name.
    assert len(steps[["PID", "Worker", "Worker Name"]].drop_duplicates()) == steps["PID"].nunique()
