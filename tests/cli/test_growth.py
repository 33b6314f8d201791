"""What people ask and say grows with what is there and no faster: calls at n and at 4 n.

What is done for a graph stands in tests/reuse/test_growth.py.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import pytest

import daskperiment
from daskperiment.cli import cli
from daskperiment.dashboard.api import DashboardAPI, Source
from daskperiment.dashboard.charts import CurveStyle
from daskperiment.dashboard.table import Look
from daskperiment.recording.registry import close_recorders
from daskperiment.store.file import FolderState
from tests.helpers.calls import calls_of, let_surroundings_rest

Ask = Callable[[str, Callable[[], object]], None]
"""Counts the calls of an operation. Its name begins with the method, or with $ and the command."""

ELSEWHERE = {
    "dashboard", "start_dashboard",  # the pages of the server are asked here without it
    "check_executable", "current_trial_id", "seed", "wrap",  # there is nothing to be many of
    "autolog",  # of libraries, which tests/libraries has
    "persist", "result",  # of a graph, as in tests/reuse/test_growth.py
    "parameters_from",  # a function has a handful
    "$board", "$run", "$reproduce", "$resume",  # a server, and what methods do with a script
}  # fmt: skip
"""Operations that are not asked here, and why."""


def shell(place: Path, *words: object) -> None:
    """Run a command on a store in this process."""
    said = io.StringIO()
    streams = contextlib.redirect_stdout(said), contextlib.redirect_stderr(said)
    with streams[0], streams[1], pytest.raises(SystemExit) as left:
        cli(["--backend", str(place), *map(str, words)])
    assert not left.value.code, (words, said.getvalue())


def page(api: DashboardAPI, **look: Any) -> object:
    return api.trials("many", Look(**look), 0, 50, "")


def many_trials(folder: Path, size: int, ask: Ask) -> None:
    """Ask of many trials, each with metrics, an artifact, a log and an output that is kept."""
    place = folder / "store"
    ex = daskperiment.Experiment("many", backend=place, seed=1)
    a = ex.parameter("a", default=0)

    @ex.persist(reuse=True)
    def twice(a: int) -> list[int]:
        print("line", a)
        ex.save("file", f"text {a}")
        ex.save_metric("loss", 0, a)
        return [a] * 2

    @ex.result
    def last(values: list[int]) -> dict[str, int]:
        return {"score": values[0]}

    node = last(twice(a))
    with contextlib.redirect_stdout(io.StringIO()):
        for number in range(size):
            node.bind(a=number).compute(scheduler="synchronous")
    close_recorders()
    ids, high = list(range(1, size + 1)), size
    api = DashboardAPI(Source(place))
    ask("trial_id", lambda: ex.trial_id)
    ask("get_trial_ids", ex.get_trial_ids)
    ask("get_history", ex.get_history)
    ask("get_history expanded", lambda: ex.get_history(True, True, expand=True, metrics=True))
    ask("get_history filtered", lambda: ex.get_history(where="a > 3", sort="-Result.score"))
    ask("get_history cut", lambda: ex.get_history(where="Success", limit=5))
    ask("best", lambda: ex.best("Result.score"))
    ask("best by a metric", lambda: ex.best("metrics.loss.min"))
    ask("get_parameters", lambda: ex.get_parameters(high))
    ask("get_log", lambda: ex.get_log(high))
    ask("get_code", lambda: ex.get_code(high))
    ask("get_environment", lambda: ex.get_environment(high))
    ask("get_python_packages", lambda: ex.get_python_packages(high))
    ask("get_steps", ex.get_steps)
    ask("get_steps of one", lambda: ex.get_steps(high))
    ask("get_metrics", ex.get_metrics)
    ask("load_metric", lambda: ex.load_metric("loss", ids))
    ask("get_artifacts", ex.get_artifacts)
    ask("load", lambda: ex.load("file", high))
    ask("get_persisted", lambda: ex.get_persisted("twice", high))
    ask("explain", lambda: ex.explain(high))
    ask("compare", lambda: str(ex.compare(1, high)))
    ask("tag", lambda: ex.tag(ids, "x", "y"))
    ask("untag", lambda: ex.untag(ids, "x"))
    ask("note", lambda: ex.note(ids, "seen"))
    ask("rename", lambda: ex.rename(high, "the last"))
    ask("archive", lambda: ex.archive(ids[: size // 2]))
    ask("unarchive", lambda: ex.unarchive(ids[: size // 2]))
    ask("save", lambda: ex.save("more", 1, trial_id=1))
    ask("flush", ex.flush)
    ask("page", lambda: page(api))
    ask("page sorted", lambda: page(api, filter="a > 3", sort="-a"))
    node.bind(a=10**6).compute(scheduler="synchronous")
    ask("page with one more", lambda: page(api))
    ask("page of a comparison", lambda: api.compare("many", ids))
    ask("page of a trial", lambda: api.trial("many", high))
    ask("page of curves", lambda: api.metrics("many", ids, ["loss"], CurveStyle(), False))
    for words in (
        "history many", "history many --last 20", "history many --where a>3 --sort -a",
        "history many --columns a,Result --format csv", "steps many", "metrics many", "show many",
        "artifacts many", "log many", "code many", "env many", "compare many 1 2", "explain many",
        "best many --by Result.score", "check-metric many --by Result.score", "check many",
        "flush many", "tag many 1 x", "untag many 1 x", "note many 1 seen", "rename many 1 first",
        "archive many 1", "unarchive many 1", "prune many --max-bytes 10 --dry-run",
    ):  # fmt: skip
        ask(f"${words}", lambda words=words: shell(place, *words.split()))
    ask("$report", lambda: shell(place, "report", "many", "--trials", f"1-{size}", "-o",
                                 folder / "report.html"))  # fmt: skip
    ask("$get", lambda: shell(place, "get", "many", "file", 1, "-o", folder / "file.txt"))
    ask("$save", lambda: shell(place, "save", "many", "kept", folder / "file.txt", 1))
    ask("$export", lambda: shell(place, "export", "many", folder / "out"))
    ask("$copy", lambda: shell(place, "copy", "many", folder / "copy"))
    ask("prune", lambda: ex.prune(max_bytes=100))
    ask("delete_trials", lambda: ex.delete_trials(ids[: size // 2]))
    ask("$rm-trials", lambda: shell(place, "rm-trials", "many", high, "--yes"))
    ask("$delete", lambda: shell(folder / "copy", "delete", "many", "--yes"))
    ask("delete", ex.delete)
    api.close()


def many_parts(folder: Path, size: int, ask: Ask) -> None:
    """Ask of trials with many parameters, parts of results, metrics, artifacts, lines and files."""
    place, data = folder / "store", folder / "data"
    data.mkdir(parents=True)
    for number in range(size):
        (data / f"{number:04}").write_text(str(number))
    ex = daskperiment.Experiment("many", backend=place, seed=1)
    each, some = range(size), range(0, size, 10)
    trees: list[Any] = []
    ask("config", lambda: trees.append(ex.config({f"x{n}": n for n in each})))
    ask("parameter", lambda: [ex.parameter(f"p{n}", default=n) for n in each])
    parameters = [ex.parameter(f"p{n}", default=n) for n in each]
    fails = [True]

    @ex.persist(reuse=True)
    def add(value: int, number: int) -> int:
        return value + number

    @ex
    def tell(value: int) -> int:
        ask("save_metric", lambda: [ex.save_metric(f"m{n}", 0, n) for n in each])
        ask("save_metric of one name", lambda: [ex.save_metric("loss", n, n) for n in each])
        ask("save_metrics", lambda: ex.save_metrics({f"k{n}": n for n in each}, epoch=0))
        ask("save in a step", lambda: [ex.save(f"a{n}", f"text {n}") for n in some])
        ask("save among many", lambda: ex.save("one", "text"))
        ask("checkpoint among many", lambda: ex.checkpoint(0, 0))
        ask("a line of a log", lambda: [print("line", n) for n in each])
        ask("rng", lambda: [ex.rng.random() for _ in each])
        return value

    @ex
    def keep(value: int) -> int:
        ask("restore", lambda: ex.restore(0))
        ask("checkpoint", lambda: [ex.checkpoint(n, n) for n in some])
        return value

    @ex
    def count(tree: Any, files: Any, *values: int) -> int:
        return len(os.listdir(files)) + len(values)

    @ex.result
    def last(values: list[int], *others: int) -> dict[str, int]:
        if fails[0]:
            raise ValueError
        return {f"r{n}": n for n in range(6 * size)}

    a = ex.parameter("a", default=0)
    told = tell(a), keep(a), count(trees[0], ex.file(data), *parameters)
    node = last([add(a, n) for n in each], *told)
    changed = {f"p{n}": n + 1 for n in each}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the steps close over changes, and so their code
        with pytest.raises(ValueError):
            node.compute(scheduler="synchronous")
        fails.clear()
        fails.append(False)
        ask("Result.resume", lambda: node.resume(1, scheduler="synchronous"))
        ask("Result.compute", lambda: node.bind(changed).compute(scheduler="synchronous"))
        ask("Result.reproduce", lambda: node.reproduce(3, scheduler="synchronous"))
    ask("Result.bind", lambda: node.bind(changed))
    ask("set_parameters", lambda: ex.set_parameters(**changed))
    api = DashboardAPI(Source(place))
    ask("file", lambda: ex.file(data))
    ask("get_parameters of many", lambda: ex.get_parameters(3))
    ask("get_history of many", ex.get_history)
    ask("get_history expanded", lambda: ex.get_history(True, True, expand=True, metrics=True))
    where = " and ".join(f"p{n} == {n + 1}" for n in some)
    ask("get_history filtered", lambda: ex.get_history(where=where, sort="-p1"))
    ask("best by a metric", lambda: ex.best("metrics.loss.min"))
    ask("get_metrics", lambda: ex.get_metrics(3))
    ask("load_metric", lambda: ex.load_metric("loss", 3))
    ask("load_metric among many", lambda: ex.load_metric("m1", 3))
    ask("load among many", lambda: ex.load("a0", 3))
    ask("get_persisted among many", lambda: ex.get_persisted("add#2", 3))
    ask("note among many", lambda: ex.note(3, "seen"))
    ask("rename among many", lambda: ex.rename(3, "third"))
    ask("get_artifacts", lambda: ex.get_artifacts(3))
    ask("get_log", lambda: ex.get_log(3))
    ask("get_steps", lambda: ex.get_steps(3))
    ask("get_code", lambda: ex.get_code(3))
    ask("explain", lambda: str(ex.explain(3)))
    ask("compare", lambda: str(ex.compare(2, 3)))
    ask("note", lambda: [ex.note(3, f"note {n}") for n in each])
    ask("tag", lambda: ex.tag(3, *[f"t{n}" for n in each]))
    ask("untag", lambda: ex.untag(3, *[f"t{n}" for n in each]))
    ask("page", lambda: page(api))
    ask("page of a trial", lambda: api.trial("many", 3))
    ask("page of a comparison", lambda: api.compare("many", [2, 3]))
    for words in (
        "history many --verbose --format csv", "steps many 3", "metrics many 3",
        "metrics many 3 --format csv", "show many 3", "artifacts many 3", "log many 3",
        "compare many 2 3", "explain many 3", "check many",
    ):  # fmt: skip
        ask(f"${words}", lambda words=words: shell(place, *words.split()))
    ask("$copy", lambda: shell(place, "copy", "many", folder / "copy"))
    ask("prune", lambda: ex.prune(max_bytes=100))
    ask("delete_trials", lambda: ex.delete_trials([3, 4], force=True))
    api.close()


def many_experiments(folder: Path, size: int, ask: Ask) -> None:
    """Ask of many experiments, and run many trials at once."""
    for number in range(size):
        ex = daskperiment.Experiment(f"e{number}", backend=folder, seed=1)
        node = ex.result(lambda a: a)(ex.parameter("a", default=0))
        node.compute(scheduler="synchronous")
    close_recorders()
    api = DashboardAPI(Source(folder))
    ask("list_experiments", lambda: daskperiment.list_experiments(folder))
    ask("list_experiments again", lambda: daskperiment.list_experiments(folder))
    ask("front page", api.experiments)
    ask("front page again", api.experiments)
    ask("$ls", lambda: shell(folder, "ls"))
    ask("$flush", lambda: shell(folder, "flush"))
    ask("$check", lambda: shell(folder, "check"))
    # How the thread that delivers cuts its batches is a matter of luck.
    for _ in range(3):
        ask("Result.sweep", lambda: node.sweep({"a": range(3 * size)}, progress=False))
    random = {"n_trials": 3 * size, "sampler": "random", "progress": False}
    for _ in range(3):
        ask("Result.sweep at random", lambda: node.sweep({"a": range(9 * size)}, **random))
    api.close()


KINDS = {many_trials: 10, many_parts: 20, many_experiments: 8}
"""What there is many of, and how many at first."""


ALONE = {
    "many_trials": {
        "get_parameters", "get_log", "get_code", "get_environment", "get_python_packages",
        "get_steps of one", "load", "get_persisted", "explain", "compare", "rename", "save",
        "page of a trial", "$get", "$compare many 1 2", "$tag many 1 x",
        "$note many 1 seen", "$rename many 1 first", "$archive many 1", "$save",
    },
    "many_parts": {
        "load_metric", "load_metric among many", "load among many", "get_persisted among many",
        "note among many", "rename among many", "save among many", "checkpoint among many",
        "get_code",
    },
}  # fmt: skip
"""What is asked of one thing, by what else there is many of."""


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[int]]]:
    """Return how many calls each operation took, at a size and at four times of it."""
    found: dict[str, dict[str, list[int]]] = {}
    own = {
        "scheduler": "synchronous", "daskperiment.secret-key": "the key of the tests",
        "daskperiment.cache": str(tmp_path_factory.mktemp("cache")),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, dask.config.set(own):
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        let_surroundings_rest(patch)
        # As if all had been written a while ago: what was not is read in another way.
        patch.setattr(FolderState, "is_settled", lambda state: True)
        # On a slow machine files would rest between two questions, and be opened for the second.
        patch.setattr("daskperiment.recording.heartbeat.TICK", 3600)
        for kind, size in KINDS.items():
            known: dict[str, list[int]] = found.setdefault(kind.__name__, {})
            asked: dict[str, int] = {}

            def ask(name: str, action: Callable[[], object], asked: Any = asked) -> None:
                asked[name] = min(calls_of(action), asked.get(name, sys.maxsize))

            # What is done once in a process is done by the first.
            for place, number in enumerate((4, size, 4 * size)):
                asked.clear()
                kind(tmp_path_factory.mktemp(kind.__name__) / str(place), number, ask)
                for name, calls in asked.items() if place else ():
                    known.setdefault(name, []).append(calls)
            close_recorders()
    return found


@pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])
def test_linear(counts: dict[str, dict[str, list[int]]], kind: str) -> None:
    """Whatever is asked of four times as many takes less than five times the calls."""
    ratios = {name: round(large / small, 2) for name, (small, large) in counts[kind].items()}
    assert max(ratios.values()) < 5, {name: one for name, one in ratios.items() if one >= 4.5}


@pytest.mark.parametrize("kind", ALONE)
def test_one_of_many(counts: dict[str, dict[str, list[int]]], kind: str) -> None:
    """What is asked of one thing takes no more calls where there are four times as many others."""
    ratios = {name: large / small for name, (small, large) in counts[kind].items()
              if name in ALONE[kind]}  # fmt: skip
    assert len(ratios) == len(ALONE[kind])
    assert max(ratios.values()) < 1.02, {name: one for name, one in ratios.items() if one > 1.01}


def test_each_operation_is_asked(counts: dict[str, dict[str, list[int]]]) -> None:
    """No method of experiments and no command is left out without a reason."""
    members = inspect.getmembers_static(daskperiment.Experiment)
    public = {name for name, _ in members if not name.startswith("_")}
    public |= {f"${name}" for name in cli.commands}
    asked = {name.split()[0] for known in counts.values() for name in known}
    assert public - asked - ELSEWHERE == set()
    assert asked & ELSEWHERE == set()
    assert public >= ELSEWHERE
