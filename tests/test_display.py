"""Tables and shortened texts for terminals and notebooks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daskperiment.display import html_table, one_line, shorten, shorten_pair, table, width


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


def test_html_is_escaped():
    """Neither headers nor cells can bring markup of their own."""
    html = html_table(["<i>"], [["<script>alert('x')</script>"]])
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<th>&lt;i&gt;</th>" in html
    assert html_table([], [["a"]]) == "<table><tbody><tr><td>a</td></tr></tbody></table>"
