"""Source is parsed whatever other threads do."""

from __future__ import annotations

import ast

import pytest

import daskperiment
from daskperiment.capture.source import parse_python


def busy(monkeypatch, times):
    """Let ``ast.parse`` fail so often as it does where threads are in each other's way."""
    left = iter(range(times))
    parse = ast.parse

    def fail_first(*args, **keywords):
        if next(left, None) is not None:
            raise SystemError("AST constructor recursion depth mismatch (before=144, after=64)")
        return parse(*args, **keywords)

    monkeypatch.setattr(ast, "parse", fail_first)


@pytest.mark.parametrize(("source", "mode"), [("a = 1", "exec"), ("a + 1", "eval"), (b"1", "exec")])
def test_tried_again(monkeypatch, source, mode):
    """Who is in another thread's way parses again."""
    expected = ast.dump(ast.parse(source, mode=mode))
    busy(monkeypatch, 3)
    assert ast.dump(parse_python(source, mode=mode)) == expected


def test_other_errors_are_raised(monkeypatch):
    """What is no Python is not tried again, and what never works is told."""
    with pytest.raises(SyntaxError):
        parse_python("a =")
    busy(monkeypatch, 1000)
    with pytest.raises(SystemError):
        parse_python("a")


def test_a_filter(tmp_path, monkeypatch):
    """A filter is read meanwhile, too."""
    ex = daskperiment.Experiment("busy", backend=tmp_path)
    ex.result(int)().compute()
    busy(monkeypatch, 2)
    assert list(ex.get_history(where="Success").index) == [1]
