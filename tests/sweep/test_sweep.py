"""Sweeps on this process's schedulers: trials, their table, failures, and resuming."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import dask
import pytest

import daskperiment
from daskperiment.errors import (
    DaskperimentWarning,
    ParameterUndeclaredError,
    ParameterUndefinedError,
    StoreUnavailableError,
)
from daskperiment.sweep import sweep
from daskperiment.sweep.sweep_plan import known_sweeps, trials_of

# Tests change on the way what the functions of their results do.
pytestmark = pytest.mark.filterwarnings("ignore::daskperiment.errors.CodeChangedWarning")

GRID = {"a": [1, 2, 3], "b": [10, 20]}


def test_a_grid_makes_a_trial_of_each_point(ex, adding, quiet) -> None:
    """The table has the sweep's trials in order, the failed one included, and nothing else."""
    adding.bind(a=7).compute()
    frame = quiet(adding, GRID)
    assert list(frame.index) == [2, 3, 4, 5, 6, 7]
    assert list(frame["a"]) == [1, 1, 2, 2, 3, 3]
    assert list(frame["b"]) == [10, 20, 10, 20, 10, 20]
    assert list(frame["Success"]) == [True, True, True, True, False, True]
    assert frame["Result"].dropna().tolist() == [11, 21, 12, 22, 23]
    assert frame.loc[6, "Description"] == "ZeroDivisionError(thirteen)"
    assert len(ex.get_history()) == 7


def test_the_id_is_recorded_with_each_trial(ex, adding, quiet) -> None:
    """The id of the table's attributes stands in the trials and in the store's list of sweeps."""
    first, second = quiet(adding, {"a": [1]}), quiet(adding, {"a": [1]})
    ids = [first.attrs["sweep"], second.attrs["sweep"]]
    assert all(re.fullmatch("[0-9a-f]{12}", id) for id in ids)
    assert known_sweeps(ex._store) == ids
    assert (list(first.index), list(second.index)) == ([1], [2])


def test_bound_values_hold_where_the_space_has_none(adding, quiet) -> None:
    """Values that were bound go with each trial; the space outweighs them."""
    frame = quiet(adding.bind(a=100, b=1), {"a": [1, 2]})
    assert frame[["a", "b"]].to_numpy().tolist() == [[1, 1], [2, 1]]


def test_a_seed_makes_a_sweep_the_same_again(ex, cutting, quiet) -> None:
    """Points and draws depend on the sweep's seed; points have different seeds."""
    result, _ = cutting
    space = {"a": range(1000)}
    one, two, other = (
        quiet(result, space, n_trials=4, sampler="random", seed=seed)["Result"].tolist()
        for seed in (1, 1, 2)
    )
    assert one == two != other
    assert len({draw for _, draw in one}) == 4


def test_without_a_seed_the_experiments_holds(tmp_path, quiet) -> None:
    """Trials of a sweep without a seed have the experiment's, as others have."""
    ex = daskperiment.Experiment("seeded", backend=tmp_path, seed=5)
    a = ex.parameter("a")
    result = ex.result(lambda a: int(ex.rng.integers(1000)))(a)
    assert len(set(quiet(result, {"a": [1, 2]})["Result"])) == 1
    assert set(ex.get_history(verbose=True)["Seed"]) == {5}


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_keywords_reach_dask(adding, quiet, scheduler) -> None:
    """Each trial runs on the scheduler that is asked for."""
    assert quiet(adding, {"a": [1, 2]}, scheduler=scheduler)["Result"].tolist() == [11, 12]


def test_raise_ends_the_sweep_with_the_trials_exception(ex, adding, quiet) -> None:
    """The exception comes out unchanged, says how to resume, and what was run is recorded."""
    with pytest.raises(ZeroDivisionError, match="thirteen") as caught:
        quiet(adding, {"a": [1, 3, 2]}, on_error="raise")
    (id,) = known_sweeps(ex._store)
    assert f"resume={id!r}" in caught.value.__notes__[0]
    assert list(ex.get_history()["Success"]) == [True, False]
    rest = quiet(adding, resume=id)
    assert list(rest["a"]) == [1, 3, 2]


def test_a_store_that_is_away_ends_the_sweep(ex, adding, quiet, monkeypatch) -> None:
    """A sweep does not go on where no trial could begin; what is missing can be run later."""
    allocate, calls = ex._store.allocate, []

    def failing(*args):
        calls.append(1)
        if len(calls) > 2:
            raise StoreUnavailableError("gone")
        return allocate(*args)

    with monkeypatch.context() as patch:
        patch.setattr(type(ex._store), "allocate", lambda self, *args: failing(*args))
        with (
            dask.config.set({"daskperiment.patience": 0}),
            pytest.raises(StoreUnavailableError) as caught,
        ):
            quiet(adding, {"a": [1, 2, 4, 5]})
    assert len(calls) == 3
    (id,) = known_sweeps(ex._store)
    assert id in caught.value.__notes__[0]
    assert list(quiet(adding, resume=id)["a"]) == [1, 2, 4, 5]


def test_failures_before_a_trial_begins_are_told(ex, adding, quiet) -> None:
    """Trials that leave no record, as on a scheduler that does not exist, are warned about."""
    with pytest.warns(DaskperimentWarning, match="2 trials of sweep .* nothing of them"):
        frame = quiet(adding, {"a": [1, 2]}, num_workers=0, scheduler=_refuse)
    assert len(frame) == 0


def _refuse(*args, **kwargs):
    raise OSError("no such scheduler")


# Resuming ----------------------------------------------------------------------------------------


def test_resume_runs_what_is_missing(ex, cutting, quiet) -> None:
    """Cut by Ctrl-C and resumed, a sweep has the trials that it would have had uncut."""
    result, hooks = cutting
    arguments = {"space": {"a": range(50)}, "n_trials": 6, "sampler": "random", "seed": 3}
    whole = quiet(result, **arguments)

    def cut(a):
        if a == whole["a"].iloc[3]:
            raise KeyboardInterrupt

    hooks.append(cut)
    with pytest.raises(KeyboardInterrupt) as caught:
        quiet(result, **arguments)
    hooks.clear()
    id = known_sweeps(ex._store)[-1]
    assert f"resume={id!r}" in caught.value.__notes__[0]
    frame = quiet(result, resume=id)
    assert frame.attrs["sweep"] == id
    assert list(frame["Description"].dropna()) == ["interrupted: KeyboardInterrupt()"]
    done = frame[frame["Success"]]
    assert done["a"].tolist() == whole["a"].tolist()
    assert done["Result"].tolist() == whole["Result"].tolist()
    assert len(quiet(result, resume=id)) == len(frame)


KILLED = """
import os, pathlib, signal, sys
import daskperiment
from daskperiment.sweep import sweep

ex = daskperiment.Experiment("demo", backend=pathlib.Path(sys.argv[1]))

@ex.result
def double(a):
    if a == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * a, int(ex.rng.integers(1_000_000))

sweep(double(ex.parameter("a")), {"a": [1, 2, 3, 4]}, seed=1, progress=False)
"""


def test_resume_after_sigkill(ex, tmp_path, cutting, quiet) -> None:
    """A sweep whose process was killed is found in the store, and goes on from there."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "store")], check=False)
    assert done.returncode == -signal.SIGKILL
    (id,) = known_sweeps(ex._store)
    result, _ = cutting
    frame = quiet(result, resume=id)
    assert frame["a"].tolist() == [1, 2, 3, 3, 4]
    assert frame["Description"].dropna().tolist() == ["lost: its process is gone"]
    whole = quiet(result, {"a": [1, 2, 3, 4]}, seed=1)
    assert frame["Result"].dropna().tolist() == whole["Result"].tolist()


def test_running_trials_are_left_alone(ex, cutting, quiet) -> None:
    """Resumed while a trial of it runs, a sweep does not run that one twice, and says so."""
    result, hooks = cutting
    found = []

    def look(a):
        if a == 2:
            hooks.clear()
            with pytest.warns(DaskperimentWarning, match=r"1 trials .* are running still \(2\)"):
                found.append(quiet(result, resume=known_sweeps(ex._store)[0]))

    hooks.append(look)
    frame = quiet(result, {"a": [1, 2, 3]})
    assert found[0]["a"].tolist() == [1, 3]
    assert frame["a"].tolist() == [1, 2, 3, 3]


def test_repeated_values_are_resumed_one_by_one(ex, cutting, quiet) -> None:
    """Of a point that stands three times in the space, resuming runs what is missing."""
    result, hooks = cutting
    whole = quiet(result, {"a": [5, 5, 5]}, seed=1)["Result"].tolist()
    assert len(set(whole)) == 3
    hooks.append(lambda a: (_ for _ in ()).throw(KeyboardInterrupt) if len(seen) > 1 else None)
    seen: list[int] = []
    hooks.insert(0, seen.append)
    with pytest.raises(KeyboardInterrupt):
        quiet(result, {"a": [5, 5, 5]}, seed=1)
    hooks.clear()
    frame = quiet(result, resume=known_sweeps(ex._store)[-1])
    assert frame.loc[frame["Success"], "Result"].tolist() == whole


def test_resume_takes_more_trials(adding, quiet) -> None:
    """A resumed sweep may go further than it was to go; failed trials are not repeated."""
    id = quiet(adding, {"a": [1, 3, 2, 4]}, n_trials=2).attrs["sweep"]
    assert quiet(adding, resume=id, n_trials=3)["a"].tolist() == [1, 3, 2]
    assert quiet(adding, {"a": (1, 3, 2, 4)}, resume=id, n_trials=9)["a"].tolist() == [1, 3, 2, 4]


def test_resume_of_another_sweep_is_refused(ex, tmp_path, adding, quiet) -> None:
    """An unknown id is answered with those that there are; another result's is refused too."""
    with pytest.raises(ValueError, match="none yet"):
        quiet(adding, resume="0123456789ab")
    id = quiet(adding, {"a": [1]}).attrs["sweep"]
    other = daskperiment.Experiment("other", backend=tmp_path / "store")
    result = other.result(lambda a: a)(other.parameter("a"))
    foreign = quiet(result, {"a": [1]}).attrs["sweep"]
    with pytest.raises(ValueError, match=f"no sweep '{foreign}'.*experiment: '{id}'"):
        quiet(adding, resume=foreign)
    second = ex.result(_second)(ex.parameter("a"))
    with pytest.raises(ValueError, match="of the result 'add', not of '_second'"):
        quiet(second, resume=id)


def _second(a):
    return a


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"space": {"a": [1, 2]}}, "another space"),
        ({"space": {"a": [True]}}, "another space"),
        ({"seed": 2}, "another seed"),
        ({"sampler": "random"}, "another sampler"),
    ],
)
def test_resume_with_something_else_is_refused(ex, adding, quiet, given, message) -> None:
    """What defines the sweep cannot change on the way; nothing is run then."""
    id = quiet(adding, {"a": [1]}, seed=1).attrs["sweep"]
    with pytest.raises(ValueError, match=message):
        quiet(adding, resume=id, **given)
    assert ex.trial_id == 1


def test_resume_with_other_parameters_is_refused(ex, adding, quiet) -> None:
    """A parameter outside the space must still have the value that the sweep began with."""
    id = quiet(adding, {"a": [1]}).attrs["sweep"]
    ex.set_parameters(b=11)
    with pytest.raises(ValueError, match=r"another parameter 'b'.*10.*11"):
        quiet(adding, resume=id)
    assert len(quiet(adding.bind(b=10), resume=id)) == 1


def test_a_space_that_no_record_holds_is_asked_for(adding, quiet) -> None:
    """A distribution has to be given again; its description tells whether it is the same."""
    stats = pytest.importorskip("scipy.stats")
    arguments = {"n_trials": 2, "sampler": "random", "seed": 1}
    first = quiet(adding, {"a": stats.norm(0, 1)}, **arguments)
    id = first.attrs["sweep"]
    with pytest.raises(ValueError, match="give the space again"):
        quiet(adding, resume=id)
    with pytest.raises(ValueError, match="another space"):
        quiet(adding, {"a": stats.norm(0, 2)}, resume=id)
    frame = quiet(adding, {"a": stats.norm(0, 1)}, resume=id, n_trials=3)
    assert frame["a"].tolist()[:2] == first["a"].tolist()
    assert frame["a"].tolist() == quiet(
        adding, {"a": stats.norm(0, 1)}, **{**arguments, "n_trials": 3}
    )["a"].tolist()  # fmt: skip


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "needs a space"),
        ({"space": {}}, ValueError, "empty"),
        ({"space": {"z": [1]}}, ParameterUndeclaredError, "'z'"),
        ({"space": {"b": [1]}}, ParameterUndefinedError, "'a'"),
        ({"space": {"a": [1]}, "n_trials": 0}, ValueError, "n_trials is 0"),
        ({"space": {"a": [1]}, "n_trials": -3}, ValueError, "n_trials is -3"),
        ({"space": {"a": []}}, ValueError, "no values for parameter 'a'"),
        ({"space": {"a": [1]}, "n_trials": 1.5}, ValueError, "n_trials is 1.5"),
        ({"space": {"a": [1]}, "sampler": "gird"}, ValueError, "no sampler 'gird'"),
        ({"space": {"a": [1]}, "sampler": print}, TypeError, "The sampler is <built-in"),
        ({"space": {"a": [1]}, "on_error": "ignore"}, ValueError, "on_error is 'ignore'"),
        ({"space": {"a": [1]}, "seed": -1}, ValueError, "seed is -1"),
        ({"space": {"a": [1]}, "direction": "up"}, ValueError, "direction is 'up'"),
        ({"space": {"a": [1]}, "direction": "minimize"}, ValueError, "does not look"),
        ({"resume": 3}, ValueError, "resume is 3"),
    ],
)
def test_bad_input_runs_nothing(ex, adding, quiet, arguments, error, message) -> None:
    """What cannot be run as asked raises at once: no trial and no sweep is recorded."""
    with pytest.raises(error, match=message):
        quiet(adding, **arguments)
    assert ex.trial_id == 0
    assert known_sweeps(ex._store) == []


# Progress ----------------------------------------------------------------------------------------


def test_progress_names_the_sweep_and_counts_failures(adding, capsys) -> None:
    """The bar shows the id, how many trials are done and how many failed; without it, silence."""
    id = sweep(adding, GRID).attrs["sweep"]
    shown = capsys.readouterr().err
    assert f"sweep {id}" in shown
    assert "6/6" in shown
    assert "failed=1" in shown
    sweep(adding, GRID, progress=False)
    assert capsys.readouterr() == ("", "")


def test_sweeps_are_read_without_their_neighbours(ex, adding, quiet) -> None:
    """The trials of a sweep are told from those that ran meanwhile."""
    first, second = quiet(adding, {"a": [1, 3]}), quiet(adding, {"a": [2]})
    from daskperiment.sweep.sweep_plan import find_sweep

    found = trials_of(ex._store, find_sweep(ex._store, first.attrs["sweep"]))
    assert [(one.trial, one.status) for one in found] == [(1, "succeeded"), (2, "failed")]
    assert list(second.index) == [3]
