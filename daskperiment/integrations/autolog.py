"""Recording what libraries train in steps without a line in the training code: on, and off."""

from __future__ import annotations

import difflib
import importlib.util
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

from daskperiment.errors import MissingLibraryError
from daskperiment.formatting import install_command, shorten
from daskperiment.integrations.entrances import AWAITED, open_module
from daskperiment.integrations.replacements import Replacements
from daskperiment.integrations.training_calls import TrainingObserver
from daskperiment.planning.planner import Planner

__all__ = ["Autolog", "autolog"]


class Autolog:
    """What :meth:`Experiment.autolog` returns: recording is on until it is turned off.

    As a context manager it is turned off at the end of the block.

    Parameters
    ----------
    planner : Planner
        Of the experiment whose trials are recorded.
    libraries : sequence of str
        Names of libraries that are installed.
    """

    def __init__(self, planner: Planner, libraries: Sequence[str]) -> None:
        self.libraries = tuple(libraries)
        """Those whose trainings are recorded."""
        self._planner = planner
        self._observer = TrainingObserver(self.libraries, see_to)
        self._lock = threading.Lock()
        self._on = True
        _IN_USE.add(self.libraries)
        planner.observers = (*planner.observers, self._observer)

    @property
    def is_on(self) -> bool:
        """Whether trials that begin now are recorded."""
        return self._on

    def off(self) -> None:
        """Record no more trainings of trials that begin from now on; a second time is nothing."""
        with self._lock:
            if not self._on:
                return
            self._on = False
        left = list(self._planner.observers)
        left.remove(self._observer)
        self._planner.observers = tuple(left)
        _IN_USE.discard(self.libraries)

    def __enter__(self) -> Autolog:
        return self

    def __exit__(self, *error: object) -> None:
        self.off()

    def __repr__(self) -> str:
        state = "on" if self._on else "off"
        return f"<Autolog of {', '.join(self.libraries)}: {state}>"


def autolog(planner: Planner, names: Sequence[Any]) -> Autolog:
    """Turn the libraries of these names on, or all that are installed if there is none.

    Raises
    ------
    TypeError, ValueError
        If a name is no text, or of no library that can be recorded so.
    MissingLibraryError
        If a library is not installed, or none of them is.
    """
    for name in names:
        _check(name)
    found = [name for name in AWAITED if (name in names or not names) and _is_installed(name)]
    missing = [name for name in names if name not in found]
    if missing or not found:
        what = " and ".join(map(repr, missing)) or "all that are installed"
        which = "Not installed:" if missing else "None of them is, such as"
        first = (missing or list(AWAITED))[0]
        raise MissingLibraryError(
            f"autolog() was asked for {what}. {which} {', '.join(missing) or first}. "
            f"Install it: {install_command(first)}"
        )
    return Autolog(planner, found)


def _check(name: Any) -> None:
    known = ", ".join(map(repr, AWAITED))
    if not isinstance(name, str):
        raise TypeError(
            f"autolog() got {shorten(repr(name), 60)} ({type(name).__name__}); expected names of "
            f"libraries, each an argument of its own: {known}."
        )
    if name not in AWAITED:
        near = difflib.get_close_matches(name, AWAITED, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"autolog() knows no library {name!r}; expected some of {known}.{hint}")


def _is_installed(library: str) -> bool:
    """Whether a library is there; it is not imported for that."""
    tops = {name.partition(".")[0] for name in AWAITED[library]}
    return any(top in sys.modules or importlib.util.find_spec(top) is not None for top in tops)


class _ImportWatcher(MetaPathFinder):
    """Calls something once modules that are not there yet have been imported."""

    def __init__(self, act: Callable[[str], None]) -> None:
        self.names: set[str] = set()
        self._act = act
        self._asking = threading.local()

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Return what others find, if it is a module that is waited for."""
        if fullname not in self.names or getattr(self._asking, "now", False):
            return None
        self._asking.now = True
        try:
            found = (each.find_spec(fullname, path, target) for each in sys.meta_path)
            spec = next((each for each in found if each is not None), None)
        finally:
            self._asking.now = False
        loader: Any = spec.loader if spec is not None else None
        if loader is not None and hasattr(loader, "exec_module"):
            execute = loader.exec_module

            def execute_and_act(module: Any) -> None:
                execute(module)
                self._act(fullname)

            loader.exec_module = execute_and_act
        return spec


class _InUse:
    """What is replaced in this process: libraries are shared by all of its experiments."""

    def __init__(self) -> None:
        self._uses: Counter[str] = Counter()
        self._off: set[str] = set()
        self._done: dict[str, Replacements] = {}
        self._lock = threading.RLock()
        self._watcher = _ImportWatcher(self._imported)

    def add(self, libraries: Sequence[str]) -> None:
        """Let libraries be recorded until as many calls of `discard` have come."""
        with self._lock:
            self._uses.update(libraries)
            self._off.difference_update(libraries)
            self.see_to(libraries)

    def discard(self, libraries: Sequence[str]) -> None:
        """Make a library as it was where nobody else has it recorded."""
        with self._lock:
            self._uses.subtract(libraries)
            for library in libraries:
                if not self._uses[library]:
                    self._off.add(library)
                    self._watcher.names.difference_update(AWAITED[library])
                    self._done.pop(library, Replacements()).restore()
            if not self._watcher.names and self._watcher in sys.meta_path:
                sys.meta_path.remove(self._watcher)

    def see_to(self, libraries: Sequence[str]) -> None:
        """Replace what has to be, now or when it is imported, unless it was turned off here."""
        with self._lock:
            for library in libraries:
                if library in self._done or library in self._off:
                    continue
                done = self._done[library] = Replacements()
                for name in AWAITED[library]:
                    if _is_loaded(name):
                        open_module(name, sys.modules[name], done)
                    else:
                        self._watcher.names.add(name)
            if self._watcher.names and self._watcher not in sys.meta_path:
                sys.meta_path.insert(0, self._watcher)

    def _imported(self, name: str) -> None:
        with self._lock:
            library = next(each for each, names in AWAITED.items() if name in names)
            if name in self._watcher.names and library in self._done:
                self._watcher.names.discard(name)
                open_module(name, sys.modules[name], self._done[library])


def _is_loaded(name: str) -> bool:
    """Whether a module is there, and not only begun."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return name in sys.modules and not getattr(spec, "_initializing", False)


_IN_USE = _InUse()


def see_to(libraries: tuple[str, ...]) -> None:
    """Let trainings by these libraries be recorded in this process."""
    _IN_USE.see_to(libraries)
