"""Code and environment of a trial, captured when it begins and sealed for the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from msgspec import Struct

from daskperiment.capture.code import CodeCapture
from daskperiment.capture.environment import EnvironmentCapture
from daskperiment.codec import Blob, dump_record
from daskperiment.records import Code, Environment

__all__ = ["CodeSource", "EnvironmentSource", "Sealed"]

T = TypeVar("T", bound=Struct)


class Sealed(NamedTuple):
    """A record together with the object that keeps it."""

    record: Struct
    blob: Blob


class _Seal:
    """Seals records, and remembers the last: captures return the same one while nothing changes."""

    def __init__(self) -> None:
        self._last: Sealed | None = None

    def __call__(self, record: Struct) -> Blob:
        last = self._last
        if last is None or last.record is not record:
            last = self._last = Sealed(record, dump_record(record))
        return last.blob


class CodeSource:
    """The code of a fixed set of steps.

    Parameters
    ----------
    functions : mapping
        Step -> the function that it calls.
    """

    def __init__(self, functions: Mapping[str, Callable[..., object]]) -> None:
        self._functions = functions
        self._capture = CodeCapture()
        self._seal = _Seal()
        self._lock = threading.Lock()

    def now(self) -> tuple[Code, Blob]:
        """Capture the code as it is now."""
        with self._lock:
            code = self._capture.capture(self._functions)
            return code, self._seal(code)


class EnvironmentSource:
    """The environment of this process."""

    def __init__(self) -> None:
        self._capture = EnvironmentCapture()
        self._seal = _Seal()
        self._lock = threading.Lock()

    def now(self) -> tuple[Environment, Blob]:
        """Capture the environment as it is now."""
        with self._lock:
            environment = self._capture.capture()
            return environment, self._seal(environment)
