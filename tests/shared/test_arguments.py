"""Arguments that changed or are ignored, told on each kind of store, and by the commands."""

from __future__ import annotations

from click.testing import CliRunner

import daskperiment
from daskperiment import experiment
from daskperiment.cli import cli
from daskperiment.recording.registry import close_recorders
from tests.helpers.arguments import CHANGES, check_changes


def test_changed_and_ignored_arguments(place):
    """Explain and compare name the argument that changed, and so do the commands for them."""
    ex = daskperiment.Experiment("arguments", backend=place.backend, seed=1)
    trials = check_changes(ex)
    close_recorders()
    experiment._EXPERIMENTS.clear()
    for kind, (first, second) in trials.items():
        reason = CHANGES[kind][2]
        told = _asked("explain", "arguments", second, place)
        assert f"{reason}; n_jobs ignored" in told
        compared = _asked("compare", "arguments", first, second, place)
        assert reason.replace("→", "->") in compared
        assert "not pure" not in compared


def _asked(*words):
    *words, place = words
    command = [*map(str, words), "--backend", str(place.backend)]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())
