"""What the tests of the dashboard share: a browser, and experiments to look at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daskperiment import dashboard
from daskperiment.records import Origin
from tests.dashboard.pages import FLAGS, PATIENCE, WATCH, Site, missing
from tests.dashboard.plants import plant_trial
from tests.dashboard.stores import FolderLab
from tests.dashboard.studies import figures, hostile, study, wide
from tests.history.lab import Lab


@pytest.fixture
def lab() -> Lab:
    """Make an experiment without trials, in a store in memory."""
    return Lab()


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Any]:
    """Run Chromium with an empty profile, for all tests of a file.

    No longer: the driver's event loop runs in this thread, and tests elsewhere run their own.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("the package playwright")
    program = shutil.which("chromium") or missing("Chromium, as the program 'chromium'")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=program, args=FLAGS,
            viewport={"width": 1280, "height": 900}, timeout=PATIENCE,
        )  # fmt: skip
        context.set_default_timeout(PATIENCE)
        context.add_init_script(WATCH)
        yield context
        context.close()


@pytest.fixture(scope="package")
def folder(tmp_path_factory) -> Path:
    """Make a folder of experiments: a study that really ran, and others written by hand."""
    root = tmp_path_factory.mktemp("store")
    study(root)
    figures(root)
    hostile(FolderLab(root / "hostile"))
    wide(FolderLab(root / "wide"))
    planted = FolderLab(root / "planted")
    for succeeds in (False, True, True):
        plant_trial(planted, succeeds=succeeds)
    plain = FolderLab(root / "plain")
    plain.succeed(plain.open({}), "text")
    lost = FolderLab(root / "lost")
    trial = lost.open({"a": 1}, origin=Origin("host-long-gone", "boot", 1, 1.0, "someone"))
    lost.beat(trial, 1.0)
    lost.succeed(lost.open({"a": 1}, resumes=trial), 2)
    return root


@pytest.fixture(scope="package")
def server(folder) -> Iterator[dashboard.Server]:
    """Run a dashboard of the folder, for all tests of this folder."""
    with dashboard.start(folder, port=0) as server:
        yield server


@pytest.fixture(scope="package")
def pictures(tmp_path_factory) -> Path:
    """Tell where pictures are kept."""
    given = os.environ.get("DASKPERIMENT_TEST_ARTIFACTS")
    folder = Path(given) / "dashboard" if given else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visit(browser, pictures) -> Iterator[Callable[[dashboard.Server], Site]]:
    """Open pages, and check at the end that nothing went wrong in any."""
    sites: list[Site] = []

    def visit(server: dashboard.Server) -> Site:
        sites.append(Site(browser.new_page(), server, pictures))
        return sites[-1]

    yield visit
    try:
        for site in sites:
            site.check()
    finally:
        for site in sites:
            site.page.close()


@pytest.fixture
def site(visit, server) -> Site:
    """Open a page of the folder's dashboard."""
    made: Site = visit(server)
    return made
