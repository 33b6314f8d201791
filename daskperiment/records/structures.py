"""The records themselves: frozen structures of plain data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct, field

from daskperiment.records.record_ids import (
    ALTERED,
    ARTIFACT,
    BEGUN,
    CHECKPOINT,
    COMPUTED,
    CURATED,
    ENDED,
    IMPURE,
    REACHED,
    REMOVED,
    SPOILED,
    SWEEP,
    cache_entry_id,
    record_kind,
)
from daskperiment.records.record_parts import Argument, Birthplace, Failure, FileState, Origin
from daskperiment.records.sweep_record import Sweep

__all__ = [
    "Alteration",
    "Artifact",
    "Beat",
    "Begun",
    "CacheEntry",
    "Checkpoint",
    "Computed",
    "Curation",
    "Ended",
    "EndStatus",
    "Impurity",
    "LogPiece",
    "Output",
    "Point",
    "Reached",
    "Recipe",
    "Removed",
    "SignedPiece",
    "SignedPoint",
    "SpoiledInput",
    "StepRun",
    "TrialStatus",
    "digests_within",
    "record_type",
]

EndStatus = Literal["succeeded", "pruned", "failed", "interrupted"]
TrialStatus = Literal["running", "succeeded", "pruned", "failed", "interrupted", "lost"]


class Artifact(Struct, frozen=True, omit_defaults=True):
    """A named value or file that a trial keeps. Of several of one name the latest counts."""

    name: str
    value: Any
    """:class:`ObjectRef` in JSON form."""
    added: float
    step: str | None = None
    """Key of the step run that saved it; ``None`` if it was added from outside of the trial."""
    file: str = ""
    """Name of the file or folder that it was."""
    thumbnail: Any = None
    """:class:`ObjectRef`, in JSON form, of a small picture of it as PNG."""
    serial: str | None = None
    """With a signing key: who wrote it, and how many notes of the trial they had written by then,
    this one included."""
    signature: str | None = None
    """Of the record and the trial's token, with the signing key; ``None`` where there was none."""


class Checkpoint(Struct, frozen=True, omit_defaults=True):
    """A state of a step that runs, from which a later trial can go on.

    Of each step of a trial the latest few count; the objects of those before them are dropped.
    """

    step: str
    """Key of the step run."""
    epoch: Any
    """Plain value."""
    value: Any
    """:class:`ObjectRef` in JSON form: of the state, and of what random generators are at."""
    saved: float
    keep: int = 1
    """How many of the latest count, this one included."""
    code: str = ""
    """Fingerprint of the step's code."""
    inputs: str | None = None
    """Fingerprint of its arguments; ``None`` if they have none."""
    metrics: list[str] = []
    """Names of the metrics that the step had saved by then and that no checkpoint before names."""
    serial: str | None = None
    """With a signing key: who wrote it, and how many notes of the trial they had written by then,
    this one included."""
    signature: str | None = None
    """Of the record and the trial's token, with the signing key; ``None`` where there was none."""


class Begun(Struct, frozen=True, omit_defaults=True):
    """A trial's first record, written together with the allocation of its id."""

    token: str
    result: str
    """Name of the step whose call is the trial's result."""
    started: float
    seed: int
    parameters: dict[str, Any]
    """Name -> plain value, in order of declaration."""
    code: str
    """Digest of the stored :class:`Code`."""
    environment: str
    """Digest of the stored :class:`Environment`."""
    graph: str
    """Digest of the stored :class:`Graph`."""
    origin: Origin
    sweep: str | None = None
    """Id of the sweep that the trial belongs to."""
    source: int | None = None
    """The trial that this one reproduces."""
    resumes: int | None = None
    """The trial that this one goes on from."""
    files: str | None = None
    """Digest of the stored :class:`Files`; None if no step takes any."""
    unreached: list[str] = []
    """Names of the parameters that reach none of its steps."""
    was: int | None = None
    """The id that the trial had before its store lost it, and it was begun again."""
    submission: str | None = None
    """By which it came to another process; None if it began in the one that planned it."""
    joined: bool = False
    """Whether a task that trials share began it, before its own first task came."""
    numbered: bool = False
    """Whether all other records of the trial's steps and ends are signed and numbered."""
    vouched: bool = False
    """Whether its points, logs and notes are signed, too, and those that may be are numbered."""
    code_hash: str | None = None
    """SHA-256 of the object :attr:`code`, where the record is signed."""
    hashes: dict[str, str] = {}
    """The same of the objects :attr:`environment`, :attr:`graph` and :attr:`files`, by name."""
    birthplace: Birthplace | None = None
    """Where it was recorded; ``None`` where that is here. No signature covers it, so that whoever
    has no key can copy a signed trial."""
    signature: str | None = None
    """Of the record and what it is for, with the signing key; ``None`` where there was none."""


class Reached(Struct, frozen=True, omit_defaults=True):
    """That the first task of a trial came which a task that trials share had begun."""

    time: float
    signature: str | None = None
    """Of the record and what it is for, with the signing key; ``None`` where there was none."""


class Computed(Struct, frozen=True, omit_defaults=True):
    """The value that a computed parameter took in a trial."""

    name: str
    value: Any
    """Plain value or :class:`ObjectRef` in JSON form."""
    serial: str | None = None
    """With a signing key: who wrote it, and how many step runs of the trial they had written by
    then, this one included and reused ones not."""
    counts: dict[str, int] = {}
    """With a signing key: how many ``points``, ``logs`` and ``notes`` they had written by then."""
    signature: str | None = None
    """Of the record and what it is for, with the signing key; ``None`` where there was none."""


class Ended(Struct, frozen=True, omit_defaults=True):
    """How a trial ended. A trial may have several; ``succeeded`` outweighs the others."""

    status: EndStatus
    finished: float
    elapsed: float
    type: str | None = None
    """``str(type(result))``."""
    value: Any = None
    """Plain value or :class:`ObjectRef` in JSON form."""
    failure: Failure | None = None
    serial: str | None = None
    """With a signing key: who wrote it, and how many step runs of the trial they had written by
    then, this one included and reused ones not."""
    counts: dict[str, int] = {}
    """With a signing key: how many ``points``, ``logs`` and ``notes`` they had written by then."""
    signature: str | None = None
    """Of the record and what it is for, with the signing key; ``None`` where there was none."""


class StepRun(Struct, frozen=True, omit_defaults=True):
    """One execution of one step in one trial."""

    key: str
    """The step's place in the graph: its name, ``#2`` and so on behind the second call."""
    step: str
    status: EndStatus
    started: float
    wall: float
    cpu: float
    peak: int
    """Peak resident memory of the process when the step ended, in bytes."""
    host: str
    pid: int
    thread: str
    code: str
    """Fingerprint of the step's code, with all that it uses."""
    inputs: str | None = None
    """Fingerprint of the arguments; ``None`` if they have none."""
    output: str | None = None
    note: str | None = None
    """Why the step is not checkable; ``None`` if it is."""
    stochastic: bool = False
    """Whether the step drew random numbers."""
    seed: int = 0
    kept: Any = None
    """The persisted output: ``{"value": plain value or ObjectRef}``, or ``None``."""
    failure: Failure | None = None
    reused: int | None = None
    """The trial that the output was taken from."""
    reason: str | None = None
    """Why the step ran though outputs may be reused; ``None`` where they may not. With
    :attr:`reused`, why the output was found only when the inputs were there."""
    cache_key: str | None = field(default=None, name="recipe")
    """Digest of all that determines the output, but for seeds; ``None`` if that is not known."""
    reusable: bool = False
    """Whether later trials were allowed to reuse the output when it was kept."""
    metrics: tuple[str, ...] = ()
    """Names of the metrics that the step saved."""
    artifacts: tuple[Artifact, ...] = ()
    """What the step saved; a reused one has what it saved when it ran."""
    worker: str | None = None
    """Address of the cluster's worker that ran the step."""
    worker_name: str | None = None
    arguments: dict[str, Argument] = {}
    """Name of a parameter of the step -> what it got, defaults included; trials of earlier versions
    have none. :attr:`inputs` is of these together, without those that the step ignores."""
    changed: tuple[str, ...] = ()
    """Names of the arguments that were other ones when the step had run: changed in place."""
    reads: tuple[FileState, ...] = ()
    """What it read besides its arguments, as far as Python told."""
    written: tuple[FileState, ...] = ()
    serial: str | None = None
    """With a signing key: who wrote it, and how many step runs of the trial they had written by
    then, this one included and reused ones not."""
    counts: dict[str, int] = {}
    """With a signing key: how many ``points``, ``logs`` and ``notes`` they had written by then."""
    signature: str | None = None
    """Of the record and what it is for, with the signing key; ``None`` where there was none."""


class Output(Struct, frozen=True, omit_defaults=True):
    """The first output seen for one step, code, inputs and seed; the next ones must equal it.

    One that did not is a record of its own, and the next ones must equal that.
    """

    trial: int
    key: str
    step: str
    output: str
    cache_key: str | None = field(default=None, name="recipe")
    reads: tuple[FileState, ...] = ()
    by_inputs: str | None = None
    """The cache key that is made of the inputs themselves, if the output may be found by them."""


class CacheEntry(Struct, frozen=True, omit_defaults=True, gc=False):
    """What is known of the output that a cache key leads to."""

    trial: int
    key: str
    step: str
    drew: bool = False
    """Whether the step itself drew random numbers."""
    output: str | None = None
    """Fingerprint of the output."""
    kept: Any = None
    """The output: ``{"value": plain value or ObjectRef}``; ``None`` if it was not persisted."""
    note: str | None = None
    """Why the output must not be reused; ``None`` if it may."""
    type: str = ""
    metrics: tuple[str, ...] = ()
    reads: tuple[FileState, ...] = ()
    """What the step and those before it read besides their arguments: it must be the same."""
    written: tuple[FileState, ...] = ()
    """What the step wrote, but for what is kept: it must still be there."""
    partial: bool = False
    """Whether what the steps before it read is not among `reads`."""
    artifacts: tuple[Artifact, ...] = ()
    """What the step saved when it ran."""
    signature: str | None = None
    """Of the record and what it is for, with the signing key; ``None`` where there was none."""
    exact: str | None = None
    """Fingerprint of the output, with its order within, where more than one step sees it."""
    given: dict[str, str] = {}
    """Argument, or a member of it -> its fingerprint, where others see it and may change it."""
    spoiled: tuple[str, ...] = ()
    """Names of the arguments that another step had changed in place, as far as this was seen."""


Recipe = CacheEntry
"""The first name of :class:`CacheEntry`."""


class Impurity(Struct, frozen=True, omit_defaults=True):
    """A step run whose output differs from an earlier one's, for no recorded reason."""

    key: str
    step: str
    earlier: int
    """The trial that returned the other output."""
    reads: list[str] = []
    """Files and environment variables that it read, and found otherwise than before."""
    signature: str | None = None
    """Of the record and the trial's token, with the signing key; ``None`` where there was none."""


class Alteration(Struct, frozen=True, omit_defaults=True):
    """A step run after which arguments were other ones than before it."""

    key: str
    step: str
    arguments: list[str]
    beside: list[str] = []
    """Keys of the steps that ran in the same process meanwhile, and may have done it."""
    signature: str | None = None
    """Of the record and the trial's token, with the signing key; ``None`` where there was none."""


class SpoiledInput(Struct, frozen=True, omit_defaults=True):
    """A step run that got what another step had changed in place before."""

    key: str
    step: str
    arguments: list[str]
    by: str
    """Key of the step that changed it."""
    signature: str | None = None
    """Of the record and the trial's token, with the signing key; ``None`` where there was none."""


class Curation(Struct, frozen=True, omit_defaults=True):
    """What somebody said of a trial afterwards; the latest record that says something counts."""

    time: float
    user: str
    tags: list[str] = []
    """Tags that it has from now on."""
    untags: list[str] = []
    """Tags that it no longer has."""
    remark: str | None = None
    """A text that is added to those before."""
    name: str | None = None
    """The trial's name from now on; empty if it no longer has one."""
    archived: bool | None = None
    """Whether tables leave the trial out from now on."""
    serial: str | None = None
    """With a signing key: who wrote it, and how many notes of the trial they had written by then,
    this one included."""
    signature: str | None = None
    """Of the record and the trial's token, with the signing key; ``None`` where there was none."""


class Removed(Struct, frozen=True, omit_defaults=True):
    """What is left of a trial that somebody deleted."""

    time: float
    user: str
    token: str
    """The trial's, so that no copy brings it back."""
    origin: Origin | None = None
    """The process that began it."""
    signature: str | None = None
    """Of the record and the trial's token, with the signing key; ``None`` where there was none."""


class Point(Struct, frozen=True, array_like=True):
    """One point of a metric."""

    metric: str
    epoch: Any
    value: Any
    time: float


class SignedPoint(Point, frozen=True, array_like=True):
    """A point of a metric of a trial that has a signing key."""

    serial: str = ""
    """Who wrote it, and how many points of the trial they had written by then, this one
    included."""
    signature: str = ""
    """Of the point and the trial's token: half of an HMAC-SHA256, in hexadecimal digits."""


class LogPiece(Struct, frozen=True, array_like=True):
    """A piece of what a step printed, logged or warned of, as it came."""

    step: str
    """Key of the step run."""
    run: str
    """Tells the runs of one step apart, and the processes that one starts."""
    start: int
    """How many characters the run had said before: what is missing was left out."""
    time: float
    source: str
    """``stdout``, ``stderr``, ``warning``, or the level of a logging record."""
    thread: int
    """Tells apart the threads whose lines are still to be put together."""
    text: str


class SignedPiece(LogPiece, frozen=True, array_like=True):
    """A piece of a log of a trial that has a signing key."""

    serial: str = ""
    """As a point's; empty for what a process had at hand until it was killed."""
    signature: str = ""


class Beat(Struct, frozen=True, omit_defaults=True):
    """A sign of life of a running trial, by the store's clock."""

    time: float
    steps: dict[str, float] = {}
    """Steps of the trial that run in the process that sent it, for a second or longer: since when,
    in seconds since the Unix epoch by the clock of its host."""


def digests_within(data: Any) -> Iterator[str]:
    """Yield the digests of all objects that a part of a record refers to.

    Parameters
    ----------
    data : object
        What JSON made of the record or of a field, at any depth.
    """
    if isinstance(data, dict):
        if data.get("$") == "object":
            if isinstance(data.get("digest"), str):
                yield data["digest"]
            return
        data = data.values()
    elif not isinstance(data, list):
        return
    for item in data:
        yield from digests_within(item)


def record_type(stream: str, id: str) -> type[Struct] | None:
    """Return of which type a record is; ``None`` where that is not told by stream and id."""
    if stream in ("steps", "beats"):
        return StepRun if stream == "steps" else Beat
    if stream == "outputs":
        return CacheEntry if id.startswith(cache_entry_id("")) else None
    if stream == "notes":
        told: dict[str, type[Struct]] = {
            ARTIFACT: Artifact, CURATED: Curation, CHECKPOINT: Checkpoint, IMPURE: Impurity,
            ALTERED: Alteration, SPOILED: SpoiledInput, SWEEP: Sweep,
        }  # fmt: skip
        return told.get(record_kind(id))
    kinds: dict[str, type[Struct]] = {
        BEGUN: Begun, ENDED: Ended, COMPUTED: Computed, REACHED: Reached, REMOVED: Removed,
    }  # fmt: skip
    return kinds.get(record_kind(id)) if stream == "trials" else None
