"""Artifacts on the page: shown, downloaded, and nothing of them runs by looking at it."""

from __future__ import annotations

import http.client
import json
import os
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest

import daskperiment
from daskperiment import dashboard

EVIL = "<script>parent.document.title = 'ran'; document.title = 'ran'</script><p>page</p>"


class Planted:
    def __reduce__(self):
        return os.system, (f"touch {Path.cwd() / 'ran'}",)


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Make an experiment with artifacts of all kinds, two trials, and a dashboard of it."""
    monkeypatch.chdir(tmp_path)
    ex = daskperiment.Experiment("demo", backend=tmp_path / "store")
    a = ex.parameter("a", default=1)

    @ex.persist
    def fit(a):
        ex.save("weights", np.arange(6.0).reshape(2, 3))
        return np.full(300, a)

    @ex.result
    def last(array):
        ex.save("picture", np.full((8, 8, 3), 200, "u1"), format="png")
        ex.save("page", EVIL, format="html")
        ex.save("drawing", f'<svg xmlns="http://www.w3.org/2000/svg">{EVIL}</svg>', format="svg")
        ex.save("model", Planted(), format="pickle")
        ex.save(EVIL, "text with <script>alert(1)</script>")
        return 1

    last(fit(a)).compute()
    last(fit(a)).bind(a=2).compute()
    with dashboard.start(tmp_path / "store", port=0) as server:
        yield server


def ask(server, path, **query):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", f"/api/experiments/demo/{path}?{urlencode(query)}")
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def test_described(shown, tmp_path):
    """The trial's page has each artifact with its preview and a line that loads it."""
    found = json.loads(ask(shown, "trials/1")[2])
    told = {one["name"]: one for one in found["artifacts"]}
    assert list(told) == ["weights", "picture", "page", "drawing", "model", EVIL]
    assert told["weights"]["preview"]["shape"] == [2, 3]
    assert told["weights"]["preview"]["stats"]["max"] == "5"
    assert told["weights"]["load"] == "ex.load('weights', 1)"
    assert [one["shown"] for one in told.values()] == [
        None,
        "picture",
        "page",
        "picture",
        None,
        None,
    ]
    assert told["model"]["format"] == "pickle"
    kept = next(one["kept"] for one in found["steps"] if one["key"] == "fit")
    assert (kept["load"], kept["preview"]["shape"]) == ("ex.get_persisted('fit', 1)", [300])
    told = json.loads(ask(shown, "compare", trials="1,2")[2])["artifacts"]
    beside = {one["name"]: one["each"] for one in told}
    assert [one["name"] for one in beside["weights"]] == ["weights", "weights"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "use", "media", "policy"),
    [
        ("picture", "show", "image/png", "sandbox; default-src 'none'"),
        ("picture", "thumbnail", "image/png", "sandbox; default-src 'none'"),
        ("drawing", "show", "image/svg+xml", "sandbox; default-src 'none'"),
        ("page", "show", "text/html; charset=utf-8", "sandbox; default-src 'none'"),
        ("page", "run", "text/html; charset=utf-8", "sandbox allow-scripts; default-src 'none'"),
        ("page", "download", "application/octet-stream", "sandbox; default-src 'none'"),
        ("model", "download", "application/octet-stream", "sandbox; default-src 'none'"),
        (EVIL, "download", "application/octet-stream", "sandbox; default-src 'none'"),
    ],
)
def test_sent(shown, tmp_path, name, use, media, policy):
    """Each file has a policy that puts it into a sandbox; what is not shown is downloaded."""
    status, headers, body = ask(shown, "trials/1/artifact", name=name, use=use)
    assert (status, headers["Content-Type"]) == (200, media)
    assert headers["Content-Security-Policy"].startswith(policy)
    assert "allow-same-origin" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert ("Content-Disposition" in headers) == (use == "download")
    assert "<" not in headers.get("Content-Disposition", "")
    assert body
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("path", "name", "use", "status"),
    [
        ("trials/1/artifact", "absent", "download", 404),
        ("trials/9/artifact", "page", "download", 404),
        ("trials/x/artifact", "page", "download", 400),
        ("trials/1/artifact", "model", "show", 404),
        ("trials/1/artifact", "picture", "run", 404),
    ],
)
def test_refused(shown, path, name, use, status):
    """What is not there, and what must not be shown, is refused."""
    assert ask(shown, path, name=name, use=use)[0] == status


def test_in_a_browser(shown, browser, tmp_path):
    """Pictures and frames are drawn, no planted script runs, and a page's only if that is asked."""
    page = browser.new_page()
    page.goto(f"{shown.url}?experiment=demo&tab=trial&trial=1")
    page.wait_for_selector("iframe.artifact")
    assert page.locator("img.artifact").count() == 2
    frame = page.locator("iframe.artifact")
    assert frame.get_attribute("sandbox") == ""
    page.frame_locator("iframe.artifact").get_by_text("page").wait_for()
    assert "ran" not in page.title()
    assert page.locator("figure.artifact script").count() == 0
    page.get_by_role("button", name="Run its scripts").click()
    assert frame.get_attribute("sandbox") == "allow-scripts"
    page.frame_locator("iframe.artifact").get_by_text("page").wait_for()
    assert "ran" not in page.title()
    assert not (tmp_path / "ran").exists()
    page.close()
