"""Trials of any history are those of one in which nothing decided before is known."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import daskperiment
from daskperiment.codec import decode
from daskperiment.graph.template import Template
from daskperiment.planning.kept_plans import KeptPlan
from daskperiment.records import StepRun, impure_key_id
from daskperiment.reuse.cache_keys import KeySpecs
from daskperiment.store.protocol import Record

OPERATIONS = ["compute"] * 5 + ["set", "lose", "lose", "distrust", "delete", "change"]


class Made(NamedTuple):
    """An experiment, and results of it by number."""

    ex: Any
    results: list[Any]
    items: list[int]
    """The value of a parameter, which is changed in place."""


def make_results(folder: Path) -> Made:
    ex = daskperiment.Experiment("histories", backend=folder, seed=0)
    n, items = ex.parameter("n", default=1), [1]
    given = ex.parameter("items", default=items)
    make = ex.persist(lambda n: [n] * 400)
    draw = ex.persist(lambda n: float(ex.rng.random()) if n > 1 else 0.5)
    beside = ex.persist(reuse=False)(lambda n: ex.rng.integers(9) if n > 1 else 3)
    ignoring = ex.persist(ignore=("x",))(lambda n, x: n)
    middle = ex(lambda x: x)
    last, kept = ex.result(lambda *xs: repr(xs)), ex.result(persist=True)(lambda *xs: repr(xs))
    return Made(
        ex,
        [
            last(make(n)), last(draw(n), make(n)), kept(make(given), draw(n)),
            last(ignoring(n, beside(n)), beside(n)), last(ignoring(n, middle(draw(n))), make(n)),
            last(make(n), make(n), [make(given)]),
        ],
        items,
    )  # fmt: skip


def runs_of(ex: Any, trial: int) -> list[StepRun]:
    found = [decode(one.body, StepRun) for one in ex._store.read("steps", [trial])]
    return sorted(found, key=lambda run: run.key)


def told(made: Made, choice: random.Random) -> Any:
    """Compute a result a few times, and return what is on record of it."""
    result = choice.choice(made.results)
    asked: dict[str, Any] = {"seed": choice.choice([1, 2]), "reuse": choice.random() < 0.9 or None}
    asked["scheduler"] = choice.choice(["synchronous", "synchronous", "threads"])
    found = []
    for _ in range(choice.choice([1, 2, 3])):
        value = result.compute(**asked)
        runs = runs_of(made.ex, made.ex.trial_id)
        of_runs = [
            (run.key, run.status, run.reason, run.reused, run.output, run.inputs, run.cache_key)
            for run in runs
        ]
        found.append((value, of_runs))
    return found


def act(made: Made, operation: str, choice: random.Random) -> Any:
    ex = made.ex
    if operation == "compute":
        return told(made, choice)
    if operation == "set":
        ex.set_parameters(n=choice.choice([1, 1, 2, True]))
    elif operation == "change":
        made.items.append(1)
    elif ex.trial_id:
        trial = ex.trial_id if choice.random() < 0.5 else choice.randint(1, ex.trial_id)
        if operation == "delete":
            if trial in ex.get_history().index:
                ex.delete_trials(trial, force=True)
            return None
        for run in runs_of(ex, trial):
            if operation == "distrust" and run.cache_key and choice.random() < 0.2:
                ex._store.append([Record("outputs", 0, impure_key_id(run.cache_key), b"{}")])
            elif operation == "lose" and run.kept and isinstance(run.kept["value"], dict):
                ex._store.discard([run.kept["value"].get("digest") or ""])
    return None


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each trial decided anew."""
    make: Callable[..., Any] = KeySpecs.cache_keys

    def cache_keys(self: Any, *given: Any) -> Any:
        self._last = None
        self._known.clear()
        return make(self, *given)

    monkeypatch.setattr(KeySpecs, "cache_keys", cache_keys)
    monkeypatch.setattr(KeptPlan, "holds_for", lambda *given: False)
    monkeypatch.setattr(Template, "_taking", lambda *given: None)


@pytest.mark.parametrize("number", range(6))
@pytest.mark.filterwarnings("ignore::daskperiment.errors.DaskperimentWarning")
def test_histories_are_those_without_memory(tmp_path: Path, number: int) -> None:
    """Values, verdicts, reasons and records do not depend on what was decided before."""
    kept, forgetting = make_results(tmp_path / "kept"), make_results(tmp_path / "forgetting")
    choice = random.Random(number)
    for made in (kept, forgetting):
        made.results[:] = made.results[number : number + 1]
    for _ in range(16):
        operation, seed = choice.choice(OPERATIONS), choice.random()
        found = act(kept, operation, random.Random(seed))
        with pytest.MonkeyPatch.context() as patched:
            forget(patched)
            assert act(forgetting, operation, random.Random(seed)) == found
