"""Tables and shortened texts for terminals and notebooks."""

from __future__ import annotations

import dataclasses
import enum
import linecache
from datetime import date, datetime, time
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

import daskperiment
from daskperiment.formatting import (
    html_table,
    one_line,
    plain_repr,
    shorten,
    shorten_pair,
    table,
    width,
)


def test_table_aligns_columns():
    """Columns are as wide as their widest cell, and lines carry no blanks at the end."""
    text = table(["name", "old", "new"], [["lr", "0.1", "0.25"], ["momentum", "", "1"]])
    assert text.splitlines() == [
        "name      old  new",
        "lr        0.1  0.25",
        "momentum       1",
    ]


def test_table_without_headers_or_rows():
    """Headers and rows may each be missing, or both."""
    assert table([], [["a", "b"]], indent="  ") == "  a  b"
    assert table(["a", "b"], []) == "a  b"
    assert table([], []) == ""


def test_wide_characters_are_aligned():
    """Characters that take two columns of a terminal count as two, combining ones as none."""
    assert width("学習率") == 6
    assert width("e\u0301") == 1
    assert table([], [["学習率", "1"], ["lr", "2"]]) == "学習率  1\nlr      2"


def test_control_characters_are_escaped():
    """No text can break a line, move a cursor or hide itself."""
    assert one_line("a\nb\x1b[2J\u202e\udc80") == "a\\nb\\x1b[2J\\u202e\\udc80"
    assert table(["a"], [["x\ny"]]).count("\n") == 1


@given(st.text(), st.integers(1, 40))
def test_shortened_text_fits(text: str, columns: int):
    """Whatever the text, it is one printable line of at most so many columns."""
    line = shorten(text, columns)
    assert width(line) <= columns
    assert line.isprintable()


@given(st.text(alphabet="ab c", max_size=20))
def test_short_text_is_left_alone(text: str):
    """A text that fits is not changed."""
    assert shorten(text, 20) == text


def test_endless_text_is_cut_early():
    """A long text of characters without width shows that it was cut."""
    assert shorten("\u0301" * 10_000_000, 10).endswith("…")
    assert shorten("x" * 10_000_000, 10) == "xxxxxxxxx…"


@given(st.text("ab", max_size=60), st.text("ab", max_size=60))
def test_difference_stays_visible(first: str, second: str):
    """Two texts that differ still differ when shortened, and fit."""
    short = shorten_pair(first, second, 12)
    assert (short[0] == short[1]) == (first == second)
    assert max(map(width, short)) <= 12


class Kind(enum.Enum):
    """An everyday enum."""

    A = "a"


class Quiet(enum.Enum):
    """An enum that has a text of its own."""

    A = "a"

    def __repr__(self) -> str:
        return "nothing"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Kind.A, "Kind.A"),
        (Quiet.A, "nothing"),
        (PurePosixPath("a/b"), "a/b"),
        (date(2026, 2, 1), "2026-02-01"),
        (datetime(2026, 2, 1, 3, 4), "2026-02-01 03:04:00"),
        (time(3, 4), "03:04:00"),
        ("a", "'a'"),
        (0.1, "0.1"),
        pytest.param(-(10**5000), hex(-(10**5000)), id="long"),
    ],
)  # fmt: skip
def test_value_is_shown_in_few_words(value: object, text: str):
    """Members of enums, paths and dates show without their types; texts keep their quotes."""
    assert plain_repr(value) == text


def test_html_is_escaped():
    """Neither headers nor cells can bring markup of their own."""
    html = html_table(["<i>"], [["<script>alert('x')</script>"]])
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<th>&lt;i&gt;</th>" in html
    assert html_table([], [["a"]]) == "<table><tbody><tr><td>a</td></tr></tbody></table>"


# Notebooks -------------------------------------------------------------------------------------

HARM = "<script>alert('x')</script>"
NOT_SHOWN = {
    daskperiment.Parameter: {"plain", "computed"},
    daskperiment.Result: {"as_input", "computed_token", "definition", "of", "with_options"},
}
"""Public to other modules, and of no use to people."""


class Holder:
    """What is no plain data, and shows itself as markup."""

    def __repr__(self):
        return HARM


@pytest.fixture
def met(tmp_path, monkeypatch):
    """Make one of each thing that people meet, with markup in whatever they can name."""
    monkeypatch.chdir(tmp_path)
    ex = daskperiment.Experiment("met", seed=1)
    a = ex.parameter(f"a{HARM}", default=HARM)

    @ex
    def first(a):
        return a

    @ex.persist(reuse=True)
    def kept(a):
        return len(a)

    @ex.result
    def held(number):
        return Holder()

    result = held(kept(first(a)))
    result.compute()
    result.bind(**{f"a{HARM}": HARM + "2"}).compute()
    history = ex.get_history(verbose=True)
    bound = result.bind(**{f"a{HARM}": HARM})
    return {
        "experiment": ex, "parameter": a, "step function": first, "step": first(a),
        "result": result, "bound result": bound, "comparison": ex.compare(1, 2),
        "reproduction": bound.reproduce(1), "explanation": ex.explain(result),
        "past explanation": ex.explain(1), "stored object": history["Result"][1],
        "history": history, "steps": ex.get_steps(),
    }  # fmt: skip


def test_notebooks_show_all_that_people_meet(met):
    """Everything has HTML of its own, with the names in it, and none of it is markup."""
    for name, thing in met.items():
        html = thing._repr_html_()
        assert "<table" in html, name
        assert "<script" not in html, name
        if name not in ("step function", "step", "steps", "explanation", "past explanation"):
            assert "&lt;script&gt;" in html, name


def test_explanations_show_diffs_as_text(met):
    """A change of code stands below an explanation's table, and brings no markup along."""
    explained = met["explanation"]
    step = dataclasses.replace(explained.steps[0], diffs=(f"-{HARM}",))
    html = dataclasses.replace(explained, steps=(step,))._repr_html_()
    assert html.endswith("<pre>-&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;</pre>")


def test_completion_shows_public_names_only(met):
    """What the tabulator offers is there, and nothing that only other modules need."""
    result, parameter = met["result"], met["parameter"]
    for name in ("compute", "bind", "sweep", "reproduce", "visualize", "main", "name"):
        assert name in dir(result)
    assert "name" in dir(parameter)
    for thing in (result, met["bound result"], parameter):
        assert not NOT_SHOWN[type(thing)] & set(dir(thing)), thing
        assert NOT_SHOWN[type(thing)] <= {*dir(type(thing))}, "a name is gone"
    assert "as_input" not in dir(met["step"])
    ours = [name for name in dir(daskperiment) if not name.startswith("_")]
    assert ours == daskperiment.__all__


def test_cells_can_be_run_again(tmp_path, monkeypatch):
    """A cell that is run again defines its steps anew, and says nothing of it."""
    monkeypatch.chdir(tmp_path)
    cell = (
        "import daskperiment\n"
        "ex = daskperiment.Experiment('again', seed=1)\n"
        "a = ex.parameter('a', default=2)\n"
        "@ex.parameter\n"
        "def b(a):\n"
        "    return a + 1\n"
        "@ex.persist\n"
        "def double(b):\n"
        "    return 2 * b\n"
        "@ex.result\n"
        "def score(x):\n"
        "    return x\n"
        "result = score(double(b))\n"
    )
    names: dict[str, object] = {"__name__": "__main__"}
    for number in range(3):
        source = f"<cell {number}>"
        linecache.cache[source] = (len(cell), None, cell.splitlines(keepends=True), source)
        exec(compile(cell, source, "exec"), names)
        assert names["result"].compute() == 6
    ex = names["ex"]
    assert list(ex.get_parameters()) == ["a"]
    assert list(ex.get_parameters(3)) == ["a", "b"]
    assert repr(ex).count("double") == 1
    assert ex.compare(1, 3).identical
    assert not ex.compare(1, 3).differs


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4),
    st.integers(2, 60),
)
def test_no_number_loses_its_exponent(numbers: list[float], columns: int):
    """Where a text of numbers is cut, each that is shown still has its exponent."""
    text = repr(numbers)
    short = shorten(text, columns)
    assert width(short) <= columns
    shown = [part.rstrip(",…") for part in short.strip("[]").split(", ")]
    for number, part in zip(numbers, shown, strict=False):
        _, e, exponent = repr(number).partition("e")
        assert not part or not e or part.endswith(e + exponent)


@given(st.floats(1e-300, 1e-290), st.floats(1e-300, 1e-290), st.integers(12, 30))
def test_pairs_of_numbers_keep_their_exponents(first: float, second: float, columns: int):
    """Of two long numbers each keeps its exponent, however similar they are."""
    shown = shorten_pair(repr(first), repr(second), columns)
    for number, short in zip((first, second), shown, strict=True):
        assert width(short) <= columns
        assert short.endswith("e" + repr(number).partition("e")[2])
