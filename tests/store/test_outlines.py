"""What bodies have in common is kept once, and each comes back as it was written."""

from __future__ import annotations

import json
import random
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_hexdigest

from daskperiment.errors import StoreError
from daskperiment.records import BEGUN
from daskperiment.store.file import FileStore
from daskperiment.store.outlines import AFTER, GAPS, Outlines
from daskperiment.store.protocol import Record, Stored
from daskperiment.store.repair import repair

VALUES: tuple[Any, ...] = (
    1, -2.5e-300, True, None, "", "a, b", 'a"b\\', "\x01\x1f\x00", "%b %d %%", "é\u2028", "[1,2]",
    [], [1, [2, "x,]"]], {}, {"a": {"b": [1, "},{"]}}, "x" * 300, "0000000003", 2**70,
)  # fmt: skip


def body(rng: random.Random, kind: int, trial: int) -> bytes:
    """Return the JSON of one of several kinds of bodies, with values of any kind in some fields."""
    fields: dict[str, Any] = {"kind": "of a kind that is known by this text", "number": kind}
    fields |= {f"field {place} %b": rng.choice(VALUES) for place in range(kind + 1)}
    fields["arguments"] = {name: {"text": str(kind), "fingerprint": rng.choice(VALUES)}
                           for name in ("a%", 'b"', "c")}  # fmt: skip
    fields |= {"host": "some.host.of.some.length", "of": f"{trial:010x}", "checksum": rng.random()}
    if rng.random() < 0.02:
        fields["host"] = rng.choice(VALUES)
    blanks = rng.random() < 0.02
    text = json.dumps(fields, ensure_ascii=False, separators=None if blanks else (",", ":"))
    return text.encode()


def in_short(store: FileStore, stream: str) -> int:
    """Return how many rows of a stream fill an outline."""
    with closing(sqlite3.connect(store.folder / "records.sqlite")) as connection:
        query = f"SELECT count(*) FROM {stream} WHERE substr(body, 1, 1) = '['"
        return int(connection.execute(query).fetchone()[0])


def bodies(store: FileStore, *streams: str) -> dict[tuple[str, int, str], bytes]:
    found = {}
    for stream in streams:
        found |= {(stream, one.trial, one.id): one.body for one in store.read(stream)}
    return found


@pytest.mark.parametrize("seed", range(3))
def test_bodies_come_back_as_they_were(tmp_path: Path, seed: int) -> None:
    """Whatever stands in them, from several writers, each body is read to the byte."""
    rng = random.Random(seed)
    stores = [FileStore(tmp_path / "ex") for _ in range(2)]
    written = {}
    for number in range(1, 201):
        first = body(rng, 9, 0)
        store = rng.choice(stores)
        trial = store.allocate(f"token{number}", first).trial
        written["trials", trial, BEGUN] = first
        kinds = [rng.choice((0, 3, 9, 19)) for _ in range(4)]
        records = [Record("steps", trial, f"s{kind}#{10 + n}-1", body(rng, kind, trial))
                   for n, kind in enumerate(kinds)]  # fmt: skip
        records.append(Record("outputs", 0, f"x{number}", body(rng, 2, 0)))
        store.append(records)
        written |= {one[:3]: one.body for one in records}
        if rng.random() < 0.05:
            store.close()
    for store in (*stores, FileStore(tmp_path / "ex")):
        assert bodies(store, "trials", "steps", "outputs") == written
        assert in_short(store, "trials") > 100
        assert in_short(store, "steps") > 150
        found = store.find([f"x{number}" for number in range(1, 201)])
        assert {one[:3]: one.body for one in found}.items() <= written.items()
        again = [Record("outputs", 0, "x150", b'{"another":1}')]
        assert [one.body for one in store.append(again)] == [written["outputs", 0, "x150"]]
        store.close()


def plain(trial: int, place: int = 0) -> bytes:
    text = "what all of them have in common, and nobody writes twice"
    return b'{"text":"%b","place":%d,"time":%d}' % (text.encode(), place, trial * 7)


def filled(folder: Path, count: int = 40) -> tuple[FileStore, dict[Any, bytes]]:
    store = FileStore(folder)
    for number in range(1, count + 1):
        store.allocate(f"token{number}", plain(number))
        store.append([Record("steps", number, f"{name}-1", plain(number, name == "b"))
                      for name in "ab"])  # fmt: skip
    found = bodies(store, "trials", "steps")
    store.close()
    assert in_short(store, "steps") == 2 * (count - AFTER - 1)
    return store, found


FIXED = {f"name_of_parameter_{number}": number for number in range(20)}
DEEP = '{"a":' * 900 + "1" + "}" * 900


@pytest.mark.parametrize(
    ("values", "longest"),
    [
        (lambda n: FIXED | {"name_of_parameter_3": n}, 90),  # what none of the others repeats
        (lambda n: FIXED | {f"name_of_parameter_{n % 20}": n}, 650),  # more than there are outlines
        (lambda n: dict.fromkeys(FIXED, n), 650),  # more than there are gaps
        (lambda n: {"deep": {"er": {"and": {"on": n}}}, "same": FIXED}, 90),
        (lambda n: {"text": '"\x00', "n": n}, 90),  # what marks a gap while outlines are read
        (lambda n: {f"n{n}": n}, 90),
        (lambda n: json.loads(DEEP) if n % 2 else {"a": n}, 5_500),
    ],
)  # fmt: skip
def test_values_within_values(tmp_path: Path, values: Any, longest: int) -> None:
    """Rows have only what differs in a trial's parameters, and each fills an outline in the end."""
    store = FileStore(tmp_path / "ex")
    written = {}
    for number in range(1, 201):
        fields = {"text": "what all of them say", "parameters": values(number), "n": number}
        written[number] = json.dumps(fields, separators=(",", ":")).encode()
        store.allocate(f"token{number}", written[number])
        if number % 50 == 0:  # outlines are read again
            store.close()
    assert {one.trial: one.body for one in store.read("trials")} == written
    with closing(sqlite3.connect(tmp_path / "ex" / "records.sqlite")) as connection:
        rows = connection.execute("SELECT body FROM trials WHERE trial > 150").fetchall()
    store.close()
    assert {body[0] for (body,) in rows} == {"["}
    assert max(len(body) for (body,) in rows) < longest


def test_outputs_of_a_step(tmp_path: Path) -> None:
    """What is known of outputs is of one kind for each step, though the ids are digests."""
    store = FileStore(tmp_path / "ex")
    records = [
        Record("outputs", 0, f"{n:032x}", b'{"trial":%d,"key":"%b","step":"%b","output":"%032x"}'
               % (n, step, step, n)) for n in range(200) for step in (b"first", b"second")[n % 2 :]
    ]  # fmt: skip
    for start in range(0, len(records), 7):
        store.append(records[start : start + 7])
    assert in_short(store, "outputs") >= 200 - 2 * (AFTER + 1)
    assert [one.body for one in store.find([one.id for one in records[:50]])]
    store.close()


def test_a_write_that_is_undone(tmp_path: Path) -> None:
    """What a transaction learned that was rolled back is not filled by the next."""
    store = FileStore(tmp_path / "ex")
    records = [Record("steps", n, "a-1", plain(n)) for n in range(1, AFTER + 2)]
    with pytest.raises(StoreError):
        store.append([*records, Record("no stream", 1, "a", b"{}")])
    store.append(records)
    more = [Record("steps", n, "a-1", plain(n)) for n in range(AFTER + 2, AFTER + 9)]
    store.append(more)
    assert in_short(store, "steps") == 7
    assert bodies(store, "steps") == {one[:3]: one.body for one in [*records, *more]}
    store.close()


def test_a_database_that_was_made_anew(tmp_path: Path) -> None:
    """Another database under the same name has outlines of its own."""
    store, _ = filled(tmp_path / "ex", 15)
    assert bodies(store, "steps")
    FileStore(tmp_path / "ex").delete()
    other = FileStore(tmp_path / "ex")
    records = [Record("steps", n, "z-1", b'{"other":"%b","n":%d}' % (b"." * 50, n))
               for n in range(1, 15)]  # fmt: skip
    other.append(records)
    assert bodies(store, "steps") == {one[:3]: one.body for one in records}
    for each in (store, other):
        each.close()


def put_back(file: Path, backup: Path) -> None:
    """Put a database back to what a backup has, without another file in its place."""
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(file)) as target:
        source.backup(target)


def test_a_database_that_was_put_back(tmp_path: Path) -> None:
    """Who has it open fills no outline that went, and takes none for another that came since."""
    file, backup = tmp_path / "ex" / "records.sqlite", tmp_path / "backup"
    store, before = filled(tmp_path / "ex", 15)
    put_back(backup, file)
    for name in "cd":  # each time, outlines are made that the backup does not have
        records = [
            Record("steps", n, f"{name}-{n}", plain(n).replace(b"common", name.encode() * 6))
            for n in range(1, 30)
        ]
        store.append(records[:20])
        assert bodies(store, "trials", "steps") == before | {r[:3]: r.body for r in records[:20]}
        put_back(file, backup)
        other = FileStore(tmp_path / "ex")
        more = [Record("steps", n, f"e-{n}", plain(n).replace(b"nobody", b"no one"))
                for n in range(1, 30)]  # fmt: skip
        other.append(more)
        other.close()
        store.append(records[20:])
        written = before | {r[:3]: r.body for r in [*records[20:], *more]}
        assert bodies(store, "trials", "steps") == written
        fresh = FileStore(tmp_path / "ex")
        assert bodies(fresh, "trials", "steps") == written
        fresh.close()
        put_back(file, backup)
    store.close()


def test_outlines_that_come_back(tmp_path: Path) -> None:
    """Outlines that were missing when a reader looked for them are found once they are there."""
    store, written = filled(tmp_path / "ex", 15)
    with closing(sqlite3.connect(tmp_path / "ex" / "records.sqlite")) as connection:
        rows = connection.execute("SELECT * FROM _outlines").fetchall()
        with connection:
            connection.execute("DELETE FROM _outlines")
        assert bodies(store, "trials", "steps") != written
        with connection:
            connection.executemany("INSERT INTO _outlines VALUES (?, ?, ?, ?)", rows)
    assert bodies(store, "trials", "steps") == written
    store.close()


def pages(file: Path) -> dict[str, list[int]]:
    with closing(sqlite3.connect(file)) as connection:
        query = "SELECT name, pageno FROM dbstat WHERE name LIKE '%outlines%'"
        found: dict[str, list[int]] = {}
        for name, page in connection.execute(query):
            found.setdefault(name, []).append(page)
        return found


def damage(file: Path, names: list[str], how: str) -> None:
    """Damage what leads to outlines, or their text."""
    there = pages(file)
    data = bytearray(file.read_bytes())
    for page in [1] if how == "first page" else [one for name in names for one in there[name]]:
        start = 4096 * (page - 1)
        if how == "text":
            at = data.index(b"nobody writes", start, start + 4096)
            data[at] ^= 1
        else:
            data[start : start + 4096] = bytes(4096)
    file.write_bytes(data)


TABLE, INDEX = "_outlines", "sqlite_autoindex__outlines_1"


@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
@pytest.mark.parametrize(
    ("names", "how"),
    [([TABLE], "text"), ([INDEX], "text"), ([TABLE], "zeros"), ([INDEX], "zeros"),
     ([], "first page")],
)  # fmt: skip
def test_damaged_outlines(
    tmp_path: Path, names: list[str], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outline is read from its other copy, and found where no tree leads to it."""
    monkeypatch.setattr("daskperiment.store.file.recovery._PATIENCE", 60.0)
    store, written = filled(tmp_path / "ex")
    damage(tmp_path / "ex" / "records.sqlite", names, how)
    assert bodies(store, "trials", "steps") == written
    store.close()
    repair(tmp_path / "ex")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bodies(store, "trials", "steps") == written
    assert store.faults(5) == []
    store.close()


def test_outlines_that_are_lost(tmp_path: Path) -> None:
    """Rows whose outline is nowhere are given as they stand, and do not hide the others."""
    store, written = filled(tmp_path / "ex", 15)
    with closing(sqlite3.connect(tmp_path / "ex" / "records.sqlite")) as connection, connection:
        connection.execute("DELETE FROM _outlines")
    found = bodies(store, "steps")
    assert found.keys() == {key for key in written if key[0] == "steps"}
    assert sum(found[key] == written[key] for key in found) == 2 * (AFTER + 1)
    store.close()


@pytest.mark.parametrize("body", [b"[7]", b'[7,"a"]', b"[5]", b"[5,1,2]", b"[]"])
def test_rows_that_fill_no_outline_are_refused(body: bytes) -> None:
    """Read without a database, a row of an outline that is missing, or fits none, is no record."""
    text = '{"a":\x01}'
    outlines = [(5, (None, "begun", text, xxh3_64_hexdigest(f"begun\n{text}".encode())))]
    row = Stored(1, 1, "begun", b"[5,1]")
    assert Outlines.fill([row], outlines) == [row._replace(body=b'{"a":1}')]
    with pytest.raises(ValueError, match="fills no outline"):
        Outlines.fill([row._replace(body=body)], outlines)


def test_gaps_are_in_no_json() -> None:
    """No JSON text has the characters that stand for gaps, blanks between its parts included."""
    assert all(ord(gap) < 32 and gap not in "\t\n\r" for gap in GAPS)
    assert not set(json.dumps(GAPS, ensure_ascii=False)) & set(GAPS)
