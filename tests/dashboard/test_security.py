"""Questions that are meant to do harm: long, wrong, from elsewhere, or after what is secret."""

from __future__ import annotations

import hmac
import http.client
import logging
import socket

import pytest

from daskperiment import dashboard
from daskperiment.dashboard.guard import HEADERS, Guard
from tests.dashboard.stores import FolderLab

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder with an experiment of 600 trials, beside a secret."""
    tmp_path = tmp_path_factory.mktemp("guarded")
    lab = FolderLab(tmp_path / "store" / "demo")
    for number in range(600):
        lab.succeed(lab.open({"a": number}), number)
    (tmp_path / "secret").write_text("do not tell")
    return tmp_path / "store"


@pytest.fixture(scope="module")
def server(folder):
    """Run a dashboard of the folder."""
    with dashboard.start(folder, port=0) as server:
        yield server


def ask(server: dashboard.Server, path: str, **headers: str) -> tuple[int, bytes]:
    """Ask a server; a connection that it closes without an answer counts as 0."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (http.client.BadStatusLine, ConnectionError):
        return 0, b""
    finally:
        connection.close()


ANSWERS = ["/", "/static/app.js", "/api/experiments", "/api/experiments/demo/trials", "/nothing"]


@pytest.mark.parametrize("path", [*ANSWERS, "/api/experiments/demo/trials/x", "/?token=wrong"])
def test_headers_of_every_answer(folder, path):
    """Every answer, also a refusal, forbids what the page does not need."""
    for token in (None, TOKEN):
        with dashboard.start(folder, port=0, token=token) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request("GET", path)
            headers = dict(connection.getresponse().getheaders())
            connection.close()
            for name in HEADERS:
                assert name in headers, path
            assert headers["Referrer-Policy"] == "no-referrer"
            assert "default-src 'none'" in headers["Content-Security-Policy"]


PATHS = [
    "/static/../../../secret",
    "/static/..%2f..%2f..%2fsecret",
    "/static/%2e%2e/%2e%2e/guard.py",
    "/static//etc/passwd",
    "/static/%2Fetc%2Fpasswd",
    "/static/....//guard.py",
    "/static/app.js%00.txt",
    "/static/",
    "/bokeh/../../../../bokeh/__init__.py",
    "/bokeh/bokeh.min.js/../../../__init__.py",
    "/api/experiments/%2e%2e%2fsecret/trials",
    "/api/experiments/..%00/trials",
    "/api/experiments/demo%2Fobjects/trials",
    "/api/experiments/./trials",
    "/api/experiments/demo/trials/..%2f1",
    "//127.0.0.1/secret",
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_lead_elsewhere(server, path):
    """No path tells of a file outside of the page's own, or makes a folder."""
    status, body = ask(server, path)
    assert status in (0, 400, 403, 404)
    assert b"do not tell" not in body
    assert b"root:" not in body
    assert b"import" not in body


@pytest.mark.parametrize(
    "query",
    [
        "filter=" + "x" * 60_000,
        "filter=" + "a%3D1+" * 9_000,
        "filter=" + "%27" * 999,
        "filter=" + "%00",
        "filter=" + "+" * 3_000 + "%3D",
        "sort=" + "x" * 60_000,
        "status=" + "failed," * 8_000,
        "seen=" + "9" * 60_000,
        "start=1e300&size=1e300",
        "start=-5&size=-5",
        "filter=%ff%fe",
        "&" * 60_000,
        "filter=" + "x" * 2_000_000,
    ],
)
def test_huge_and_broken_queries(server, query):
    """A question of any length or bytes is answered or refused, and the server lives on."""
    status, body = ask(server, f"/api/experiments/demo/trials?{query}")
    assert status in (0, 200, 400, 414, 431)
    assert len(body) < 500_000
    assert ask(server, "/api/experiments")[0] == 200


def test_many_selected_trials_are_the_right_ones(server):
    """However many trials are selected, no number is cut into another one."""
    ids = ",".join(str(number) for number in range(1, 601))
    status, body = ask(server, f"/api/experiments/demo/influence?trials={ids}")
    assert status == 200
    assert b'"trials":600' in body
    status, body = ask(server, f"/api/experiments/demo/metrics?trials={ids},601")
    assert b'"missing":[601]' in body


def test_tokens_are_compared_in_constant_time(monkeypatch):
    """The comparison of a token does not tell how much of it was right."""
    compared = []
    digest = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(a) or digest(a, b))
    guard = Guard("127.0.0.1", TOKEN)
    for given in (None, "", "a", "ä\udc80", TOKEN[:-1], TOKEN + "x"):
        assert not guard.knows(given)
    assert guard.knows(TOKEN)
    assert len(compared) == 7


@pytest.mark.parametrize(
    "token", [TOKEN, "semi;colon and space", "größe-学習-🧪", "q\"uo\\te'd=&%"]
)
def test_any_token_opens_the_page(folder, token):
    """A token of any characters passes from the printed address into a cookie that is known."""
    with dashboard.start(folder, port=0, token=token) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/" + server.url.rpartition("/")[2])
        answer = connection.getresponse()
        cookie = (answer.getheader("Set-Cookie") or "").partition("; ")[0]
        assert (answer.status, answer.getheader("Location")) == (302, "./")
        connection.close()
        assert ask(server, "/api/experiments", Cookie=cookie)[0] == 200
        assert ask(server, "/api/experiments", Cookie=cookie[:-3])[0] == 401


def test_a_token_stays_nowhere(folder, caplog):
    """Neither a log, nor an answer, nor the address behind the first holds the token."""
    caplog.set_level(logging.DEBUG)
    with dashboard.start(folder, port=0, token=TOKEN) as server:
        for query in (
            f"?token={TOKEN}",
            f"?%74oken={TOKEN}&experiment=demo",
            f"?token=no&x={TOKEN}",
        ):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request("GET", f"/{query}")
            answer = connection.getresponse()
            told = {name: text for name, text in answer.getheaders() if name != "Set-Cookie"}
            assert TOKEN not in str(told)
            assert TOKEN.encode() not in answer.read()
            connection.close()
        ask(server, f"/nothing?token={TOKEN}")
        ask(server, f"/api/experiments/demo/trials/x?token={TOKEN}")
        ask(server, f"/?token={TOKEN}&x=%ff%fe")
    assert TOKEN not in caplog.text


def test_a_request_with_two_hosts(server):
    """A request that names its host twice, or speaks no HTTP, is refused."""
    lines = [
        "GET /api/experiments HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "Host: evil.example",
    ]
    for text in ("\r\n".join(lines), "GET /api/experiments HTTP/1.1", "\x00\xff" * 50):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
            raw.sendall(text.encode("latin-1") + b"\r\n\r\n")
            raw.shutdown(socket.SHUT_WR)
            told = b"".join(iter(lambda: raw.recv(65_536), b""))
        assert b"demo" not in told
    assert ask(server, "/api/experiments")[0] == 200
