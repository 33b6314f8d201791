"""Of values that hold the user's code, it is told whether that changed or the data."""

from __future__ import annotations

import importlib
import sys

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::daskperiment.errors.CodeChangedWarning")

SOURCE = """
import dataclasses
import functools

RATE = 3


def helper(x):
    return x + 5


def scaled(x):
    return helper(x) * 2


class Model:
    limit = 7

    def __init__(self, weight):
        self.weight = weight

    def run(self, x):
        return self.weight * x + RATE


class Child(Model):
    pass


@dataclasses.dataclass
class Settings:
    share: float
    model: object = None

    def run(self, x):
        return self.share * helper(x)


def make(factor):
    def inner(x):
        return x * factor + 11

    return inner


VALUE = {value}
"""
FORMS = {
    "a function": "scaled",
    "a partial": "functools.partial(scaled, 5)",
    "functions in a list": "[len, scaled]",
    "functions in a dict": "{'one': scaled, 'two': scaled}",
    "a lambda": "lambda x: helper(x) * 2",
    "a closure": "make(4)",
    "an instance": "Model(2)",
    "an instance of a subclass": "Child(2)",
    "an instance in a tuple": "(1, Model(2))",
    "a bound method": "Model(2).run",
    "a class": "Model",
    "a dataclass": "Settings(2)",
    "an instance in a dataclass": "Settings(2, Model(2))",
    "a set": "frozenset([Model])",
}
HELPER, RUN = ("x + 5", "x + 6"), ("x + RATE", "x - RATE")
RATE, LIMIT = ("RATE = 3", "RATE = 4"), ("limit = 7", "limit = 8")
# Form, edits, and what is told of the value.
CASES = [
    *((form, [HELPER], "code of generated.helper changed")
      for form in ("a function", "a partial", "functions in a list", "functions in a dict",
                   "a lambda", "a dataclass")),
    *((form, [RUN], "code of generated.Model changed")
      for form in ("an instance", "an instance of a subclass", "an instance in a tuple",
                   "a bound method", "a class", "an instance in a dataclass", "a set")),
    *((form, [RATE], "the value of generated.RATE changed")
      for form in ("an instance", "a class", "a bound method")),
    ("an instance", [LIMIT], "code of generated.Model changed"),
    ("a closure", [("+ 11", "+ 12")], "code of generated.make.<locals>.inner changed"),
    ("a closure", [("make(4)", "make(5)")],
     "the value of generated.make.<locals>.inner.factor changed"),
    ("an instance", [("Model(2)", "Model(3)")], "other data"),
    ("a bound method", [("Model(2)", "Model(3)")], "other data"),
    ("a partial", [("scaled, 5", "scaled, 6")], "other data"),
    ("an instance", [("Model(2)", "Model(3)"), RUN],
     "other data and code of generated.Model changed"),
    ("a dataclass", [RUN, HELPER], "code of generated.helper changed"),
    ("a function", [HELPER, ("* 2", "* 3")], "code of generated.scaled, generated.helper changed"),
]  # fmt: skip


def named(case):
    """Return what a case is called."""
    return f"{case[0]} {' '.join(new for _, new in case[1])}"


@pytest.fixture
def value_of(tmp_path, monkeypatch):
    """Give the value of a module that is written and imported anew."""
    found = []

    def value_of(form, edits=()):
        text = SOURCE.replace("{value}", FORMS[form])
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        folder = tmp_path / f"version{len(found)}"
        folder.mkdir()
        (folder / "generated.py").write_text(text)
        monkeypatch.syspath_prepend(folder)
        sys.modules.pop("generated", None)
        module = importlib.import_module("generated")
        found.append(module)
        return module.VALUE

    yield value_of
    sys.modules.pop("generated", None)


def told(ex, build, first, second):
    """Return what explain says before the second trial, and compare after it."""
    build(first()).compute()
    result = build(second())
    why = ex.explain(result)["use"].reason
    result.compute()
    return why, ex.compare(1, 2).explanation


@pytest.mark.parametrize(
    ("case", "way"),
    [(each, "argument") for each in CASES] + [(each, "parameter") for each in CASES[5::2]],
    ids=lambda each: each if isinstance(each, str) else named(each),
)
def test_what_changed_of_a_value_is_told(ex, value_of, case, way):
    """Both name the function, class or constant, or say that the data are others; nothing else."""
    form, edits, words = case

    @ex.persist(reuse=True)
    def use(value):
        return id(value)

    given = ex.parameter("value", default=None)

    def build(value):
        if way == "argument":
            return ex.result(float)(use(value))
        ex.set_parameters(value=value)
        return ex.result(float)(use(given))

    why, found = told(ex, build, lambda: value_of(form), lambda: value_of(form, edits))
    if words == "other data" and form == "a bound method" and way == "argument":
        words, name = "Model.run: other data", f"{way} value "
    else:
        name = f"{way} value: "
    assert why == name + words
    assert found.endswith(f"first in step 'use': {name}{words}.")


@pytest.mark.parametrize("way", ["argument", "parameter"])
def test_the_same_once_more(ex, value_of, way):
    """A value that is made again is the same, though its repr has another address."""

    @ex.persist(reuse=True)
    def use(value):
        return 1

    given = ex.parameter("value", default=None)
    for _ in range(2):
        value = value_of("an instance in a dataclass")
        if way == "parameter":
            ex.set_parameters(value=value)
        result = ex.result(float)(use(value if way == "argument" else given))
        result.compute()
    assert ex.explain(result)["use"].verdict == "hit"
    assert not ex.compare(1, 2).differs


CODE = """
REGISTRY = {}


def register(cls):
    REGISTRY[cls.__name__] = cls
    return cls


@register
class Model:
    rate = 2

    def run(self, x):
        return x + self.rate


MODEL = Model()
MODELS = {"one": MODEL, "two": Model}


def step(value, model):
    return READ
"""
READS = {
    "an object and its attribute": "MODEL.run(value) + MODEL.rate",
    "a registry that a decorator fills": "REGISTRY['Model']().run(value)",
    "a table of objects": "MODELS['one'].run(value)",
    "what the argument is of": "model.run(value) + isinstance(model, Model)",
}


@pytest.mark.parametrize("edit", [("x + self", "x - self"), ("rate = 2", "rate = 3")])
@pytest.mark.parametrize("read", READS)
def test_one_edit_is_one_cause(ex, tmp_path, read, edit):
    """What only holds code that changed is not called changed beside it."""

    def build(text):
        names = {"__name__": "tests.generated_step"}
        file = tmp_path / f"text{len(list(tmp_path.iterdir()))}.py"
        file.write_text(text)
        exec(compile(text, str(file), "exec"), names)
        step = ex.persist(reuse=True)(names["step"])
        return ex.result(float)(step(1, names["MODEL"]))

    text = CODE.replace("READ", READS[read])
    first, second = text, text.replace(*edit)
    build(first).compute()
    result = build(second)
    assert ex.explain(result)["step"].reason == "helper tests.generated_step.Model() changed"
    result.compute()
    causes = ex.compare(1, 2).first_difference.causes
    assert [(cause.kind, cause.name) for cause in causes] == [
        ("code", "tests.generated_step.Model")
    ]
