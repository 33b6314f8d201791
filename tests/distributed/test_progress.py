"""A trial is shown while it runs, on every scheduler."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import pytest
import tqdm.auto

from daskperiment.client.progress import StepBar, reporting


class Notes:
    """A display that remembers what it was shown."""

    def __init__(self):
        self.seen = []
        self.ended = []
        self.changed = threading.Condition()

    def show(self, key, event):
        with self.changed:
            self.seen.append((key, event))
            self.changed.notify_all()

    def close(self, error):
        self.ended.append(error)

    def wait_for(self, *wanted):
        with self.changed:
            assert self.changed.wait_for(lambda: set(wanted) <= set(self.seen), 30)


@pytest.fixture
def dividing(ex):
    a = ex.parameter("a", 2)

    @ex
    def half(a):
        return a / 2

    @ex.result
    def inverse(x):
        return 1 / x

    return inverse(half(a))


EVERY = [(key, event) for key in ("half", "inverse") for event in ("running", "succeeded")]


def watched(result, reporter):
    return result.with_options(replace(result.definition.options, progress=reporter))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_local_schedulers(dividing, scheduler):
    """Each step is shown when it starts and when it has ended, in this order."""
    notes = Notes()
    with reporting(notes) as reporter:
        assert watched(dividing, reporter).compute(scheduler=scheduler) == 1
        notes.wait_for(*EVERY)
    assert notes.seen == EVERY
    assert notes.ended == [None]


def test_cluster(dividing, client):
    """Steps that run on workers are shown too."""
    notes = Notes()
    with reporting(notes) as reporter:
        assert watched(dividing, reporter).compute() == 1
        notes.wait_for(*EVERY)
    assert notes.seen == EVERY


def test_failure(dividing):
    """A step that fails is shown as failed, and the display is told how the trial ended."""
    notes = Notes()
    with pytest.raises(ZeroDivisionError), reporting(notes) as reporter:
        watched(dividing.bind(a=0), reporter).compute(scheduler="synchronous")
    assert notes.seen[-1] == ("inverse", "failed")
    assert isinstance(notes.ended[0], ZeroDivisionError)


def test_two_at_once(dividing):
    """Each display is shown the steps of its own trial alone."""
    first, second = Notes(), Notes()
    with reporting(first) as one, reporting(second) as two:
        watched(dividing, one).compute(scheduler="synchronous")
        assert first.seen == EVERY
        assert second.seen == []
        watched(dividing, two).compute(scheduler="synchronous")
    assert first.seen == second.seen == EVERY


def test_broken_display(dividing):
    """A display that fails does no harm to the trial."""

    class Broken(Notes):
        def show(self, key, event):
            raise OSError("no terminal")

    with reporting(Broken()) as reporter:
        assert watched(dividing, reporter).compute(scheduler="synchronous") == 1


@pytest.fixture
def screen(monkeypatch):
    """Catch what bars draw."""
    text = io.StringIO()
    bar = tqdm.auto.tqdm
    monkeypatch.setattr(tqdm.auto, "tqdm", lambda **options: bar(file=text, ncols=80, **options))
    return text


def test_bar(screen):
    """The bar counts what is done, running and failed, and is full at a good end."""
    bar = StepBar(3, "training")
    bar.show("a", "running")
    bar._drawn = 0.0
    bar.show("a", "succeeded")
    bar._drawn = 0.0
    bar.show("b", "running")
    assert "training:  33%" in screen.getvalue()
    assert "1/3" in screen.getvalue()
    assert "1 running, 0 failed" in screen.getvalue()
    bar.close(None)
    assert "3/3" in screen.getvalue()
    assert "0 running, 0 failed" in screen.getvalue().rpartition("\r")[2]


def test_compute_with_progress(dividing, client, screen):
    """Asked for progress, a result that a cluster computes draws its steps, and how it ended."""
    assert dividing.compute(progress=True) == 1
    assert "inverse" in screen.getvalue()
    last = screen.getvalue().rpartition("\r")[2]
    assert "2/2" in last
    assert "0 running, 0 failed" in last
    with pytest.raises(ZeroDivisionError):
        dividing.bind(a=0).compute(progress=True)
    last = screen.getvalue().rpartition("\r")[2]
    assert "1/2" in last
    assert "0 running, 1 failed" in last


def test_sweep_with_progress(dividing, client, capsys):
    """A sweep on a cluster shows how many of its trials are done, running and failed."""
    dividing.sweep({"a": [0, 1, 2]}, progress=True)
    shown = capsys.readouterr().err
    first = next(line for line in shown.split("\r") if "running" in line)
    assert "0/3" in first
    assert "running=3" in first
    last = shown.rpartition("\r")[2]
    assert "3/3" in last
    assert "failed=1" in last
    assert "running=0" in last


NOTEBOOK = """
import pathlib
import daskperiment
ex = daskperiment.Experiment("noted", backend=pathlib.Path("store"))
@ex.result
def half(a):
    return a / 2
result = half(ex.parameter("a", 2))
result.compute(progress=True)
result.sweep({"a": [1, 2, 3]})
"""


def test_notebook(tmp_path):
    """In a notebook bars are widgets, as tqdm.auto makes them, which end full."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipywidgets")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=place).execute()
    widgets = "application/vnd.jupyter.widget-state+json"
    state = notebook.metadata["widgets"][widgets]["state"].values()
    bars = [one["state"] for one in state if one["model_name"] == "FloatProgressModel"]
    assert sorted((bar["value"], bar["max"]) for bar in bars) == [(1.0, 1.0), (3.0, 3.0)]
    assert {bar["bar_style"] for bar in bars} == {"success"}
    texts = [one["state"]["value"] for one in state if one["model_name"] == "HTMLModel"]
    shown = " ".join(texts).replace("\u2007", " ")  # figure spaces, which do not move
    assert "0 running, 0 failed" in shown


def test_bar_of_a_failed_trial(screen):
    """At a bad end the bar shows how far it came, and that a step failed."""
    bar = StepBar(3, "training")
    bar.show("a", "succeeded")
    bar.show("b", "running")
    bar.close(ValueError("no"))
    last = screen.getvalue().rpartition("\r")[2]
    assert "1/3" in last
    assert "0 running, 1 failed" in last
