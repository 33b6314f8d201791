"""Why a step must run: what changed since it ran last, in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from daskperiment.capture.code_changes import (
    changed_constants,
    changed_functions,
    diff_functions,
    names_of_changes,
    unknown_constants,
)
from daskperiment.capture.code_inside import (
    UNKNOWN,
    ContentChange,
    change_of,
    described,
)
from daskperiment.capture.files import changed_files
from daskperiment.capture.fingerprint import NoFingerprintError, fingerprint
from daskperiment.capture.library_settings import SETTING
from daskperiment.codec import is_object
from daskperiment.formatting import shorten, shorten_pair, told_change
from daskperiment.planning.past_trials import TrialMakeup, written
from daskperiment.records import (
    Argument,
    Code,
    Node,
    StepCode,
    changed_arguments,
)
from daskperiment.reuse.cache_keys import series_of
from daskperiment.reuse.parameter_fields import ParameterField
from daskperiment.secret_values import Secret, may_differ
from daskperiment.spreading import Item, Spreading

__all__ = ["Reason", "ReasonFinder"]

NO_OUTPUT = "no output of it is known for this code and these inputs"

WIDTH = 40
"""Columns that a value takes at most."""

MOST = 8
"""How many changes of one kind are told of a step at most, the nearest ones."""

MOST_DOUBTS = 5
"""How many values are named of which it is not known whether they changed."""


class Reason(NamedTuple):
    """One change that makes a step run."""

    text: str
    diff: str = ""
    """The change in full, where it is one of code."""


class _Change(NamedTuple):
    """A reason, as it is told of the step where the change is and of those behind that."""

    here: Reason
    behind: Reason
    parameter: str = ""
    """Name of the parameter that changed."""
    content: ContentChange = UNKNOWN
    """What changed of it, where it is no plain value."""


_TOLD = ("part", "parameter", "argument", "file", "code", "wiring")
"""Kinds of changes, in the order in which they are told."""


class _Changes:
    """What changed from one trial to a coming one, for every step that it reaches.

    Parameters
    ----------
    now, before : TrialMakeup
        What the coming trial is made of, and an earlier one.
    """

    def __init__(self, now: TrialMakeup, before: TrialMakeup) -> None:
        self._now, self._before = now, before
        self._changes = Spreading(self._nodes_before, self._own, MOST)
        self._doubts = Spreading(self._nodes_before, self._own_doubts, MOST_DOUBTS)
        self._owned: dict[str, list[Item[_Change]]] = {}
        self._of_parameters: dict[str, list[Item[_Change]]] = {}
        self._of_steps: dict[str, list[Item[_Change]]] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._untold: dict[str, bool] = {}
        self._said: dict[int, tuple[str, Sequence[Reason]]] = {}

    def told(self, place: str) -> tuple[str, Sequence[Reason]]:
        """Return why a step runs that both trials have: in words, and what changed.

        Nothing changed if it is not known.
        """
        own, behind = self._own(place), self._changes.arriving(place)
        # Most steps have the reasons of those before them, and share them.
        if not own and (said := self._said.get(id(behind))) is not None:
            return said
        reasons = _in_words(own, behind) + list(_python(self._now.python, self._before.python))
        if not reasons:
            return self._fallback(place), ()
        said = "; ".join(reason.text for reason in reasons), reasons
        if not own:
            self._said[id(behind)] = said
        return said

    def _nodes_before(self, place: str) -> Sequence[str]:
        node = self._now.nodes.get(place)
        return node.wiring[0] if node is not None else ()

    def _own(self, place: str) -> list[Item[_Change]]:
        """Return what changed of a step itself."""
        if place not in self._owned:
            node = self._now.nodes.get(place)
            self._owned[place] = list(self._found(node)) if node is not None else []
        return self._owned[place]

    def _found(self, node: Node) -> Iterator[Item[_Change]]:
        now, before = self._now, self._before
        old = before.nodes.get(node.key)
        yield from self._parameters(node)
        if old is not None:
            yield from _literals(node, old, now, before, self._changed_code(node.step))
        if before.files or now.files:
            lines = changed_files(before.files.get(node.key, {}), now.files.get(node.key, {}))
            yield from (_item("file", Reason(line)) for line in lines)
        yield from self._code(node.step)
        yield from _wiring(node, old)

    def _parameters(self, node: Node) -> Iterator[Item[_Change]]:
        if not node.parameters:
            return
        names = set(node.wiring[1])
        for text, (name, *path) in node.parts.items():
            if name in names:
                if text not in self._of_parameters:
                    part = ParameterField(name, tuple(path))
                    self._of_parameters[text] = list(_part(text, part, self._now, self._before))
                yield from self._of_parameters[text]
        for name in _whole(node):
            if name in names:
                whole = f"{name} "  # no part is called so
                if whole not in self._of_parameters:
                    self._of_parameters[whole] = list(_parameter(name, self._now, self._before))
                of_code = self._changed_code(node.step)
                yield from (each for each in self._of_parameters[whole]
                            if not each.what.content.is_of(of_code))  # fmt: skip

    def _code(self, step: str) -> list[Item[_Change]]:
        now, before = self._now.code, self._before.code
        if now is before or step not in before.steps or step not in now.steps:
            return []
        if step not in self._of_steps:
            self._of_steps[step] = [_item("code", each) for each in _code(step, now, before)]
        return self._of_steps[step]

    def _changed_code(self, step: str) -> frozenset[str]:
        """Return the names of what changed of a step's code: functions, and what they read."""
        if step not in self._names:
            self._names[step] = names_of_changes(self._before.code, self._now.code, step)
        return self._names[step]

    def _fallback(self, place: str) -> str:
        """Return what is to be said of a step that ran, and of which nothing is known to differ."""
        doubts = [
            *(each.what.here.text for each in self._own_doubts(place)),
            *(each.what.behind.text for each in self._doubts.arriving(place)),
        ]
        doubts.sort(key=lambda text: text.startswith("argument"))
        named = list(dict.fromkeys(doubts))[:MOST_DOUBTS]
        return NO_OUTPUT + (f"; perhaps {', '.join(named)} changed" if named else "")

    def _own_doubts(self, place: str) -> list[Item[_Change]]:
        """Return what a step takes that may have changed, and of which nobody can tell."""
        node = self._now.nodes.get(place)
        if node is None:
            return []
        doubts = [_item("parameter", Reason(f"parameter {name}"))
                  for name in node.wiring[1] if self._is_untold(name)]  # fmt: skip
        for name, text in node.literals.items():
            if not text or "…" in text or "..." in text:
                told = f"argument {name}"
                behind = Reason(f"{told} of step {place}")
                doubts.append(_item("argument", Reason(told), behind))
        return doubts

    def _is_untold(self, name: str) -> bool:
        if name not in self._untold:
            old, new = self._before.values.get(name), self._now.values.get(name)
            if type(new) is Secret:
                # Equal marks are of equal values.
                self._untold[name] = may_differ(_mark_of(old), new.mark) is not False
            else:
                known = _contents(name, self._now, self._before) is not None
                self._untold[name] = not known and _is_untold(old)
        return self._untold[name]


def _item(
    kind: str, here: Reason, behind: Reason | None = None, parameter: str = ""
) -> Item[_Change]:
    behind = behind or here
    return Item(kind, behind.text, _Change(here, behind, parameter))


def _in_words(
    own: Sequence[Item[_Change]], behind: Sequence[Item[_Change]]
) -> list[Reason]:  # fmt: skip
    """Return reasons by their kinds; parts of a parameter are not told beside the whole."""
    whole = {each.what.parameter for each in (*own, *behind) if each.kind == "parameter"}
    found: dict[str, dict[str, Reason]] = {kind: {} for kind in _TOLD}
    for items, here in ((own, True), (behind, False)):
        for kind, _, change in items:
            reason = change.here if here else change.behind
            if (kind != "part" or change.parameter not in whole) and len(found[kind]) < MOST:
                found[kind].setdefault(reason.text, reason)
    return [reason for kind in _TOLD for reason in found[kind].values()]


def _python(now: str, before: str) -> Iterator[Reason]:
    if before and series_of(now) != series_of(before):
        yield Reason(f"Python {before} → {now}")


def _parameter(name: str, now: TrialMakeup, before: TrialMakeup) -> Iterator[Item[_Change]]:
    old, new = before.values.get(name), now.values.get(name)
    known = name in before.values and name in now.values
    if type(new) is Secret:
        if may_differ(_mark_of(old), new.mark):
            yield _item("parameter", Reason(f"parameter {name} changed (a secret)"), parameter=name)
    elif (pair := _contents(name, now, before)) is not None:
        yield from _object(name, *pair)
    # An object of the store is not loaded to find out.
    elif known and not is_object(old) and type(old) is not Secret and not _equal(old, new):
        reason = Reason(f"parameter {name} {_shown(old, new)}")
        yield _item("parameter", reason, parameter=name)


def _contents(
    name: str, now: TrialMakeup, before: TrialMakeup
) -> tuple[Argument, Argument] | None:  # fmt: skip
    """Return what a parameter's values were, if neither is a plain one; None if nobody knows."""
    old, new = before.contents.get(name), now.contents.get(name)
    if old is not None and new is None:
        with suppress(Exception):  # without a fingerprint, or the user's own code failed
            new = described(now.values.get(name))
    return None if old is None or new is None else (old, new)


def _object(name: str, old: Argument, now: Argument) -> Iterator[Item[_Change]]:
    if old.fingerprint != now.fingerprint:
        change = change_of(old, now)
        told = told_change("", "", WIDTH, code=change.lines(), data=change.data)
        reason = Reason(f"parameter {name}{told}")
        yield Item("parameter", reason.text, _Change(reason, reason, name, change))


def _whole(node: Node) -> Sequence[str]:
    """Return the parameters that a step takes whole."""
    if not node.parts:
        return node.parameters
    taken = {part[0] for part in node.parts.values()}
    return [name for name in node.parameters if name not in taken]


def _part(
    text: str, part: ParameterField, now: TrialMakeup, before: TrialMakeup
) -> Iterator[Item[_Change]]:
    old, new = before.values.get(part.name), now.values.get(part.name)
    if is_object(old) or Secret in (type(old), type(new)):
        yield from _secret_part(text, part, old, new)
        return  # as above
    with suppress(Exception):  # it may be of the user's own class, and say anything
        old, new = part.taken_from(before.values), part.taken_from(now.values)
        if not _equal(old, new):
            reason = Reason(f"parameter {text} {_shown(old, new)}")
            yield _item("part", reason, parameter=part.name)


def _secret_part(text: str, part: ParameterField, old: Any, new: Any) -> Iterator[Item[_Change]]:
    """Yield that a part of a secret changed, where both are at hand."""
    if type(old) is Secret and type(new) is Secret:
        with suppress(Exception):  # as below
            parts = (part.taken_from({part.name: each}) for each in (old, new))
            if may_differ(*(each.mark for each in parts)):
                yield _item(
                    "part", Reason(f"parameter {text} changed (a secret)"), parameter=part.name
                )


def _mark_of(value: Any) -> str:
    """Return the mark of a secret, or of its recorded form; nothing for what is none."""
    if type(value) is Secret:
        return value.mark
    return (value.get("mark") or "") if is_object(value) else ""


def _literals(
    node: Node, old: Node, now: TrialMakeup, before: TrialMakeup, of_code: Collection[str]
) -> Iterator[Item[_Change]]:
    """Yield what changed of a call's arguments, but for what `of_code` names."""
    if (old.literals, old.arguments) == (node.literals, node.arguments):
        return
    if written(old) in now.calls and written(node) not in before.calls:
        texts = ", ".join(f"{name}={text or '…'}" for name, text in node.literals.items())
        yield _item("argument", Reason(f"a new call of step {node.step}: {shorten(texts, WIDTH)}"))
        return
    told = {name: (then, new) for name, new, then in changed_arguments(node, old)}
    for name, (then, new) in told.items():
        change = change_of(then, new)
        if not change.is_of(of_code):  # else the step's own code tells it
            words = told_change(then.text, new.text, WIDTH, code=change.lines(), data=change.data)
            yield _argument(node, shorten(name, WIDTH), words)
    # Where other nodes are taken, an argument may have been one, or be one now.
    wired_alike = old.wiring == node.wiring
    for name in {**old.literals, **node.literals}:
        if name in told or name in node.ignored or name in old.arguments.keys() & node.arguments:
            continue  # a default that is written out is the same argument
        first, second = (one.literals.get(name, _left_out(one) if wired_alike else None)
                         for one in (old, node))  # fmt: skip
        if first is not None and second is not None and first != second:
            pair = shorten_pair(first or "…", second or "…", WIDTH)
            yield _argument(node, name, f" {' → '.join(pair)}")


def _left_out(node: Node) -> str:
    """Return what stands for an argument that a call leaves out: defaults are on record."""
    return "not given" if node.arguments else "default"


def _argument(node: Node, name: str, change: str) -> Item[_Change]:
    here, behind = f"argument {name}{change}", f"argument {name} of step {node.key}{change}"
    return _item("argument", Reason(here), Reason(behind))


def _is_untold(value: Any) -> bool:
    """Whether an earlier value is not there to be compared."""
    try:
        return is_object(value) or not fingerprint(value)
    except NoFingerprintError:
        return True


def _equal(old: Any, new: Any) -> bool:
    try:
        return old is new or fingerprint(old) == fingerprint(new)
    except NoFingerprintError:
        return True  # nobody can tell


def _shown(old: Any, new: Any) -> str:
    pair = shorten_pair(repr(old), repr(new), WIDTH)
    return " → ".join(pair)


def _code(step: str, now: Code, before: Code) -> Iterator[Reason]:
    if now.steps[step].fingerprint == before.steps[step].fingerprint:
        return
    reasons = list(_parts(step, now, before))
    unknown = unknown_constants(before.steps[step])
    if not reasons and unknown:
        reasons = [Reason(f"perhaps the value of {unknown[0]}, which had no fingerprint")]
    # Imports and aliases of others' functions are in no list, only in the fingerprint.
    yield from reasons or [Reason(f"a name that step {step}() uses stands for something else")]


def _parts(step: str, now: Code, before: Code) -> Iterator[Reason]:
    own = now.steps[step].functions[0] if now.steps[step].functions else step
    for name, old, new in changed_functions(before, now, step):
        # The step's own function has its module in front, unless that is the script itself.
        what = "step" if name == own and name.rpartition(".")[2] == step else "helper"
        if old is None or new is None:
            yield Reason(f"{what} {name}() is {'used now' if old is None else 'no longer used'}")
        else:
            yield Reason(f"{what} {name}() changed", diff_functions(old, new))
    for name, values in changed_constants(before, now, step).items():
        words = _OF_SETTINGS if name.startswith(SETTING) else ("is no longer read", "is now read")
        text = f"the value of {name} changed"
        if "" in values:
            text = f"{name} {words[values[0] == '']}"
        yield Reason(text)
    yield from _packages(before.steps[step], now.steps[step])


_OF_SETTINGS = "is the default again", "is set now"


def _packages(old: StepCode, new: StepCode) -> Iterator[Reason]:
    for name in {**old.packages, **new.packages}:
        versions = old.packages.get(name, "not used"), new.packages.get(name, "not used")
        if versions[0] != versions[1]:
            yield Reason(f"package {shorten(name, WIDTH)} {versions[0]} → {versions[1]}")


def _wiring(node: Node, old: Node | None) -> Iterator[Item[_Change]]:
    if old is None:
        yield _item("wiring", Reason(f"step {node.key} is new before it"))
    elif old.wiring != node.wiring:
        yield _item("wiring", Reason(f"step {node.key} takes other inputs"))


class ReasonFinder:
    """Why steps of one coming trial run of which no output is known.

    Parameters
    ----------
    latest_with : callable
        Returns what the latest trial was made of that had a step at a place.
    unknown : callable
        Returns what is to be said of a step that no trial had.
    now : TrialMakeup
        What the coming trial is made of.
    """

    def __init__(
        self, latest_with: Callable[[str], TrialMakeup | None], unknown: Callable[[], str],
        now: TrialMakeup,
    ) -> None:  # fmt: skip
        self._latest_with = latest_with
        self._unknown = unknown
        self._now = now
        self._changes: dict[int, _Changes] = {}

    def told(self, place: str, unfit: str | None) -> tuple[str, Sequence[Reason]]:
        """Return why a step runs of which no output is known, in words and as what changed.

        If nothing changed, it is `unfit`: why an earlier output does not fit.
        """
        before = self._latest_with(place)
        if before is None:
            return unfit or self._unknown(), ()
        if id(before) not in self._changes:
            self._changes[id(before)] = _Changes(self._now, before)
        text, reasons = self._changes[id(before)].told(place)
        return (text, reasons) if reasons or unfit is None else (unfit, ())
