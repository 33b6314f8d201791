"""An edit makes exactly the steps run again that it reaches."""

from __future__ import annotations

import logging
import platform
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reuse.project import EDITS, HARMLESS, MODULES, STEPS, Project, reached

pytestmark = [
    pytest.mark.filterwarnings("ignore::daskperiment.errors.CodeChangedWarning"),
    pytest.mark.filterwarnings("ignore::daskperiment.errors.EnvironmentChangedWarning"),
]

ALL = {**EDITS, **HARMLESS}


class _Names(logging.Handler):
    """Remembers what is logged."""

    def __init__(self):
        super().__init__()
        self.found = []

    def emit(self, record):
        self.found.append(record.getMessage())


@pytest.fixture(scope="module")
def names():
    """Give the names of the steps that ran; they log them."""
    handler, log = _Names(), logging.getLogger("project")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    path = list(sys.path)
    yield handler.found
    sys.path[:] = path
    log.removeHandler(handler)
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def run(names, open_again):
    """Run a project as a new process would; give which steps ran, why, and what came out."""

    def run(project, store):
        names.clear()
        ex = open_again("edits", store, reuse=True)
        result = project.result(ex)
        told = ex.explain(result)
        value = result.compute()
        found = sorted(names)
        missed = {step.key: step.reason for step in told if step.verdict == "miss"}
        assert set(found) <= missed.keys()
        # What does not run all the same was given what it was given before.
        assert all("; runs, unless " in missed[key] for key in missed.keys() - found)
        assert {s.key for s in ex.explain(ex.trial_id) if s.verdict == "miss"} == set(found)
        return found, told, value

    return run


@pytest.mark.parametrize("name", EDITS)
def test_each_edit(tmp_path, run, name):
    """An edit re-runs its step and those behind that get something else, and it is said why."""
    project, store, edit = Project(tmp_path), tmp_path / "store", EDITS[name]
    assert run(project, store)[0] == sorted([*STEPS, "aside"])
    assert project.edit(edit)
    found, told, _ = run(project, store)
    assert {edit.reaches} <= set(found) <= reached(edit.reaches)
    assert all(told[step].reason != "never run" for step in found)


def test_own_code_is_no_helper(tmp_path, run):
    """The function of a step that stands in a module is called the step, and others helpers."""
    project, store = Project(tmp_path), tmp_path / "store"
    run(project, store)
    assert project.edit(EDITS["step"])
    assert run(project, store)[1]["fit"].reason == "step steps.fit() changed"
    assert project.edit(EDITS["class method"])
    assert run(project, store)[1]["fit"].reason.startswith("helper ")


def test_harmless_edits(tmp_path, run):
    """Comments, docstrings, layout and functions that no step uses re-run nothing."""
    project, store = Project(tmp_path), tmp_path / "store"
    run(project, store)
    for name, edit in HARMLESS.items():
        before = dict(project.files)
        assert project.edit(edit)
        assert run(project, store)[0] == [], name
        project.files = before


def test_version_of_a_package(tmp_path, run):
    """Another version of an installed package re-runs the steps that use it."""
    project, store = Project(tmp_path), tmp_path / "store"
    run(project, store)
    project.upgrade()
    found, told, _ = run(project, store)
    assert found == ["judge"]
    assert told["judge"].reason == "package vendored 1 → 2"


def test_edits_in_a_row(run, open_again):
    """Any edits, one after the other and several at once, re-run what they reach, no more."""

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.permutations([*ALL, "package"]), st.lists(st.integers(1, 3), max_size=4))
    def check(names, sizes):
        with tempfile.TemporaryDirectory() as folder:
            project, store, done = Project(Path(folder)), Path(folder) / "store", set()
            run(project, store)
            for size in sizes:
                direct, expected, taken, names = set(), set(), names[:size], names[size:]
                for name in taken:
                    step = applied(project, name, done)
                    direct |= {step} - {None}
                    expected |= reached(step)
                    done.add(name)
                found, _, value = run(project, store)
                assert direct <= set(found) <= expected, taken
            if sizes:
                assert value == project.result(open_again("plain", store)).compute()

    check()


def applied(project, name, done):
    """Make an edit where it still can be made; give the first step that it reaches."""
    if name == "package":
        project.upgrade()
        return "judge"
    edit = ALL[name]
    return edit.reaches if project.edit(edit) and edit.unless not in done else None


def test_version_of_python(tmp_path, run, monkeypatch):
    """Another series of Python re-runs all steps and says so; a bug fix of it re-runs nothing."""
    project, store = Project(tmp_path), tmp_path / "store"
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.1")
    run(project, store)
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.2")
    assert run(project, store)[0] == []
    monkeypatch.setattr(platform, "python_version", lambda: "3.12.0")
    found, told, _ = run(project, store)
    assert found == sorted([*STEPS, "aside"])
    reasons = {told[step].reason.partition(";")[0] for step in found}
    assert reasons == {"Python 3.11.2 → 3.12.0"}
