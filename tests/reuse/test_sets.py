"""Nodes in sets and as keys of dicts: one cache key in every process, and one seed for each."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from dask import delayed

import daskperiment
from daskperiment.graph.dask_tasks import Alias, Dict

ROOT = Path(__file__).parents[2]


class Pair(NamedTuple):
    """A named tuple for nodes."""

    first: object
    second: object


@dataclasses.dataclass(frozen=True)
class Settings:
    """A dataclass for nodes."""

    first: object
    second: object


KINDS = {
    "set": lambda one: {one(1), one(2), one(3), 7, "a", "b"},
    "frozenset": lambda one: frozenset([one(1), one(2), one(3), "a", "b"]),
    "one node": lambda one: {one(1), "a", "b", "c", "d"},
    "keys": lambda one: {one(1): "x", one(2): one(3), "a": 1},
    "nested": lambda one: [{one(1), one(2)}, {one(3): {one(4), "b", "c"}}],
    "sets of sets": lambda one: {frozenset([one(1), "a"]), frozenset([one(2), "b"]), "c"},
    "tuples": lambda one: {(one(1), "a"), (one(2), "b"), "c"},
    "objects": lambda one: {Settings(one(1), "a"), Settings(one(2), "b")},
    "named tuples": lambda one: {Pair(one(1), "a"), Pair(one(2), "b")},
    "functions between": lambda one: {delayed(repr)(one(1)), delayed(repr)(one(2))},
    "dask's own": lambda one: delayed(sorted)({delayed(repr)(one(1)), "b", "c"}),
    "slice": lambda one: slice(one(1), None),
}  # fmt: skip


def call(folder, kind):
    """Return an experiment, and a result of which a reusable step takes nodes in this way."""
    ex = daskperiment.Experiment("sets", backend=folder, seed=5)

    @ex
    def one(number):
        return number, float(ex.rng.random())

    @ex.persist(reuse=True)
    def many(values):
        return repr(sorted(_flat(values)))

    return ex, ex.result(str)(many(KINDS[kind](one)))


def _flat(values):
    """Give the texts of all that a value is made of."""
    if isinstance(values, dict):
        values = [*values.keys(), *values.values()]
    if isinstance(values, Settings):
        values = [values.first, values.second]
    if isinstance(values, slice):
        values = [values.start]
    if isinstance(values, (list, set, frozenset, tuple)):
        for each in values:
            yield from _flat(each)
    else:
        yield repr(values)


def _substitutes_keys():
    """Whether this version of Dask can put nodes in the place of others that are keys of dicts."""
    try:
        Dict({Alias("a"): 1}).substitute({"a": "b"})
    except TypeError:
        return False
    return True


if not _substitutes_keys():  # that version also makes its own graphs of sets in any order
    del KINDS["keys"], KINDS["nested"], KINDS["dask's own"]


def main(folder):
    """Print what each kind gives, and whether it was known."""
    for kind in KINDS:
        ex, result = call(f"{folder}/{kind}", kind)
        verdict = ex.explain(result)["many"].verdict
        print(json.dumps([kind, verdict, result.compute()]))


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Run all kinds in two processes in which sets have other orders."""
    folder = str(tmp_path_factory.mktemp("sets"))
    code = f"from tests.reuse.test_sets import main; main({folder!r})"
    lines = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              cwd=ROOT, env=environment, check=True)  # fmt: skip
        lines.append({each[0]: each[1:] for each in map(json.loads, done.stdout.splitlines())})
    return lines


@pytest.mark.parametrize("kind", KINDS)
def test_equal_in_every_process(said, kind):
    """The output is found again in another process, and made with the same draws of each call."""
    first, second = (lines[kind] for lines in said)
    assert first[0] == "miss"
    assert second == ["hit", first[1]]


def test_what_a_set_holds_counts(ex):
    """Another node in a set is another input, whichever it is; the order is none."""

    @ex
    def one(number):
        return number

    @ex.persist(reuse=True)
    def many(values):
        return sorted(values)

    def verdict(*numbers, kind=set):
        result = ex.result(len)(many(kind([one(number) for number in numbers])))
        told = ex.explain(result)["many"]
        result.compute()
        return told.verdict

    assert verdict(1, 2, 3) == "miss"
    assert verdict(3, 1, 2) == "hit"
    assert verdict(1, 2) == "miss"
    assert verdict(1, 2, 4) == "miss"
    assert verdict(1, 2, 3, kind=list) == "miss"
    assert verdict(1, 2, 3, kind=frozenset) == "miss"
