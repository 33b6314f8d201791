"""What is asked of long records comes from servers without the rest, and is the same."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pymongo
import pytest
import redis

import daskperiment
from daskperiment.codec import MARK, from_excerpt, points_body, sealed
from daskperiment.errors import StepNotFoundError, StoreWarning
from daskperiment.history import metric_columns
from daskperiment.history.logs import get_log
from daskperiment.recording.registry import close_recorders
from daskperiment.records import Point
from daskperiment.store.opening import excerpting, open_store
from daskperiment.store.protocol import Record, Stored
from tests.shared.conftest import open_again
from tests.shared.places import Place
from tests.store.redis_server import CountingProxy

SERVERS = ["redis", "mongo"]
TALLY = {"flushed": (30, 3), "at once": (600, 0)}
"""Name -> epochs of a loop, and after how many of them what waits is delivered."""


@pytest.fixture(autouse=True)
def _delivered_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is delivered by the tests' own calls alone, so that it makes as many records."""
    monkeypatch.setattr("daskperiment.recording.heartbeat.TICK", 3600)


def train(backend: Any, name: str, metrics: int, epochs: int, flush: int) -> None:
    ex = daskperiment.Experiment(name, backend=backend)

    @ex.result
    def last() -> int:
        for epoch in range(epochs):
            for number in range(metrics):
                ex.save_metric(f"m{number}", epoch, number + epoch / 3)
            if flush and epoch % flush == flush - 1:
                ex.flush()
        return epochs

    last().compute(scheduler="synchronous")
    close_recorders()


def talk(backend: Any, name: str, steps: int) -> None:
    ex = daskperiment.Experiment(name, backend=backend)

    @ex
    def say(number: int) -> int:
        for line in range(50):
            print(f"step {number} says line {line}\n!")
        return number

    ex.result(sum)([say(number) for number in range(steps)]).compute(scheduler="synchronous")
    close_recorders()


@contextmanager
def counted(place: Place) -> Iterator[tuple[Any, CountingProxy]]:
    """Give a backend that leads to the place, and what counts the bytes that come from there."""
    with CountingProxy(place.server.port) as proxy:  # type: ignore[attr-defined]
        yield re.sub(r":\d+/", f":{proxy.port}/", place.backend), proxy
        close_recorders()


def received(place: Place, name: str, ask: Callable[[daskperiment.Experiment], Any]) -> list[int]:
    """Return how many bytes come for a question, and how many the whole stream of points has."""
    with counted(place) as (backend, proxy):
        ex = open_again(name, backend)
        ex.get_history()  # connects
        before = proxy.received
        ask(ex)
        between = proxy.received
        whole = [*ex._store.read("points"), *ex._store.read("logs")]
        assert proxy.received - between >= sum(len(one.body) for one in whole)
        return [between - before, proxy.received - between, len(whole)]


@pytest.mark.parametrize("kind", SERVERS)
def test_one_metric_of_many(kind: str, make_place: Callable[[str], Place]) -> None:
    """Of a loop that takes its time as many bytes come, however many other metrics there are."""
    place, used = make_place(kind), []
    for metrics in (50, 200):
        train(place.backend, f"n{metrics}", metrics, 30, 3)
        used.append(received(place, f"n{metrics}", lambda ex: ex.load_metric("m7", 1)))
    (few, every, _), (many, all_of_them, _) = used
    assert all_of_them > 3 * every
    assert many < 1.3 * few
    assert many < all_of_them / 5


@pytest.mark.parametrize("kind", SERVERS)
def test_one_metric_of_a_quick_loop(kind: str, make_place: Callable[[str], Place]) -> None:
    """Each record gives a block or two, as many as others have metrics."""
    place = make_place(kind)
    train(place.backend, "quick", 100, 600, 0)
    one, whole, records = received(place, "quick", lambda ex: ex.load_metric("m7", 1))
    assert one < 3_000 * records + 10_000
    assert one < whole / 20


@pytest.mark.parametrize("kind", SERVERS)
def test_lines_of_one_step(kind: str, make_place: Callable[[str], Place]) -> None:
    """As many bytes come, however many other steps said something."""
    place, used = make_place(kind), []
    for steps in (15, 60):
        talk(place.backend, f"n{steps}", steps)
        used.append(received(place, f"n{steps}", lambda ex: ex.get_log(1, "say#3")))
    (few, every, _), (many, all_of_them, _) = used
    assert all_of_them > 3 * every
    assert many < 1.3 * few
    assert many < all_of_them / 5


@pytest.mark.parametrize("tally", TALLY)
def test_only_its_own_is_decoded(place: Place, tally: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On each store the runs of one metric are decoded, and none of four times as many others."""
    epochs, flush = TALLY[tally]
    decode, used = metric_columns._run_of, []

    def noted(run: bytes) -> Any:
        used[-1].append(run)
        return decode(run)

    monkeypatch.setattr(metric_columns, "_run_of", noted)
    for metrics in (10, 40):
        train(place.backend, f"n{metrics}", metrics, epochs, flush)
        used.append([])
        assert len(open_again(f"n{metrics}", place.backend).load_metric("m7", 1)) == epochs
        records = open_store(place.backend, f"n{metrics}").read("points")
        runs = [run for one in records for run in json.loads(one.body).get("runs", ())]
        assert len(used[-1]) == sum(run[0] == "m7" for run in runs)
        assert all(run.startswith(b'["m7",') for run in used[-1])


# Equal answers ------------------------------------------------------------------------------------


def body_of(names: list[str], count: int, value: Any = 0.5) -> bytes:
    points = [
        msgspec.json.encode(Point(name, epoch, value, 1e9 + epoch))
        for epoch in range(count)
        for name in names
    ]
    return points_body(points, 1)


MANY = [f"m{number}" for number in range(100)]
BODIES = {
    "runs in blocks": body_of(MANY, 20),
    "points in blocks": body_of(MANY, 1),
    "texts in blocks": body_of(MANY, 1, 'a "text" with \n and !",-0] and }'),
    "points beside runs": points_body(
        [msgspec.json.encode(Point(name, epoch, "é" if name == "m7" else 1, 1e9))
         for epoch in range(9) for name in MANY], 1,
    ),
    "names with quotes": body_of([*MANY, 'm"7', "m\\7", "$m7", "mé7"], 5),
    "no blocks": body_of(["m7", "b"], 3),
    "others alone": body_of(["a", "b"], 3),
    "others in blocks": body_of([f"x{number}" for number in range(100)], 20),
    "one metric": body_of(["m7"], 300, "text"),
    "another spelling": sealed(b'{"points":[["\\u006d7",0,1.5,1.0]]}', 1),
    "spaces": sealed(b'{"points": [ [ "m7" , 1, 2.5, 1.0 ] ]}', 1),
    "a mark by chance": sealed(b'{"points":[["m7",0,["!",-0],1.0],["m7",1,1,1.0]]}', 1),
    "of another trial": body_of(MANY, 20).replace(b'"of":"0000000001"', b'"of":"0000000002"'),
    "a changed digit": re.sub(rb'(?<=\["m7",)0', b"1", body_of(MANY, 20)),
    "a changed end": body_of(MANY, 20)[:-3] + b'!"}',
    "no text": b'\xff{"points":[["m7",0,1,1.0]]}',
    "nothing": b"{}",
    "an object of a store": sealed(b'{"points":[["m7",2,"%b",1.0]]}' % (b"x" * 1_100_000), 1),
}  # fmt: skip
NAMES = ["m7", "m77", "b", 'm"7', "m\\7", "$m7", "mé7", "half\ud800", "none"]


def answers(store: Any, names: list[str]) -> dict[str, Any]:
    found = {}
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StoreWarning)
            points = metric_columns.metric_points(store, name, [1, 2])
            every = metric_columns.points_by_metric(store, [1, 2], {name, "m1"})
        found[name] = [
            [list(points[trial].epochs), list(points[trial].values)] for trial in (1, 2)
        ] + [
            {each: [list(one.epochs), list(one.values)] for each, one in every[trial].items()}
            for trial in (1, 2)
        ]  # fmt: skip
    return found


class Whole:
    """A store that gives no excerpts."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.address = store.address

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("case", BODIES)
def test_equal_answers(kind: str, case: str, make_place: Callable[[str], Place]) -> None:
    """Whatever stands in a record, beside others, each metric is what reading all would give."""
    place = make_place(kind)
    store = open_store(place.backend, "equal")
    others = [Record("points", trial, f"o{n}", body_of(["m7", "z"], 2, trial + n))
              for n in range(3) for trial in (2, 1)]  # fmt: skip
    store.append([*others[:3], Record("points", 1, "case", BODIES[case]), *others[3:]])
    sound = case.startswith("a changed") and answers(store, ["m77"])["m77"]
    if case == "a changed end":  # which says nothing of a block
        assert len(answers(store, ["m7"])["m7"][0][0]) == 20 + 3 * 2
    elif case == "a changed digit":  # in the block of one metric: those of others are whole
        assert answers(store, ["m7"]) == answers(Whole(store), ["m7"])
    else:
        assert answers(store, NAMES) == answers(Whole(store), NAMES)
    assert not sound or len(sound[0][0]) == 20
    store.close()


@pytest.mark.parametrize("kind", SERVERS)
def test_damage_in_a_block_is_told(kind: str, make_place: Callable[[str], Place]) -> None:
    """A changed digit of what was asked for is told, and the record is left out; others stay."""
    place = make_place(kind)
    train(place.backend, "damaged", 100, 30, 10)
    store = open_store(place.backend, "damaged")
    body = max((one.body for one in store.read("points", [1])), key=len)
    at = body.index(b'["m7",')
    changed = body[:at] + re.sub(rb"(?<=,)(\d)(?=,)", b"9", body[at:], count=1)
    assert changed != body
    if kind == "redis":
        with redis.Redis.from_url(place.backend) as client:
            key = "daskperiment:{damaged}:stream:points"
            entries = client.xrange(key)
            client.delete(key)
            for position, fields in entries:
                client.xadd(key, {name: changed if one == body else one
                                  for name, one in fields.items()}, position)  # fmt: skip
    else:
        with pymongo.MongoClient(place.backend) as client:
            done = client.get_default_database()["daskperiment.records"].update_one(
                {"records.body": body.decode()}, {"$set": {"records.$.body": changed.decode()}}
            )
            assert done.modified_count == 1
    ex = open_again("damaged", place.backend)
    with pytest.warns(StoreWarning, match="damaged"):
        assert len(ex.load_metric("m7", 1)) == 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(ex.load_metric("m60", 1)) == 30
    store.close()


@pytest.mark.parametrize("kind", SERVERS)
def test_positions_and_the_rest(kind: str, make_place: Callable[[str], Place]) -> None:
    """Excerpts stand where their records do, in order, and go on behind any of them."""
    store = open_store(make_place(kind).backend, "places")
    bodies = [BODIES["runs in blocks"], BODIES["others alone"], BODIES["no blocks"]]
    for n in range(4):
        store.append([Record("points", trial, f"{n}-{at}", body)
                      for at, body in enumerate(bodies) for trial in (1, 2, 3)])  # fmt: skip
    server = excerpting(store)
    assert server is not None
    whole = [one for one in store.read("points", [1, 3]) if not one.id.endswith("-1")]
    for after in (0, whole[3].position, whole[-1].position):
        found = [*server.read_excerpts("points", {1, 3}, after, ['"m7"'], MARK.decode())]
        wanted = [one for one in whole if one.position > after]
        assert [one[:3] for one in found] == [one[:3] for one in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert points_named(one, "m7") == points_named(other, "m7")
    many = server.read_excerpts("points", range(3000), 0, ['"m7"'], MARK.decode())
    assert [one[:3] for one in many] == [
        one[:3] for one in store.read("points") if not one.id.endswith("-1")
    ]
    assert [*server.read_excerpts("points", [], 0, ['"m7"'], MARK.decode())] == []
    assert [*server.read_excerpts("points", [9], 0, ['"m7"'], MARK.decode())] == []
    store.close()


def points_named(one: Stored, name: str) -> list[Any]:
    # The cases are of trial 1, whatever trial they stand in here.
    body = from_excerpt(one.body, 1)
    assert body is not None
    found = json.loads(body)
    return [each[:10] for each in [*found["points"], *found.get("runs", ())] if each[0] == name]


@pytest.mark.parametrize("kind", SERVERS)
def test_pages_of_what_is_left_out(
    kind: str, make_place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks page by page goes on behind records that were looked at and left out."""
    monkeypatch.setattr("daskperiment.store.redis.store._PAGE", 2_000)
    place = make_place(kind)
    store = open_store(place.backend, "pages")
    others = BODIES["others in blocks"]
    assert len(others) > 8_000
    for n in range(6):
        store.append([Record("points", 1, f"a{n}", others), Record("points", 1, f"b{n}", others)])
        store.append([Record("points", 1, f"c{n}", BODIES["no blocks"])])
    store.close()
    with counted(place) as (backend, proxy):
        store = open_store(backend, "pages")
        store.state()
        before = proxy.round_trips
        points = metric_columns.metric_points(store, "m7", [1])[1]
        assert len(points.values) == 6 * 3
        assert proxy.round_trips - before <= 20
        store.close()


def test_equal_logs(place: Place) -> None:
    """A step's lines are the same as among all of them, and so is what is said of others."""
    talk(place.backend, "logs", 25)
    store = open_store(place.backend, "logs")
    for step in ("say", "say#1", "say#3", "say#25", "sum", "sa", "say#", "say#99", "half\ud800"):
        found = []
        for one in (store, Whole(store)):
            try:
                found.append(get_log(one, 1, step))
            except StepNotFoundError as error:
                found.append(str(error))
        assert found[0] == found[1]
    assert get_log(store, 1, "say#3").count("step 2 says") == 50
    store.close()
