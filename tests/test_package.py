"""The package as a whole: its public names, and that importing it costs and changes nothing."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import daskperiment
from daskperiment import errors
from daskperiment.formatting import install_command

ROOT = Path(__file__).parents[1]

LOOK_AROUND = """
import json, logging, os, sys, threading
before = {"files": sorted(os.listdir()), "descriptors": len(os.listdir("/proc/self/fd"))}
import %s
print(json.dumps({
    "before": before,
    "after": {"files": sorted(os.listdir()), "descriptors": len(os.listdir("/proc/self/fd"))},
    "handlers": len(logging.getLogger().handlers),
    "loggers": [n for n in logging.root.manager.loggerDict if n.startswith("daskperiment")
                and logging.getLogger(n).handlers],
    "threads": threading.active_count(),
    "modules": sorted(sys.modules),
}))
"""


def import_in_new_process(module: str, folder: Path) -> dict[str, Any]:
    """Import a module in a process of its own, and return what that did."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK_AROUND % module],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


FIRST_USE = """
import json, sys, threading
import dask.delayed, numpy, sqlite3
started = set(sys.modules)
seen = {}
def look(when):
    seen[when] = sorted(set(sys.modules) - started)
import os
# A folder of packages, as this one is, that changes is read again a second later.
os.mkdir("store")
import daskperiment
ex = daskperiment.Experiment("first", backend="store")
look("used")
a = ex.parameter("a", default=1)
@ex
def add(a, b):
    return a + b
@ex.result
def double(x):
    return 2 * x
result = double(add(a, 2))
look("declared")
seen["threads"] = [each.name for each in threading.enumerate()]
seen["done"] = done = []
main = threading.get_ident()
def note(event, given):
    if threading.get_ident() == main:  # the heartbeat may have its turn meanwhile
        done.append([event, repr(given)])
sys.addaudithook(note)
assert result.compute(scheduler="synchronous") == 6
done.append(None)
look("computed")
# All packages would be read again if another process put a file among them meanwhile.
import daskperiment.capture.environment as environment, types
environment.time = types.SimpleNamespace(monotonic=lambda: 0.0)
assert result.compute(scheduler="synchronous") == 6
print(json.dumps(seen))
"""
LATER_ROOMS = {
    "cli", "compare", "dashboard", "explain", "history", "integrations", "reports", "reproduce",
    "sweep", "testing", "copying", "curation", "pruning", "removal",
}  # fmt: skip


@pytest.fixture(scope="module")
def first_use(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is loaded in a process of its own that uses an experiment for the first time."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_USE],
        cwd=tmp_path_factory.mktemp("first"),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def own(modules: list[str]) -> list[str]:
    return [name for name in modules if name.partition(".")[0] == "daskperiment"]


def test_first_use_loads_what_it_needs(first_use: dict[str, list[str]]) -> None:
    """An experiment that only exists has loaded where its records are, and no way to run steps."""
    used = first_use["used"]
    assert len(own(used)) <= 51
    assert len(used) - len(own(used)) <= 20  # msgspec, most of them
    rooms = {name.split(".")[1] for name in own(used) if "." in name}
    assert not rooms & {"graph", "client", "codec", "formats", "parameters", "result", "vouching"}
    assert {"daskperiment.planning.planner", "daskperiment.recording.recorder"}.isdisjoint(used)


def test_first_trial_loads_what_it_needs(first_use: dict[str, list[str]]) -> None:
    """Declaring loads what runs trials, computing next to nothing more, and neither what asks."""
    declared, computed = first_use["declared"], first_use["computed"]
    assert len(own(declared)) <= 190
    assert len(own(computed)) - len(own(declared)) <= 1
    rooms = {name.split(".")[1] for name in own(computed) if "." in name}
    assert not rooms & LATER_ROOMS
    assert {"pandas", "distributed", "click", "git"}.isdisjoint(computed)


def test_declaring_starts_nothing(first_use: dict[str, list[str]]) -> None:
    """Nothing is done in the background before there is a trial."""
    assert first_use["threads"] == ["MainThread"]


def test_first_trial_does_little(first_use: dict[str, Any]) -> None:
    """It reads a line or two of each package and some forty other files, and starts no process."""
    end = first_use["done"].index(None)
    first, second = first_use["done"][:end], first_use["done"][end + 1 :]
    files = [given for event, given in first if event == "open"]
    packages = [each for each in files if re.search(r"(dist|egg)-info", each)]
    assert len(packages) <= len([*metadata.distributions()]) + 10
    assert len(files) - len(packages) <= 45
    happened = Counter(event for event, _ in first)
    assert happened["subprocess.Popen"] == 0
    assert happened["sqlite3.connect"] <= 2
    assert happened["import"] <= 6
    again = Counter(event for event, _ in second)
    assert not {"import", "subprocess.Popen", "sqlite3.connect"} & again.keys()
    assert again["open"] <= 5


def public_members(owner: type) -> list[str]:
    """Names that a class of the public interface offers, of its own or by those it is made of."""
    found = {name: inspect.getattr_static(owner, name) for name in dir(owner)}
    return [
        name
        for name, value in found.items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property))
    ]


def test_all_is_exact() -> None:
    """`__all__` is the public interface, no name more and no name less."""
    assert sorted(daskperiment.__all__) == [
        "Comparison",
        "Experiment",
        "Parameter",
        "Result",
        "copy",
        "errors",
        "formats",
        "list_experiments",
        "register_fingerprint",
        "testing",
    ]
    assert all(hasattr(daskperiment, name) for name in daskperiment.__all__)


def test_all_of_errors_is_exact() -> None:
    """`daskperiment.errors.__all__` names every error and warning of the module."""
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert set(errors.__all__) == defined


@pytest.mark.parametrize("name", daskperiment.__all__)
def test_public_names_stand_in_the_docs(name: str) -> None:
    """The reference describes every public name."""
    text = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    directive = rf"^\.\. auto\w+:: daskperiment\.{name}(\(\))?$"
    assert re.search(directive, text, re.MULTILINE), f"docs/api.rst does not describe {name}"


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_stand_in_the_docs(name: str) -> None:
    """Every error and warning stands in the tree that the reference shows, and has a docstring."""
    assert re.search(rf" {name}\b", errors.__doc__ or "")
    assert vars(errors)[name].__doc__


@pytest.mark.parametrize("name", public_members(daskperiment.Experiment))
def test_methods_stand_in_the_docs(name: str) -> None:
    """Every method and property of an experiment has a docstring and is listed in the reference."""
    text = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    assert re.search(rf"\b{name}\b", text), f"docs/api.rst does not mention {name}"
    assert inspect.getdoc(inspect.getattr_static(daskperiment.Experiment, name))


@pytest.mark.parametrize("module", ["daskperiment", "daskperiment.experiment"])
def test_import_changes_nothing(module: str, tmp_path: Path) -> None:
    """Importing leaves no file, open descriptor, thread or log handler behind."""
    found = import_in_new_process(module, tmp_path)
    assert found["before"] == found["after"]
    assert found["handlers"] == 0
    assert found["loggers"] == []
    assert found["threads"] == 1


@pytest.mark.parametrize("module", ["daskperiment", "daskperiment.experiment"])
def test_import_loads_no_more_than_it_needs(module: str, tmp_path: Path) -> None:
    """Neither the package nor the experiment's class loads numpy, pandas or a driver."""
    plain = set(import_in_new_process("dask.delayed", tmp_path)["modules"])
    ours = set(import_in_new_process(module, tmp_path)["modules"])
    late = {"numpy", "pandas", "redis", "pymongo", "git", "distributed", "sklearn"}
    assert (ours - plain) & late == set()


def test_version_is_the_installed_one() -> None:
    """`__version__` is what the package's metadata say, so that it is written once."""
    assert daskperiment.__version__ == metadata.version("daskperiment")


def test_lowest_versions_are_the_declared_ones() -> None:
    """The versions tested as the lowest are the lower bounds that setup.py declares."""
    declared = {}
    for requirement in metadata.requires("daskperiment") or []:
        name, _, rest = requirement.partition(">=")
        if "extra ==" not in requirement:
            declared[name.strip().lower()] = [int(n) for n in rest.split(".")]
    lines = (ROOT / "tests" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    tested = {
        name.lower(): [int(n) for n in version.split(".")]
        for name, _, version in (line.partition("==") for line in lines if "==" in line)
    }
    assert declared
    for name, bound in declared.items():
        assert tested[name][: len(bound)] == bound, name


def test_package_is_marked_as_typed() -> None:
    """The package carries the marker that lets type checkers use its annotations."""
    assert (Path(daskperiment.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("extra", ["dashboard", "distributed", "optuna"])
def test_command_that_installs_an_extra_works_as_written(extra: str) -> None:
    """What a message says to run names packages of the index, and pip takes it as it stands."""
    program, *arguments = shlex.split(install_command(extra))
    assert program == "pip"
    assert not any("daskperiment" in argument for argument in arguments)
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--dry-run", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_no_message_asks_the_index_for_this_package() -> None:
    """The package index may have another package of this name, or an older one."""
    for path in [*(ROOT / "daskperiment").rglob("*.py"), *(ROOT / "docs").glob("*.rst")]:
        asked = re.findall(r"pip install \S*daskperiment", path.read_text(encoding="utf-8"))
        assert not asked or path.name == "formatting.py", path


def test_what_is_let_go_of_when_the_interpreter_ends(tmp_path, monkeypatch):
    """Journals and copies of damaged databases close quietly when modules are cleared."""
    from daskperiment.recording import journal
    from daskperiment.store.file import recovery

    ex = daskperiment.Experiment("ends", backend=tmp_path, seed=1)
    ex.result(lambda: 1)().compute(scheduler="synchronous")
    recorder = daskperiment.recording.registry.recorder_for(ex._store)
    recorder._heartbeat.stop()  # its thread would meet the modules as they are then
    held = [recorder._journal._file, ex._store._database._recovery]
    for module in (journal, recovery):
        monkeypatch.setattr(module, "os", None)
    for each in held:
        each.__del__()
