"""The server: who is answered, with which headers, and how it starts and ends."""

from __future__ import annotations

import builtins
import http.client
import json
import re
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from daskperiment import dashboard
from daskperiment.dashboard.guard import Guard
from tests.dashboard.stores import Away, FolderLab
from tests.history.lab import Lab

STATIC = Path(dashboard.__file__).parent / "static"
TOKEN = "a-token-of-the-tests"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Make a folder with an experiment of one trial."""
    lab = FolderLab(tmp_path / "store" / "demo")
    lab.succeed(lab.open({"a": 1}), 2)
    return tmp_path / "store"


@pytest.fixture
def server(folder):
    """Run a dashboard of the folder."""
    with dashboard.start(folder, port=0) as server:
        yield server


def get(
    server: dashboard.Server, path: str = "/", method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Ask a server; names of headers with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=given)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def answer(server: dashboard.Server, path: str) -> Any:
    """Ask a question and read the JSON."""
    return json.loads(get(server, f"/api/experiments{path}")[2])


def test_page_and_answers(server):
    """The page, its files and BokehJS come from the server, and answers in JSON."""
    status, headers, body = get(server)
    assert status == 200
    assert b"static/app.js" in body
    # All at once, and not one after the other as they import each other.
    scripts = sorted(path.name for path in STATIC.glob("*.js") if path.name != "app.js")
    assert re.findall(r'modulepreload" href="static/(.*?)"', body.decode()) == scripts
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe-eval" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert get(server, "/static/app.js")[0] == 200
    assert len(get(server, "/bokeh/bokeh.min.js")[2]) > 500_000
    assert answer(server, "")["experiments"][0]["experiment"] == "demo"
    assert answer(server, "/demo/trials?filter=a%3D1")["rows"][0]["trial"] == 1
    assert answer(server, "/demo/trials/1")["result"]["text"] == "2"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../handlers.py",
        "/static/%2e%2e/handlers.py",
        "/bokeh/bokeh.json",
        "/api/experiments/..%2F..%2Fetc/trials",
        "/api/experiments/nope/trials",
        "/api/experiments/demo/trials/99",
        "/nothing",
    ],
)
def test_what_is_not_there(server, path):
    """Files elsewhere, experiments and trials that do not exist are not found."""
    assert get(server, path)[0] in (403, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/demo/trials/x",
        "/demo/trials/99999999999999999999",
        "/demo/trials?start=x",
        "/demo/trials?start=nan",
        "/demo/trials?size=inf",
        "/demo/compare?trials=1",
        "/demo/metrics?trials=1,-2",
        "/demo/trials?filter=nonsense%3D1",
    ],
)
def test_wrong_questions(server, path):
    """A question that makes no sense is refused as such."""
    assert get(server, f"/api/experiments{path}")[0] == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_there_is_nothing_to_change(server, method):
    """Only reading methods are known."""
    assert get(server, "/api/experiments", method)[0] == 405


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:5000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Host": "[::1"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"},
        {
            "Origin": "http://evil.example",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec_WebSocket_Version": "13",
        },
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/experiments", "/static/app.js"])
def test_other_sites_are_refused(server, path, headers):
    """Names pointed at this machine, other sites' requests and websockets get nothing."""
    status, _, body = get(server, path, **headers)
    assert status in (400, 403)
    assert b"demo" not in body


def test_own_names_are_answered(server):
    """The machine's own names are answered, on a tunnel's port too, and links from elsewhere."""
    for host in (f"127.0.0.1:{server.port}", "localhost:8888", "[::1]:5000"):
        assert get(server, "/api/experiments", Host=host)[0] == 200
    own = f"http://127.0.0.1:{server.port}"
    assert get(server, "/api/experiments", Origin=own)[0] == 200
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert get(server, "/", **link)[0] == 200


def test_token(folder):
    """With a token nothing is told before it was given; then a cookie stands for it."""
    with dashboard.start(folder, port=0, token=TOKEN, experiment="demo") as server:
        assert server.url.endswith(f"/?token={TOKEN}&experiment=demo")
        for path in ("/", "/api/experiments", "/static/app.js", "/?token=wrong-token", "/x"):
            assert get(server, path)[0] == 401
        status, headers, _ = get(server, f"/?token={TOKEN}&experiment=demo&trials=1,2")
        assert (status, headers["Location"]) == (302, "./?experiment=demo&trials=1,2")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        known = {"Cookie": cookie.partition(";")[0]}
        assert get(server, "/api/experiments", **known)[0] == 200
        wrong = {"Cookie": known["Cookie"][:-1]}
        assert get(server, "/api/experiments", **wrong)[0] == 401
        assert get(server, "/api/experiments", Host="evil.example", **known)[0] == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_other_machines_need_a_token(folder, host):
    """A host that others can reach is refused without a token, before anything listens."""
    with pytest.raises(ValueError, match="token"):
        dashboard.start(folder, port=0, host=host)
    assert Guard(host, TOKEN).needs_token


@pytest.mark.parametrize("token", ["", "short", 12345678])
def test_tokens_that_are_none(folder, token):
    """A token that could be guessed is refused."""
    with pytest.raises(ValueError, match="at least 8"):
        dashboard.start(folder, port=0, token=token)


def test_an_open_server_knows_its_addresses(folder):
    """A server that others can reach answers by any address, and by no other name."""
    with dashboard.start(folder, port=0, host="0.0.0.0", token=TOKEN) as server:
        ticket = server._context.guard.ticket
        cookie = f"daskperiment_token_{server.port}={ticket}"
        for host in ("192.0.2.7:80", socket.gethostname()):
            assert get(server, "/api/experiments", Host=host, Cookie=cookie)[0] == 200
        assert get(server, "/api/experiments", Host="evil.example", Cookie=cookie)[0] == 403


def test_a_taken_port(folder, server):
    """If the port is taken, a free one is used."""
    with dashboard.start(folder, port=server.port) as second:
        assert second.port != server.port
        assert get(second)[0] == 200


def test_stopping_leaves_nothing(folder):
    """A stopped server has no thread, and its port is free."""
    before = set(threading.enumerate())
    server = dashboard.start(folder, port=0)
    assert get(server, "/api/experiments")[0] == 200
    assert server.is_running
    server.stop()
    server.stop()
    assert not server.is_running
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionError):
        get(server)
    assert repr(server) == "Server(stopped)"


def test_a_store_that_is_away(tmp_path):
    """While the store is away the answer says so, and then it is as before."""
    lab = Lab()
    lab.run(1, a=1)
    store = Away(lab.store)
    with dashboard.start(store, experiment="demo", port=0) as server:
        store.gone = True
        status, _, body = get(server, "/api/experiments/demo/trials")
        assert status == 503
        assert json.loads(body)["error"]["kind"] == "store away"
        store.gone = False
        assert answer(server, "/demo/trials")["found"] == 1


def test_faults_of_our_own_are_told_without_their_text(server, monkeypatch, caplog):
    """What should not happen is logged where the server runs, and the page is told no details."""
    monkeypatch.setattr("daskperiment.dashboard.api.describe_trial", lambda *_: 1 / 0)
    status, _, body = get(server, "/api/experiments/demo/trials/1")
    assert status == 500
    assert b"division" not in body
    assert "division" in caplog.text


def test_text_that_utf8_cannot_hold(tmp_path):
    """A file name with broken bytes is shown and breaks no answer."""
    lab = Lab()
    lab.run("a\udc80b", name="x\udcff")
    with dashboard.start(lab.store, experiment="demo", port=0) as server:
        assert "\\udc80" in json.dumps(answer(server, "/demo/trials"))
        assert answer(server, "/demo/trials/1")["status"] == "succeeded"


def test_inside_a_notebook(folder, monkeypatch):
    """In a notebook the dashboard starts without blocking and shows itself in a frame."""
    lab = FolderLab(folder / "demo")
    monkeypatch.setattr(dashboard, "in_notebook", lambda: True)
    server = dashboard.launch(lab.store, "demo", port=0)
    assert server is not None
    with server:
        html = server.frame(300)._repr_html_()
        assert f'src="{server.url}"' in html
        assert 'height="300"' in html
        assert get(server)[0] == 200


def test_in_a_script(folder, monkeypatch, capsys):
    """In a script it says where it is and waits until Ctrl-C; then all is stopped."""
    running = []
    before = set(threading.enumerate())

    def interrupted(self, timeout):
        running.append([t.name for t in set(threading.enumerate()) - before if "-server" in t.name])
        raise KeyboardInterrupt

    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("threading.Event.wait", _first_ready(interrupted))
    dashboard.serve(folder, port=0, open_browser=True)
    told = capsys.readouterr().out
    assert "http://127.0.0.1:" in told
    assert opened[0] in told
    assert running == [["dashboard-server"]]


def _first_ready(interrupted):
    """Let the server get ready as usual; what waits a second at a time is interrupted."""
    wait = threading.Event.wait

    def waiting(self, timeout=None):
        return interrupted(self, timeout) if timeout == 1.0 else wait(self, timeout)

    return waiting


def test_without_the_extra(monkeypatch):
    """Where Bokeh is missing, importing says what to install."""
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.partition(".")[0] == "bokeh":
            raise ModuleNotFoundError("No module named 'bokeh'", name="bokeh")
        return real(name, *arguments, **keywords)

    for name in [name for name in sys.modules if name.startswith("daskperiment.dashboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'bokeh>="):
        import daskperiment.dashboard  # noqa: F401
