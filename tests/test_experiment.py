"""The experiment as people use it: declare, compute, ask."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pandas as pd
import pytest

import daskperiment
from daskperiment.errors import (
    CodeChangedWarning,
    ImpureStepWarning,
    MetricNotFoundError,
    ParameterUndeclaredError,
    ParameterUndefinedError,
    PersistedResultNotFoundError,
    StoreError,
    StoreWarning,
    TrialIDNotFoundError,
)

STATE = {"calls": 0}


@pytest.mark.parametrize(
    "id", ["", "a b", "1a", "-a", ".a", "a.", "a/b", None, 3, "../x", "a" * 101]
)
def test_id_that_is_no_identifier(id, tmp_path):
    """An id that a store could not hold is refused with an example of one."""
    with pytest.raises(ValueError, match="id"):
        daskperiment.Experiment(id, backend=tmp_path)


def test_same_id_and_backend_is_the_same_object(ex, tmp_path):
    """The same id and backend give the same object, with its parameters kept."""
    ex.parameter("a", default=1)
    same = daskperiment.Experiment("demo", backend=tmp_path / "store")
    assert same is ex
    assert same.get_parameters() == {"a": 1}
    assert daskperiment.Experiment("demo", backend=tmp_path / "other") is not ex


def test_making_an_experiment_writes_nothing(tmp_path):
    """Neither making an experiment nor asking an empty one creates the folder."""
    ex = daskperiment.Experiment("quiet", backend=tmp_path / "store")
    assert ex.get_history().empty
    assert ex.trial_id == 0
    assert repr(ex)
    assert not (tmp_path / "store").exists()


def test_backend_that_is_a_file(tmp_path):
    """Where a file stands in the folder's place, computing and asking both say so."""
    (tmp_path / "file").write_text("not a folder")
    ex = daskperiment.Experiment("blocked", backend=tmp_path / "file")

    @ex.result
    def one():
        return 1

    for question in (one().compute, ex.get_history):
        with (
            warnings.catch_warnings(),
            pytest.raises(StoreError, match="a file stands where a folder is expected"),
        ):
            warnings.simplefilter("ignore", StoreWarning)
            question()
    assert (tmp_path / "file").read_text() == "not a folder"


def test_relative_backend_is_made_absolute(tmp_path, monkeypatch):
    """A relative folder stays where it was when the working folder changes."""
    monkeypatch.chdir(tmp_path)
    ex = daskperiment.Experiment("moved")

    @ex.result
    def one():
        return 1

    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    one().compute()
    assert (tmp_path / "daskperiment_cache" / "moved").is_dir()


def test_trial_number_continues_in_another_process(ex, again):
    """A later process goes on with the next id and sees the earlier trials."""

    def define(ex):
        @ex.result
        def one():
            return 1

        return one()

    define(ex).compute()
    later = again()
    assert later is not ex
    define(later).compute()
    assert later.get_history().index.tolist() == [1, 2]
    assert later.trial_id == 2


def test_unknown_parameter(ex):
    """Setting an undeclared parameter names those that are declared, and sets nothing."""
    ex.parameter("lr", default=0.1)
    with pytest.raises(ParameterUndeclaredError, match=r"'rate'.*'lr'"):
        ex.set_parameters(lr=1, rate=2)
    assert ex.get_parameters() == {"lr": 0.1}


def test_check_executable(ex):
    """check_executable names every parameter without a value."""
    ex.parameter("a")
    ex.parameter("b", default=None)
    ex.parameter("c")
    with pytest.raises(ParameterUndefinedError, match=r"'a', 'c'"):
        ex.check_executable()
    ex.set_parameters(a=1, c=2)
    ex.check_executable()


def test_computed_parameter(ex):
    """A parameter's default may be computed from others; it is recorded, and can be overridden."""
    lr = ex.parameter("lr", default=0.5)

    @ex.parameter
    def batch(lr):
        return int(16 / lr)

    @ex.result
    def use(lr, batch):
        return lr * batch

    result = use(lr, batch)
    assert result.compute() == 16.0
    assert result.bind(lr=0.25).compute() == 16.0
    assert result.bind(batch=2).compute() == 1.0
    ex.set_parameters(batch=4)
    assert result.compute() == 2.0
    history = ex.get_history()
    assert history["batch"].tolist() == [32, 64, 2, 4]
    assert list(history.columns[:2]) == ["lr", "batch"]
    assert ex.get_parameters(2) == {"lr": 0.25, "batch": 64}


def test_computed_parameter_that_is_set_needs_no_inputs(ex):
    """Where a computed parameter is set, those that it is computed from need no value."""
    lr = ex.parameter("lr")

    @ex.parameter
    def batch(lr):
        return 16 / lr

    @ex.result
    def use(batch):
        return batch

    with pytest.raises(ParameterUndefinedError, match="'lr'"):
        use(batch).compute()
    assert use(batch).bind(batch=2).compute() == 2
    assert lr.name == "lr"


def test_computed_parameter_of_nothing_known(ex):
    """A computed parameter whose argument names no parameter is refused."""
    with pytest.raises(ParameterUndeclaredError, match="'lr'"):

        @ex.parameter
        def batch(lr):
            return lr


def test_computed_parameter_that_fails(ex):
    """A computed parameter that fails makes the trial fail, with its name in the record."""
    lr = ex.parameter("lr", default=0)

    @ex.parameter
    def batch(lr):
        return 1 / lr

    @ex.result
    def use(batch):
        return batch

    assert lr is not None
    with pytest.raises(ZeroDivisionError):
        use(batch).compute()
    assert ex.get_history()["Description"].tolist() == ["ZeroDivisionError(division by zero)"]


def test_failing_step(ex):
    """A step's exception reaches the user unchanged; the record has its text and its step."""
    error = ValueError("no such column: 'x'")

    @ex
    def load():
        raise error

    @ex.result
    def use(x):
        return x

    with pytest.raises(ValueError, match="no such column") as caught:
        use(load()).compute(scheduler="synchronous")
    assert caught.value is error
    history = ex.get_history(verbose=True)
    assert history["Success"].tolist() == [False]
    assert history["Description"].tolist() == ["ValueError(no such column: 'x')"]
    assert history["Status"].tolist() == ["failed"]
    steps = ex.get_steps(1)
    assert steps["Step"].tolist() == ["load"]
    assert steps["Status"].tolist() == ["failed"]


def test_failing_function_between_steps(ex):
    """A failure in a Delayed that is no step is a failed trial too, on every way in."""
    import dask

    zero = ex.parameter("zero", default=0)

    @ex
    def one():
        return 1

    @ex.result
    def use(x):
        return x

    result = use(one() / zero)
    with pytest.raises(ZeroDivisionError):
        result.compute()
    with pytest.raises(ZeroDivisionError):
        dask.compute(result)
    assert ex.get_history(verbose=True)["Status"].tolist() == ["failed", "failed"]


def test_keyboard_interrupt_in_a_step(ex):
    """Ctrl-C in a step reaches the user, and the trial is interrupted."""

    @ex.result
    def slow():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slow().compute(scheduler="synchronous")
    assert ex.get_history(verbose=True)["Status"].tolist() == ["interrupted"]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_persisted_values(ex, scheduler):
    """Persisted outputs of steps and results are there for each trial, on every scheduler."""
    a = ex.parameter("a")

    @ex.persist
    def prepare(a):
        return np.full(3, a)

    @ex.result(persist=True)
    def score(x):
        return {"sum": int(x.sum())}

    result = score(prepare(a))
    result.bind(a=1).compute(scheduler=scheduler)
    result.bind(a=2).compute(scheduler=scheduler)
    assert ex.get_persisted("prepare", 1).tolist() == [1, 1, 1]
    assert ex.get_persisted(prepare, 2).tolist() == [2, 2, 2]
    assert ex.get_persisted("score", 2) == {"sum": 6}


def test_persisted_value_that_is_not_there(ex):
    """Asking for what was not kept says what there is."""

    @ex
    def plain():
        return 1

    @ex.result
    def use(x):
        return x

    use(plain()).compute()
    with pytest.raises(PersistedResultNotFoundError):
        ex.get_persisted("plain", 1)
    with pytest.raises(PersistedResultNotFoundError):
        ex.get_persisted("unheard_of", 1)
    with pytest.raises(TrialIDNotFoundError, match="7"):
        ex.get_persisted("plain", 7)


def test_unpicklable_result(ex):
    """A result that cannot be pickled reaches the user; its row says why it was not kept."""

    @ex.result
    def lazy():
        return (i for i in range(3))

    assert list(lazy().compute(scheduler="synchronous")) == [0, 1, 2]
    row = ex.get_history().loc[1]
    assert row["Success"]
    assert "generator" in row["Result"].type
    assert "pickle" in row["Result"].reason


def test_metrics(ex):
    """Points saved in steps come back as a DataFrame, one column per trial."""
    lr = ex.parameter("lr")

    @ex.result
    def train(lr):
        for epoch in range(3):
            ex.save_metric("loss", epoch, lr * epoch)
        ex.save_metric("odd", 0, float("nan"))

    train(lr).bind(lr=1.0).compute()
    train(lr).bind(lr=2.0).compute(scheduler="processes")
    frame = ex.load_metric("loss", [1, 2])
    assert frame.index.name == "Epoch"
    assert frame.columns.name == "Trial ID"
    assert frame[1].tolist() == [0.0, 1.0, 2.0]
    assert frame[2].tolist() == [0.0, 2.0, 4.0]
    assert ex.load_metric("loss", 1).columns.tolist() == [1]
    assert sorted(ex.get_metrics(1)) == ["loss", "odd"]
    with pytest.raises(MetricNotFoundError, match="loss"):
        ex.load_metric("acc", 1)
    with pytest.raises(TrialIDNotFoundError):
        ex.load_metric("loss", 3)


@pytest.mark.parametrize(("key", "error"), [("", ValueError), (None, TypeError), (3, TypeError)])
def test_metric_name(ex, key, error):
    """A metric's name is text and not empty."""

    @ex
    def save():
        ex.save_metric(key, 0, 1.0)

    with pytest.raises(error, match="metric"):
        save().compute(scheduler="synchronous")


def test_metric_value_that_is_not_plain(ex):
    """A metric's value that is not plain is an error that says what to do."""

    @ex
    def save():
        ex.save_metric("loss", 0, object())

    with pytest.raises(TypeError, match="float"):
        save().compute(scheduler="synchronous")


def test_outside_a_step(ex):
    """What belongs into a step says so elsewhere."""
    with pytest.raises(TrialIDNotFoundError, match="step"):
        _ = ex.current_trial_id
    with pytest.raises(TrialIDNotFoundError, match="step"):
        ex.save_metric("loss", 0, 1.0)


def test_current_trial_id(ex):
    """In a step there is a current trial; in one computed alone there is none."""

    @ex
    def number():
        return ex.current_trial_id, ex.trial_id

    @ex.result
    def use(x):
        return x

    assert use(number()).compute() == (1, 1)
    assert use(number()).compute() == (2, 2)
    with pytest.raises(TrialIDNotFoundError, match="alone"):
        number().compute()


def test_step_alone_may_save_metrics(ex):
    """A step that saves metrics can be computed alone; the points are dropped."""

    @ex
    def train():
        ex.save_metric("loss", 0, 1.0)
        return 5

    assert train().compute() == 5
    assert ex.get_metrics() == []


def test_wrapped_is_the_function(ex):
    """A step's __wrapped__ is the plain function, for unit tests."""

    @ex
    def add(a, b=2):
        """Add."""
        return a + b + int(ex.rng.integers(1))

    assert add.__wrapped__(1) == 3
    assert add.__doc__ == "Add."
    assert add.__name__ == "add"


def test_impure_step_is_noticed(ex, again):
    """Another output for the same code and inputs is warned of, also in a later process."""

    def define(ex):
        @ex
        def count():
            STATE["calls"] += 1
            return STATE["calls"]

        @ex.result
        def use(x):
            return x

        return use(count())

    define(ex).compute()
    with pytest.warns(ImpureStepWarning, match=r"'count'.*trial 2.*trial 1"):
        define(ex).compute()
    later = again()
    with pytest.warns(ImpureStepWarning, match=r"'count'.*trial 3"):
        define(later).compute()


def test_impure_step_in_processes(ex, tmp_path):
    """With processes the warning reaches the user's process."""
    marker = tmp_path / "marker"

    @ex.result
    def size():
        marker.write_text(marker.read_text() + "x" if marker.exists() else "")
        return len(marker.read_text())

    size().compute(scheduler="processes")
    with pytest.warns(ImpureStepWarning, match="'size'"):
        size().compute(scheduler="processes")


def test_random_steps_are_not_impure(ex):
    """A step that draws random numbers may differ where the seed does."""

    @ex.result
    def draw():
        return float(ex.rng.random())

    first, second = draw().compute(), draw().compute()
    assert first != second
    assert draw().compute(seed=1) == draw().compute(seed=1)
    assert ex.get_steps(1)["Stochastic"].tolist() == [True]


def test_inputs_without_fingerprint(ex):
    """What has no fingerprint is recorded as not checkable and never warned about."""

    @ex.result
    def make():
        return object()

    make().compute()
    make().compute()
    steps = ex.get_steps()
    assert steps["Checkable"].tolist() == [False, False]


def test_code_change_is_shown(tmp_path):
    """A function that changed between two trials is shown as a diff."""
    ex = daskperiment.Experiment("code", backend=tmp_path)
    for body in ("return x + 1", "return x + 2"):
        source = f"def helper(x):\n    {body}\n"
        path = tmp_path / f"mod{len(source)}.py"
        path.write_text(source)
        space = {"__name__": "__main__"}
        exec(compile(source, str(path), "exec"), space)
        helper = space["helper"]

        @ex.result
        def use(helper=helper):
            return helper(1)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            use().compute()
        path.unlink()
    (warning,) = [w for w in caught if w.category is CodeChangedWarning]
    assert "'use'" in str(warning.message)


@pytest.mark.parametrize("name", ["学習率", "a b", "a.b$c", "🎲", "x" * 300, "../../etc"])
def test_names_in_any_unicode(ex, name):
    """Parameter and metric names may be any text."""
    value = ex.parameter(name, default=1)

    @ex.result
    def use(x):
        ex.save_metric(name, 0, x)
        return x

    use(value).compute()
    assert ex.get_history()[name].tolist() == [1]
    assert ex.load_metric(name, 1)[1].tolist() == [1]


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 10**400, "x" * 10_000_000, None, (1, {2}), b"\0", np.float32(1.5)],
    ids=["nan", "inf", "huge", "long", "none", "nested", "bytes", "numpy"],
)
def test_parameter_values(ex, value):
    """Parameters of any plain value come back equal and of the same type."""
    a = ex.parameter("a", default=value)

    @ex.result
    def use(a):
        return a

    use(a).compute(scheduler="synchronous")
    found = ex.get_parameters(1)["a"]
    assert type(found) is type(value)
    assert found == value or (found != found and value != value)
    ex.get_history()


def test_parameter_that_is_not_plain(ex):
    """A parameter that is not plain data reaches the steps, and its row shows what it was."""
    a = ex.parameter("a", default=np.arange(3))

    @ex.result
    def use(a):
        return int(a.sum())

    assert use(a).compute() == 3
    shown = ex.get_history().loc[1, "a"]
    assert "ndarray" in shown.type
    assert shown.load().tolist() == [0, 1, 2]


def test_history_columns(ex):
    """The history's columns, index and dtypes are those that users rely on."""
    a = ex.parameter("a", default=1)
    ex.parameter("unused", default="x")

    @ex.result
    def use(a):
        return 2 * a

    use(a).compute()
    history = ex.get_history()
    assert history.index.name == "Trial ID"
    assert list(history.columns) == [
        "a", "unused", "Result", "Success", "Finished", "Process Time", "Description",
    ]  # fmt: skip
    assert history["Result"].dtype == np.int64
    assert history["Success"].dtype == bool
    assert pd.api.types.is_datetime64_any_dtype(history["Finished"])
    assert history["Process Time"].iloc[0] > pd.Timedelta(0)
    assert history["Description"].isna().all()
    verbose = ex.get_history(verbose=True)
    assert list(verbose.columns) == [
        "a", "unused", "Step", "Seed", "Result", "Result Type", "Success", "Finished",
        "Process Time", "Description", "Status", "Started", "Host", "User", "Git Commit",
    ]  # fmt: skip
    assert verbose["Result Type"].tolist() == ["<class 'int'>"]


def test_questions_about_a_trial(ex):
    """Code, environment and packages of a trial are text that shows what was there."""

    @ex.result
    def use():
        return 1

    use().compute()
    assert "def use" in ex.get_code(1)
    assert "def use" in ex.get_code()
    assert "numpy==" in ex.get_python_packages(1)
    assert "numpy" in ex.get_environment(1, category="requirements")
    assert ex.get_environment(1)
    with pytest.raises(ValueError, match="weather"):
        ex.get_environment(1, category="weather")
    for question in (ex.get_code, ex.get_environment, ex.get_parameters, ex.get_steps):
        with pytest.raises(TrialIDNotFoundError, match="99"):
            question(99)


def test_compare(ex):
    """Comparing two trials names the parameter that differs and the step it reaches."""
    a = ex.parameter("a")

    @ex
    def prepare(a):
        return a * 2

    @ex.result
    def use(x):
        return x

    result = use(prepare(a))
    result.bind(a=1).compute()
    result.bind(a=2).compute()
    comparison = ex.compare(1, 2)
    assert comparison.differs
    assert "prepare" in comparison.explanation
    assert "a" in str(comparison)


def test_delete(ex, tmp_path):
    """Deleting removes this experiment's records alone; ids begin at 1 again."""
    other = daskperiment.Experiment("demo2", backend=tmp_path / "store")
    for each in (ex, other):

        @each.result
        def one():
            return 1

        one().compute()
    ex.delete()
    assert ex.get_history().empty
    assert other.get_history().index.tolist() == [1]

    @ex.result
    def two():
        return 2

    two().compute()
    assert ex.get_history()["Result"].tolist() == [2]


def test_list_experiments(ex, tmp_path):
    """All experiments of a folder are listed."""

    @ex.result
    def one():
        return 1

    one().compute()
    frame = daskperiment.list_experiments(tmp_path / "store")
    assert "demo" in frame.to_string()
    assert len(frame) == 1


def test_representations(ex):
    """Representations fit a terminal, and HTML escapes what users wrote."""
    a = ex.parameter("a<b>", default="<script>")

    @ex.result
    def use(x):
        return x

    for thing in (ex, a, use(a)):
        assert all(len(line) <= 110 for line in repr(thing).splitlines())
        assert "<script>" not in thing._repr_html_()
