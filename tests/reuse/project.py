"""A small project with a chain of steps, as text that can be edited."""

from __future__ import annotations

import importlib
import random
import shutil
import sys
from dataclasses import dataclass

from daskperiment.capture.origin import distribution

__all__ = ["EDITS", "HARMLESS", "MODULES", "STEPS", "Edit", "Project", "reached"]

MODULES = ["steps", "lib", "lib.deep", "lib.deeper", "lib.models", "tables", "vendored"]

STEPS = ["load", "clean", "shape", "fit", "judge"]
"""Each takes the output of the one before it; ``judge`` also that of ``aside``."""

FILES = {
    "steps": '''
import functools
import logging
import math

import tables
import vendored
from lib import deep, models
from lib.deep import rounded as near

log = logging.getLogger("project")

def load():
    log.info("load")
    return [deep.outer(number) for number in range(3)]


def clean(values, limit=100):
    log.info("clean")
    return [near(value) for value in values if value < limit]


def make_shape(change):
    def shape(values):
        log.info("shape")
        return [change(value) for value in values]

    return shape


shape = make_shape(lambda value: value * 2)


def fit(values):
    log.info("fit")
    return raised(models.Model().fitted(values))


raised = functools.partial(math.ldexp, 1.0)


def judge(number, other):
    log.info("judge")
    return number * tables.WEIGHTS["judge"] + vendored.version_of() + other


def aside():
    log.info("aside")
    return marked()


def unused():
    return "nobody calls it"


def repeated(times):
    def decorate(function):
        @functools.wraps(function)
        def inner():
            return sum(function() for _ in range(times))

        return inner

    return decorate


@repeated(tables.TIMES)
def marked():
    """Count one."""
    return 1
''',
    "lib/__init__": "",
    "lib/deep": '''
from lib import deeper


def outer(number):
    """Add what is needed."""
    return deeper.inner(number) + 1


def rounded(value, digits=1):
    # To the first digit.
    return round(value, digits)


def neighbour():
    return 5
''',
    "lib/deeper": """
STEP = 3


def inner(number):
    return number * STEP


def lonely():
    return 7
""",
    "lib/models": '''
class Base:
    power = 2

    def prepared(self, values):
        return values


class Model(Base):
    """A model."""

    def fitted(self, values):
        return len(self.prepared(values)) * self.power
''',
    "tables": """
WEIGHTS = {"judge": 2, "other": 3}
TIMES = 2
SPARE = 9
""",
}


@dataclass(frozen=True)
class Edit:
    """One edit, and the first step that it reaches."""

    file: str
    old: str
    new: str
    reaches: str | None = None
    unless: str = ""
    """An edit that leads the first step elsewhere."""


EDITS = {
    "helper two calls deep": Edit("lib/deeper", "number * STEP", "number * STEP + 1", "load"),
    "module constant": Edit("lib/deeper", "STEP = 3", "STEP = 4", "load"),
    "helper": Edit("lib/deep", "(number) + 1", "(number) + 2", "load"),
    "default argument": Edit("steps", "limit=100", "limit=50", "clean"),
    "default of a helper": Edit(
        "lib/deep", "digits=1", "digits=2", "clean", "another helper's name"
    ),
    "another helper's name": Edit("steps", "rounded as near", "outer as near", "clean"),
    "lambda in a closure": Edit("steps", "value * 2", "value * 3", "shape"),
    "function around it": Edit("steps", "[change(value)", "[0 + change(value)", "shape"),
    "class method": Edit("lib/models", "len(", "1 + len(", "fit"),
    "base class": Edit("lib/models", "return values", "return values[1:]", "fit"),
    "class attribute": Edit("lib/models", "power = 2", "power = 3", "fit"),
    "partial's argument": Edit("steps", "math.ldexp, 1.0", "math.ldexp, 2.0", "fit"),
    "partial's function": Edit("steps", "math.ldexp", "math.copysign", "fit"),
    "attribute of a module": Edit("tables", '"judge": 2', '"judge": 5', "judge"),
    "decorator": Edit("steps", "sum(function()", "1 + sum(function()", "aside"),
    "decorator's argument": Edit("tables", "TIMES = 2", "TIMES = 4", "aside"),
    "step": Edit("steps", 'log.info("fit")', 'log.info("fit"); values = values + [1]', "fit"),
    "decorated helper": Edit("steps", "return 1\n", "return 3\n", "aside"),
}

HARMLESS = {
    "comment": Edit("lib/deep", "# To the first digit.", "# Says the same.\n    # And more."),
    "no comment": Edit("lib/deep", "    # To the first digit.\n", ""),
    "docstring": Edit("lib/deep", "Add what is needed.", "Add.\n\n    At length."),
    "class docstring": Edit("lib/models", '    """A model."""\n', ""),
    "docstring under a decorator": Edit("steps", "Count one.", "Count only one."),
    "new docstring": Edit("steps", '    log.info("load")', '    """Load."""\n    log.info("load")'),
    "blank lines": Edit("lib/deeper", "def inner", "\n\n\ndef inner"),
    "moved": Edit("lib/deeper", "def inner", "def before_it():\n    return 0\n\n\ndef inner"),
    "layout": Edit("lib/models", "len(self.prepared(values))", "len(\n  self.prepared( values, ))"),
    "quotes": Edit("tables", '{"judge"', "{'judge'"),
    "brackets": Edit("steps", "return marked()", "return (marked())"),
    "unused function": Edit("steps", "nobody calls it", "nobody ever calls it"),
    "neighbour": Edit("lib/deep", "return 5", "return 6"),
    "lonely": Edit("lib/deeper", "return 7", "return 8"),
    "constant that nobody reads": Edit("tables", "SPARE = 9", "SPARE = 10"),
    "further import": Edit("lib/models", "class Base", "import json\n\n\nclass Base"),
    "annotation of a variable": Edit("tables", "TIMES = 2", "TIMES: int = 2"),
    "order of definitions": Edit(
        "lib/deeper", "def lonely():\n    return 7\n", "def lonely():\n    return 7\n\n\nX = STEP\n"
    ),
}  # fmt: skip


def reached(step):
    """List the steps that what reaches a step reaches."""
    if step is None:
        return set()
    return {"aside", "judge"} if step == "aside" else set(STEPS[STEPS.index(step) :])


class Project:
    """The files in a folder, imported anew after edits as a new process would.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder):
        self.folder = folder
        self.files = dict(FILES)
        self.version = 1
        self.site = folder / "site-packages"
        self.upgrade()

    def edit(self, edit):
        """Edit a file; give whether there is still something to edit."""
        text = self.files[edit.file]
        self.files[edit.file] = text.replace(edit.old, edit.new)
        return text.count(edit.old) == 1

    def upgrade(self):
        """Install another version of the package that the project uses."""
        for old in self.site.glob("*.dist-info"):
            shutil.rmtree(old)
        info = self.site / f"vendored-{self.version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: vendored\nVersion: {self.version}\n")
        (info / "RECORD").write_text("vendored.py,,\n")
        (self.site / "vendored.py").write_text("def version_of():\n    return 0\n")
        self.version += 1

    def result(self, ex):
        """Import the project as a new process would, and make its result."""
        steps = self._imported()
        wrapped = {name: ex.persist(getattr(steps, name)) for name in [*STEPS, "aside"]}
        node = wrapped["load"]()
        for name in STEPS[1:-1]:
            node = wrapped[name](node)

        @ex.result
        def give(value):
            return value

        return give(wrapped["judge"](node, wrapped["aside"]()))

    def _imported(self):
        for name in MODULES:
            sys.modules.pop(name, None)
        distribution.cache_clear()
        # A folder of its own each time: two edits may fall within one tick of the clock.
        folder = self.folder / f"{random.getrandbits(64):x}"
        for name, text in self.files.items():
            path = folder / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        before = list(sys.path)
        sys.path[:0] = [str(folder), str(self.site)]
        importlib.invalidate_caches()
        try:
            return importlib.import_module("steps")
        finally:
            sys.path[:] = [str(self.site), *(each for each in before if each != str(self.site))]
