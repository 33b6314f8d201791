"""What trials keep under names, on each store: saved, reused, copied, pruned, never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dask import config

import daskperiment
from daskperiment import formats
from daskperiment.cli.checkup import examine
from daskperiment.errors import (
    ArtifactNotFoundError,
    FormatError,
    StepEndedError,
    StoreUnavailableError,
    StoreWarning,
    TrialIDNotFoundError,
    UnknownFormatError,
    UntrustedObjectError,
)
from daskperiment.formats import path_formats
from daskperiment.recording.registry import recorder_for
from daskperiment.store.protocol import Record
from tests.shared.conftest import open_again
from tests.shared.test_outage import server  # noqa: F401  # a fixture

COLUMNS = ["Trial ID", "Step", "Name", "Format", "Size", "Digest", "Added"]


def define(ex, reuse=None):
    """Make a result whose steps save artifacts: one in the first, several in the second."""
    a = ex.parameter("a", default=1)

    @ex.persist(reuse=reuse)
    def fit(a):
        ex.save("weights", np.full(10, a))
        return a

    @ex.result
    def score(model):
        ex.save("report", {"accuracy": model / 2})
        ex.save("notes", "first")
        ex.save("notes", "second")
        return model

    return score(fit(a))


def names(ex, trial):
    return ex.get_artifacts(trial)["Name"].tolist()


def test_saved_and_loaded(place):
    """A trial's artifacts are listed and loaded, by a later process too; the latest name counts."""
    ex = daskperiment.Experiment("saving", backend=place.backend)
    define(ex).compute()
    for each in (ex, open_again("saving", place.backend)):
        found = each.get_artifacts(1)
        assert found.columns.tolist() == COLUMNS
        assert found["Name"].tolist() == ["weights", "report", "notes"]
        assert found["Step"].tolist() == ["fit", "score", "score"]
        assert found["Format"].tolist() == ["npy", "json", "text"]
        assert found["Size"].tolist()[1:] == [len(b'{"accuracy":0.5}'), len("second")]
        assert (found["Digest"].str.len() == 32).all()
        assert np.array_equal(each.load("weights", 1), np.ones(10))
        assert each.load("report", 1) == {"accuracy": 0.5}
        assert each.load("notes", 1) == "second"
        assert each.get_artifacts().equals(found)


def test_one_of_many_is_read_alone(place, monkeypatch):
    """To load an artifact, or what a step kept, reads its own record and none of the others."""
    ex = daskperiment.Experiment("alone", backend=place.backend)

    @ex.persist
    def keep(number):
        ex.save(f"a{number}", number)
        return number

    ex.result(sum)([keep(number) for number in range(5)]).compute(scheduler="synchronous")
    asked = []
    read_starting = type(ex._store).read_starting

    def noted(store, *given):
        found = list(read_starting(store, *given))
        asked.append(len(found))
        return found

    monkeypatch.setattr(type(ex._store), "read_starting", noted)
    monkeypatch.setattr(type(ex._store), "read", None)
    assert [ex.load(f"a{number}", 1) for number in range(5)] == [0, 1, 2, 3, 4]
    assert [ex.get_persisted(f"keep#{number}", 1) for number in range(1, 6)] == [0, 1, 2, 3, 4]
    assert asked == [1] * 10


def test_added_later(place, tmp_path):
    """From outside an artifact is added to a trial that is over, and listed without a step."""
    ex = daskperiment.Experiment("later", backend=place.backend)
    define(ex).compute()
    (tmp_path / "model.bin").write_bytes(b"\x00model")
    ex.save("model", tmp_path / "model.bin", trial_id=1)
    ex = open_again("later", place.backend)
    found = ex.get_artifacts(1).set_index("Name").loc["model"]
    assert found["Step"] is None or found["Step"] != found["Step"]
    copy = ex.load("model", 1)
    assert (copy.name, copy.read_bytes()) == ("model.bin", b"\x00model")


def test_reused_steps_bring_their_artifacts(place):
    """A trial that reuses a step has what that saved, with the same digest, and its own besides."""
    ex = daskperiment.Experiment("reusing", backend=place.backend)
    result = define(ex, reuse=True)
    result.compute()
    result.compute()
    open_again("reusing", place.backend)
    define(ex := open_again("reusing", place.backend), reuse=True).compute()
    assert ex.get_steps()["Reused From"].dropna().tolist() == [1, 1]
    for trial in (1, 2, 3):
        found = ex.get_artifacts(trial)
        assert found["Name"].tolist() == ["weights", "report", "notes"], trial
        assert np.array_equal(ex.load("weights", trial), np.ones(10))
    assert ex.get_artifacts().groupby("Name")["Digest"].nunique().tolist() == [1, 1, 1]


def test_pruning_keeps_artifacts(place):
    """Pruning drops outputs that can be had again, and no artifact of any trial."""
    ex = daskperiment.Experiment("pruned", backend=place.backend)

    @ex.persist(reuse=True)
    def fit():
        array = np.arange(1000)
        ex.save("same", array)
        ex.save("other", array + 1)
        return array * 2

    @ex.result
    def last(array):
        return 1

    last(fit()).compute()
    assert len(ex.prune(max_bytes=0)) == 1
    assert ex.load("same", 1)[-1] == 999
    assert ex.load("other", 1)[-1] == 1000
    assert not examine(ex._store).findings


def test_copied_and_merged(place, make_place):
    """Copies have the artifacts with their objects, also where trials get other ids."""
    old = daskperiment.Experiment("copied", backend=place.backend)
    result = define(old, reuse=True)
    result.compute()
    result.compute()
    target = make_place("folder")
    define(daskperiment.Experiment("copied", backend=target.backend)).bind(a=7).compute()
    assert daskperiment.copy("copied", place.backend, target.backend) == 3
    ex = open_again("copied", target.backend)
    assert ex.load("weights", 1)[0] == 7
    for trial in (2, 3):
        assert names(ex, trial) == ["weights", "report", "notes"]
        assert ex.load("weights", trial)[0] == 1
    assert not examine(ex._store).findings


def test_check_finds_a_lost_artifact(place):
    """An artifact whose object is gone is found by a check, and told when it is loaded."""
    ex = daskperiment.Experiment("lost", backend=place.backend)
    define(ex).compute()
    digest = ex.get_artifacts(1).set_index("Name").loc["weights", "Digest"]
    ex._store.discard([digest])
    found = examine(ex._store).findings
    assert [one.place for one in found] == [f"object {digest}"]
    assert found[0].what.startswith("missing, named by")
    with pytest.raises(KeyError, match="is not in the store"):
        ex.load("weights", 1)


def test_deleted(place):
    """Deleting the experiment leaves none of its artifacts behind."""
    ex = daskperiment.Experiment("deleted", backend=place.backend)
    define(ex).compute()
    ex.delete()
    assert ex.get_artifacts().empty


def test_signed(place):
    """With a signing key, artifacts that are unsigned, or stand in another trial, are refused."""
    with config.set({"daskperiment.signing-key": "k"}):
        ex = daskperiment.Experiment("signed", backend=place.backend)
        result = define(ex)
        result.compute()
        result.bind(a=2).compute()
        assert ex.load("weights", 2)[0] == 2
        ex.save("later", [1], trial_id=1)
        assert ex.load("later", 1) == [1]
    ex.save("unsigned", [1], trial_id=1)
    note = next(one for one in ex._store.read("notes", [1]) if "weights" in one.id)
    from daskperiment.codec import placed

    moved = Record("notes", 2, note.id, placed(note.body, 2))
    ex._store.append([moved])
    # What nobody with the key wrote so is left out, and told of: the trial's own stays.
    with config.set({"daskperiment.signing-key": "k"}):
        with (
            pytest.warns(StoreWarning, match="it is not signed"),
            pytest.raises((UntrustedObjectError, ArtifactNotFoundError)),
        ):
            ex.load("unsigned", 1)
        with pytest.warns(StoreWarning, match="belongs to another trial"):
            assert ex.load("weights", 2)[0] == 2


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_on_every_scheduler(tmp_path, scheduler):
    """Artifacts arrive from wherever steps run."""
    ex = daskperiment.Experiment(f"on_{scheduler}", backend=tmp_path)
    define(ex).compute(scheduler=scheduler)
    assert sorted(names(ex, 1)) == ["notes", "report", "weights"]
    assert ex.load("weights", 1)[0] == 1


def test_shared_steps(tmp_path):
    """Trials that are computed at once and share a step all have what it saved."""
    import dask

    ex = daskperiment.Experiment("at_once", backend=tmp_path)
    result = define(ex, reuse=True)
    dask.compute(result, result.bind(a=1), result.bind(a=1), scheduler="threads")
    assert ex.trial_id == 3 or ex.trial_id == 2
    for trial in range(1, ex.trial_id + 1):
        assert sorted(names(ex, trial)) == ["notes", "report", "weights"]


ROOT = Path(daskperiment.__file__).parents[1]
KILLED = """
import os, signal, sys
import numpy as np
import daskperiment

ex = daskperiment.Experiment("killed", backend=sys.argv[1])

@ex.result
def last():
    ex.save("weights", np.arange(int(sys.argv[2])))
    os.kill(os.getpid(), signal.SIGKILL)

last().compute()
"""


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_killed_right_after(place, size):
    """An artifact is there though the process was killed as soon as `save` had returned."""
    backend = place.backend if isinstance(place.backend, str) else str(place.backend)
    done = subprocess.run([sys.executable, "-c", KILLED, backend, str(size)], cwd=ROOT, timeout=60)
    assert done.returncode == -signal.SIGKILL
    ex = daskperiment.Experiment("killed", backend=place.backend)
    assert ex.load("weights", 1)[-1] == size - 1


def test_a_store_that_is_away(server):  # noqa: F811
    """Artifacts that are saved while the server is away wait, and arrive with their objects."""
    ex = daskperiment.Experiment("away", backend=server.place)

    @ex.result
    def last():
        ex.save("before", np.arange(5))
        server.kill()
        ex.save("during", np.arange(7))
        return 1

    with pytest.warns(StoreWarning, match="waits in"):
        assert last().compute() == 1
    with pytest.raises(StoreUnavailableError):
        ex.get_artifacts(1)
    server.start()
    recorder_for(ex._store).flush()
    assert names(ex, 1) == ["before", "during"]
    assert ex.load("during", 1)[-1] == 6


AWAY_AND_KILLED = """
import os, signal, sys, warnings
import numpy as np
import daskperiment
from tests.shared.outage import kill

warnings.simplefilter("ignore")
ex = daskperiment.Experiment("killed", backend=sys.argv[1])

@ex.result
def last():
    kill(int(sys.argv[2]))
    print("on the way")
    ex.save("weights", np.arange(200_000))
    ex.save("note", "small")
    os.kill(os.getpid(), signal.SIGKILL)

last().compute()
"""


def test_a_store_that_is_away_and_a_process_that_is_killed(server):  # noqa: F811
    """What was saved and said while the server was away arrives, though the process was killed."""
    command = [sys.executable, "-c", AWAY_AND_KILLED, server.place, str(server.pid)]
    done = subprocess.run(command, cwd=ROOT, timeout=60)
    assert done.returncode == -signal.SIGKILL
    server.kill()
    server.start()
    ex = daskperiment.Experiment("killed", backend=server.place)
    ex.flush()
    assert names(ex, 1) == ["weights", "note"]
    assert ex.load("weights", 1)[-1] == 199_999
    assert ex.load("note", 1) == "small"
    assert "on the way" in ex.get_log(1)


def test_what_cannot_be_saved(ex, tmp_path):
    """Bad names, formats and moments are errors that say what to do; nothing is recorded then."""
    with pytest.raises(TrialIDNotFoundError, match=r"trial_id=ex\.trial_id"):
        ex.save("x", 1)
    define(ex).compute()
    for name, error in (
        (3, TypeError), ("", ValueError), ("x" * 201, ValueError), ("a\ud800", ValueError),
    ):  # fmt: skip
        with pytest.raises(error, match="An artifact's name"):
            ex.save(name, 1, trial_id=1)
    with pytest.raises(UnknownFormatError, match="did you mean 'npz'"):
        ex.save("x", 1, format="npi", trial_id=1)
    with pytest.raises(FormatError, match="'json'"):
        ex.save("x", {1}, format="png", trial_id=1)
    with pytest.raises(TrialIDNotFoundError):
        ex.save("x", 1, trial_id=9)
    with pytest.raises(ArtifactNotFoundError, match="did you mean 'notes'"):
        ex.load("note", 1)
    with pytest.raises(TrialIDNotFoundError):
        ex.get_artifacts(9)
    with pytest.raises(TypeError, match="did you mean 'format'"):
        ex.save("x", 1, fromat="json")
    with pytest.raises(FileNotFoundError, match="to be kept"):
        ex.save("x", tmp_path / "absent", trial_id=1)
    assert names(ex, 1) == ["weights", "report", "notes"]


def test_what_cannot_be_kept_costs_no_trial(ex):
    """A value that nothing keeps is listed without a digest, and loading it says why."""

    @ex.result
    def last():
        ex.save("stream", (n for n in range(3)))
        return 1

    assert last().compute() == 1
    assert ex.get_artifacts(1)["Digest"].isna().all()
    with pytest.raises(KeyError, match="cannot pickle 'generator' object"):
        ex.load("stream", 1)


def test_a_step_that_has_ended(ex):
    """A thread that goes on after its step can save nothing more."""
    found = []

    @ex.result
    def last():
        save = ex.wrap(lambda: ex.save("late", 1))
        found.append(save)
        return 1

    last().compute()
    with pytest.raises(StepEndedError, match="can save artifacts no more"):
        found[0]()
    assert ex.get_artifacts().empty


def test_alone_and_rehearsed(ex):
    """A step that is computed alone, or called in a unit test, saves nothing and goes on."""

    @ex
    def step():
        ex.save("x", 1)
        return 2

    assert step().compute() == 2
    with daskperiment.testing.no_trial():
        assert step() == 2
    assert ex.get_artifacts().empty


def test_files_and_folders(ex, tmp_path):
    """A path is saved by its content; what was planted as a name leads nowhere else."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.csv").write_text("a,b\n1,2\n")

    @ex.result
    def last():
        ex.save("table", tmp_path / "run" / "a.csv")
        ex.save("run", tmp_path / "run")
        ex.save("text", str(tmp_path / "run" / "a.csv"))
        return 1

    last().compute()
    assert ex.get_artifacts(1)["Format"].tolist() == ["file", "folder", "text"]
    (tmp_path / "run" / "a.csv").write_text("changed")
    assert ex.load("table", 1).read_text() == "a,b\n1,2\n"
    assert (ex.load("run", 1) / "a.csv").read_text() == "a,b\n1,2\n"
    assert ex.load("text", 1) == str(tmp_path / "run" / "a.csv")
    assert Path(ex.load("run", 1)).name == "run"


def test_whatever_lies_in_a_folder(ex, tmp_path):
    """Links to files are followed; what is no file and no folder is left out, and that is said."""
    place = tmp_path / "odd"
    (place / "below" / "empty").mkdir(parents=True)
    (place / "below" / "a.txt").write_text("a")
    (place / "link.txt").symlink_to(place / "below" / "a.txt")
    (place / "loop").symlink_to(place)
    (place / "dead").symlink_to("nowhere")
    os.mkfifo(place / "below" / "pipe")

    @ex.result
    def last():
        ex.save("odd", place)
        ex.save("told by the kernel", Path("/proc/version"))
        return 1

    with pytest.warns(StoreWarning, match="is not kept: below/pipe, dead, loop"):
        last().compute(scheduler="synchronous")
    back = ex.load("odd", 1)
    found = sorted(path.relative_to(back).as_posix() for path in back.rglob("*"))
    assert found == ["below", "below/a.txt", "below/empty", "link.txt"]
    assert (back / "link.txt").read_text() == "a"
    assert ex.load("told by the kernel", 1).read_bytes() == Path("/proc/version").read_bytes()


def test_a_file_that_is_cut_while_it_is_kept(ex, tmp_path, monkeypatch):
    """What is kept is the file as it was, of whatever size, though it is written to meanwhile."""
    path = tmp_path / "model.bin"
    monkeypatch.setattr(path_formats, "_SMALL", 1000)
    for size in (500, 50_000):
        path.write_bytes(b"x" * size)
        file = formats.written_as("file", path)
        path.write_bytes(b"")
        assert bytes(file.parts[0]) == b"x" * size
