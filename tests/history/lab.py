"""Trials, steps and points written by hand."""

from __future__ import annotations

from typing import Any

import msgspec

from daskperiment.codec import dump_record, encode, pack, to_plain
from daskperiment.codec.signed_records import signed
from daskperiment.records import (
    Beat,
    Begun,
    Computed,
    Ended,
    Environment,
    Failure,
    Origin,
    StepRun,
    beat_id,
)
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Record
from tests.helpers.memory import MemoryStore

ELSEWHERE = Origin("another-host", "boot", 12, 1.0, "someone")
NOW = 1_700_000_000.0


class Lab:
    """Writes the records that running trials write."""

    def __init__(self) -> None:
        self.store = MemoryStore("lab", clock=NOW)

    def begin(
        self,
        parameters: dict[str, Any] | None = None,
        origin: Origin | None = None,
        commit: str | None = "abc123",
        started: float = NOW - 10,
    ) -> int:
        category = {"git": {"commit": commit}} if commit else {}
        environment = dump_record(Environment(category))
        self.store.put(environment.digest, environment.parts)
        token = f"token-{self.store.state().latest + 1}"
        forms = {name: self.form(value) for name, value in (parameters or {}).items()}
        begun = Begun(
            token=token,
            result="score",
            started=started,
            seed=7,
            parameters=forms,
            code="c0de",
            environment=environment.digest,
            graph="9a4f",
            origin=origin or current_origin(),
        )
        return self.store.allocate(token, encode(begun)).trial

    def form(self, value: Any, key: bytes | None = None) -> Any:
        """Pack a value, and keep its object."""
        data, blob = pack(value, key)
        if blob is not None:
            self.store.put(blob.digest, blob.parts)
        return data

    def add(self, stream: str, trial: int, id: str, record: Any) -> None:
        body = record if isinstance(record, bytes) else encode(record)
        self.store.append([Record(stream, trial, id, body)])

    def succeed(self, trial: int, value: Any, finished: float = NOW, elapsed: float = 1.5) -> None:
        end = Ended("succeeded", finished, elapsed, str(type(value)), self.form(value))
        self.add("trials", trial, "ended-succeeded", end)

    def fail(self, trial: int, error: BaseException, status: str = "failed") -> None:
        text = f"{type(error).__name__}({error})"
        failure = Failure(type(error).__name__, text, "Traceback …", "score")
        end = Ended(status, NOW, 0.5, failure=failure)  # type: ignore[arg-type]
        self.add("trials", trial, f"ended-{status}-score", end)

    def run(self, value: Any = 0, **parameters: Any) -> int:
        """Write a trial that succeeded."""
        trial = self.begin(parameters)
        self.succeed(trial, value)
        return trial

    def compute(self, trial: int, name: str, value: Any) -> None:
        self.add("trials", trial, f"computed-{name}", Computed(name, self.form(value)))

    def beat(self, trial: int, time: float, sender: str = "", **steps: float) -> None:
        id = beat_id(time, sender, 0) if sender else f"{time}"
        self.add("beats", trial, id, Beat(time, steps))

    def step(
        self, trial: int, key: str, status: str = "succeeded", signing_key: bytes | None = None,
        **fields: Any,
    ) -> None:  # fmt: skip
        run = StepRun(
            **{
                "key": key,
                "step": key.partition("#")[0],
                "status": status,
                "started": NOW - 5,
                "wall": 0.25,
                "cpu": 0.125,
                "peak": 2**33,
                "host": "here",
                "pid": 42,
                "thread": "MainThread",
                "code": "c0de",
                **fields,
            }
        )
        if signing_key is not None:
            run = signed(run, signing_key, self.store.address, trial)
        id = f"{key}-{len(list(self.store.read('steps')))}"
        self.add("steps", trial, id, run)

    def points(self, trial: int, *points: tuple[str, Any, Any]) -> None:
        rows = [[m, to_plain(e), to_plain(v), NOW] for m, e, v in points]
        id = f"batch-{len(list(self.store.read('points')))}"
        self.add("points", trial, id, msgspec.json.encode({"points": rows}))
