"""The columns of trials that ended, kept beside their records.

What ended does not change, so it need not be folded by each reader again. Whoever reads many
records writes the columns that they came to into files, and the next reader folds only what was
written since. These files are nobody's records: they may be deleted at any time, and are not
trusted where they do not fit. They name the last record that they hold, which has to be there as it
was, and each of their parts has a digest. A store that lost records, of which trials were deleted
since, or in whose stream something was set aside, is read as a whole.

::

    index.json      up to which record, which trials had not ended, and the files
    <digest>.part   columns of some trials: a header in JSON, and their bytes
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from xxhash import xxh3_128_hexdigest

from daskperiment.history.table_columns import CodedColumn, Column, NumberColumn, absent
from daskperiment.history.trial_columns import (
    FoldedTrials,
    TrialColumns,
    endless_columns,
    fold_pages,
    fold_trials,
    settled,
)
from daskperiment.history.trial_records import PIECE, RecordedTrial, intact
from daskperiment.records import BEGUN
from daskperiment.store import rights
from daskperiment.store.opening import columns_folder, read_pages
from daskperiment.store.protocol import Inspectable, Store, Stored
from daskperiment.store.record_pages import RecordPage, pages_of
from daskperiment.vouching import VouchedStore

__all__ = [
    "EndedTrials",
    "KnownColumns",
    "all_columns",
    "keep",
    "latest_columns",
    "load_kept",
    "resumed_by",
]

WORTH = 1_000
"""Trials that ended since, from which on their columns are kept for the next reader."""
_VERSION = 3
_LEFT = 600.0
"""Seconds after which a file that no index names is removed: somebody may still read it."""
_FAILURES = (OSError, ValueError, KeyError, IndexError, TypeError, msgspec.MsgspecError)
"""What comes of files that are damaged, of another version, or just removed."""


class _Bytes(Struct, array_like=True, frozen=True):
    """Where some bytes of a file stand, and their digest."""

    start: int
    size: int
    digest: str


class _KeptColumn(Struct, array_like=True, frozen=True):
    """A column in a file: numbers, or codes and the values that they stand for."""

    dtype: str
    """Of the numbers; empty for codes."""
    cells: _Bytes
    present: _Bytes | None = None
    values: _Bytes | None = None
    count: int = 0
    """Of the values."""
    same: bool = False
    """Whether one code stands for all rows."""


class _Header(Struct, frozen=True):
    rows: int
    trials: _KeptColumn
    fields: dict[str, _KeptColumn]
    parameters: dict[str, _KeptColumn]


class _Index(Struct, frozen=True):
    """What the files hold, and up to which record."""

    version: int
    position: int
    trial: int
    id: str
    body: str
    """Digest of the last record's body."""
    pending: list[int]
    files: list[str]


class _Sealed(Struct):
    digest: str
    index: msgspec.Raw


class KnownColumns(NamedTuple):
    """What was kept, as far as it is whole."""

    state: _Index
    parts: list[TrialColumns]

    def fits(self, store: Store, first: Stored | None) -> bool:
        """Whether the last record that is known stands in the store as it did."""
        index = self.state
        if first is None or first[:3] != (index.position, index.trial, index.id):
            return False
        if xxh3_128_hexdigest(first.body) != index.body:
            return False
        # Of a record that was set aside nothing tells which one it was.
        return not (isinstance(store, Inspectable) and store.has_aside())


def all_columns(store: Store, running: bool) -> TrialColumns:
    """Return all trials of a store that ended or are lost, and if asked for those that run."""
    ended = EndedTrials(store)
    ended.follow()
    return settled([*ended.parts, endless_columns(store, ended.pending, running)])


class EndedTrials:
    """The trials of a store that ended, kept up to date by reading what is new.

    Parameters
    ----------
    store : Store
    warn : bool
        Whether to warn of damaged records.
    """

    def __init__(self, store: Store, warn: bool = True) -> None:
        self._store = store
        self._warn = warn
        self._position = 0
        self.parts: list[TrialColumns] = []
        """What stands later holds."""
        self.pending: Collection[int] = ()
        """Ids of the trials without an end."""
        self.damaged = 0
        """Records that could not be read and are left out."""
        self.reached = 0
        """The trial up to which was read, while much is read at once."""
        self._is_stopped = False

    def stop(self) -> None:
        """Have a thread that reads for the first time raise CancelledError, and keep nothing."""
        self._is_stopped = True

    def follow(self) -> bool:
        """Read what is new, and return whether there was anything."""
        if not self._position:
            return self._begin()
        records = iter(self._store.read("trials", after=self._position))
        first = next(records, None)
        if first is None:
            return False
        found = fold_trials(self._store, chain([first], records), self.pending, self._warn)
        self._add(self._from_the_beginning() if found.removed else found)
        return True

    def _from_the_beginning(self) -> FoldedTrials:
        """Forget what is known, for trials were deleted of which that tells, and read all."""
        self.parts, self.pending, self.damaged = [], (), 0
        pages = self._watched(read_pages(self._store, "trials", PIECE))
        return fold_pages(self._store, pages, (), self._warn)

    def _watched(self, pages: Iterable[RecordPage]) -> Iterator[RecordPage]:
        for page in pages:
            if self._is_stopped:
                raise CancelledError(f"nobody needs the trials of {self._store.address} any more")
            self.reached = page.last.trial
            yield page

    def _begin(self) -> bool:
        store, folder = self._store, columns_folder(self._store)
        if isinstance(store, VouchedStore):  # each record is held against its signature
            self._add(self._from_the_beginning())
            return bool(self._position)
        known = load_kept(folder)
        found = None
        if known is not None:
            records = iter(store.read("trials", after=known.state.position - 1))
            if known.fits(store, next(records, None)):
                pages = self._watched(pages_of(records, PIECE))
                found = fold_pages(store, pages, known.state.pending, self._warn)
        if known is None or found is None or found.removed:
            known, found = None, self._from_the_beginning()
        else:  # now that all of it was read
            self.parts, self._position = known.parts, known.state.position
        count = sum(len(one.trials) for one in found.parts)
        if found.last and not found.damaged and count >= WORTH:
            keep(folder, known, found.parts, found.last, sorted(found.pending))
        self._add(found)
        return bool(self._position)

    def _add(self, found: FoldedTrials) -> None:
        for part in found.parts:
            # Parts that are as small are joined with it, so that there are never many.
            while self.parts and len(self.parts[-1].trials) < 2 * len(part.trials):
                part = TrialColumns.stacked([self.parts.pop(), part])
            self.parts = [*self.parts, part]
        self.pending = found.pending
        self.damaged += found.damaged
        if found.last is not None:
            self._position = found.last.position


def latest_columns(store: Store, count: int, running: bool, warn: bool = True) -> TrialColumns:
    """Return the latest trials that a table shows, at least so many if there are.

    No other records are read.
    """
    # One part at least, which has the columns: the trials may be gone by now.
    parts = [endless_columns(store, (), running)]
    high, size = store.state().latest, 2 * count + 20
    while high > 0 and sum(len(part.trials) for part in parts) < count:
        low = max(0, high - size)
        found = fold_trials(store, store.read("trials", range(low + 1, high + 1)), (), warn)
        parts += [*found.parts, endless_columns(store, found.pending, running)]
        high, size = low, 4 * size
    return settled(parts)


class _Link(Struct, gc=False):
    """Of a trial's first record, which trial it goes on from."""

    resumes: int | None = None


def resumed_by(store: Store, trial: RecordedTrial) -> list[int]:
    """Return the trials that went on from one; none did from one that succeeded."""
    latest = store.state().latest
    if trial.status in ("succeeded", "running") or latest <= trial.trial:
        return []
    rest: Collection[int] = range(trial.trial + 1, latest + 1)
    found: set[int] = set()
    if len(rest) > WORTH and not isinstance(store, VouchedStore):
        ended = EndedTrials(store)
        ended.follow()
        for part in ended.parts:
            links = part.fields.get("resumes", absent(len(part.trials))).coded()
            found.update(part.trials[links.truths(lambda one: one == trial.trial)].tolist())
        rest = ended.pending
    begun = (one for one in store.read("trials", rest) if one.id == BEGUN)
    found.update(one for one, link in intact(begun, _Link) if link.resumes == trial.trial)
    return sorted(found)


# Reading ------------------------------------------------------------------------------------------


def load_kept(folder: Path) -> KnownColumns | None:
    """Return what is kept in a folder, ``None`` if nothing is or if it is damaged."""
    try:
        sealed = msgspec.json.decode((folder / "index.json").read_bytes(), type=_Sealed)
        if xxh3_128_hexdigest(bytes(sealed.index)) != sealed.digest:
            return None
        index = msgspec.json.decode(sealed.index, type=_Index)
        if index.version != _VERSION:
            return None
        return KnownColumns(index, [_read_part(folder / name) for name in index.files])
    except _FAILURES:
        return None


def _read_part(path: Path) -> TrialColumns:
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > os.fstat(file.fileno()).st_size:
            raise ValueError(f"{path} is damaged")
        data = file.read(size)
        if xxh3_128_hexdigest(data) != path.stem:
            raise ValueError(f"{path} is damaged")
        header = msgspec.json.decode(data, type=_Header)
        checked = partial(_checked, file, 8 + size)

        def read(columns: dict[str, _KeptColumn]) -> dict[str, Column]:
            found = columns.items()
            return {name: _read_column(each, checked, header.rows) for name, each in found}

        ids = _read_column(header.trials, checked, header.rows)
        if not isinstance(ids, NumberColumn):
            raise ValueError(f"{path} has no ids")
        return TrialColumns(ids.values, read(header.fields), read(header.parameters))


def _read_column(kept: _KeptColumn, checked: Callable[[_Bytes], bytes], rows: int) -> Column:
    """Read a column into memory of its own, so that it goes when nobody needs it any more."""
    cells = np.frombuffer(checked(kept.cells), kept.dtype or "int32")
    if kept.same and len(cells) == 1:
        cells = np.broadcast_to(cells, rows)  # takes no memory
    if len(cells) != rows:
        raise ValueError("a column has another number of rows")
    if kept.dtype:
        mask = kept.present
        return NumberColumn(cells, None if mask is None else np.frombuffer(checked(mask), bool))
    values = checked(kept.values) if kept.values else b"[]"
    return CodedColumn(cells, partial(msgspec.json.decode, values), kept.count)


def _checked(file: BinaryIO, offset: int, where: _Bytes) -> bytes:
    file.seek(offset + where.start)
    found = file.read(where.size)
    if xxh3_128_hexdigest(found) != where.digest:
        raise ValueError("a column is damaged")
    return found


# Writing ------------------------------------------------------------------------------------------


def keep(
    folder: Path, known: KnownColumns | None, parts: list[TrialColumns], last: Stored,
    pending: list[int],
) -> None:  # fmt: skip
    """Keep the columns for the next reader, if that is possible."""
    files = list(known.state.files) if known else []
    before = list(known.parts) if known else []
    new = TrialColumns.stacked(parts)
    # Files that are as small are written anew with it, so that there are never many.
    while before and len(before[-1].trials) < 2 * len(new.trials):
        new = TrialColumns.stacked([before.pop(), new])
        files.pop()
    try:
        header, buffers = _packed(new)
        files.append(f"{xxh3_128_hexdigest(header)}.part")
        rights.write(folder / files[-1], len(header).to_bytes(8, "little"), header, *buffers)
        index = msgspec.json.encode(
            _Index(
                _VERSION, last.position, last.trial, last.id, xxh3_128_hexdigest(last.body),
                pending, files,
            )
        )  # fmt: skip
        sealed = _Sealed(xxh3_128_hexdigest(index), msgspec.Raw(index))
        rights.write(folder / "index.json", msgspec.json.encode(sealed))
        _clear(folder, files)
    except (OSError, ValueError, TypeError, OverflowError):
        pass  # nobody may write there, the disk is full, or a value cannot be kept


def _clear(folder: Path, files: Collection[str]) -> None:
    for entry in list(os.scandir(folder)):
        if entry.name.endswith(".part") and entry.name not in files:
            with suppress(OSError):
                if time.time() - entry.stat().st_mtime > _LEFT:
                    os.unlink(entry.path)


def _packed(columns: TrialColumns) -> tuple[bytes, list[Any]]:
    buffers: list[Any] = []
    places = _placing(buffers)
    header = _Header(
        rows=len(columns.trials),
        trials=_pack_column(NumberColumn(columns.trials), places),
        fields={name: _pack_column(one, places) for name, one in columns.fields.items()},
        parameters={name: _pack_column(one, places) for name, one in columns.parameters.items()},
    )
    return msgspec.json.encode(header), buffers


def _placing(buffers: list[Any]) -> Callable[[Any], _Bytes]:
    """Return what adds bytes to the buffers, and says where they are; each begins aligned."""
    offset = 0

    def place(data: Any) -> _Bytes:
        nonlocal offset
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        where = _Bytes(offset, view.nbytes, xxh3_128_hexdigest(view))
        gap = -view.nbytes % 16
        buffers.extend((view, bytes(gap)))
        offset += view.nbytes + gap
        return where

    return place


def _pack_column(column: Column, place: Callable[[Any], _Bytes]) -> _KeptColumn:
    if isinstance(column, NumberColumn):
        mask = None if column.present is None else place(np.ascontiguousarray(column.present))
        cells = place(np.ascontiguousarray(column.values))
        return _KeptColumn(column.values.dtype.str, cells, mask)
    values = column.values
    codes = column.codes
    same = len(codes) > 1 and bool((codes == codes[0]).all())
    cells = place(np.ascontiguousarray(codes[:1] if same else codes, "int32"))
    return _KeptColumn("", cells, None, place(msgspec.json.encode(values)), len(values), same)
