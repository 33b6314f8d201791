"""What the page may ask, and that asking neither writes nor runs anything of the store."""

from __future__ import annotations

import pytest

from daskperiment.dashboard.api import DashboardAPI, ExperimentNotFoundError, Source
from daskperiment.dashboard.charts import CurveStyle
from daskperiment.dashboard.details import describe_trial, highlight
from daskperiment.dashboard.influence import InfluenceOptions
from daskperiment.dashboard.table import Look
from daskperiment.records import Curation, Failure, Impurity, Node, Origin, curation_id
from tests.dashboard.stores import FolderLab, ReadOnly
from tests.store.redis_server import redis_server, server_of_wheel

LOOK = Look()


class Bomb:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return explode, ()


def explode():
    raise AssertionError("unpickled")


@pytest.fixture
def full(tmp_path):
    """Make an experiment with everything that can be recorded."""
    lab = FolderLab(tmp_path / "store" / "full")
    for number in range(2):
        trial = lab.open(
            {"lr": number, "bomb": Bomb()},
            graph=[Node("load", "load"), Node("fit", "fit", ["load"], ["lr"])],
            sources={"fit": f"def fit(x):\n    return x + {number}\n"},
            environment={
                "python": {"version": "3.11"},
                "git": {"commit": f"abc{number}", "diff": f"+ {number}"},
                "requirements": {"numpy": f"2.{number}"},
            },
        )
        lab.step(trial, "load", worker_name="alpha", kept={"value": lab.form(Bomb())})
        failure = Failure("ValueError", "ValueError(bad)", "Traceback …", "fit")
        if number:
            lab.step(trial, "fit", status="failed", failure=failure, output="o1")
            lab.fail(trial, ValueError("bad"))
        else:
            lab.step(trial, "fit", reused=7, stochastic=True, note="lambda", output="o0")
            lab.succeed(trial, Bomb())
        lab.points(trial, ("loss", 0, 1.0), ("loss", 1, 0.5 + number))
        lab.add("notes", trial, "impure", Impurity("fit", "fit", 3))
    return lab


def questions(api, id):
    """Ask everything."""
    yield api.experiments()
    yield api.trials(id, LOOK, 0, 50, "")
    yield api.found(id, LOOK)
    yield api.metrics(id, [1, 2], [], CurveStyle(), True)
    yield api.influence(id, LOOK, InfluenceOptions())
    yield api.importance(id, LOOK, "")
    yield api.compare(id, [1, 2])
    yield api.trial(id, 1)
    yield api.trial(id, 2)


def test_asking_only_reads_and_unpickles_nothing(full):
    """All questions are answered by a store that cannot be written, and no object is loaded."""
    api = DashboardAPI(Source(ReadOnly(full.store), "full"))
    with pytest.raises(AssertionError, match="unpickled"):  # the bomb is live
        from daskperiment.history.steps import get_persisted

        get_persisted(full.store, "load", 1)
    answers = list(questions(api, "full"))
    assert len(answers) == 9
    assert all(answers)


def test_a_trial_in_full(full):
    """One trial is told with its steps, graph, code, environment and kept values."""
    good, bad = describe_trial(full.store, 1), describe_trial(full.store, 2)
    assert good["result"]["class"].endswith("Bomb")
    load, fit = good["steps"]
    assert load["lane"] == "worker alpha"
    assert load["kept"]["digest"]
    assert load["kept"]["size"] > 0
    assert (fit["reused"], fit["stochastic"], fit["note"]) == (7, True, "lambda")
    assert fit["lane"] == "here, process 42, MainThread"
    assert [node["key"] for node in good["graph"]["nodes"]] == ["load", "fit"]
    assert good["code"][0]["lines"][0][0] == ["def", "keyword"]
    assert good["environment"]["packages"] == {"numpy": "2.0"}
    assert good["notes"] == [{"key": "fit", "step": "fit", "earlier": 3, "reads": []}]
    assert bad["failure"]["description"] == "ValueError(bad)"
    assert bad["result"] is None
    assert not good["problems"]


def test_what_people_said_of_a_trial(full):
    """Tags and notes are told, and a time that no clock shows is none."""
    full.add("notes", 1, curation_id(1.0, "a"), Curation(1.0, "ann", tags=["x"], remark="good"))
    full.add("notes", 1, curation_id(2.0, "b"), Curation(1e300, "bob", name="first", remark="!"))
    assert describe_trial(full.store, 1)["said"] == {
        "name": "first", "tags": ["x"], "archived": False,
        "notes": [{"text": "good", "time": 1.0, "user": "ann"},
                  {"text": "!", "time": None, "user": "bob"}],
    }  # fmt: skip
    nothing = {"name": None, "tags": [], "notes": [], "archived": False}
    assert describe_trial(full.store, 2)["said"] == nothing


def test_what_is_missing_is_told(full):
    """A trial whose code, graph and environment are gone is shown with a word about them."""
    trial = full.begin({"a": 1})
    found = describe_trial(full.store, trial)
    assert len(found["problems"]) == 2
    assert found["graph"] is None
    assert found["status"] == "running"


def test_a_lost_trial(full):
    """A trial whose process is gone says so."""
    trial = full.open({}, origin=Origin("vm-of-long-ago", "boot", 1, 1.0, "someone"))
    full.beat(trial, 1.0)
    found = describe_trial(full.store, trial)
    assert found["status"] == "lost"
    assert "vm-of-long-ago" in found["reason"]


def test_comparing(full):
    """Two trials are compared with code, packages, git and the first step that differs."""
    found = DashboardAPI(Source(full.store)).compare("full", [1, 2])["two"]
    assert found["origin"] == "fit"
    assert "-    return x + 0" in found["functions"]["fit"]
    assert found["packages"] == [["numpy", "2.0", "2.1"]]
    assert [one["diff"] for one in found["git_diffs"]] == ["+ 0", "+ 1"]
    assert ["lr", "0", "1"] in found["parameters"]
    assert found["results"][1] is None


@pytest.mark.parametrize("filter", ["", "lr == 9", "lr == 0", "Result == 5", "anywhere('x')"])
def test_whatever_a_filter_finds_is_an_answer(full, filter):
    """All questions about what a filter finds are answered, if it finds nothing or one, too."""
    api, look = DashboardAPI(Source(full.store)), Look(filter)
    found = api.found("full", look)["ids"]
    assert api.metrics("full", look, [], CurveStyle(), True)
    assert api.influence("full", look, InfluenceOptions())
    assert api.importance("full", look, "")
    answer = api.compare("full", look)
    assert sorted(answer["trials"]) == sorted(found)
    assert ("explanations" in answer) == (len(found) > 1)


def test_nothing_new(full):
    """A page that has seen all is told so in a word, unless a trial runs."""
    api = DashboardAPI(Source(full.store))
    seen = api.trials("full", LOOK, 0, 50, "")["version"]
    assert api.trials("full", LOOK, 0, 50, seen) == {"unchanged": True, "version": seen}
    full.open({})
    now = api.trials("full", LOOK, 0, 50, seen)
    assert now["running"] == 1
    assert "rows" in api.trials("full", LOOK, 0, 50, now["version"])


def test_a_store_in_a_folder_stands_for_the_folder(full, tmp_path):
    """From the store of one experiment all of its folder are found; others hold one."""
    FolderLab(tmp_path / "store" / "other").open({})
    assert Source(full.store).experiments() == ["full", "other"]
    assert Source(tmp_path / "store").experiments() == ["full", "other"]
    assert Source(ReadOnly(full.store)).experiments() == ["full"]


def test_an_experiment_before_its_first_trial(tmp_path):
    """The store that was given is shown before anything is in it, and nothing is made."""
    lab = FolderLab(tmp_path / "store" / "young")
    api = DashboardAPI(Source(lab.store))
    assert api.trials("young", LOOK, 0, 50, "")["total"] == 0
    assert not (tmp_path / "store").exists()
    lab.open({})
    assert api.trials("young", LOOK, 0, 50, "")["total"] == 1


@pytest.mark.parametrize("id", ["nope", "..", "../store/full", "full/", ""])
def test_only_experiments_that_are_listed_are_opened(full, tmp_path, id):
    """An id that is a path, or of nothing, is refused and opens no folder."""
    with pytest.raises(ExperimentNotFoundError):
        Source(tmp_path / "store").store(id)


def test_one_that_cannot_be_read_hides_no_other(full, tmp_path):
    """An experiment whose database is garbage is listed with what is wrong."""
    (tmp_path / "store" / "broken").mkdir()
    (tmp_path / "store" / "broken" / "records.sqlite").write_bytes(b"\x00\xff garbage " * 999)
    broken, full_row = DashboardAPI(Source(tmp_path / "store")).experiments()["experiments"]
    assert "records.sqlite" in broken["problem"]
    assert full_row["trials"] == 2


def test_experiments_on_a_server(full, tmp_path):
    """A URL of a server shows the experiments that are there, each followed."""
    from daskperiment import copy

    with redis_server(server_of_wheel(), tmp_path / "redis") as server:
        url = f"redis://user:secret@127.0.0.1:{server.port}/0"
        assert "secret" not in Source(url).address
        source = Source(url.replace("user:secret@", ""))
        copy("full", tmp_path / "store", url.replace("user:secret@", ""))
        answers = list(questions(DashboardAPI(source), "full"))
        assert answers[0]["experiments"][0]["counts"] == {"succeeded": 1, "failed": 1}
        assert [row["trial"] for row in answers[1]["rows"]] == [2, 1]
        source.close()


@pytest.mark.parametrize(
    "source", ["", "def f(:\n  '''open", "\x00", "x = '''a\nb'''\n@f\nclass C: pass", "a\fb\r\n"]
)
def test_colours_lose_nothing(source):
    """The words of a coloured source are its lines, whatever it holds."""
    assert ["".join(text for text, _ in line) for line in highlight(source)] == source.splitlines()
