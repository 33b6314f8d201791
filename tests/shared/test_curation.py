"""What people say of trials afterwards: tags, notes, names, and archiving."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

import daskperiment
from daskperiment import curation
from daskperiment.cli.checkup import examine
from daskperiment.errors import StoreWarning, TrialIDNotFoundError
from daskperiment.history.curated import curated
from daskperiment.store.liveness import current_origin
from tests.shared.conftest import open_again


def define(ex):
    """A result that doubles its parameter."""
    p = ex.parameter("p")

    @ex.result
    def double(p):
        return 2 * p

    return double(p)


@pytest.fixture
def ex(place):
    """An experiment of three trials, in each kind of store."""
    ex = daskperiment.Experiment("said", backend=place.backend)
    result = define(ex)
    for p in (1, 2, 3):
        result.bind(p=p).compute(scheduler="synchronous")
    return ex


def said(ex, **options):
    """What the table says of trials, as plain data."""
    frame = ex.get_history(**options)
    names = [name for name in ("Name", "Tags", "Notes", "Archived") if name in frame]
    return {
        trial: {name: row[name] for name in names if row[name] == row[name]}  # not NaN
        for trial, row in frame.iterrows()
    }


def test_what_is_said_stands_in_the_table(ex, place):
    """Tags, notes and names are there for this process and for a later one, with time and user."""
    assert said(ex) == {1: {}, 2: {}, 3: {}}
    ex.tag([1, 2], "base", "paper")
    ex.untag(1, "paper", "never given")
    ex.note(2, "first\nline")
    ex.note([2, 3], "second")
    ex.rename(2, "the best of them")
    expected = {
        1: {"Tags": ("base",)},
        2: {"Name": "the best of them", "Tags": ("base", "paper"), "Notes": "first\nline\nsecond"},
        3: {"Tags": (), "Notes": "second"},
    }
    assert said(ex) == expected
    again = open_again("said", place.backend)
    define(again)
    assert said(again) == expected
    note = curated(again._store)[3].notes[0]
    assert abs(note.time - pd.Timestamp.now().timestamp()) < 600
    assert note.user == again.get_history(verbose=True)["User"].iloc[0]


def test_the_latest_word_counts(ex):
    """A name is replaced and taken away, a tag taken and given again; each wins in its turn."""
    for name, shown in [("a", {"Name": "a"}), ("b", {"Name": "b"}), (None, {})]:
        ex.rename(1, name)
        assert said(ex)[1] == shown
    ex.tag(1, "x", "y", "x")
    ex.tag(1, "x")
    assert said(ex)[1]["Tags"] == ("x", "y")
    ex.untag(1, "x")
    ex.tag(1, "x")
    assert said(ex)[1]["Tags"] == ("y", "x")
    # What says nothing of the other things leaves them as they are.
    ex.rename(1, "kept")
    ex.archive(1)
    ex.note(1, "later")
    assert said(ex, archived=True)[1] == {
        "Name": "kept", "Tags": ("y", "x"), "Notes": "later", "Archived": True,
    }  # fmt: skip


def test_archived_trials_are_left_out_until_they_are_asked_for(ex):
    """They stay readable by id, count as trials, and come back."""
    ex.archive([1, 3])
    assert list(ex.get_history().index) == [2]
    assert list(ex.get_history(verbose=True).index) == [2]
    assert said(ex, archived=True) == {1: {"Archived": True}, 2: {"Archived": False},
                                       3: {"Archived": True}}  # fmt: skip
    assert ex.get_parameters(1) == {"p": 1}
    assert ex.trial_id == 3
    ex.unarchive(1)
    assert list(ex.get_history().index) == [1, 2]
    ex.archive([1, 2])
    assert ex.get_history().empty
    assert "Result" in ex.get_history()


def test_any_way_to_name_trials(ex):
    """One id, a range, an index and NumPy's integers; each trial once."""
    frame = ex.get_history()
    ex.tag(frame.index, "all")
    ex.tag(range(1, 3), "range")
    ex.tag(frame.index[2], "number")
    ex.note((one for one in (1, 1)), "once")
    assert said(ex) == {
        1: {"Tags": ("all", "range"), "Notes": "once"},
        2: {"Tags": ("all", "range")},
        3: {"Tags": ("all", "number")},
    }


BAD = {
    "no such trial": (lambda ex: ex.tag([1, 9], "x"), TrialIDNotFoundError, "no trial 9"),
    "text for a trial": (lambda ex: ex.archive("1"), TrialIDNotFoundError, "'1'"),
    "no trial": (lambda ex: ex.note([], "x"), TrialIDNotFoundError, "empty"),
    "no tag": (lambda ex: ex.tag(1), TypeError, "no tag"),
    "list of tags": (lambda ex: ex.tag(1, ["x"]), TypeError, r"\['x'\] \(list\)"),
    "empty tag": (lambda ex: ex.tag(1, " "), ValueError, "1 characters"),
    "lines": (lambda ex: ex.tag(1, "a\nb"), ValueError, "one line"),
    "comma": (lambda ex: ex.tag(1, "a,b"), ValueError, "without commas"),
    "long name": (lambda ex: ex.rename(1, "x" * 101), ValueError, "101 characters"),
    "number as name": (lambda ex: ex.rename(1, "7"), ValueError, "no number"),
    "selector as name": (lambda ex: ex.rename(1, "Best"), ValueError, "'best'"),
    "several renamed": (lambda ex: ex.rename([1, 2], "x"), TrialIDNotFoundError, "list"),
    "no text": (lambda ex: ex.note(1, 5), TypeError, r"5 \(int\)"),
    "unknown keyword": (lambda ex: ex.tag(1, "x", trial=1), TypeError, r"Experiment\.tag\(\)"),
}


@pytest.mark.parametrize("name", [*BAD])
@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_bad_input_is_refused_and_nothing_is_said(ex, name):
    """The error tells what came and what was expected; none of several trials is changed."""
    call, kind, told = BAD[name]
    with pytest.raises(kind, match=told):
        call(ex)
    assert said(ex) == {1: {}, 2: {}, 3: {}}


def test_many_at_once(ex, place):
    """Threads and processes that say something at the same time all come through."""
    code = "import sys, daskperiment\nex = daskperiment.Experiment('said', sys.argv[1])\n" \
           "[ex.tag(2, f'p{sys.argv[2]}-{n}') for n in range(5)]"  # fmt: skip
    command = [sys.executable, "-c", code, str(place.backend)]
    others = [subprocess.Popen([*command, str(number)]) for number in range(2)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: ex.tag(2, f"t{number}"), range(12)))
    assert [other.wait(120) for other in others] == [0, 0]
    expected = {f"p{n}-{k}" for n in range(2) for k in range(5)} | {f"t{n}" for n in range(12)}
    assert set(said(ex)[2]["Tags"]) == expected


def test_copies_and_checks_know_it(ex, place, make_place):
    """A copy has it, a second copy adds what came since, and a check finds nothing odd."""
    ex.tag(1, "old")
    ex.note(1, "compare with trial 2")
    other = make_place("folder")
    daskperiment.copy("said", place.backend, other.backend)
    ex.archive(2)
    daskperiment.copy("said", place.backend, other.backend)
    assert examine(ex._store).findings == []
    copy = open_again("said", other.backend)
    assert said(copy, archived=True)[1] == {
        "Tags": ("old",), "Notes": "compare with trial 2", "Archived": False,
    }  # fmt: skip
    assert list(copy.get_history().index) == [1, 3]
    assert examine(copy._store).findings == []


def test_merged_trials_keep_what_was_said(ex, place, make_place):
    """Of two stores with equal ids each trial keeps its own tags and the words of its notes."""
    other = make_place("folder")
    second = daskperiment.Experiment("said", backend=other.backend)
    define(second).bind(p=9).compute(scheduler="synchronous")
    ex.tag(1, "first")
    second.tag(1, "second")
    second.note(1, "better than trial 1")
    daskperiment.copy("said", [other.backend], place.backend)
    merged = open_again("said", place.backend)
    found = merged.get_history()
    tags = dict(zip(found["Result"], found["Tags"], strict=True))
    assert (tags[2], tags[18]) == (("first",), ("second",))
    assert found["Notes"].dropna().tolist() == ["better than trial 1"]


def test_deletion_takes_it_along(ex):
    """After a deletion a new trial 1 has nothing of what was said of the old one."""
    ex.tag(1, "x")
    ex.delete()
    define(ex).bind(p=1).compute(scheduler="synchronous")
    assert said(ex) == {1: {}}


def test_no_stranger_gets_what_was_said(ex, monkeypatch):
    """A tag that is on its way while the experiment is deleted does not stick to a new trial 1."""

    def deleted_meanwhile():
        monkeypatch.undo()
        ex.delete()
        define(ex).bind(p=1).compute(scheduler="synchronous")
        return current_origin()

    monkeypatch.setattr(curation, "current_origin", deleted_meanwhile)
    with pytest.warns(StoreWarning, match="trial 1"):
        ex.tag(1, "of the old trial")
    assert said(ex) == {1: {}}
