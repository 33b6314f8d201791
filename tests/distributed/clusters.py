"""Clusters of separate scheduler and worker processes on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Client

from tests.survival.processes import Nursery

__all__ = ["Cluster", "can_hide", "cluster", "wait_until"]

PROGRAM = Path(__file__).with_name("programs.py")
_PATIENCE = 60


class Cluster:
    """A scheduler, and workers that come and go.

    Parameters
    ----------
    nursery : Nursery
        Where the processes come from.
    folder : Path
        For their files.
    """

    def __init__(self, nursery: Nursery, folder: Path) -> None:
        self._nursery = nursery
        self._folder = folder
        self._count = 0
        self.workers: dict[str, int] = {}
        """Name -> pid."""
        file = folder / "scheduler.json"
        self.scheduler = nursery.start("scheduler", file)
        text = wait_until(lambda: file.exists() and file.read_text())
        self.address: str = json.loads(text)["address"]

    def add(
        self, hidden: Path | None = None, resources: str = "", wait: bool = True,
        stranger: bool = False,
    ) -> str:  # fmt: skip
        """Start a worker, and give its name."""
        self._count += 1
        name = f"worker{self._count}"
        folder = self._folder / name
        folder.mkdir()
        hide = "" if hidden is None else str(hidden)
        self.workers[name] = self._nursery.start(
            "worker", self.address, name, str(folder), hide, resources, stranger
        )
        if wait:
            self.wait()
        return name

    def start(self, program: str, *arguments: Any) -> int:
        """Start another program, and give its pid."""
        return self._nursery.start(program, *arguments)

    def join(self, pid: int) -> int:
        """Wait for the end of another program, and give its exit code."""
        return self._nursery.join(pid)

    def kill(self, *names: str) -> None:
        """End workers with SIGKILL."""
        for name in names or tuple(self.workers):
            self._nursery.kill(self.workers.pop(name))

    def kill_program(self, pid: int) -> None:
        """End another program with SIGKILL."""
        self._nursery.kill(pid)

    def wait(self) -> None:
        """Wait until the scheduler knows the workers, no more and no fewer."""
        with Client(self.address, set_as_default=False) as client:
            wait_until(lambda: self._known(client) == set(self.workers))

    @staticmethod
    def _known(client: Client) -> set[str]:
        return {w["name"] for w in client.scheduler_info(n_workers=-1)["workers"].values()}


@contextmanager
def cluster(folder: Path, workers: int = 0) -> Iterator[Cluster]:
    """Make a cluster, and end its processes."""
    nursery = Nursery(PROGRAM)
    try:
        made = Cluster(nursery, folder)
        for _ in range(workers):
            made.add(wait=False)
        made.wait()
        yield made
    finally:
        nursery.close()


def wait_until(condition: Callable[[], Any]) -> Any:
    """Wait for something to be true, and give it."""
    deadline = time.monotonic() + _PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def can_hide(folder: Path) -> bool:
    """Tell whether this user may give a process a mount namespace of its own."""
    if not sys.platform.startswith("linux"):
        return False
    order = ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(folder)]
    try:
        return subprocess.run(order, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
