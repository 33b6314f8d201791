"""Whatever a step's behaviour hangs on, in the odd ways of real programs, an edit of it is seen."""

from __future__ import annotations

import sys
import textwrap

import pandas as pd  # noqa: F401  # what the modules below import is loaded only once
import pytest
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing  # noqa: F401

from daskperiment.capture.code import CodeCapture

CALLS = "def step(x):\n    return {}\n"

EDITS = {
    # What a name of another's code stands for.
    "function by another name": (
        "from statistics import mean as average\n" + CALLS.format("average(x)"),
        "import mean", "import median",
    ),
    "class by another name": (
        "from decimal import Decimal as Number\n" + CALLS.format("Number(x)"),
        "decimal import Decimal", "fractions import Fraction",
    ),
    "builtin by another name": (
        "from math import sin as wave\n" + CALLS.format("wave(x)"), "sin as", "cos as",
    ),
    "module by another name": (
        "import json as form\n" + CALLS.format("form.dumps(x)"), "json", "pickle",
    ),
    "assigned function": (
        "import numpy as np\nWAY = np.sum\n" + CALLS.format("WAY(x)"), "np.sum", "np.mean",
    ),
    "assigned ufunc": (
        "import numpy as np\nWAY = np.sin\n" + CALLS.format("WAY(x)"), "np.sin", "np.cos",
    ),
    "assigned builtin": ("WAY = max\n" + CALLS.format("WAY(x)"), "max", "min"),
    "assigned type": ("WAY = int\n" + CALLS.format("WAY(x)"), "int", "float"),
    "partial of another's": (
        "import functools, statistics\nWAY = functools.partial(statistics.mean)\n"
        + CALLS.format("WAY(x)"),
        "statistics.mean", "statistics.median",
    ),
    "default": (
        "import statistics\ndef step(x, way=statistics.mean):\n    return way(x)\n",
        "statistics.mean", "statistics.median",
    ),
    "closure": (
        "import statistics\ndef make(way):\n    def step(x):\n        return way(x)\n"
        "    return step\nstep = make(statistics.mean)\n",
        "statistics.mean", "statistics.median",
    ),
    "method of a text": ("WAY = 'a'.join\n" + CALLS.format("WAY(x)"), "'a'", "'b'"),
    "method of an object": (
        "import random\nWAY = random.Random(1).random\n" + CALLS.format("WAY()"), "(1)", "(2)",
    ),
    "function put on another's module": (
        "import numpy as np\ndef own(x):\n    return 1\nnp.linalg.own_norm = own\n"
        + CALLS.format("np.linalg.own_norm(x)"),
        "return 1", "return 2",
    ),
    # Decorators.
    "decorator that is a class": (
        """
        import functools
        class Twice:
            def __init__(self, function):
                functools.update_wrapper(self, function)
                self.function = function
            def __call__(self, x):
                return 2 * self.function(x)
        @Twice
        def helper(x):
            return x
        def step(x):
            return helper(x)
        """,
        "2 * self", "3 * self",
    ),
    "setting of a decorator that is a class": (
        """
        import functools
        class Times:
            def __init__(self, function, factor):
                functools.update_wrapper(self, function)
                self.function, self.factor = function, factor
            def __call__(self, x):
                return self.factor * self.function(x)
        def helper(x):
            return x
        helper = Times(helper, 3)
        def step(x):
            return helper(x)
        """,
        "helper, 3", "helper, 4",
    ),
    "setting of a decorator": (
        """
        import functools
        TIMES = 3
        def times(factor):
            def decorate(function):
                @functools.wraps(function)
                def inner(x):
                    return factor * function(x)
                return inner
            return decorate
        @times(TIMES)
        def helper(x):
            return x
        def step(x):
            return helper(x)
        """,
        "TIMES = 3", "TIMES = 4",
    ),
    "single dispatch": (
        """
        import functools
        @functools.singledispatch
        def helper(x):
            return x
        @helper.register(int)
        def _(x):
            return x + 1
        def step(x):
            return helper(x)
        """,
        "x + 1", "x + 2",
    ),
    "context manager": (
        """
        import contextlib
        @contextlib.contextmanager
        def helper(x):
            yield x + 1
        def step(x):
            with helper(x) as y:
                return y
        """,
        "x + 1", "x + 2",
    ),
    # What hangs on functions and classes.
    "attribute of a function": (
        "def helper(x):\n    return x * helper.factor\nhelper.factor = 3\n"
        + CALLS.format("helper(x)"),
        "factor = 3", "factor = 4",
    ),
    "order of a dict": (
        "TABLE = {'a': 1, 'b': 2}\n" + CALLS.format("list(TABLE)"),
        "{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}",
    ),
    "method of an integer enum": (
        "import enum\nclass Kind(enum.IntEnum):\n    ONE = 1\n    def name_it(self):\n"
        "        return 'a'\nKIND = Kind.ONE\n" + CALLS.format("KIND.name_it()"),
        "'a'", "'b'",
    ),
    "descriptor": (
        "class Always:\n    def __get__(self, owner, kind=None):\n        return 1\n"
        "class Thing:\n    value = Always()\n" + CALLS.format("Thing().value"),
        "return 1", "return 2",
    ),
    "partial method": (
        """
        import functools
        def helper(x):
            return x + 1
        class Thing:
            def add(self, x):
                return helper(x)
            four = functools.partialmethod(add, 4)
        def step(x):
            return Thing().four()
        """,
        "x + 1", "x + 2",
    ),
    "made by a field": (
        "import dataclasses\nSTART = 1\n@dataclasses.dataclass\nclass Thing:\n"
        "    items: list = dataclasses.field(default_factory=lambda: [START])\n"
        + CALLS.format("Thing().items"),
        "START = 1", "START = 2",
    ),
    "class made by a call": (
        "import dataclasses\nThing = dataclasses.make_dataclass(\n"
        "    'Thing', [('value', int, dataclasses.field(default=1))])\n"
        + CALLS.format("Thing().value"),
        "default=1", "default=2",
    ),
    "metaclass": (
        "class Meta(type):\n    def value(cls):\n        return 1\n"
        "class Thing(metaclass=Meta):\n    pass\n" + CALLS.format("Thing.value()"),
        "return 1", "return 2",
    ),
    "coroutine": (
        "import asyncio\nasync def helper():\n    return 1\n"
        + CALLS.format("asyncio.run(helper())"),
        "return 1", "return 2",
    ),
    "functions that call each other": (
        "def even(x):\n    return odd(x - 1) if x else 1\ndef odd(x):\n"
        "    return even(x - 1) if x else 0\n" + CALLS.format("even(x)"),
        "else 0", "else 2",
    ),
    "estimator": (
        "from sklearn.linear_model import Ridge\nMODEL = Ridge(alpha=1)\n"
        + CALLS.format("MODEL.fit(x)"),
        "alpha=1", "alpha=2",
    ),
    "function in a pipeline": (
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import FunctionTransformer\ndef double(x):\n    return 2 * x\n"
        "MODEL = make_pipeline(FunctionTransformer(double))\n" + CALLS.format("MODEL.fit(x)"),
        "2 * x", "3 * x",
    ),
    "universal function of one's own": (
        "import numpy as np\ndef helper(x):\n    return x + 1\nADD = np.frompyfunc(helper, 1, 1)\n"
        + CALLS.format("ADD(x)"),
        "x + 1", "x + 2",
    ),
    "defaults set on a named tuple": (
        "import collections\nThing = collections.namedtuple('Thing', 'a b')\n"
        "Thing.__new__.__defaults__ = (1, 5)\n" + CALLS.format("Thing().a"),
        "(1, 5)", "(2, 5)",
    ),
    "defaults set on a dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass Thing:\n    a: int = 3\n"
        "    b: list = dataclasses.field(default_factory=list)\n"
        "Thing.__init__.__defaults__ = (1, *Thing.__init__.__defaults__[1:])\n"
        + CALLS.format("Thing().a"),
        "= (1,", "= (2,",
    ),
    "registered with an abstract class": (
        "import abc\nclass Base(abc.ABC):\n    pass\n"
        "class One:\n    pass\nclass Two(One):\n    pass\n"
        "Base.register(One)\n" + CALLS.format("isinstance(One(), Base)"),
        "register(One)", "register(Two)",
    ),
    # What users put on the classes and modules of others, and into Python's own names.
    "method put on another's class": (
        "import string\nstring.Template.own_one = lambda self: 1\n"
        + CALLS.format("string.Template('').own_one()"),
        "self: 1", "self: 2",
    ),
    "property put on another's class": (
        "from string import Template\nTemplate.own_two = property(lambda self: 1)\n"
        + CALLS.format("Template('').own_two"),
        "self: 1", "self: 2",
    ),
    "method put on a base": (
        "import string\nstring.Formatter.own_three = lambda self: 1\n"
        "class Mine(string.Formatter):\n    pass\n" + CALLS.format("Mine().own_three()"),
        "self: 1", "self: 2",
    ),
    "value put on another's class": (
        "import string\nstring.Template.own_four = 1\n" + CALLS.format("string.Template.own_four"),
        "= 1", "= 2",
    ),
    "value put on another's module": (
        "import string\nstring.own_five = 1\n" + CALLS.format("string.own_five"), "= 1", "= 2",
    ),
    "function known everywhere": (
        "import builtins\nbuiltins.own_six = lambda: 1\n" + CALLS.format("own_six()"),
        "lambda: 1", "lambda: 2",
    ),
    "arguments of the script": (
        "import sys\nsys.argv = ['a', '--rate', '1']\n" + CALLS.format("sys.argv[2]"),
        "'1'", "'2'",
    ),
    "arguments that are parsed": (
        "import argparse, sys\nsys.argv = ['a', '--rate', '1']\ndef step(x):\n"
        "    parser = argparse.ArgumentParser()\n    parser.add_argument('--rate')\n"
        "    return parser.parse_args().rate\n",
        "'1'", "'2'",
    ),
    "delayed by Dask": (
        "import dask\n@dask.delayed\ndef helper(x):\n    return x + 1\n"
        + CALLS.format("helper(x)"),
        "x + 1", "x + 2",
    ),
    # What is named by a text.
    "one of all variables": (
        "def do_a():\n    return 1\n" + CALLS.format("globals()[f'do_{x}']()"),
        "return 1", "return 2",
    ),
    "all variables": (
        "def do_a():\n    return 1\n"
        + CALLS.format("[v() for k, v in [*globals().items()] if k.startswith('do_')]"),
        "return 1", "return 2",
    ),
    "variables in a text": ("RATE = 1\n" + CALLS.format("'%(RATE)s' % globals()"), "= 1", "= 2"),
    "one of its own module": (
        "import sys\ndef do_a():\n    return 1\n"
        + CALLS.format("getattr(sys.modules[__name__], 'do_' + x)()"),
        "return 1", "return 2",
    ),
    "expression in a variable": (
        "TEXT = 'RATE + 1'\nRATE = 1\n" + CALLS.format("eval(TEXT)"), "RATE = 1", "RATE = 2",
    ),
    "variable in a query": (
        "RATE = 1\n" + CALLS.format("x.query('a > @RATE')"), "RATE = 1", "RATE = 2",
    ),
    "variable in an expression of pandas": (
        "import pandas as pd\nRATE = 1\n" + CALLS.format("pd.eval('RATE + 1')"),
        "RATE = 1", "RATE = 2",
    ),
    "item of globals": ("RATE = 1\n" + CALLS.format("globals()['RATE']"), "RATE = 1", "RATE = 2"),
    "item of vars": ("RATE = 1\n" + CALLS.format("vars().get('RATE')"), "RATE = 1", "RATE = 2"),
    "expression that is text": (
        "RATE = 1\n" + CALLS.format("eval('RATE + 1')"), "RATE = 1", "RATE = 2",
    ),
    "statement that is text": (
        "def helper():\n    return 1\ndef step(x):\n    exec('helper()')\n", "return 1", "return 2",
    ),
    "docstring that is read": (
        "def helper():\n    'one'\n" + CALLS.format("helper.__doc__"), "'one'", "'two'",
    ),
    "docstring of a class that is read": (
        "class Thing:\n    'one'\n" + CALLS.format("Thing.__doc__"), "'one'", "'two'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "old", "new"), EDITS.values(), ids=EDITS)
def test_edit_of_one_module(write, step_of, text, old, new):
    """An edit that the step's own source does not show is seen."""
    text = textwrap.dedent(text)
    before = step_of(write("usercode", text).step)
    assert text.count(old) == 1
    assert step_of(write("usercode", text.replace(old, new)).step).fingerprint != before.fingerprint
    assert step_of(write("usercode", text).step) == before
    assert None not in before.constants.values()


OTHERS = {
    "star": ("from helpers import *\n" + CALLS.format("f(x)"), "def f(x):\n    return {}\n"),
    "dotted": ("import helpers as h\n" + CALLS.format("h.f(x)"), "def f(x):\n    return {}\n"),
    "by text": (
        "import helpers\n" + CALLS.format("getattr(helpers, 'f')(x)"),
        "def f(x):\n    return {}\n",
    ),
    "table of modules": (
        "import sys, helpers\n" + CALLS.format("sys.modules['helpers'].f(x)"),
        "def f(x):\n    return {}\n",
    ),
    "by a text that is put together": (
        "import helpers\n" + CALLS.format("getattr(helpers, f'{x}')(x)"),
        "def f(x):\n    return {}\n",
    ),
    "by a part of a text": (
        "import helpers\n" + CALLS.format("getattr(helpers, 'do_' + x)(x)"),
        "def do_f(x):\n    return {}\n",
    ),
    "imported by a variable": (
        "import importlib\nNAME = 'helpers'\n" + CALLS.format("importlib.import_module(NAME).f(x)"),
        "def f(x):\n    return {}\n",
    ),
    "located by a setting": (
        "import pydoc\nSETTINGS = {'model': {'_target_': 'helpers.f'}}\n"
        + CALLS.format("pydoc.locate(SETTINGS['model']['_target_'])(x)"),
        "def f(x):\n    return {}\n",
    ),
    "resolved": (
        "import pkgutil\n" + CALLS.format("pkgutil.resolve_name('helpers:f')(x)"),
        "def f(x):\n    return {}\n",
    ),
    "dict of a module": (
        "import helpers\n" + CALLS.format("helpers.__dict__['f'](x)"),
        "def f(x):\n    return {}\n",
    ),
    "imported by text": (
        "import importlib\n" + CALLS.format("importlib.import_module('helpers').f(x)"),
        "def f(x):\n    return {}\n",
    ),
    "one of two": (
        "try:\n    import nowhere_to_be_found as h\nexcept ImportError:\n    import helpers as h\n"
        + CALLS.format("h.f(x)"),
        "def f(x):\n    return {}\n",
    ),
    "what a call returns": (
        "import helpers\n" + CALLS.format("helpers.make().value"),
        "class Thing:\n    value = {}\ndef make():\n    return Thing()\n",
    ),
}


@pytest.mark.parametrize(("text", "helpers"), OTHERS.values(), ids=OTHERS)
def test_edit_of_another_module(write, step_of, text, helpers):
    """However a helper is imported and reached, its edit is seen."""
    found = []
    for value in (1, 2, 1):
        write("helpers", helpers.format(value))
        found.append(step_of(write("usercode", text).step))
    assert found[0].fingerprint != found[1].fingerprint
    assert found[0] == found[2]


def test_order_of_imports(write, step_of):
    """Which of the modules was imported first says nothing of the code."""
    found = []
    for order in (("first", "second"), ("second", "first")):
        for name in ("first", "second", "usercode"):
            sys.modules.pop(name, None)
        for name in order:
            write(name, f"RATE = 1\ndef {name}(x):\n    return x + RATE\n")
        lines = "".join(f"from {name} import {name}\n" for name in order)
        found.append(step_of(write("usercode", lines + CALLS.format("first(second(x))")).step))
    assert found[0] == found[1]


def test_other_names_are_not_reached_by_text(write, step_of):
    """Where the text that names something is there, nothing else of a module counts."""
    text = "import helpers\n" + CALLS.format("getattr(helpers, 'RATE')")
    found = []
    for value in (1, 2):
        write("helpers", f"RATE = 1\nOTHER = {value}\n")
        found.append(step_of(write("usercode", text).step))
    assert found[0] == found[1]


LATE = {
    "by text": "import config\n" + CALLS.format("getattr(config, 'RATE')"),
    "late": "def step(x):\n    import config\n    return config.RATE\n",
    "late name": "def step(x):\n    from config import RATE\n    return RATE\n",
}


@pytest.mark.parametrize("text", LATE.values(), ids=LATE)
@pytest.mark.parametrize(
    ("literal", "other"), [("1", "2"), ("{'a': 1}", "{'a': 2}"), ("{1, 2}", "{3}")]
)
def test_module_set_from_outside(write, step_of, text, literal, other):
    """A value that a module's variable was given while it was loaded counts as its edit does."""
    text = textwrap.dedent(text)
    config = write("config", f"RATE = {literal}\nUSED = 0\ndef count():\n    global USED\n")
    step = write("usercode", text).step
    before = step_of(step)
    config.USED = 5  # what the module itself counts is no setting
    assert step_of(step) == before
    given = eval(other)
    config.RATE = given
    changed = step_of(step)
    assert changed.fingerprint != before.fingerprint
    assert "config.RATE" in changed.constants
    config.RATE = eval(literal)
    assert step_of(step) == before


def test_function_set_from_outside(write, step_of):
    """So does a function that took the place of one that is imported late."""
    config = write("config", "def rate():\n    return 1\n")
    step = write("usercode", "def step(x):\n    import config\n    return config.rate()\n").step
    before = step_of(step)
    config.rate = lambda: 2
    assert step_of(step).fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("import numpy as np\nVALUE = np.zeros(1_000_000)\n" + CALLS.format("VALUE[0]"),
         "VALUE[0] = 1"),
        ("import pandas as pd\nVALUE = pd.DataFrame({'a': ['x'] * 100_000})\n"
         + CALLS.format("VALUE['a'][0]"), "VALUE.loc[0, 'a'] = 'y'"),
        ("class Thing:\n    pass\n" + CALLS.format("getattr(Thing, 'value', 0)"),
         "Thing.value = 1"),
        ("def helper(*, value=0):\n    return value\n" + CALLS.format("helper()"),
         "helper.__kwdefaults__ = {'value': 1}"),
        ("def helper(*, value=0):\n    return value\n" + CALLS.format("helper()"),
         "helper.__kwdefaults__['value'] = 1"),
        ("import functools\nhelper = functools.partial(dict, value=0)\n" + CALLS.format("helper()"),
         "helper.keywords['value'] = 1"),
        ("TABLE = {'a': 1, 'b': 2}\n" + CALLS.format("list(TABLE)"),
         "TABLE['a'] = TABLE.pop('a')"),
        ("def helper():\n    return helper.value\nhelper.value = 0\n" + CALLS.format("helper()"),
         "helper.value = 1"),
        ("import dataclasses\n@dataclasses.dataclass\nclass Thing:\n    a: int = 1\n"
         + CALLS.format("Thing().a"), "Thing.__init__.__defaults__ = (2,)"),
    ],
)  # fmt: skip
def test_changes_between_trials(write, text, change):
    """What changes in a running process is seen by the capture that knows it as it was."""
    module, capture = write("usercode", text), CodeCapture()
    before = capture.capture({"step": module.step})
    assert capture.capture({"step": module.step}) is before
    exec(change, vars(module))
    after = capture.capture({"step": module.step})
    assert after.steps["step"].fingerprint != before.steps["step"].fingerprint


def test_docstring_copied_by_a_decorator(write, step_of):
    """What an object that decorates copies from its function is no setting of its own."""
    text = """
import functools
class Same:
    def __init__(self, function):
        functools.update_wrapper(self, function)
    def __call__(self, x):
        return self.__wrapped__(x)
@Same
def helper(x):
    '''{}'''
    return x
def step(x):
    return helper(x)
"""
    found = [step_of(write("usercode", text.format(doc)).step) for doc in ("One.", "Two.")]
    assert found[0] == found[1]


def test_counter_on_a_function(write, step_of):
    """An attribute that the function counts up itself is state, not a setting."""
    text = (
        "def helper():\n    helper.calls += 1\n    return helper.calls\nhelper.calls = 0\n"
        + CALLS.format("helper()")
    )
    module = write("usercode", text)
    before = step_of(module.step)
    assert before.constants == {"usercode.helper.calls": None}
    module.helper()
    assert step_of(module.step) == before
