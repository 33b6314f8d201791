"""The page in a real browser on real servers, and what happens when they or their data go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec.structs import replace

import daskperiment
from daskperiment import dashboard
from daskperiment.records import Node
from daskperiment.store.liveness import _born, current_origin
from daskperiment.store.opening import open_store
from tests.dashboard.pages import Site
from tests.dashboard.stores import FolderLab
from tests.history.lab import NOW
from tests.store.mongo_server import running
from tests.store.redis_server import redis_server, server_of_wheel

VIEWS = [
    ("", ".list >> text=study"),
    ("?experiment=study", "tr[data-trial='28']"),
    ("?experiment=study&filter=lr>0.3+kernel=a&sort=result", "tr[data-trial='16']"),
    ("?experiment=study&tab=metrics&trials=3,4", ".plot canvas"),
    ("?experiment=study&tab=parameters&up=m:loss", ".plot canvas"),
    ("?experiment=study&tab=compare&trials=3,28", ".origin"),
    ("?experiment=study&group=kernel", "table.groups"),
    ("?experiment=study&tab=metrics&trials=1-28&many=band", "text=The line is the mean"),
    ("?experiment=study&tab=compare&trials=3-6", ".lead"),
    ("?experiment=figures&tab=trial&trial=2", "figure.artifact:has-text('table') >> text=moon"),
    ("?experiment=figures&tab=compare&trials=1,2", "iframe"),
    ("?experiment=figures&tab=metrics&trials=1,2", ".system .plot canvas"),
    ("?experiment=study&tab=trial&trial=28", "svg.graph"),
    ("?experiment=study&tab=trial&trial=27", "[aria-label='Persisted values'] >> text=ndarray"),
]


@contextmanager
def redis_backend(folder) -> Iterator[tuple[Any, str]]:
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with redis_server(server_of_wheel(), folder, *options) as server:
        yield server, server.url


@contextmanager
def mongo_backend(folder) -> Iterator[tuple[Any, str]]:
    with running(folder) as server:
        yield server, server.url("lab")


@pytest.mark.parametrize("backend", [redis_backend, mongo_backend])
def test_every_view_on_a_server(visit, folder, tmp_path, backend):
    """Each view works on Redis and MongoDB, lives through the server's crash, and moves on."""
    with backend(tmp_path / "server") as (server, url):
        daskperiment.copy("study", folder, url)
        daskperiment.copy("figures", folder, url)
        with dashboard.start(url, port=0) as board:
            site = visit(board)
            for query, wait in VIEWS:
                site.turn(query, wait)
            site.turn("?experiment=study", "tr[data-trial='28']")
            server.kill()
            site.page.wait_for_selector(".banner >> text=The store is away")
            assert site.page.locator("tr[data-trial='28']").is_visible()
            server.start()
            site.until(lambda: site.page.locator(".banner").is_hidden())
            store = open_store(url, "study")
            lab = FolderLab(tmp_path)
            lab.store = store
            trial = lab.open({"lr": 0.5}, graph=[Node("fit", "fit")])
            site.page.wait_for_selector("tr[data-trial='29'] .badge.running")
            lab.beat(trial, store.state().clock, fit=NOW)
            site.turn("?experiment=study&tab=trial&trial=29", ".node.running")
            store.close()
            site.page.goto("about:blank")


@pytest.fixture
def doomed(folder) -> Iterator[FolderLab]:
    """Make an experiment of two trials that can be deleted."""
    lab = FolderLab(folder / "doomed")
    for number in range(2):
        trial = lab.open({"a": number}, graph=[Node("fit", "fit")])
        lab.points(trial, ("loss", 0, 1.0 + number))
        lab.step(trial, "fit")
        lab.succeed(trial, number)
    yield lab
    lab.store.delete()
    lab.store.close()


OPEN = [
    ("?experiment=doomed&tab=metrics&trials=1,2", ".plot canvas"),
    ("?experiment=doomed&tab=compare&trials=1,2", "text=Trials 1 and 2"),
    ("?experiment=doomed&tab=trial&trial=1", "svg.graph"),
]


def test_deleted_while_it_is_open(site, doomed, folder):
    """A table of an experiment that is deleted says so, and shows what is begun anew."""
    page = site.open("?experiment=doomed", "tr[data-trial='2']")
    doomed.store.delete()
    page.wait_for_selector("text=The experiment was deleted")
    assert not page.locator("tr[data-trial='2']").is_visible()
    site.picture("deleted")
    anew = FolderLab(folder / "doomed")
    anew.open({"b": 1})
    page.wait_for_selector("tr[data-trial='1']")
    assert "b" in site.texts("thead th")


@pytest.mark.parametrize(("query", "wait"), OPEN)
def test_a_view_that_has_all_it_needs(site, doomed, query, wait):
    """A view of ended trials keeps what it shows, and says that they were deleted."""
    page = site.open(query, wait)
    site.until(lambda: site.texts(".live .words") == ["Live"])
    doomed.store.delete()
    page.wait_for_selector(".banner >> text=The experiment was deleted")
    assert page.locator(wait).count() > 0


def test_a_trial_that_has_ended_is_looked_after(visit, folder):
    """Also where nothing more is to come the page notices that the server was stopped."""
    server = dashboard.start(folder, port=0)
    site: Site = visit(server)
    site.open("?experiment=study&tab=trial&trial=3", "svg.graph")
    server.stop()
    site.page.wait_for_selector(".banner >> text=The dashboard was stopped")
    site.trouble = [text for text in site.trouble if "ERR_" not in text]


def test_from_running_to_lost(site, folder):
    """A trial whose process is killed becomes lost while one looks at it."""
    lab = FolderLab(folder / "dying")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        here = current_origin()
        lab.open({"a": 1}, origin=replace(here, pid=process.pid, born=_born(process.pid)))
        page = site.open("?experiment=dying", "tbody .badge.running")
        process.kill()
    page.wait_for_selector("tbody .badge.lost")
    page.wait_for_selector("td:has-text('its process is gone')")
    site.turn("?experiment=dying&tab=trial&trial=1", "text=It never said how it ended")
