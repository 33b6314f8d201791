"""Trials that a pruner stopped are pruned: they have not failed."""

from __future__ import annotations

import sqlite3

import optuna
import pytest

from daskperiment.records import OUTCOMES, outweighs


def stopping(ex):
    """Return a result whose step says that it is not worth going on from 2 on."""
    a = ex.parameter("a")

    @ex
    def train(a):
        ex.save_metric("loss", 0, a)
        if a > 1:
            raise optuna.TrialPruned("not worth it")
        return a

    @ex.result
    def result(value):
        return value

    return result(train(a))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_status(ex, scheduler):
    """The trial and its step are pruned, with the reason and the points until then."""
    result = stopping(ex)
    with pytest.raises(optuna.TrialPruned, match="not worth it"):
        result.bind(a=2).compute(scheduler=scheduler)
    history = ex.get_history(verbose=True)
    assert history.loc[1, "Status"] == "pruned"
    assert "not worth it" in history.loc[1, "Description"]
    assert list(ex.get_steps(1)["Status"]) == ["pruned"]
    assert ex.load_metric("loss", 1)[1].to_dict() == {0: 2}
    assert list(ex.get_history(where='Status == "pruned"').index) == [1]


def test_a_pruned_trial_ends_no_sweep(ex):
    """Where failures end a sweep, pruned trials do not; nor are they run again."""
    result = stopping(ex)
    table = result.sweep({"a": [1, 2, 0]}, on_error="raise")
    assert list(table["Success"]) == [True, False, True]
    again = result.sweep(resume=table.attrs["sweep"])
    assert list(again.index) == [1, 2, 3]


def test_gone_on_with(ex):
    """A pruned trial can be gone on with."""
    result = stopping(ex)
    for number in (1, 2):
        with pytest.raises(optuna.TrialPruned):
            result.resume(1) if number == 2 else result.bind(a=2).compute()
    assert list(ex.get_history(verbose=True)["Status"]) == ["pruned", "pruned"]
    assert ex.compare(1, 2)


def test_shown_by_the_view(ex, tmp_path):
    """The views of a folder have the status, too."""
    with pytest.raises(optuna.TrialPruned):
        stopping(ex).bind(a=2).compute(scheduler="synchronous")
    ex.get_history()
    (path,) = tmp_path.rglob("records.sqlite")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT status FROM v_history").fetchall() == [("pruned",)]
    connection.close()


def test_which_outcome_holds():
    """What a step says itself outweighs that others stopped it; success outweighs all."""
    assert OUTCOMES[0] == "succeeded"
    assert outweighs("pruned", "interrupted")
    assert not outweighs("pruned", "succeeded")
