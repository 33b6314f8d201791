"""What a trial is to be, from the moment it is asked for until it begins, wherever that is."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import cloudpickle

from daskperiment.codec import Blob
from daskperiment.execution.progress import Reporter
from daskperiment.planning.arranging import KeyMark, ReusePlan
from daskperiment.records import Origin
from daskperiment.store.protocol import Store

__all__ = ["Common", "Plan", "Request", "Settled"]


@dataclass(frozen=True)
class Common:
    """What the trials of a result begin with alike, as long as nothing changes between them."""

    store: Store
    result: str
    code: Blob
    environment: Blob
    graph: Blob
    codes: Mapping[str, str] = field(repr=False)
    """Step -> fingerprint of its code."""
    origin: Origin
    signing_key: bytes | None = field(repr=False)
    light: bool = False
    """Whether the store has the objects already, so that they are only named here."""

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """What must be in the store before a trial begins."""
        return () if self.light else (self.code, self.environment, self.graph)

    @cached_property
    def lightened(self) -> Common:
        """The same without the content of what is in the store by now."""
        named = {name: getattr(self, name)._replace(parts=[])
                 for name in ("code", "environment", "graph")}  # fmt: skip
        return replace(self, light=True, **named)

    @cached_property
    def packed(self) -> bytes:
        """All of it as bytes, made once for many trials."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return cloudpickle.dumps(fields, protocol=pickle.HIGHEST_PROTOCOL)  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _unpacked(packed: bytes) -> Common:
    # Cached: many trials arrive one by one, and have it in common.
    return Common(**pickle.loads(packed))


@dataclass(frozen=True)
class Request:
    """Everything that a trial begins with, settled: safe to send to another process."""

    common: Common
    token: str
    seed: int
    values: Mapping[str, Any] = field(repr=False)
    """Parameter values, in order of declaration."""
    missing: tuple[str, ...] = ()
    """Parameters that the graph needs and that have no value."""
    sweep: str | None = None
    source: int | None = None
    marks: Mapping[str, KeyMark] = field(default_factory=dict, repr=False)
    """Place -> what a step run writes of its cache_key."""
    followed: bool = False
    """Whether the process that submitted the trial to a cluster sees to its end."""
    progress: Reporter | None = None
    """Told of each step, if somebody watches."""

    @property
    def own(self) -> tuple[Any, ...]:
        """What the request has besides what it has in common with others."""
        return (self.token, self.seed, self.values, self.missing, self.sweep, self.source,
                self.marks, self.followed, self.progress)  # fmt: skip


class Plan:
    """A trial to be: its request is settled when it begins, or when it leaves the process.

    Parameters
    ----------
    settle : callable
        Makes the request; reads parameter values, code and environment of that moment.
    ship : callable, optional
        Makes the request fit to leave the process; it gets the plan as well.
    """

    keep: Any = None
    """Held as long as the trial is in flight on a cluster."""
    witnessed: bool = False
    """Whether whoever submits it tells what became of it; see `Followed.witness`."""
    reuse_plan: ReusePlan | None = None
    """What the trial reuses and shares; None if it does neither."""
    begun: Callable[[], Any] | None = None
    """Gives the trial while the task that began it runs."""

    def __init__(
        self, settle: Callable[[], Request], ship: Callable[[Request, Plan], Request] | None = None
    ) -> None:
        self._settle = settle
        self._ship = ship

    def request(self) -> Request:
        """Settle the request."""
        return self._settle()

    def shipped(self) -> Request:
        """Settle the request and make it fit to leave the process."""
        request = self.request()
        return self._ship(request, self) if self._ship else request

    def __repr__(self) -> str:
        return "<Plan of a trial>"

    def __reduce__(self) -> Any:
        request = self.shipped()
        return _Arrived, (request.common.packed, request.own)


class Settled(Plan):
    """A plan whose request is settled."""

    def __init__(
        self, request: Request, ship: Callable[[Request, Plan], Request] | None = None
    ) -> None:
        super().__init__(lambda: request, ship)


class _Arrived(Plan):
    """A plan from another process. A scheduler passes it on without looking into it."""

    def __init__(self, packed: bytes, own: tuple[Any, ...]) -> None:
        super().__init__(self._unpack)
        self._parts = packed, own
        self._request: Request | None = None

    def _unpack(self) -> Request:
        if self._request is None:
            packed, own = self._parts
            self._request = Request(_unpacked(packed), *own)
        return self._request

    def __reduce__(self) -> Any:
        return _Arrived, self._parts
