"""What the page tells of steps that a running trial has not ended."""

from __future__ import annotations

import pytest

from daskperiment.dashboard.details import describe_trial
from daskperiment.records import Node
from tests.dashboard.stores import FolderLab
from tests.history.lab import NOW

CHAIN = [Node("load", "load"), Node("fit", "fit", ["load"]), Node("end", "end", ["fit"])]
PAIR = [Node("load", "load"), Node("fit#1", "fit", ["load"]), Node("fit#2", "fit", ["load"]),
        Node("end", "end", ["fit#1", "fit#2"])]  # fmt: skip
ENDED = NOW - 5 + 0.25
"""When a step of the lab has ended."""
CASES = {
    # graph, ended, beats as (time, sender, steps) -> each step's state and since when
    "nothing told": (CHAIN, [], [], {"load": ("ready", NOW), "fit": "waiting", "end": "waiting"}),
    "told": (CHAIN, [], [(1, "a", {"load": NOW + 3})], {
        "load": ("running", NOW + 3), "fit": "waiting", "end": "waiting"}),
    "told before it ended": (CHAIN, ["load"], [(1, "a", {"load": NOW})], {
        "fit": ("ready", NOW), "end": "waiting"}),
    "one of two waits for a worker": (PAIR, ["load"], [(1, "a", {"fit#1": NOW + 1})], {
        "fit#1": ("running", NOW + 1), "fit#2": ("ready", NOW), "end": "waiting"}),
    "two workers": (PAIR, ["load"], [(1, "a", {"fit#1": NOW}), (2, "b", {"fit#2": NOW + 1})], {
        "fit#1": ("running", NOW), "fit#2": ("running", NOW + 1), "end": "waiting"}),
    "its worker died": (CHAIN, ["load"], [(1, "a", {"fit": NOW}), (90, "b", {})], {
        "fit": ("ready", NOW), "end": "waiting"}),
    "told no more": (CHAIN, ["load"], [(1, "a", {"fit": NOW}), (2, "a", {})], {
        "fit": ("ready", NOW), "end": "waiting"}),
    "on another worker": (CHAIN, ["load"], [(1, "a", {"fit": NOW}), (2, "b", {"fit": NOW + 2})], {
        "fit": ("running", NOW + 2), "end": "waiting"}),
    "not of this graph, or at no moment": (CHAIN, [], [(1, "a", {"other": NOW, "load": 1e300})], {
        "load": ("ready", NOW), "fit": "waiting", "end": "waiting"}),
    "nobody waits for it": (CHAIN, ["end"], [], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_states(tmp_path, name):
    """A step runs if its process told so; else it is ready, or waits for its inputs."""
    graph, ended, beats, expected = CASES[name]
    lab = FolderLab(tmp_path / "lab")
    trial = lab.open({}, graph=graph)
    for key in ended:
        lab.step(trial, key)
    for time, sender, steps in beats:
        lab.beat(trial, NOW + time, f"1.{sender}", **steps)
    found = describe_trial(lab.store, trial)["unfinished"]
    told = {
        key: one["state"] if one["since"] is None else (one["state"], one["since"])
        for key, one in found.items()
    }
    assert told == expected
