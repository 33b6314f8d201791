"""Strangers who open connections and ask nothing, and such as guess tokens."""

from __future__ import annotations

import http.client
import logging
import resource
import socket
import time
from contextlib import suppress

import pytest

from daskperiment import dashboard
from daskperiment.dashboard import connections, guard
from daskperiment.dashboard.guard import Guard, Guesses, MadeToken

TOKEN = "a-token-of-the-tests"


def ask(server: dashboard.Server, path: str = f"/?token={TOKEN}") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def answered(server: dashboard.Server) -> bool:
    """Whether one of the requests of a minute is answered: for some this machine may be late."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(http.client.BadStatusLine, ConnectionError):
            return ask(server) == 302
    return False


def half_asked(server: dashboard.Server, text: bytes) -> socket.socket:
    stranger = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    stranger.sendall(text)
    return stranger


HALVES = [b"", b"G", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
          b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n1"]  # fmt: skip


def test_half_requests_stop_nobody(tmp_path, monkeypatch, caplog):
    """With more half requests than there is room for, others are answered; the log says it once."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(connections, "_MOST", 20)
    with dashboard.start(tmp_path, port=0, token=TOKEN) as server:
        strangers = [half_asked(server, HALVES[n % 4]) for n in range(60)]
        try:
            assert [ask(server) for _ in range(5)] == [302] * 5
        finally:
            for stranger in strangers:
                stranger.close()
    told = [r for r in caplog.records if r.name.startswith(("daskperiment", "tornado", "asyncio"))]
    assert len(told) == 1
    assert "closed" in told[0].getMessage()


@pytest.mark.parametrize("half", HALVES[:3])
def test_a_request_has_to_come_in_time(tmp_path, monkeypatch, half):
    """A connection on which no whole request comes is closed after a while."""
    monkeypatch.setattr("daskperiment.dashboard.server.HEADER_SECONDS", 0.2)
    with dashboard.start(tmp_path, port=0, token=TOKEN) as server:
        with half_asked(server, half) as stranger:
            assert stranger.recv(100) == b""
        assert answered(server)


def test_room_follows_the_files_of_the_process(monkeypatch):
    """However few files a process may open, most of them are left for other things."""
    for files, most in ((64, 21), (256, 85), (1024, 256), (-1, 256), (10, 8)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert connections._room() == most


def test_guesses_are_slowed():
    """After some wrong tokens an address waits, ever longer; many at once do not help."""
    now = [0.0]
    guesses = Guesses(lambda: now[0])
    waited = []
    for _ in range(12):
        seconds = guesses.turn("a")
        assert seconds is not None
        waited.append(seconds)
        now[0] += seconds
        guesses.note("a", right=False)
    assert waited[:3] == [0, 0, 0]
    assert waited == sorted(waited)
    assert waited[-1] >= 2.0
    assert guesses.turn("b") == 0
    at_once = [guesses.turn("a") for _ in range(20)]
    assert at_once[0] == 2.0
    assert at_once[1] == 4.0
    assert at_once[-1] is None
    guesses.note("a", right=True)
    assert guesses.turn("a") == 0


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_other_addresses_of_one_machine_are_no_way_around(first, second, is_one):
    """Who has a whole network of IPv6 to guess from is slowed as one."""
    guesses = Guesses(lambda: 0.0)
    for _ in range(8):
        guesses.note(first, right=False)
    seconds = guesses.turn(second)
    assert bool(seconds) is is_one


def test_few_addresses_are_remembered(monkeypatch):
    """Wrong tokens from ever new addresses take no ever growing memory."""
    monkeypatch.setattr(guard, "_ADDRESSES", 10)
    guesses = Guesses(lambda: 0.0)
    for number in range(50):
        for _ in range(4):
            guesses.note(str(number), right=False)
    assert len(guesses._wrong) == len(guesses._next) == 10


def test_a_right_token_after_wrong_ones(tmp_path):
    """Wrong tokens are refused ever later; the right one still opens the page, and ends it."""
    with dashboard.start(tmp_path, port=0, token=TOKEN) as server:
        server._context.guesses._clock = lambda: 0.0  # what this machine loses is no waiting
        assert [ask(server, f"/?token=wrong-token-{n}") for n in range(4)] == [401] * 4
        began = time.monotonic()
        assert ask(server) == 302
        assert time.monotonic() - began > 0.1
        assert ask(server) == 302


def test_a_made_token_never_waits(tmp_path):
    """While somebody guesses from the same address, a token that was made opens at once."""
    made = MadeToken.new()
    with dashboard.start(tmp_path, port=0, token=made) as server:
        guesses = server._context.guesses
        guesses._clock = lambda: 0.0  # nobody's turn comes meanwhile
        for _ in range(20):
            guesses.note("127.0.0.1", right=False)
        while guesses.turn("127.0.0.1") is not None:
            pass  # as many as may wait do
        assert ask(server, "/?token=wrong-token-1") == 429
        assert ask(server, f"/?token={made}") == 302
        assert ask(server, "/?token=wrong-token-2") == 429


@pytest.mark.parametrize("token", [TOKEN, MadeToken.new()], ids=["given", "made"])
def test_a_ticket_says_nothing_of_the_token(token):
    """What a browser keeps is no two servers' and cannot be made of a guessed token."""
    first, second = Guard("127.0.0.1", token), Guard("127.0.0.1", token)
    assert first.admits(first.ticket)
    assert not first.admits(second.ticket)
    assert not first.admits(token)
    assert len({first.ticket, second.ticket, token}) == 3


def test_a_token_is_made_where_others_can_ask(tmp_path, monkeypatch, capsys):
    """Served for other machines without a token, it makes one and prints it in the address."""
    asked = []

    def stopped(server: dashboard.Server) -> None:
        asked.append(ask(server, "/?" + server.url.partition("?")[2]))
        asked.append(ask(server, "/"))
        server.stop()

    monkeypatch.setattr(dashboard.Server, "wait", stopped)
    for _ in range(2):
        dashboard.serve(tmp_path, port=0, host="0.0.0.0")
    assert asked == [302, 401] * 2
    tokens = [
        line.partition("token=")[2].split()[0] for line in capsys.readouterr().out.split("\n")[:2]
    ]
    assert len(set(tokens)) == 2
    assert min(map(len, tokens)) >= 40
