"""The Redis store: the contract on each kind of server, and the faults of servers."""

from __future__ import annotations

import gc
import io
import json
import os
import pickle
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import dask
import numpy as np
import pytest
import redis

import daskperiment
from daskperiment.errors import (
    CorruptRecordError,
    StoreError,
    StoreUnavailableError,
    StoreWarning,
)
from daskperiment.recording.registry import close_recorders, recorder_for
from daskperiment.store.protocol import Owner, Record
from daskperiment.store.redis import scripts
from daskperiment.store.redis import store as redis_stores
from daskperiment.store.redis.client import KeptConnections
from daskperiment.store.redis.client import RedisServer as RedisClient
from daskperiment.store.redis.inspection import RedisInspection
from daskperiment.store.redis.store import RedisStore, list_redis, open_redis
from daskperiment.testing import StoreConformance
from tests.helpers.garbage import collect, without_collector
from tests.helpers.late_reads import WAYS, printed_late
from tests.helpers.ports import free_port
from tests.store.patience import once_back
from tests.store.redis_server import (
    PASSWORD,
    CountingProxy,
    RedisServer,
    redis_cluster,
    redis_server,
    server_of_wheel,
    server_on_path,
)

PLACES = ["wheel", "path", "unix", "tls", "cluster"]


@pytest.fixture(autouse=True)
def _patient() -> Iterator[None]:
    """Wait for servers as long as they take on a busy machine, where no test says how long."""
    with dask.config.set({"daskperiment.timeout": 60}):
        yield


@contextmanager
def open_place(kind: str, folder: Path) -> Iterator[Any]:
    """Run a server of the kind and give a backend for it."""
    given = os.environ.get("DASKPERIMENT_TEST_REDIS_URL")
    secret = ("--requirepass", PASSWORD)
    if kind == "wheel" and given:
        yield given
    elif kind in ("wheel", "path"):
        program = server_of_wheel() if kind == "wheel" else server_on_path()
        with redis_server(program, folder, *secret) as server:
            yield f"redis://:{PASSWORD}@127.0.0.1:{server.port}/3"
    elif kind == "unix":
        path = str(folder / "s")
        with redis_server(server_of_wheel(), folder, *secret, "--unixsocket", path):
            yield f"unix://default:{PASSWORD}@{quote(path)}?db=2"
    elif kind == "tls":
        with tls_server(folder, *secret) as url:
            yield url
    else:
        with redis_cluster(server_of_wheel(), folder, *secret) as servers:
            client = redis.RedisCluster("127.0.0.1", servers[0].port, password=PASSWORD)
            yield client
            client.close()


@contextmanager
def tls_server(folder: Path, *options: str) -> Iterator[str]:
    """Run a server that takes connections with certificates only."""
    program = server_on_path()
    linked = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    if "libssl" not in linked or shutil.which("openssl") is None:
        pytest.skip("needs a redis-server on the PATH that speaks TLS, and openssl")
    key, certificate = str(folder / "key.pem"), str(folder / "cert.pem")
    subprocess.run(
        shlex.split("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x")
        + shlex.split(f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"),
        check=True,
        capture_output=True,
    )
    files = {"ssl_ca_certs": certificate, "ssl_certfile": certificate, "ssl_keyfile": key}
    port = free_port()
    options += ("--tls-port", str(port), "--port", "0", "--tls-cert-file", certificate)
    options += ("--tls-key-file", key, "--tls-ca-cert-file", certificate)
    with redis_server(program, folder, *options, port=port, ssl=True, **files):
        query = "&".join(f"{name}={quote(path)}" for name, path in files.items())
        yield f"rediss://:{PASSWORD}@127.0.0.1:{port}/0?{query}"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Give backends by kind; each server runs from its first use to the end of the module."""
    opened: dict[str, Any] = {}
    running = []

    def get(kind: str) -> Any:
        if kind not in opened:
            place = open_place(kind, tmp_path_factory.mktemp(kind))
            opened[kind] = place.__enter__()
            running.append(place)
        return opened[kind]

    yield get
    for place in reversed(running):
        place.__exit__(None, None, None)


class TestContract(StoreConformance):
    """The Redis store keeps the contract, whatever the server and the way to it."""

    password = PASSWORD

    @pytest.fixture(params=PLACES)
    def make_store(
        self, request: pytest.FixtureRequest, places: Callable[[str], Any]
    ) -> Iterator[Callable[[str], RedisStore]]:
        backend = places(request.param)
        test = f"test_{uuid.uuid4().hex}_"
        yield lambda name: open_redis(backend, test + name)
        for id in list_redis(backend):
            if id.startswith(test):
                store = open_redis(backend, id)
                store.delete()
                store.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run a server that is ours alone, with an append-only file that is always written."""
    folder = tmp_path_factory.mktemp("redis")
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with redis_server(server_of_wheel(), folder, *options) as running:
        yield running


@pytest.fixture
def raw(server: RedisServer) -> Iterator[redis.Redis]:
    """Talk to an empty server directly."""
    with redis.Redis(port=server.port) as client:
        client.flushall()
        yield client


@pytest.fixture
def open_store(raw: redis.Redis, server: RedisServer) -> Iterator[Callable[..., RedisStore]]:
    """Open stores on an empty server, and close them after the test."""
    opened = []

    def make(id: str = "a", backend: Any = None) -> RedisStore:
        opened.append(open_redis(server.url if backend is None else backend, id))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def bodies(store: RedisStore, stream: str, **which: Any) -> list[Any]:
    return [json.loads(record.body) for record in store.read(stream, **which)]


# Backends ------------------------------------------------------------------------------------


def test_address(open_store: Callable[..., RedisStore], server: RedisServer) -> None:
    """The address is the URL without password and options, and the experiment's id."""
    url = "redis://bob:secret@[::1]:7/3?ssl_password=hidden&password=secret&socket_timeout=2"
    assert open_store("iris", url).address == "redis://bob@[::1]:7/3#iris"
    assert open_store("iris", "rediss://h").address == "rediss://h:6379/0#iris"
    assert open_store("iris", "unix:///run/r.sock?db=4").address == "unix:///run/r.sock?db=4#iris"
    several = [
        "redis://bob:secret@b:2,[::1]:7,a,b:2/0",
        "redis://bob:x@a:6379,[::1]:7,b:2?cluster=true",
    ]
    for url in several:
        given = "redis://bob@[::1]:7,a:6379,b:2?cluster=true#iris"
        assert open_store("iris", url).address == given
    assert open_store("iris", "rediss://b:2,a:1").address == "rediss://a:1,b:2?cluster=true#iris"
    assert open_store().address == f"{server.url}#a"


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:secret@h/name",
        "redis://u:secret@h?socket_timeout=soon",
        "http://u:secret@h",
        "redis://u:secret@h:port/0",
        "redis://u:secret@h:99999/0",
        "redis://u:secret@h1:1,/0",
        "redis://u:secret@,h1:1",
        "redis://u:secret@h1:1,,h2:2",
        "redis://u:secret@h1:1,h2:two",
        "redis://u:secret@h1:1,h2:2:3",
        "redis://u:secret@h1:1, :2",
        "redis://u:secret@[::1:1,h2",
        "redis://u:secret@h1:1,u:secret@h2:2",
        "redis://u:secret@h1:1,h2:2/3",
        "redis://u:secret@h1:1,h2:2?cluster=false",
        "redis://u:secret@h1:1?cluster=true&db=3",
        "unix://u:secret@/run/r.sock?cluster=true",
        "unix://u:secret@run/r.sock",
        "redis://:secret/secret@h:1/0",
        "redis://:secret?secret@h:1/0",
        "redis://:secret#secret@h:1/0",
        "redis://:secret,h2:2",
    ],
)
def test_bad_url(url: str) -> None:
    """A URL that cannot be used is a ValueError at once, without its password."""
    with pytest.raises(ValueError, match="is no usable URL: ") as caught:
        open_redis(url, "a")
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_bad_backend() -> None:
    """Another object, and an id that is no identifier, are a ValueError."""
    with pytest.raises(ValueError, match=r"StringIO.*expected a redis://"):
        open_redis(io.StringIO(), "a")
    with pytest.raises(ValueError, match="expected letters"):
        open_redis("redis://h", "a}:*")


@pytest.mark.parametrize("kind", ["client", "pool", "blocking"])
def test_objects_as_backend(
    server: RedisServer, open_store: Callable[..., RedisStore], kind: str
) -> None:
    """A client or pool is accepted, with text answers and few connections too, and pickles."""
    options: dict[str, Any] = {"port": server.port, "decode_responses": True, "db": 1}
    pool: Any = redis.ConnectionPool(**options)
    if kind == "blocking":
        pool = redis.BlockingConnectionPool(max_connections=2, timeout=30, **options)
    backend = redis.Redis(**options) if kind == "client" else pool
    store = open_store("a", backend)
    assert store.address == f"redis://127.0.0.1:{server.port}/1#a".replace("127.0.0.1", "localhost")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda n: store.allocate(f"t{n}", b"{}").trial, range(80)))
    assert sorted(found) == list(range(1, 81))
    copy = pickle.loads(pickle.dumps(store))
    assert copy.state().latest == 80
    copy.put("ab", [b"\xff"])
    assert bytes(store.get("ab")) == b"\xff"
    copy.close()
    assert list_redis(backend) == ["a"]
    (backend.connection_pool if kind == "client" else pool).disconnect()


def test_cluster_by_url(places: Callable[[str], Any]) -> None:
    """A URL reaches a cluster with ?cluster=true; without it the message says so."""
    nodes = [node.port for node in places("cluster").get_nodes()]
    urls = [f"redis://:{PASSWORD}@127.0.0.1:{port}" for port in nodes]
    store = open_redis(urls[0] + "?cluster=true", "by_url")
    assert store.allocate("token", b"{}").trial == 1
    assert "by_url" in list_redis(places("cluster"))
    assert store.address == f"redis://127.0.0.1:{nodes[0]}?cluster=true#by_url"
    answers = []
    for url in urls:
        alone = open_redis(url, "by_url")
        try:
            answers.append(str(alone.state().latest))
        except StoreError as error:
            answers.append(str(error))
        alone.close()
    assert answers.count("1") == 1
    assert sum("?cluster=true" in answer for answer in answers) == 2
    store.delete()
    store.close()
    assert "by_url" not in list_redis(places("cluster"))


def test_one_slot(places: Callable[[str], Any], open_store: Callable[..., RedisStore]) -> None:
    """On a cluster all keys of an experiment are on one node, under its prefix."""
    store = open_store("one_slot", places("cluster"))
    store.allocate("token", b"{}")
    store.append([Record("steps", n, "x", b"{}") for n in range(50)])
    store.put("ab", [bytes(9_000_000)])
    client = places("cluster")
    holders = []
    for node in client.get_nodes():
        keys = client.get_redis_connection(node).keys("*one_slot*")
        assert all(key.startswith(b"daskperiment:{one_slot}:") for key in keys)
        holders.append(len(keys))
    assert sorted(holders)[:2] == [0, 0]
    store.delete()


# Round trips ---------------------------------------------------------------------------------


def test_round_trips(server: RedisServer, open_store: Callable[..., RedisStore]) -> None:
    """Each call is one round trip; reading the history of 10,000 trials is two."""
    with CountingProxy(server.port) as proxy:
        store = open_store("a", f"redis://127.0.0.1:{proxy.port}/0")
        store.allocate("first", b"{}")
        store.append([Record("steps", 1, "x", b"{}"), Record("outputs", 0, "x", b"{}")])
        store.state()
        list(store.read("steps"))
        list(store.read("steps", trials=[1]))
        record = b'{"text": "' + b"x" * 290 + b'"}'
        store.append([Record("trials", n // 2, f"{n}", record) for n in range(20_000)])

        def count(work: Callable[[], Any]) -> int:
            before = proxy.round_trips
            work()
            return proxy.round_trips - before

        many = [Record(s, 2, f"y{n}", b"{}") for s in ("steps", "outputs") for n in range(400)]
        assert count(lambda: store.allocate("second", b"{}")) == 1
        assert count(lambda: store.append(many)) == 1
        assert count(lambda: store.append(many)) == 1
        assert count(store.state) == 1
        assert count(lambda: list(store.read("trials"))) == 2
        assert count(lambda: list(store.read("trials", trials=range(100, 900)))) == 1
        assert count(lambda: store.put("ab", [b"x" * 90_000])) == 1
        # Of a large one the first tells where such objects go.
        assert count(lambda: store.put("cd", [b"x" * 1_000_000])) <= 2
        assert count(lambda: store.get("ab")) == 1
        store.close()


def test_a_command_is_few_calls(server: RedisServer, open_store: Callable[..., RedisStore]) -> None:
    """The driver makes few calls for a command: what it does between two is left out."""
    store = open_store("few", f"redis://127.0.0.1:{server.port}/0")
    store.state()
    base = os.path.dirname(redis.__file__) + os.sep
    calls: list[str] = []

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(base):
            calls.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for _ in range(10):
            store.state()
    finally:
        sys.setprofile(before)
    assert len(calls) < 10 * 30, calls[: len(calls) // 10]
    assert "get_connection" not in calls


def test_an_answer_that_nobody_read(
    server: RedisServer, open_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is interrupted between a command and its answer leaves none to the next command."""
    store = open_store("interrupted", f"redis://127.0.0.1:{server.port}/0")
    assert store.allocate("a", b"{}").trial == 1

    def interrupt(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(redis.Connection, "read_response", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.allocate("b", b"{}")
    assert store.state().latest == 2
    assert store.allocate("a", b"{}").trial == 1


def test_object_that_comes_and_goes_while_it_is_read(
    open_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two commands of a reader others may discard an object and keep it again."""
    data = bytes(range(256)) * 40_000
    reader, writer = open_store(), open_store()
    call, kept = reader._server.call, True
    writer.put("aa", [data])

    def turning(*command: Any) -> Any:
        nonlocal kept
        answer = call(*command)
        writer.discard(["aa"]) if kept else writer.put("aa", [data])
        kept = not kept
        return answer

    monkeypatch.setattr(reader._server, "call", turning)
    for _ in range(6):
        with suppress(KeyError):
            assert bytes(reader.get("aa")) == data


def test_scripts_come_back(open_store: Callable[..., RedisStore], raw: redis.Redis) -> None:
    """A server that forgot the scripts is taught them again."""
    store = open_store()
    store.allocate("one", b"{}")
    raw.script_flush()
    assert store.allocate("two", b"{}").trial == 2


# Reading in pages ----------------------------------------------------------------------------


def test_pages(open_store: Callable[..., RedisStore]) -> None:
    """Streams longer than one answer may be come back whole and in order."""
    store = open_store()
    sizes = [5_000_000, 10, 9_000_000, 20, 4_000_000, 4_000_000, 1_000_000]
    for n, size in enumerate(sizes):
        store.append([Record("points", n % 3, f"{n}", json.dumps(["x" * size, n]).encode())])
    sizes += range(7, 2007)
    small = [
        Record("points", n % 3, f"{n}", json.dumps(["x" * n, n]).encode()) for n in range(2007)
    ]
    store.append(small[7:])
    assert [value[1] for value in bodies(store, "points")] == list(range(2007))
    wanted = [n for n in range(2007) if n % 3 != 1]
    assert [value[1] for value in bodies(store, "points", trials=[0, 2])] == wanted
    assert [len(value[0]) for value in bodies(store, "points")] == sizes


@pytest.fixture
def paged_store(
    open_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch
) -> RedisStore:  # fmt: skip
    """Open a store whose 500 points come in many pages."""
    monkeypatch.setattr("daskperiment.store.redis.store._PAGE", 1_000)
    store = open_store()
    store.append([Record("points", 1, f"{n}", b"%d" % n) for n in range(500)])
    return store


def test_the_next_page_is_asked_for_meanwhile(paged_store: RedisStore, raw: redis.Redis) -> None:
    """While a page is gone through the next one comes, no sooner and no more; nothing stays."""
    store = paged_store
    asked = calls_of_scripts(raw)
    reading = iter(store.read("points"))
    assert json.loads(next(reading).body) == 0
    assert calls_of_scripts(raw) == asked + 1
    next(reading)
    deadline = time.monotonic() + 30
    while calls_of_scripts(raw) < asked + 2 and time.monotonic() < deadline:
        pass
    next(reading)
    assert calls_of_scripts(raw) == asked + 2
    assert [json.loads(one.body) for one in reading] == list(range(3, 500))
    broken_off = iter(store.read("points"))
    next(broken_off), next(broken_off)
    broken_off.close()  # type: ignore[attr-defined]
    assert not [one for one in threading.enumerate() if one.name.startswith("daskperiment-page")]
    assert bodies(store, "points") == list(range(500))


def test_a_stream_that_goes_between_two_pages(paged_store: RedisStore, raw: redis.Redis) -> None:
    """What came is given in order; then it is said that the rest cannot be read."""
    reading = iter(paged_store.read("points"))
    given = [next(reading)]
    raw.delete("daskperiment:{a}:stream:points")
    raw.set("daskperiment:{a}:stream:points", "no stream")
    with pytest.raises(StoreError):
        for one in reading:
            given.append(one)  # what came before the error stays
    assert 1 < len(given) < 500
    assert [json.loads(one.body) for one in given] == list(range(len(given)))


OPENING = """
from daskperiment.store.redis import store as module
module._PAGE = 1_000
store = module.open_redis(sys.argv[2], "a")
begin = lambda: store.read("points")
size_of = lambda point: 1
finish = lambda: None
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("paged_store")
def test_pages_where_no_thread_can_gather_them(server: RedisServer, way: str) -> None:
    """Who reads while the interpreter ends, or reads on in a forked child, gets all pages."""
    expected = [498, 498] if way == "fork" else [500]
    assert printed_late(way, OPENING, server.url, before=2) == expected


def calls_of_scripts(raw: redis.Redis) -> int:
    stats: Any = raw.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


def test_thousands_of_trials(open_store: Callable[..., RedisStore]) -> None:
    """Trials that are asked for in several calls come back as one stream, in order."""
    store = open_store()
    store.append([Record("steps", 5000 - n, f"{n}", b"%d" % n) for n in range(5000)])
    assert bodies(store, "steps", trials=range(1, 4001)) == list(range(1000, 5000))
    middle = list(store.read("steps"))[2999].position
    assert bodies(store, "steps", trials=range(1, 4001), after=middle) == list(range(3000, 5000))


def test_groups_see_one_moment(open_store: Callable[..., RedisStore]) -> None:
    """What is written while groups of trials are read does not come out of order."""
    store = open_store()
    store.append([Record("steps", n, "x", b"1") for n in range(1, 2002)])
    reading = iter(store.read("steps", trials=range(1, 2002)))
    seen = [next(reading)]
    store.append([Record("steps", n, "y", b"2") for n in (1, 2001)])
    seen += reading
    assert [r.trial for r in seen if r.id == "x"] == list(range(1, 2002))
    assert bodies(store, "steps", trials=[1, 2001], after=seen[-1].position) == [2, 2]


# Objects -------------------------------------------------------------------------------------


def test_large_array(open_store: Callable[..., RedisStore], raw: redis.Redis) -> None:
    """An array of 200 MB comes back equal and writable; no single value is above 4 MB."""
    store = open_store()
    array = np.arange(25_000_000, dtype="float64").reshape(5, -1)
    store.put("ab", [b"head", array])
    found = store.get("ab")
    assert bytes(found[:4]) == b"head"
    assert np.array_equal(np.frombuffer(found[4:]).reshape(5, -1), array)
    found[4] = 0
    assert max(raw.strlen(key) for key in raw.scan_iter("daskperiment:{a}:object:*")) == 4 << 20


def test_half_written(open_store: Callable[..., RedisStore], raw: redis.Redis) -> None:
    """Chunks without a head are no object; putting it again makes it whole."""
    store = open_store()
    raw.set("daskperiment:{a}:object:ab:0", b"left by a writer that died")
    with pytest.raises(KeyError):
        store.get("ab")
    data = os.urandom(9_000_000)
    store.put("ab", [data])
    assert bytes(store.get("ab")) == data


@pytest.mark.parametrize("damage", ["missing", "cut", "kind", "head", "empty"])
def test_damaged_object(
    open_store: Callable[..., RedisStore], raw: redis.Redis, damage: str
) -> None:
    """A chunk that is missing or cut, or something else in its place, is told as damage."""
    store = open_store()
    store.put("ab", [bytes(9_000_000)])
    chunk, head = "daskperiment:{a}:object:ab:4194304", "daskperiment:{a}:object:ab"
    if damage == "cut":
        raw.set(chunk, b"short")
    elif damage == "head":
        raw.set(head, pickle.dumps(1))
    elif damage == "empty":
        raw.set(head, b"")
    else:
        raw.delete(chunk)
    if damage == "kind":
        raw.lpush(chunk, b"x")
    with pytest.raises(CorruptRecordError, match=r"object:ab|another kind"):
        store.get("ab")


def test_damaged_streams(open_store: Callable[..., RedisStore], raw: redis.Redis) -> None:
    """A removed entry and a foreign value are told as damage, and other streams go on."""
    store = open_store()
    records = [Record(s, n, "x", b"{}") for s in ("steps", "outputs", "notes") for n in range(3)]
    store.append(records)
    raw.xdel("daskperiment:{a}:stream:steps", "2-0")
    with pytest.warns(StoreWarning, match=r"2-0.*stream:steps"):
        assert [each.trial for each in store.read("steps", trials=[1, 2])] == [2]
    assert any("index:steps" in fault.place for fault in store.faults(60))
    raw.xdel("daskperiment:{a}:stream:outputs", "1-0")
    with pytest.raises(CorruptRecordError, match="'x'"):
        store.append([records[3]])
    raw.set("daskperiment:{a}:stream:notes", b"foreign")
    with pytest.raises(CorruptRecordError, match="another kind"):
        list(store.read("notes"))
    assert store.allocate("token", b"{}").trial == 1


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a store unpickled what it holds",)


def test_never_unpickles(open_store: Callable[..., RedisStore], raw: redis.Redis) -> None:
    """A pickle in the place of a record or an object is handed on as bytes."""
    store = open_store()
    bomb = pickle.dumps(Bomb())
    store.allocate("token", bomb)
    store.append([Record("steps", 1, "x", bomb), Record("outputs", 0, "x", bomb)])
    store.put("ab", [bomb])
    assert [r.body for s in ("trials", "steps", "outputs") for r in store.read(s)] == [bomb] * 3
    assert store.append([Record("outputs", 0, "x", b"{}")])[0].body == bomb
    assert bytes(store.get("ab")) == bomb
    raw.sadd("daskperiment:experiments", bomb)
    assert list_redis(f"redis://127.0.0.1:{raw.get_connection_kwargs()['port']}") == ["a"]


# Isolation and listing -----------------------------------------------------------------------


def test_leaves_the_rest(
    open_store: Callable[..., RedisStore], raw: redis.Redis, server: RedisServer
) -> None:
    """Beside foreign keys with names alike, deleting removes the experiment's own alone.

    What stays for a while is a random name of the deletion.
    """
    foreign = ["daskperiment", "daskperiment:{a", "daskperiment:{ab}:mine", "daskperiment:a:b", "a"]
    foreign += ["x:daskperiment:{a}:stream", "daskperiment:{A}:counters", "{a}:counters"]
    for key in foreign:
        raw.set(key, b"foreign")
    first, second = open_store("a"), open_store("a_b")
    for store in (first, second):
        store.allocate("token", b"{}")
        store.put("ab", [bytes(9_000_000)])
        store.append([Record("points", n, "x", b"{}") for n in range(1500)])
    assert list_redis(server.url) == ["a", "a_b"]
    before = set(raw.keys()) - set(raw.scan_iter("daskperiment:{a}:*", count=1000))
    first.delete()
    assert re.fullmatch("[0-9a-f]{32}", first.last_deletion())
    assert raw.delete("daskperiment:{a}:deleted")
    assert set(raw.keys()) == before
    assert list_redis(server.url) == ["a_b"]
    second.delete()
    assert raw.delete("daskperiment:{a_b}:deleted")
    assert set(raw.keys()) == {key.encode() for key in foreign}


def test_listed_again(open_store: Callable[..., RedisStore], server: RedisServer) -> None:
    """An experiment that somebody else deleted is listed again with its next trial."""
    first, second = open_store(), open_store()
    first.allocate("one", b"{}")
    second.delete()
    assert list_redis(server.url) == []
    assert first.allocate("two", b"{}").trial == 1
    assert list_redis(server.url) == ["a"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_deleting_while_somebody_writes(
    moment: str,
    open_store: Callable[..., RedisStore],
    raw: redis.Redis,
    server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What somebody writes between two steps of a deletion is deleted as a whole, or not at all."""
    first, second = open_store(), open_store()
    for n in range(20):
        first.allocate(f"old {n}", b"{}")
    first.append([Record("points", n, "x", b"{}") for n in range(1500)])
    run, call, met = RedisClient.run, RedisClient.call, []

    def write() -> None:
        met.append(moment)
        trial = second.allocate(f"new {len(met)}", b"{}").trial
        second.append([Record("points", trial, "y", b"{}"), Record("later", trial, "z", b"{}")])

    def running(self: RedisClient, script: Any, *args: Any) -> Any:
        if script is scripts.DELETE and moment == "before" and not met:
            write()
        return run(self, script, *args)

    def calling(self: RedisClient, *command: Any) -> Any:
        if command[0] == "SREM" and moment == "after":
            write()
        return call(self, *command)

    monkeypatch.setattr(RedisClient, "run", running)
    monkeypatch.setattr(RedisClient, "call", calling)
    first.delete()
    monkeypatch.undo()
    assert met
    if moment == "before":
        assert raw.keys() == [b"daskperiment:{a}:deleted"]
        assert list_redis(server.url) == []
        write()
    assert [one.trial for one in first.read("trials")] == [1]
    assert [one.id for one in first.read("points")] == ["y"]
    assert [one.id for one in first.read("later")] == ["z"]
    assert list_redis(server.url) == ["a"]
    assert list(first.faults(10)) == []


@pytest.mark.parametrize("begins", [False, True])
def test_deleting_what_never_rests(
    begins: bool,
    open_store: Callable[..., RedisStore],
    raw: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An experiment to which somebody writes all the time is deleted after a few tries.

    So are the indexes of trials that begin meanwhile: what they name is in no stream any more.
    """
    first, second = open_store(), open_store()
    first.allocate("old", b"{}")
    run, met = RedisClient.run, []

    def running(self: RedisClient, script: Any, *args: Any) -> Any:
        if script is scripts.DELETE:
            met.append(script)
            trial = second.allocate(f"new {len(met)}", b"{}").trial if begins else 1
            for stream in ("steps", "points") if begins else ("steps",):
                second.append([Record(stream, trial, f"x{len(met)}", b"{}")])
        return run(self, script, *args)

    monkeypatch.setattr(RedisClient, "run", running)
    first.delete()
    monkeypatch.undo()
    assert len(met) == 6
    assert raw.keys() == [b"daskperiment:{a}:deleted"]


def test_deleting_many_keys(
    open_store: Callable[..., RedisStore], raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more keys than a server takes at once none is left."""
    monkeypatch.setattr(redis_stores, "_AT_ONCE", 40)
    monkeypatch.setattr(redis_stores, "_BATCH", 30)
    store = open_store()
    store.allocate("one", b"{}")
    store.append([Record("points", n, "x", b"{}") for n in range(150)])
    store.delete()
    assert raw.keys() == [b"daskperiment:{a}:deleted"]


def test_looking_over_while_somebody_writes(
    open_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written while a stream is looked over is no fault of it."""
    first, second = open_store(), open_store()
    first.allocate("one", b"{}")
    members = RedisInspection._members

    def meeting(self: RedisInspection, key: str) -> Any:
        second.allocate("two", b"{}")
        return members(self, key)

    monkeypatch.setattr(RedisInspection, "_members", meeting)
    assert list(first.faults(10)) == []


def test_looking_over_while_somebody_deletes(
    open_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is deleted while an index is looked over was not lost."""
    first, second = open_store(), open_store()
    first.allocate("one", b"{}")
    call, met = RedisClient.call, []

    def calling(self: RedisClient, *command: Any) -> Any:
        found = call(self, *command)
        if command[0] == "HGETALL" and "index:" in str(command[1]) and not met:
            met.append(command)
            second.delete()
        return found

    monkeypatch.setattr(RedisClient, "call", calling)
    assert list(first.faults(10)) == []
    assert met


# Servers that fail ---------------------------------------------------------------------------


def test_killed_server(open_store: Callable[..., RedisStore], server: RedisServer) -> None:
    """With the server away calls fail soon; when it is back, the same store goes on."""
    store = open_store()
    store.allocate("one", b"{}")
    reading = store.read("trials")
    server.kill()
    calls: list[Callable[[], Any]] = [
        lambda: store.allocate("two", b"{}"),
        lambda: store.append([Record("steps", 1, "x", b"{}")]),
        lambda: list(reading),
        lambda: store.put("ab", [b"x"]),
        lambda: store.get("ab"),
        store.state,
        store.delete,
    ]
    try:
        for call in calls:
            with pytest.raises(StoreUnavailableError, match=f":{server.port}/0#a"):
                call()
    finally:
        server.start()
    again = store.allocate("one", b"{}")
    assert (again.trial, again.new) == (1, False)
    assert store.allocate("two", b"{}").trial == 2
    assert bodies(store, "trials") == [{}, {}]


def test_stalled_server(open_store: Callable[..., RedisStore], server: RedisServer) -> None:
    """A server that stops answering is given up after the configured time, and tried again."""
    with dask.config.set({"daskperiment.timeout": 0.3}):
        store = open_store()
    once_back(lambda: store.allocate("one", b"{}"))
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            store.allocate("two", b"{}")
    finally:
        os.kill(server.pid, signal.SIGCONT)
    once_back(lambda: store.append([Record("steps", 1, "x", b"{}")]))
    assert once_back(lambda: store.allocate("two", b"{}")).trial == 2


def test_silent_server(open_store: Callable[..., RedisStore]) -> None:
    """Something that takes connections and never answers is given up as well."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0?socket_timeout=0.3"
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            open_store("a", url).state()
        with pytest.raises(StoreUnavailableError):
            list_redis(url)


# Some drivers leave open a socket that could not be connected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_server() -> None:
    """A cluster or a socket that is not there is unavailable, too."""
    for url in (f"redis://127.0.0.1:{free_port()}?cluster=true", "unix:///no/such/socket"):
        with pytest.raises(StoreUnavailableError):
            open_redis(url, "a").state()


def test_loss_of_a_node(tmp_path: Path) -> None:
    """A cluster without the experiment's node is unavailable, and works again with it."""
    options = ("--appendonly", "yes", "--appendfsync", "always", "--requirepass", PASSWORD)
    with redis_cluster(server_of_wheel(), tmp_path, *options) as servers:
        with redis.RedisCluster("127.0.0.1", servers[0].port, password=PASSWORD) as client:
            store = open_redis(client, "a")
            port = client.get_node_from_key("daskperiment:{a}:counters").port
        store.allocate("one", b"{}")
        node = next(server for server in servers if server.port == port)
        node.kill()
        with pytest.raises(StoreUnavailableError):
            store.allocate("two", b"{}")
        node.start(password=PASSWORD)
        found = 0
        while not found:
            try:
                found = store.allocate("two", b"{}").trial
            except StoreUnavailableError:
                continue  # The nodes have to find each other again.
        assert found == 2
        store.close()


def test_full_server(tmp_path: Path) -> None:
    """A server without memory refuses with a message that names maxmemory; nothing is half done."""
    with redis_server(server_of_wheel(), tmp_path, "--maxmemory", "8mb") as server:
        store = open_redis(server.url, "a")
        store.allocate("one", b"{}")
        with pytest.raises(StoreError, match="maxmemory") as caught:
            for n in range(100):
                store.put(f"{n:02x}", [bytes(1_000_000)])
        assert not isinstance(caught.value, StoreUnavailableError)
        client = redis.Redis(port=server.port)
        client.config_set("maxmemory", "1mb")
        for call in (
            lambda: store.allocate("two", b"{}"),
            lambda: store.append([Record("steps", 1, "x", b"{}")]),
        ):
            with pytest.raises(StoreError, match="maxmemory"):
                call()
        assert store.state().latest == 1
        assert list(store.read("steps")) == []
        client.config_set("maxmemory", 0)
        client.close()
        assert store.allocate("two", b"{}").trial == 2
        store.append([Record("steps", 1, "x", b"{}")])
        assert bodies(store, "steps") == [{}]
        store.close()


def test_full_server_in_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server without memory refuses of a trial waits, and is there when it has some again.

    Points, ends and values that were kept.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with (
        redis_server(server_of_wheel(), tmp_path, "--maxmemory", "30mb") as server,
        redis.Redis(port=server.port) as client,
    ):
        ex = daskperiment.Experiment("full", backend=server.url)

        @ex.persist
        def keep() -> Any:
            ex.save_metric("loss", 0, 1.0)
            client.config_set("maxmemory", "1mb")
            return list(range(20_000)), {1, 2}

        @ex.result
        def count(x: Any) -> int:
            return len(x[0])

        with pytest.warns(StoreWarning, match="no memory left.*Raise maxmemory") as caught:
            assert count(keep()).compute(scheduler="synchronous") == 20_000
        assert [one.category for one in caught].count(StoreWarning) == 1
        assert "records for the store" in repr(ex)
        client.config_set("maxmemory", 0)
        ex.flush()
        assert ex.get_history()["Result"].tolist() == [20_000]
        assert ex.load_metric("loss", 1)[1].tolist() == [1.0]
        assert ex.get_persisted("keep", 1) == (list(range(20_000)), {1, 2})
        close_recorders()


def test_large_values_of_a_full_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Large values for which a server has no room wait on disk, and take no room from records."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with (
        redis_server(server_of_wheel(), tmp_path, "--maxmemory", "30mb") as server,
        redis.Redis(port=server.port) as client,
    ):
        ex = daskperiment.Experiment("full", backend=server.url)
        n = ex.parameter("n", default=0)

        @ex.persist
        def keep(n: int) -> bytes:
            ex.save("weights", bytes([n, 7]) * 6_000_000)
            return bytes([n]) * 12_000_000

        @ex.result
        def count(x: bytes) -> int:
            return len(x)

        s = count(keep(n))
        for number in range(3):
            assert s.bind(n=number).compute(scheduler="synchronous") == 12_000_000
        assert any("maxmemory" in str(one.message) for one in recwarn)
        assert ex.get_history()["Result"].tolist() == [12_000_000] * 3  # no record waits
        recorder = recorder_for(ex._store)
        assert len(recorder.delivery._pending) >= 2
        assert recorder.delivery._pending.in_memory == 0
        chunks = sum(len(key.split(b":")[-1]) < 32 for key in client.scan_iter("*object:*"))
        assert chunks == 3 * (6 - len(recorder.delivery._pending))  # none of what did not fit
        # Tried again each second, it sends no piece: records of others have all the room.
        client.config_resetstat()
        with pytest.raises(StoreError, match="no room for 12"):
            recorder.delivery._pending.deliver(ex._store)
        written = client.info("commandstats").get("cmdstat_set", {"calls": 0})
        assert written["calls"] == 0
        client.config_set("maxmemory", 0)
        ex.flush()
        for number in range(3):
            assert ex.get_persisted("keep", number + 1) == bytes([number]) * 12_000_000
            assert ex.load("weights", number + 1)[:2] == bytes([number, 7])
        assert len(recorder.delivery._pending) == 0
        close_recorders()


def test_server_that_cannot_save(tmp_path: Path) -> None:
    """A server whose disk fails takes no writes now: the message names its disk."""
    with (
        redis_server(server_of_wheel(), tmp_path) as server,
        redis.Redis(port=server.port) as client,
    ):
        client.config_set("save", "3600 1")
        store = open_redis(server.url, "a")
        store.allocate("one", b"{}")
        (Path(client.config_get("dir")["dir"]) / "dump.rdb").mkdir()
        client.bgsave()
        _wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        with pytest.raises(StoreUnavailableError, match="cannot save to its disk: look for one"):
            store.put("aa", [b"x"])
        (Path(client.config_get("dir")["dir"]) / "dump.rdb").rmdir()
        client.save()
        store.put("aa", [b"x"])
        store.close()


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_replica(tmp_path: Path, server: RedisServer) -> None:
    """A server that takes no writes now is unavailable: after a hand-over it will take them."""
    options = ("--replicaof", "127.0.0.1", str(server.port))
    with redis_server(server_of_wheel(), tmp_path, *options) as replica:
        store = open_redis(replica.url, "a")
        with pytest.raises(StoreUnavailableError, match=r"(?i)readonly|read only"):
            store.allocate("one", b"{}")
        with redis.Redis(port=replica.port) as client:
            client.replicaof("NO", "ONE")
        assert store.allocate("one", b"{}").trial == 1
        store.close()


def test_eviction(open_store: Callable[..., RedisStore], raw: redis.Redis) -> None:
    """A server that may evict records is warned of once; one that may not, never."""
    raw.config_set("maxmemory", 1 << 30)
    raw.config_set("maxmemory-policy", "volatile-lru")
    try:
        open_store("a").allocate("one", b"{}")
        raw.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.warns(StoreWarning, match=r"'allkeys-lru'.*noeviction") as caught:
            open_store("b").allocate("one", b"{}")
        assert [one.category for one in caught].count(StoreWarning) == 1
        open_store("c").allocate("one", b"{}")
    finally:
        raw.config_set("maxmemory", 0)
        raw.config_set("maxmemory-policy", "noeviction")


@contextmanager
def restricted(server: RedisServer, *more: str) -> Iterator[str]:
    """Make a user with the rights that docs/stores-redis.rst names, and give the URL with it."""
    page = Path(__file__).parents[2].joinpath("docs/stores-redis.rst").read_text(encoding="utf-8")
    (rights,) = re.findall(r"^    ACL SETUSER lab (.+(?:\n {8}.+)*)$", page, re.MULTILINE)
    words = rights.replace(">password", f">{PASSWORD}").split()
    with redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "bob", *words, *more)
        try:
            yield f"redis://bob:{PASSWORD}@127.0.0.1:{server.port}/0"
        finally:
            client.execute_command("ACL", "DELUSER", "bob")


class TestContractOfARestrictedUser(StoreConformance):
    """A user with the documented rights alone can use every method."""

    password = PASSWORD

    @pytest.fixture
    def make_store(
        self, server: RedisServer, raw: redis.Redis
    ) -> Iterator[Callable[[str], RedisStore]]:
        with restricted(server) as url:
            yield lambda name: open_redis(url, name)


def test_a_restricted_user_looks_for_damage(
    open_store: Callable[..., RedisStore], server: RedisServer, raw: redis.Redis
) -> None:
    """What ``daskperiment check`` and its ``--repair`` ask for is allowed with two rights more."""
    with restricted(server, "+type", "+xsetid") as url:
        store = open_store("a", url)
        store.allocate("t1", b"{}")
        store.put("ab", [b"1"])
        store.append([Record("steps", 1, "x", b"{}")])
        raw.xadd("daskperiment:{a}:stream:steps", {b"no record": b"{}"}, "9-9")
        (fault,) = store.faults(60)
        assert fault.mend is not None
        fault.mend()
        assert list(store.faults(60)) == []
        assert list(store.digests()) == ["ab"]
        store.set_aside("steps", next(iter(store.read("steps"))))
        assert store.has_aside()


def test_restricted_user(
    open_store: Callable[..., RedisStore], raw: redis.Redis, server: RedisServer
) -> None:
    """A user with the documented rights alone can use every method, and no other keys."""
    with restricted(server) as url:
        _use_every_method(open_store, raw, url)


def _use_every_method(open_store: Callable[..., RedisStore], raw: redis.Redis, url: str) -> None:
    store = open_store("a", url)
    store.allocate("one", b"{}")
    store.append([Record("outputs", 0, "x", b"{}")])
    assert store.append([Record("outputs", 0, "x", b"1")]) == [Record("outputs", 0, "x", b"{}")]
    store.put("ab", [bytes(9_000_000)])
    assert len(store.get("ab")) == 9_000_000
    assert store.find(["x", "y"]) == [Record("outputs", 0, "x", b"{}")]
    assert store.sizes(["ab", "cd"]) == {"ab": 9_000_000}
    store.discard(["ab", "cd"])
    assert store.state().latest == 1
    assert len(list(store.read("trials"))) == len(list(store.read("trials", trials=[1]))) == 1
    assert list_redis(url) == ["a"]
    store.delete()
    raw.execute_command("ACL", "SETUSER", "bob", "resetkeys")
    with pytest.raises(StoreError, match="refused us"):
        store.allocate("two", b"{}")


# Discarding ----------------------------------------------------------------------------------


def test_discarded_while_written(
    open_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that somebody else keeps and discards while we write it is whole in the end."""
    data = os.urandom(9_000_000)
    store, other = open_store(), open_store()
    call = store._server.call
    chunks: list[str] = []

    def interrupted(*command: Any) -> Any:
        found = call(*command)
        if command[0] == "SET":
            chunks.append(command[1])
            if len(chunks) == 2:
                other.put("ab", [data])
                other.discard(["ab"])
        return found

    monkeypatch.setattr(store._server, "call", interrupted)
    store.put("ab", [data])
    assert len(chunks) == 6
    assert bytes(other.get("ab")) == data


def test_chunks_that_vanish(
    open_store: Callable[..., RedisStore], raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that loses chunks as they are written is told, and the object is not there."""
    store = open_store()
    call = store._server.call

    def forgetful(*command: Any) -> Any:
        found = call(*command)
        raw.delete("daskperiment:{a}:object:ab:4194304")
        return found

    monkeypatch.setattr(store._server, "call", forgetful)
    with pytest.raises(StoreError, match="object:ab' lost chunks"):
        store.put("ab", [bytes(9_000_000)])
    assert store.sizes(["ab"]) == {}
    with pytest.raises(KeyError):
        store.get("ab")


def test_discarded_while_read(
    open_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that is discarded while it is read is not there; one kept again is read."""
    data = os.urandom(9_000_000)
    store, other = open_store(), open_store()
    call = store._server.call
    gone: list[bool] = []

    def interrupted(*command: Any) -> Any:
        if command[0] == "GET" and command[1].endswith(":4194304") and not gone:
            gone.append(True)
            other.discard(["ab"])
        found = call(*command)
        if command[0] == "GET" and found is None and again:
            other.put("ab", [data])
        return found

    monkeypatch.setattr(store._server, "call", interrupted)
    for again in (False, True):
        gone.clear()
        store.put("ab", [data])
        if again:
            assert bytes(store.get("ab")) == data
        else:
            with pytest.raises(KeyError, match="ab"):
                store.get("ab")


def test_discard_leaves_nothing(open_store: Callable[..., RedisStore], raw: redis.Redis) -> None:
    """Discarding removes all keys of an object, large or small."""
    store = open_store()
    before = sorted(raw.keys())
    store.put("ab", [bytes(9_000_000)])
    store.put("cd", [b"x"])
    store.discard(["ab", "cd"])
    assert sorted(raw.keys()) == before


def test_foreign_head(open_store: Callable[..., RedisStore], raw: redis.Redis) -> None:
    """Something else in an object's place has no size: it is told as damage."""
    raw.set("daskperiment:{a}:object:ab", b"other")
    with pytest.raises(CorruptRecordError, match="object:ab' holds no object"):
        open_store().sizes(["ab"])


@pytest.mark.parametrize("value", [b"x", b"-1", b"1" * 30, b"\xff", b"1.5", b""])
def test_numbers_that_are_none(
    open_store: Callable[..., RedisStore], raw: redis.Redis, value: bytes
) -> None:
    """Numbers of the server are checked: others are damage, and healthy records are read."""
    store = open_store()
    store.allocate("t1", b"{}")
    store.append([Record("steps", 1, "x", b"{}")])
    raw.hset("daskperiment:{a}:counters", "latest", value)
    with pytest.raises(CorruptRecordError, match="latest"):
        store.state()
    raw.hset("daskperiment:{a}:index:steps:1", "1:x", value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        assert len(list(store.read("steps"))) == len(list(store.read("trials"))) == 1
    raw.xadd("daskperiment:{a}:stream:steps", {b"no record": b"{}", b"more": b""}, "9-9")
    with pytest.warns(StoreWarning, match="an entry 9"):
        assert [one.id for one in store.read("steps")] == ["x"]
    assert {fault.place.split("'")[1].split(":")[2] for fault in store.faults(60)} >= {"counters"}


@pytest.mark.parametrize("value", [b"x", b"-1", b"1" * 30, b"\xff", b"1.5", b""])
def test_counters_and_tokens_that_are_no_numbers(
    open_store: Callable[..., RedisStore], raw: redis.Redis, value: bytes
) -> None:
    """Whatever a counter or a token leads to, records are read, and errors are the store's."""
    store = open_store()
    store.allocate("t1", b"{}")
    store.append([Record("steps", 1, "x", b"{}")])
    raw.hset("daskperiment:{a}:counters", "stream:steps", value)
    raw.hset("daskperiment:{a}:counters", "stream:trials", value)
    assert len(list(store.read("steps", range(5000)))) == 1
    assert {fault.place.split("'")[1].split(":")[2] for fault in store.faults(60)} >= {"counters"}
    raw.hset("daskperiment:{a}:tokens", "t1", value)
    owner = Owner(1, "t1")
    for write in (
        lambda: store.append([Record("steps", 1, "y", b"{}", owner)]),
        lambda: store.remove([Record("trials", 1, "removed", b"{}", owner)]),
        lambda: store.allocate("t1", b"{}"),
    ):
        with pytest.raises(StoreError):
            write()


def test_lost_output(open_store: Callable[..., RedisStore], raw: redis.Redis) -> None:
    """An output that the index names and the stream lacks is told as damage."""
    store = open_store()
    store.append([Record("outputs", 0, "x", b"{}")])
    raw.delete("daskperiment:{a}:stream:outputs")
    with pytest.raises(CorruptRecordError, match="'x' is missing"):
        store.find(["x"])


# Passwords -----------------------------------------------------------------------------------


def everything_shown(store: RedisStore, error: BaseException | None = None) -> str:
    """Give all that a person or a log may see of a store and an error."""
    shown = [repr(store), str(store), store.address, repr(store._target)]
    while error is not None:
        shown += [repr(error), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    return "".join(shown)


def test_wrong_password(tmp_path: Path) -> None:
    """A refused password is told as such, and is never shown."""
    with redis_server(server_of_wheel(), tmp_path, "--requirepass", "right") as server:
        place = f"127.0.0.1:{server.port}/0"
        for url in (f"redis://:wr0ng@{place}", f"redis://{place}", f"redis://u:wr0ng@{place}"):
            store = open_redis(url, "a")
            with pytest.raises(StoreError, match=r"refused us.*check user and password") as caught:
                store.state()
            assert not isinstance(caught.value, StoreUnavailableError)
            assert "wr0ng" not in everything_shown(store, caught.value)
            store.close()


def test_password_echoed(tmp_path: Path) -> None:
    """A server that echoes the refused command in its answer does not give the password away."""
    with redis_server(server_of_wheel(), tmp_path, "--rename-command", "AUTH", "") as server:
        store = open_redis(f"redis://:wr0ng@127.0.0.1:{server.port}/0?protocol=2", "a")
        with pytest.raises(StoreError, match=r"AUTH.*\*\*\*") as caught:
            store.state()
        assert "wr0ng" not in everything_shown(store, caught.value)
        store.close()


def test_password_of_absent_server() -> None:
    """The message on an absent server names its URL, and not the password."""
    port = free_port()
    store = open_redis(f"redis://bob:wr0ng@127.0.0.1:{port}/0", "a")
    with pytest.raises(StoreUnavailableError, match=f"redis://bob@127.0.0.1:{port}/0") as caught:
        store.state()
    assert "wr0ng" not in everything_shown(store, caught.value)


def test_password_travels_to_workers(tmp_path: Path) -> None:
    """A pickled store connects with its password, and does not show it."""
    with redis_server(server_of_wheel(), tmp_path, "--requirepass", "right") as server:
        client = redis.Redis(port=server.port, password="right")
        copy = pickle.loads(pickle.dumps(open_redis(client, "a")))
        assert copy.state().latest == 0
        assert "right" not in everything_shown(copy)
        copy.close()
        client.close()


def test_no_warnings_from_the_driver(open_store: Callable[..., RedisStore]) -> None:
    """Using a store raises no deprecation warning in the driver."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store = open_store()
        store.allocate("one", b"{}")
        store.close()
    assert [str(one.message) for one in caught] == []


@pytest.mark.parametrize("is_garbage", [False, True])
def test_a_store_that_is_dropped_hangs_up(
    is_garbage: bool, server: RedisServer, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody need close it: no warning of sockets, in whichever order they are found as garbage."""
    found: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: found.append(told.exc_value))
    before = len(raw.client_list())
    store = open_redis(server.url, "a")
    store.state()
    with without_collector():
        gc.collect(0)
        # What is new after a collection is looked at before what is older, such as the connection
        # which has this socket.
        raw.client_kill_filter(_type="normal", skipme=True)
        store.state()
        if is_garbage:
            store.itself = store  # type: ignore[attr-defined]
        del store
        collect()
    assert found == []
    deadline = time.monotonic() + 60
    while len(raw.client_list()) > before:
        assert time.monotonic() < deadline, "its connection is still there"
        time.sleep(0.01)


class _Pool:
    """A pool that makes a new connection each time."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def get_connection(self, command_name: Any = None) -> Any:
        self.made.append(SimpleNamespace(send_command=lambda *command: None))
        return self.made[-1]


def test_kept_connections_stay_in_their_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child uses none that its parent has: each would read answers of the other."""
    pool, used = _Pool(), []

    def answer(connection: Any, command: str) -> None:
        used.append(connection)

    kept = KeptConnections(SimpleNamespace(connection_pool=pool, parse_response=answer), 5)
    for _ in range(2):
        kept.execute_command("PING")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    for _ in range(2):
        kept.execute_command("PING")
    first, second = pool.made
    assert used == [first, first, second, second]
