"""A trial that is run again with its recorded code."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import pytest

import daskperiment
from daskperiment import experiment
from daskperiment.codec import decode
from daskperiment.compare import Comparison
from daskperiment.errors import (
    CodeChangedWarning,
    ReproductionError,
    StoreWarning,
    UntrustedObjectError,
)
from daskperiment.history.trial_records import trial_or_raise
from daskperiment.recording.registry import close_recorders
from daskperiment.records import Begun
from daskperiment.reproduce import reproduce
from daskperiment.store.file import FileStore
from tests.reproduce.project import Project

STEPS = """
from __future__ import annotations
import daskperiment
import reproduced_helpers as helpers
from reproduced_helpers import scale

ex = daskperiment.Experiment("project", backend={store!r})
a = ex.parameter("a", default=3)

{code}

@ex.result
def total(x):
    return x + 1.5

result = total(prepare(a))
"""


def run_anew(result: Any, trial: int = 1, code: str = "recorded", **keywords: Any) -> Comparison:
    return reproduce(result, trial, code, {"scheduler": "synchronous", **keywords})


def write(project: Project, helpers: str, prepare: str) -> Any:
    """Write helpers and a first step, and run a trial."""
    steps = STEPS.format(store=str(project.folder / "store"), code=prepare)
    module = project.write(helpers, steps)
    module.result.compute(scheduler="synchronous")
    return module


PLAIN = "@ex\ndef prepare(a):\n    return scale(a)\n"
SCALE = "def scale(x):\n    return x * 2\n"

EDITS = {
    "helper of a helper": (
        "def deep(x):\n    return x * 2\n\ndef scale(x):\n    return deep(x) + 1\n",
        PLAIN, "x * 2", "x * 3",
    ),
    "helper by its module": (
        SCALE, "@ex.persist()\ndef prepare(a):\n    return helpers.scale(a)\n", "x * 2", "x * 3",
    ),
    "helper by getattr": (
        SCALE, "@ex\ndef prepare(a):\n    return getattr(helpers, 'scale')(a)\n", "x * 2", "x * 3",
    ),
    "the step itself": (SCALE, "@ex\ndef prepare(a):\n    return scale(a) + 1\n", "+ 1\n", "+ 2\n"),
    "recursion": (
        "def scale(x):\n    return x if x < 1 else 2 + scale(x - 1)\n",
        PLAIN, "2 + scale", "3 + scale",
    ),
    "functions that call each other": (
        "def odd(x):\n    return x > 0 and scale(x - 1)\n\n"
        "def scale(x):\n    return 7 if x == 0 else odd(x - 1) + 2\n",
        PLAIN, "+ 2", "+ 3",
    ),
    "method": (
        "class Model:\n    def __init__(self, x):\n        self.x = x\n\n"
        "    def fit(self):\n        return self.x * 2\n\n"
        "def scale(x):\n    return Model(x).fit()\n",
        PLAIN, "self.x * 2", "self.x * 3",
    ),
    "base class": (
        "class Base:\n    rate = 2\n    def fit(self, x):\n        return x * self.rate\n\n"
        "class Model(Base):\n    def fit(self, x):\n        return super().fit(x) + 1\n\n"
        "def scale(x):\n    return Model().fit(x)\n",
        PLAIN, "x * self.rate", "x - self.rate",
    ),
    "class without a method": (
        "class Config:\n    rate = 2\n\ndef scale(x):\n    return x * Config.rate\n",
        PLAIN, "rate = 2", "rate = 5",
    ),
    "dataclass": (
        "from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass Config:\n"
        "    rate: int = 2\n\ndef scale(x):\n    return x * Config().rate\n",
        PLAIN, "int = 2", "int = 5",
    ),
    "default argument": (
        "def scale(x, rate=2):\n    return x * rate\n", PLAIN, "rate=2", "rate=5",
    ),
    "lambda": (
        "double = lambda x: x * 2\n\ndef scale(x):\n    return double(x) + 1\n",
        PLAIN, "x * 2", "x * 3",
    ),
    "function in a closure": (
        "def make():\n    def inner(x):\n        return x * 2\n"
        "    def outer(x):\n        return inner(x) + 1\n    return outer\n\nscale = make()\n",
        PLAIN, "x * 2", "x * 3",
    ),
    "function around a closure": (
        "def make(rate):\n    def outer(x):\n        return x * rate\n    return outer\n\n"
        "scale = make(4)\n",
        PLAIN, "x * rate", "x - rate",
    ),
    "decorated helper": (
        "import functools\n\ndef twice(function):\n    @functools.wraps(function)\n"
        "    def inner(x):\n        return function(function(x))\n    return inner\n\n"
        "@twice\ndef scale(x):\n    return x * 2\n",
        PLAIN, "x * 2", "x * 3",
    ),
    "cached helper": (
        "import functools\n\n@functools.lru_cache\ndef scale(x):\n    return x * 2\n",
        PLAIN, "x * 2", "x * 3",
    ),
    "decorated step": (
        "import functools\n\ndef twice(function):\n    @functools.wraps(function)\n"
        "    def inner(x):\n        return function(function(x))\n    return inner\n\n"
        "def scale(x):\n    return x * 2\n",
        "@ex\n@helpers.twice\ndef prepare(a):\n    return a * 2\n", "a * 2", "a * 3",
    ),
    "partial": (
        "import functools\n\ndef base(x, rate):\n    return x * rate\n\n"
        "scale = functools.partial(base, rate=2)\n",
        PLAIN, "x * rate", "x - rate",
    ),
    "function that is gone": (
        SCALE + "\ndef extra(x):\n    return x + 5\n",
        "from reproduced_helpers import *\n@ex\ndef prepare(a):\n    return extra(scale(a))\n",
        "extra", "scale",
    ),
    "constant that is the same": (
        "RATE = {'a': 2}\n\ndef scale(x):\n    return x * RATE['a']\n", PLAIN, "x * R", "x - R",
    ),
    "annotation that is gone": (
        "from collections import OrderedDict\n\ndef scale(x: OrderedDict) -> OrderedDict:\n"
        "    return x * 2\n",
        PLAIN, "from collections import OrderedDict\n\ndef scale(x: OrderedDict) -> OrderedDict:\n"
        "    return x * 2\n", "def scale(x):\n    return x * 3\n",
    ),
    "random numbers": (
        "def scale(x, rng):\n    return x + rng.random()\n",
        "@ex\ndef prepare(a):\n    return scale(a, ex.rng)\n", "x + rng", "x - rng",
    ),
}  # fmt: skip


EDITS |= {
    "enumeration": (
        "import enum\n\nclass Kind(enum.Enum):\n    LOW = 2\n    HIGH = 4\n\n"
        "    def of(self, x):\n        return x * self.value\n\n"
        "def scale(x):\n    return Kind.LOW.of(x)\n",
        PLAIN, "LOW = 2", "LOW = 7",
    ),
    "named tuple": (
        "from typing import NamedTuple\n\nclass Pair(NamedTuple):\n"
        "    x: float\n    y: float = 2\n\n"
        "    def total(self):\n        return self.x + self.y\n\n"
        "def scale(x):\n    return Pair(x).total()\n",
        PLAIN, "self.x + self.y", "self.x - self.y",
    ),
    "kinds of methods": (
        "import functools\n\nclass Model:\n    @staticmethod\n    def base():\n        return 2\n\n"
        "    @classmethod\n    def make(cls):\n        return cls()\n\n"
        "    @property\n    def rate(self):\n        return Model.base() + 1\n\n"
        "    @rate.setter\n    def rate(self, value):\n        pass\n\n"
        "    @functools.cached_property\n    def twice(self):\n        return self.rate * 2\n\n"
        "def scale(x):\n    return Model.make().twice * x\n",
        PLAIN, "self.rate * 2", "self.rate * 3",
    ),
    "estimator": (
        "from sklearn.base import BaseEstimator\n\nclass Mean(BaseEstimator):\n"
        "    def __init__(self, rate=1):\n        self.rate = rate\n\n"
        "    def fit(self, x):\n        self.mean_ = sum(x) * self.rate\n        return self\n\n"
        "def scale(x):\n    return Mean(2).fit([x, x]).mean_\n",
        PLAIN, "sum(x) * self", "sum(x) - self",
    ),
    "helper that moved": (
        SCALE, PLAIN, "from reproduced_helpers import scale\n",
        "def scale(x):\n    return x * 9\n",
    ),
    "annotation that is used": (
        "def whole(x: int):\n    return x * 2\n\n"
        "def scale(x):\n    return whole.__annotations__['x'](whole(x))\n",
        PLAIN, "x * 2", "x * 3",
    ),
    "two lambdas": (
        "one = lambda x: x * 2\ntwo = lambda x: x + 7\n\ndef scale(x):\n"
        "    return one(two(x))\n",
        PLAIN, "x * 2", "x * 3",
    ),
    "partial as a step": (
        "import functools\n\ndef base(x, rate):\n    return x * rate\n\n"
        "scale = functools.partial(base, rate=2)\n",
        "import functools\nprepare = functools.partial(scale)\n"
        "prepare.__name__ = 'prepare'\nprepare = ex(prepare)\n",
        "x * rate", "x - rate",
    ),
    "generator": (
        "def numbers(n):\n    for i in range(n):\n        yield i * 2\n\n"
        "def scale(x):\n    return sum(numbers(x))\n",
        PLAIN, "i * 2", "i * 3",
    ),
}  # fmt: skip
OBJECTS = (
    "from dataclasses import dataclass\n\n@dataclass\nclass Config:\n    rate: int = 2\n\n"
    "class Model:\n    def __init__(self, x):\n"
    "        self.x = x\n        self.config = Config()\n\n"
    "    def __add__(self, other):\n        return self.x + other\n\n"
    "def scale(x):\n    return Model(x)\n"
)
EDITS["objects of a class"] = OBJECTS, PLAIN, "rate: int = 2", "rate: int = 5"


@pytest.mark.parametrize("name", EDITS)
def test_recorded_code_gives_the_same_output(project: Project, name: str) -> None:
    """After an edit today's code differs; the recorded code runs as it did, and is on record."""
    helpers, prepare, old, new = EDITS[name]
    write(project, helpers, prepare)
    edited = project.edit(old, new)
    current = run_anew(edited.result, code="current")
    assert not current.identical
    assert current.first_difference is not None
    assert current.first_difference.key == "prepare"
    assert "code" in {cause.kind for cause in current.first_difference.causes}
    recorded = run_anew(edited.result)
    assert recorded.identical, str(recorded)
    assert not recorded.functions
    assert not any(step.changes for step in recorded.steps)
    assert recorded.notes == ()


def refused(project: Project, result: Any, **keywords: Any) -> str:
    """Run the recorded code, which must be refused before a trial begins, and give the reason."""
    latest = project.ex.trial_id
    with pytest.raises(ReproductionError) as caught:
        run_anew(result, **keywords)
    assert project.ex.trial_id == latest
    return str(caught.value)


INSIDE = (
    "def make():\n    def outer(x):\n        return x * 2\n    return outer\n\nscale = make()\n"
)
REFUSED = {
    "class with variables around it": (
        "def make(rate):\n    class Model:\n        def fit(self, x):\n"
        "            return x * rate\n    return Model\n\nModel = make(3)\n\n"
        "def scale(x):\n    return Model().fit(x)\n",
        PLAIN, "x * rate", "x - rate", "Model.fit.rate",
    ),
    "constant": (
        "RATE = 2\n\ndef scale(x):\n    return x * RATE\n", PLAIN, "RATE = 2", "RATE = 3",
        "reproduced_helpers.RATE",
    ),
    "constant that is gone": (
        "RATE = 2\n\ndef scale(x):\n    return x * RATE\n", PLAIN,
        "RATE = 2\n\ndef scale(x):\n    return x * RATE\n", "def scale(x):\n    return x * 3\n",
        "reproduced_helpers.RATE",
    ),
    "value in a closure": (
        "def make(rate):\n    def outer(x):\n        return x * rate\n    return outer\n\n"
        "scale = make(4)\n",
        PLAIN, "make(4)", "make(5)",
        "reproduced_helpers.make.<locals>.outer.rate has not the value",
    ),
    "object": (
        "class Model:\n    def fit(self, x):\n        return x * 2\n\nMODEL = Model()\n\n"
        "def scale(x):\n    return MODEL.fit(x)\n",
        PLAIN, "x * 2", "x * 3", "reproduced_helpers.MODEL",
    ),
    "function in a function that is gone": (
        INSIDE, PLAIN, INSIDE, "def scale(x):\n    return x * 3\n",
        "reproduced_helpers.make.<locals>.outer",
    ),
    "decorator": (
        "import functools\n\ndef twice(function):\n    @functools.wraps(function)\n"
        "    def inner(x):\n        return function(function(x))\n    return inner\n\n"
        "@twice\ndef scale(x):\n    return x * 2\n",
        PLAIN, "function(function(x))", "function(x)", "twice.<locals>.inner",
    ),
    "import in a step": (
        SCALE, "@ex\ndef prepare(a):\n    import reproduced_helpers\n"
        "    return reproduced_helpers.scale(a)\n",
        "x * 2", "x * 3", "reproduced_helpers",
    ),
    "module as a whole": (
        SCALE, "@ex\ndef prepare(a):\n    return vars(helpers)['scale'](a)\n",
        "x * 2", "x * 3", "module reproduced_helpers is used as a whole",
    ),
    "object as a step": (
        "class Scale:\n    __name__ = 'prepare'\n\n    def __call__(self, x):\n"
        "        return x * 2\n\nscale = Scale()\n",
        "prepare = ex(scale)\n", "x * 2", "x * 3", "whose content is not recorded",
    ),
    "no source": (
        "exec('def scale(x): return x * 2')\n", PLAIN, "x * 2", "x * 3", "no source",
    ),
    "import that is gone": (
        "import numpy as np\n\ndef scale(x):\n    return np.multiply(x, 2)\n", PLAIN,
        "import numpy as np\n\ndef scale(x):\n    return np.multiply(x, 2)\n",
        "def scale(x):\n    return x * 3\n", "reproduced_helpers.np",
    ),
    "private names of a class": (
        "class Model:\n    __rate = 2\n    def fit(self, x):\n        return x * self.__rate\n\n"
        "def scale(x):\n    return Model.fit(Model(), x)\n\nfit = Model.fit\n",
        "@ex\ndef prepare(a):\n    return helpers.fit(helpers.Model(), a)\n",
        "x * self", "x - self", "private names",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_as_it_was_is_refused(project: Project, name: str) -> None:
    """Where the record does not suffice, nothing runs, and step and reason are told."""
    helpers, prepare, old, new, reason = REFUSED[name]
    write(project, helpers, prepare)
    edited = project.edit(old, new)
    message = refused(project, edited.result)
    assert message.startswith("Step 'prepare' cannot be made as it was in trial 1: ")
    assert reason in message
    assert "code='current'" in message
    # The trial can still be run again with today's code.
    assert run_anew(edited.result, code="current").second == 2


def test_helper_module_that_no_longer_imports(project: Project) -> None:
    """A recorded helper whose module cannot be imported any more is refused with the reason."""
    write(project, SCALE, PLAIN)
    steps = STEPS.format(
        store=str(project.folder / "store"), code="@ex\ndef prepare(a):\n    return a\n"
    )
    steps = steps.replace("import reproduced_helpers as helpers\n", "")
    steps = steps.replace("from reproduced_helpers import scale\n", "")
    edited = project.write("", steps)
    sys.modules.pop("reproduced_helpers")
    (project.folder / "reproduced_helpers.py").write_text("raise OSError('no licence')\n")
    message = refused(project, edited.result)
    assert "reproduced_helpers cannot be imported any more: OSError: no licence" in message


def test_helper_module_that_was_deleted(project: Project) -> None:
    """Helpers of a module that is gone are made of the record; what else it held is missed."""
    write(project, SCALE, PLAIN)
    steps = STEPS.format(
        store=str(project.folder / "store"), code="@ex\ndef prepare(a):\n    return a\n"
    )
    steps = steps.replace("import reproduced_helpers as helpers\n", "")
    steps = steps.replace("from reproduced_helpers import scale\n", "")
    edited = project.write("", steps)
    sys.modules.pop("reproduced_helpers")
    (project.folder / "reproduced_helpers.py").unlink()
    importlib.invalidate_caches()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("reproduced_helpers")
    assert not run_anew(edited.result, code="current").identical
    assert run_anew(edited.result).identical


def test_unchanged_code_runs_as_it_is(project: Project) -> None:
    """Without a change today's functions are run, whatever they are made of."""
    module = write(project, "exec('def scale(x): return x * 2')\n", PLAIN)
    comparison = run_anew(module.result)
    assert comparison.identical
    assert comparison.notes == ()


def test_another_wiring_is_refused(project: Project) -> None:
    """A graph whose steps take others than they did cannot be built of the record."""
    write(project, SCALE, PLAIN)
    edited = project.edit("total(prepare(a))", "total(a)")
    message = refused(project, edited.result)
    assert "Step 'prepare' of trial 1 takes a, and is not there in this result" in message


def test_parameter_in_another_place_is_refused(project: Project) -> None:
    """A step that takes another parameter than it did is named with what it took."""
    write(project, SCALE, PLAIN)
    edited = project.edit("(prepare(a))", "(prepare(ex.parameter('b', default=3)))")
    message = refused(project, edited.result)
    assert "Step 'prepare' of trial 1 takes a, and takes b in this result" in message


def test_other_version_of_a_package_is_noted(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The installed package is used, and the comparison says which version there was."""
    numpy = "import numpy as np\n\ndef scale(x):\n    return float(np.multiply(x, 2))\n"
    with monkeypatch.context() as patch:
        patch.setattr("daskperiment.capture.walk.distribution", lambda _: ("numpy", "0.1"))
        write(project, numpy, PLAIN)
    edited = project.write()
    import numpy as np

    comparison = run_anew(edited.result)
    assert comparison.identical
    assert f"package numpy was 0.1 in the trial and is {np.__version__}" in str(comparison)
    changed = run_anew(project.edit("2))", "3))").result)
    assert changed.identical
    assert changed.notes == comparison.notes


def test_unsigned_code_is_not_run_with_a_signing_key(project: Project) -> None:
    """Code that anyone may have put in the store is refused where only what is signed counts."""
    module = write(project, SCALE, PLAIN)
    with dask.config.set({"daskperiment.signing-key": "secret"}):
        with pytest.warns(StoreWarning, match="Nothing vouches for trials 1:"):
            assert run_anew(module.result).identical
        edited = project.edit("x * 2", "x * 3")
        with pytest.raises(UntrustedObjectError, match=r"'prepare' in trial 1 .* not signed"):
            run_anew(edited.result)
    assert project.ex.trial_id == 2


def test_script(tmp_path: Path) -> None:
    """Steps of a script, whose module has no name to import it by, are made anew as well."""
    script = tmp_path / "script.py"
    text = STEPS.format(store=str(tmp_path / "store"), code=SCALE + "\n" + PLAIN)
    text = "\n".join(line for line in text.splitlines() if "reproduced_helpers" not in line)
    script.write_text(text + "\nresult.compute(scheduler='synchronous')\n")
    run_script(script)
    after = text.replace("x * 2", "x * 3").replace("def scale", "def scaled")
    after = after.replace("return scale(", "return scaled(")
    script.write_text(
        after + "\nfrom daskperiment.reproduce import reproduce\n"
        "print(reproduce(result, 1, 'recorded').identical)\n"
    )
    assert run_script(script) == "True\n"


def run_script(script: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(daskperiment.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True, text=True, cwd=script.parent, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_state_is_noted(project: Project) -> None:
    """A value that the code itself changes is taken as it is, and that is said."""
    counter = "SEEN = []\n\ndef scale(x):\n    SEEN.append(x)\n    return x * 2\n"
    write(project, counter, PLAIN)
    comparison = run_anew(project.edit("x * 2", "x * 3").result)
    assert comparison.identical
    assert any(
        "reproduced_helpers.SEEN changes or has no fingerprint" in note for note in comparison.notes
    )


@pytest.mark.parametrize(
    "name", ["method", "function in a closure", "helper by its module", "objects of a class"]
)
def test_recorded_code_runs_in_other_processes(project: Project, name: str) -> None:
    """What is made of the record travels to other processes, where today's code is not taken."""
    helpers, prepare, old, new = EDITS[name]
    write(project, helpers, prepare)
    edited = project.edit(old, new)
    assert run_anew(edited.result, scheduler="processes", num_workers=1).identical


def test_steps_defined_in_a_function(ex: daskperiment.Experiment) -> None:
    """Steps that stand in a function are made anew with the variables around them."""

    def build(factor: int, edited: bool) -> Any:
        def helper(x: float) -> float:
            return x * factor

        @ex
        def first(a: int) -> float:
            return helper(a) + float(ex.rng.random())

        if edited:

            @ex
            def first(a: int) -> float:
                return helper(a) - float(ex.rng.random())

        @ex.result
        def last(x: float) -> float:
            return x

        return last(first(a))

    a = ex.parameter("a", default=3)
    build(2, edited=False).compute(scheduler="synchronous", seed=1)
    edited = build(2, edited=True)
    assert not run_anew(edited, code="current").identical
    comparison = run_anew(edited)
    assert comparison.identical
    assert not comparison.functions
    with pytest.raises(ReproductionError, match="factor"):
        run_anew(build(5, edited=True))


def test_function_between_steps(project: Project) -> None:
    """A function that is no step is not on record, and that is said if it takes part."""
    between = PLAIN.replace("prepare", "first") + (
        "\nimport dask\n\ndef plain(x):\n    return x + 1\n\n"
        "def prepare(a):\n    return dask.delayed(plain)(first(a))\n"
    )
    write(project, SCALE, between)
    comparison = run_anew(project.edit("x * 2", "x * 3").result)
    assert comparison.identical
    assert comparison.notes == ("'plain' is no step, so its code is not recorded: today's is run",)


def test_source_of_what_was_made_is_on_record(project: Project) -> None:
    """The code that a trial with recorded code ran shows like that of any trial."""
    write(project, SCALE, PLAIN)
    run_anew(project.edit("x * 2", "x * 3").result)
    assert "return x * 2" in project.ex.get_code(2)
    assert "return x * 3" not in project.ex.get_code(2)


def test_missing_record_of_the_code(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the record of the code is lost, the message says so and what can be done."""
    module = write(project, SCALE, PLAIN)
    digest = trial_or_raise(project.ex._store, 1).begun.code
    get = FileStore.get

    def lost(store: FileStore, asked: str) -> Any:
        if asked == digest:
            raise KeyError(asked)
        return get(store, asked)

    monkeypatch.setattr(FileStore, "get", lost)
    message = refused(project, module.result)
    assert "The recorded code of trial 1 cannot be read: it is not in the store" in message
    assert "code='current'" in message


def test_other_trials_are_not_compared_with_it(project: Project) -> None:
    """The code of a trial that was run again counts as no change, here or in a later process."""
    write(project, SCALE, PLAIN)
    edited = project.edit("x * 2", "x * 3")
    with pytest.warns(CodeChangedWarning, match="'prepare'"):
        edited.result.compute(scheduler="synchronous")
    assert run_anew(edited.result).identical
    edited.result.compute(scheduler="synchronous")
    assert run_anew(edited.result).identical
    close_recorders()
    experiment._EXPERIMENTS.clear()
    project.write().result.compute(scheduler="synchronous")


def test_signed_code_is_run_with_its_key(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that was recorded with the key is run with it; another key, or other code, is not."""
    with dask.config.set({"daskperiment.signing-key": "secret"}):
        write(project, SCALE, PLAIN)
        edited = project.edit("x * 2", "x * 3")
        assert run_anew(edited.result).identical
        with (
            dask.config.set({"daskperiment.signing-key": "another secret"}),
            pytest.raises(UntrustedObjectError, match="signature does not fit"),
        ):
            run_anew(edited.result)
        get = FileStore.get
        digest = next(
            decode(one.body, Begun).code for one in project.ex._store.read("trials")
            if one.id == "begun"
        )  # fmt: skip

        def other(store: FileStore, asked: str) -> Any:
            found = get(store, asked)
            return bytes(found).replace(b"x * 2", b"x * 4") if asked == digest else found

        monkeypatch.setattr(FileStore, "get", other)
        with pytest.raises((UntrustedObjectError, ReproductionError)):
            run_anew(edited.result)
