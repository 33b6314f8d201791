"""Who may ask the dashboard: checks of Host, Origin and token, and the headers of each answer."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest

__all__ = ["HEADERS", "Guard", "Guesses", "MadeToken", "is_loopback"]

# Even if a text of the store became part of the page as markup, nothing in it could run, and
# nothing could be sent anywhere. A notebook on this machine may show the page in a frame.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "frame-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self' http://localhost:* http://127.0.0.1:* vscode-webview:",
    ]
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Server": "daskperiment",
}
_FREE = 3
"""Wrong tokens from an address before it has to wait."""
_SLOWEST = 2.0
"""Seconds between the tokens that an address may try, when many were wrong."""
_PATIENCE = 10.0
_ADDRESSES = 10_000
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class MadeToken(str):
    """A token that this program made: nobody guesses it, however many they try."""

    __slots__ = ()

    @classmethod
    def new(cls) -> MadeToken:
        """Return one that no other server has."""
        return cls(secrets.token_urlsafe())


class Guard:
    """Decides about requests to a server that listens on an address.

    A token is what a browser must know. It may be left out on this machine's own addresses only:
    ValueError if other machines could ask without one.

    Attributes
    ----------
    ticket : str
        What a browser that gave the token keeps, as a cookie. It is random, and not made of the
        token: tickets are not slowed as tokens are, so that none may be as easy to guess.
    """

    def __init__(self, host: str, token: str | None) -> None:
        if token is not None and (not isinstance(token, str) or len(token) < 8):
            raise ValueError(
                "The token is too short, or no text: expected at least 8 characters, such as "
                "secrets.token_urlsafe() gives."
            )
        if token is None and not is_loopback(host):
            raise ValueError(
                f"The host {host!r} lets other machines ask, and no token was given. Give one, "
                "token=secrets.token_urlsafe(), or leave the host at '127.0.0.1'."
            )
        self._token = token
        self.ticket = secrets.token_hex(32)
        self._open = not is_loopback(host)
        self._names = {host.casefold(), *_LOCAL}
        if self._open:
            self._names |= {socket.gethostname().casefold(), socket.getfqdn().casefold()}

    def refusal(self, request: HTTPServerRequest) -> str | None:
        """Return why a request comes from elsewhere than a page of this server, if it does."""
        # A name that somebody else pointed at this machine is in Host (DNS rebinding).
        hosts = request.headers.get_list("Host")
        host = hosts[0] if len(hosts) == 1 else ""
        if not self._is_own(host):
            return (
                "The dashboard was asked by a name that is not its own. Open it by the address "
                "that it printed when it started."
            )
        # Pages of other sites cannot hide where they come from; that goes for websockets, too.
        origin = request.headers.get("Origin")
        is_foreign = origin is not None and urlsplit(origin).netloc.casefold() != host.casefold()
        site = request.headers.get("Sec-Fetch-Site", "none")
        is_page = request.headers.get("Sec-Fetch-Mode") == "navigate"
        if is_foreign or (site in ("cross-site", "same-site") and not is_page):
            return "The dashboard answers its own pages only, and this request is another site's."
        return None

    def _is_own(self, host: str) -> bool:
        # The port may be another one: a tunnel's.
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name.casefold() in self._names or (self._open and _address_of(name) is not None)

    def knows(self, given: str | None) -> bool:
        """Return whether a token is right, taking as long for any that is wrong."""
        if self._token is None:
            return True
        return hmac.compare_digest(_bytes(given or ""), _bytes(self._token))

    def admits(self, ticket: str | None) -> bool:
        """Return whether a browser gave the token, taking as long for any that did not."""
        return self._token is None or hmac.compare_digest(_bytes(ticket or ""), _bytes(self.ticket))

    @property
    def fears_guesses(self) -> bool:
        """Whether somebody could find the token by trying many."""
        return not isinstance(self._token, MadeToken)

    @property
    def needs_token(self) -> bool:
        """Whether there is a token."""
        return self._token is not None


class Guesses:
    """Wrong tokens, by the address that they come from: the more there were, the slower it gets.

    Tokens of one address are looked at one after the other, so that many at once are no faster.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, int] = OrderedDict()
        self._next: dict[str, float] = {}

    def turn(self, address: str) -> float | None:
        """Return in how many seconds a token of an address is looked at; None if it has to go."""
        address = _guesser(address)
        now = self._clock()
        at = max(now, self._next.get(address, now))
        if at - now > _PATIENCE:
            return None
        pause = self._pause(address)
        if pause:
            self._next[address] = at + pause
        return at - now

    def note(self, address: str, right: bool) -> None:
        """Note whether a token of an address was right."""
        address = _guesser(address)
        if right:
            self._forget(address)
            return
        self._wrong[address] = self._wrong.pop(address, 0) + 1
        self._next[address] = max(
            self._next.get(address, 0.0), self._clock() + self._pause(address)
        )
        if len(self._wrong) > _ADDRESSES:
            self._forget(next(iter(self._wrong)))

    def _pause(self, address: str) -> float:
        more = self._wrong.get(address, 0) - _FREE
        return min(_SLOWEST, 0.125 * 2 ** min(more, 10)) if more >= 0 else 0.0

    def _forget(self, address: str) -> None:
        self._wrong.pop(address, None)
        self._next.pop(address, None)


def _guesser(address: str) -> str:
    """Return what one machine shares of its addresses: of IPv6 it has 2**64 to guess from."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address  # of a socket that is no network's
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(found) >> 64 << 64))


def _bytes(text: str) -> bytes:
    # A browser may send what UTF-8 cannot hold.
    return text.encode(errors="surrogatepass")


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine alone."""
    address = _address_of(host)
    return host.casefold() == "localhost" or (address is not None and address.is_loopback)


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
