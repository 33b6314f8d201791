"""Long histories, written straight into a store."""

from __future__ import annotations

import time
from pathlib import Path

from daskperiment.codec import dump_record, encode
from daskperiment.records import Begun, Code, Ended, Environment, Failure, Graph
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Record, Store

__all__ = ["fill", "size_of"]


def fill(store: Store, count: int) -> None:
    """Write so many ended trials of three parameters, one in ten failed."""
    blobs = [dump_record(record) for record in (Code({}, {}), Environment({"git": {}}), Graph([]))]
    for blob in blobs:
        store.put(blob.digest, blob.parts)
    code, environment, graph = (blob.digest for blob in blobs)
    origin, now = current_origin(), time.time()
    ended: list[Record] = []
    for i in range(count):
        if len(ended) == 1_000:  # as trials do, which end before many others begin
            store.append(ended)
            ended.clear()
        begun = Begun(
            token=f"token{i}", result="score", started=now + i, seed=i,
            parameters={"lr": i / 7, "depth": i % 10, "kind": "rbf"}, code=code,
            environment=environment, graph=graph, origin=origin,
        )  # fmt: skip
        trial = store.allocate(begun.token, encode(begun)).trial
        ended.append(Record("trials", trial, "ended", encode(_end(i, now))))
    store.append(ended)


def _end(i: int, now: float) -> Ended:
    if i % 10 == 3:
        failure = Failure("ValueError", f"ValueError(bad depth {i})", "Traceback …", "fit")
        return Ended("failed", now + i + 1, 1.0, failure=failure)
    return Ended("succeeded", now + i + 1, 1.0, "<class 'float'>", i / 3)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
