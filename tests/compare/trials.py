"""Handmade trials in a store that lives in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from daskperiment.codec import dump_record, encode, to_plain
from daskperiment.records import (
    Begun,
    Code,
    Ended,
    Environment,
    Failure,
    Function,
    Graph,
    Node,
    Origin,
    StepCode,
    StepRun,
)
from daskperiment.store.protocol import Allocation, Record, State, Stored

HERE = Origin(host="here", boot="boot", pid=1, born=0.0, user="ada")
NODES = [
    Node("load", "load", parameters=["path"]),
    Node("clean", "clean", steps=["load"]),
    Node("train", "train", steps=["clean"], parameters=["lr", "depth"]),
    Node("score", "score", steps=["train"]),
]
SOURCES = {
    "load": "def load(path):\n    return read(path)\n",
    "clean": "def clean(data):\n    return scale(data)\n",
    "scale": "def scale(data):\n    return data / data.max()\n",
    "train": "def train(data, lr, depth):\n    return fit(data, lr, depth)\n",
    "score": "def score(model):\n    return model.score()\n",
}
USES = {
    "load": ["load"],
    "clean": ["clean", "scale"],
    "train": ["train"],
    "score": ["score"],
}
PARAMETERS = {"path": "iris.csv", "lr": 0.1, "depth": 3}
CATEGORIES = {
    "python": {"version": "3.11.9"},
    "git": {"commit": "1111111aaaa", "branch": "main", "dirty": "False"},
}


class MemoryStore:
    """The store protocol, as far as a comparison needs it."""

    address = "memory"

    def __init__(self) -> None:
        self.streams: dict[str, list[Stored]] = {}
        self.objects: dict[str, bytes] = {}

    def allocate(self, token: str, body: bytes) -> Allocation:
        trial = self.state().latest + 1
        self.append([Record("trials", trial, "begun", body)])
        return Allocation(trial, 0.0, True)

    def append(self, records: Sequence[Record]) -> list[Record]:
        for each in records:
            stored = self.streams.setdefault(each.stream, [])
            stored.append(Stored(len(stored) + 1, each.trial, each.id, each.body))
        return []

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        stored = self.streams.get(stream, [])
        return [one for one in stored if trials is None or one.trial in trials]

    def put(self, digest: str, parts: Sequence[Any]) -> None:
        self.objects[digest] = b"".join(parts)

    def get(self, digest: str) -> bytes:
        return self.objects[digest]

    def state(self) -> State:
        return State(max((one.trial for one in self.streams.get("trials", [])), default=0), 0.0)

    def keep(self, record: msgspec.Struct) -> str:
        blob = dump_record(record)
        self.put(blob.digest, blob.parts)
        return blob.digest

    def damage(self, digest: str) -> None:
        self.objects[digest] = b"{" + self.objects[digest]


def code(
    sources: dict[str, str] | None = None,
    constants: dict[str, dict[str, str | None]] | None = None,
    packages: dict[str, dict[str, str]] | None = None,
    uses: dict[str, list[str]] | None = None,
) -> Code:
    """Make the code of the four steps, with other sources, constants or packages."""
    texts = {**SOURCES, **(sources or {})}
    functions = {name: Function(name, f"f-{text}", source=text) for name, text in texts.items()}
    return Code({step: _step_code(step, used, texts, constants or {}, packages or {})
                 for step, used in {**USES, **(uses or {})}.items()}, functions)  # fmt: skip


def _step_code(step: str, used: list[str], texts: Any, constants: Any, packages: Any) -> StepCode:
    own = constants.get(step, {}), packages.get(step, {})
    return StepCode(repr(([texts[name] for name in used], own)), used, *own)


def run(key: str, output: str | None, **details: Any) -> StepRun:
    """Make a step run."""
    defaults: dict[str, Any] = {
        "step": key.split("#")[0],
        "status": "succeeded", "started": 0.0, "wall": 1.0, "cpu": 1.0, "peak": 0,
        "host": "here", "pid": 1, "thread": "main", "code": "c",
    }  # fmt: skip
    return StepRun(key=key, output=output, **{**defaults, **details})


def failed(key: str, description: str, **details: Any) -> StepRun:
    """Make a step run that failed."""
    failure = Failure(description.split("(")[0], description, step=key)
    return run(key, None, status="failed", failure=failure, **details)


def runs(parameters: dict[str, Any] | None = None, **changes: Any) -> list[StepRun]:
    """Make a run of each step: give an output, a run, or None for one that did not run.

    The fingerprint of what goes in follows from the parameters and from what came out before.
    """
    values = {**PARAMETERS, **(parameters or {})}
    made: dict[str, StepRun] = {}
    for number, node in enumerate(NODES):
        change = changes.get(node.key, f"{node.key}-output")
        if change is None:
            continue
        outputs = [made[key].output if key in made else None for key in node.steps]
        known = change if isinstance(change, StepRun) else run(node.key, change)
        inputs = None if None in outputs else repr((outputs, [values[n] for n in node.parameters]))
        made[node.key] = msgspec.structs.replace(
            known, inputs=known.inputs or inputs, started=float(number)
        )
    return list(made.values())


def add(
    store: MemoryStore,
    *,
    parameters: dict[str, Any] | None = None,
    steps: list[StepRun] | None = None,
    result: Any = 0.9,
    status: str | None = "succeeded",
    failure: Failure | None = None,
    seed: int = 1,
    the_code: Code | None = None,
    nodes: list[Node] | None = None,
    categories: dict[str, dict[str, str]] | None = None,
    metrics: list[list[Any]] | None = None,
    source: int | None = None,
) -> int:
    """Write one trial down; without arguments, always the same."""
    values = {name: _form(value) for name, value in {**PARAMETERS, **(parameters or {})}.items()}
    begun = Begun(
        token="token", result="score", started=0.0, seed=seed, parameters=values,
        code=store.keep(the_code or code()),
        environment=store.keep(Environment({**CATEGORIES, **(categories or {})})),
        graph=store.keep(Graph(NODES if nodes is None else nodes)), origin=HERE, source=source,
    )  # fmt: skip
    trial = store.allocate("token", encode(begun)).trial
    records = [
        Record("steps", trial, f"{step.key}-{number}", encode(step))
        for number, step in enumerate(runs(parameters) if steps is None else steps)
    ]
    if status:
        value = None if failure else _form(result)
        ended = Ended(status, 1.0, 1.0, value=value, failure=failure)  # type: ignore[arg-type]
        records.append(Record("trials", trial, f"ended-{status}-1", encode(ended)))
    if metrics:
        points = [[name, epoch, _form(value), 0.0] for name, epoch, value in metrics]
        records.append(Record("points", trial, "1", msgspec.json.encode({"points": points})))
    store.append(records)
    return trial


def _form(value: Any) -> Any:
    return value if isinstance(value, dict) and "$" in value else to_plain(value)
