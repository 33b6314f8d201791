"""Samplers of Optuna: ask, tell, and take up again."""

from __future__ import annotations

import math
import sys

import pytest

from daskperiment.sweep.sweep_plan import known_sweeps

optuna = pytest.importorskip("optuna")

from optuna.distributions import (  # noqa: E402
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::daskperiment.errors.CodeChangedWarning")


class Stubborn(optuna.samplers.BaseSampler):
    """Suggests the lowest value, always; or what a test says."""

    def __init__(self, suggest=lambda: 0):
        self.suggest = suggest

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self.suggest()


def study_of(sampler, **keywords):
    """Make a study in memory."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=sampler, **keywords)


def test_results_lead_the_way(adding, quiet) -> None:
    """Standard sampling looks where the result is best, in either direction."""
    space = {"a": FloatDistribution(0, 100)}
    low = quiet(adding, space, n_trials=30, sampler="tpe", seed=1)
    high = quiet(adding, space, n_trials=30, sampler="tpe", seed=1, direction="maximize")
    assert low["a"].tolist()[:10] == high["a"].tolist()[:10]
    assert low["a"].iloc[10:].mean() < 35
    assert high["a"].iloc[10:].mean() > 65


def test_nothing_is_suggested_twice(adding, quiet) -> None:
    """A sampler that repeats itself gets other points of the space, until there are none left."""
    study = study_of(Stubborn())
    frame = quiet(adding, {"a": IntDistribution(0, 4)}, n_trials=9, sampler=study)
    assert sorted(frame["a"]) == [0, 1, 2, 3, 4]
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.COMPLETE) == 4  # 3 + 10 fails
    assert states.count(TrialState.FAIL) == 1
    assert TrialState.PRUNED in states
    assert TrialState.RUNNING not in states


def test_a_sampler_without_an_idea_ends_the_sweep(ex, adding, quiet) -> None:
    """Where no point can be chosen for it, repeating itself is an error that names the sweep."""
    with pytest.raises(RuntimeError, match="Stubborn suggested nothing but points") as caught:
        quiet(adding, {"a": FloatDistribution(0, 4)}, n_trials=9, sampler=Stubborn())
    assert known_sweeps(ex._store)[0] in caught.value.__notes__[0]
    assert ex.trial_id == 1


def test_lists_are_choices(adding, quiet) -> None:
    """Lists stand for categories, whatever their values are; 1 and True are two of them."""
    a = {"a": [1, True, 0.5], "b": CategoricalDistribution([2, 4])}
    frame = quiet(adding, a, sampler="tpe", seed=1)
    assert len(frame) == 6
    assert {(type(value), value) for value in frame["a"]} == {(int, 1), (bool, True), (float, 0.5)}


def test_stepped_and_single_distributions_have_an_end(adding, quiet) -> None:
    """All points of a space of steps are run without saying how many there are."""
    space = {"a": FloatDistribution(0, 1, step=0.5), "b": IntDistribution(7, 7)}
    assert sorted(quiet(adding, space, sampler=Stubborn(lambda: 0.0))["a"]) == [0, 0.5, 1]


def test_a_study_of_the_users_is_told_everything(adding, quiet) -> None:
    """The study knows results and failures, and the points that the user enqueued come first."""
    study = study_of(optuna.samplers.RandomSampler(seed=1), direction="maximize")
    study.enqueue_trial({"a": 3})
    frame = quiet(adding, {"a": IntDistribution(0, 1000)}, n_trials=4, sampler=study)
    assert frame["a"].iloc[0] == 3
    assert study.trials[0].state == TrialState.FAIL
    assert study.best_value == frame["Result"].max()


def test_a_failing_sampler_loses_nothing(ex, adding, quiet) -> None:
    """What a sampler raises comes out with the sweep's id, and trials done are kept."""
    numbers = iter([1, 2])
    study = study_of(Stubborn(lambda: next(numbers)))
    space = {"a": IntDistribution(0, 10)}
    with pytest.raises(StopIteration) as caught:
        quiet(adding, space, n_trials=5, sampler=study)
    (id,) = known_sweeps(ex._store)
    assert id in caught.value.__notes__[0]
    assert ex.get_history()["a"].tolist() == [1, 2]
    rest = quiet(adding, resume=id, sampler=study_of(optuna.samplers.RandomSampler(seed=1)))
    assert len(rest) == 5
    assert rest["a"].is_unique


def test_a_result_that_is_no_number_is_an_error(ex, quiet) -> None:
    """A sampler cannot compare text; the trial is kept and the message shows the value."""
    result = ex.result(lambda a: f"<{a}>")(ex.parameter("a"))
    with pytest.raises(TypeError, match=r"The result is '<1>' \(str\).*number"):
        quiet(result, {"a": [1]}, sampler="tpe")
    assert ex.get_history()["Result"].tolist() == ["<1>"]


def test_a_result_that_is_not_a_number_is_no_error(ex, quiet) -> None:
    """NaN and NumPy's numbers are results like others."""
    import numpy as np

    result = ex.result(lambda a: np.float32(a) if a else math.nan)(ex.parameter("a"))
    study = study_of(Stubborn())
    frame = quiet(result, {"a": IntDistribution(0, 2)}, sampler=study)
    assert len(frame) == 3
    assert sorted(t.value for t in study.trials if t.state == TrialState.COMPLETE) == [1, 2]


def test_resume_remembers_what_was_told(ex, cutting, quiet) -> None:
    """Cut off and resumed, a sampler knows the trials done, repeats none and finishes the rest."""
    result, hooks = cutting
    seen: list[int] = []

    def cut(a):
        seen.append(a)
        if len(seen) == 4:
            raise KeyboardInterrupt

    first = ex.result(_first)(result)
    hooks.append(cut)
    space = {"a": [1, 2, 3, 4, 5, (6, 6)]}
    with pytest.raises(KeyboardInterrupt):
        quiet(first, space, sampler="tpe", seed=1)
    hooks.clear()
    frame = quiet(first, resume=known_sweeps(ex._store)[0])
    done = frame[frame["Success"]]
    assert sorted(map(str, done["a"])) == ["(6, 6)", "1", "2", "3", "4", "5"]
    assert len(frame) == 7


def _first(pair):
    return float(pair[1])


def test_resume_with_a_study_that_remembers_itself(ex, cutting, quiet) -> None:
    """A study that outlived the cut is not told twice, and what it waited for has an end."""
    result, hooks = cutting
    first = ex.result(_first)(result)
    study = study_of(optuna.samplers.RandomSampler(seed=1))
    hooks.append(lambda a: (_ for _ in ()).throw(KeyboardInterrupt) if a > 500 else None)
    space = {"a": IntDistribution(0, 1000)}
    with pytest.raises(KeyboardInterrupt):
        quiet(first, space, n_trials=5, sampler=study)
    hooks.clear()
    done = int(ex.get_history()["Success"].sum())
    id = known_sweeps(ex._store)[0]
    with pytest.raises(ValueError, match=r"has the sampler 'optuna.Study'.*give it again"):
        quiet(first, resume=id)
    frame = quiet(first, resume=id, sampler=study)
    assert int(frame["Success"].sum()) == 5
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.COMPLETE) == 5
    assert TrialState.RUNNING not in states
    assert done < 5


@pytest.mark.parametrize(
    ("space", "keywords", "error", "message"),
    [
        ({"a": FloatDistribution(0, 1)}, {}, ValueError, "grid takes lists"),
        ({"a": FloatDistribution(0, 1)}, {"sampler": "random"}, ValueError, "RandomSampler"),
        ({"a": FloatDistribution(0, 1)}, {"sampler": "tpe"}, ValueError, "give n_trials"),
        ({"a": [1]}, {"sampler": optuna.samplers.TPESampler}, TypeError, "The sampler is <class"),
        ({"a": [1]}, {"sampler": ("minimize", "maximize")}, ValueError, "one objective"),
        (
            {"a": [1]},
            {"sampler": ("minimize",), "direction": "maximize"},
            ValueError,
            "the study's is 'minimize'",
        ),
    ],
)
def test_what_does_not_fit_runs_nothing(ex, adding, quiet, space, keywords, error, message) -> None:
    """A sampler, a direction and a space that do not go together are refused at once."""
    if isinstance(keywords.get("sampler"), tuple):
        keywords = {**keywords, "sampler": study_of(None, directions=keywords["sampler"])}
    with pytest.raises(error, match=message):
        quiet(adding, space, **keywords)
    assert known_sweeps(ex._store) == []


def test_drawn_values_do_not_go_with_a_sampler(adding, quiet) -> None:
    """A distribution of scipy.stats is for random points."""
    stats = pytest.importorskip("scipy.stats")
    with pytest.raises(TypeError, match="go with sampler='random'"):
        quiet(adding, {"a": stats.norm()}, sampler="tpe", n_trials=2)


def test_without_optuna(ex, adding, quiet, monkeypatch) -> None:
    """Where Optuna is missing the message says what to install, and nothing is run or lost."""
    id = quiet(adding, {"a": [1, 2, 4]}, n_trials=2, sampler="tpe", seed=1).attrs["sweep"]
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "optuna"]:
            patch.setitem(sys.modules, name, None)
        patch.delitem(sys.modules, "daskperiment.sweep.optuna_sampler")
        patch.delattr("daskperiment.sweep.optuna_sampler", raising=False)
        for arguments in ({"space": {"a": [1]}, "sampler": "tpe"}, {"resume": id, "n_trials": 3}):
            with pytest.raises(ImportError, match=r"takes Optuna: pip install 'optuna>=4"):
                quiet(adding, **arguments)
        assert len(quiet(adding, {"a": [1]})) == 1
    assert len(known_sweeps(ex._store)) == 2
    assert len(quiet(adding, resume=id, n_trials=3)) == 3
