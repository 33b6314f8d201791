"""A disk that forgets: what is left of a folder when the power goes at some moment.

A program is recorded with ``strace``. What it wrote is done again up to a moment; of what was not
synchronised by then nothing is left, or any part of it. Names are as durable as the last time that
anything was synchronised, as on file systems with a journal; contents only if their own file was.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Disk", "Operation", "record"]

_CALLS = (
    "open,openat,pwrite64,write,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlink,unlinkat,"
    "lseek,close,?writev,?pwritev,?fallocate,?copy_file_range,?sendfile"
)
_LINE = re.compile(rb"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_UNFINISHED = re.compile(rb"(\d+) +(\w+\(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(rb"(\d+) +<\.\.\. \w+ resumed>(.*)$")
_TEXT = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"|<((?:\\x[0-9a-f]{2})*)>')


class Operation(NamedTuple):
    """One call that changed files, or told that they are safe."""

    call: str
    paths: tuple[str, ...]
    data: bytes = b""
    offset: int = -1
    """Where it was written, or how long the file is now; -1 for where the file's position was."""
    said: str = ""
    """What the program said by then, of a write to its standard output."""


def record(folder: Path, log: Path, command: Sequence[str], env: dict[str, str]) -> list[Operation]:
    """Run a program, and return what it did to the files of a folder, and what it said."""
    order = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-y",
        "-xx",
        "-s",
        str(1 << 28),
        "-e",
        f"trace={_CALLS}",
    ]
    found = subprocess.run(
        [*order, "-o", str(log), *command], env=env, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return list(_operations(log.read_bytes().splitlines(), str(folder)))


def _operations(lines: Sequence[bytes], folder: str) -> Iterator[Operation]:
    begun: dict[bytes, bytes] = {}
    for line in lines:
        if unfinished := _UNFINISHED.match(line):
            begun[unfinished[1]] = unfinished[2]
            continue
        if resumed := _RESUMED.match(line):
            line = resumed[1] + b" " + begun.pop(resumed[1]) + resumed[2]
        found = _LINE.match(line)
        if found is None or int(found[4]) < 0:
            continue
        operation = _operation(found[2].decode(), found[3], int(found[4]))
        if operation.said or any(path.startswith(folder) for path in operation.paths):
            yield operation


def _operation(call: str, arguments: bytes, returned: int) -> Operation:
    texts = [
        (_bytes(a), False) if a or not b else (_bytes(b), True) for a, b in _TEXT.findall(arguments)
    ]
    names = [
        text.decode("utf-8", "replace").removesuffix(" (deleted)")
        for text, is_file in texts
        if is_file
    ]
    rest = [text for text, is_file in texts if not is_file]
    if call in ("write", "pwrite64"):
        data = (rest[0] if rest else b"")[:returned]
        if arguments.startswith(b"1<"):
            return Operation("say", (), said=data.decode())
        offset = int(arguments.rpartition(b", ")[2]) if call == "pwrite64" else -1
        return Operation("write", (names[0],), data, offset)
    if call == "ftruncate":
        return Operation(call, (names[0],), offset=int(arguments.rpartition(b", ")[2]))
    if call == "lseek":
        return Operation(call, (names[0],), offset=returned)
    if call.startswith(("rename", "unlink", "open")):
        name = call.rstrip("2").removesuffix("at")
        flags = (
            "truncate" if b"O_TRUNC" in arguments else "create" if b"O_CREAT" in arguments else ""
        )
        # Of a call with a folder's descriptor the paths are absolute here.
        paths = tuple(text.decode() for text in rest)
        return Operation(name, paths, flags.encode())
    if call == "fallocate" and b"FALLOC_FL_KEEP_SIZE," in arguments:
        return Operation("close", tuple(names[:1]))  # room alone: nothing is in the file by that
    assert call in ("fsync", "fdatasync", "close"), f"{call} is not known to the disk that forgets"
    return Operation("sync" if call != "close" else call, tuple(names[:1]))


def _bytes(text: bytes) -> bytes:
    return bytes.fromhex(text.replace(b"\\x", b"").decode())


class _File:
    """What is in a file, and what of it would be left."""

    def __init__(self) -> None:
        self.now, self.safe = bytearray(), b""
        self.position = 0
        self.unsafe: list[tuple[int, bytes]] = []

    def write(self, offset: int, data: bytes) -> None:
        """Write at an offset."""
        if len(self.now) < offset:
            self.now.extend(bytes(offset - len(self.now)))
        self.now[offset : offset + len(data)] = data
        self.unsafe.append((offset, data))

    def truncate(self, size: int) -> None:
        """Make it so long."""
        self.now = bytearray(self.now[:size].ljust(size, b"\0"))
        self.unsafe.append((size, b""))

    def sync(self) -> None:
        """Make all of it safe."""
        self.safe, self.unsafe = bytes(self.now), []

    def some(self, rng: random.Random) -> bytes:
        """Return what is safe and any part of the rest, in any order of writing."""
        left = bytearray(self.safe)
        for offset, data in self.unsafe:
            if rng.random() < 0.5:
                continue
            if not data and offset < len(left):
                del left[offset:]
            left.extend(bytes(max(0, offset - len(left))))
            left[offset : offset + len(data)] = data
        return bytes(left)


class Disk:
    """Files under a folder, as a recorded program changes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._now: dict[str, _File] = {}
        self._safe: dict[str, _File] = {}
        self.said = ""
        self.synced = ""
        """What was said when anything was synchronised last."""

    def do(self, operation: Operation) -> None:
        """Do what the program did."""
        call, paths = operation.call, operation.paths
        if call == "say":
            self.said += operation.said
            return
        file = self._now.get(paths[0])
        if call == "open" and operation.data:
            if file is None and paths[0].startswith(self._folder):
                self._now[paths[0]] = _File()
            elif file is not None and operation.data == b"truncate":
                file.truncate(0)
        elif call == "rename" and file is not None:
            self._now[paths[1]] = self._now.pop(paths[0])
        elif call == "unlink":
            self._now.pop(paths[0], None)
        elif call == "sync":
            self._safe, self.synced = dict(self._now), self.said
            if file is not None:
                file.sync()
        elif file is not None and call in ("write", "ftruncate", "lseek"):
            self._change(file, operation)

    @staticmethod
    def _change(file: _File, operation: Operation) -> None:
        if operation.call == "ftruncate":
            file.truncate(operation.offset)
        elif operation.call == "lseek":
            file.position = operation.offset
        elif operation.offset >= 0:
            file.write(operation.offset, operation.data)
        else:
            file.write(file.position, operation.data)
            file.position += len(operation.data)

    def lay_out(self, target: Path, rng: random.Random | None) -> None:
        """Write what is left when the power goes now: all that is safe, and with `rng` more."""
        shutil.rmtree(target, ignore_errors=True)
        names = self._safe if rng is None or rng.random() < 0.5 else self._now
        for path, file in names.items():
            copy = target / os.path.relpath(path, self._folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.safe if rng is None else file.some(rng))

    def matches(self, folder: Path) -> bool:
        """Whether the files are what the program left in its folder."""
        left = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return left == {path: bytes(file.now) for path, file in self._now.items()}
