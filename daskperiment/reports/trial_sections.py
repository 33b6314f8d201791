"""What a report tells of one trial, and how the trials of a report differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from daskperiment.codec import find_record
from daskperiment.compare import Comparison, compare
from daskperiment.compare.wording import outcome, reasons, show
from daskperiment.history.curated import NOTHING_SAID, Curated, curated
from daskperiment.history.logs import get_log
from daskperiment.history.stored_values import StoredObject, viewed
from daskperiment.history.trial_records import DAMAGED, RecordedTrial, trial_or_raise
from daskperiment.records import Environment
from daskperiment.reports.embedded_artifacts import ArtifactGallery
from daskperiment.reports.markup import Markup, data_table, facts, tag
from daskperiment.store.protocol import Store

__all__ = ["differences", "environments", "moment", "trial_section"]

_LONG = 4_000
"""Characters of a value."""
_LINES, _CHARACTERS = 100, 20_000
"""Of the end of a log."""
_COMPARED = 20
_UNTOLD = {"git": ("diff", "untracked")}
"""What a report says nothing of: files that nobody chose to send."""


def moment(seconds: float) -> str:
    """Return a time of day with its zone."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return ""  # the record is damaged


# One trial ---------------------------------------------------------------------------------------


def trial_section(store: Store, number: int, gallery: ArtifactGallery) -> Markup:
    """Return all that is told of one trial."""
    trial = trial_or_raise(store, number)
    said = curated(store, [number]).get(number, NOTHING_SAID)
    name = f": {said.name}" if said.name else ""
    parts = _parts(store, trial, said, gallery)
    return tag("section", tag("h2", f"Trial {number}{name}"), parts, id=f"trial-{number}")


def _parts(
    store: Store, trial: RecordedTrial, said: Curated, gallery: ArtifactGallery
) -> Iterator[Markup]:  # fmt: skip
    yield facts(_facts(trial, said))
    yield from _result(store, trial)
    if said.notes:
        yield tag("h3", "Notes")
        yield tag("ul", [_note(one.text, one.user, one.time) for one in said.notes])
    if trial.parameters:
        yield tag("h3", "Parameters")
        rows = [[n, _short(viewed(form, store))] for n, form in trial.parameters.items()]
        yield data_table(f"Parameters of trial {trial.trial}", ["Parameter", "Value"], rows)
    if artifacts := gallery.of(trial.trial):
        yield tag("h3", "Artifacts")
        yield artifacts
    if log := _end(get_log(store, trial.trial)):
        yield tag("h3", "Log")
        yield tag("pre", log, tabindex=0)


def _note(text: str, user: str, time: float) -> Markup:
    return tag("li", text, tag("span", f" {user}, {moment(time)}", class_="quiet"))


def _facts(trial: RecordedTrial, said: Curated) -> list[tuple[str, Any]]:
    begun, ended = trial.begun, trial.ended
    lasted = ended.elapsed if ended and ended.elapsed < DAMAGED else None
    return [
        ("Status", trial.status),
        ("Reason", trial.reason),
        ("Tags", ", ".join(said.tags)),
        ("Archived", "yes" if said.archived else ""),
        ("Started", moment(begun.started)),
        ("Finished", moment(ended.finished) if ended else ""),
        ("Duration", "" if lasted is None else f"{lasted:.3g} s"),
        ("Result step", begun.result),
        ("Seed", str(begun.seed)),
        ("User and host", f"{begun.origin.user} on {begun.origin.host}"),
        ("Sweep", begun.sweep),
        ("Reproduces", f"trial {begun.source}" if begun.source else ""),
        ("Goes on from", f"trial {begun.resumes}" if begun.resumes else ""),
    ]


def _result(store: Store, trial: RecordedTrial) -> Iterator[Markup]:
    ended = trial.ended
    if ended is None:
        return
    if ended.failure is not None:
        text = ended.failure.traceback or ended.failure.description
        yield tag("h3", "Failure")
        yield tag("pre", text[-_CHARACTERS:], tabindex=0)
    elif ended.status == "succeeded":
        yield tag("h3", "Result")
        yield tag("pre", _full(viewed(ended.value, store)), tabindex=0)


def _full(value: Any) -> str:
    text = str(show(value))
    left = len(text) - _LONG
    return text if left <= 0 else f"{text[:_LONG]}… ({left:,} more characters)"


def _short(value: Any) -> Markup:
    kind = f" {value.type}" if isinstance(value, StoredObject) and not value.is_secret else ""
    return tag("span", _full(value), tag("span", kind, class_="quiet") if kind else None)


def _end(log: str) -> str:
    """Return the last lines of a log, and how many stand before them."""
    lines = log.rstrip("\n").split("\n")[-_LINES:]
    text = "\n".join(lines)[-_CHARACTERS:]
    rest = len(log.rstrip("\n")) - len(text)
    return f"… ({rest:,} characters before this)\n{text}" if rest else text


def environments(store: Store, trials: Sequence[int]) -> Iterator[Markup]:
    """Yield a section for each environment that trials ran in: most have the same."""
    ran: dict[str, list[str]] = {}
    for trial in trials:
        ran.setdefault(trial_or_raise(store, trial).begun.environment, []).append(str(trial))
    for digest, ids in ran.items():
        environment = find_record(store.get, digest, Environment)
        title = tag("h2", f"Environment of trial {', '.join(ids)}")
        if environment is not None:
            yield tag("section", title, list(_environment(environment)))


def _environment(environment: Environment) -> Iterator[Markup]:
    for category, texts in environment.categories.items():
        hidden = _UNTOLD.get(category, ())
        pairs = [(name, text[:_LONG]) for name, text in texts.items() if name not in hidden]
        if pairs:
            title = "Packages" if category == "requirements" else category
            yield tag("details", tag("summary", title), facts(pairs))


# Several -----------------------------------------------------------------------------------------


def differences(store: Store, trials: Sequence[int]) -> Markup | None:
    """Return where each trial parts from the first one; nothing of one trial alone."""
    first, *others = trials
    if not others:
        return None
    found = [_difference(compare(store, first, other)) for other in others[:_COMPARED]]
    more = len(others) - len(found)
    left = tag("p", f"{more} more are not compared here.", class_="quiet") if more else None
    return tag("section", tag("h2", f"How they differ from trial {first}"), found, left)


def _difference(found: Comparison) -> list[Markup | None]:
    step = found.first_difference
    told = None
    if step is not None:
        how = outcome(step, found.first, found.second)
        told = facts([("First difference", f"step {step.key}: {how}"), ("Why", reasons(step))])
    title = f"Trial {found.second}"
    return [tag("h3", title), tag("p", found.explanation, class_="lead"), told]
