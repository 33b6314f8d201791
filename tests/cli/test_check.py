"""``daskperiment check``: one line for each finding, an exit status, and a repair if asked for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import daskperiment
from daskperiment.cli.checkup import examine
from daskperiment.errors import StoreError
from tests.cli.conftest import Command, as_new_process, one_line

PAGE = 4096


def database(folder: Path) -> Path:
    return folder / "daskperiment_cache" / "pairs" / "records.sqlite"


def damage_points(file: Path) -> None:
    """Overwrite the pages that hold step runs, which all name a thread."""
    data = bytearray(file.read_bytes())
    hurt = [n for n in range(1, len(data) // PAGE) if b'"thread"' in data[n * PAGE :][:PAGE]]
    assert hurt
    for n in hurt[:1]:
        data[n * PAGE : (n + 1) * PAGE] = b"\xa5" * PAGE
    file.write_bytes(data)


def test_healthy(trials: Command) -> None:
    """A store without damage is one line, and status 0, for one experiment and for all."""
    as_new_process()
    for command in (["check"], ["check", "pairs"], ["check", "pairs", "--repair"]):
        answer = trials(*command)
        assert answer.status == 0, answer
        assert answer.out.startswith("pairs: nothing is damaged; ")
        assert answer.out.count("\n") == 1


@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
def test_damaged_page_is_repaired(trials: Command, folder: Path) -> None:
    """A damaged page is told with its remedy, status 1; the remedy works and keeps the file."""
    as_new_process()
    before = trials("history", "pairs").out
    as_new_process()
    damage_points(database(folder))
    answer = trials("check", "pairs")
    assert answer.status == 1, answer
    assert f"{database(folder)}: damaged: " in answer.out
    assert "run `daskperiment check --repair`" in answer.out
    assert trials("history", "pairs").out == before
    as_new_process()
    answer = trials("check", "--repair")
    assert answer.status == 0, answer
    assert "records.sqlite: repaired" in answer.out
    assert len(list(database(folder).parent.glob("records.*.sqlite"))) == 1
    as_new_process()
    assert trials("check").status == 0
    assert trials("history", "pairs").out == before


def test_single_damaged_record_is_set_aside(trials: Command, folder: Path) -> None:
    """A step run of which a byte changed is told with its remedy, which works and keeps it."""
    as_new_process()
    connection = sqlite3.connect(database(folder))
    with connection:
        connection.execute(
            "UPDATE steps SET body = replace(body, 'succeeded', 'succeedet') WHERE position = 1"
        )
    connection.close()
    answer = trials("check", "pairs")
    assert answer.status == 1, answer
    assert "of trial 1 in 'steps'" in answer.out
    assert "run `daskperiment check --repair` to set it aside" in answer.out
    answer = trials("check", "--repair")
    assert answer.status == 0, answer
    assert "in 'steps': repaired" in answer.out
    as_new_process()
    assert trials("check").status == 0
    assert len(trials("steps", "pairs").table) == 1 + 5
    connection = sqlite3.connect(database(folder))
    (body,) = connection.execute("SELECT body FROM _aside").fetchone()
    connection.close()
    assert "succeedet" in body


def test_damage_that_cannot_be_repaired_stays_told(trials: Command, folder: Path) -> None:
    """A file that is no database is one line, with and without --repair, and is left alone."""
    as_new_process()
    database(folder).write_bytes(b"something else" * 1000)
    for options in ([], ["--repair"]):
        answer = trials("check", "pairs", *options)
        assert answer.status == 1, answer
        assert "records.sqlite" in answer.out + answer.err
    assert database(folder).read_bytes() == b"something else" * 1000


def test_wrong_use(trials: Command) -> None:
    """An unknown experiment is status 2, and the known ones are named."""
    one_line(trials("check", "pears"), 2, "'pears'", "pairs")
    assert trials("check", "--timeout", "0").status == 2


def test_no_time(trials: Command) -> None:
    """A check that was cut short says so, and is no success."""
    answer = trials("check", "pairs", "--timeout", "0.1")
    if answer.status:
        assert "no time for the others" in answer.out


def test_what_is_damaged_is_set_aside_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy for damaged objects works: set aside by a repair, the trial keeps them again."""

    def make(count: int) -> bytes:
        return b"large" * count

    ex = daskperiment.Experiment("hurt", backend=tmp_path)
    node = ex.result(len)(ex.persist(make)(ex.parameter("count")))
    for count in (400_000, 400_001):
        node.bind(count=count).compute(scheduler="synchronous")
    hurt, other = sorted(
        (tmp_path / "hurt/objects").glob("*/*/*"), key=lambda path: path.stat().st_size
    )
    hurt.write_bytes(bytes(hurt.stat().st_size))
    (found,) = examine(ex._store).findings
    assert "damaged" in found.what
    assert "--repair" in found.remedy
    with monkeypatch.context() as patched:
        patched.setattr(type(ex._store), "get", _refuse)
        unread = [one for one in examine(ex._store).findings if "unreadable" in one.what]
        assert unread
        assert all(one.mend is None for one in unread)  # it may be over in a moment
    assert found.mend is not None
    found.mend()
    assert not hurt.exists()
    assert other.exists()
    node.bind(count=400_000).compute(scheduler="synchronous")
    assert ex.get_persisted("make", 1) == ex.get_persisted("make", 3) == make(400_000)
    assert examine(ex._store).findings == []


def _refuse(*args: object) -> None:
    raise StoreError("a bad connection")
