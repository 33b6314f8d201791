"""With a signing key no answer, wherever it is asked for, shows what somebody else wrote."""

from __future__ import annotations

import ast
import shutil
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import dask
import msgspec
import pytest
from click.testing import CliRunner

import daskperiment
from daskperiment.cli import cli
from daskperiment.codec import sealed
from daskperiment.dashboard.api import DashboardAPI, Source
from daskperiment.dashboard.charts import CurveStyle
from daskperiment.dashboard.table import Look
from daskperiment.errors import CorruptRecordError, StoreWarning, UntrustedObjectError
from daskperiment.recording.registry import close_recorders
from daskperiment.records import STREAMS
from daskperiment.store.file import FileStore
from daskperiment.vouching import VouchedStore, silently, vouched

KEY = "a secret of the readers"
LIE = 424242
ID = "read"
PACKAGE = Path(daskperiment.__file__).parent


def define(ex: daskperiment.Experiment) -> Any:
    n = ex.parameter("n", default=1)

    @ex
    def first(n: int) -> int:
        ex.save_metric("loss", 0, n / 3)
        ex.save("table", [n])
        print("n is", n)
        return n + 1

    @ex.result
    def last(first: int) -> int:
        return first

    return last(first(n))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make two signed trials and a sweep, with a tag and a note."""
    root = tmp_path_factory.mktemp("readers")
    with dask.config.set({"daskperiment.signing-key": KEY}):
        ex = daskperiment.Experiment(ID, backend=root)
        result = define(ex)
        result.compute(scheduler="synchronous")
        result.bind(n=2).compute(scheduler="synchronous")
        result.sweep({"n": [3]}, progress=False, scheduler="synchronous")
        ex.tag([1, 2], "kept")
        close_recorders()
    return root


def lied(stream: str, one: Any) -> Any:
    """Return a record of trial 1 as somebody without the key may rewrite it."""
    found = msgspec.json.decode(one.body)
    found.pop("of", None)
    found.pop("checksum", None)
    if one.trial != 1:
        return one
    if stream == "trials" and one.id.startswith("ended"):
        found["value"] = LIE
    elif stream == "steps":
        found["wall"] = float(LIE)
    elif stream == "points":
        found["points"][0][2] = LIE
    elif stream == "logs":
        found["lines"][0][6] = f"{LIE}\n"
    elif stream == "notes" and one.id.startswith("artifact"):
        found["name"] = f"table{LIE}"
    elif stream == "notes" and one.id.startswith("curated"):
        found["tags"] = [f"tag{LIE}"]
    else:
        return one
    return one._replace(body=sealed(msgspec.json.encode(found), one.trial))


@pytest.fixture
def lies(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Make a copy of the folder in which trial 1 is changed, and work in a folder beside it."""
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))
    copy = tmp_path_factory.mktemp("lies")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    store = FileStore(copy / ID)
    changed = [
        (stream, told.body, one.position)
        for stream in STREAMS
        for one in store.read(stream, [1])
        if (told := lied(stream, one)) is not one
    ]
    store.close()
    with closing(sqlite3.connect(copy / ID / "records.sqlite")) as connection, connection:
        for stream, *change in changed:
            connection.execute(f"UPDATE {stream} SET body = ? WHERE position = ?", change)
    return copy


def command(*words: str) -> Callable[[daskperiment.Experiment, Path], str]:
    """Return what asks by a command; a command that writes files is asked for all of them."""

    def ask(ex: daskperiment.Experiment, root: Path) -> str:
        answer = CliRunner().invoke(cli, [*words, "--backend", str(root)])
        files = [path for path in Path().rglob("*") if path.is_file()]
        return answer.output + "".join(path.read_text("utf-8", "replace") for path in files)

    return ask


def page(ask: Callable[[DashboardAPI], Any]) -> Callable[[daskperiment.Experiment, Path], str]:
    """Return what asks the page."""

    def asked(ex: daskperiment.Experiment, root: Path) -> str:
        api = DashboardAPI(Source(root))
        try:
            return str(ask(api))
        finally:
            api.close()

    return asked


LOOK = Look("")
QUESTIONS: dict[str, Callable[[daskperiment.Experiment, Path], Any]] = {
    "get_history": lambda ex, root: ex.get_history(verbose=True, metrics=True).to_csv(),
    "best": lambda ex, root: LIE if ex.best("Result") == 1 else "",
    "get_steps": lambda ex, root: ex.get_steps().assign(
        Wall=lambda one: one["Wall Time"].dt.total_seconds()).to_csv(),
    "load_metric": lambda ex, root: ex.load_metric("loss", [1, 2]).to_csv(),
    "get_log": lambda ex, root: ex.get_log(1),
    "get_artifacts": lambda ex, root: ex.get_artifacts().to_csv(),
    "compare": lambda ex, root: repr(ex.compare(1, 2)),
    "history": command("history", ID, "--verbose", "--format", "csv"),
    "show": command("show", ID, "1", "--format", "json"),
    "show as text": command("show", ID, "1"),
    "metrics": command("metrics", ID, "1", "--format", "csv"),
    "steps": command("steps", ID, "--format", "json"),
    "artifacts": command("artifacts", ID),
    "previews": command("artifacts", ID, "--preview"),
    "log": command("log", ID, "1"),
    "command compare": command("compare", ID, "1", "2"),
    "report": command("report", ID, "--trials", "1"),
    "export": command("export", ID, "out"),
    "check-metric": command("check-metric", ID, "2", "--by", "Result"),
    "command best": lambda ex, root: (
        LIE if command("best", ID, "--by", "Result")(ex, root).strip() == "1" else ""),
    "page of trials": page(lambda api: api.trials(ID, LOOK, 0, 50, "")),
    "page of a trial": page(lambda api: api.trial(ID, 1)["result"]),
    "log of the page": page(lambda api: api.trial(ID, 1)["log"]),
    "steps of the page": page(lambda api: api.trial(ID, 1)["steps"]),
    "artifacts of the page": page(lambda api: api.trial(ID, 1)["artifacts"]),
    "curves of the page": page(
        lambda api: api.metrics(ID, [1, 2], ["loss"], CurveStyle(), False)),
    "comparison of the page": page(lambda api: api.compare(ID, [1, 2])),
}  # fmt: skip


@pytest.mark.parametrize("what", QUESTIONS)
def test_no_answer_shows_what_somebody_else_wrote(lies: Path, what: str) -> None:
    """What is changed is shown to those without the key, and to nobody who has it."""
    answers = []
    for settings in ({}, {"daskperiment.signing-key": KEY}):
        with dask.config.set(settings), warnings.catch_warnings():
            warnings.simplefilter("ignore", StoreWarning)
            for path in Path().rglob("*"):
                if path.is_file():
                    path.unlink()
            ex = daskperiment.Experiment(ID, backend=lies)
            answers.append(str(QUESTIONS[what](ex, lies)))
    assert str(LIE) in answers[0].replace(",", "")
    assert str(LIE) not in answers[1].replace(",", "")


def test_the_page_of_a_trial_says_what_is_left_out(lies: Path) -> None:
    """Whoever looks at a trial in the browser is told, and nobody of a trial that is whole."""
    with dask.config.set({"daskperiment.signing-key": KEY}):
        api = DashboardAPI(Source(lies))
        problems = api.trial(ID, 1)["problems"]
        assert any("ended-succeeded" in one for one in problems), problems
        assert any("points" in one for one in problems), problems
        assert api.trial(ID, 2)["problems"] == []
        assert [one["trials"] for one in api.experiments()["experiments"]] == [3]
        api.close()


def test_the_page_follows_an_experiment_that_begins_anew(tmp_path: Path) -> None:
    """A page that stays open takes the trials of a later experiment for what they are."""
    with dask.config.set({"daskperiment.signing-key": KEY}):
        ex = daskperiment.Experiment(ID, backend=tmp_path)
        api = DashboardAPI(Source(tmp_path))
        for n in (7, 8):
            ex.delete()
            define(ex).bind(n=n).compute(scheduler="synchronous")
            rows = api.trials(ID, LOOK, 0, 50, "")["rows"]
            assert f"'{n + 1}'" in str(rows) or f" {n + 1}" in str(rows), rows
            assert "loss" in str(api.metrics(ID, [1], ["loss"], CurveStyle(), False))
            assert api.trial(ID, 1)["problems"] == []
        api.close()


def test_an_object_of_the_same_digest_is_found(folder: Path) -> None:
    """The digest of a store is no secret's: code, environment and graph are signed by another."""
    with dask.config.set({"daskperiment.signing-key": KEY}):
        reader = vouched(FileStore(folder / ID), silently)
        begun = [one for one in reader.read("trials", [1]) if one.id == "begun"]
        fields = msgspec.json.decode(begun[0].body)
        assert isinstance(reader, VouchedStore)
        for name in ("code", "environment", "graph"):
            data = bytes(reader.get(fields[name]))
            reader.unchecked = _Other(reader.unchecked, fields[name], data + b" ")
            with pytest.raises(CorruptRecordError, match="not the one that was signed"):
                reader.get(fields[name])


class _Other:
    """A store in which one object is another."""

    def __init__(self, store: Any, digest: str, data: bytes) -> None:
        self._store, self._digest, self._data = store, digest, data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, digest: str) -> Any:
        return self._data if digest == self._digest else self._store.get(digest)


def test_a_sweep_is_resumed_as_it_was_signed(tmp_path: Path) -> None:
    """The record of a sweep that was changed, or written without the key, is refused."""
    ex = daskperiment.Experiment(ID, backend=tmp_path)
    result = define(ex)
    plain = result.sweep({"n": [1]}, progress=False, scheduler="synchronous")
    with dask.config.set({"daskperiment.signing-key": KEY}):
        with pytest.raises(UntrustedObjectError, match="Leave resume out to begin a new sweep"):
            result.sweep(resume=plain.attrs["sweep"], progress=False, scheduler="synchronous")
        signed = result.sweep({"n": [1, 2]}, progress=False, scheduler="synchronous").attrs["sweep"]
        again = result.sweep(resume=signed, progress=False, scheduler="synchronous")
        assert list(again["n"]) == [1, 2]
    found = next(one for one in ex._store.read("notes", [0]) if one.id == f"sweep-{signed}")
    fields = msgspec.json.decode(found.body)
    fields.pop("checksum")
    fields["entropy"] += 1
    changed = found._replace(body=sealed(msgspec.json.encode(fields), 0))
    with dask.config.set({"daskperiment.signing-key": KEY}):
        reader = VouchedStore(ex._store, KEY.encode(), silently)
        assert changed.id in [one.id for one in reader.read("notes", [0])]
        reader.unchecked = _Changed(ex._store, changed)
        assert changed.id not in [one.id for one in reader.read("notes", [0])]


class _Changed:
    """A store in which one record is another."""

    def __init__(self, store: Any, changed: Any) -> None:
        self._store, self._changed = store, changed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, *args: Any, **kwargs: Any) -> list[Any]:
        own = self._changed
        return [own if one.id == own.id else one for one in self._store.read(*args, **kwargs)]


# Who opens a store --------------------------------------------------------------------------------

OPENINGS = {
    "copying.copy": "all that is there is copied, signed or not",
    "cli.checkup._check": "each record is looked at, and told of",
    "cli.lookup.bare_store_of": "`store_of` holds it against the key; others deliver or copy",
    "cli.lookup.place": "its address alone",
    "cli.maintenance.copy": "its address alone",
    "cli.maintenance.delete": "its address alone",
    "dashboard.api.Source._store": "`DashboardAPI` holds it against the key",
    "experiment.Experiment.__new__": "`_store_to_read` holds it against the key; others write",
    "experiment.experiment_rows": "held against the key before it is counted",
}
"""Every place that opens a store by its backend, and why what it reads need not be looked at."""
BARE = {
    "cli.computation._failure": "of the trial that it has computed itself",
    "cli.computation._note_own_trial": "of the trial that the script has computed itself",
    "cli.computation._number": "of the trial that it has computed itself",
    "cli.maintenance.copy": "all that is there is copied",
    "cli.maintenance.flush": "delivers",
    "cli.lookup.find": "whether it exists",
    "cli.lookup.store_of": "held against the key",
    "cli.board.board": "whether it exists",
    "experiment.base.ExperimentBase._store_to_read": "held against the key",
    "experiment.questions.Questions.get_persisted": "refuses with an error of its own",
    "experiment.upkeep.Upkeep.prune": "keeps what anybody's record names",
    "reproduce.reproduction.reproduce": "held against the key; recorded code is refused",
    "reproduce.resumption.resume": "held against the key; kept outputs are refused",
    "sweep.cluster_jobs.ClusterJobs.__init__": "delivers",
    "sweep.cluster_jobs.ClusterJobs._of_lost_batch": "`trials_of` holds it against the key",
    "sweep.runner._done": "`trials_of` holds it against the key",
    "sweep.runner._followed": "a sweep's record is refused, its trials held against the key",
    "sweep.runner._planned": "delivers",
    "sweep.runner._table": "held against the key",
    "sweep.runner.sweep": "a sweep's record is refused, its trials held against the key",
    "sweep.sweep_plan.new_plan": "the highest id alone",
    "sweep.sweep_plan.resumed_plan": "a sweep's record is refused",
}
"""Who among those that show trials has a store as it is: all of these, and why."""


def users(names: set[str], attribute: str = "") -> set[str]:
    """Return the functions that call one of some names, or read an attribute of a planner."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text("utf-8")
        if not any(f"{name}(" in text for name in names) and "planner.store" not in text:
            continue
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for place, node in functions(ast.parse(text), ""):
            if any(_is_use(part, names, attribute) for part in ast.walk(node)):
                found.add(f"{module.removesuffix('.__init__').removeprefix('__init__')}.{place}")
    return {one for one in found if not one.startswith(("testing.", "store."))}


def _is_use(part: ast.AST, names: set[str], attribute: str) -> bool:
    if isinstance(part, ast.Call):
        return (getattr(part.func, "id", None) or getattr(part.func, "attr", "")) in names
    owner = part.value if isinstance(part, ast.Attribute) and part.attr == attribute else None
    return "planner" in (getattr(owner, "id", ""), getattr(owner, "attr", ""))


def functions(tree: ast.AST, prefix: str) -> list[tuple[str, ast.AST]]:
    """Return the functions and methods of a module, not those within them, with their places."""
    found: list[tuple[str, ast.AST]] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append((f"{prefix}{node.name}", node))
        elif isinstance(node, ast.ClassDef):
            found += functions(node, f"{node.name}.")
    return found


def test_every_opening_of_a_store_is_known() -> None:
    """Whoever opens a store reads through the key, or stands here with the reason why not."""
    assert users({"open_store"}) == set(OPENINGS)


def test_every_reader_of_a_bare_store_is_known() -> None:
    """Whoever shows trials reads through the key, or stands here with the reason why not."""
    found = users({"bare_store_of", "_store_caught_up"}, "store")
    assert {one for one in found if not one.startswith("planning.")} == set(BARE)
