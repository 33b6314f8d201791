"""What a trial was given, or raised, does no harm where it is shown."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import daskperiment
from daskperiment.cli import cli
from daskperiment.history.columns import HarmlessFrame

LONG = 10**10_000 + 7
ESCAPES = "a\x1b]0;pwned\x07\x9b31m\u202eb\r"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
FORMULAS = [
    "=1+1",
    "+1",
    "-1+cmd|' /C calc'!A0",
    "@SUM(1)",
    " =1",
    "\t=1",
    "\n=1",
    "＝1",
    "|x",
    "'=1",
]


def trial(folder: Path, **values: Any) -> daskperiment.Experiment:
    ex = daskperiment.Experiment("harm", backend=folder)
    nodes = [ex.parameter(name) for name in values]

    @ex.result
    def total(*given: Any) -> Any:
        return given[0]

    total(*nodes).bind(**values).compute(scheduler="sync")
    return ex


def run(folder: Path, *words: str) -> str:
    ran = CliRunner().invoke(cli, [*words, "--backend", str(folder)])
    assert ran.exit_code == 0, ran.output
    return ran.output


@pytest.fixture
def shown(tmp_path: Path) -> list[str]:
    """Everything that shows an experiment with hostile texts and a number of 10,000 digits."""
    ex = trial(tmp_path, **{"n": LONG, ESCAPES: ESCAPES, "both": [LONG, ESCAPES]})
    history = ex.get_history(verbose=True)
    assert history["n"].tolist() == [LONG]
    assert history[ESCAPES].tolist() == [ESCAPES]
    texts = [repr(history), str(history.T), repr(history.head()), history._repr_html_() or ""]
    texts += [repr(ex), ex._repr_html_(), str(ex.explain(1)), repr(ex.compare(1, 1))]
    texts += [repr(ex.get_steps(1))]
    for words in (["history", "harm"], ["show", "harm", "1"], ["compare", "harm", "1", "1"]):
        texts.append(run(tmp_path, *words))
    for style in ("csv", "json"):
        texts.append(run(tmp_path, "history", "harm", "--format", style))
    run(tmp_path, "export", "harm", str(tmp_path / "out"))
    return [*texts, (tmp_path / "out" / "history.csv").read_text()]


def test_nothing_shown_holds_what_a_terminal_acts_on(shown: list[str]) -> None:
    """Names and values with escapes are shown with the escapes spelled out, wherever."""
    for text in shown:
        assert not CONTROL.search(text), text[:300]


def test_a_number_of_any_length_shows(shown: list[str]) -> None:
    """A number of more digits than Python writes shows in a table, a repr and an export."""
    start = hex(LONG)[:12]
    for text in (shown[0], shown[3], shown[9], shown[12], shown[13], shown[14]):
        assert start in text, text[:300]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_csv_is_a_formula(tmp_path: Path, text: str) -> None:
    """A spreadsheet takes a text of CSV, as name or as value, for a text."""
    trial(tmp_path, **{text: text, "minus": -1.5})
    rows = list(csv.reader(io.StringIO(run(tmp_path, "history", "harm", "--format", "csv"))))
    for row in rows:
        for cell in row:
            assert cell[:1] not in tuple("=+@|＝\t\n ")
    assert "-1.5" in rows[1]


def test_a_frame_keeps_its_values(tmp_path: Path) -> None:
    """Showing a table changes nothing of it, and what is made of it is harmless too."""
    frame = trial(tmp_path, n=LONG, text=ESCAPES).get_history()
    repr(frame)
    assert frame["n"].tolist() == [LONG]
    assert isinstance(frame[["n"]], HarmlessFrame)
    assert "\x1b" not in repr(frame[["text"]].reset_index())


@pytest.mark.parametrize("size", [10, 50_000_000])
def test_text_of_an_exception_is_cut(tmp_path: Path, size: int) -> None:
    """A text of 50 MB is raised as it is, and recorded in short, with its ends."""
    ex = daskperiment.Experiment("loud", backend=tmp_path)

    @ex.result
    def fail() -> None:
        raise ValueError("begin" + "x" * size + "end")

    with pytest.raises(ValueError, match="begin") as raised:
        fail().compute(scheduler="sync")
    assert len(str(raised.value)) == size + 8
    description = ex.get_history()["Description"][1]
    assert description.startswith("ValueError(beginx")
    assert description.endswith("xend)")
    assert len(description) < 101_000
    assert ("left out" in description) == (size > 10)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert written < 2_000_000
