"""The dashboard's addresses: its page, its files, and answers in JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_plus

import bokeh
import msgspec
from tornado.web import Application, Finish, HTTPError, RequestHandler, StaticFileHandler

from daskperiment.dashboard.curves import Style
from daskperiment.dashboard.guard import HEADERS, Guard
from daskperiment.dashboard.influence import Wish
from daskperiment.dashboard.query import FilterError
from daskperiment.dashboard.room import Room
from daskperiment.dashboard.sources import ExperimentNotFoundError
from daskperiment.errors import (
    CorruptRecordError,
    DaskperimentError,
    StoreUnavailableError,
    TrialIDNotFoundError,
)

__all__ = ["Context", "application"]

_STATIC = Path(str(files("daskperiment.dashboard") / "static"))
_BOKEH = Path(bokeh.__file__).parent / "server" / "static" / "js"
_FAULTS: tuple[tuple[type[BaseException], int, str], ...] = (
    (ExperimentNotFoundError, 404, "no experiment"),
    (TrialIDNotFoundError, 404, "no trial"),
    (FilterError, 400, "filter"),
    (StoreUnavailableError, 503, "store away"),
    (CorruptRecordError, 500, "damaged"),
    (DaskperimentError, 500, "store"),
)
_LARGEST = 2**53

logger = logging.getLogger(__name__)


class Context(NamedTuple):
    """What every handler needs."""

    room: Room
    guard: Guard
    executor: Executor
    cookie: str


class _Guarded(RequestHandler):
    """Refuses what does not come from a page of this server."""

    context: Context

    def set_default_headers(self) -> None:
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        self.context = self.settings["context"]
        refusal = self.context.guard.refusal(self.request)
        if refusal:
            self._refuse(403, refusal)
        if not self._is_known():
            self._refuse(
                401,
                "This dashboard asks for a token. Open it by the whole address that it printed "
                "when it started: it ends in ?token=…",
            )

    def _is_known(self) -> bool:
        return self.context.guard.admits(self.get_cookie(self.context.cookie))

    def _refuse(self, status: int, reason: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(reason + "\n")
        raise Finish

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code} {self._reason}\n")


class _Page(_Guarded):
    """The one page; its address says what it shows."""

    def _is_known(self) -> bool:
        guard = self.context.guard
        given = self.get_query_argument("token", None)
        if not guard.needs_token or given is None:
            return super()._is_known()
        if not guard.knows(given):
            return False
        # From here on the cookie counts: the token stays neither in the address nor in history.
        self.set_cookie(self.context.cookie, guard.ticket, httponly=True, samesite="Strict")
        parts = self.request.query.split("&")
        rest = [part for part in parts if unquote_plus(part.partition("=")[0]) != "token"]
        self.redirect("./" + ("?" + "&".join(rest) if rest else ""))
        raise Finish

    def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish((_STATIC / "index.html").read_bytes())


class _File(_Guarded, StaticFileHandler):
    """A file of the page."""

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        if "\0" in absolute_path:
            raise HTTPError(404)
        return super().validate_absolute_path(root, absolute_path)


class _Missing(_Guarded):
    def prepare(self) -> None:
        super().prepare()
        raise HTTPError(404)


class _Answer(_Guarded):
    """Answers a question in a thread, because stores take their time."""

    async def get(self, *path: str) -> None:
        loop = asyncio.get_running_loop()
        status = 200
        try:
            ask = self.question(*(unquote(part) for part in path))
            body = await loop.run_in_executor(self.context.executor, lambda: _encoded(ask()))
        except HTTPError:
            raise
        except Exception as error:
            status, told = _fault(error)
            body = _encoded({"error": told})
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(body)

    def question(self, *path: str) -> Callable[[], Any]:
        raise NotImplementedError

    # Arguments

    def text(self, name: str) -> str:
        return self.get_query_argument(name, "")[:2_000]

    def flag(self, name: str) -> bool:
        return self.text(name) == "1"

    def number(self, name: str, default: float) -> float:
        try:
            number = float(self.text(name) or default)
        except ValueError:
            raise HTTPError(400) from None
        if not math.isfinite(number):
            raise HTTPError(400)
        return number

    def ids(self, name: str = "trials") -> list[int]:
        # Never cut: what is left of a number would be another trial's.
        parts = [part for part in self.get_query_argument(name, "").split(",") if part]
        return [_trial(part) for part in parts]

    def theme(self) -> Any:
        return "dark" if self.text("theme") == "dark" else "light"

    def look(self) -> dict[str, Any]:
        return {name: self.text(name) for name in ("filter", "status", "sort")}


class _Experiments(_Answer):
    def question(self, *path: str) -> Callable[[], Any]:
        return self.context.room.experiments


class _Trials(_Answer):
    def question(self, *path: str) -> Callable[[], Any]:
        start, size = int(self.number("start", 0)), int(self.number("size", 50))
        look, seen = self.look(), self.text("seen")
        return lambda: self.context.room.trials(path[0], look, start, size, seen)


class _Metrics(_Answer):
    def question(self, *path: str) -> Callable[[], Any]:
        style = Style(
            over="time" if self.text("over") == "time" else "epoch",
            smooth=self.number("smooth", 0.0),
            log_x=self.flag("logx"),
            log_y=self.flag("logy"),
            theme=self.theme(),
        )
        trials, names = self.ids(), self.get_query_arguments("metric")
        figures = not self.flag("data")
        return lambda: self.context.room.metrics(path[0], trials, names, style, figures)


class _Influence(_Answer):
    def question(self, *path: str) -> Callable[[], Any]:
        wish = Wish(
            across=self.text("across"),
            up=self.text("up"),
            log_x=self.flag("logx"),
            log_y=self.flag("logy"),
            theme=self.theme(),
        )
        trials, look = self.ids(), self.look()
        return lambda: self.context.room.influence(path[0], trials, look, wish)


class _Compare(_Answer):
    def question(self, *path: str) -> Callable[[], Any]:
        trials = self.ids()
        if len(trials) != 2:
            raise HTTPError(400)
        return lambda: self.context.room.compare(path[0], *trials)


class _Trial(_Answer):
    def question(self, *path: str) -> Callable[[], Any]:
        trial = _trial(path[1])
        return lambda: self.context.room.trial(path[0], trial)


def _trial(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:20]) > _LARGEST:
        raise HTTPError(400)
    return int(text)


def _fault(error: Exception) -> tuple[int, dict[str, str]]:
    for type_, status, kind in _FAULTS:
        if isinstance(error, type_):
            return status, {"kind": kind, "message": str(error)}
    logger.error("The dashboard could not answer.", exc_info=error)
    message = "The dashboard could not answer this. What went wrong stands where it was started."
    return 500, {"kind": "fault", "message": message}


def _encoded(data: Any) -> bytes:
    try:
        return msgspec.json.encode(data)
    except UnicodeEncodeError:
        # Text that UTF-8 cannot hold, such as a file name: JSON's own escapes can.
        return json.dumps(data).encode()


def application(context: Context) -> Application:
    """Make the application of a server."""
    name = r"/api/experiments/([^/]+)"
    routes: Sequence[Any] = [
        (r"/", _Page),
        (r"/static/(.*)", _File, {"path": str(_STATIC)}),
        (r"/bokeh/(bokeh\.min\.js)", _File, {"path": str(_BOKEH)}),
        (r"/api/experiments", _Experiments),
        (f"{name}/trials", _Trials),
        (f"{name}/metrics", _Metrics),
        (f"{name}/influence", _Influence),
        (f"{name}/compare", _Compare),
        (f"{name}/trials/([^/]+)", _Trial),
    ]
    return Application(
        list(routes),
        context=context,
        default_handler_class=_Missing,
        log_function=lambda handler: None,
    )
