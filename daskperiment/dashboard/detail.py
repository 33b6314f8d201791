"""One trial in full, as plain data for the page. Nothing is unpickled."""

from __future__ import annotations

import time
from typing import Any, TypeVar

from msgspec import Struct

from daskperiment.codec import is_object, load_record, object_ref
from daskperiment.dashboard.following import tolerant
from daskperiment.dashboard.highlight import tokens
from daskperiment.dashboard.layout import MOST, place
from daskperiment.dashboard.texts import LONG, cut, full_text
from daskperiment.errors import CorruptRecordError
from daskperiment.history.reading import Trial, trial_or_raise
from daskperiment.history.values import viewed
from daskperiment.records import Code, Environment, Failure, Graph, StepRun
from daskperiment.store.protocol import Store

__all__ = ["detail"]

T = TypeVar("T", bound=Struct)

_LONG = 200_000
"""Characters of a source or a diff."""
_STEPS = 2_000
_FACTS_APART = ("requirements", "git")


def detail(store: Store, trial_id: int) -> dict[str, Any]:
    """Describe a trial: outcome, parameters, steps, graph, code and environment.

    Raises
    ------
    TrialIDNotFoundError
        If there is no such trial.
    """
    trial = trial_or_raise(store, trial_id)
    runs, damaged = _runs(store, trial_id)
    problems: list[str] = []
    if damaged:
        problems.append(f"{damaged} damaged records of step runs are left out.")
    begun, ended = trial.begun, trial.ended
    graph = _loaded(store, begun.graph, Graph, problems)
    code = _loaded(store, begun.code, Code, problems)
    environment = _loaded(store, begun.environment, Environment, problems)
    return {
        "trial": trial.trial,
        "latest": store.state().latest,
        "status": trial.status,
        "reason": trial.reason,
        "step": begun.result,
        "seed": str(begun.seed),
        "started": begun.started,
        "finished": _finite(ended.finished) if ended else None,
        "elapsed": _elapsed(trial),
        "host": begun.origin.host,
        "user": begun.origin.user,
        "pid": begun.origin.pid,
        "sweep": begun.sweep,
        "source": begun.source,
        "result": _result(trial, store),
        "failure": _failure(ended.failure) if ended else None,
        "parameters": [{"name": n, **value(f, store)} for n, f in trial.parameters.items()],
        "steps": [_step(run, store) for run in runs[:_STEPS]],
        "steps_left_out": max(0, len(runs) - _STEPS),
        "notes": _notes(store, trial_id),
        "graph": _graph(graph),
        "code": _code(code),
        "environment": _environment(environment),
        "problems": problems,
    }


def value(form: Any, store: Store) -> dict[str, Any]:
    """Describe a recorded value: as text, and by type, size and digest if it is an object."""
    if is_object(form):
        try:
            ref = object_ref(form)
        except CorruptRecordError as error:
            return {"text": "<damaged>", "type": "?", "reason": str(error)}
        return {
            "text": cut(ref.repr),
            "type": _class(ref.type),
            "size": ref.size,
            "digest": ref.digest,
            "reason": ref.reason,
        }
    python = viewed(form, store)
    return {"text": full_text(python), "type": type(python).__name__, "plain": True}


def _class(text: str) -> str:
    """Take the name out of ``<class 'numpy.ndarray'>``."""
    return text.removeprefix("<class '").removesuffix("'>")


def _result(trial: Trial, store: Store) -> dict[str, Any] | None:
    if trial.ended is None or trial.ended.status != "succeeded":
        return None
    return {**value(trial.ended.value, store), "class": _class(trial.ended.type or "")}


def _elapsed(trial: Trial) -> float | None:
    if trial.ended:
        return _finite(trial.ended.elapsed)
    return max(0.0, time.time() - trial.begun.started) if trial.status == "running" else None


def _finite(number: float) -> float | None:
    return number if abs(number) < 1e15 else None


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        "type": failure.type,
        "description": cut(failure.description),
        "traceback": cut(failure.traceback, _LONG),
        "step": failure.step,
    }


def _runs(store: Store, trial: int) -> tuple[list[StepRun], int]:
    found, damaged = tolerant(list(store.read("steps", [trial])), StepRun)
    return sorted((run for _, run in found), key=lambda run: run.started), len(damaged)


def _step(run: StepRun, store: Store) -> dict[str, Any]:
    kept = run.kept["value"] if isinstance(run.kept, dict) and "value" in run.kept else None
    return {
        "key": run.key,
        "step": run.step,
        "status": run.status,
        "started": run.started,
        "wall": run.wall,
        "cpu": run.cpu,
        "peak": run.peak,
        "lane": _lane(run),
        "host": run.host,
        "pid": run.pid,
        "thread": run.thread,
        "worker": run.worker_name or run.worker,
        "inputs": run.inputs,
        "output": run.output,
        "note": run.note,
        "stochastic": run.stochastic,
        "reused": run.reused,
        "reason": run.reason,
        "metrics": run.metrics,
        "kept": None if run.kept is None else value(kept, store),
        "failure": cut(run.failure.description) if run.failure else None,
    }


def _lane(run: StepRun) -> str:
    """Name the worker, or the thread of the process, that ran a step."""
    if run.worker_name or run.worker:
        return f"worker {run.worker_name or run.worker}"
    return f"{run.host}, process {run.pid}, {run.thread}"


class _Note(Struct):
    key: str
    step: str
    earlier: int


def _notes(store: Store, trial: int) -> list[dict[str, Any]]:
    found, _ = tolerant(list(store.read("notes", [trial])), _Note)
    return [{"key": note.key, "step": note.step, "earlier": note.earlier} for _, note in found]


def _loaded(store: Store, digest: str, type_: type[T], problems: list[str]) -> T | None:
    try:
        return load_record(store.get(digest), digest, type_)
    except KeyError:
        problems.append(f"The {type_.__name__.lower()} of this trial is not in the store.")
    except CorruptRecordError as error:
        problems.append(str(error))
    return None


def _graph(graph: Graph | None) -> dict[str, Any] | None:
    if graph is None or len(graph.nodes) > MOST:
        return None if graph is None else {"steps": len(graph.nodes), "nodes": []}
    return {"steps": len(graph.nodes), **place(graph.nodes)}


def _code(code: Code | None) -> list[dict[str, Any]]:
    if code is None:
        return []
    users: dict[str, list[str]] = {}
    for step, one in code.steps.items():
        for key in one.functions:
            users.setdefault(key, []).append(step)
    return [
        {
            "name": function.name,
            "file": function.file,
            "note": function.note,
            "steps": users.get(key, []),
            "lines": tokens(cut(function.source or "", _LONG)),
        }
        for key, function in code.functions.items()
    ]


def _environment(environment: Environment | None) -> dict[str, Any]:
    known = environment.categories if environment else {}
    return {
        "categories": {
            name: {fact: cut(text, LONG) for fact, text in facts.items()}
            for name, facts in known.items()
            if name not in _FACTS_APART
        },
        "git": {fact: cut(text, _LONG) for fact, text in known.get("git", {}).items()},
        "packages": known.get("requirements", {}),
    }
