"""Pages of a long stream, which SQLite gathers as texts: they are what reading row by row gives."""

from __future__ import annotations

import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daskperiment.codec import encode
from daskperiment.errors import StoreWarning
from daskperiment.records import Ended, Failure
from daskperiment.store.file import FileStore, stream_reader
from daskperiment.store.protocol import Record, Stored
from daskperiment.store.record_pages import RecordPage, RowColumns
from tests.helpers.late_reads import WAYS, printed_late

COUNT = 150
CHANGES = {
    "nothing": "SET body = body WHERE 0",
    "a line end in an id": "SET id = 'ended' || char(10) || 'x' WHERE trial = 50 AND id != 'begun'",
    "a comma in an id": "SET id = 'ended,x' WHERE trial = 50 AND id != 'begun'",
    "no text in an id": "SET id = CAST(x'656e64ff' AS TEXT) WHERE trial = 50 AND id != 'begun'",
    "a line end between values": "SET body = replace(body, ',2', ',' || char(10) || ',2')"
                                 " WHERE trial = 50",
    "a row as bytes": "SET body = CAST(body AS BLOB) WHERE trial = 50",
    "a body that is a number": "SET body = 7 WHERE trial = 50",
    "bytes that are no text": "SET body = CAST(x'5bff2c5d' AS TEXT) WHERE trial = 50",
    "a trial that is a text": "SET trial = 'x' WHERE trial = 50",
    "a trial as bytes": "SET trial = x'3530' WHERE trial = 50 AND id != 'begun'",
    "an id as bytes": "SET id = CAST('ended-y' AS BLOB) WHERE trial = 50 AND id != 'begun'",
    "rows that make up for each other":
        "SET body = CASE trial WHEN 50 THEN replace(body, ']', ',' || char(10) || ',' ||"
        " substr(body, instr(body, ',') + 1)) WHEN 61 THEN substr(body, 1, instr(body, ',')) ||"
        " '1.0' ELSE substr(body, 1, instr(body, ',')) || '1]' END"
        " WHERE trial IN (50, 61, 62) AND id != 'begun'",
    "a row that begins like another": "SET body = replace(body, ']', ',1]') WHERE trial = 50",
    "one with a value less, one with a value more":
        "SET body = CASE trial WHEN 50 THEN replace(body, ',49,', ',') ELSE "
        "replace(body, ']', ',1]') END WHERE trial IN (50, 61)",
    "two rows in one": "SET body = body || ',' || body WHERE trial = 50",
    "an empty body": "SET body = '' WHERE trial = 50",
    "nothing at all": "SET body = body WHERE 0; DELETE FROM trials",
}  # fmt: skip


def write(store: FileStore, count: int = COUNT) -> None:
    for number in range(count):
        trial = store.allocate(f"token-{number}", b'{"begun":%d}' % number).trial
        failure = Failure("ValueError", f"bad, very bad {number}", "", "fit")
        failed = Ended("failed", 1.0 + number, 0.5, failure=failure)
        end = failed if number % 7 == 3 else Ended("succeeded", 2.0 + number, 0.5, None, number)
        store.append([Record("trials", trial, "ended-x", encode(end, trial))])


def records(pages: list[RecordPage]) -> list[Stored]:
    found = [one for page in pages for one in page.records]
    return sorted(
        [*found, *(one for page in pages for each in page.filled for one in each.whole())]
    )


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_reader, "_LONG_PAGE", 70)


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_stands_in_a_row(tmp_path: Path, change: str) -> None:
    """Each record is what `read` gives, and what is no record is left out with a warning."""
    store = FileStore(tmp_path / "demo")
    write(store)
    store.close()
    with closing(sqlite3.connect(tmp_path / "demo" / "records.sqlite")) as connection:
        connection.executescript(f"UPDATE trials {CHANGES[change]}")
    told: list[list[str]] = []
    found: list[Any] = []
    for read in (lambda: records([*store.read_pages("trials")]), lambda: [*store.read("trials")]):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", StoreWarning)
            found.append(read())
        told.append([str(one.message) for one in said])
    assert found[0] == found[1]
    assert told[0] == told[1]
    store.close()


def test_rows_are_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows that are all right no row is fetched by itself: one question and one row a page."""
    store = FileStore(tmp_path / "demo")
    write(store)
    fetched: list[int] = []
    taken = RowColumns.of
    monkeypatch.setattr(RowColumns, "of", lambda rows: fetched.append(len(rows)) or taken(rows))
    pages = [*store.read_pages("trials")]
    assert not fetched
    assert len(pages) == 2 * COUNT // 70 + 1
    assert sum(len(each.trials) for page in pages for each in page.filled) > COUNT // 2
    store.close()


def test_the_next_page_is_gathered_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who goes through a page does not wait for the next one, which is asked for before."""
    store = FileStore(tmp_path / "demo")
    write(store)
    asked: list[int] = []
    gathered = stream_reader.StreamReader._gathered
    monkeypatch.setattr(
        stream_reader.StreamReader, "_gathered",
        lambda self, stream, after, most: (
            asked.append(after) or gathered(self, stream, after, most)
        ),
    )  # fmt: skip
    pages = iter(store.read_pages("trials"))
    first = next(pages)
    assert asked == [0, first.last.position]
    pages.close()
    monkeypatch.setattr(stream_reader, "ask_ahead", lambda threads, ask: ask)  # no thread is had
    assert records([*store.read_pages("trials")]) == [*store.read("trials")]
    store.close()


@pytest.mark.parametrize("odd", [False, True], ids=["gathered", "row by row"])
def test_long_records_come_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: bool
) -> None:
    """No page but the first takes more memory where a trial has long values; all are there."""
    store = FileStore(tmp_path / "demo")
    for number in range(100):
        store.allocate(f"token-{number}", b'{"begun":"%b"}' % (b"x" * 300))
    monkeypatch.setattr(stream_reader, "_FIRST_PAGE", 10)
    monkeypatch.setattr(stream_reader, "_PAGE_BYTES", 5_000)
    if odd:
        monkeypatch.setattr(RowColumns, "gathered", lambda *columns: None)
    pages = [*store.read_pages("trials")]
    assert records(pages) == [*store.read("trials")]
    sizes = [sum(len(one.body) for one in page.records) for page in pages]
    assert max(sizes) <= 5_000 + 500
    assert len(pages) <= 9
    store.close()


OPENING = """
from daskperiment.store.file import FileStore, stream_reader
stream_reader._LONG_PAGE = 70
store = FileStore(sys.argv[2])
begin = lambda: store.read_pages("trials")
size_of = lambda page: len(page.records) + sum(len(one.ids) for one in page.filled)
finish = lambda: None
"""


@pytest.mark.parametrize("way", WAYS)
def test_pages_where_no_thread_can_gather_them(tmp_path: Path, way: str) -> None:
    """Who reads while the interpreter ends, or reads on in a forked child, gets all pages."""
    store = FileStore(tmp_path / "demo")
    write(store)
    store.close()
    expected = [230, 230] if way == "fork" else [2 * COUNT]
    assert printed_late(way, OPENING, str(tmp_path / "demo")) == expected
