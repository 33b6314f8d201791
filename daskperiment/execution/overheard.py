"""What steps say: standard output and error, logging records and warnings, heard as they come.

Each is let through as it is, so that the user sees it as before. It is kept in the log of the step
for which the thread works, so that steps that run at once do not mix. What bypasses Python, such
as the output of another program, cannot be told apart by step, and is not heard.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial, wraps
from typing import Any

from daskperiment.execution.context import RunningStep
from daskperiment.execution.helper_threads import speaking_step
from daskperiment.recording.log_writer import LogWriter
from daskperiment.recording.registry import recorder_for
from daskperiment.secret_values import concealed

__all__ = ["HEARD", "listen"]


class _Heard:
    """The streams of this process that are heard."""

    stdout: Any = None
    stderr: Any = None


HEARD = _Heard()
"""The process's, as its standard output and error are."""


class _Passing(threading.local):
    """Whether this thread hands on to the user what was heard already."""

    on = False


_PASSING = _Passing()
_FORMAT = logging.Formatter("%(name)s: %(message)s")


def listen() -> None:
    """Hear what is written to standard output and error from now on, logged and warned of."""
    _hear_records()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        setattr(HEARD, name, stream)
        if stream is not None and not hasattr(stream.write, "_daskperiment_hears"):
            # On the stream itself: whoever has hold of it, such as a handler, is heard too.
            with suppress(AttributeError, TypeError):
                stream.write = _hearing(stream.write, name)


def _hearing(write: Callable[..., Any], source: str) -> Callable[..., Any]:
    @wraps(write)
    def write_and_hear(text: Any, *more: Any, **named: Any) -> Any:
        try:
            return write(text, *more, **named)
        finally:
            if not _PASSING.on and isinstance(text, str):
                _say(source, text)

    setattr(write_and_hear, "_daskperiment_hears", True)  # noqa: B010
    return write_and_hear


@lru_cache(maxsize=1)
def _hear_records() -> None:
    """Hear what is logged and warned of, for good: who catches warnings replaces all else."""
    hand_on = logging.Logger.callHandlers

    @wraps(hand_on)
    def log_and_hear(self: logging.Logger, record: logging.LogRecord) -> None:
        _once(record.levelname, partial(_text_of_record, record), partial(hand_on, self, record))

    show = getattr(warnings, "_showwarnmsg")  # noqa: B009

    @wraps(show)
    def show_and_hear(message: Any) -> None:
        _once("warning", partial(_text_of_warning, message), partial(show, message))

    setattr(logging.Logger, "callHandlers", log_and_hear)  # noqa: B010
    setattr(warnings, "_showwarnmsg", show_and_hear)  # noqa: B010


def _once(source: str, text: Callable[[], str], hand_on: Callable[[], None]) -> None:
    """Hear something, and not a second time while the user is told."""
    if _PASSING.on or speaking_step() is None:
        return hand_on()
    _PASSING.on = True
    try:
        with suppress(Exception):  # whoever made the message may fail in any way
            _say(source, text())
        return hand_on()
    finally:
        _PASSING.on = False


def _text_of_record(record: logging.LogRecord) -> str:
    try:
        return f"{_FORMAT.format(record)}\n"
    except Exception:  # a message that does not fit its arguments; logging tells the user so
        return f"{record.name}: {record.msg}\n"


def _text_of_warning(message: Any) -> str:
    kind, place = message.category.__name__, f"{message.filename}:{message.lineno}"
    return f"{place}: {kind}: {message.message}\n"


def _say(source: str, text: str) -> None:
    step = speaking_step()
    if step is not None and step.trial is not None and step.trial.logs:
        with suppress(Exception):  # nobody's print fails for what we make of it
            _log_of(step).say(source, text)


_MAKING = threading.Lock()


def _log_of(step: RunningStep) -> LogWriter:
    log: LogWriter | None = step.log
    if log is None or log.pid != os.getpid():
        with _MAKING:
            log = step.log
            if log is None or log.pid != os.getpid():
                log = step.log = _new_log(step)
    return log


def _new_log(step: RunningStep) -> LogWriter:
    trial = step.trial
    assert trial is not None
    conceal = None
    if trial.secrets is not None:
        conceal = partial(_concealed, secrets=trial.secret_values)
    recorder, key = recorder_for(trial.store), trial.signing_key
    return LogWriter(recorder, trial.owner, step.key, conceal, key)


def _concealed(text: str, secrets: list[Any]) -> str:
    return concealed(text, secrets)
