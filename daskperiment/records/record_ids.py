"""The streams of records, their ids, and which outcome of a trial outweighs which."""

from __future__ import annotations

import re

__all__ = [
    "ALTERED",
    "ARTIFACT",
    "BEGUN",
    "CHECKPOINT",
    "COMPUTED",
    "CURATED",
    "DESERTED",
    "ENDED",
    "IMPURE",
    "LATER_STREAMS",
    "OUTCOMES",
    "REACHED",
    "REMOVED",
    "SPOILED",
    "STREAMS",
    "SWEEP",
    "SYSTEM",
    "altered_id",
    "artifact_id",
    "artifact_ids",
    "beat_id",
    "beat_sender",
    "cache_entry_id",
    "cache_key_of",
    "checkpoint_id",
    "changed_output_id",
    "computed_id",
    "curation_id",
    "ended_id",
    "is_experiment_id",
    "impure_key_id",
    "impure_step_id",
    "is_replacement_id",
    "outweighs",
    "record_kind",
    "reused_run_id",
    "spoiled_id",
    "step_run_id",
    "step_run_ids",
    "sweep_id",
    "tells_outcome",
]

LATER_STREAMS = ("logs",)
"""Streams that a store has from the first record on that is written to them."""

STREAMS = ("trials", "steps", "points", "outputs", "notes", "beats", *LATER_STREAMS)
"""All streams of records, in the order in which a copy writes them: first what trials are."""

BEGUN, COMPUTED, ENDED, IMPURE, SWEEP = "begun", "computed", "ended", "impure", "sweep"
ALTERED, ARTIFACT, CURATED, REMOVED = "altered", "artifact", "curated", "removed"
CHECKPOINT, REACHED, SPOILED = "checkpoint", "reached", "spoiled"
"""What the ids of records begin with, by kind; a trial has one record with the id ``begun``."""

SYSTEM = "system/"
"""What the names of metrics begin with that nobody saved: of what a trial used."""

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


def step_run_ids(key: str) -> str:
    """Return what the ids of all runs of a step begin with, also of those that were reused."""
    return f"{key}-"


def reused_run_id(key: str, trial: int) -> str:
    """Return the id of the step run that stands for an output taken from another trial."""
    return f"{key}-reused-{trial}"


def cache_entry_id(cache_key: str, generation: int = 0) -> str:
    """Return the id of what is known under a cache key.

    An output that takes the place of a lost one is another generation.
    """
    return f"r-{cache_key}~{generation}" if generation else f"r-{cache_key}"


def cache_key_of(id: str) -> str:
    """Return the cache key under which something is known by an id from `cache_entry_id`."""
    return id.removeprefix("r-").partition("~")[0]


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


def spoiled_id(key: str, by: str) -> str:
    """Return the id of the note that a step of a trial got what another one had changed."""
    return f"{SPOILED}-{key}-by-{by}"


def curation_id(clock: float, sender: str) -> str:
    """Return the id of what somebody said of a trial: each time is a record of its own."""
    return f"{CURATED}-{clock:.6f}-{sender}"


def artifact_id(name: str, added: float, pid: int) -> str:
    """Return the id of an artifact's record: saved again under its name, it is another one."""
    return f"{artifact_ids(name)}{added:.6f}-{pid}"


def artifact_ids(name: str) -> str:
    """Return what the ids of all artifacts of a name begin with, and maybe those of others."""
    return f"{ARTIFACT}-{name}"[:150] + "-"


def checkpoint_id(key: str, saved: float, pid: int) -> str:
    """Return the id of a step's checkpoint: each is a record of its own."""
    return f"{CHECKPOINT}-{key}"[:150] + f"-{saved:.6f}-{pid}"


def sweep_id(sweep: str) -> str:
    """Return the id of the note that defines a sweep."""
    return f"{SWEEP}-{sweep}"


def beat_id(clock: float, sender: str, number: int) -> str:
    """Return the id of a heartbeat: another one each time, also where a clock was set back."""
    return f"{clock:.0f}-{sender}-{number}"


def beat_sender(id: str) -> str:
    """Return who sent a heartbeat: whoever sends several of a trial has one name for all."""
    return id.partition("-")[2].partition("-")[0] or id


OUTCOMES = ("succeeded", "pruned", "failed", "interrupted")
"""How a trial may end: one that stands earlier outweighs those behind it."""


def outweighs(status: str, other: str | None) -> bool:
    """Return whether an outcome holds where a trial has this other one on record too."""
    return other is None or OUTCOMES.index(status) < OUTCOMES.index(other)
