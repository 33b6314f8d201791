"""Keywords of calls that hand on to Dask what it knows, and refuse what nobody knows."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dask
from dask import local, multiprocessing, threaded
from dask.delayed import Delayed

from daskperiment.formatting import nearest

__all__ = ["USUAL", "CheckedNode", "check_keywords"]

USUAL = frozenset({"scheduler", "num_workers", "optimize_graph", "pool"})
"""Keywords of Dask that need no looking up."""
_OPEN = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


if TYPE_CHECKING:
    # A node may stand wherever its value may.
    _Value = Any
else:
    _Value = object


class CheckedNode(Delayed, _Value):  # type: ignore[misc]  # to type checkers it is any value
    """A node that refuses, when it is computed, keywords that nobody knows."""

    __slots__ = ()

    def compute(self, **kwargs: Any) -> Any:
        """Compute this node alone; `kwargs` as for :func:`dask.compute`.

        Raises
        ------
        TypeError
            For a keyword that Dask does not know.
        """
        check_keywords("compute", kwargs, ())
        return super().compute(**kwargs)  # type: ignore[no-untyped-call]  # dask's

    def persist(self, **kwargs: Any) -> Any:
        """Return this node computed; `kwargs` as for :func:`dask.persist`.

        Raises
        ------
        TypeError
            For a keyword that Dask does not know.
        """
        check_keywords("persist", kwargs, ())
        return super().persist(**kwargs)  # type: ignore[no-untyped-call]  # dask's


def check_keywords(method: str, keywords: Mapping[str, Any], own: Collection[str]) -> None:
    """Refuse keywords that neither a method nor Dask knows.

    Parameters
    ----------
    method : str
        Its name.
    keywords : mapping
        What was given beside the method's own arguments.
    own : collection of str
        The names of those.

    Raises
    ------
    TypeError
        Naming the nearest one that is known.
    """
    if keywords.keys() <= USUAL:
        return
    known = {*own, *USUAL, *_of_dask()}
    unknown = [name for name in keywords if name not in known]
    if unknown and not _is_open(keywords.get("scheduler") or dask.config.get("scheduler", None)):
        listed = f"; its own are {', '.join(own)}, others go to Dask" if own else ""
        hint = nearest(unknown[0], known) or listed or "; all that it takes goes to Dask"
        raise TypeError(f"{method}() got an unexpected keyword argument {unknown[0]!r}{hint}")


def _of_dask() -> Iterator[str]:
    """Yield the keywords of Dask's own schedulers."""
    functions: list[Callable[..., Any]] = [
        dask.base.compute, local.get_async, local.get_sync, threaded.get, multiprocessing.get,
    ]  # fmt: skip
    # A client exists only where its module is loaded.
    distributed = sys.modules.get("distributed")
    if distributed is not None:
        functions.append(distributed.Client.get)
    for function in functions:
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind not in _OPEN and name not in ("self", "dsk", "keys", "result"):
                yield name


def _is_open(scheduler: Any) -> bool:
    """Whether a scheduler is the user's own function, whose keywords nobody knows here."""
    return callable(scheduler) and not isinstance(scheduler, type)
