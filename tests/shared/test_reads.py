"""How many records come from a store for what concerns one trial, or a few: counted at n and 4 n.

How many calls that takes, in a folder, stands in tests/cli/test_growth.py.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import daskperiment
from daskperiment import copying, experiment
from daskperiment.cli import cli
from daskperiment.codec import PointRun
from daskperiment.dashboard.api import DashboardAPI, Source
from daskperiment.dashboard.charts import CurveStyle
from daskperiment.errors import FilterError
from daskperiment.history import kept_columns, read_trials
from daskperiment.history.curated import curated
from daskperiment.history.kept_columns import resumed_by
from daskperiment.recording.checkpoint_records import kept_checkpoints, superseded_objects
from daskperiment.recording.registry import close_recorders
from daskperiment.records import Checkpoint, checkpoint_id
from daskperiment.store.file.store import FileStore
from daskperiment.store.mongo.store import MongoStore
from daskperiment.store.opening import open_store
from daskperiment.store.redis.store import RedisStore
from tests.helpers.shop import Shop, Value
from tests.history.lab import Lab
from tests.shared.conftest import open_again
from tests.shared.places import Place

STORES = {"folder": FileStore, "redis": RedisStore, "mongo": MongoStore}
SIZE = 8
FAILED = 3


class Whole:
    """A store that can do no more than the contract asks."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count the records that stores give, by stream."""
    found: Counter[str] = Counter()

    def counted(kind: type, name: str) -> None:
        read = getattr(kind, name)

        def noted(self: Any, stream: str, *given: Any, **named: Any) -> Iterator[Any]:
            for one in read(self, stream, *given, **named):
                found[stream] += 1
                yield one

        monkeypatch.setattr(kind, name, noted)

    for kind in STORES.values():
        for name in ("read", "read_starting", "read_excerpts"):
            if name in vars(kind):
                counted(kind, name)
    yield found
    close_recorders()


def define(ex: daskperiment.Experiment) -> Any:
    """A result whose trials keep an output, an artifact and two checkpoints, and may fail."""
    a = ex.parameter("a")

    @ex.persist(reuse=True)
    def twice(a: int) -> list[int]:
        print("line", a)
        ex.save("file", f"text {a}")
        ex.save_metrics({"loss": a, "score": -a}, epoch=0)
        return [a] * 2

    @ex.persist
    def train(values: list[int]) -> list[int]:
        ex.restore(None)
        ex.checkpoint({"at": values[0]}, 1, keep=2)
        ex.checkpoint({"at": -values[0]}, 2, keep=2)
        if values[0] == FAILED - 1:
            raise ValueError
        return values

    @ex.result
    def last(values: list[int]) -> dict[str, int]:
        return {"score": values[0]}

    return last(train(twice(a)))


def run_trials(backend: Any, size: int) -> daskperiment.Experiment:
    ex = daskperiment.Experiment("many", backend=backend, seed=1)
    node = define(ex)
    with contextlib.redirect_stdout(io.StringIO()):
        for number in range(size):
            with contextlib.suppress(ValueError):
                node.bind(a=number).compute(scheduler="synchronous")
    ex.tag(2, "x")
    return open_again("many", backend)


def shell(backend: Any, *words: object) -> None:
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as left:
        cli(["--backend", str(backend), *map(str, words)])
    assert not left.value.code


def of_a_page(backend: Any) -> object:
    api = DashboardAPI(Source(backend))
    try:
        return api.trial("many", 2)
    finally:
        api.close()


ONE: dict[str, Callable[[daskperiment.Experiment, Any], object]] = {
    "get_parameters": lambda ex, _: ex.get_parameters(2),
    "get_trial_ids": lambda ex, _: ex.get_trial_ids([2]),
    "get_log": lambda ex, _: ex.get_log(2),
    "get_log of a step": lambda ex, _: ex.get_log(2, "twice"),
    "get_code": lambda ex, _: ex.get_code(2),
    "get_environment": lambda ex, _: ex.get_environment(2),
    "get_steps": lambda ex, _: ex.get_steps(2),
    "get_metrics": lambda ex, _: ex.get_metrics(2),
    "load_metric": lambda ex, _: ex.load_metric("loss", [1, 2]),
    "get_artifacts": lambda ex, _: ex.get_artifacts(2),
    "load": lambda ex, _: ex.load("file", 2),
    "get_persisted": lambda ex, _: ex.get_persisted("twice", 2),
    "explain": lambda ex, _: str(ex.explain(2)),
    "compare": lambda ex, _: str(ex.compare(1, 2)),
    "tag": lambda ex, _: ex.tag(2, "y"),
    "note": lambda ex, _: ex.note(2, "seen"),
    "rename": lambda ex, _: ex.rename(2, "second"),
    "archive": lambda ex, _: ex.archive(2),
    "save": lambda ex, _: ex.save("more", 1, trial_id=2),
    "page of a trial": lambda _, backend: of_a_page(backend),
    "$show": lambda _, backend: shell(backend, "show", "many", 2),
    "$metrics": lambda _, backend: shell(backend, "metrics", "many", 2, "--metric", "loss"),
    "$report": lambda _, backend: shell(
        backend, "report", "many", "--trials", 2, "-o", "report.html", "--force"
    ),
}
"""What is asked of one trial, or said of it."""


@pytest.mark.parametrize("kind", STORES)
def test_one_trial_of_many(
    kind: str, make_place: Callable[[str], Place], reads: Counter[str]
) -> None:
    """As many records come for it, of however many trials."""
    used: dict[str, list[int]] = {name: [] for name in ONE}
    for size in (SIZE, 4 * SIZE):
        place = make_place(kind)
        ex = run_trials(place.backend, size)
        for name, ask in ONE.items():
            ask(ex, place.backend)  # what is read once in a process
            reads.clear()
            ask(ex, place.backend)
            used[name].append(reads.total())
        close_recorders()
    assert {name: each for name, each in used.items() if each[1] != each[0]} == {}


@pytest.mark.parametrize("kind", STORES)
def test_tables_read_no_other_notes(
    kind: str, make_place: Callable[[str], Place], reads: Counter[str]
) -> None:
    """For what was said of trials no artifact is read and no checkpoint, of however many."""
    used = []
    for size in (SIZE, 4 * SIZE):
        ex = run_trials(make_place(kind).backend, size)
        reads.clear()
        assert list(ex.get_history(limit=3)["Tags"]) == [(), ("x",), ()][: len(ex.get_history())]
        used.append(reads["notes"])
        close_recorders()
    assert used == [2, 2]  # of two tables


@pytest.mark.parametrize("kind", STORES)
def test_of_all_as_of_each(kind: str, make_place: Callable[[str], Place]) -> None:
    """What was said of trials, and which checkpoints count, is the same as among all notes."""
    ex = run_trials(make_place(kind).backend, SIZE)
    ex.tag([1, 2, 5], "y", "z")
    ex.note(5, "curated-")
    ex.untag(2, "x")
    ex.save("curated-0", 1, trial_id=4)
    ex.delete_trials(5)
    store = ex._store
    assert curated(store) == curated(Whole(store)) == curated(store, range(1, SIZE + 1))
    assert curated(store).keys() == {1, 2}
    assert kept_checkpoints(store) == kept_checkpoints(Whole(store))
    assert kept_checkpoints(store)


@pytest.mark.parametrize("kind", STORES)
def test_deleting_reads_each_record_once(
    kind: str, make_place: Callable[[str], Place], reads: Counter[str]
) -> None:
    """What other trials need is looked for in one reading of all, and not in two."""
    ex = run_trials(make_place(kind).backend, 4 * SIZE)
    reads.clear()
    there = {stream: len([*ex._store.read(stream)]) for stream in ("trials", "steps", "notes")}
    reads.clear()
    ex.delete_trials(2)
    for stream, count in there.items():
        assert reads[stream] <= count + 10, stream


@pytest.mark.parametrize("kind", STORES)
def test_pruning_reads_each_note_once(
    kind: str, make_place: Callable[[str], Place], reads: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """However many batches it drops, the notes of all trials are read one time."""
    ex = run_trials(make_place(kind).backend, SIZE)
    monkeypatch.setattr("daskperiment.pruning._IN_HAND", 1)
    there = len([*ex._store.read("notes")])
    reads.clear()
    assert len(ex.prune(max_bytes=0)) > SIZE
    assert reads["notes"] == there


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from("ab"), st.integers(0, 3), st.integers(-1, 3))
    )
)
def test_past_checkpoints(saved: list[tuple[int, str, int, int]]) -> None:
    """Which checkpoints pruning drops is what `superseded_objects` tells, in whatever order."""
    shop = Shop()
    for trial in (1, 2, 3):
        assert shop.begin() == trial
        shop.fail(trial, ValueError())
    for number, (trial, step, at, keep) in enumerate(saved):
        form = shop.form(Value("state", 2000 + number))
        one = Checkpoint(step, number, form, float(at), keep)
        shop.add("notes", trial, checkpoint_id(step, float(number), 1), one)
    told = superseded_objects(shop.store)
    assert set(shop.prune(max_bytes=0)) == told
    close_recorders()


@pytest.mark.parametrize("kind", STORES)
def test_who_went_on_from_a_trial(
    kind: str, make_place: Callable[[str], Place], reads: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It is the same from kept columns, where no trial is read again for it."""
    ex = run_trials(make_place(kind).backend, 2 * SIZE)
    node = define(ex)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(ValueError):
        node.resume(FAILED, scheduler="synchronous")
    ex.delete_trials(SIZE)
    store = ex._store
    past = read_trials(store, [FAILED])[FAILED]
    assert resumed_by(store, past) == [2 * SIZE + 1]
    monkeypatch.setattr(kept_columns, "WORTH", 2)
    assert resumed_by(store, past) == [2 * SIZE + 1]  # which keeps them
    reads.clear()
    assert resumed_by(store, past) == [2 * SIZE + 1]
    assert reads.total() <= 2
    for trial, other in read_trials(store).items():
        assert resumed_by(store, other) == ([2 * SIZE + 1] if trial == FAILED else [])


@pytest.mark.parametrize("kind", STORES)
def test_copying_again_sends_no_object(
    kind: str, make_place: Callable[[str], Place], reads: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Objects that are there are neither read nor sent, and deleted trials cost no reading each."""
    source, target = make_place(kind), make_place(kind)
    ex = run_trials(source.backend, 3 * SIZE)
    ex.delete_trials([*range(SIZE, 2 * SIZE)])
    copying.copy("many", source.backend, target.backend)
    close_recorders()
    got: list[str] = []
    get = STORES[kind].get
    monkeypatch.setattr(
        STORES[kind], "get", lambda store, digest: [got.append(digest), get(store, digest)][1]
    )
    store = open_store(source.backend, "many")
    count = len([*store.read("trials")])
    store.close()
    reads.clear()
    copying.copy("many", source.backend, target.backend)
    assert got == []
    assert reads["trials"] < 8 * count
    second = open_again("many", target.backend)
    assert second.load("file", 2) == "text 1"


def test_many_trials_are_looked_for_once(make_place: Callable[[str], Place]) -> None:
    """Whoever names many trials to MongoDB has no record held against each of them."""

    class Named(list[int]):
        asked = 0

        def __contains__(self, one: object) -> bool:
            Named.asked += 1
            return super().__contains__(one)

    ex = run_trials(make_place("mongo").backend, SIZE)
    trials = Named(range(1, SIZE + 1))
    for stream in ("points", "steps", "logs"):
        assert len({one.trial for one in ex._store.read(stream, trials)}) == SIZE
    found = ex._store.read_excerpts("points", trials, 0, ['"loss"'], '!",-0]')
    assert {one.trial for one in found} == set(trials)
    assert Named.asked == 0
    assert not [*ex._store.read_excerpts("points", range(200, 400), 0, ['"loss"'], '!",-0]')]
    every = ex._store.read_excerpts("points", range(3, 400), 0, ['"loss"'], '!",-0]')
    assert {one.trial for one in every} == set(trials[2:])


NAMED = {
    "best": lambda ex: ex.best("metrics.m3.min", where="metrics.m3 >= 0"),
    "where": lambda ex: ex.get_history(where="metrics.m3 > 1").index.tolist(),
    "of two": lambda ex: ex.get_history(where="metrics.m3 > 1", sort="-metrics.m1").index.tolist(),
    "a name with a dot": lambda ex: ex.get_history(sort="metrics.x.min").index.tolist(),
    "of a dot": lambda ex: ex.best("metrics.x.min.max"),
}  # fmt: skip


def run_loops(backend: Any, count: int) -> daskperiment.Experiment:
    ex = daskperiment.Experiment("named", backend=backend)

    @ex.result
    def train(a: int) -> int:
        for epoch in range(12):
            names = [*(f"m{n}" for n in range(count)), "x.min", "x"]
            ex.save_metrics(dict.fromkeys(names, a + epoch % 5), epoch=epoch)
        return a

    for value in range(4):
        train(ex.parameter("a")).bind(a=value).compute(scheduler="synchronous")
    return ex


@pytest.mark.parametrize("kind", ["redis", "mongo"])
def test_a_metric_that_a_table_names(
    kind: str, make_place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes from a server without four times as many others, and the answer is the same."""
    sizes: dict[int, int] = {}
    excerpted = STORES[kind].read_excerpts
    for count in (40, 160):

        def noted(*given: Any, count: int = count) -> Iterator[Any]:
            for one in excerpted(*given):
                sizes[count] = sizes.get(count, 0) + len(one.body)
                yield one

        ex = run_loops(make_place(kind).backend, count)
        with monkeypatch.context() as patch:
            patch.setattr(STORES[kind], "read_excerpts", noted)
            found = {name: ask(ex) for name, ask in NAMED.items()}
            with pytest.raises(FilterError, match="m1"):
                ex.best("metrics.none")
        with monkeypatch.context() as patch:
            patch.setattr("daskperiment.history.history_table.excerpting", lambda store: None)
            assert found == {name: ask(ex) for name, ask in NAMED.items()}
        close_recorders()
        experiment._EXPERIMENTS.clear()
    assert sizes[160] < 1.5 * sizes[40]


@pytest.mark.parametrize("kind", STORES)
def test_metrics_of_a_trial_are_read_once(
    kind: str, make_place: Callable[[str], Place], reads: Counter[str], tmp_path: Path
) -> None:
    """Whoever shows or exports a trial reads its points as often, however many metrics it has."""
    used, exported = [], []
    for count in (10, 40):
        place = make_place(kind)
        run_loops(place.backend, count)
        close_recorders()
        experiment._EXPERIMENTS.clear()
        records = len([*open_store(place.backend, "named").read("points", [2])])
        reads.clear()
        shell(place.backend, "show", "named", 2, "--format", "json")
        used.append(reads["points"] / records)
        every = len([*open_store(place.backend, "named").read("points")])
        reads.clear()
        shell(place.backend, "export", "named", tmp_path / f"{count}")
        exported.append(reads["points"] / every)
    assert used == [1, 1]
    assert exported == [1, 1]


@pytest.mark.parametrize("kind", STORES)
def test_export_of_failed_trials(
    kind: str, make_place: Callable[[str], Place], reads: Counter[str], tmp_path: Path
) -> None:
    """It is not looked for each of them in all others which of these went on from it."""
    used = []
    for size in (SIZE, 4 * SIZE):
        place = make_place(kind)
        ex = daskperiment.Experiment("many", backend=place.backend)
        node = define_failing(ex)
        for number in range(size):
            with pytest.raises(ValueError):
                node.bind(a=number).compute(scheduler="synchronous")
        with pytest.raises(ValueError):
            node.resume(2, scheduler="synchronous")
        open_again("many", place.backend)
        reads.clear()
        shell(place.backend, "export", "many", tmp_path / f"{size}")
        used.append(reads["trials"])
        told = [json.loads(one.read_text()) for one in (tmp_path / f"{size}").glob("trials/*")]
        assert {one["trial"]: one["resumed_by"] for one in told} == {
            trial: [size + 1] if trial == 2 else [] for trial in range(1, size + 2)
        }
    assert used[1] < 5 * used[0]


def define_failing(ex: daskperiment.Experiment) -> Any:
    @ex.result
    def fail(a: int) -> None:
        raise ValueError(a)

    return fail(ex.parameter("a"))


class Charts:
    """The charts of some trials, as a page asks for them."""

    def __init__(self, backend: Any, trials: list[int]) -> None:
        self._api = DashboardAPI(Source(backend))
        self._trials = trials

    def __enter__(self) -> Charts:
        return self

    def __exit__(self, *_: object) -> None:
        self._api.close()

    def ask(self, *names: str) -> dict[str, Any]:
        return self._api.metrics("named", self._trials, names, CurveStyle(), False)


def run_reusing(backend: Any, count: int) -> None:
    """Trials with some metrics; of all but the first one comes with a step that they reused."""
    ex = daskperiment.Experiment("named", backend=backend)

    @ex.persist(reuse=True)
    def prepare() -> int:
        for epoch in range(80):
            ex.save_metric("prepared", epoch, epoch % 7)
        return 1

    @ex.result
    def train(ready: int, a: int) -> int:
        for epoch in range(12):
            ex.save_metrics({f"m{n}": a + epoch % 5 for n in range(count)}, epoch=epoch)
        return a

    for value in range(3):
        train(prepare(), ex.parameter("a")).bind(a=value).compute(scheduler="synchronous")
    close_recorders()
    experiment._EXPERIMENTS.clear()


@pytest.mark.parametrize("key", [None, b"k" * 32])
@pytest.mark.parametrize("kind", STORES)
def test_charts_of_metrics_that_are_asked_for_in_turn(
    kind: str, key: bytes | None, make_place: Callable[[str], Place]
) -> None:
    """They are those that a page has which asks for all: also of reused steps, and of what runs."""
    backend = make_place(kind).backend
    with dask.config.set({"daskperiment.signing-key": key}):
        run_reusing(backend, 4)
        lab = Lab()
        lab.store = open_store(backend, "named")
        running = lab.begin()
        lab.add("points", 2, "damaged", b"{")
        lab.points(1, ("system/cpu_percent", 0, 50.0))
        trials = [1, 2, 3, running]
        with Charts(backend, trials) as charts:
            turns = (["m3"], ["m1", "m3"], ["prepared"], ["none"], ["late", "m3"], [])
            for turn, names in enumerate(turns):
                lab.points(running, ("late", turn, 1.0), ("m3", turn, turn), ("m3", "x", "none"))
                found = charts.ask(*names)
                with Charts(backend, trials) as others:
                    every = others.ask()
                wanted = [one for one in every["charts"] if not names or one["metric"] in names]
                assert found == {**every, "charts": wanted}
                if key is None:
                    assert {"late", "prepared", "system/cpu_percent"} <= {*found["known"]}
        lab.store.close()


@pytest.mark.parametrize("kind", STORES)
def test_charts_of_a_metric_read_no_other(
    kind: str, make_place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record comes once, of other metrics for their names alone; of the next metric little."""
    # Delivered in the midst of a trial, its points are more records, and runs.
    monkeypatch.setattr("daskperiment.recording.heartbeat.TICK", 3600)
    found: Counter[str] = Counter()
    spelled = PointRun.points

    def points(run: PointRun) -> Iterator[Any]:
        found["runs"] += 1
        return spelled(run)

    def counted(name: str) -> Callable[..., Any]:
        read = getattr(STORES[kind], name)

        def noted(self: Any, stream: str, *given: Any, **named: Any) -> Iterator[Any]:
            for one in read(self, stream, *given, **named):
                found["records"] += stream == "points"
                found["bytes"] += len(one.body) * (stream == "points")
                yield one

        return noted

    monkeypatch.setattr(PointRun, "points", points)
    for name in ("read", "read_excerpts"):
        if name in vars(STORES[kind]):
            monkeypatch.setattr(STORES[kind], name, counted(name))
    each = []
    for count in (40, 160):
        backend = make_place(kind).backend
        run_reusing(backend, count)
        store = open_store(backend, "named")
        there = len(list(store.read("points", [1, 2, 3])))
        store.close()
        with Charts(backend, [1, 2, 3]) as charts:
            found.clear()
            charts.ask("m3")
            assert found["records"] == there
            found["bytes"] = 0
            charts.ask("m3")
            assert not found["bytes"]
            charts.ask("m1")
        each.append(found.copy())
    few, many = each
    assert many["runs"] == few["runs"] > 0
    if kind != "folder":
        assert few["bytes"] > 0
        assert many["bytes"] < 1.5 * few["bytes"]
