"""Writes a stored sample: ``python tests/data/make_sample.py FOLDER``.

Run once for each released format; what it wrote is kept, and every later version must read it.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

from daskperiment.codec import dump_record, encode, pack
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
from daskperiment.store.file import FileStore
from daskperiment.store.protocol import Record

START = 1_750_000_000.0
ORIGIN = Origin("host", "boot", 100, 5.0, "user")
SOURCE = "def prepare(lr):\n    return [lr] * 3\n"


def write(folder: Path) -> None:
    """Write three trials: one succeeded, one failed, one interrupted."""
    store = FileStore(folder)
    function = Function("prepare", "aa" * 16, SOURCE, "sample.py")
    code = dump_record(Code({"prepare": StepCode("bb" * 16, ["prepare"])}, {"prepare": function}))
    environment = dump_record(
        Environment({"git": {"commit": "c0ffee"}, "requirements": {"numpy": "2.0.0"}})
    )
    graph = dump_record(Graph([Node("prepare", "prepare", [], ["lr"])]))
    for blob in (code, environment, graph):
        store.put(blob.digest, blob.parts)
    for number, lr in enumerate((0.5, float("nan"), 10**30), 1):
        begun = Begun(
            f"token{number}", "score", START + number, number, {"lr": pack(lr)[0]},
            code.digest, environment.digest, graph.digest, ORIGIN,
        )  # fmt: skip
        store.allocate(begun.token, encode(begun))
    store.append(list(records(store)))
    store.close()
    for extra in ("clock", ".gitignore"):
        (folder / extra).unlink(missing_ok=True)


def records(store: FileStore):
    """Make what followed."""
    kept, blob = pack(OrderedDict(a=1.5))
    store.put(blob.digest, blob.parts)
    for trial in (1, 2):
        run = StepRun(
            "prepare", "prepare", "succeeded", START + trial, 0.5, 0.25, 1000, "host", 100, "main",
            "bb" * 16, "cc" * 16, f"{trial}" * 32, seed=7, kept={"value": kept},
        )  # fmt: skip
        yield Record("steps", trial, "prepare-1", encode(run))
    body = b'{"points":[["loss",0,1.5,1.0],["loss",1,{"$":"float","v":"nan"},2.0]]}'
    yield Record("points", 1, "journal-0", body)
    result = pack({"score": (1, 2)})[0]
    yield Record("trials", 1, "ended-succeeded",
                 encode(Ended("succeeded", START + 2, 1.0, "<class 'dict'>", result)))  # fmt: skip
    failure = Failure("ValueError", "ValueError(bad)", "Traceback ...", "prepare")
    yield Record("trials", 2, "ended-failed-prepare",
                 encode(Ended("failed", START + 3, 1.0, failure=failure)))  # fmt: skip
    failure = Failure("KeyboardInterrupt", "KeyboardInterrupt()", "", "prepare")
    yield Record("trials", 3, "ended-interrupted-prepare",
                 encode(Ended("interrupted", START + 4, 1.0, failure=failure)))  # fmt: skip


if __name__ == "__main__":
    write(Path(sys.argv[1]))
