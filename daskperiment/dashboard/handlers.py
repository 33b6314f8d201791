"""The dashboard's addresses: its page, its files, and answers in JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from http.client import responses
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, unquote_plus

import bokeh
import msgspec
from tornado.web import Application, Finish, HTTPError, RequestHandler, StaticFileHandler

from daskperiment.dashboard.api import Chosen, DashboardAPI, ExperimentNotFoundError
from daskperiment.dashboard.connections import Connections
from daskperiment.dashboard.guard import HEADERS, Guard, Guesses
from daskperiment.dashboard.table import Look
from daskperiment.errors import (
    CorruptRecordError,
    DaskperimentError,
    FilterError,
    LookupFailedError,
    StoreUnavailableError,
    TrialIDNotFoundError,
)

__all__ = ["HandlerContext", "application"]

_STATIC = Path(str(files("daskperiment.dashboard") / "static"))
_BOKEH = Path(bokeh.__file__).parent / "server" / "static" / "js"
_FAULTS: tuple[tuple[type[BaseException], int, str], ...] = (
    (ExperimentNotFoundError, 404, "no experiment"),
    (TrialIDNotFoundError, 404, "no trial"),
    (LookupFailedError, 404, "no artifact"),
    (FilterError, 400, "filter"),
    (StoreUnavailableError, 503, "store away"),
    (CorruptRecordError, 500, "damaged"),
    (DaskperimentError, 500, "store"),
)
_MOST_IDS = 200_000
_LARGEST = 2**53
"""Ids up to this one are whole numbers in JavaScript, too."""

logger = logging.getLogger(__name__)


class HandlerContext(NamedTuple):
    """What every handler needs."""

    api: DashboardAPI
    guard: Guard
    executor: Executor
    cookie: str
    connections: Connections
    guesses: Guesses


class _GuardedHandler(RequestHandler):
    """Refuses what does not come from a page of this server."""

    context: HandlerContext

    def set_default_headers(self) -> None:
        for name, value in HEADERS.items():
            self.set_header(name, value)

    async def prepare(self) -> None:
        self.context = self.settings["context"]
        self.context.connections.has_asked(self.request.connection.stream)  # type: ignore[union-attr]
        refusal = self.context.guard.refusal(self.request)
        if refusal:
            self._refuse(403, refusal)
        if not await self._is_known():
            self._refuse(
                401,
                "This dashboard asks for a token. Open it by the whole address that it printed "
                "when it started: it ends in ?token=…",
            )

    async def _is_known(self) -> bool:
        return self.context.guard.admits(self.get_cookie(self.context.cookie))

    def _refuse(self, status: int, reason: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(reason + "\n")
        raise Finish

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code} {responses.get(status_code, 'Unknown')}\n")


class _PageHandler(_GuardedHandler):
    """The one page; its address says what it shows."""

    async def _is_known(self) -> bool:
        guard = self.context.guard
        given = self.get_query_argument("token", None)
        if not guard.needs_token or given is None:
            return await super()._is_known()
        if not await self._guess(given):
            return False
        # From here on the cookie counts: the token stays neither in the address nor in history.
        self.set_cookie(self.context.cookie, guard.ticket, httponly=True, samesite="Strict")
        parts = self.request.query.split("&")
        rest = [part for part in parts if unquote_plus(part.partition("=")[0]) != "token"]
        self.redirect("./" + ("?" + "&".join(rest) if rest else ""))
        raise Finish

    async def _guess(self, token: str) -> bool:
        """Whether a token is right; from where many were wrong, after a while."""
        guard = self.context.guard
        if not guard.fears_guesses and guard.knows(token):
            return True  # at once: nobody learns more by it than by a guess that is right
        address, guesses = self.request.remote_ip or "", self.context.guesses
        seconds = guesses.turn(address)
        if seconds is None:
            self._refuse(429, "Too many wrong tokens came from this address. Try again in a while.")
        else:
            await asyncio.sleep(seconds)
        right = guard.knows(token)
        guesses.note(address, right)
        return right

    def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish((_STATIC / "index.html").read_bytes())


class _FileHandler(_GuardedHandler, StaticFileHandler):
    """A file of the page."""

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        if "\0" in absolute_path:
            raise HTTPError(404)
        return super().validate_absolute_path(root, absolute_path)


class _MissingHandler(_GuardedHandler):
    """Any other address."""

    async def prepare(self) -> None:
        await super().prepare()
        raise HTTPError(404)


class _ArtifactHandler(_GuardedHandler):
    """The file of an artifact, with headers that let nothing of it do harm."""

    async def get(self, experiment: str, trial: str) -> None:
        name, use = self.get_query_argument("name", ""), self.get_query_argument("use", "")
        number = _trial_id(unquote(trial))
        ask = partial(self.context.api.artifact, unquote(experiment), number, name, use)
        loop = asyncio.get_running_loop()
        try:
            file = await loop.run_in_executor(self.context.executor, ask)
        except Exception as error:
            status, described = _fault(error)
            self._refuse(status, described["message"])
            return
        for header, value in file.headers.items():
            self.set_header(header, value)
        self.finish(file.body)


_Answer = Callable[[], Any]


class _QuestionHandler(_GuardedHandler):
    """Answers a question of the page in a thread, because stores take their time."""

    def initialize(self, question: Callable[..., _Answer]) -> None:
        self.question = question

    async def get(self, *path: str) -> None:
        loop = asyncio.get_running_loop()
        status, start = 200, time.perf_counter()
        try:
            answer = self.question(self, *(unquote(part) for part in path))
            body = await loop.run_in_executor(self.context.executor, lambda: _encoded(answer()))
        except HTTPError:
            raise
        except Exception as error:
            status, described = _fault(error)
            body = _encoded({"error": described})
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        # By this, and not by when it comes to read the answer, the page tells how slow a store is.
        took = 1000 * (time.perf_counter() - start)
        self.set_header("Server-Timing", f"answer;dur={took:.1f}")
        self.finish(body)

    @property
    def api(self) -> DashboardAPI:
        return self.context.api

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

    def ids(self) -> list[int]:
        # Never cut: what is left of a number would be another trial's.
        parts = [part for part in self.get_query_argument("trials", "").split(",") if part]
        ranges = [list(map(_trial_id, part.split("-", 1))) for part in parts]
        if sum(each[-1] - each[0] for each in ranges) > _MOST_IDS:
            raise HTTPError(400)
        return [trial for each in ranges for trial in range(each[0], each[-1] + 1)]

    def chosen(self) -> Chosen:
        """Return the trials that are named, or those that a look finds."""
        return self.look() if self.flag("found") else self.ids()

    def look(self) -> Look:
        statuses = frozenset(filter(None, self.text("status").split(",")))
        return Look(self.text("filter"), statuses, self.text("sort"), self.flag("archived"))

    def axes(self) -> dict[str, Any]:
        theme = "dark" if self.text("theme") == "dark" else "light"
        return {"log_x": self.flag("logx"), "log_y": self.flag("logy"), "theme": theme}


# Each reads the arguments of its address at once, and returns what is called in a thread.


def _experiments(asked: _QuestionHandler) -> _Answer:
    return asked.api.experiments


def _trials(asked: _QuestionHandler, experiment: str) -> _Answer:
    start, size = int(asked.number("start", 0)), int(asked.number("size", 50))
    seen, group = asked.text("seen"), asked.text("group")
    return partial(asked.api.trials, experiment, asked.look(), start, size, seen, group)


def _found(asked: _QuestionHandler, experiment: str) -> _Answer:
    return partial(asked.api.found, experiment, asked.look())


def _metrics(asked: _QuestionHandler, experiment: str) -> _Answer:
    from daskperiment.dashboard.charts import CurveStyle  # noqa: PLC0415  # a table needs no Bokeh

    over = "time" if asked.text("over") == "time" else "epoch"
    many: Literal["shade", "band"] = "band" if asked.text("many") == "band" else "shade"
    smooth = asked.number("smooth", 0.0)
    style = CurveStyle(over=over, smooth=smooth, many=many, **asked.axes())
    names, with_figures = asked.get_query_arguments("metric"), not asked.flag("data")
    return partial(asked.api.metrics, experiment, asked.chosen(), names, style, with_figures)


def _influence(asked: _QuestionHandler, experiment: str) -> _Answer:
    from daskperiment.dashboard.influence import InfluenceOptions  # noqa: PLC0415  # as above

    given: dict[str, Any] = {name: asked.text(name) for name in ("across", "up", "colour")}
    for name in ("best", "best_across"):
        given[name] = "min" if asked.text(name) == "min" else "max"
    options = InfluenceOptions(**given, **asked.axes())
    return partial(asked.api.influence, experiment, asked.ids() or asked.look(), options)


def _importance(asked: _QuestionHandler, experiment: str) -> _Answer:
    chosen, up = asked.ids() or asked.look(), asked.text("up")
    return partial(asked.api.importance, experiment, chosen, up)


def _compare(asked: _QuestionHandler, experiment: str) -> _Answer:
    chosen = asked.chosen()
    if isinstance(chosen, list) and len(chosen) < 2:
        raise HTTPError(400)
    return partial(asked.api.compare, experiment, chosen)


def _trial(asked: _QuestionHandler, experiment: str, trial: str) -> _Answer:
    return partial(asked.api.trial, experiment, _trial_id(trial))


def _trial_id(text: str) -> int:
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


def application(context: HandlerContext) -> Application:
    """Return the application of a server."""
    experiment = r"/api/experiments/([^/]+)"
    questions: dict[str, Callable[..., _Answer]] = {
        "/api/experiments": _experiments,
        f"{experiment}/trials": _trials,
        f"{experiment}/found": _found,
        f"{experiment}/metrics": _metrics,
        f"{experiment}/influence": _influence,
        f"{experiment}/importance": _importance,
        f"{experiment}/compare": _compare,
        f"{experiment}/trials/([^/]+)": _trial,
    }
    routes: list[Any] = [
        (r"/", _PageHandler),
        (r"/static/(.*)", _FileHandler, {"path": str(_STATIC)}),
        (r"/bokeh/(bokeh\.min\.js)", _FileHandler, {"path": str(_BOKEH)}),
        (f"{experiment}/trials/([^/]+)/artifact", _ArtifactHandler),
        *((path, _QuestionHandler, {"question": ask}) for path, ask in questions.items()),
    ]
    return Application(
        routes,
        context=context,
        default_handler_class=_MissingHandler,
        log_function=lambda handler: None,
    )
