"""The vocabulary of daskperiment as typed, frozen records.

Records hold plain data only: what a store keeps is their JSON form (see :mod:`daskperiment.codec`).
A field typed ``Any`` and described as a *plain value* holds the tagged JSON form of a Python
value. Times are seconds since the Unix epoch, durations are seconds, sizes are bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct, field

__all__ = [
    "ALTERED",
    "ARTIFACT",
    "Alteration",
    "BEGUN",
    "COMPUTED",
    "Argument",
    "Artifact",
    "Beat",
    "Begun",
    "Birthplace",
    "CURATED",
    "CacheEntry",
    "Code",
    "Computed",
    "Curation",
    "DESERTED",
    "ENDED",
    "Ended",
    "EndStatus",
    "Environment",
    "Failure",
    "FileState",
    "Files",
    "Function",
    "Graph",
    "IMPURE",
    "INEXACT",
    "Impurity",
    "Node",
    "OUTCOMES",
    "ObjectRef",
    "Origin",
    "Output",
    "Point",
    "Preview",
    "Recipe",
    "STREAMS",
    "SWEEP",
    "StepCode",
    "StepRun",
    "TrialStatus",
    "altered_id",
    "artifact_id",
    "beat_id",
    "beat_sender",
    "cache_entry_id",
    "changed_arguments",
    "changed_output_id",
    "computed_id",
    "curation_id",
    "digests_within",
    "ended_id",
    "is_experiment_id",
    "impure_key_id",
    "impure_step_id",
    "is_replacement_id",
    "outweighs",
    "record_kind",
    "record_type",
    "reused_run_id",
    "step_run_id",
    "sweep_id",
    "tells_outcome",
]

# Streams, ids and outcomes -----------------------------------------------------------------------

STREAMS = ("trials", "steps", "points", "outputs", "notes", "beats")
"""All streams of records, in the order in which a copy writes them: first what trials are."""

BEGUN, COMPUTED, ENDED, IMPURE, SWEEP = "begun", "computed", "ended", "impure", "sweep"
ALTERED, ARTIFACT, CURATED = "altered", "artifact", "curated"
"""What the ids of records begin with, by kind; a trial has one record with the id ``begun``."""

DESERTED = "ended-failed-deserted"
"""Id of an end that is taken back if workers come back: then the same trial goes on."""


def is_experiment_id(text: str) -> bool:
    """Return whether a text can be the id of an experiment.

    It becomes part of names of folders, keys and documents: letters, digits, ``_``, ``-`` and
    ``.``, with a letter or ``_`` first and no ``.`` last.
    """
    words = re.split("[-.]", text)
    return (
        words[0].isidentifier()
        and not text.endswith(".")
        and (all(f"_{word}".isidentifier() for word in words))
    )


def record_kind(id: str) -> str:
    """Return what kind of record has this id, such as :data:`ENDED`."""
    return id.partition("-")[0]


def record_type(stream: str, id: str) -> type[Struct] | None:
    """Return of which type a record is; ``None`` where that is not told by stream and id."""
    if stream in ("steps", "beats"):
        return StepRun if stream == "steps" else Beat
    if stream == "outputs":
        return CacheEntry if id.startswith(cache_entry_id("")) else None
    if stream == "notes":
        told: dict[str, type[Struct]] = {ARTIFACT: Artifact, CURATED: Curation}
        return told.get(record_kind(id))
    kinds: dict[str, type[Struct]] = {BEGUN: Begun, ENDED: Ended, COMPUTED: Computed}
    return kinds.get(record_kind(id)) if stream == "trials" else None


def tells_outcome(stream: str, id: str) -> bool:
    """Whether a record's id says how a trial ended, so that it counts whatever its body holds."""
    return stream == "trials" and id.split("-")[:2] in ([ENDED, status] for status in OUTCOMES)


def computed_id(name: str) -> str:
    """Return the id of the value that a computed parameter took."""
    return f"{COMPUTED}-{name}"[:200]


def ended_id(status: str, detail: str | None = None) -> str:
    """Return the id of a trial's end: ends of the same detail are one record."""
    return f"{ENDED}-{status}" if detail is None else f"{ENDED}-{status}-{detail}"


def step_run_id(key: str, started: float, pid: int) -> str:
    """Return the id of a step run: a run that is repeated makes a record of its own."""
    return f"{key}-{started:.6f}-{pid}"


def reused_run_id(key: str, trial: int) -> str:
    """Return the id of the step run that stands for an output taken from another trial."""
    return f"{key}-reused-{trial}"


def cache_entry_id(cache_key: str, generation: int = 0) -> str:
    """Return the id of what is known under a cache key.

    An output that takes the place of a lost one is another generation.
    """
    return f"r-{cache_key}~{generation}" if generation else f"r-{cache_key}"


def is_replacement_id(id: str) -> bool:
    """Whether an id is that of a cache entry whose output took the place of a lost one."""
    return "~" in id


def impure_key_id(cache_key: str) -> str:
    """Return the id of the record that says that a cache key led to two outputs."""
    return f"x-{cache_key}"


def impure_step_id(key: str) -> str:
    """Return the id of the note that a step of a trial returned another output than before."""
    return f"{IMPURE}-{key}"


def changed_output_id(id: str, number: int) -> str:
    """Return the id of an output that followed another one for the same code, inputs and seed.

    They are numbered from 1; `id` is that of the first output.
    """
    return f"{id}+{number}"


def altered_id(key: str) -> str:
    """Return the id of the note that a step of a trial changed what it was given."""
    return f"{ALTERED}-{key}"


def curation_id(clock: float, sender: str) -> str:
    """Return the id of what somebody said of a trial: each time is a record of its own."""
    return f"{CURATED}-{clock:.6f}-{sender}"


def artifact_id(name: str, added: float, pid: int) -> str:
    """Return the id of an artifact's record: saved again under its name, it is another one."""
    return f"{ARTIFACT}-{name}"[:150] + f"-{added:.6f}-{pid}"


def sweep_id(sweep: str) -> str:
    """Return the id of the note that defines a sweep."""
    return f"{SWEEP}-{sweep}"


def beat_id(clock: float, sender: str, number: int) -> str:
    """Return the id of a heartbeat: another one each time, also where a clock was set back."""
    return f"{clock:.0f}-{sender}-{number}"


def beat_sender(id: str) -> str:
    """Return who sent a heartbeat: whoever sends several of a trial has one name for all."""
    return id.partition("-")[2].partition("-")[0] or id


OUTCOMES = ("succeeded", "failed", "interrupted")
"""How a trial may end: one that stands earlier outweighs those behind it."""


def outweighs(status: str, other: str | None) -> bool:
    """Return whether an outcome holds where a trial has this other one on record too."""
    return other is None or OUTCOMES.index(status) < OUTCOMES.index(other)


# Records -----------------------------------------------------------------------------------------

EndStatus = Literal["succeeded", "failed", "interrupted"]
TrialStatus = Literal["running", "succeeded", "failed", "interrupted", "lost"]


class Preview(Struct, frozen=True, omit_defaults=True):
    """What is shown of a value without reading it: a few lines that were made when it was kept."""

    kind: Literal["text", "array", "table", "image", "html"]
    text: str = ""
    """The beginning of a text, or a name."""
    dtype: str = ""
    """Type of an array's elements, or the colours of an image."""
    shape: list[int] = []
    """Of an array or a table; of an image its width and height."""
    stats: dict[str, str] = {}
    """Of an array: what is told of its elements -> the number."""
    columns: list[list[str]] = []
    """Of a table, or of a collection of arrays: pairs of a name and a type."""
    rows: list[list[str]] = []
    """The first rows of a table."""


class ObjectRef(Struct, frozen=True, omit_defaults=True, tag="object", tag_field="$"):
    """A value that is not plain data: kept as an object, or the reason why it was not."""

    type: str
    repr: str
    size: int = 0
    digest: str | None = None
    """Digest of the object's bytes; ``None`` if the value was not kept."""
    reason: str | None = None
    """Why the value was not kept."""
    python: str | None = None
    """Minor version of Python that pickled it, such as ``3.11``; ``None`` if it is not known."""
    mark: str | None = None
    """Of the value of a secret parameter, by which others with the same key compare it; empty if it
    has no fingerprint. ``None`` for what is no secret."""
    parts: dict[str, Any] = {}
    """Plain fields of a data class or a named tuple, by name: what a table of trials can show and
    compare without unpickling the value."""
    format: str | None = None
    """Name of the format whose file the object is; ``None`` if it is a pickle."""
    preview: Preview | None = None
    seal: str | None = None
    """Of such a file: HMAC-SHA256 of its format and bytes with the signing key, if there was
    one."""


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
    signature: str | None = None
    """Of the record and the trial's token, with the signing key; ``None`` where there was none."""


class Origin(Struct, frozen=True, omit_defaults=True):
    """The process in which something ran, so that a reader can tell whether it still does."""

    host: str
    boot: str
    """Identifies one run of the host's kernel; pids mean nothing beyond it."""
    pid: int
    born: float
    """When the process started: a pid that was given out again has another."""
    user: str


INEXACT = "~"
"""What a fingerprint of an argument begins with that says less than a cache key has to."""


class Argument(Struct, frozen=True, omit_defaults=True):
    """What a step gets for one of its parameters."""

    text: str = ""
    """The value in short, where a few characters tell it; else empty."""
    fingerprint: str | None = None
    """``None`` if the value has none."""


class Failure(Struct, frozen=True, omit_defaults=True):
    """An exception that ended a step or a trial."""

    type: str
    description: str
    """``ZeroDivisionError(division by zero)``."""
    traceback: str = ""
    step: str | None = None
    """Key of the step run that raised it."""


class FileState(Struct, frozen=True, omit_defaults=True):
    """A file, the names in a folder, all within one, or an environment variable.

    As a step read or wrote it.
    """

    name: str
    """Absolute path, or the variable's name."""
    digest: str | None = None
    """Of what was there, empty if nothing was; None if it was not taken."""
    kind: Literal["file", "names", "tree", "variable"] = "file"
    stamp: list[int] | None = None
    """The file's size, times of modification and change in nanoseconds, and inode."""
    step: str | None = None
    """Place of the step before that read it; None if it was the step itself."""
    relative: str | None = None
    """The path as the step gave it, if it depends on the working directory of who computes."""
    left: str | None = None
    """Of what a library that read the variable set it to in the same step: a default of its own."""

    @property
    def known_as(self) -> str:
        """What names it wherever the trial is computed: the relative path, if it has one."""
        return self.relative or self.name


class Files(Struct, frozen=True):
    """What the files among the inputs of a trial's steps held when it was planned."""

    places: dict[str, dict[str, dict[str, str]]]
    """Place of a step -> path, pattern or URL -> name of a file there -> digest of its content."""


class Birthplace(Struct, frozen=True):
    """Where a trial was recorded that was copied to another store."""

    address: str
    trial: int
    """Its id there."""

    def __str__(self) -> str:
        return f"{self.address} trial {self.trial}"


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
    files: str | None = None
    """Digest of the stored :class:`Files`; None if no step takes any."""
    unreached: list[str] = []
    """Names of the parameters that reach none of its steps."""
    was: int | None = None
    """The id that the trial had before its store lost it, and it was begun again."""
    submission: str | None = None
    """By which it came to another process; None if it began in the one that planned it."""
    numbered: bool = False
    """Whether all other records of the trial's steps and ends are signed and numbered."""
    code_hash: str | None = None
    """SHA-256 of the object :attr:`code`, where the record is signed."""
    birthplace: Birthplace | None = None
    """Where it was recorded; ``None`` where that is here. No signature covers it, so that whoever
    has no key can copy a signed trial."""
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
    metrics: list[str] = []
    """Names of the metrics that the step saved."""
    artifacts: list[Artifact] = []
    """What the step saved; a reused one has what it saved when it ran."""
    worker: str | None = None
    """Address of the cluster's worker that ran the step."""
    worker_name: str | None = None
    arguments: dict[str, Argument] = {}
    """Name of a parameter of the step -> what it got, defaults included; trials of earlier versions
    have none. :attr:`inputs` is of these together, without those that the step ignores."""
    changed: list[str] = []
    """Names of the arguments that were other ones when the step had run: changed in place."""
    reads: list[FileState] = []
    """What it read besides its arguments, as far as Python told."""
    written: list[FileState] = []
    serial: str | None = None
    """With a signing key: who wrote it, and how many step runs of the trial they had written by
    then, this one included and reused ones not."""
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
    reads: list[FileState] = []
    by_inputs: str | None = None
    """The cache key that is made of the inputs themselves, if the output may be found by them."""


class CacheEntry(Struct, frozen=True, omit_defaults=True):
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
    metrics: list[str] = []
    reads: list[FileState] = []
    """What the step and those before it read besides their arguments: it must be the same."""
    written: list[FileState] = []
    """What the step wrote, but for what is kept: it must still be there."""
    partial: bool = False
    """Whether what the steps before it read is not among `reads`."""
    artifacts: list[Artifact] = []
    """What the step saved when it ran."""
    signature: str | None = None
    """Of the record and what it is for, with the signing key; ``None`` where there was none."""
    exact: str | None = None
    """Fingerprint of the output, with its order within, where more than one step sees it."""
    given: dict[str, str] = {}
    """Argument, or a member of it -> its fingerprint, where others see it and may change it."""


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


class Alteration(Struct, frozen=True, omit_defaults=True):
    """A step run after which arguments were other ones than before it."""

    key: str
    step: str
    arguments: list[str]
    beside: list[str] = []
    """Keys of the steps that ran in the same process meanwhile, and may have done it."""


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


class Point(Struct, frozen=True, array_like=True):
    """One point of a metric."""

    metric: str
    epoch: Any
    value: Any
    time: float


class Beat(Struct, frozen=True):
    """A sign of life of a running trial, by the store's clock."""

    time: float


class Function(Struct, frozen=True, omit_defaults=True):
    """A function or class of the user's own code."""

    name: str
    fingerprint: str
    """Of its own normalised code, without what it calls."""
    source: str | None = None
    """``None`` where there is no source, as in a terminal."""
    file: str | None = None
    note: str | None = None


class StepCode(Struct, frozen=True, omit_defaults=True):
    """What one step's behaviour depends on."""

    fingerprint: str
    """Of everything below together."""
    functions: list[str]
    """Keys in :attr:`Code.functions`, the step's own first."""
    constants: dict[str, str | None] = {}
    """Global and closure values it reads: name -> fingerprint (``None``: has none)."""
    packages: dict[str, str] = {}
    """Installed packages it uses: name -> version."""
    states: list[str] = []
    """Names of the constants that the code itself changes."""
    clocks: list[str] = []
    """Names of the clocks that the code reads, such as ``time.time``."""


class Code(Struct, frozen=True):
    """The code of a trial's steps."""

    steps: dict[str, StepCode]
    functions: dict[str, Function]


class Environment(Struct, frozen=True):
    """Where a trial ran: category -> name -> text."""

    categories: dict[str, dict[str, str]]


class Node(Struct, frozen=True, omit_defaults=True):
    """A step's place in a trial's graph."""

    key: str
    step: str
    steps: list[str] = []
    """Keys of the steps that it takes input from, in order."""
    parameters: list[str] = []
    """Names of the parameters that it takes, in order."""
    parts: dict[str, list[Any]] = {}
    """Of the parameters that it takes nothing else of: the part in words -> the parameter's name,
    then by turns ``item`` or ``attribute`` and which one it is."""
    literals: dict[str, str] = {}
    """Arguments that stand in the call itself: name -> the value in short, empty if that does not
    tell it."""
    arguments: dict[str, Argument] = {}
    """The same with what tells more: values as they were when the trial began, defaults included.
    Those that are told in full by their text have no fingerprint."""
    ignored: list[str] = []
    """Names of the arguments that its output does not depend on."""
    beside: list[str] = []
    """Those of `steps` and `parameters` that it takes for these alone."""

    @property
    def wiring(self) -> tuple[list[str], list[str]]:
        """Steps and parameters that its output depends on."""
        if not self.beside:
            return self.steps, self.parameters
        beside = set(self.beside)
        steps = [key for key in self.steps if f"step {key}" not in beside]
        return steps, [name for name in self.parameters if f"parameter {name}" not in beside]


def changed_arguments(node: Node, other: Node | None) -> Iterator[tuple[str, Argument, Argument]]:
    """Yield what a call gives a step that is known to be another than what another call gave it.

    With its name, and as either of them had it.
    """
    for name, argument in node.arguments.items():
        before = other.arguments.get(name) if other is not None else None
        if before is not None and _differ(before, argument):
            yield name, argument, before


def _differ(one: Argument, other: Argument) -> bool:
    """Whether two arguments are known to differ: what has neither may be equal or not."""
    if one.fingerprint is not None and other.fingerprint is not None:
        return one.fingerprint != other.fingerprint
    if one.fingerprint is None and other.fingerprint is None:
        return bool(one.text and other.text) and one.text != other.text
    # One of them is told by its text alone, which is that of no other value.
    return bool(one.text if one.fingerprint is None else other.text)


class Graph(Struct, frozen=True):
    """The steps of a trial in graph order: inputs before those who use them."""

    nodes: list[Node]


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
