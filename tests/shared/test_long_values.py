"""Parameters and results that are plain and long: kept once by content, and what they were."""

from __future__ import annotations

import warnings
from typing import Any

import dask
import pytest

import daskperiment
from daskperiment import copying
from daskperiment.cli.checkup import examine
from daskperiment.codec import parsed
from daskperiment.errors import StoreWarning, UntrustedObjectError
from daskperiment.store.opening import open_store
from tests.shared.conftest import open_again
from tests.shared.places import Place

pytestmark = pytest.mark.parametrize("place", ["folder", "redis", "mongo"], indirect=True)

TEXT = "word " * 5_000
TABLE = {"rows": [[n, n / 2] for n in range(2_000)], ("a", 1): {"x": "y" * 100}}


def define(ex: daskperiment.Experiment) -> Any:
    """A result that is long itself, of a text and a table that are, and of one that is computed."""
    text, table = ex.parameter("text"), ex.parameter("table", default=TABLE)
    number = ex.parameter("number", default=0)

    @ex.parameter
    def words(text):
        return text.split()

    @ex.persist(reuse=True)
    def count(text, table):
        return len(text) + len(table)

    @ex.result
    def score(length, words, number):
        return {"acc": number / 10, "curve": [float(n) for n in range(4_000)], "first": words[0]}

    return score(count(text, table), words, number)


@pytest.fixture
def ex(place: Place) -> daskperiment.Experiment:
    """An experiment with three trials of equal long values, and one of others."""
    ex = daskperiment.Experiment("long", backend=place.backend)
    score = define(ex)
    for number in (1, 2, 3):
        score.bind(text=TEXT, number=number).compute(scheduler="synchronous")
    score.bind(text="other " * 5_000, number=4).compute(scheduler="synchronous")
    return ex


def bodies(place: Place) -> dict[int, int]:
    """How many bytes the records of each trial have."""
    found: dict[int, int] = {}
    for one in open_store(place.backend, "long").read("trials"):
        found[one.trial] = found.get(one.trial, 0) + len(one.body)
    return found


def check(ex: daskperiment.Experiment) -> None:
    """Every question about the trials is answered as if the values stood in their records."""
    history = ex.get_history()
    assert history["text"].tolist() == [TEXT] * 3 + ["other " * 5_000]
    assert history["table"].tolist() == [TABLE] * 4
    assert history["words"].iloc[0] == TEXT.split()
    assert [one["acc"] for one in history["Result"]] == [0.1, 0.2, 0.3, 0.4]
    history["table"].iloc[0]["rows"].clear()
    assert history["table"].iloc[1] == TABLE  # each row has one of its own
    assert list(ex.get_history(where="Result.acc >= 0.2 and Result.first == 'word'").index) == [
        2,
        3,
    ]
    assert list(ex.get_history(where="text == 'no' or number > 3").index) == [4]
    assert list(ex.get_history(sort="-Result.acc", limit=2).index) == [4, 3]
    assert ex.get_parameters(4)["text"] == "other " * 5_000
    assert list(ex.compare(1, 2).parameters) == ["number"]
    assert set(ex.compare(3, 4).parameters) == {"text", "words", "number"}
    pair = ex.compare(3, 4).parameters["text"]
    assert (pair.first, pair.second) == (TEXT, "other " * 5_000)


def test_they_are_what_they_were(ex: daskperiment.Experiment, place: Place) -> None:
    """In histories, filters, comparisons and reproductions; here, and in a later process."""
    check(ex)
    again = open_again("long", place.backend)
    check(again)
    score = define(again)
    told = str(again.explain(score.bind(text=TEXT, number=4)))
    assert "parameter text 'other" not in told
    told = str(again.explain(score.bind(text="third " * 5_000, number=4)))
    assert "parameter text 'other" in told
    assert "parameter table" not in told
    assert score.reproduce(1).same_result
    assert again.get_parameters(5) == again.get_parameters(1)


def test_each_content_is_kept_once(ex: daskperiment.Experiment, place: Place) -> None:
    """A trial's records are short, and more trials add no objects."""
    ex.flush()
    assert max(bodies(place).values()) < 6_000
    before = set(place.objects("long"))
    score = define(ex)
    score.bind(text=TEXT, number=3).compute(scheduler="synchronous")
    assert set(place.objects("long")) == before


def test_they_go_with_the_last_trial_that_has_them(
    ex: daskperiment.Experiment, place: Place
) -> None:
    """Pruning leaves them, deleting trials removes what no other has, and nothing is missed."""
    everything = set(place.objects("long"))
    ex.prune(0)
    assert set(place.objects("long")) == everything
    ex.delete_trials([1, 2], force=True)
    assert ex.get_history()["text"].tolist() == [TEXT, "other " * 5_000]
    ex.delete_trials([4], force=True)
    gone = everything - set(place.objects("long"))
    assert len(gone) >= 3  # its text, its words, its result
    again = open_again("long", place.backend)
    assert again.get_history()["text"].tolist() == [TEXT]
    assert examine(open_store(place.backend, "long")).findings == []


def test_copies_have_them(ex: daskperiment.Experiment, place: Place, tmp_path) -> None:
    """An experiment that was copied elsewhere, and back, answers the same."""
    ex.flush()
    assert copying.copy("long", place.backend, tmp_path / "elsewhere") == 4
    check(open_again("long", tmp_path / "elsewhere"))


def test_one_that_was_lost_is_told(ex: daskperiment.Experiment, place: Place) -> None:
    """What somebody overwrote is an object that cannot be loaded; all other trials are there."""
    ex.flush()
    digest = text_digest(place, 4)
    place.overwrite("long", digest, b"something else")
    again = open_again("long", place.backend)
    history = again.get_history()
    assert history["text"].tolist()[:3] == [TEXT] * 3
    assert type(history["text"].loc[4]).__name__ == "StoredObject"
    assert [one["acc"] for one in history["Result"]] == [0.1, 0.2, 0.3, 0.4]
    findings = [str(one) for one in examine(open_store(place.backend, "long")).findings]
    assert any(digest in one for one in findings)


def text_digest(place: Place, trial: int) -> str:
    """Return under which digest a trial's text is."""
    store = open_store(place.backend, "long")
    (begun,) = [one for one in store.read("trials", [trial]) if one.id == "begun"]
    digest = parsed(begun.body)["parameters"]["text"]["digest"]
    assert isinstance(digest, str)
    return digest


def test_signed_ones(place: Place) -> None:
    """With a signing key they are believed where they are signed with it, and only there."""
    with dask.config.set({"daskperiment.signing-key": "secret"}):
        ex = daskperiment.Experiment("long", backend=place.backend)
        score = define(ex)
        for number in (1, 2, 3):
            score.bind(text=TEXT, number=number).compute(scheduler="synchronous")
        score.bind(text="other " * 5_000, number=4).compute(scheduler="synchronous")
        again = open_again("long", place.backend)
        check(again)
    with dask.config.set({"daskperiment.signing-key": "another"}), warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        again = open_again("long", place.backend)
        for value in again.get_history()["text"]:
            with pytest.raises(UntrustedObjectError):
                value.load()


def test_sweeps_go_on_over_long_values(place: Place) -> None:
    """A sweep over long texts that is resumed computes none of them again."""
    ex = daskperiment.Experiment("long", backend=place.backend)
    score = define(ex)
    texts = ["one " * 5_000, "two " * 5_000]
    sweep = score.sweep({"text": texts}).attrs["sweep"]
    again = open_again("long", place.backend)
    score = define(again)
    assert len(score.sweep({"text": texts}, resume=sweep)) == 2
    assert len(again.get_history()) == 2


def test_nobody_reads_them_without_need(
    ex: daskperiment.Experiment, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code, environment, metrics and artifacts of a trial are told without its long values."""
    ex.flush()
    digest, asked = text_digest(place, 4), []
    again = open_again("long", place.backend)
    kind = type(open_store(place.backend, "long"))
    get = kind.get

    def counted(self: Any, wanted: str) -> Any:
        asked.append(wanted)
        return get(self, wanted)

    monkeypatch.setattr(kind, "get", counted)
    assert "score" in str(again.get_code(4))
    assert len(again.get_environment(4)) > 0
    again.get_artifacts(4)
    assert str(again.explain(4))
    assert digest not in asked
    assert again.get_parameters(4)["text"] == "other " * 5_000
    assert asked.count(digest) == 1
