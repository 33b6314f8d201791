"""A Redis Cluster whose keys move while processes write, and one of whose nodes is down."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dask
import pytest
import redis
from redis.cluster import key_slot

import daskperiment
from daskperiment.errors import StoreUnavailableError, StoreWarning
from daskperiment.recording.registry import close_recorders
from daskperiment.store.protocol import Record
from daskperiment.store.redis.store import RedisStore, open_redis
from tests.store.redis_server import (
    PASSWORD,
    RedisServer,
    add_node,
    missing,
    redis_cluster,
    server_on_path,
)

WRITER = """
import pathlib, sys
import daskperiment
from daskperiment.errors import StoreUnavailableError, StoreWarning
stop, backend, name = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
ex = daskperiment.Experiment("moving", backend=backend)
a = ex.parameter("a", default=0)
@ex.result
def result(a):
    ex.save_metric("loss", 0, a)
    return f"{name} {a}"
node, a = result(a), 0
while not stop.exists():
    a += 1
    try:
        node.bind(a=a).compute(scheduler="synchronous")
    except StoreUnavailableError:
        continue
    print(a, flush=True)
ex.flush()
"""
SLOT = key_slot(b"moving")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Run three nodes, of which the slots that move are few, and a fourth that has none."""
    folder = tmp_path_factory.mktemp("cluster")
    # A node that gave its last slot away stays what it is.
    options = ("--requirepass", PASSWORD, "--cluster-allow-replica-migration", "no")
    program = server_on_path()
    with ExitStack() as stack:
        servers = stack.enter_context(redis_cluster(program, folder, *options))
        fourth = stack.enter_context(add_node(program, folder / "3", servers[0], *options))
        yield [*servers, fourth]


def url(servers: list[RedisServer]) -> str:
    """Give the URL of a cluster by several of its nodes."""
    return f"redis://:{PASSWORD}@" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


class Slot:
    """The slot of an experiment, which goes from node to node, key by key."""

    def __init__(self, servers: list[RedisServer], number: int = SLOT) -> None:
        self.clients = [redis.Redis(port=s.port, password=PASSWORD) for s in servers]
        self.ids = [client.execute_command("CLUSTER MYID").decode() for client in self.clients]
        self.ports = [server.port for server in servers]
        self.number = number

    @property
    def owner(self) -> int:
        """The number of the node that has it."""
        for low, high, (_, port, *_), *_ in self.clients[0].execute_command("CLUSTER SLOTS"):
            if low <= self.number <= high:
                return self.ports.index(port)
        raise AssertionError("nobody has the slot")

    def open(self, goal: int) -> int:
        """Begin to move it to a node; give the node that has it."""
        source = self.owner
        self.clients[goal].execute_command(
            "CLUSTER SETSLOT", self.number, "IMPORTING", self.ids[source]
        )
        self.clients[source].execute_command(
            "CLUSTER SETSLOT", self.number, "MIGRATING", self.ids[goal]
        )
        return source

    def migrate(self, source: int, goal: int, count: int) -> int:
        """Move some keys, and give how many."""
        asked = ("CLUSTER GETKEYSINSLOT", self.number, count)
        keys = self.clients[source].execute_command(*asked)
        if keys:
            self.migrate_keys(source, goal, *keys)
        return len(keys)

    def migrate_keys(self, source: int, goal: int, *keys: bytes) -> None:
        place = ("127.0.0.1", self.ports[goal], "", 0, 5000, "AUTH", PASSWORD, "KEYS", *keys)
        self.clients[source].execute_command("MIGRATE", *place)

    def close(self, goal: int) -> None:
        """Give it to the node that has all of its keys now."""
        order = [goal, *(n for n in range(len(self.ids)) if n != goal)]
        for number in order:
            self.clients[number].execute_command(
                "CLUSTER SETSLOT", self.number, "NODE", self.ids[goal]
            )


def check(server: RedisServer) -> str:
    """Give what redis-cli says of the cluster."""
    program = shutil.which("redis-cli") or missing("redis-cli")
    command = [program, "--no-auth-warning", "-a", PASSWORD, "--cluster", "check"]
    found = subprocess.run([*command, f"127.0.0.1:{server.port}"], capture_output=True, text=True)
    return found.stdout + found.stderr


class Writers:
    """Processes that compute trials until a file is there, and tell of each that ended."""

    def __init__(self, folder: Path, backend: str, count: int) -> None:
        self.stop = folder / "stop"
        self.names = [f"w{number}" for number in range(count)]
        self.outputs = [folder / name for name in self.names]
        self.processes = []
        for name, output in zip(self.names, self.outputs, strict=True):
            with open(output, "wb") as told:
                command = [sys.executable, "-c", WRITER, str(self.stop), backend, name]
                self.processes.append(subprocess.Popen(command, stdout=told, stderr=told))

    def acknowledged(self) -> list[str]:
        """Give the results of trials whose computation has returned."""
        texts = [output.read_text() for output in self.outputs]
        pairs = zip(self.names, texts, strict=True)
        return [f"{name} {n}" for name, text in pairs for n in re.findall(r"^(\d+)$", text, re.M)]

    def wait_for_more(self) -> None:
        """Wait until each has ended one more trial."""
        before, deadline = Counter(one[:2] for one in self.acknowledged()), time.monotonic() + 60
        while True:
            now = Counter(one[:2] for one in self.acknowledged())
            if all(now[name] > before[name] for name in self.names):
                return
            told = [output.read_text()[-500:] for output in self.outputs]
            assert time.monotonic() < deadline, told
            assert all(process.poll() is None for process in self.processes), told
            time.sleep(0.02)

    def end(self) -> None:
        self.stop.touch()
        assert [process.wait(60) for process in self.processes] == [0] * len(self.processes)


def test_slots_move_while_processes_write(
    cluster: list[RedisServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key by key an experiment goes to a node that was empty, and on to another, under load.

    Each trial that was acknowledged is there, under ids without a gap, none twice, and the cluster
    is in order.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DASK_DASKPERIMENT__TIMEOUT", "60")
    slot = Slot(cluster)
    writers = Writers(tmp_path, url(cluster[:2]), 4)
    try:
        writers.wait_for_more()
        for goal in (3, next(n for n in range(3) if n != slot.owner)):
            source, moved = slot.open(goal), 0
            while count := slot.migrate(source, goal, 2):
                moved += count
                time.sleep(0.01)
            slot.close(goal)
            assert moved > 8
            writers.wait_for_more()
    finally:
        writers.end()
    found = check(cluster[0])
    assert "[OK] All nodes agree about slots configuration." in found, found
    assert "[OK] All 16384 slots covered." in found, found
    assert not re.search(r"\[(WARNING|ERR)\]", found), found
    ex = daskperiment.Experiment("moving", backend=url(cluster[1:3]))
    history = ex.get_history(verbose=True)
    assert history.index.tolist() == list(range(1, len(history) + 1))
    assert set(history["Status"]) == {"succeeded"}
    assert sorted(history["Result"]) == sorted(set(history["Result"]))
    assert set(writers.acknowledged()) <= set(history["Result"])
    points = [ex.load_metric("loss", trial)[trial].tolist() for trial in (1, len(history))]
    assert points == [[history["a"][1]], [history["a"][len(history)]]]
    ex.delete()
    close_recorders()


@contextmanager
def half_moved(slot: Slot, prefix: bytes) -> Iterator[None]:
    """Let a part of an experiment's keys be on another node, then all of them."""
    goal = next(n for n in range(3) if n != slot.owner)
    source = slot.open(goal)
    names = (b"counters", b"stream:steps", b"object:00", b"object:01")
    slot.migrate_keys(source, goal, *(prefix + name for name in names))
    left, gone = slot.clients[source].keys(prefix + b"*"), slot.clients[goal].keys(prefix + b"*")
    assert left
    assert gone
    try:
        yield
    finally:
        while slot.migrate(source, goal, 10):
            pass
        slot.close(goal)


@pytest.fixture
def open_store(cluster: list[RedisServer]) -> Iterator[Callable[..., RedisStore]]:
    """Open stores of experiments in the cluster, with as long as they take for what moves."""
    opened = []

    def open(id: str, timeout: float = 60) -> RedisStore:
        opened.append(open_redis(f"{url(cluster[:2])}?socket_timeout={timeout}", id))
        return opened[-1]

    yield open
    for store in opened:
        store.close()


def filled(store: RedisStore) -> list[str]:
    """Write some records and objects; give the digests of these."""
    store.allocate("token", b"{}")
    store.append([Record("steps", n, "x", b"{}") for n in range(40)])
    digests = [f"{n:02x}" for n in range(10)]
    for digest in digests:
        store.put(digest, [bytes.fromhex(digest)])
    return digests


def test_store_of_which_half_has_moved(
    cluster: list[RedisServer], open_store: Callable[..., RedisStore]
) -> None:
    """Nothing is written beside what is on its way; single keys are found on either side."""
    store, hasty = open_store("half"), open_store("half", 0.5)
    digests = filled(store)
    with half_moved(Slot(cluster, key_slot(b"half")), b"daskperiment:{half}:"):
        for digest in digests:
            assert bytes(store.get(digest)) == bytes.fromhex(digest)
        store.put("ab", [b"new"])
        for write in (
            lambda: hasty.allocate("second", b"{}"),
            lambda: hasty.append([Record("steps", 7, "y", b"{}")]),
        ):
            with pytest.raises(StoreUnavailableError, match="on its way from one node"):
                write()
        assert sorted(store.digests()) == sorted([*digests, "ab"])
    assert bytes(store.get("ab")) == b"new"
    assert store.allocate("second", b"{}").trial == 2
    assert len(list(store.read("steps"))) == 40
    assert list(store.faults(10)) == []
    store.delete()


def test_half_moved_is_removed(
    cluster: list[RedisServer], open_store: Callable[[str], RedisStore]
) -> None:
    """Of an experiment that is deleted while its keys move, none is left on either node."""
    store = open_store("removed", 3)
    filled(store)
    slot = Slot(cluster, key_slot(b"removed"))
    with half_moved(slot, b"daskperiment:{removed}:"):
        store.delete()
        left = [key for client in slot.clients for key in client.keys("*{removed}*")]
        assert left == [b"daskperiment:{removed}:deleted"]
    assert store.allocate("again", b"{}").trial == 1
    store.delete()


def test_start_while_a_node_is_down(tmp_path: Path) -> None:
    """A new process finds the cluster by any of the nodes that its URL names.

    That the listing of experiments is on the node that is down stops no trial.
    """
    options = ("--requirepass", PASSWORD, "--cluster-require-full-coverage", "no")
    with redis_cluster(server_on_path(), tmp_path, *options) as servers:
        owners = {id: Slot(servers, key_slot(id.encode())).owner for id in "abc"}
        assert set(owners.values()) == {0, 1, 2}
        listing = Slot(servers, key_slot(b"daskperiment:experiments")).owner
        servers[listing].kill()
        for id, owner in owners.items():
            if owner != listing:
                store = open_redis(url(servers), id)
                assert store.allocate("one", b"{}").trial == 1
                ports = sorted(server.port for server in servers)
                hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
                assert store.address == f"redis://{hosts}?cluster=true#{id}"
                store.close()


def test_master_is_killed_in_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica takes over while a trial runs: it and those around it are there, each once."""
    monkeypatch.setenv("DASK_DASKPERIMENT__JOURNAL", str(tmp_path / "journals"))
    options = ("--requirepass", PASSWORD, "--masterauth", PASSWORD)
    options += ("--cluster-require-full-coverage", "no", "--cluster-node-timeout", "500")
    options += ("--repl-diskless-sync-delay", "0")
    # Where nodes get too little of the machine, they take each other for gone, and it would not
    # wait until its master is killed.
    options += ("--cluster-replica-no-failover", "yes")
    program = server_on_path()
    with (
        redis_cluster(program, tmp_path / "nodes", *options) as servers,
        add_node(program, tmp_path / "replica", servers[0], *options) as replica,
        dask.config.set({"daskperiment.journal": str(tmp_path / "journals")}),
    ):
        master = servers[Slot(servers, SLOT).owner]
        follow(replica, master)
        ex = daskperiment.Experiment("moving", backend=url(servers))

        @ex.result
        def train(a: int) -> int:
            for epoch in range(10):
                ex.save_metric("loss", epoch, a + epoch)
                if (a, epoch) == (2, 5):
                    wait_for_replica(master)
                    master.kill()
            return a

        result = train(ex.parameter("a"))
        result.bind(a=1).compute(scheduler="synchronous")
        with pytest.warns(StoreWarning, match="waits in"):
            assert result.bind(a=2).compute(scheduler="synchronous") == 2
        let_take_over(replica)
        deadline = time.monotonic() + 60
        while True:
            try:
                result.bind(a=3).compute(scheduler="synchronous")
                break
            except StoreUnavailableError:  # not taken over yet
                assert time.monotonic() < deadline
                time.sleep(0.1)
        history = ex.get_history(verbose=True, running=True)
        assert history["a"].tolist() == history["Result"].tolist() == [1, 2, 3]
        assert history["Status"].tolist() == ["succeeded"] * 3
        points = ex.load_metric("loss", [1, 2, 3])
        assert all(points[a].tolist() == [a + epoch for epoch in range(10)] for a in (1, 2, 3))
        close_recorders()


def follow(replica: RedisServer, master: RedisServer) -> None:
    """Make a node the replica of another, and wait until it is up to date."""
    with (
        redis.Redis(port=replica.port, password=PASSWORD) as near,
        redis.Redis(port=master.port, password=PASSWORD) as far,
    ):
        id = far.execute_command("CLUSTER MYID")
        deadline = time.monotonic() + 60
        while True:
            try:
                near.execute_command("CLUSTER", "REPLICATE", id)
                break
            except redis.ResponseError:  # it does not know that node yet
                assert time.monotonic() < deadline
                time.sleep(0.1)
        while near.info("replication").get("master_link_status") != "up":
            assert time.monotonic() < deadline
            time.sleep(0.05)


def let_take_over(replica: RedisServer) -> None:
    """Let a replica take the place of its master, which is gone."""
    with redis.Redis(port=replica.port, password=PASSWORD) as client:
        client.config_set("cluster-replica-no-failover", "no")


def wait_for_replica(master: RedisServer) -> None:
    """Wait until a replica has what was written so far."""
    with redis.Redis(port=master.port, password=PASSWORD) as client:
        client.set("{moving}mark", 1)
        assert client.execute_command("WAIT", 1, 10_000) == 1
