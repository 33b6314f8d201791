"""Records in which every text is markup."""

from __future__ import annotations

import types
import typing
from typing import Any, Literal, TypeVar

import msgspec

from daskperiment.codec import dump_record, encode
from daskperiment.records import (
    Begun,
    Code,
    Computed,
    Curation,
    Ended,
    Environment,
    Graph,
    Impurity,
    ObjectRef,
    Point,
    StepRun,
    curation_id,
)
from daskperiment.store.liveness import current_origin
from tests.dashboard.stores import PLANTS, FolderLab

__all__ = ["FIELDS", "plant_trial"]

T = TypeVar("T")

FIELDS: set[str] = set()
"""Names of all fields that hold a plant, such as ``StepRun.note``."""


def grown(type_: type[T]) -> T:
    """Make a record in which every text, in lists and dicts too, is its field's name and markup."""
    made: T = _grown(type_, type_.__name__)
    return made


def _grown(hint: Any, place: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is str or hint is Any:
        FIELDS.add(place)
        return f"{place} {PLANTS}"
    if origin in (typing.Union, types.UnionType):
        return _grown(arguments[0], place)
    if origin is Literal:
        return arguments[-1]
    if origin is list:
        return [_grown(arguments[0], place)]
    if origin is tuple:
        return (_grown(arguments[0], place),)
    if origin is dict:
        return {_grown(arguments[0], f"{place} key"): _grown(arguments[1], place)}
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        hints = typing.get_type_hints(hint)
        fields = msgspec.structs.fields(hint)
        return hint(**{f.name: _grown(hints[f.name], f"{hint.__name__}.{f.name}") for f in fields})
    return hint(1)


def _code(number: int) -> Code:
    """Make code whose keys fit together, and that differs from trial to trial."""
    code, run = grown(Code), grown(StepRun)
    (step,), (function,) = code.steps.values(), code.functions.values()
    function = msgspec.structs.replace(function, source=f"{function.source}\n# {number}\n")
    return Code({run.step: step}, {step.functions[0]: function})


def plant_trial(lab: FolderLab, *, succeeds: bool) -> int:
    """Write a trial with every record that there is, and markup in every text of them."""
    replace = msgspec.structs.replace
    number = lab.store.state().latest
    blobs = [dump_record(record) for record in (_code(number), grown(Environment), grown(Graph))]
    changes = {"diff": f"+ {number} git diff {PLANTS}", "untracked": PLANTS}
    git = dump_record(Environment({"git": changes,
                                   "requirements": {f"package {PLANTS}": PLANTS},
                                   **grown(Environment).categories}))  # fmt: skip
    for blob in (*blobs, git):
        lab.store.put(blob.digest, blob.parts)
    ref = msgspec.to_builtins(replace(grown(ObjectRef), digest=blobs[0].digest, size=1))
    token = f"planted-{number}"
    origin = replace(grown(Begun).origin, boot=current_origin().boot)
    begun = replace(
        grown(Begun), token=token, code=blobs[0].digest, environment=git.digest,
        graph=blobs[2].digest, source=1, origin=origin,
        parameters={**grown(Begun).parameters, f"object {PLANTS}": ref},
    )  # fmt: skip
    trial = int(lab.store.allocate(token, encode(begun)).trial)
    lab.add("trials", trial, "computed-x", grown(Computed))
    step = grown(StepRun)
    lab.add("steps", trial, "one", replace(step, kept={"value": ref}, reused=1))
    lost = {**ref, "digest": None, "reason": f"ObjectRef.reason {PLANTS}"}
    plain = replace(
        step, key=f"two {step.key}", worker_name=None, status="succeeded", kept={"value": lost}
    )
    lab.add("steps", trial, "two", plain)
    lab.add("steps", trial, "three", replace(plain, key=f"three {step.key}", worker=None))
    lab.add("notes", trial, "impure-note", grown(Impurity))
    # Tags that are taken away again would be shown nowhere.
    said = replace(grown(Curation), untags=[], archived=False)
    lab.add("notes", trial, curation_id(1.0, "plant"), said)
    point = grown(Point)
    rows = [msgspec.to_builtins(point), [point.metric, point.epoch, 1.0, 2.0]]
    said = [f"LogPiece.step {PLANTS}", "1", 0, 1.0, f"LogPiece.source {PLANTS}", 1,
            f"LogPiece.text {PLANTS}\n"]  # fmt: skip
    lab.add("logs", trial, "batch", msgspec.json.encode({"lines": [said]}))
    lab.add("points", trial, "batch", msgspec.json.encode({"points": rows}))
    ended = grown(Ended)
    if succeeds:
        value = {f"key of a result {PLANTS}": trial, f"other {PLANTS}": PLANTS}
        ended = replace(ended, status="succeeded", failure=None, value=value)
    else:
        ended = replace(ended, status="failed", value=None)
    lab.add("trials", trial, f"ended-{ended.status}", ended)
    return trial
