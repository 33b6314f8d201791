"""Runs generated changes by several tools, and judges what each of them did."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.validity.changes import Change, Ledger, Sequence, sequences
from benchmarks.validity.project import Knob
from benchmarks.validity.tools import Outcome, load_libraries, run_tool

__all__ = ["Judgement", "judge_all"]

ASSERTING = (
    "not pure", "nothing else", "nothing of its own changed", "never run", "data from outside",
    "is not known to", "stands for something else",
)  # fmt: skip
"""What a text must not say of a change that was made."""


@dataclass(frozen=True)
class Judgement:
    """What one tool did after one change."""

    tool: str
    sequence: int
    change: int
    kind: str
    form: str
    place: str
    back: bool
    ran: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    """The steps that had to run."""
    idle: int = 0
    """How many steps had no reason to run."""
    stale: tuple[str, ...] = ()
    """Steps that did not run, and whose output is not that of the project as it is."""
    needless: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    """What is wrong with the reasons."""
    explained: bool | None = None
    """Whether explain named the change; None where there was nothing to explain."""
    compared: bool | None = None
    warned: tuple[str, ...] = ()
    error: str = ""

    def plain(self) -> dict[str, object]:
        return asdict(self)


def judge_all(sequences: Iterable[Sequence], tools: list[str]) -> Iterator[Judgement]:
    """Yield a judgement for each change and tool."""
    load_libraries(tools)
    for sequence in sequences:
        with tempfile.TemporaryDirectory(prefix="validity") as folder:
            yield from _Course(sequence, tools, Path(folder)).judgements()


@dataclass
class _Course:
    """One project on its way through its changes."""

    sequence: Sequence
    tools: list[str]
    folder: Path
    ledgers: dict[str, Ledger] = field(init=False)
    wrong: dict[str, set[str]] = field(default_factory=dict)
    """Steps whose output is wrong since an earlier change, by tool."""

    def __post_init__(self) -> None:
        self.ledgers = {tool: Ledger(self.sequence.project) for tool in self.tools}

    def judgements(self) -> Iterator[Judgement]:
        project = self.sequence.project
        first = Change("first", "", None, self.sequence.first)
        for number, change in enumerate([first, *self.sequence.changes]):
            project.write(self.folder, change.state)
            for tool in self.tools:
                outcome = run_tool(tool, project, change.state, self.folder, number + 1)
                judged = self._judge(tool, number, change, outcome)
                if number or judged.error or judged.stale or judged.needless:
                    yield judged

    def _judge(self, tool: str, number: int, change: Change, outcome: Outcome) -> Judgement:
        known = (tool, self.sequence.number, number, change.kind, change.form, change.place)
        if outcome.error:
            return Judgement(*known, change.back, error=outcome.error)
        names = [step.name for step in self.sequence.project.steps]
        ledger = self.ledgers[tool]
        wanted = ledger.must_run(change.state, outcome.outputs)
        ledger.enter(change.state, outcome.outputs)
        ran = set(outcome.ran)
        wrong = {name for name in names if name not in ran and _is_wrong(name, wanted, outcome)}
        # What was wrong before counts once.
        stale = sorted(wrong & wanted | wrong - self.wrong.get(tool, set()))
        self.wrong[tool] = wrong
        explained = compared = None
        faults: list[str] = []
        if tool == "ours" and number:
            explained, faults = self._explained(change, wanted, outcome)
            compared, more = self._compared(change, outcome)
            faults += more
        return Judgement(
            *known,
            change.back,
            tuple(outcome.ran),
            tuple(sorted(wanted)),
            len(names) - len(wanted),
            tuple(stale),
            tuple(name for name in outcome.ran if name not in wanted),
            tuple(faults),
            explained,
            compared,
            tuple(outcome.warned),
        )

    def _explained(
        self, change: Change, wanted: set[str], outcome: Outcome
    ) -> tuple[bool | None, list[str]]:
        """Return whether explain named the change where it comes in, and what else it said."""
        faults = []
        if change.knob is None or change.knob.step not in wanted:
            return None, []
        text = outcome.reasons.get(change.knob.step, "")
        after = outcome.told.get(change.knob.step, "")
        named = _names(change.knob, text) and _names(change.knob, after)
        if not named:
            faults.append(f"explain of {change.knob.name}: {text!r}, afterwards {after!r}")
        for step, reason in {**outcome.reasons, **outcome.told}.items():
            faults += [f"explain of {step}: {each}" for each in self._false(change, reason)]
        return named and len(faults) == 0, faults

    def _compared(self, change: Change, outcome: Outcome) -> tuple[bool | None, list[str]]:
        if change.knob is None:
            return None, []
        text = outcome.comparison
        faults = [f"compare: {each}" for each in self._false(change, text)]
        if not _names(change.knob, text):
            faults.append(f"compare after {change.knob.name}: {text!r}")
        return not faults, faults

    def _false(self, change: Change, text: str) -> list[str]:
        """Return what a text says that is not so."""
        found = [f"{text!r} asserts" for words in ASSERTING if words in text]
        for knob in self.sequence.project.knobs():
            # All options are one parameter, which may be shown whole.
            if knob == change.knob or knob.kind == change.kind == "field":
                continue
            if re.search(rf"\b_?{knob.name}(\b|_)", text, re.IGNORECASE):
                found.append(f"{text!r} blames {knob.name}")
        return found


def _is_wrong(name: str, wanted: set[str], outcome: Outcome) -> bool:
    if name in outcome.expected:
        return bool(outcome.expected[name] != outcome.outputs[name])
    return name in wanted


def _names(knob: Knob, text: str) -> bool:
    """Whether a text names a change."""
    own = {f"{knob.step}() changed", f"steps.{knob.step}"}
    words = {knob.name}
    match knob.kind:
        case "body":
            words = own
        case "default" | "decorator" | "closure":
            # A lambda has no other name.
            words |= {"steps.<lambda>"} if "lambda" in knob.form or "list" in knob.form else own
        case "folder":
            # A pattern is called by its last part, and a file by its name.
            words |= {"*.txt"} if knob.form == "glob" else set()
            words |= {"file part"} if knob.form == "observed" else set()
        case "field":
            words |= {"parameter options"}
        case "seed":
            words = {"seed"}
    return any(word.lower() in text.lower() for word in words)


def main() -> None:
    """Write the judgements of some changes as lines of JSON: ours alone."""
    count = int(sys.argv[1])
    extras = all(importlib.util.find_spec(name) for name in ("pydantic", "attrs"))
    for judgement in judge_all(sequences(count, seed=2, extras=extras), ["ours"]):
        print(json.dumps(judgement.plain(), default=str))


if __name__ == "__main__":
    main()
