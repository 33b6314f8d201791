"""What quotes a secret is left out of the recorded code and of a repository's changes."""

from __future__ import annotations

import subprocess
import sys

import pytest

import daskperiment
from daskperiment.errors import DaskperimentWarning
from daskperiment.recording.registry import close_recorders

TEXT = "hunter2-Zq9"
SCRIPT = """
import daskperiment

ex = daskperiment.Experiment("written", backend="store")
login = ex.parameter("login", secret=True)


@ex.result
def size(login):
    return len(login)


ADDRESS = {default!r}
ex.set_parameters(login=ADDRESS)
size(login).compute()
ex.flush()
"""


def everything(folder):
    """Give all that stands in files."""
    return b"\0".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def quoting(ex):
    """Make a result of two steps, of which one has the secret in its own source."""
    dsn = ex.parameter("dsn", default="hunter2-Zq9", secret=True)

    @ex
    def helper(dsn):
        return dsn == "hunter2-Zq9"

    @ex.result
    def last(same, dsn):
        return same, len(dsn)

    return last(helper(dsn), dsn)


def test_source_with_a_secret_is_not_recorded(ex, quoting, tmp_path):
    """The step's source stays out of the store, which is said once; that of others is there."""
    with pytest.warns(DaskperimentWarning, match="source of .*helper, which is left out") as seen:
        assert [quoting.compute() for _ in range(2)] == [(True, 11)] * 2
    assert len(seen) == 1
    code = ex.get_code(1)
    assert "def last" in code
    assert "left out" in code
    ex.flush()
    close_recorders()
    assert TEXT.encode() not in everything(tmp_path)


@pytest.mark.filterwarnings("ignore::daskperiment.errors.DaskperimentWarning")
def test_leaving_out_changes_no_comparison(ex, quoting, again):
    """With and without its source, the code is the same; another secret makes it no other."""
    quoting.compute()
    quoting.bind(dsn="quite another").compute()
    assert ex.compare(1, 2).functions == {}
    assert [each.name for each in ex.compare(1, 2).steps[0].causes] == ["dsn"]
    assert again().compare(1, 2).functions == {}


def test_a_default_is_a_secret_as_well(ex, tmp_path):
    """A default, by position or keyword, is used and is nowhere in the store."""
    one = ex.parameter("one", TEXT, True)
    two = ex.parameter("two", default=f"{TEXT}-two", secret=True)

    @ex.result
    def size(one, two):
        return len(one) + len(two)

    assert size(one, two).compute() == 26
    assert "hunter2" not in repr(ex)
    ex.flush()
    close_recorders()
    assert TEXT.encode() not in everything(tmp_path)
    with pytest.raises(TypeError, match="secret is 'yes'"):
        ex.parameter("three", secret="yes")


def test_changes_of_a_repository_lose_files_that_quote_a_secret(tmp_path):
    """An edited script with the value in it is no part of the recorded changes; others are."""

    def git(*words):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=tmp_path, check=True,
            capture_output=True,
        )  # fmt: skip

    script, other = tmp_path / "script.py", tmp_path / "other.py"
    script.write_text(SCRIPT.format(default=""))
    other.write_text("x = 1\n")
    git("init")
    git("add", "script.py", "other.py")
    git("commit", "-m", "first")
    script.write_text(SCRIPT.format(default=TEXT))
    other.write_text("x = 'changed meanwhile'\n")
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, capture_output=True)
    ex = daskperiment.Experiment("written", backend=tmp_path / "store")
    told = ex.get_environment(1, "git")
    assert "changed meanwhile" in told
    assert "quote a secret parameter" in told
    close_recorders()
    assert TEXT.encode() not in everything(tmp_path / "store")


def test_variables_and_files_that_tell_a_secret_are_not_noted(ex, monkeypatch, tmp_path):
    """A step that reads the same secret from a variable or a file of that name is not reused."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / TEXT).write_text("rows")
    monkeypatch.setenv("DSN_OF_TESTS", TEXT)
    dsn = ex.parameter("dsn", default=TEXT, secret=True)
    place = ex.parameter("place", default=str(folder))

    @ex.persist(reuse=True)
    def by_variable(dsn):
        import os

        return os.environ["DSN_OF_TESTS"] == dsn

    @ex.persist(reuse=True)
    def by_file(dsn, place):
        with open(f"{place}/{dsn}") as file:
            return file.read()

    @ex.result
    def both(first, second):
        return first, second

    s = both(by_variable(dsn), by_file(dsn, place))
    for _ in range(2):
        assert s.compute() == (True, "rows")
    verdicts = {step.step: step.verdict for step in ex.explain(s).steps}
    assert verdicts["by_variable"] != "hit"
    assert verdicts["by_file"] != "hit"
    close_recorders()
    assert TEXT.encode() not in everything(tmp_path / "store")
