"""What notebooks and terminals show of values and artifacts: nothing of a store runs by looking."""

from __future__ import annotations

import builtins
import os
from html.parser import HTMLParser

import msgspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import daskperiment
from daskperiment.cli.group import cli
from daskperiment.codec import encode
from daskperiment.history.previews import preview_html, preview_text
from daskperiment.history.stored_values import StoredObject
from daskperiment.records import Artifact, ObjectRef, Preview, artifact_id
from daskperiment.store.protocol import Record

PLANT = '<script>alert(1)</script><img src=x onerror="alert(1)">\x1b]0;title\x07&amp;'


class Tags(HTMLParser):
    """Notes the tags of a page."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def tags(html):
    parser = Tags()
    parser.feed(html)
    return parser.seen


def planted(**more):
    """Make a reference to a value in which every text is markup, and rows are of any length."""
    preview = Preview(
        kind="table", text=PLANT, dtype=PLANT, shape=[3, 4], stats={PLANT: PLANT},
        columns=[[PLANT, PLANT], [PLANT], [], [PLANT, PLANT, PLANT]],
        rows=[[PLANT], [], [PLANT] * 9],
    )  # fmt: skip
    return ObjectRef(PLANT, PLANT, size=3, digest="ab" * 16, preview=preview, **more)


class Bomb:
    """A value whose pickle writes a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return builtins.eval, (f"open({self.path!r}, 'w').close()",)


def known():
    """Give values with what is told of each."""
    frame = pd.DataFrame({"x": range(40), "name": ["a"] * 40})
    return {
        "array": (np.arange(12.0).reshape(3, 4), ["float64, 3 × 4", "min 0", "max 11"]),
        "text": ("first line\nsecond\n" * 20, ["first line\nsecond"]),
        "tree": ({"weights": np.ones(3), "bias": np.zeros(2)}, ["weights", "bias", "float64"]),
        "frame": (frame, ["x", "name"]),
    }


@pytest.fixture(scope="module")
def ex(tmp_path_factory):
    """Make an experiment whose trial has an artifact of each kind, and a result."""
    folder = tmp_path_factory.mktemp("previews")
    ex = daskperiment.Experiment("shown", backend=folder)
    ex.folder = folder

    @ex.result(persist=True)
    def fit(a):
        for name, (value, _) in known().items():
            ex.save(name, value)
        ex.save("bomb", Bomb(folder / "exploded"))
        return np.eye(200) * a

    fit(ex.parameter("a", default=1)).compute()
    return ex


def run(ex, *arguments):
    found = CliRunner().invoke(cli, [*arguments, "--backend", str(ex.folder)])
    assert found.exit_code == 0, found.output
    return found.output


def test_in_a_terminal(ex):
    """``artifacts --preview`` and ``show`` tell of each value; a list for programs does not."""
    for output in (run(ex, "artifacts", "shown", "1", "--preview"), run(ex, "show", "shown", "1")):
        for name, (_, told) in known().items():
            part = output.partition(f"\n'{name}' of trial 1")[2].partition("' of trial")[0]
            text = "\n".join(line.removeprefix("  ") for line in part.splitlines())
            if name != "frame" or "parquet" in text:  # else it is a pickle
                assert all(each in text for each in told), (name, text)
    assert "float64, 200 × 200" in run(ex, "show", "shown", "1")
    assert "min 0" not in run(ex, "artifacts", "shown", "1")
    assert "min 0" not in run(ex, "artifacts", "shown", "--format", "csv", "--preview")


def test_in_a_notebook(ex):
    """The table of artifacts shows their previews below it; so does a value of a history."""
    html = ex.get_artifacts(1)._repr_html_()
    assert html.count("<figure>") == 5
    assert "float64, 3 × 4" in html
    assert "first line" in html
    value = ex.get_history()["Result"][1]
    assert isinstance(value, StoredObject)
    assert "float64, 200 × 200" in value._repr_html_()
    assert value.preview.startswith("float64, 200 × 200, min 0")


def test_the_table_is_a_table(ex):
    """What is made of the table, pickled or equal to it is a table like any other."""
    found = ex.get_artifacts(1)
    assert found.equals(ex.get_artifacts(1))
    assert "<figure>" not in found.copy()._repr_html_()
    assert found.drop(columns="Added").shape == (5, 6)


def test_pictures(ex):
    """A picture shows as its small one, which is a picture and nothing else."""
    images = pytest.importorskip("PIL.Image")
    ex.save("picture", images.new("RGB", (1200, 900), "red"), trial_id=1)
    html = ex.get_artifacts(1)._repr_html_()
    (source,) = (one["src"] for tag, one in tags(html) if tag == "img")
    assert source.startswith("data:image/png;base64,iVBOR")


def test_nothing_is_unpickled(ex):
    """Looking at artifacts that are pickles loads none."""
    ex.get_artifacts(1)._repr_html_()
    ex.get_artifacts()._repr_html_()
    run(ex, "artifacts", "shown", "1", "--preview")
    run(ex, "show", "shown", "1")
    assert not (ex.folder / "exploded").exists()
    ex.load("bomb", 1)
    assert (ex.folder / "exploded").exists()
    os.remove(ex.folder / "exploded")


def test_planted_previews():
    """Whatever stands in a preview is text: no tag comes of it, and no control character."""
    for reference in (planted(), planted(reason=PLANT)):
        seen = tags(preview_html(reference))
        assert {tag for tag, _ in seen} <= {"p", "pre", "table", "thead", "tbody", "tr", "th", "td"}
        assert all(not attributes for _, attributes in seen)
        assert not {"\x1b", "\x07"} & set(preview_text(reference))
    alone = preview_html(ObjectRef(PLANT, PLANT))
    assert [tag for tag, _ in tags(alone)] == ["pre"]


def test_planted_artifacts(tmp_path):
    """A record with markup, a page, and a small picture that is none show as text."""
    ex = daskperiment.Experiment("planted", backend=tmp_path)

    @ex.result
    def done(a):
        return a

    done(ex.parameter("a", default=1)).compute()
    ex._store.put("cd" * 16, [b"<svg onload='alert(1)'/>"])
    small = ObjectRef("image/png", "thumbnail", size=24, digest="cd" * 16, format="png")
    page = Preview(kind="html", text=PLANT)
    for number, reference in enumerate([planted(), ObjectRef("str", PLANT, preview=page)]):
        artifact = Artifact(
            f"{PLANT}{number}", msgspec.to_builtins(reference), 1.0,
            thumbnail=msgspec.to_builtins(small),
        )  # fmt: skip
        id = artifact_id(artifact.name, 1.0, number)
        ex._store.append([Record("notes", 1, id, encode(artifact, 1))])
    html = ex.get_artifacts(1)._repr_html_()
    assert html.count("<figure>") == 2
    gallery = html[html.index("<figure>") :]
    assert {tag for tag, _ in tags(gallery)}.isdisjoint({"script", "img", "iframe", "svg"})
    output = CliRunner().invoke(
        cli, ["artifacts", "planted", "1", "--preview", "--backend", str(tmp_path)]
    )
    assert output.exit_code == 0, output.output
    assert "\x1b" not in output.output
    assert "\x07" not in output.output


def test_what_is_long_is_cut():
    """A wide or long table, and a long text, are cut for a terminal, and it is said of columns."""
    columns = [[f"column{n}", "int64"] for n in range(20)]
    wide = Preview(kind="table", columns=columns, rows=[["x" * 99] * 20] * 30)
    lines = preview_text(ObjectRef("t", "r", preview=wide)).splitlines()
    assert len(lines) == 15
    assert lines[-1] == "and 12 more columns"
    assert max(map(len, lines)) < 300
    text = Preview(kind="text", text="line\n" * 100)
    assert len(preview_text(ObjectRef("t", "r", preview=text)).splitlines()) == 12


def test_more_artifacts_than_a_cell_shows(tmp_path):
    """Of many artifacts the first twenty have previews, and it is said how many are left."""
    ex = daskperiment.Experiment("many", backend=tmp_path)

    @ex.result
    def done(a):
        for number in range(23):
            ex.save(f"note{number}", "text")
        return a

    done(ex.parameter("a", default=1)).compute()
    html = ex.get_artifacts(1)._repr_html_()
    assert html.count("<figure>") == 20
    assert html.endswith("<p>and 3 more artifacts</p>")


def test_previews_of_what_is_gone(tmp_path):
    """A small picture that is no longer there costs the picture, and no more."""
    images = pytest.importorskip("PIL.Image")
    ex = daskperiment.Experiment("gone", backend=tmp_path)

    @ex.result
    def done(a):
        ex.save("picture", images.new("RGB", (1200, 900), "red"))
        return a

    done(ex.parameter("a", default=1)).compute()
    ex._store.discard(list(ex._store.digests()))
    html = ex.get_artifacts(1)._repr_html_()
    assert "1200 × 900" in html
    assert "<img" not in html
