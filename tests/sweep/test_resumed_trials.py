"""A trial of a sweep that was gone on with by itself is a trial of that sweep, and counts once."""

from __future__ import annotations

import pytest

from daskperiment.sweep.sweep_plan import known_sweeps

pytestmark = pytest.mark.filterwarnings("ignore::daskperiment.errors.CodeChangedWarning")


def breaking(ex, error, point=2):
    """Return a result that breaks at a point the first time, and the points that ran."""
    ran, breaks = [], [error]

    @ex.result
    def total(a):
        ran.append(a)
        state, done = ex.restore(default=(0, 0))
        for epoch in range(done + 1, 4):
            state += a
            ex.checkpoint(state, epoch)
            if point in (a, None) and epoch == 2 and breaks:
                raise breaks.pop()
        return state

    return total(ex.parameter("a")), ran


@pytest.mark.parametrize("sampler", ["grid", "random"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_counts_once(ex, error, sampler):
    """What broke and was gone on with is not run again with the sweep, nor counted twice."""
    result, ran = breaking(ex, error("broken"))
    space = {"a": [0, 1, 2, 3, 2]}
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            result.sweep(space, progress=False, sampler=sampler, seed=1)
    else:
        result.sweep(space, progress=False, sampler=sampler, seed=1)
    history = ex.get_history(verbose=True)
    (broken,) = history.index[history["Status"] != "succeeded"]
    (id,) = known_sweeps(ex._store)
    assert result.resume(int(broken)) == 6
    frame = result.sweep(resume=id, progress=False)
    again = result.sweep(resume=id, progress=False)
    assert len(again) == len(frame) == 6
    assert sorted(frame["Result"].dropna()) == [0, 3, 6, 6, 9]
    assert sorted(ran) == [0, 1, 2, 2, 2, 3]
    assert ex.get_history(verbose=True)["Resumes"].dropna().tolist() == [broken]


def test_a_failed_trial_and_what_went_on_are_one(ex):
    """With a number of trials, what broke and what went on from it are one of them."""
    optuna = pytest.importorskip("optuna")
    result, ran = breaking(ex, ValueError("broken"), None)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    frame = result.sweep({"a": list(range(50))}, sampler="tpe", n_trials=1, seed=1, progress=False)
    id = frame.attrs["sweep"]
    result.resume(1)
    frame = result.sweep(resume=id, n_trials=2, progress=False)
    assert len(ran) == len(frame) == 3
    assert ran[0] == ran[1]
