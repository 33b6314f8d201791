"""Experiments that the tests of the dashboard look at."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from daskperiment.codec import dump_record, encode
from daskperiment.dashboard.table import Look, TrialTable
from daskperiment.dashboard.trial_index import TrialIndex
from daskperiment.errors import StoreUnavailableError
from daskperiment.records import (
    Begun,
    Code,
    Environment,
    Function,
    Graph,
    Node,
    Origin,
    StepCode,
)
from daskperiment.store.file import FileStore
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Buffer, Record, State, Store, Stored
from tests.history.lab import NOW, Lab

__all__ = ["PLANTS", "Away", "FolderLab", "Held", "ReadOnly", "look", "shown"]

PLANTS = (
    "<script>window.ran=1</script><img src=x onerror='window.ran=2'>\"><svg onload=window.ran=3>"
    "[a](javascript:window.ran=4) **b** @{x}{safe} $$\\frac{1}{2}$$ <%= (window.ran=5) %> "
    "{{constructor.constructor('window.ran=6')()}} &lt;b&gt;"
)
"""Markup, Markdown, and the languages of templates, formatters and formulas."""


class FolderLab(Lab):
    """Writes records by hand into a folder, with code, environment and graph of their own."""

    def __init__(self, folder: Path) -> None:
        self.store: Any = FileStore(folder)

    def open(
        self,
        parameters: dict[str, Any],
        *,
        origin: Origin | None = None,
        graph: Iterable[Node] = (),
        sources: dict[str, str] | None = None,
        environment: dict[str, dict[str, str]] | None = None,
        result: str = "score",
        sweep: str | None = None,
        resumes: int | None = None,
    ) -> int:
        """Write how a trial begins."""
        functions = {n: Function(n, f"f-{s}", s, f"{n}.py") for n, s in (sources or {}).items()}
        steps = {name: StepCode(f"s-{name}", [name]) for name in functions}
        records = (Code(steps, functions), Environment(environment or {}), Graph(list(graph)))
        blobs = [dump_record(record) for record in records]
        for blob in blobs:
            self.store.put(blob.digest, blob.parts)
        token = f"token-{self.store.state().latest + 1}"
        forms = {name: self.form(value) for name, value in parameters.items()}
        begun = Begun(
            token, result, NOW, 7, forms, *(blob.digest for blob in blobs),
            origin=origin or current_origin(), sweep=sweep,
            resumes=resumes,
        )  # fmt: skip
        return int(self.store.allocate(token, encode(begun)).trial)


class ReadOnly:
    """Passes on what reads, and has nothing else to call."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def address(self) -> str:
        return self._store.address

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        return self._store.read(stream, trials, after)

    def get(self, digest: str) -> Buffer:
        return self._store.get(digest)

    def state(self) -> State:
        return self._store.state()

    def close(self) -> None:
        self._store.close()

    def find(self, ids: Collection[str]) -> list[Record]:
        return self._store.find(ids)

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        return self._store.sizes(digests)

    def allocate(self, *arguments: Any) -> Any:
        raise AssertionError("the dashboard wrote")

    append = put = discard = delete = remove = allocate


class Away(ReadOnly):
    """A store that a test takes away and brings back."""

    gone = False

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        if self.gone:
            raise StoreUnavailableError("redis://example cannot be reached. Start it, and look on.")
        return super().read(stream, trials, after)


class Held(ReadOnly):
    """A store that stops in the midst of giving all trials, until it is let go."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.let_go = threading.Event()
        self.came = threading.Event()
        self.fault: BaseException | None = None
        self.read_by_id: list[int] = []
        self.read_whole = 0
        self.read_notes: list[str] = []
        """The threads that read what was said of all trials."""

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        if stream == "trials" and trials is not None:
            self.read_by_id.append(len(trials))
        if stream == "notes" and trials is None and not after:
            self.read_notes.append(threading.current_thread().name)
        if stream != "trials" or trials is not None or after:
            return super().read(stream, trials, after)
        self.read_whole += 1
        return self._halting(list(super().read(stream)))

    def _halting(self, found: list[Stored]) -> Iterator[Stored]:
        for place, one in enumerate(found):
            if place == len(found) // 2:
                self.came.set()
                assert self.let_go.wait(60)
                if self.fault is not None:
                    raise self.fault
            yield one


def look(lab: Lab) -> TrialIndex:
    """Follow an experiment for the first time."""
    trials = TrialIndex(lab.store)
    trials.refresh()
    return trials


def shown(
    table: TrialTable,
    filter: str = "",
    sort: str = "",
    statuses: Iterable[str] = (),
    archived: bool = False,
) -> list[int]:
    """Give the trials of the first page."""
    table.refresh()
    look = Look(filter, frozenset(statuses), sort, archived)
    return [row["trial"] for row in table.page(look, 0, 50)["rows"]]
