"""``ex.autolog`` records the trainings of six libraries in steps, and nothing else, until off."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import daskperiment
from daskperiment.errors import MissingLibraryError, StoreWarning
from daskperiment.integrations.autolog import Autolog
from daskperiment.integrations.entrances import AWAITED
from daskperiment.testing import no_trial
from tests.libraries.plain_trainings import ARTIFACTS, PLAIN
from tests.libraries.small_models import boosting_data, lightning_parts

pytestmark = [
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in
      ("UserWarning", "FutureWarning", "DeprecationWarning", "PendingDeprecationWarning")),
    pytest.mark.filterwarnings("error::daskperiment.errors.DaskperimentWarning"),
]  # fmt: skip


@pytest.fixture(params=list(AWAITED))
def library(request):
    """Name each of the libraries in turn."""
    pytest.importorskip(request.param)
    pytest.importorskip("matplotlib")  # which draws the figures of a classifier
    return request.param


@pytest.fixture(autouse=True)
def as_before():
    """See that whatever a test turned on is off in the end, and all functions are the old ones."""
    from sklearn.base import BaseEstimator
    from sklearn.metrics import make_scorer
    from sklearn.svm import SVC

    def now():
        return SVC.fit, BaseEstimator.__init_subclass__.__func__, type(make_scorer(len)).__call__

    before = now()
    yield
    assert now() == before
    assert not [each for each in sys.meta_path if type(each).__name__ == "_ImportWatcher"]


def compute(ex, function, **options):
    """Compute a trial whose only step calls a function; return what it returned."""
    return ex.result(function)().compute(scheduler="synchronous", **options)


def points(ex, name, trial=1):
    """Return the values of a metric in order."""
    return ex.load_metric(name, trial)[trial].tolist()


def metrics(ex, trial):
    """Return the metrics of a trial, but for those of the machine."""
    return [name for name in ex.get_metrics(trial) if not name.startswith("system/")]


def test_each_is_recorded_while_on(ex, library):
    """What a training reports is there while it is on; before and after it nothing is."""
    train = PLAIN[library]
    compute(ex, lambda: train())
    with ex.autolog(library) as handle:
        wanted = compute(ex, lambda: train())
        assert handle.is_on
    compute(ex, lambda: train())
    assert metrics(ex, 1) == metrics(ex, 3) == []
    for name, values in wanted.items():
        found = points(ex, name, 2)
        assert len(found) == len(values)
        known = [i for i, value in enumerate(values) if value is not None]
        assert [found[i] for i in known] == pytest.approx([values[i] for i in known], rel=1e-4)
    kept = ex.get_artifacts()
    assert set(kept["Trial ID"]) == {2}
    assert ARTIFACTS[library] <= set(kept["Name"])


def test_outside_of_steps(ex, library):
    """Outside of steps, in unit tests and in steps that are computed alone nothing is recorded."""

    @ex
    def alone():
        return PLAIN[library]()

    with ex.autolog(library):
        assert PLAIN[library]()
        with no_trial():
            assert PLAIN[library]()
        assert alone().compute(scheduler="synchronous")
    assert ex.trial_id == 0


def test_nothing_is_imported(run_python):
    """Turning all of them on imports none; what the code imports later is recorded."""
    pytest.importorskip("xgboost")
    shown = run_python(
        """
        import sys, daskperiment
        ex = daskperiment.Experiment("lazy", backend="store")
        handle = ex.autolog()
        tops = ("sklearn", "lightning", "transformers", "keras", "xgboost", "lightgbm", "torch")
        print([name for name in tops if name in sys.modules])

        @ex.result
        def fit():
            import xgboost
            data = xgboost.DMatrix([[1.0], [2.0]], [1.0, 2.0])
            xgboost.train({}, data, 2, evals=[(data, "train")], verbose_eval=False)

        fit().compute(scheduler="synchronous")
        print(ex.get_metrics(1), handle)
        handle.off()
        print(len([each for each in sys.meta_path if type(each).__name__ == "_ImportWatcher"]))
        """,
        seed=0,
    ).splitlines()
    assert shown[0] == "[]"
    assert shown[1].startswith("['train-rmse'] <Autolog of sklearn, lightning,")
    assert shown[2] == "0"


NAMES = {
    "no text": ((3,), TypeError, "each an argument of its own"),
    "a list": ((["sklearn"],), TypeError, "each an argument of its own"),
    "misspelt": (("xgbost",), ValueError, "Did you mean 'xgboost'"),
    "another one": (("optuna",), ValueError, "expected some of 'sklearn'"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_that_are_refused(ex, case):
    """What names no library that can be recorded so is refused, and nothing is turned on."""
    names, error, match = NAMES[case]
    with pytest.raises(error, match=match):
        ex.autolog("sklearn", *names)
    assert ex._planner.observers == ()


@pytest.mark.parametrize("names", [("keras",), ("sklearn", "keras", "xgboost"), ()])
def test_a_library_that_is_not_there(ex, monkeypatch, names):
    """A library that is not installed is named, with the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("sklearn", "lightning", "transformers", "keras", "xgboost", "lightgbm"):
        if names != ("sklearn", "keras", "xgboost") or name == "keras":
            monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingLibraryError, match="Install it: pip install") as caught:
        ex.autolog(*names)
    assert ("Not installed: keras" in str(caught.value)) == bool(names)
    assert isinstance(caught.value, ImportError)


def test_own_callbacks_are_kept(ex):
    """Callbacks of the code are called as ever; where one of ours is among them, it is the one."""
    lightgbm = pytest.importorskip("lightgbm")
    xgboost = pytest.importorskip("xgboost")
    from daskperiment.integrations.xgboost import XGBoostCallback

    X, y = boosting_data()

    def train():
        found = {}
        data = lightgbm.Dataset(X, y)
        own = [lightgbm.record_evaluation(found)]
        lightgbm.train({"verbose": -1}, data, 2, valid_sets=[data], callbacks=own)
        data = xgboost.DMatrix(X, y)
        stop = xgboost.callback.EarlyStopping(1, maximize=True)
        booster = xgboost.train({}, data, 9, evals=[(data, "a")], verbose_eval=False,
                                callbacks=[stop])  # fmt: skip
        xgboost.train({}, data, 2, evals=[(data, "b")], verbose_eval=False,
                      callbacks=[XGBoostCallback("own/")])  # fmt: skip
        return found["training"]["l2"], len(own), booster.num_boosted_rounds()

    with ex.autolog("xgboost", "lightgbm"):
        found, count, rounds = compute(ex, train)
    assert points(ex, "training l2") == found
    assert count == 1
    assert len(points(ex, "a-rmse")) == rounds == 2  # the round in which it was stopped, too
    assert metrics(ex, 1) == ["a-rmse", "own/b-rmse", "training l2"]


def test_own_loggers_are_kept(ex, tmp_path):
    """Lightning's loggers are those of the code, before and after the training."""
    pytest.importorskip("lightning")
    from lightning.pytorch.loggers import CSVLogger

    def train():
        own = CSVLogger(tmp_path)
        trainer, module, data = lightning_parts([own], tmp_path)
        trainer.fit(module, data, data)
        assert trainer.loggers == [own]
        return (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").exists()

    with ex.autolog("lightning"):
        assert compute(ex, train)
    assert len(points(ex, "train_loss")) == 4


def test_processes_that_train(ex, tmp_path):
    """What Lightning trains in a process of its own comes to the step that waits for it."""
    pytest.importorskip("lightning")
    from tests.libraries.spawned import SpawnedLine

    def train():
        options = {"strategy": "ddp_spawn", "devices": 1}
        trainer, _, data = lightning_parts(False, tmp_path, **options)
        trainer.fit(SpawnedLine(), data)
        return float(trainer.callback_metrics["train_loss"])

    with ex.autolog("lightning"):
        last = compute(ex, train)
    found = points(ex, "train_loss")
    assert len(found) == 4
    assert found[-1] == pytest.approx(last)
    assert ex.load("hyperparameters", 1) == {"rate": 0.1}


def test_trainings_are_kept_apart(ex):
    """The second training of a step, and one of another step, have names of their own."""
    xgboost = pytest.importorskip("xgboost")
    X, y = boosting_data()

    def train(rounds):
        data = xgboost.DMatrix(X, y)
        xgboost.train({}, data, rounds, evals=[(data, "t")], verbose_eval=False)

    @ex
    def before():
        train(4)

    @ex.result
    def last(_):
        train(2)
        train(3)

    with ex.autolog("xgboost"):
        last(before()).compute(scheduler="synchronous")
    assert {name: len(points(ex, name)) for name in metrics(ex, 1)} == {
        "before/t-rmse": 4, "t-rmse": 2, "2/t-rmse": 3,
    }  # fmt: skip


def test_the_same_model_goes_on(ex):
    """A Keras model that is fitted from an epoch on goes on with its curve; anew it has another."""
    keras = pytest.importorskip("keras")

    def train():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(loss="mse")
        x, y = np.ones((4, 2)), np.ones((4, 1))
        model.fit(x, y, epochs=2, verbose=0)
        model.fit(x, y, epochs=5, initial_epoch=2, verbose=0)
        model.fit(x, y, epochs=1, verbose=0)
        model.evaluate(x, y, verbose=0)
        model.evaluate(x, y, verbose=0)

    with ex.autolog("keras"):
        compute(ex, train)
    assert {name: len(points(ex, name)) for name in metrics(ex, 1)} == {
        "loss": 5, "2/loss": 1, "2/test_loss": 2,
    }  # fmt: skip


@pytest.mark.parametrize("jobs", ["one", "threads"])
def test_a_search_is_one_training(ex, jobs):
    """The candidates of a search are a part of it, in other threads too; its table has them all."""
    xgboost = pytest.importorskip("xgboost")
    import joblib
    from sklearn.model_selection import GridSearchCV

    X, y = boosting_data()

    def train():
        grid = {"max_depth": [1, 2]}
        with joblib.parallel_backend("threading", n_jobs=1 if jobs == "one" else 2):
            search = GridSearchCV(xgboost.XGBClassifier(n_estimators=2, n_jobs=1), grid, cv=2)
            search.fit(X, y)
        search.best_estimator_.fit(X, y, eval_set=[(X, y)], verbose=False)

    with ex.autolog("sklearn", "xgboost"):
        compute(ex, train)
    assert metrics(ex, 1) == ["best score", "validation_0-logloss"]
    assert len(ex.load("search", 1)) == 2
    assert set(ex.get_artifacts(1)["Name"]) == {
        "GridSearchCV parameters", "best parameters", "booster settings", "importance", "search",
    }  # fmt: skip


def half(y, predicted):
    return 0.5


def test_scikit_learn_in_full(ex):
    """Each model has its parameters, scores and metrics are curves, folds are a table."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import accuracy_score, confusion_matrix, make_scorer
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    X, y = boosting_data()

    def train():
        make_pipeline(StandardScaler(), SVC(C=2)).fit(X, y)
        SVC(C=3).fit(X, y)
        folds = cross_val_score(SVC(), X, y, cv=3)
        model, found = SGDClassifier(random_state=0), []
        for _ in range(3):
            model.partial_fit(X, y, classes=[0, 1])
            found.append(accuracy_score(y, model.predict(X)))
        confusion_matrix(y, model.predict(X))
        for better in (True, False):  # negated for those who look for the largest
            made = make_scorer(half, greater_is_better=better)(model, X, y)
            assert made == (0.5 if better else -0.5)
        return found, list(folds), [model.score(X, y) for _ in range(2)]

    with ex.autolog("sklearn"):
        found, folds, scores = compute(ex, train)
    assert points(ex, "accuracy_score") == found
    assert points(ex, "half") == [0.5, 0.5]
    assert points(ex, "test_score") == folds
    assert points(ex, "accuracy") == scores
    assert ex.load("Pipeline parameters", 1)["svc__C"] == 2
    assert ex.load("SVC parameters", 1)["C"] == 3
    assert list(ex.get_artifacts(1)["Name"]).count("SGDClassifier parameters") == 1
    assert len(ex.load("cross validation", 1)) == 3


def test_functions_that_were_imported_by_name(ex):
    """Whoever imported a function by its name before is recorded; it is the same function."""
    import inspect
    import pickle

    lightgbm = pytest.importorskip("lightgbm")
    from lightgbm import train as boost
    from sklearn.metrics import accuracy_score

    X, y = boosting_data()
    before = inspect.signature(boost), boost.__code__, pickle.dumps((boost, accuracy_score))

    def train():
        data = lightgbm.Dataset(X, y)
        boost({"verbose": -1}, data, 2, valid_sets=[data])
        accuracy_score(y, y)

    with ex.autolog("lightgbm", "sklearn"):
        compute(ex, train)
        assert lightgbm.train is boost
        assert inspect.signature(boost) == before[0]
        assert pickle.dumps((boost, accuracy_score)) == before[2]
        with pytest.raises(TypeError, match="missing 2 required positional arguments"):
            boost()
    assert metrics(ex, 1) == ["accuracy_score", "training l2"]
    assert boost.__code__ is before[1]
    assert not hasattr(boost, "__signature__")


def test_code_is_the_same_code(ex):
    """Turning it on or off changes no step: what was kept is reused, and nobody is warned."""
    pytest.importorskip("xgboost")
    import xgboost
    from lightgbm import train as boost
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.metrics import accuracy_score
    from sklearn.svm import SVC

    class Own(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.inner_ = SVC().fit(X, y)
            return self

    X, y = boosting_data()

    @ex.persist(reuse=True)
    def fit(rounds):
        uses = xgboost.train, boost, accuracy_score, SVC.fit
        Own().fit(X, y)
        return rounds + len(uses)

    @ex.result
    def last(kept):
        return kept

    s = last(fit(ex.parameter("rounds", default=1)))
    s.compute(scheduler="synchronous", seed=1)
    with ex.autolog("sklearn", "xgboost", "lightgbm"):
        s.compute(scheduler="synchronous", seed=1)
        s.bind(rounds=2).compute(scheduler="synchronous", seed=1)
    s.bind(rounds=2).compute(scheduler="synchronous", seed=1)
    steps = ex.get_steps().query("Step == 'fit'")
    assert steps["Reused From"].fillna(0).tolist() == [0, 1, 0, 3]


def test_two_experiments_at_once(ex, tmp_path):
    """Of two experiments that train at the same time the one that has it on is recorded."""
    xgboost = pytest.importorskip("xgboost")
    other = daskperiment.Experiment("other", backend=tmp_path / "other")
    X, y = boosting_data()
    together = threading.Barrier(2, timeout=60)

    def train():
        together.wait()
        data = xgboost.DMatrix(X, y)
        xgboost.train({}, data, 3, evals=[(data, "t")], verbose_eval=False)
        together.wait()

    with ex.autolog("xgboost"), ThreadPoolExecutor(2) as pool:
        results = [each.result(train)() for each in (ex, other)]
        for done in [pool.submit(r.compute, scheduler="synchronous") for r in results]:
            done.result()
    assert (metrics(ex, 1), metrics(other, 1)) == (["t-rmse"], [])


def test_each_turns_off_its_own(ex, tmp_path):
    """A library is as it was when the last of those who turned it on has turned it off."""
    lightgbm = pytest.importorskip("lightgbm")
    other = daskperiment.Experiment("other", backend=tmp_path / "other")
    before = lightgbm.train.__code__
    first, second, third = ex.autolog("lightgbm"), ex.autolog("lightgbm"), other.autolog("lightgbm")
    first.off()
    first.off()
    assert [each.is_on for each in (first, second, third)] == [False, True, True]
    compute(ex, PLAIN["lightgbm"])
    second.off()
    compute(ex, PLAIN["lightgbm"])
    compute(other, PLAIN["lightgbm"])
    assert lightgbm.train.__code__ is not before
    third.off()
    assert lightgbm.train.__code__ is before
    assert [bool(metrics(e, i)) for e, i in ((ex, 1), (ex, 2), (other, 1))] == [
        True,
        False,
        True,
    ]
    assert repr(third) == "<Autolog of lightgbm: off>"


def test_threads_of_a_step(ex):
    """Trainings in threads that a step starts are recorded, each by itself."""
    xgboost = pytest.importorskip("xgboost")
    X, y = boosting_data()

    def train(rounds):
        data = xgboost.DMatrix(X, y)
        xgboost.train({"nthread": 1}, data, rounds, evals=[(data, "t")], verbose_eval=False)

    def both():
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(train, (2, 3)))

    with ex.autolog("xgboost"):
        compute(ex, both)
    assert {len(points(ex, name)) for name in metrics(ex, 1)} == {2, 3}
    assert set(metrics(ex, 1)) == {"t-rmse", "2/t-rmse"}


def test_what_cannot_be_recorded_ends_no_training(ex, monkeypatch):
    """If recording fails, the training goes on, and a warning says what is missing."""
    from sklearn.svm import SVC

    from daskperiment.integrations import sklearn

    X, y = boosting_data()
    monkeypatch.setattr(sklearn, "record_scores", lambda *_: 1 / 0)
    with ex.autolog("sklearn"), pytest.warns(StoreWarning, match=r"score\(\): ZeroDivisionError"):
        assert compute(ex, lambda: SVC().fit(X, y).score(X, y)) > 0.5
    assert "SVC parameters" in set(ex.get_artifacts(1)["Name"])


def test_many_trainings_end_in_one_warning(ex, monkeypatch):
    """After a hundred trainings of a step the rest is left out, and said so once."""
    pytest.importorskip("xgboost")
    from daskperiment.integrations import training_calls

    monkeypatch.setattr(training_calls, "MANY", 2)
    with ex.autolog("xgboost"), pytest.warns(StoreWarning, match="more than 2 times") as caught:
        compute(ex, lambda: [PLAIN["xgboost"]() for _ in range(4)])
    assert metrics(ex, 1) == ["2/train-rmse", "train-rmse"]
    assert len([each for each in caught if each.category is StoreWarning]) == 1


def test_errors_of_a_training_come_through(ex):
    """An error within a training reaches the step as it was, and what comes next is recorded."""
    xgboost = pytest.importorskip("xgboost")
    from sklearn.svm import SVC

    def train():
        with pytest.raises(ValueError, match="inconsistent numbers"):
            SVC().fit(np.ones((3, 1)), np.ones(2))
        with pytest.raises(xgboost.core.XGBoostError):
            xgboost.train({"objective": "none"}, xgboost.DMatrix(np.ones((2, 1)), np.ones(2)), 1)
        PLAIN["xgboost"]()

    with ex.autolog("sklearn", "xgboost"):
        compute(ex, train)
    assert metrics(ex, 1) == ["2/train-rmse"]


def test_the_handle_is_what_the_interface_says(ex):
    """The call returns an Autolog that names its libraries."""
    with ex.autolog("sklearn") as handle:
        assert isinstance(handle, Autolog)
        assert handle.libraries == ("sklearn",)
