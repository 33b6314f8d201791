"""Claims: of several processes that are about to make the same output, one makes it.

A claim is a lock on one place of a file beside the journals, so that it ends with whoever holds it,
however that ends. It is given back when the store has what was made. Where files cannot be locked
nothing is claimed, and each makes the output itself.

Steps may follow each other quickly. So the file is opened once, what they made is delivered by the
batch, and whoever has been alone since it looked into the store need not look again.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from daskperiment.store import rights
from daskperiment.store.opening import CLAIMS

with suppress(ImportError):  # not on every system
    import fcntl

__all__ = ["Claim", "Claims", "ClaimLook"]

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.2
"""Seconds between looks at a claim that another one has."""
_BURST = 0.01
"""Seconds within which a step follows another one, if what they made is delivered together."""
_BATCH = 0.05
"""Seconds after which what was made is delivered, whatever follows."""
_MOST = 200
"""Claims that are held at a time: the system looks through all of them for each new one."""

_WIDTH = 8
_ENDS = 4096
"""Marks of claims that came to their ends, behind that of whoever came last to the file."""
_HERE = 1 << 40
"""The place that is locked by all who use the file, behind its content; claims are behind it."""


class Claim(NamedTuple):
    """What a process holds while it makes an output, until the store has that."""

    place: int
    since: float
    waited: bool
    """Whether another one had it before."""


class ClaimLook(NamedTuple):
    """What others had made of a trial's outputs when the store was asked for all of them."""

    arrival: bytes | None
    """Who had come last then; None if others were there."""
    until: float
    """When it is time to ask again: on other machines somebody may make them, too."""
    made: frozenset[str]
    left: dict[str, tuple[str, ...]]
    """Cache keys of what the trial has not begun to make, and the ids to ask for."""


class Claims:
    """The claims of this process beside one store's journals.

    Parameters
    ----------
    folder : Path
        Where the journals are.

    Attributes
    ----------
    made : list of Claim
        Those whose outputs were made and are not known to be delivered.
    looks : OrderedDict
        Token of a trial -> what others had made of it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CLAIMS / "locks"
        self._lock = threading.Lock()
        self._held: set[int] = set()
        self._file = -1
        self._latest = self._first = 0.0
        """When something was made or delivered last, and when the first of `made` was made."""
        self.made: list[Claim] = []
        self.looks: OrderedDict[str, ClaimLook] = OrderedDict()

    def take(self, name: str, settle: Callable[[], object]) -> Claim | None:
        """Claim a name, such as a cache key; wait for whoever has it.

        If whoever has it comes to its end, what it made may be there. Then nothing is claimed any
        more, and those that waited go on side by side. If it died, one of them has its claim.

        Parameters
        ----------
        name : str
        settle : callable
            Delivers what was made here: others may wait for that, and this one for them.

        Returns
        -------
        Claim or None
            None if there is no claim to be had.
        """
        number = int.from_bytes(blake2b(name.encode(), digest_size=6).digest(), "big")
        place, mark, pause = _HERE + 1 + number, _WIDTH * (1 + number % _ENDS), 0.0
        before = b""
        while True:
            with self._lock:
                try:
                    if place not in self._held and self._locked(place):
                        break
                    found = os.pread(self._file, _WIDTH, mark)
                except OSError:
                    return None  # another user's file, a full disk, or no locks in this file system
            if not pause:
                before = found
            if self.made or not pause:
                settle()
            pause = min(2 * pause, _LONGEST_PAUSE) or _FIRST_PAUSE
            time.sleep(pause)  # not a lock that blocks: Ctrl-C ends the wait
        claim = Claim(place, time.monotonic(), bool(pause))
        if pause and self._mark(mark) != before:
            self.give_back(claim)
            return None
        return claim

    def give_back(self, *claims: Claim) -> None:
        """End claims: the store has what was made, or it was not made."""
        with self._lock:
            for place, _, _ in claims:
                self._held.discard(place)
                with suppress(OSError):  # closed, at the end of the process
                    mark = _WIDTH * (1 + (place - _HERE - 1) % _ENDS)
                    os.pwrite(self._file, os.urandom(_WIDTH), mark)
                    fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)

    def keep(self, claim: Claim) -> bool:
        """Hold a claim until what was made by it is delivered; return whether that is due now."""
        now = time.monotonic()
        with self._lock:
            if not self.made:
                self._first = now
            self.made.append(claim)
            # What took long is worth a delivery of its own, and what comes first may stay alone.
            slow = now - claim.since > _BURST or claim.since - self._latest > _BURST
            self._latest = now
            return slow or now - self._first > _BATCH or len(self.made) >= _MOST

    def ready(self) -> list[Claim]:
        """Return the claims whose outputs are delivered by a delivery that begins now."""
        with self._lock:
            return self.made.copy()

    def delivered(self, claims: list[Claim]) -> None:
        """End the claims that were ready when a delivery began, whatever came of it."""
        with self._lock:
            del self.made[: len(claims)]
            self._latest = time.monotonic()
        self.give_back(*claims)

    def arrival(self) -> bytes | None:
        """Return who came last to the file; None if anybody else is there, or it cannot be told.

        While it is the same one that comes last nobody else has claimed anything.
        """
        with self._lock, suppress(OSError):
            file = self._opened()
            found = os.pread(file, _WIDTH, 0)
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _HERE)  # but for those who are here
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _HERE)
            return found
        return None

    def is_alone(self, arrival: bytes | None) -> bool:
        """Return whether nobody came to the file after this one."""
        return arrival is not None and self._mark(0) == arrival

    def rest(self) -> None:
        """Close the file until it is needed again, unless something is claimed."""
        with self._lock:
            if self._file >= 0 and not self._held:
                os.close(self._file)
                self._file = -1

    def close(self) -> None:
        """Close the file, which ends all claims: no other of this process may be opened before.

        Closing any of them ends the locks of all. Takes no lock, as it is called in a forked child.
        """
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _mark(self, at: int) -> bytes:
        with suppress(OSError):
            return os.pread(self._file, _WIDTH, at)
        return b""

    def _locked(self, place: int) -> bool:
        try:
            fcntl.lockf(self._opened(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except BlockingIOError:
            return False
        self._held.add(place)
        return True

    def _opened(self) -> int:
        """Return the open file, with a mark of who came last; OSError if there is none."""
        if self._file >= 0:
            if self._held or os.fstat(self._file).st_nlink:
                return self._file
            os.close(self._file)  # it was deleted, and others use a new one
            self._file = -1
        if "fcntl" not in globals():
            raise OSError("files cannot be locked here")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            file = os.open(self._path, flags, rights.PRIVATE_FILE)
        except FileNotFoundError:
            rights.make_folder(self._path.parent, rights.PRIVATE_FOLDER)
            file = os.open(self._path, flags, rights.PRIVATE_FILE)
            rights.share(self._path)
        try:
            # First: who is here and has not said so has claimed nothing either.
            fcntl.lockf(file, fcntl.LOCK_SH, 1, _HERE)
            os.pwrite(file, os.urandom(_WIDTH), 0)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return file

    def __del__(self) -> None:
        # When the interpreter ends, a module's names are None.
        if self._file >= 0 and os is not None:
            self.close()
