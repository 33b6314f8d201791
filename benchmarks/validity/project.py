"""A small project as text: steps in a chain, each of which depends on things of many kinds.

Everything that a step depends on is a *knob*, a number that stands somewhere in the project: in a
body, in a helper three calls deep, in a file. The whole project is written from the numbers of its
knobs, so a change is another number, and what it reaches is known.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.validity.fragments import FORMS, Fragment, fragment

__all__ = ["Knob", "Project", "Step", "State", "make_project"]

STEPS = ("load", "clean", "shape", "train", "judge", "report")
STOCHASTIC = "seed"
UNUSED = "spare"
"""Things that no step uses: a package, a variable, a field of the options."""


class Knob(NamedTuple):
    """One thing that a step depends on."""

    name: str
    kind: str
    form: str
    step: str


@dataclass(frozen=True)
class Step:
    """One step of the chain."""

    name: str
    inputs: tuple[str, ...]
    knobs: tuple[Knob, ...]
    coarse: bool
    """Whether it returns the number of digits alone, so that changes before it often end here."""

    @property
    def stochastic(self) -> bool:
        return any(knob.kind == STOCHASTIC for knob in self.knobs)


@dataclass(frozen=True)
class State:
    """The numbers of all knobs, and how often each cosmetic edit was made."""

    numbers: Mapping[str, int]
    cosmetics: Mapping[str, int] = field(default_factory=dict)

    def turned(self, name: str, number: int) -> State:
        """Return the state in which one knob has another number."""
        return State({**self.numbers, name: number}, self.cosmetics)

    def edited(self, form: str) -> State:
        """Return the state after one more cosmetic edit."""
        return State(self.numbers, {**self.cosmetics, form: self.cosmetics.get(form, 0) + 1})


@dataclass(frozen=True)
class Project:
    """The steps, in the order in which they are called."""

    steps: tuple[Step, ...]

    def knobs(self) -> Iterator[Knob]:
        for step in self.steps:
            yield from step.knobs

    def facts(self, step: Step, state: State) -> tuple[int, ...]:
        """Return what a step depends on besides its inputs."""
        return tuple(state.numbers[knob.name] for knob in step.knobs)

    def arguments(self, step: Step, state: State) -> dict[str, tuple[str, object]]:
        """Return the further arguments of a step's call: its kind, and its value for each name."""
        found = {}
        for knob in step.knobs:
            if argument := self._fragment(knob, state).argument:
                found[knob.name] = argument
        return found

    def options(self, state: State) -> dict[str, object]:
        """Return the options, of which each step takes fields of its own."""
        found: dict[str, object] = {UNUSED: state.cosmetics.get("unused field", 0)}
        for knob in self.knobs():
            if knob.kind == "field":
                number = state.numbers[knob.name]
                found[knob.name] = {"depth": number} if knob.form == "nested" else number
        return found

    def variables(self, state: State) -> dict[str, str]:
        """Return the environment variables of the project."""
        found = {UNUSED.upper(): str(state.cosmetics.get("unused variable", 0))}
        for knob in self.knobs():
            if knob.kind == "variable":
                found[knob.name.upper()] = str(state.numbers[knob.name])
        return found

    def helpers(self, step: Step, state: State) -> tuple[str, ...]:
        """Return the functions of its own that a step calls by name."""
        found = (self._fragment(knob, state).helper for knob in step.knobs)
        return tuple(name for name in found if name)

    def write(self, folder: Path, state: State) -> None:
        """Write the project; what did not change keeps its file as it is."""
        written = {folder / name: text for name, text in self._texts(state).items()}
        for path in [*(folder / "code").glob("*.py"), *(folder / "site").rglob("*"),
                     *(folder / "data").rglob("*")]:  # fmt: skip
            if path.is_file() and path not in written:
                path.unlink()
        for path in (folder / "site").glob("*.dist-info"):
            if not any(path.iterdir()):
                shutil.rmtree(path)
        for path, text in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
        self._touch(folder, state)

    def _touch(self, folder: Path, state: State) -> None:
        for path in (folder / "data").rglob("*.txt"):
            if times := state.cosmetics.get("touch", 0):
                os.utime(path, (1_700_000_000 + times, 1_700_000_000 + times))

    def _fragment(self, knob: Knob, state: State) -> Fragment:
        return fragment(knob.kind, knob.form, knob.name, state.numbers[knob.name])

    def _texts(self, state: State) -> dict[str, str]:
        """Return the text of each file."""
        done = state.cosmetics
        parts: dict[str, list[str]] = {f"code/{module}.py": [] for module in IMPORTS}
        for knob in self.knobs():
            for name, text in self._fragment(knob, state).files.items():
                parts.setdefault(name, []).append(text)
        for step in self.steps:
            parts["code/steps.py"].append(self._step(step, state))
        spare = done.get("unused constant", 0)
        parts.setdefault("code/settings.py", []).append(f"SPARE = {spare}\n")
        if moved := done.get("moved", 0):
            parts["code/steps.py"].insert(0, f"def _before_all():\n    return {moved}\n")
            parts["code/settings.py"].insert(0, "OLDER = [\n    1,\n]\n" * (moved % 3))
        texts = {name: _joined(name, found, done) for name, found in parts.items()}
        version = done.get("unused package", 0) + 1
        info = f"site/{UNUSED}-{version}.dist-info"
        texts[f"{info}/METADATA"] = f"Name: {UNUSED}\nVersion: {version}\n"
        texts[f"{info}/RECORD"] = f"{UNUSED}.py,,\n"
        texts[f"site/{UNUSED}.py"] = ""
        return texts

    def _step(self, step: Step, state: State) -> str:
        done = state.cosmetics
        found = [(knob, self._fragment(knob, state)) for knob in step.knobs]
        required = [f"{name}: Any" for name in step.inputs]
        required += [f"{knob.name}: Any" for knob, each in found if each.argument]
        named = [each.parameter for _, each in found if each.parameter]
        lines = [each.decorator for _, each in found if each.decorator]
        lines.append(f"def {step.name}({', '.join([*required, *named])}) -> Any:")
        if number := done.get("docstring", 0):
            lines.append(f'    """Do as in revision {number}."""')
        lines.append(f'    log.info("{step.name}")')
        if number := done.get("comment", 0):
            lines.append(f"    # Revision {number}.")
        total = " + ".join(["7", *step.inputs])
        lines.append(f"    x = ({total}) % 1000" + "  # small" * (done.get("trailing", 0) % 2))
        lines += ["    total = 0"] + [""] * (done.get("blank lines", 0) % 3)
        lines += [f"    {each.prelude}" for _, each in found if each.prelude]
        for weight, (_, each) in enumerate(found, 2):
            expression = each.expression
            if done.get("layout", 0) % 2:
                expression = f"(\n        {expression}\n    )"
            lines.append(f"    total += {expression} * {weight}")
        lines.append("    return len(str(total))" if step.coarse else "    return total")
        return "\n".join(lines) + "\n"


IMPORTS = {
    "steps": """import functools
import logging
import os
import random
from typing import Any

import deep
import middle
import outer
import reading
import settings

log = logging.getLogger("project")
""",
    "outer": "import middle\n",
    "middle": "import deep\n",
    "deep": "",
    "reading": '''import os


def number(source):
    """Read a file that is given in any of the ways in which a tool may give one."""
    if hasattr(source, "read"):
        return int(source.read())
    with open(source) as file:
        return int(file.read())


def folder(source):
    """Read a folder, or a list of files."""
    if hasattr(source, "path"):
        source = source.path
    if not isinstance(source, (list, tuple)):
        source = [os.path.join(source, name) for name in sorted(os.listdir(source))]
    return sum(number(path) * len(os.path.basename(path)) for path in source)
''',
    "settings": "",
}


def _joined(name: str, parts: list[str], done: Mapping[str, int]) -> str:
    """Return the text of one file."""
    if not name.startswith("code/"):
        return "".join(parts)
    module = name.removeprefix("code/").removesuffix(".py")
    head = IMPORTS.get(module, "")
    if number := done.get("header", 0):
        head = f"# Header {number}\n{head}"
    return "\n\n".join([head, *parts])


def make_project(generator: random.Random, kinds: list[str], extras: bool = True) -> Project:
    """Return a project that has each of some kinds of knobs, spread over its steps.

    Parameters
    ----------
    generator : Random
        What the project is like comes from it alone.
    kinds : list of str
        Kinds of knobs, `FORMS` has them all.
    extras : bool
        Whether pydantic and attrs may be used.
    """
    count = generator.randint(4, len(STEPS))
    names = STEPS[:count]
    places: dict[str, list[Knob]] = {name: [] for name in names}
    for kind in kinds:
        step = generator.choice(names)
        forms = [form for form in FORMS[kind] if extras or form not in ("pydantic", "attrs")]
        name = f"{step}{kind}"
        if not any(knob.name == name for knob in places[step]):
            places[step].append(Knob(name, kind, generator.choice(forms), step))
    for name in names:
        if not places[name]:
            places[name].append(Knob(f"{name}body", "body", "number", name))
    steps = []
    for number, name in enumerate(names):
        inputs = names[max(0, number - generator.randint(1, 2)) : number]
        coarse = generator.random() < 0.2
        steps.append(Step(name, inputs, tuple(places[name]), coarse))
    return Project(tuple(steps))
