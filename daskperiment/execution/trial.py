"""A trial as plain data: what it begins with, and the handle that its steps get.

Both are picklable, so that the tasks of a trial run anywhere.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property, lru_cache
from typing import Any

import cloudpickle

from daskperiment.capture.fingerprint import is_array
from daskperiment.capture.members import ATOMS
from daskperiment.cluster import log_event
from daskperiment.codec import Blob
from daskperiment.codec.buffer_digests import BufferDigests
from daskperiment.recording.checkpoint_records import KeptCheckpoint
from daskperiment.records import Origin
from daskperiment.reuse.cache_entries import Hit
from daskperiment.reuse.cache_keys import StepKeys
from daskperiment.secret_values import Secret, SecretParameters
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Owner, Store

__all__ = [
    "PROGRESS_TOPIC",
    "BatchSubmissionId",
    "RequestSource",
    "Resumption",
    "TrialHandle",
    "TrialRequest",
    "TrialSetup",
    "is_of_batch",
]

PROGRESS_TOPIC = "daskperiment-progress"
"""Topic of the events by which workers tell a client which steps run and end."""


@dataclass(frozen=True)
class TrialSetup:
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
    parameters: tuple[str, ...] = ()
    """Names of the parameters that reach a step."""
    doubts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Step -> why its code does not tell what it returns."""
    code_hash: str | None = None
    """A cryptographic digest of the code, where there is a signing key."""
    hashes: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The same of environment and graph, by name."""
    directory: str = ""
    """The working directory of the process that computes the trials, empty if it has none."""
    logs: bool = True
    """Whether it is kept what steps print, log and warn of."""
    looked_at: float = 0.0
    """Seconds between two looks at what a trial uses of the machine; 0 for none."""
    observers: tuple[Callable[[Any], None], ...] = ()
    """Called with each step that runs in a trial, before its function is, in that process."""
    stored: bool = False
    """Whether the store has the objects already, so that they are only named here."""

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """What must be in the store before a trial begins."""
        return () if self.stored else (self.code, self.environment, self.graph)

    @cached_property
    def without_content(self) -> TrialSetup:
        """The same without the content of what is in the store by now."""
        blobs = self.code, self.environment, self.graph
        code, environment, graph = (Blob(blob.digest, [], blob.size) for blob in blobs)
        return replace(self, stored=True, code=code, environment=environment, graph=graph)

    @cached_property
    def pickled(self) -> bytes:
        """All of it as bytes, made once for many trials."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return cloudpickle.dumps(fields, protocol=pickle.HIGHEST_PROTOCOL)  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _unpickled(pickled: bytes) -> TrialSetup:
    # Cached: many trials arrive one by one, and have it in common.
    return TrialSetup(**pickle.loads(pickled))


@dataclass(frozen=True)
class Resumption:
    """What a trial goes on from."""

    trial: int
    """The trial that it goes on from."""
    checkpoints: Mapping[str, Sequence[KeptCheckpoint]] = field(default_factory=dict, repr=False)
    """Place of a step -> its checkpoints, latest first: there, and where that went on from."""
    outputs: Mapping[str, Hit] = field(default_factory=dict, repr=False)
    """Place of a step that had finished -> what it kept, with the cache key that it had."""

    @property
    def for_steps(self) -> Resumption:
        """The same without what only planning needs."""
        return replace(self, outputs={})


@dataclass(frozen=True)
class TrialRequest:
    """Everything that a trial begins with: safe to send to another process."""

    setup: TrialSetup
    token: str
    """Random name of the trial, until and beyond the moment when it has an id."""
    seed: int
    values: Mapping[str, Any] = field(repr=False)
    """Parameter values, in order of declaration."""
    missing: tuple[str, ...] = ()
    """Parameters that the graph needs and that have no value."""
    sweep: str | None = None
    source: int | None = None
    """The trial that this one reproduces."""
    step_keys: Mapping[str, StepKeys] = field(default_factory=dict, repr=False)
    """Place -> the cache keys of the step there."""
    followed: bool = False
    """Whether the process that submitted the trial to a cluster sees to its end."""
    progress: str | None = None
    """Id of the display that is shown each step, if somebody watches."""
    files: Blob | None = field(default=None, repr=False)
    """The record of what the files among the inputs hold."""
    secrets: SecretParameters | None = field(default=None, repr=False)
    """Which parameters are secret; None if none is."""
    patience: float = 0.0
    """Seconds that it waits, when it begins, for a store that is away."""
    resumption: Resumption | None = None
    """What it goes on from; None if it begins at the beginning."""
    submission: str | None = None
    """By which it came here from another process: equal for all tasks of one submission, and
    for those of them that a cluster runs again."""

    def with_step_keys(self, step_keys: Mapping[str, StepKeys]) -> TrialRequest:
        """Return the same request with other cache keys."""
        # As `replace` does it, which asks for each field, and takes as long as a small task.
        found = object.__new__(TrialRequest)
        found.__dict__.update(self.__dict__, step_keys=step_keys)
        return found

    @property
    def own(self) -> tuple[Any, ...]:
        """What the request has besides its setup."""
        return (
            self.token, self.seed, self.values, self.missing, self.sweep, self.source,
            self.step_keys, self.followed, self.progress, self.files, self.secrets,
            self.patience, self.resumption,
        )  # fmt: skip

    @property
    def secret_values(self) -> list[Secret]:
        """The values that are to be shown and written nowhere."""
        return [value for value in self.values.values() if type(value) is Secret]

    def for_steps(self, *names: str) -> TrialRequest:
        """Return the same request with the code and the cache keys of some steps only."""
        every = self.setup.codes
        codes = {name: every[name] for name in names if name in every}
        keys = {name: self.step_keys[name] for name in names if name in self.step_keys}
        return replace(self, setup=replace(self.setup, codes=codes), step_keys=keys)


class SubmissionId:
    """Arrives as text in another process: one for all that is pickled at once, new each time."""

    def __reduce__(self) -> Any:
        return str, (uuid.uuid4().hex,)


_IN_BATCH = "batch-"


def is_of_batch(submission: str) -> bool:
    """Whether a task of a cluster came by a submission that runs several trials."""
    return submission.startswith(_IN_BATCH)


class BatchSubmissionId(SubmissionId):
    """The same for trials of which one task runs several."""

    def __reduce__(self) -> Any:
        return str, (f"{_IN_BATCH}{uuid.uuid4().hex}",)


class RequestSource:
    """What stands in a trial's first task, and gives the request when the trial begins.

    Parameters
    ----------
    make : callable
        Returns the request: the same one every time, or one of that moment.
    in_flight : frozenset of str
        Cache keys whose content the trial makes.
    watched : bool
        Whether whoever submits the trial sees what becomes of it before it is forgotten.
    """

    def __init__(
        self, make: Callable[[], TrialRequest], in_flight: frozenset[str] = frozenset(),
        watched: bool = False,
    ) -> None:  # fmt: skip
        self._make = make
        self.in_flight = in_flight
        self.watched = watched
        self.submission: Any = SubmissionId()
        self.batch: Any = None
        """Key of the task that runs the trial with others; None for trials with tasks of their
        own."""

    def join_batch(self, key: Any, submission: BatchSubmissionId) -> None:
        """Let a task run the trial that runs others too."""
        self.batch, self.submission = key, submission

    def request(self) -> TrialRequest:
        """Return the request."""
        return self._make()

    def travelling(self) -> TrialRequest:
        """Return the request as it leaves this process."""
        return self._make()

    def for_steps(self, *names: str) -> RequestSource:
        """Return a source of the same request that takes but some steps along, and their places.

        By it a shared task joins the trial that it is recorded in.
        """
        return _PartialRequest(self, *names)

    def __repr__(self) -> str:
        return "<Request of a trial>"

    def __reduce__(self) -> Any:
        request = self.travelling()
        return _ArrivedRequest, (request.setup.pickled, request.own, self.submission)


class _PartialRequest(RequestSource):
    def __init__(self, whole: RequestSource, *names: str) -> None:
        super().__init__(whole._make)
        self._whole = whole
        self._names = names
        self.submission = whole.submission

    def travelling(self) -> TrialRequest:
        return self._whole.travelling().for_steps(*self._names)


class _ArrivedRequest(RequestSource):
    """A request from another process. A scheduler passes it on without looking into it."""

    def __init__(self, pickled_setup: bytes, own: tuple[Any, ...], submission: str) -> None:
        super().__init__(cache(self._request))
        self._parts = pickled_setup, own, submission

    def _request(self) -> TrialRequest:
        setup, own, submission = self._parts
        return replace(TrialRequest(_unpickled(setup), *own), submission=submission)

    def __reduce__(self) -> Any:
        return _ArrivedRequest, self._parts


class ReturnedBuffers:
    """Digests of the large buffers of what a step returned, until anything of the user's runs.

    Whoever takes them then is spared a second look: it is what it was.
    """

    __slots__ = ("in_turn", "latest")

    def __init__(self) -> None:
        self.latest: BufferDigests | None = None
        """What is known; None if nothing is."""
        self.in_turn = False
        """Whether the trial's steps run one after the other, and nothing of the user's between."""

    def note(self, buffers: BufferDigests) -> None:
        """Note what was found of the value that a step returned."""
        if self.in_turn:
            self.latest = buffers.so_far()

    def let_go(self, values: Iterable[Any]) -> None:
        """Forget what is known if these values, which go, might change it by their destructors."""
        if not all(map(_ends_quietly, values)):
            self.latest = None

    def take(self) -> BufferDigests | None:
        """Return what is known, and forget it: the next of the user's functions is about to run."""
        latest, self.latest = self.latest, None
        return latest


def _ends_quietly(value: Any) -> bool:
    """Whether nothing of the user's runs when a value goes."""
    if type(value) in ATOMS:
        return True
    # What an array is a view of may be any object.
    return is_array(value) and getattr(value, "base", None) is None


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class TrialHandle:
    """A running trial: the first task makes it, every step gets it."""

    store: Store
    trial: int
    """The trial's id."""
    token: str
    seed: int
    values: Mapping[str, Any] = field(repr=False)
    codes: Mapping[str, str] = field(repr=False)
    doubts: Mapping[str, str] = field(repr=False)
    origin: Origin = field(repr=False)
    """The process that computes the trial."""
    clock: float = field(repr=False)
    """When it began, by the store's clock."""
    monotonic: float = field(repr=False)
    """When it began, by the monotonic clock of the host and boot where it began."""
    began_on: tuple[str, str] = field(repr=False)
    """That host and boot."""
    signing_key: bytes | None = field(repr=False)
    step_keys: Mapping[str, StepKeys] = field(repr=False)
    followed: bool
    progress: str | None = field(repr=False)
    owner: Owner = field(repr=False)
    """Its id and its token in the store, which its records belong to."""
    first_record: bytes = field(repr=False)
    """What it began with, so that any process can begin it again if the store loses it."""
    secrets: SecretParameters | None = field(repr=False)
    """Which parameters are secret; None if none is."""
    directory: str = field(repr=False)
    """The working directory where it was planned."""
    logs: bool
    """Whether it is kept what its steps print, log and warn of."""
    looked_at: float = field(repr=False)
    """Seconds between two looks at what it uses of the machine; 0 for none."""
    resumption: Resumption | None = field(repr=False)
    """What it goes on from."""
    result: str = field(repr=False)
    """Name of the step that ends it."""
    observers: tuple[Callable[[Any], None], ...] = field(repr=False)
    """Called with each step before its function is."""
    gathered: bool = field(default=False, repr=False)
    """Whether its end is delivered with those of others that the same task runs. Not if it is run
    again, as a worker may have died of one of them: then it is to be seen which had ended."""
    at_home: bool = field(init=False, repr=False)
    """Whether this is the process that computes the trial."""
    returned: ReturnedBuffers = field(init=False, repr=False, compare=False)
    """What is known of the value that its latest step returned here."""
    untouched: dict[int, tuple[Any, str]] = field(init=False, repr=False, compare=False)
    """Arrays that were loaded here and that no step has had yet, with their fingerprints: by the id
    of each."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "at_home", self.origin == current_origin())
        object.__setattr__(self, "returned", ReturnedBuffers())
        object.__setattr__(self, "untouched", {})

    def __reduce__(self) -> Any:
        # Made anew where it arrives, so that it knows where it is.
        return TrialHandle, tuple(getattr(self, each.name) for each in fields(self) if each.init)

    @property
    def secret_values(self) -> list[Secret]:
        """The values that are to be shown and written nowhere."""
        return [value for value in self.values.values() if type(value) is Secret]

    def show(self, key: str, event: str) -> None:
        """Report what became of a step to the display of another process, if there is one."""
        if self.progress is not None:
            log_event(PROGRESS_TOPIC, [self.progress, key, event])
