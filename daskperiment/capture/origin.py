"""Whose code a module is, its file, and the installed distribution that it came with.

The user's own code is followed and fingerprinted; an installed package is recorded by its name
and version alone; Python's own modules are covered by its version.
"""

from __future__ import annotations

import itertools
import os
import sys
import sysconfig
from functools import lru_cache
from importlib import metadata
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, Literal

from daskperiment.capture.installed import is_owned, is_site, owner_of

__all__ = ["distribution", "file_of_module", "is_own", "module_of", "origin_of", "origin_of_file"]

Origin = Literal["own", "installed", "python", "daskperiment"]

_PACKAGE = __name__.partition(".")[0]
_MAIN = ("__main__", "__mp_main__")


def origin_of(module: str | None) -> Origin:
    """Whose code a module is, by its name.

    Code of no known module is taken for the user's own: to record too much does no harm.
    """
    if module is None or module in _MAIN:
        return "own"
    top = module.partition(".")[0]
    if top == _PACKAGE:
        return "daskperiment"
    place = _place_of(sys.modules.get(module)) or _place_of(sys.modules.get(top))
    return _origin_of(top, place)


def is_own(module: str | None) -> bool:
    """Whether a module is the user's own code."""
    return origin_of(module) == "own"


def module_of(value: Any) -> str | None:
    """The name of the module that a function, a class or another object says it is from."""
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else None


def _place_of(module: ModuleType | None) -> str | None:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return file
    # A namespace package has folders, but no file.
    folders = list(getattr(module, "__path__", ()))
    return os.path.join(folders[0], "") if folders and isinstance(folders[0], str) else None


@lru_cache(maxsize=4096)
def _origin_of(top: str, file: str | None) -> Origin:
    if file is None:
        return "python" if top in sys.stdlib_module_names else "own"
    return origin_of_file(file)


@lru_cache(maxsize=8192)
def origin_of_file(file: str) -> Origin:
    """Whose code a file is: the user's is what no installed distribution owns, wherever it lies."""
    path = os.path.abspath(file) + (os.sep if file.endswith(os.sep) else "")
    if path.startswith(_python_folders()) and not is_site(path):
        return "python"
    return "installed" if is_owned(path) else "own"


@lru_cache(maxsize=1)
def _python_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = paths["stdlib"], paths["platstdlib"]
    return tuple({os.path.join(os.path.abspath(folder), "") for folder in folders})


def file_of_module(name: str) -> str | None:
    """Return the file of a module, without importing it or its parents; None if it has none."""
    loaded = sys.modules.get(name)
    if isinstance(loaded, ModuleType):
        file = getattr(loaded, "__file__", None)
        return file if isinstance(file, str) else None
    spec = _find_spec(name)
    return spec.origin if spec is not None and spec.has_location else None


def _find_spec(name: str) -> Any:
    folders = spec = None
    for path in itertools.accumulate(name.split("."), "{}.{}".format):
        try:
            spec = PathFinder.find_spec(path, folders)
        except Exception:
            return None
        folders = getattr(spec, "submodule_search_locations", None)
        if spec is None or (folders is None and path != name):
            return None
    return spec


@lru_cache(maxsize=1024)
def distribution(module: str) -> tuple[str, str] | None:
    """Return name and version of the distribution that an installed module came with.

    ``None`` if nobody says: the module was put there by hand.
    """
    top = module.partition(".")[0]
    place = _place_of(sys.modules.get(module)) or _place_of(sys.modules.get(top))
    file = place or file_of_module(module) or file_of_module(top)
    owner = owner_of(os.path.abspath(file)) if file is not None else None
    if owner is not None:
        # Where both have one name, that of the module is the shorter one to read.
        same = owner.name.lower().replace("-", "_") == top.lower()
        return (top if same else owner.name), owner.version
    return _search(top) if file is None and top not in sys.stdlib_module_names else None


def _search(top: str) -> tuple[str, str] | None:
    try:
        name = min(_providers()[top])
        return name, metadata.version(name)
    except Exception:
        return None  # nobody brings it, or the metadata cannot be read


_providers = lru_cache(maxsize=1)(metadata.packages_distributions)
