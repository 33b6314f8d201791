from __future__ import annotations

import os
import subprocess
import sys
import threading
import types

import psutil
import pytest

from daskperiment.capture import environment as environment_module
from daskperiment.capture.environment import (
    EnvironmentCapture,
    changes,
    describe,
    machine,
    packages_text,
)
from daskperiment.records import Environment


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in a fresh repository."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n")
    for command in (["init", "-q", "-b", "main"], ["add", "a.py"], ["commit", "-q", "-m", "a"]):
        git(*command)
    return tmp_path


def git(*command):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, *command], check=True, capture_output=True)


@pytest.fixture
def capture():
    """Capture without the pause between looks at the folders."""
    return EnvironmentCapture(pause=0)


def test_categories(folder, capture):
    """The categories are there, and all that they hold is text."""
    found = capture.capture().categories
    assert {"platform", "cpu", "memory", "python", "numpy", "pandas", "git", "requirements"} <= set(
        found
    )
    assert all(isinstance(text, str) for facts in found.values() for text in facts.values())
    assert found["requirements"]["dask"] == found["requirements"]["dask"].strip()
    assert found["python"]["version"] == sys.version.split()[0]
    assert found["numpy"]["version"] == found["requirements"]["numpy"]


def test_same_object(folder, capture):
    """Nothing changes by itself between two captures, and no process is started."""
    first = capture.capture()
    assert capture.capture() is first
    assert EnvironmentCapture().capture() == first


def test_no_process_stays(folder, capture):
    """Git leaves no process behind."""
    capture.capture()
    assert not [child for child in psutil.Process().children() if "git" in child.name()]


def test_commit_is_seen(folder, capture):
    """A commit, a branch and a staged change are seen at once."""
    first = capture.capture()
    git("checkout", "-q", "-b", "side")
    second = capture.capture()
    (folder / "a.py").write_text("x = 2\n")
    git("add", "a.py")
    third = capture.capture()
    git("commit", "-q", "-m", "b")
    fourth = capture.capture()
    assert "git branch main -> side" in changes(first, second)
    assert "git diff changed" in changes(second, third)
    commits = [each.categories["git"]["commit"][:10] for each in (third, fourth)]
    assert f"git commit {commits[0]} -> {commits[1]}" in changes(third, fourth)


def test_new_file_is_seen(folder, capture):
    """A file that appears in the working folder is seen."""
    capture.capture()
    (folder / "new.py").write_text("")
    assert capture.capture().categories["git"]["untracked"].endswith("  new.py")


def test_edit_of_loaded_file_is_seen(folder, capture, monkeypatch):
    """An edit of a loaded source file is seen, without anything else happening."""
    module = types.ModuleType("usercode")
    module.__file__ = str(folder / "a.py")
    monkeypatch.setitem(sys.modules, "usercode", module)
    assert capture.capture().categories["git"]["dirty"] == "no"
    with open(folder / "a.py", "a") as file:
        file.write("y = 1\n")
    assert capture.capture().categories["git"]["dirty"] == "yes"


def test_other_folder_is_seen(folder, capture, monkeypatch, tmp_path_factory):
    """Another working folder means another repository, or none."""
    capture.capture()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert capture.capture().categories["git"] == {"note": "not in a Git repository"}


def test_missing_folder(folder, capture):
    """A working folder that was removed is a note."""
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir(folder / "gone")
    assert capture.capture().categories["git"] == {"note": "the working folder is gone"}


def test_repository_is_not_read_without_reason(folder, capture, monkeypatch):
    """Git is asked once while nothing changes."""
    asked = []
    monkeypatch.setattr(environment_module, "read_state", lambda place: asked.append(place) or {})
    for _ in range(5):
        capture.capture()
    assert len(asked) == 1


def test_git_is_read_beside_the_rest(folder, capture, monkeypatch):
    """Packages are listed while git is waited for, and both are in what is captured."""
    both = threading.Barrier(2, timeout=60)

    def meets(facts):
        both.wait()
        return facts

    monkeypatch.setattr(environment_module, "read_state", lambda place: meets({"commit": "1"}))
    monkeypatch.setattr(capture._packages, "_gather", lambda: meets({"one": "1"}))
    found = capture.capture().categories
    assert (found["git"], found["requirements"]) == ({"commit": "1"}, {"one": "1"})
    assert "daskperiment-git" not in {thread.name for thread in threading.enumerate()}


def test_git_is_read_without_another_thread(folder, capture, monkeypatch):
    """Where no thread can be started, the repository is read all the same."""
    begin = threading.Thread.start

    def start(thread):
        if thread.name == "daskperiment-git":  # those of others are no matter of this test
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(environment_module, "read_state", lambda place: {"commit": "1"})
    monkeypatch.setattr(threading.Thread, "start", start)
    assert capture.capture().categories["git"] == {"commit": "1"}


def test_what_goes_wrong_beside_is_met(folder, capture, monkeypatch):
    """An error that came while the repository was read ahead is told, and nothing half is kept."""

    def read(place):
        raise ZeroDivisionError

    monkeypatch.setattr(environment_module, "read_state", read)
    with pytest.raises(ZeroDivisionError):
        capture.capture()
    monkeypatch.setattr(environment_module, "read_state", lambda place: {"commit": "1"})
    assert capture.capture().categories["git"] == {"commit": "1"}


def test_busy_folder(folder, monkeypatch):
    """A working folder that changes with every trial does not have git read every time."""
    asked = []
    monkeypatch.setattr(environment_module, "read_state", lambda place: asked.append(place) or {})
    clock = iter(range(1000))
    # A clock of its own: the threads of other tests look at the process's, too.
    ticking = types.SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr(environment_module, "time", ticking)
    capture = EnvironmentCapture()
    for number in range(50):
        (folder / f"{number}.out").write_text("")
        # Fifty of them may take less than the time of a file is exact to.
        os.utime(folder, ns=(number, 10**18 + number * 10**9))
        capture.capture()
    # One look takes one tick of this clock, so that twenty ticks lie between two of them.
    assert 2 <= len(asked) <= 8


def test_installed_package_is_seen(folder, capture, tmp_path, monkeypatch):
    """A package that is installed while the process runs is seen."""
    monkeypatch.syspath_prepend(str(tmp_path))
    first = capture.capture()
    info = tmp_path / "demo_x-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-x\nVersion: 1.0\n")
    assert "added demo-x==1.0" in changes(first, capture.capture())


def test_failing_category(folder, monkeypatch):
    """What cannot be told is a note, not an exception."""

    def fail():
        raise OSError("no /proc here")

    monkeypatch.setitem(machine.CATEGORIES, "cpu", fail)
    found = EnvironmentCapture().capture().categories["cpu"]
    assert found == {"note": "could not be read: OSError('no /proc here')"}


def nvml(**changed):
    parts = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: b"550.1",
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda place: place,
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(total=2**34),
        "nvmlDeviceGetName": lambda handle: "Card",
    }
    return types.SimpleNamespace(**{**parts, **changed})


def test_gpu(monkeypatch):
    """Graphics processors are listed where NVML is; its failure is a note, its absence nothing."""
    monkeypatch.setattr(machine, "may_have_nvidia", lambda: True)
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    assert machine.gpu_facts() == {"driver": "550.1", "device 0": "Card, 16.0 GiB"}

    def fail():
        raise RuntimeError("no driver")

    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlInit=fail))
    assert machine.gpu_facts() == {"note": "NVML is not available: no driver"}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert machine.gpu_facts() == {}
    # Whether somebody loaded the package says nothing of this machine.
    monkeypatch.setattr(machine, "may_have_nvidia", lambda: False)
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    assert machine.gpu_facts() == {}


OLD = Environment(
    {
        "python": {"version": "3.11.7"},
        "numpy": {"version": "2.1.0", "wheel": "a"},
        "git": {"commit": "a" * 40, "diff": "x\ny"},
        "requirements": {"numpy": "2.1.0", "Zope": "1", "gone": "1"},
    }
)
NEW = Environment(
    {
        "python": {"version": "3.12.1"},
        "numpy": {"version": "2.2.0", "wheel": "a"},
        "git": {"commit": "b" * 40},
        "requirements": {"numpy": "2.2.0", "Zope": "1", "x": "1"},
    }
)


def test_changes():
    """Each change is one readable line; a package's version is told once."""
    assert changes(OLD, NEW) == [
        "numpy 2.1.0 -> 2.2.0",
        "added x==1",
        "removed gone==1",
        "python 3.11.7 -> 3.12.1",
        "git commit aaaaaaaaaa -> bbbbbbbbbb",
        "git diff changed",
    ]
    assert changes(OLD, OLD) == []


def test_describe():
    """The summary names every category and shortens what is long; a category comes in full."""
    text = describe(OLD)
    assert "git\n  commit: " in text
    assert "diff: 2 lines" in text
    assert "3 installed packages" in text
    assert describe(OLD, "git").endswith("diff:\nx\ny")
    assert describe(OLD, "requirements") == packages_text(OLD)


def test_unknown_category():
    """An unknown category is refused, with those that there are."""
    with pytest.raises(ValueError, match=r"'gti'.*conda, cpu, git, gpu, .*requirements, scipy"):
        describe(OLD, "gti")


def test_category_without_facts():
    """Of a category that does not apply here it is said that nothing was found."""
    assert describe(OLD, "conda") == "no conda was found"


def test_packages_text():
    """Packages come in alphabetical order, whatever their case."""
    assert packages_text(OLD) == "gone==1\nnumpy==2.1.0\nZope==1"


def test_one_name_for_the_interpreter(tmp_path, monkeypatch):
    """An environment's interpreter is the same by whichever of its names it was started."""
    outside = tmp_path / "real"
    outside.touch()
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").symlink_to(outside)
    (folder / "python3").symlink_to("python")
    (folder / "python3.11").symlink_to("python3")
    for name in ("python", "python3", "python3.11"):
        monkeypatch.setattr(sys, "executable", str(folder / name))
        assert machine.python_facts()["executable"] == str(folder / "python")
    monkeypatch.setattr(sys, "executable", None)
    assert machine.python_facts()["executable"] == "unknown"


def test_linear_algebra_is_part_of_the_environment(monkeypatch):
    """BLAS library and kernel are recorded: by threadpoolctl if it is there, and without it."""
    facts = machine.CATEGORIES["blas"]()
    assert machine.CATEGORIES["platform"]()["kernel"]
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    without = machine.CATEGORIES["blas"]()
    assert without.items() <= facts.items()
    assert "library" in without or "internal api" in facts
