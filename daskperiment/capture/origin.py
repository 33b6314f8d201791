"""Whose code a module is, and the installed distribution that it came with.

The user's own code is followed and fingerprinted; an installed package is recorded by its name
and version alone; Python's own modules are covered by its version.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from functools import lru_cache
from importlib import metadata
from types import ModuleType
from typing import Any, Literal

__all__ = ["Home", "distribution", "home", "home_of_file", "is_own", "module_of"]

Home = Literal["own", "installed", "python", "daskperiment"]

_PACKAGE = __name__.partition(".")[0]
_MAIN = ("__main__", "__mp_main__")


def home(module: str | None) -> Home:
    """Tell whose code a module is, by its name.

    Code of no known module is taken for the user's own: to record too much does no harm.
    """
    if module is None or module in _MAIN:
        return "own"
    top = module.partition(".")[0]
    if top == _PACKAGE:
        return "daskperiment"
    loaded = sys.modules.get(module) or sys.modules.get(top)
    return _home_of(top, _file_of(loaded))


def is_own(module: str | None) -> bool:
    """Tell whether a module is the user's own code."""
    return home(module) == "own"


def module_of(value: Any) -> str | None:
    """Name the module that a function, a class or another object says it is from."""
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else None


def _file_of(module: ModuleType | None) -> str | None:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return file
    # A namespace package has folders, but no file.
    folders = list(getattr(module, "__path__", ()))
    return os.path.join(folders[0], "") if folders and isinstance(folders[0], str) else None


@lru_cache(maxsize=4096)
def _home_of(top: str, file: str | None) -> Home:
    if file is None:
        return "python" if top in sys.stdlib_module_names else "own"
    return home_of_file(file)


def home_of_file(file: str) -> Home:
    """Tell whose code a file is."""
    path = os.path.abspath(file)
    if not {"site-packages", "dist-packages"}.isdisjoint(path.split(os.sep)):
        return "installed"
    installed, python = _folders()
    if path.startswith(installed):
        return "installed"
    return "python" if path.startswith(python) else "own"


@lru_cache(maxsize=1)
def _folders() -> tuple[tuple[str, ...], tuple[str, ...]]:
    paths = sysconfig.get_paths()
    sites = [paths["purelib"], paths["platlib"], *site.getsitepackages()]
    user = site.getusersitepackages()
    python = [paths["stdlib"], paths["platstdlib"]]
    return _prefixes([*sites, user]), _prefixes(python)


def _prefixes(folders: list[str]) -> tuple[str, ...]:
    return tuple({os.path.join(os.path.abspath(folder), "") for folder in folders})


@lru_cache(maxsize=1024)
def distribution(module: str) -> tuple[str, str] | None:
    """Give name and version of the distribution that an installed module came with.

    ``None`` if nobody says: the module was put there by hand.
    """
    top = module.partition(".")[0]
    try:
        found = metadata.distribution(top)
        return (None if _brings(found, top) else _search(top)) or (top, found.version)
    except Exception:
        # Another name (sklearn comes with scikit-learn), or metadata that cannot be read.
        return _search(top)


def _brings(found: metadata.Distribution, top: str) -> bool:
    """Tell whether a distribution has a module; another may have the same name."""
    record = found.read_text("RECORD")
    if record is None:
        return True  # nobody says
    return any(line.startswith((f"{top}/", f"{top}.")) for line in record.splitlines())


def _search(top: str) -> tuple[str, str] | None:
    try:
        names = _providers().get(top, [])
        return (names[0], metadata.version(names[0])) if names else None
    except Exception:
        return None


@lru_cache(maxsize=1)
def _providers() -> dict[str, list[str]]:
    return {name: sorted(set(of)) for name, of in metadata.packages_distributions().items()}
