"""The user's code is what no installed distribution owns, wherever it lies."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile

import pandas  # noqa: F401  # looked for among the loaded modules
import pytest

from daskperiment.capture.code import CodeCapture
from daskperiment.capture.origin import distribution, origin_of, origin_of_file
from tests.helpers.calls import calls_of

CODE = "def helper(x):\n    return x + 1\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give a folder that modules are found in, and that is forgotten afterwards."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]
    distribution.cache_clear()
    origin_of_file.cache_clear()


def write(folder, **files):
    """Write files by their paths, with `__` for a slash."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def install(folder, name, version, *files):
    """Write the metadata that pip writes."""
    for old in folder.glob(f"{name}-*.dist-info"):
        for each in old.iterdir():
            each.unlink()
        old.rmdir()
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{each},,\n" for each in files))
    importlib.invalidate_caches()
    distribution.cache_clear()
    origin_of_file.cache_clear()


def step_of(folder, text="import usedlib\ndef step(x):\n    return usedlib.helper(x)\n"):
    """Capture a step of a module in a folder beside."""
    path = folder.parent / "usercode.py"
    path.write_text(text)
    for name in [each for each in sys.modules if each.startswith(("usedlib", "usercode"))]:
        del sys.modules[name]
    spec = importlib.util.spec_from_file_location("usercode", path)
    module = sys.modules["usercode"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return CodeCapture().capture({"step": module.step}).steps["step"]


def test_metadata_beside_a_package(folder):
    """A package with metadata counts by name and version, and its code is not followed."""
    write(folder, usedlib=CODE)
    install(folder, "used-lib", "1.5", "usedlib.py")
    before = step_of(folder)
    assert before.packages == {"used-lib": "1.5"}
    assert before.functions == ["usercode.step"]
    write(folder, usedlib=CODE.replace("+ 1", "+ 2"))
    assert step_of(folder).fingerprint == before.fingerprint
    install(folder, "used-lib", "1.6", "usedlib.py")
    for old in folder.glob("used-lib-1.5*"):
        old.rmdir()
    assert step_of(folder).packages == {"used-lib": "1.6"}


def test_size_of_a_package_beside(folder):
    """Of a package that was put into a folder nothing is read, however large it is."""
    found = {}
    for size in (3, 300):
        name = f"usedlib{size}"
        files = [f"{name}/__init__.py", *(f"{name}/part{number}.py" for number in range(size))]
        (folder / name).mkdir(parents=True)
        for file in files:
            (folder / file).write_text(CODE)
        install(folder, f"used-lib-{size}", "1", *files)
        step_of(folder, f"import {name}\ndef step(x):\n    return {name}.helper(x)\n")
        step = sys.modules["usercode"].step
        found[size] = calls_of(lambda step=step: CodeCapture().capture({"step": step}))
    assert found[300] < 2 * found[3]


@pytest.mark.parametrize("place", ["packages", "site-packages", "dist-packages"])
def test_no_metadata(folder, monkeypatch, place):
    """A module that no distribution owns is the user's, even among installed ones."""
    folder = folder.parent / place
    monkeypatch.syspath_prepend(str(folder))
    write(folder, usedlib=CODE)
    before = step_of(folder)
    assert before.functions == ["usercode.step", "usedlib.helper"]
    write(folder, usedlib=CODE.replace("+ 1", "+ 2"))
    assert step_of(folder).fingerprint != before.fingerprint


def test_developed(folder):
    """A package that is installed as an editable one stays the user's."""
    write(folder, usedlib=CODE)
    install(folder, "usedlib", "1", "__editable___usedlib_finder.py", "usedlib-1.dist-info/RECORD")
    (folder / "other.egg-info").mkdir()
    (folder / "other.egg-info" / "PKG-INFO").write_text("Name: other\nVersion: 1\n")
    (folder / "other.egg-info" / "top_level.txt").write_text("usedlib\n")
    assert step_of(folder).functions == ["usercode.step", "usedlib.helper"]


def test_namespace(folder):
    """Of a package that several distributions share, the one that owns the module counts."""
    write(folder, usedlib__one=CODE, usedlib__two=CODE, usedlib__mine=CODE)
    install(folder, "first", "1", "usedlib/one.py")
    install(folder, "second", "2", "usedlib/two.py")
    found = {}
    for part in ("one", "two", "mine"):
        text = f"from usedlib.{part} import helper\ndef step(x):\n    return helper(x)\n"
        found[part] = step_of(folder, text)
    assert found["one"].packages == {"first": "1"}
    assert found["two"].packages == {"second": "2"}
    assert found["mine"].packages == {}
    assert found["mine"].functions == ["usercode.step", "usedlib.mine.helper"]


def test_late_import(folder):
    """A package is the same whether the step has imported it already or not yet."""
    write(folder, usedlib=CODE)
    install(folder, "used-lib", "1.5", "usedlib.py")
    text = "def step(x):\n    import usedlib\n    return usedlib.helper(x)\n"
    before = step_of(folder, text)
    assert before.packages == {"used-lib": "1.5"}
    sys.modules["usercode"].step(1)
    assert CodeCapture().capture({"step": sys.modules["usercode"].step}).steps["step"] == before


def test_installed_by_pip(folder):
    """What ``pip install --target`` puts into a folder is no code of the user's."""
    pytest.importorskip("pip")
    wheel = folder.parent / "used_lib-1.5-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("usedlib/__init__.py", CODE)
        info = "used_lib-1.5.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: used-lib\nVersion: 1.5\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            f"{info}/RECORD",
            f"usedlib/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
        )
    command = ["install", "--quiet", "--no-index", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True)
    importlib.invalidate_caches()
    found = step_of(folder)
    assert (found.functions, found.packages) == (["usercode.step"], {"used-lib": "1.5"})


def test_python_and_installed():
    """Python's own modules, compiled ones too, and those of this environment are told apart."""
    kinds = {name: origin_of(name) for name in ("json", "_json", "math", "numpy", "pandas", "dask")}
    assert kinds == {
        **dict.fromkeys(("json", "_json", "math"), "python"),
        **dict.fromkeys(("numpy", "pandas", "dask"), "installed"),
    }
    assert distribution("sklearn")[0] == "scikit-learn"
