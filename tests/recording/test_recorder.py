"""What cannot be recorded never gets in the way of the user's work."""

from __future__ import annotations

import errno
import os
import warnings
from contextlib import contextmanager

import numpy as np
import pytest

from daskperiment.errors import StoreError, StoreUnavailableError, StoreWarning
from daskperiment.recording.delivery import HeldRecords
from daskperiment.recording.journal import Journal
from daskperiment.recording.pending_objects import PendingObjects
from daskperiment.recording.registry import close_recorders, recorder_for
from daskperiment.records import Impurity
from daskperiment.store.protocol import Record


@pytest.fixture
def full_disk(monkeypatch):
    """Make every write to a journal fail, as on a full disk."""

    def refuse(*arguments):
        raise StoreError("no space left")

    monkeypatch.setattr(Journal, "write", refuse)
    monkeypatch.setattr(Journal, "point", refuse)


def test_result_survives_a_full_disk(ex, full_disk):
    """A result reaches the user although nothing of its trial can be written."""

    @ex.result
    def use():
        ex.save_metric("loss", 0, 1.0)
        return 5

    with pytest.warns(StoreWarning, match="no space left"):
        assert use().compute() == 5


@pytest.mark.parametrize("action", ["default", "error"])
def test_exception_survives_a_full_disk(ex, full_disk, action):
    """A step's exception reaches the user unchanged, even where warnings are errors."""

    @ex.result
    def use():
        raise KeyError("mine")

    with warnings.catch_warnings():
        warnings.simplefilter(action)
        if action == "default":
            with pytest.warns(StoreWarning), pytest.raises(KeyError, match="mine"):
                use().compute(scheduler="synchronous")
        else:
            with pytest.raises(KeyError, match="mine"):
                use().compute(scheduler="synchronous")


@pytest.fixture
def disk(monkeypatch):
    """Make a disk that tests break: writes to journals fail with what is set as its error."""
    state = {"error": None}
    write = os.pwrite

    def pwrite(*arguments):
        if state["error"] is not None:
            raise OSError(state["error"], os.strerror(state["error"]))
        return write(*arguments)

    monkeypatch.setattr(os, "pwrite", pwrite)
    return state


def break_in_a_step(ex, disk, error):
    """Run a trial whose disk breaks after its first point."""

    @ex.result
    def use():
        ex.save_metric("loss", 0, 0.0)
        disk["error"] = error
        for epoch in range(1, 50):
            ex.save_metric("loss", epoch, float(epoch))
        return 5

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert use().compute(scheduler="synchronous") == 5
    told = [str(each.message) for each in caught if each.category is StoreWarning]
    assert sum("waits in memory" in text for text in told) == 1


def recorded(ex):
    row = ex.get_history(verbose=True, running=True).loc[1]
    return row["Status"], row["Result"], ex.load_metric("loss", 1)[1].tolist()


WHOLE = ("succeeded", 5, [float(epoch) for epoch in range(50)])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_disk_that_fails_for_a_moment(ex, disk, error):
    """What a disk did not take waits in memory and is written when it does: all of it, once."""
    break_in_a_step(ex, disk, error)
    disk["error"] = None
    ex.flush()
    assert recorded(ex) == WHOLE
    assert len(ex.get_steps(1)) == 1


def test_store_takes_what_the_disk_does_not(ex, disk):
    """A journal that cannot be written is no reason to wait where the store can be reached."""
    break_in_a_step(ex, disk, errno.EROFS)
    assert ex._store.state().latest == 1
    ids = {record.id for record in ex._store.read("trials")}
    assert ids == {"begun", "ended-succeeded"}
    disk["error"] = None
    assert recorded(ex) == WHOLE


def test_neither_disk_nor_store(ex, disk, monkeypatch):
    """While neither takes a record, it waits; the experiment shows how many do."""
    append = type(ex._store).append
    monkeypatch.setattr(type(ex._store), "append", lambda *a: refuse())

    def refuse():
        raise StoreError("no space left")

    break_in_a_step(ex, disk, errno.ENOSPC)
    assert "records for the store" in repr(ex)
    monkeypatch.setattr(type(ex._store), "append", append)
    disk["error"] = None
    ex.flush()
    assert recorded(ex) == WHOLE
    assert "records for the store" not in repr(ex)


def test_limit_of_memory():
    """Beyond its limit memory takes no record, and says so."""
    held = HeldRecords(limit=10)
    assert held.add(Record("trials", 1, "a", b"12345678"))
    assert not held.add(Record("trials", 1, "b", b"123"))
    assert len(held) == 1


def test_next_write_takes_what_waits_along(ex, disk):
    """The first write that succeeds again writes what waits in memory too."""
    recorder_for(ex._store).wake = lambda: None  # nobody else does it meanwhile
    break_in_a_step(ex, disk, errno.ENOSPC)
    delivery = recorder_for(ex._store).delivery
    delivery.hold(Record("steps", 1, "x", b"{}"), StoreError("no space left"))
    disk["error"] = None
    recorder_for(ex._store).write("notes", 1, "impure-y", Impurity("y", "y", ""))
    assert not delivery.stuck
    assert delivery.journal.waiting >= 2


class Refusal:
    """What a store does not take while it is set, by the name of its method."""

    def __init__(self, monkeypatch, store):
        self.error = None
        for name in ("put", "append"):
            monkeypatch.setattr(type(store), name, self.guarded(getattr(type(store), name)))

    def guarded(self, method):
        def call(*arguments):
            if self.error is not None:
                raise self.error
            return method(*arguments)

        return call


@pytest.fixture
def keeping(ex):
    """Make a result with kept outputs, one large and one reusable, that breaks things midway."""

    @ex.persist
    def large(x):
        return np.arange(200_000.0)

    @ex.persist(reuse=True)
    def text(x):
        return "text" * 1000

    @ex.result(persist=True)
    def both(x, y):
        return np.zeros(2000)

    def made(break_it):
        @ex
        def start():
            break_it()
            return 1

        first = start()
        return both(large(first), text(first))

    return made


def kept(ex):
    return (
        ex.get_persisted("large", 1).tolist() == list(range(200_000)),
        ex.get_persisted("text", 1) == "text" * 1000,
        ex.get_persisted("both", 1).tolist() == [0.0] * 2000,
    )


@pytest.mark.parametrize("disk_error", [None, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("when", ["flush", "tick", "close"])
def test_objects_that_a_store_refuses(ex, keeping, disk, monkeypatch, when, disk_error):
    """Values that a full store refuses wait on disk or in memory, and are kept when it has room."""
    refusal = Refusal(monkeypatch, ex._store)
    folder = recorder_for(ex._store).delivery.folder
    real = os.open

    def refuse(path, *arguments, **options):
        if disk["error"] is not None and str(folder) in str(path):
            raise OSError(disk["error"], os.strerror(disk["error"]))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)

    def break_it():
        refusal.error = StoreError("no memory left")
        disk["error"] = disk_error

    result = keeping(break_it)
    recorder_for(ex._store).wake = lambda: None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result.compute(scheduler="synchronous")
    told = [str(each.message) for each in caught if each.category is StoreWarning]
    assert len(told) == 1  # once, however much waits
    assert "records for the store" in repr(ex)
    refusal.error = disk["error"] = None
    if when == "close":
        close_recorders()
    elif when == "tick":
        recorder_for(ex._store).tick()
    else:
        ex.flush()
    assert kept(ex) == (True, True, True)
    assert "records for the store" not in repr(ex)
    assert ex.get_history()["Success"].tolist() == [True]


def test_one_line_at_exit(ex, keeping, monkeypatch):
    """A process that ends while nothing takes its records says in one line what waits where."""
    refusal = Refusal(monkeypatch, ex._store)

    def break_it():
        refusal.error = StoreError("no memory left")

    with pytest.warns(StoreWarning, match="no memory left"):
        keeping(break_it).compute(scheduler="synchronous")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        close_recorders()
    (text,) = [str(each.message) for each in caught if each.category is StoreWarning]
    assert "no memory left" in text
    assert "wait in" in text
    assert "lost" not in text
    refusal.error = None
    monkeypatch.setattr("daskperiment.recording.left_journals.is_gone", lambda origin: True)
    ex.flush()  # as another process does, of one that is gone
    assert kept(ex) == (True, True, True)


def test_memory_for_objects_is_bounded(tmp_path, monkeypatch):
    """Beyond a limit memory takes no object: whoever keeps it learns why."""
    pending = PendingObjects(tmp_path / "spool", limit=10)
    (tmp_path / "spool").write_text("in the way")
    pending.keep("aa", [b"12345678"])
    pending.keep("aa", [b"12345678"])
    with pytest.raises(StoreError, match="file stands where a folder is expected"):
        pending.keep("bb", [b"123"])
    assert len(pending) == 1
    (tmp_path / "spool").unlink()
    assert pending.write_down() == 0
    assert len(pending) == 1
    assert not pending.in_memory


def test_object_too_large_to_wait(ex, monkeypatch):
    """Where a value can wait nowhere, the trial succeeds, its row says why, and a warning too."""
    pending = PendingObjects(recorder_for(ex._store).delivery.folder / "spool", limit=10)
    monkeypatch.setattr(recorder_for(ex._store).delivery, "_pending", pending)

    def refuse(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @ex.persist
    def make():
        monkeypatch.setattr("os.replace", refuse)
        return np.zeros(1_000_000)

    @ex.result
    def use(x):
        return len(x)

    with pytest.warns(StoreWarning, match="8,000,.* bytes is lost.*No space left"):
        assert use(make()).compute(scheduler="synchronous") == 1_000_000
    assert ex.get_history()["Success"].tolist() == [True]
    with pytest.raises(KeyError, match="No space left"):
        ex.get_persisted("make", 1)


def test_journal_of_a_deleted_experiment(ex):
    """What waits when an experiment is deleted does not come back."""

    @ex.result
    def use():
        ex.save_metric("loss", 0, 1.0)
        return 1

    use().compute()
    ex.delete()
    assert ex.get_history().empty
    assert ex.get_metrics() == []
    use().compute()
    assert ex.get_metrics(1) == ["loss"]


@contextmanager
def away(ex, monkeypatch):
    """Have the store of an experiment go away, which is said once; give what is warned of."""

    def refuse(*arguments, **keywords):
        raise StoreUnavailableError("not there")

    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in ("state", "append", "put"):
            patch.setattr(type(ex._store), name, refuse)
        recorder_for(ex._store).delivery.lost_contact(StoreUnavailableError("not there"))
        yield caught


def test_store_that_stays_away_is_said_once(ex, monkeypatch):
    """As long as a store is away one warning says so, whether anything waits or not."""

    @ex.result
    def use():
        return 1

    use().compute()
    recorder = recorder_for(ex._store)
    with away(ex, monkeypatch) as caught:
        for _ in range(3):
            recorder.tick()
            recorder.delivery.lost_contact(StoreUnavailableError("not there"))
    assert [one.category for one in caught].count(StoreWarning) == 1
    recorder.flush()


@pytest.mark.parametrize("waits", [False, True])
def test_a_store_that_is_away_at_the_end(ex, monkeypatch, waits):
    """It is said at the end that something waits, and nothing where nothing does."""
    monkeypatch.setattr("daskperiment.recording.heartbeat.TICK", 3600)
    ex.result(lambda: 1)().compute()
    with away(ex, monkeypatch) as caught:
        if waits:
            recorder_for(ex._store).write("notes", 1, "impure-y", Impurity("y", "y", ""))
        close_recorders()
    told = [str(one.message) for one in caught]
    assert sum("did not take all" in one for one in told) == waits
    assert sum("1 records and objects for it wait" in one for one in told) == waits
