"""Steps: decorated functions whose calls are nodes of the graph."""

from __future__ import annotations

import functools
import inspect
import uuid
from collections.abc import Callable
from types import MethodType
from typing import Any

from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph
from dask.utils import funcname

from daskperiment.execution.tasks import Call, Function, run_step
from daskperiment.formatting import html_table
from daskperiment.graph.arguments import Node, unpack
from daskperiment.graph.template import TRIAL, no_trial

__all__ = ["Step", "StepFunction"]


class Step(Node):
    """One call of a step: a :class:`dask.delayed.Delayed`.

    Computing it alone runs the function and records no trial; it belongs to a trial when a result
    is computed that takes it.
    """

    __slots__ = ("_step",)

    def __init__(self, step: str, key: str, graph: HighLevelGraph, nout: int | None) -> None:
        super().__init__(key, graph, length=nout)  # type: ignore[no-untyped-call]  # dask's
        object.__setattr__(self, "_step", step)

    def __dir__(self) -> list[str]:
        return [name for name in dir(type(self)) if name != "as_input"]

    def __repr__(self) -> str:
        return f"Step({self._step!r})"

    def _repr_html_(self) -> str:
        return html_table(["Step", "Key"], [[self._step, str(self._key)]])


class StepFunction:
    """A decorated function. Calling it makes a node of the graph; nothing runs yet.

    Parameters
    ----------
    function : callable
        Neither a coroutine nor an asynchronous generator function.
    wrap : callable
        Makes what a call returns from the call's :class:`Step`.
    persist : bool
        Whether the output is kept in each trial.
    nout : int, optional
        Number of outputs, if the function returns a sequence of known length.
    seed : int, optional
        The experiment's seed.
    reuse : bool, optional
        Whether a kept output may be reused; None leaves it to the experiment.
    version : str, optional
        Part of the cache_key: another version makes another output.

    Attributes
    ----------
    __wrapped__ : callable
        The function itself, for unit tests.
    """

    def __init__(
        self, function: Callable[..., Any], wrap: Callable[[Step], Any],
        persist: bool = False, nout: int | None = None, seed: int | None = None,
        reuse: bool | None = None, version: str | None = None,
    ) -> None:  # fmt: skip
        _check_function(function)
        functools.update_wrapper(self, function, updated=())
        self.__wrapped__ = function
        self.name: str = getattr(function, "__name__", None) or funcname(function)
        self.persist = persist
        self._wrap = wrap
        self._nout = _check_nout(nout)
        self._seed = seed
        self._reuse = _check_reuse(reuse, persist)
        self._version = _check_version(version)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make a node of this call."""
        call = Call(self.name, Function(self.__wrapped__), self.persist, self._seed, self._reuse,
                    self._version)  # fmt: skip
        key = f"{self.name}-{uuid.uuid4().hex}"
        nodes: list[Any] = []
        forms = [unpack(value, nodes) for value in args]
        named = {name: unpack(value, nodes) for name, value in kwargs.items()}
        task = Task(key, run_step, TaskRef(TRIAL), call, *forms, **named)
        return self._wrap(Step(self.name, key, _graph(key, task, nodes), self._nout))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Bind to an object as functions do: a decorated method is a step."""
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<step {self.name!r}>"

    def _repr_html_(self) -> str:
        return html_table(["Step function"], [[self.name]])


def _graph(key: str, task: Task, nodes: list[Any]) -> HighLevelGraph:
    return HighLevelGraph.from_collections(key, {key: task}, dependencies=[*nodes, no_trial()])


def _check_function(function: Any) -> None:
    if not callable(function):
        raise TypeError(
            f"A step is a function or another callable, got {function!r}. Use @ex above a def, "
            "or call ex(function)."
        )
    if isinstance(function, StepFunction):
        raise TypeError(f"{function!r} is a step already; decorate the function once")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function!r} is asynchronous; a step is an ordinary function. "
            "Call asyncio.run(...) inside one."
        )


def _check_nout(nout: Any) -> int | None:
    if nout is None or (isinstance(nout, int) and not isinstance(nout, bool) and nout >= 0):
        return nout
    raise ValueError(f"nout is {nout!r}; expected None or an integer of at least 0")


def _check_reuse(reuse: Any, persist: bool) -> bool | None:
    if reuse is not None and not isinstance(reuse, bool):
        raise TypeError(f"reuse is {reuse!r}; expected True, False or None")
    if reuse and not persist:
        raise ValueError("reuse=True needs an output that is kept: give persist=True as well")
    return reuse


def _check_version(version: Any) -> str:
    if version is None or isinstance(version, (str, int, float)):
        return "" if version is None else str(version)
    raise TypeError(f"version is {version!r}; expected text or a number")
