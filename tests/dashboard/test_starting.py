"""How an experiment shows its dashboard: in a script, and below the cell of a notebook."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from daskperiment import dashboard


@pytest.fixture
def trained(ex):
    """Run a trial of an experiment."""
    lr = ex.parameter("lr", default=0.5)

    @ex.result
    def score(lr):
        ex.save_metric("loss", 0, lr)
        return lr * 2

    score(lr).compute()
    ex.flush()
    return ex


def rows(url: str) -> list[int]:
    """Ask a dashboard for the trials of the experiment ``demo``."""
    with urllib.request.urlopen(f"{url.partition('?')[0]}api/experiments/demo/trials") as answer:
        return [row["trial"] for row in json.load(answer)["rows"]]


def test_without_blocking(trained):
    """It gives a running server, opened at the experiment; a taken port is no obstacle."""
    with trained.start_dashboard(port=0, blocking=False) as first:
        assert first.url.endswith("?experiment=demo")
        assert rows(first.url) == [1]
        with trained.start_dashboard(port=first.port, blocking=False) as second:
            assert second.port != first.port
            assert rows(second.url) == [1]


def test_blocking_in_a_script(trained, monkeypatch, capsys):
    """In a script it prints its address and waits; stopped, it gives nothing."""
    asked = []

    def stopped(self):
        asked.append(rows(self.url))
        self.stop()

    monkeypatch.setattr(dashboard.Server, "wait", stopped)
    assert trained.start_dashboard(port=0) is None
    assert asked == [[1]]
    assert "http://127.0.0.1:" in capsys.readouterr().out


@pytest.fixture
def notebook() -> Iterator[Callable[[str], str]]:
    """Serve HTML as a notebook would, under another name and port than the dashboard's."""
    page = []

    class Cell(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page[0].encode())

        def log_message(self, *arguments: object) -> None:
            pass

    # In threads: a browser opens connections on which it then asks nothing.
    with ThreadingHTTPServer(("127.0.0.1", 0), Cell) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def show(html: str) -> str:
            page[:] = [html]
            return f"http://localhost:{server.server_port}/"

        yield show
        server.shutdown()
        thread.join()


def test_below_a_cell(trained, notebook, browser):
    """A notebook shows it in a frame, where it is used as anywhere; asked again it is the same."""
    frame = trained.dashboard(height=500)
    try:
        assert trained.dashboard().url == frame.url
        page = browser.new_page()
        page.goto(notebook(frame._repr_html_()))
        inner = page.frame_locator("iframe[title='daskperiment dashboard']")
        inner.locator("tr[data-trial='1']").wait_for()
        inner.locator("[aria-label='Select trial 1']").check()
        inner.locator(".selection a:has-text('Metrics')").click()
        inner.locator(".plot canvas").first.wait_for()
        page.close()
    finally:
        trained._server.stop()


LOADED = """
import sys, urllib.request
from daskperiment import dashboard
with dashboard.start(sys.argv[1], port=0) as server:
    for path in ("", "api/experiments", "api/experiments/demo/trials"):
        urllib.request.urlopen(server.url + path).read()
    urllib.request.urlopen(server.url + "api/experiments/demo/trials/1").read()
    print(*sorted({"pandas", "pyarrow", "bokeh.models"} & {*sys.modules}))
    urllib.request.urlopen(server.url + "api/experiments/demo/metrics?ids=1&metric=loss").read()
    print(*sorted({"pandas", "bokeh.models"} & {*sys.modules}))
"""


def test_a_table_loads_neither_pandas_nor_bokeh(trained, tmp_path):
    """What takes 80 MB is loaded by who looks at a curve: lists, tables and trials do without."""
    command = [sys.executable, "-W", "ignore", "-c", LOADED, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("\nbokeh.models\n", "")
