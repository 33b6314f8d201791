"""What a step reads and somebody changes in place, in a running process, is noticed."""

from __future__ import annotations

import importlib.util
import sys

import pytest

import daskperiment

# That the code changed is told as well; here counts what is done about it.
pytestmark = pytest.mark.filterwarnings("ignore::daskperiment.errors.CodeChangedWarning")

HEAD = """
import collections, dataclasses, enum, functools, types
import numpy as np, pandas as pd

class Plain:
    def __init__(self):
        self.rate = 1
class Inner:
    def __init__(self):
        self.plain = Plain()
class WithSlots:
    __slots__ = ("rate",)
@dataclasses.dataclass
class Data:
    rate: int = 1
class Settings:
    rate = 1
    class Deep:
        rate = 1
class Sub(Settings):
    pass
class Meta(type):
    rate = 1
class Made(metaclass=Meta):
    pass
def helper(rate=1):
    return rate
def listed(rates=[1]):
    return rates[0]
def named(*, rates={"rate": 1}):
    return rates["rate"]
def outer():
    rate, held = 1, [1]
    def inner():
        return rate
    def turn(value):
        nonlocal rate
        rate = value
    def holding():
        return held[0]
    return inner, turn, holding, held
inner, turn, holding, held = outer()
helper.rate = 1
"""
OWN_CODE = {
    # what it is -> what the module defines of `by`, the change, and back
    "global of a function": (
        "RATE = 1\ndef by():\n    return RATE", "RATE = 2", "RATE = 1",
    ),
    "list of a function": (
        "RATES = [1]\ndef by():\n    return RATES[0]", "RATES[0] = 2", "RATES[0] = 1",
    ),
    "helper of a function": (
        "def deep():\n    return 1\nfirst = deep\ndef by():\n    return deep()",
        "def deep():\n    return 2", "deep = first",
    ),
    "global of a method": (
        "RATE = 1\nclass By:\n    def __call__(self):\n        return RATE\nby = By()",
        "RATE = 2", "RATE = 1",
    ),
    "method": (
        "class By:\n    def __call__(self):\n        return 1\nby = By()\nfirst = By.__call__",
        "By.__call__ = lambda self: 2", "By.__call__ = first",
    ),
}  # fmt: skip
HOLDERS = {
    "a SimpleNamespace": ("types.SimpleNamespace(by=by)", "OF.by()"),
    "a deque": ("collections.deque([by])", "OF[0]()"),
    "a defaultdict": ("collections.defaultdict(int, by=by)", "OF['by']()"),
    "an array": ("np.array([by, None], dtype=object)", "OF[0]()"),
    "a Series": ("pd.Series([by, None], dtype=object)", "OF[0]()"),
    "a partial": ("functools.partial(by)", "OF()"),
    "a list": ("[by]", "OF[0]()"),
    "a slice": ("slice(by, None)", "OF.start()"),
}  # fmt: skip
# name -> what the module defines, what the step gives, the change, and back
CHANGES = {
    "plain class": ("OF = Plain()", "OF.rate", "OF.rate = 2", "OF.rate = 1"),
    "object in an object": (
        "OF = Inner()", "OF.plain.rate", "OF.plain.rate = 2", "OF.plain.rate = 1",
    ),
    "slots": ("OF = WithSlots(); OF.rate = 1", "OF.rate", "OF.rate = 2", "OF.rate = 1"),
    "dataclass": ("OF = Data()", "OF.rate", "OF.rate = 2", "OF.rate = 1"),
    "attrs": (
        "import attrs\n@attrs.define\nclass A:\n    rate: int = 1\nOF = A()",
        *("OF.rate", "OF.rate = 2", "OF.rate = 1"),
    ),
    "pydantic": (
        "import pydantic\nclass A(pydantic.BaseModel):\n    rate: int = 1\nOF = A(rate=1)",
        *("OF.rate", "OF.rate = 2", "OF.rate = 1"),
    ),
    "msgspec": (
        "import msgspec\nclass A(msgspec.Struct):\n    rate: int = 1\nOF = A()",
        *("OF.rate", "OF.rate = 2", "OF.rate = 1"),
    ),
    "SimpleNamespace": (
        "OF = types.SimpleNamespace(rate=1)", "OF.rate", "OF.rate = 2", "OF.rate = 1",
    ),
    "dict": ("OF = {'rate': 1}", "OF['rate']", "OF['rate'] = 2", "OF['rate'] = 1"),
    "nested dict": (
        "OF = {'a': {'b': [{'rate': 1}]}}", "OF['a']['b'][0]['rate']",
        "OF['a']['b'][0]['rate'] = 2", "OF['a']['b'][0]['rate'] = 1",
    ),
    "defaultdict": (
        "OF = collections.defaultdict(int, rate=1)",
        *("OF['rate']", "OF['rate'] = 2", "OF['rate'] = 1"),
    ),
    "mapping proxy": (
        "_of = {'rate': 1}\nOF = types.MappingProxyType(_of)", "OF['rate']",
        "_of['rate'] = 2", "_of['rate'] = 1",
    ),
    "list": ("OF = [1]", "sum(OF)", "OF.append(2)", "OF.pop()"),
    "list in a tuple": ("OF = ([1],)", "sum(OF[0])", "OF[0].append(2)", "OF[0].pop()"),
    "deque": ("OF = collections.deque([1])", "sum(OF)", "OF.append(2)", "OF.pop()"),
    "bytearray": ("OF = bytearray(b'a')", "OF[0]", "OF[0] = 98", "OF[0] = 97"),
    "set": ("OF = {1}", "sum(OF)", "OF.add(2)", "OF.remove(2)"),
    "ndarray": ("OF = np.ones(3)", "float(OF.sum())", "OF[1] = 2", "OF[1] = 1"),
    "view of an array": (
        "_of = np.ones(3)\nOF = _of[1:]", "float(OF.sum())", "_of[1] = 2", "_of[1] = 1",
    ),
    "large array": ("OF = np.ones(300_000)", "float(OF.sum())", "OF[777] = 2", "OF[777] = 1"),
    "DataFrame": (
        "OF = pd.DataFrame({'a': [1, 1]})", "int(OF['a'].sum())",
        "OF.loc[0, 'a'] = 2", "OF.loc[0, 'a'] = 1",
    ),
    "Series": ("OF = pd.Series([1, 1])", "int(OF.sum())", "OF[0] = 2", "OF[0] = 1"),
    "class attribute": ("OF = Settings", "OF.rate", "OF.rate = 2", "OF.rate = 1"),
    "nested class's attribute": (
        "OF = Settings", "OF.Deep.rate", "OF.Deep.rate = 2", "OF.Deep.rate = 1",
    ),
    "base class's attribute": ("OF = Sub", "OF.rate", "Settings.rate = 2", "Settings.rate = 1"),
    "metaclass's attribute": ("OF = Made", "OF.rate", "Meta.rate = 2", "Meta.rate = 1"),
    "class attribute by an instance": (
        "OF = Sub()", "OF.rate", "Settings.rate = 2", "Settings.rate = 1",
    ),
    "module constant": ("OF = 1", "OF", "module.OF = 2", "module.OF = 1"),
    "module as a value": (
        "OF = types.ModuleType('held'); OF.rate = 1", "OF.rate", "OF.rate = 2", "OF.rate = 1",
    ),
    "function attribute": ("OF = helper", "OF.rate", "OF.rate = 2", "OF.rate = 1"),
    "function's defaults": (
        "OF = helper", "OF()", "OF.__defaults__ = (2,)", "OF.__defaults__ = (1,)",
    ),
    "function put in place": (
        "_old = helper", "helper()", "module.helper = lambda rate=2: rate", "module.helper = _old",
    ),
    "closure cell": ("OF = inner", "OF()", "turn(2)", "turn(1)"),
    "what a closure holds": ("OF = holding", "OF()", "held[0] = 2", "held[0] = 1"),
    "default list": (
        "OF = listed", "OF()", "OF.__defaults__[0][0] = 2", "OF.__defaults__[0][0] = 1",
    ),
    "keyword's default": (
        "OF = named", "OF()", "OF.__kwdefaults__['rates']['rate'] = 2",
        "OF.__kwdefaults__['rates']['rate'] = 1",
    ),
    "partial's keywords": (
        "OF = functools.partial(helper, rate=1)", "OF()",
        "OF.keywords['rate'] = 2", "OF.keywords['rate'] = 1",
    ),
    "partial's argument": (
        "OF = functools.partial(sum, [1])", "OF()", "OF.args[0][0] = 2", "OF.args[0][0] = 1",
    ),
    "bound method": (
        "class A(Plain):\n    def get(self):\n        return self.rate\n_of = A()\nOF = _of.get",
        "OF()", "_of.rate = 2", "_of.rate = 1",
    ),
    "method put in place": (
        "class A(Plain):\n    def get(self):\n        return self.rate\n_old = A.get\nOF = A()",
        "OF.get()", "A.get = lambda self: 2", "A.get = _old",
    ),
    **{
        f"{what} in {holder}": (f"{made}\nOF = {holding}", read, change, back)
        for what, (made, change, back) in OWN_CODE.items()
        for holder, (holding, read) in HOLDERS.items()
    },
    "handler of singledispatch": (
        "@functools.singledispatch\ndef OF(x):\n    return 0\ndef one(x):\n    return 1\n"
        "def two(x):\n    return 2\nOF.register(int, one)",
        *("OF(3)", "OF.register(int, two)", "OF.register(int, one)"),
    ),
    "handler of a singledispatchmethod": (
        "class OF:\n    @functools.singledispatchmethod\n    def of(self, x):\n        return 0\n"
        "def one(self, x):\n    return 1\ndef two(self, x):\n    return 2\n"
        "OF.of.register(int, one)",
        *(
            "OF().of(3)",
            "OF.__dict__['of'].register(int, two)",
            "OF.__dict__['of'].register(int, one)",
        ),
    ),
}  # fmt: skip
WALKED = ("a list", "a defaultdict", "a partial")
"""Holders in which code is named by itself."""
NAMED = {
    "function put in place": "helper",
    "base class's attribute": "Settings",
    "class attribute by an instance": "Settings",
    "metaclass's attribute": "Meta",
    "closure cell": "rate",
    "what a closure holds": "held",
    "function's defaults": "helper",
    "function attribute": "helper",
    "default list": "listed",
    "keyword's default": "named",
    "class attribute": "Settings",
    "nested class's attribute": "Settings",
    "module as a value": "held.rate",
    "global of a function in a partial": "RATE",
    "list of a function in a partial": "RATES",
    "method put in place": "<lambda>",
    **{f"helper of a function in {each}": "deep" for each in WALKED},
    **{f"method in {each}": "<lambda>" for each in WALKED},
    "handler of singledispatch": "two",
    "handler of a singledispatchmethod": "two",
}
"""What the reason names where that is not the constant."""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Import a text as a module of the user's."""

    def load(text):
        path = tmp_path / "running.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("running", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "running", module)
        spec.loader.exec_module(module)
        module.module = module
        return module

    return load


@pytest.mark.parametrize("name", CHANGES)
def test_next_compute_notices(tmp_path, load, name):
    """A hit while it is as it was; after the change a run that names it; changed back, a hit."""
    made, read, change, back = CHANGES[name]
    for library in ("attrs", "pydantic", "msgspec"):
        if f"import {library}" in made:
            pytest.importorskip(library)
    module = load(f"{HEAD}\n{made}\ndef step():\n    return {read}\n")
    ex = daskperiment.Experiment("running", backend=tmp_path / "store")
    result = ex.result(persist=True, reuse=True)(module.step)()

    def verdict():
        told = ex.explain(result)["step"]
        assert result.compute(scheduler="synchronous") == eval(read, vars(module))
        return told.verdict, told.reason

    assert verdict()[0] == "miss"
    assert verdict()[0] == "hit"
    first = eval(read, vars(module))
    exec(change, vars(module))
    assert eval(read, vars(module)) != first
    found, reason = verdict()
    assert found == "miss"
    assert NAMED.get(name, "OF") in reason, reason
    assert verdict()[0] == "hit"
    exec(back, vars(module))
    assert verdict()[0] == "hit"


def test_what_is_read_in_place_of_something_else_did_not_change(tmp_path, load):
    """Of a constant that is read anew, and of one that is not read any more, nobody says more."""
    module = load("A = B = 1\ndef by():\n    return A\ndef step():\n    return by()\n")
    ex = daskperiment.Experiment("running", backend=tmp_path / "store")
    result = ex.result(persist=True, reuse=True)(module.step)()
    result.compute(scheduler="synchronous")
    exec("def by():\n    return B\n", vars(module))
    reason = ex.explain(result)["step"].reason
    assert "running.A is no longer read" in reason
    assert "running.B is now read" in reason
    assert "value" not in reason
    result.compute(scheduler="synchronous")
    told = ex.compare(1, 2).explanation
    assert "code of running.by" in told
    assert "constant" not in told
