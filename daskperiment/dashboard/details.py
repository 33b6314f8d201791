"""One trial in full, as plain data for the page. Nothing is unpickled."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from msgspec import Struct, structs, to_builtins
from pygments.lexers.python import PythonLexer
from pygments.token import Token

from daskperiment.codec import is_object, load_record, object_ref
from daskperiment.dashboard.artifact_files import describe_artifacts
from daskperiment.dashboard.cells import LONGEST, full_text, truncate
from daskperiment.dashboard.damage import undamaged
from daskperiment.dashboard.graph_layout import MAX_STEPS, layout_graph
from daskperiment.dashboard.metric_cache import MetricSummaries
from daskperiment.errors import CorruptRecordError
from daskperiment.history.curated import NOTHING_SAID, curated
from daskperiment.history.kept_columns import resumed_by
from daskperiment.history.logs import get_log
from daskperiment.history.stored_values import viewed
from daskperiment.history.trial_records import (
    RecordedTrial,
    steps_told,
    trial_or_raise,
)
from daskperiment.records import (
    IMPURE,
    Code,
    Environment,
    Failure,
    Graph,
    Impurity,
    Node,
    StepRun,
    record_kind,
)
from daskperiment.store.protocol import Store
from daskperiment.vouching import Doubts, vouched

__all__ = ["describe_trial", "highlight", "unfinished"]

T = TypeVar("T", bound=Struct)

_STEPS = 2_000
"""Step runs that are shown at most."""
_STEP_FIELDS = (
    "key", "step", "status", "started", "wall", "cpu", "peak", "host", "pid", "thread", "inputs",
    "output", "note", "stochastic", "reused", "reason", "metrics", "changed",
)  # fmt: skip
"""What the page shows of a step run as it is recorded."""
_LAST_MOMENT = 8.64e12
"""The latest moment that JavaScript has, in seconds since the Unix epoch."""
_SHOWN_ELSEWHERE = ("requirements", "git")
_KINDS = {
    Token.Keyword: "keyword",
    Token.Operator.Word: "keyword",
    Token.Name.Decorator: "keyword",
    Token.Name.Function: "name",
    Token.Name.Class: "name",
    Token.String: "string",
    Token.Number: "number",
    Token.Comment: "comment",
}
"""Kinds of words of source that the page gives a colour."""

# One trial ---------------------------------------------------------------------------------------


def describe_trial(store: Store, trial_id: int) -> dict[str, Any]:
    """Return all of a trial: outcome, parameters, steps, graph, code and environment."""
    doubted: list[Doubts] = []
    store = vouched(store, doubted.append)
    trial = trial_or_raise(store, trial_id).spelled_out(store)
    runs, damaged = _runs(store, trial_id)
    problems = [f"{damaged} damaged records of step runs are left out."] if damaged else []
    begun = trial.begun
    graph = _loaded(store, begun.graph, Graph, problems)
    told = steps_told(store, trial_id) if trial.status == "running" else {}
    code = _loaded(store, begun.code, Code, problems)
    environment = _loaded(store, begun.environment, Environment, problems)
    found = {
        "latest": store.state().latest,
        **_outcome(trial, store),
        "step": begun.result,
        "seed": str(begun.seed),
        "host": begun.origin.host,
        "user": begun.origin.user,
        "pid": begun.origin.pid,
        "sweep": begun.sweep,
        "source": begun.source,
        "resumes": begun.resumes,
        "resumed_by": resumed_by(store, trial),
        "copied_from": begun.birthplace and str(begun.birthplace),
        "parameters": [{"name": n, **_value(f, store)} for n, f in trial.parameters.items()],
        "steps": [_step(run, store, trial_id) for run in runs[:_STEPS]],
        "artifacts": describe_artifacts(store, trial_id),
        "unfinished": unfinished(graph.nodes if graph else (), runs, trial, told),
        "lines": _lines(store, trial, runs),
        "steps_left_out": max(0, len(runs) - _STEPS),
        "log": _log(store, trial_id),
        "notes": _notes(store, trial_id),
        "said": curated(store, [trial_id]).get(trial_id, NOTHING_SAID).described(_finite),
        "graph": _graph(graph),
        "code": _code(code),
        "environment": _environment(environment),
    }
    return {**found, "problems": [*problems, *_doubts(doubted, trial_id)]}


def _doubts(told: Sequence[Doubts], trial: int) -> list[str]:
    """Say what of a trial is not as a holder of the signing key wrote it; once each."""
    faults = [text for each in told for number, text in each.faults if number == trial]
    problems = [f"Missing or left out: {text}." for text in dict.fromkeys(faults)]
    if any(trial in each.foreign for each in told):
        problems.append(
            "Nothing vouches for this trial: it was recorded without daskperiment.signing-key, or "
            "changed since."
        )
    return problems


def _outcome(trial: RecordedTrial, store: Store) -> dict[str, Any]:
    ended = trial.ended
    return {
        "trial": trial.trial,
        "status": trial.status,
        "reason": trial.reason,
        "started": trial.begun.started,
        "finished": _finite(ended.finished) if ended else None,
        "elapsed": _elapsed(trial),
        "result": _result(trial, store),
        "failure": _failure(ended.failure) if ended else None,
    }


def _value(form: Any, store: Store) -> dict[str, Any]:
    """Return a recorded value as text, with type, size and digest if it is an object."""
    if is_object(form):
        try:
            ref = object_ref(form)
        except CorruptRecordError as error:
            return {"text": "<damaged>", "type": "?", "reason": str(error)}
        return {
            "text": truncate(ref.repr),
            "type": _class(ref.type),
            "size": ref.size,
            "digest": ref.digest,
            "reason": ref.reason,
            "preview": to_builtins(ref.preview),
        }
    python = viewed(form, store)
    return {"text": full_text(python), "type": type(python).__name__, "plain": True}


def _class(text: str) -> str:
    """Return the name in ``<class 'numpy.ndarray'>``."""
    return text.removeprefix("<class '").removesuffix("'>")


def _result(trial: RecordedTrial, store: Store) -> dict[str, Any] | None:
    if trial.ended is None or trial.ended.status != "succeeded":
        return None
    return {**_value(trial.ended.value, store), "class": _class(trial.ended.type or "")}


def _elapsed(trial: RecordedTrial) -> float | None:
    if trial.ended:
        return _finite(trial.ended.elapsed)
    return max(0.0, time.time() - trial.begun.started) if trial.status == "running" else None


def _finite(number: float) -> float | None:
    return number if abs(number) <= _LAST_MOMENT else None


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        **structs.asdict(failure),
        "description": truncate(failure.description),
        "traceback": truncate(failure.traceback, LONGEST),
    }


def _runs(store: Store, trial: int) -> tuple[list[StepRun], int]:
    stored = list(store.read("steps", [trial]))
    found = undamaged(stored, StepRun)
    return sorted((run for _, run in found), key=lambda run: run.started), len(stored) - len(found)


def _step(run: StepRun, store: Store, trial: int) -> dict[str, Any]:
    kept = run.kept["value"] if isinstance(run.kept, dict) and "value" in run.kept else None
    load = f"ex.get_persisted({run.key!r}, {trial})"
    return {
        **{name: getattr(run, name) for name in _STEP_FIELDS},
        "arguments": [f"{name}={one.text}" for name, one in run.arguments.items() if one.text],
        "files": [each.name for each in run.reads if each.kind != "variable"],
        "variables": [each.name for each in run.reads if each.kind == "variable"],
        "lane": _lane(run),
        "worker": run.worker_name or run.worker,
        "kept": None if run.kept is None else {**_value(kept, store), "load": load},
        "failure": truncate(run.failure.description) if run.failure else None,
    }


def _lane(run: StepRun) -> str:
    """Return the worker, or the thread of the process, that ran a step."""
    if run.worker_name or run.worker:
        return f"worker {run.worker_name or run.worker}"
    return f"{run.host}, process {run.pid}, {run.thread}"


def _notes(store: Store, trial: int) -> list[dict[str, Any]]:
    notes = [one for one in store.read("notes", [trial]) if record_kind(one.id) == IMPURE]
    return [
        {"key": note.key, "step": note.step, "earlier": note.earlier, "reads": note.reads}
        for _, note in undamaged(notes, Impurity)
    ]


def unfinished(
    nodes: Sequence[Node],
    runs: Sequence[StepRun],
    trial: RecordedTrial,
    told: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    """Return the steps that a running trial has not ended: the state of each, and since when.

    ``running`` is one that the process which runs it told of: it does so of those that take a
    second or longer. ``ready`` is one whose inputs are there, since the last of them ended;
    ``waiting`` one that lacks some. A step whose output nobody waits for, because what comes
    behind it is there, is left out.
    """
    if trial.status != "running":
        return {}
    ended = {run.key: run.started + run.wall for run in runs if run.status == "succeeded"}
    done = {run.key for run in runs}
    inputs = {node.key: node.steps for node in nodes}
    used = {key for keys in inputs.values() for key in keys}
    waiting = [key for key in inputs if key not in used and key not in done]
    found = {
        key: {"state": "running", "since": since}
        for key, since in told.items()
        if key in inputs and key not in done and _finite(since) is not None
    }
    while waiting:
        key = waiting.pop()
        rest = [each for each in inputs[key] if each not in ended]
        since = max([trial.begun.started, *(ended[one] for one in inputs[key] if one in ended)])
        if key not in found:
            found[key] = {"state": "waiting" if rest else "ready", "since": None if rest else since}
            waiting += [each for each in rest if each in inputs and each not in {*done, *found}]
    return found


def _lines(store: Store, trial: RecordedTrial, runs: Sequence[StepRun]) -> list[str]:
    """Return what to paste into Python to have parts of a trial there."""
    number = trial.trial
    names = sorted(MetricSummaries(store).get([number])[number])
    lines = [f"ex.get_history(where='`Trial ID` == {number}')"]
    lines += [f"ex.load_metric({name!r}, {number})" for name in names[:3]]
    kept = [run.key for run in runs if run.kept is not None]
    return lines + [f"ex.get_persisted({key!r}, {number})" for key in kept[:1]]


def _log(store: Store, trial: int) -> str:
    """Return what the steps said; of very much the beginning and the end."""
    text = get_log(store, trial)
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]}\n…\n{text[-half:]}"


def _loaded(store: Store, digest: str, type_: type[T], problems: list[str]) -> T | None:
    try:
        return load_record(store.get(digest), digest, type_)
    except KeyError:
        problems.append(f"The {type_.__name__.lower()} of this trial is not in the store.")
    except CorruptRecordError as error:
        problems.append(str(error))
    return None


def _graph(graph: Graph | None) -> dict[str, Any] | None:
    if graph is None:
        return None
    steps = len(graph.nodes)
    return {"steps": steps, **(layout_graph(graph.nodes) if steps <= MAX_STEPS else {"nodes": []})}


def _code(code: Code | None) -> list[dict[str, Any]]:
    if code is None:
        return []
    users: defaultdict[str, list[str]] = defaultdict(list)
    for step, one in code.steps.items():
        for key in one.functions:
            users[key].append(step)
    return [
        {
            "name": function.name,
            "file": function.file,
            "note": function.note,
            "steps": users[key],
            "lines": highlight(truncate(function.source or "", LONGEST)),
        }
        for key, function in code.functions.items()
    ]


def _environment(environment: Environment | None) -> dict[str, Any]:
    known = environment.categories if environment else {}
    return {
        "categories": {
            category: {name: truncate(text) for name, text in texts.items()}
            for category, texts in known.items()
            if category not in _SHOWN_ELSEWHERE
        },
        "git": {name: truncate(text, LONGEST) for name, text in known.get("git", {}).items()},
        "packages": known.get("requirements", {}),
    }


def highlight(source: str) -> list[list[list[str]]]:
    """Return the lines of Python source as lists of ``[text, kind]``.

    The page makes text nodes of them, so that source is never markup.

    >>> highlight("return 1")
    [[['return', 'keyword'], [' ', ''], ['1', 'number']]]
    """
    lines: list[list[list[str]]] = [[]] if source else []
    text = "\n".join(source.splitlines())
    for _, token, words in PythonLexer().get_tokens_unprocessed(text):
        kind = _kind(token)
        for number, piece in enumerate(words.split("\n")):
            if number:
                lines.append([])
            if piece and lines[-1] and lines[-1][-1][1] == kind:
                lines[-1][-1][0] += piece
            elif piece:
                lines[-1].append([piece, kind])
    return lines


@cache  # there are few types, and very many words
def _kind(token: Any) -> str:
    return next((kind for type_, kind in _KINDS.items() if token in type_), "")
