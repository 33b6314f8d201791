"""The log of one step run on its way to the store: its beginning, its end, and a gap between them.

The beginning goes to the journal piece by piece, as points do. From a limit on only the latest
pieces are kept: in memory, and in journals of their own, of which the older one is dropped when
the newer one is full. When the run ends its latest pieces follow its first ones. If the process
dies, whoever comes next finds these journals like any others that dead processes left.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from daskperiment.errors import StoreError
from daskperiment.recording.journal import Journal
from daskperiment.recording.recorder import Recorder
from daskperiment.records import LogPiece
from daskperiment.store.protocol import Owner

__all__ = ["HEAD", "TAIL", "LogWriter"]

HEAD = 64_000
"""Characters of the beginning of a step run's log that are kept."""
TAIL = 64_000
"""Characters of its end that are kept besides."""
_PIECE = 4_000
"""Characters of a piece of the end, which is kept or left out as a whole."""
_OVERHEAD = 50
"""Characters that a piece counts besides its text."""
_PATIENCE = 0.2
"""Seconds to wait for the journal; what comes later goes there with the next piece."""


class _Writing(threading.local):
    """Whether this thread is about to write a log: what it says meanwhile is written by it."""

    here = False


_WRITING = _Writing()


class LogWriter:
    """Writes down what one step run says; bounded, and never raises.

    Parameters
    ----------
    recorder : Recorder
    owner : Owner
        The trial.
    step : str
        Key of the step run.
    conceal : callable, optional
        Takes what must not be written out of a text.
    key : bytes, optional
        By which it is signed.
    """

    def __init__(
        self, recorder: Recorder, owner: Owner, step: str,
        conceal: Callable[[str], str] | None = None, key: bytes | None = None,
    ) -> None:  # fmt: skip
        self.pid = os.getpid()
        self._key = key
        self._recorder, self._owner, self._step = recorder, owner, step
        self._conceal = conceal
        self._run = f"{time.time():.6f}-{self.pid}"
        self._lock = threading.Lock()
        self._said: deque[tuple[float, str, int, str]] = deque()
        self._waiting: list[LogPiece] = []
        """Pieces that go to the journal with the next ones."""
        self._owed: LogPiece | None = None
        """The end of a line, or a space between words: it waits for what follows."""
        self._start = self._used = 0
        self._tail: _LogTail | None = None
        self._closed = False

    def say(self, source: str, text: str) -> None:
        """Write a text down; it survives SIGKILL of this process when this returns."""
        if text and not self._closed:
            self._said.append((time.time(), source, threading.get_ident(), text))
            self._write()

    def close(self) -> None:
        """Write down what is left: the run ends."""
        self._closed = True
        self._write(last=True)

    def _write(self, last: bool = False) -> None:
        # What a finalizer or a warning says while this thread is here is written further below.
        if _WRITING.here:
            return
        _WRITING.here = True
        try:
            with self._lock:
                while self._said:
                    self._take(*self._said.popleft())
                if last:
                    self._finish()
        except Exception:  # what cannot be written must not fail what was said
            pass
        finally:
            _WRITING.here = False

    def _take(self, moment: float, source: str, thread: int, text: str) -> None:
        text = text if self._conceal is None else self._conceal(text)
        text = text.encode("utf-8", "backslashreplace").decode()
        start, self._start = self._start, self._start + len(text)
        owed, self._owed = self._owed, None
        if owed is not None and (owed.source, owed.thread) == (source, thread):
            start, text = owed.start, owed.text + text
        elif owed is not None:
            self._place(owed)
        piece = LogPiece(self._step, self._run, start, moment, source, thread, text)
        if text.isspace() and len(text) < _PIECE:
            self._owed = piece
        else:
            self._place(piece)

    def _place(self, piece: LogPiece) -> None:
        room = HEAD - self._used
        if self._tail is None and len(piece.text) + _OVERHEAD <= room:
            self._add(piece)
        else:
            self._overflow(piece, room if self._tail is None else 0)

    def _add(self, piece: LogPiece) -> None:
        self._used += len(piece.text) + _OVERHEAD
        self._waiting.append(piece)
        if self._recorder.pieces(self._owner, self._waiting, _PATIENCE, self._key):
            self._waiting = []

    def _overflow(self, piece: LogPiece, room: int) -> None:
        if room > _OVERHEAD:
            first, piece = _split(piece, room - _OVERHEAD)
            self._add(first)
        if self._tail is None:
            self._used = HEAD
            self._tail = _LogTail(self._recorder, self._owner, self._key)
        if len(piece.text) > TAIL:
            piece = _split(piece, len(piece.text) - TAIL)[1]
        self._tail.add(list(_parts(piece)))

    def _finish(self) -> None:
        owed, self._owed = self._owed, None
        if owed is not None and not owed.text.endswith("\n"):
            self._place(owed)
        pieces = [*self._waiting, *(self._tail.pieces if self._tail is not None else ())]
        if pieces and self._recorder.pieces(self._owner, pieces, 60.0, self._key):
            self._waiting = []
            if self._tail is not None:
                self._tail.drop()


def _split(piece: LogPiece, length: int) -> tuple[LogPiece, LogPiece]:
    start, time_, text = piece.start, piece.time, piece.text
    rest = piece.source, piece.thread
    first = LogPiece(piece.step, piece.run, start, time_, *rest, text[:length])
    return first, LogPiece(piece.step, piece.run, start + length, time_, *rest, text[length:])


def _parts(piece: LogPiece) -> Iterator[LogPiece]:
    while len(piece.text) > _PIECE:
        first, piece = _split(piece, _PIECE)
        yield first
    yield piece


class _LogTail:
    """The latest pieces of a log: in memory, and on disk for whoever comes after this process."""

    def __init__(self, recorder: Recorder, owner: Owner, key: bytes | None) -> None:
        self._key = key
        self.pieces: deque[LogPiece] = deque()
        self._size = 0
        self._recorder, self._owner = recorder, owner
        self._journals = [self._journal()]
        self._written = 0

    def _journal(self) -> Journal:
        delivery = self._recorder.delivery
        return Journal(delivery.folder, self._recorder.store, delivery.writes)

    def add(self, pieces: list[LogPiece]) -> None:
        """Add pieces, and forget those that are too old by now."""
        size = sum(len(piece.text) + _OVERHEAD for piece in pieces)
        self.pieces += pieces
        self._size += size
        while self._size > TAIL and len(self.pieces) > 1:
            self._size -= len(self.pieces.popleft().text) + _OVERHEAD
        if self._written > TAIL:
            self._journals.append(self._journal())
            self._written = 0
            while len(self._journals) > 2:
                self._journals.pop(0).drop()
        self._written += size
        if self._key is not None:  # without numbers: of these most are left out in the end
            signer = self._recorder.signer
            pieces = signer.pieces(self._owner, pieces, self._key, numbered=False)
        for journal in self._places():
            with suppress(StoreError):  # a full disk
                journal.pieces(self._owner.trial, pieces, self._owner, _PATIENCE)
                if journal is not self._journals[-1]:
                    self._journals.append(journal)
                return

    def _places(self) -> Iterator[Journal]:
        """Yield the journals that may take pieces; if none does, they are in memory still."""
        yield self._journals[-1]
        yield from self._recorder.delivery.spare_journals()

    def drop(self) -> None:
        """Remove what stands on disk."""
        for journal in self._journals:
            journal.drop()
