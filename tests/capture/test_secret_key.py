"""The key that secrets are compared by: the user's own, made once, readable by nobody else."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import dask
import pytest

from daskperiment.capture.fingerprint import exact_fingerprint
from daskperiment.capture.secret_key import covered, secret_parameters
from daskperiment.errors import DaskperimentError, SecretKeyError
from daskperiment.secret_values import Secret, may_differ, revealed

NAMES = frozenset({"dsn"})


@pytest.fixture
def home(monkeypatch, tmp_path):
    """Have a user without a key."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("APPDATA", str(tmp_path))
    with dask.config.set({"daskperiment.secret-key": None}):
        yield tmp_path


def secret(value):
    """Make a secret with the key of this moment."""
    return covered({"dsn": value}, secret_parameters(NAMES))["dsn"]


def test_the_key_is_made_once_and_private(home):
    """The first secret makes the key; later ones find it, and others cannot read it."""
    first, second = secret("hunter2"), secret("hunter2")
    path = home / "daskperiment" / "secret-key"
    assert [each.name for each in path.parent.iterdir()] == ["secret-key"]
    assert len(path.read_text()) == 64
    assert first.key == second.key == path.read_bytes()
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.mark == second.mark
    assert may_differ(first.mark, second.mark) is False


def test_processes_that_make_the_key_at_once_have_one(home):
    """Of several processes that find none, all use the same in the end."""
    script = (
        "from daskperiment.capture.secret_key import secret_parameters as p;"
        "print(p(frozenset()).key)"
    )
    environment = {n: v for n, v in os.environ.items() if n != "DASK_DASKPERIMENT__SECRET_KEY"}
    running = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
        for _ in range(3)
    ]
    keys = {each.communicate(timeout=60)[0] for each in running}
    assert len(keys) == 1
    assert len(keys.pop()) > 64


def test_a_key_that_others_can_read_is_refused(home):
    """The message names the command that mends it, and then it works."""
    secret("x")
    path = home / "daskperiment" / "secret-key"
    path.chmod(0o644)
    with pytest.raises(SecretKeyError, match="chmod 600"):
        secret("x")
    path.chmod(0o600)
    assert secret("x").mark


def test_a_key_that_cannot_be_made_names_the_setting(home, monkeypatch):
    """Where there is no place for a file, the key may come from the configuration."""
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "file"))
    monkeypatch.setenv("APPDATA", str(home / "file"))
    with pytest.raises(SecretKeyError, match=r"daskperiment\.secret-key") as caught:
        secret("x")
    assert isinstance(caught.value, DaskperimentError)
    assert isinstance(caught.value, ValueError)
    with dask.config.set({"daskperiment.secret-key": "mine"}):
        assert secret("x").key == b"mine"


@pytest.mark.parametrize("given", ["", b"", 7, ["x"]])
def test_what_is_no_key_is_refused(given):
    """A setting that is no text, or empty, is told of without being shown."""
    with (
        dask.config.set({"daskperiment.secret-key": given}),
        pytest.raises(SecretKeyError, match="long and random"),
    ):
        secret("x")


def test_an_empty_key_file_is_refused(home):
    """A file that somebody emptied compares nothing."""
    secret("x")
    (home / "daskperiment" / "secret-key").write_text("\n")
    with pytest.raises(SecretKeyError, match="empty"):
        secret("x")


def test_marks_tell_whether_values_differ_by_one_key_only():
    """Equal values have equal marks and others others; of two keys nobody can tell."""
    one, same, other = secret({"a": 1}), secret({"a": 1}), secret({"a": 2})
    with dask.config.set({"daskperiment.secret-key": "another"}):
        foreign = secret({"a": 1})
    assert may_differ(one.mark, same.mark) is False
    assert may_differ(one.mark, other.mark) is True
    assert may_differ(one.mark, foreign.mark) is None
    assert may_differ(foreign.mark, other.mark) is None
    assert may_differ("", "") is None


def test_a_mark_is_not_made_of_the_value_alone():
    """Neither the mark nor a fingerprint in a cache key has the digest that anybody can make."""
    one = secret("1234")
    plain = exact_fingerprint("1234")
    assert plain not in one.mark
    assert exact_fingerprint(one) != plain
    with dask.config.set({"daskperiment.secret-key": "another"}):
        foreign = secret("1234")
    assert exact_fingerprint(foreign) != exact_fingerprint(one)
    assert exact_fingerprint([one]) == exact_fingerprint([secret("1234")])


def test_a_secret_without_fingerprint_has_an_empty_mark():
    """What has no fingerprint is compared with nothing, and the reason does not quote it."""

    class Odd:
        def __reduce_ex__(self, protocol):
            raise RuntimeError("hunter2")

    odd = secret(Odd())
    assert odd.mark == ""
    with pytest.raises(TypeError) as caught:
        exact_fingerprint(odd)
    assert "hunter2" not in str(caught.value)


def test_a_covered_value_is_covered_again():
    """A secret that is given as a value is the same secret."""
    one = secret("x")
    assert isinstance(secret(one), Secret)
    assert revealed(secret(one)) == "x"
    assert secret(one).mark == one.mark
