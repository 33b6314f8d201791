"""What changed since the previous trial is said before the next one."""

from __future__ import annotations

import importlib
import sys
import warnings

import pytest

import daskperiment
from daskperiment.codec import decode
from daskperiment.errors import (
    CodeChangedWarning,
    EnvironmentChangedWarning,
    ImpureStepWarning,
    StoreUnavailableError,
)
from daskperiment.planning.change_warner import ChangeWarner
from daskperiment.records import Begun, Code, Environment, Function, StepCode
from daskperiment.store.file import FileStore

OLD = Environment(
    {"requirements": {"numpy": "2.1.0", "gone": "1"}, "python": {"version": "3.11.7"}}
)
NEW = Environment({"requirements": {"numpy": "2.2.0", "new": "3"}, "python": {"version": "3.12.1"}})


def code(source, constants=None, packages=None):
    """Make the code of one step."""
    function = Function("train", f"f{source}", source, "train.py")
    known = f"{source}{constants}{packages}"
    step = StepCode(known, ["train"], constants or {}, packages or {})
    return Code({"train": step}, {"train": function})


@pytest.fixture
def watch(tmp_path):
    """Make a watch over an empty store."""
    return ChangeWarner(FileStore(tmp_path / "empty"))


def test_first_look_is_silent(watch):
    """The first trial has nothing to differ from."""
    watch.check(code("a"), OLD)


def test_changed_source_is_shown_as_a_diff(watch):
    """A changed function is shown with the lines that went and came."""
    watch.check(code("def train():\n    return 1"), OLD)
    with pytest.warns(CodeChangedWarning, match=r"(?s)'train'.*-    return 1\n\+    return 2"):
        watch.check(code("def train():\n    return 2"), OLD)


def test_changed_constant_and_package_are_named(watch):
    """What changed without a source is named."""
    watch.check(code("a", {"RATE": "x"}, {"scipy": "1.1"}), OLD)
    with pytest.warns(CodeChangedWarning, match=r"(?s)RATE.*scipy: 1\.1 -> 1\.2"):
        watch.check(code("a", {"RATE": "y"}, {"scipy": "1.2"}), OLD)


def test_another_name_of_the_interpreter_is_no_change(watch):
    """A trial of a command and one of ``python script.py`` have the same environment."""
    watch.check(code("a"), Environment({"python": {"version": "3", "executable": "/v/python3.11"}}))
    watch.check(code("a"), Environment({"python": {"version": "3", "executable": "/v/python"}}))
    with pytest.warns(EnvironmentChangedWarning, match=r"python 3 -> 4$"):
        watch.check(code("a"), Environment({"python": {"version": "4", "executable": "/v/python"}}))


def test_changed_packages_are_named_with_their_versions(watch):
    """A changed environment names packages with old and new versions."""
    watch.check(code("a"), OLD)
    with pytest.warns(EnvironmentChangedWarning) as caught:
        watch.check(code("a"), NEW)
    text = str(caught[0].message)
    assert "numpy 2.1.0 -> 2.2.0" in text
    assert "3.11.7 -> 3.12.1" in text


def test_a_change_is_said_once(watch):
    """The same code and environment again is no change."""
    watch.check(code("a"), OLD)
    with pytest.warns(CodeChangedWarning):
        watch.check(code("b"), OLD)
    watch.check(code("b"), OLD)


def test_commits_are_no_change_of_the_environment(watch):
    """A commit is everyday work and not warned of."""
    watch.check(code("a"), Environment({"git": {"commit": "1"}}))
    watch.check(code("a"), Environment({"git": {"commit": "2"}}))


def test_helper_that_changed_between_two_processes(tmp_path, ex, again, monkeypatch):
    """A helper two levels below a step that was edited meanwhile is shown by a later process."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "helpers_of_test.py"

    def define(ex, text):
        path.write_text(text)
        importlib.invalidate_caches()
        sys.modules.pop("helpers_of_test", None)
        helpers = importlib.import_module("helpers_of_test")

        @ex.result
        def use():
            return helpers.outer(1)

        return use()

    text = "def inner(x):\n    return x + {}\n\n\ndef outer(x):\n    return inner(x)\n"
    try:
        assert define(ex, text.format(1)).compute() == 2
        later = again()
        with pytest.warns(CodeChangedWarning, match=r"(?s)'use'.*-    return x \+ 1.*\+ 20"):
            assert define(later, text.format(20)).compute() == 21
    finally:
        sys.modules.pop("helpers_of_test", None)


def test_comments_are_no_change(ex, again, tmp_path):
    """A comment, a docstring or a moved line is no change of the code."""
    sources = [
        "def use():\n    return 1\n",
        "\n\ndef use():\n    '''Use.'''\n    return 1  # one\n",
    ]
    for number, source in enumerate(sources):
        path = tmp_path / f"step{number}.py"
        path.write_text(source)
        space = {"__name__": "__main__"}
        exec(compile(source, str(path), "exec"), space)
        again().result(space["use"])().compute()


def test_impure_step_with_another_environment(ex, monkeypatch):
    """Where the environment differs between two outputs, the warning names what differs."""
    outputs = iter([1, 2])
    environment = [OLD]
    capture = ex._planner._environment._capture
    monkeypatch.setattr(capture, "capture", lambda: environment[0])

    @ex.result
    def use():
        return next(outputs)

    use().compute()
    environment[0] = NEW
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use().compute()
    (impure,) = [each for each in caught if each.category is ImpureStepWarning]
    assert "numpy 2.1.0 -> 2.2.0" in str(impure.message)


def test_warning_points_at_the_users_line(ex, again):
    """A warning names the file and line of the user who asked for the computation."""

    def define(ex, number):
        @ex.result
        def use(number=number):
            return number

        return use()

    define(ex, 1).compute()
    with pytest.warns(CodeChangedWarning) as caught:
        define(again(), 2).compute()
    assert caught[0].filename == __file__


def test_a_store_that_goes_away_between_two_questions_is_asked_again(tmp_path, monkeypatch):
    """Whoever tries again is told what he would have been told at once."""
    ex = daskperiment.Experiment("away", backend=tmp_path)
    ex.result(lambda: 1)().compute(scheduler="synchronous")
    store = FileStore(tmp_path / "away")
    (begun,) = [one for one in store.read("trials") if one.id == "begun"]
    digests = decode(begun.body, Begun)
    get = FileStore.get
    for digest in (digests.code, digests.environment):
        away = [digest]

        def get_unless_away(store, wanted, away=away):
            if wanted in away:
                away.clear()
                raise StoreUnavailableError("away")
            return get(store, wanted)

        monkeypatch.setattr(FileStore, "get", get_unless_away)
        watch = ChangeWarner(store)
        with pytest.raises(StoreUnavailableError):
            watch.check(code("a"), OLD)
        with pytest.warns(EnvironmentChangedWarning, match="differs from trial 1"):
            watch.check(code("a"), OLD)
