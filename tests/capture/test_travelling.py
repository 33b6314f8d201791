"""A result that is pickled takes along what its code is known by, whatever its steps use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

KINDS = {
    "helper": "def helper(x):\n    return x * 2\nuse = helper",
    "closure": (
        "def made_of(n):\n    def inner(x):\n        return x * n\n    return inner\n"
        "use = made_of(3)"
    ),
    "lambda": "use = (lambda x: x + 1)",
    "decorator": (
        "import functools\ndef times(n):\n    def decorate(f):\n        @functools.wraps(f)\n"
        "        def inner(x):\n            return n * f(x)\n        return inner\n"
        "    return decorate\n@times(2)\ndef use(x):\n    return x"
    ),
    "partial": (
        "import functools\ndef helper(x, n):\n    return x\nuse = functools.partial(helper, n=2)"
    ),
    "default": "def use(x, *, n=[1, 2]):\n    return x",
    "constant": "TABLE = {'a': [1, 2]}\ndef use(x):\n    return TABLE['a']",
    "state": "COUNT = 0\ndef use(x):\n    global COUNT\n    COUNT += 1\n    return x",
    "class": "class Use:\n    rate = 2\n    def go(self):\n        return self.rate\nuse = Use",
    "class without methods": "class use:\n    rate = 2",
    "object": "class Use:\n    def __init__(self, n):\n        self.n = n\nuse = Use(3)",
    "callable object": "class Use:\n    def __call__(self, x):\n        return x\nuse = Use()",
    "bound method": "class Use:\n    def go(self, x):\n        return x\nuse = Use().go",
    "base": (
        "class Base:\n    a = 1\n    def go(self):\n        return 1\nclass use(Base):\n    b = 2"
    ),
    "dataclass": "import dataclasses\n@dataclasses.dataclass\nclass use:\n    x: int = 3",
    "dataclass with slots": (
        "import dataclasses\n@dataclasses.dataclass(slots=True, frozen=True)\nclass use:\n"
        "    x: int = dataclasses.field(default=3, metadata={'a': 1})"
    ),
    "named tuple": "import typing\nclass use(typing.NamedTuple):\n    x: int = 3",
    "enum": "import enum\nclass use(enum.Enum):\n    A = 1\n    def go(self):\n        return 1",
    "member of an enum": "import enum\nclass E(enum.Enum):\n    A = 1\nuse = E.A",
    "property": (
        "class use:\n    @property\n    def x(self):\n        return 1\n    @staticmethod\n"
        "    def f(x):\n        return x"
    ),
    "abstract": (
        "import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def go(self):\n"
        "        ...\nclass use(A):\n    def go(self):\n        return 1"
    ),
    "generic": (
        "import typing\nT = typing.TypeVar('T')\nclass use(typing.Generic[T]):\n"
        "    x: T | None = None"
    ),
    "metaclass": (
        "class M(type):\n    def go(cls):\n        return 1\nclass use(metaclass=M):\n    pass"
    ),
    "library": "import numpy as np\ndef use(x):\n    return np.linalg.norm(x) + np.sum(x)",
    "array": "import numpy as np\nARRAY = np.arange(3)\ndef use(x):\n    return ARRAY.sum()",
    "class in a function": "def use(x):\n    class Inner:\n        y = 2\n    return Inner",
    "coroutine": "async def use(x):\n    return x",
    "recursion": (
        "def use(x):\n    return use(x - 1) if x else other(x)\ndef other(x):\n    return use(0)"
    ),
}
if sys.version_info >= (3, 13):  # cloudpickle loses the slots: another class arrives
    del KINDS["dataclass with slots"]

NAMES = re.compile(r"\b(use|helper|Use|Base|made_of|times|E|M|A|T|TABLE|ARRAY|COUNT|other)\b")
STEP = """
def make_{0}():
    @ex.persist(reuse=True)
    def load_{0}(n):
        return use_{0}
    return load_{0}
load_{0} = make_{0}()
"""

PROGRAM = """
import daskperiment, pathlib, sys
ex = daskperiment.Experiment("travel", backend=pathlib.Path(sys.argv[1]), seed=0)
{steps}
@ex.result
def total(*values):
    return 1
def made(*n):
    return total(*[load(*n) for load in [{loads}]])
node = made(ex.parameter("n", default=1))
def told(node):
    import json
    from daskperiment.capture.code import CodeCapture
    code = CodeCapture().capture(node.definition.template.functions)
    return json.dumps(
        [{{name: [each.fingerprint, each.constants] for name, each in code.steps.items()}},
         {{name: [each.source, each.file] for name, each in code.functions.items()}}]
    )
def elsewhere():
    return told(made(1))
if __name__ == "__main__":
    import cloudpickle
    pathlib.Path(sys.argv[2]).write_bytes(cloudpickle.dumps((told, {sent})))
    print(told(node))
"""

OTHER = """
import pickle, sys
told, node = pickle.load(open(sys.argv[1], "rb"))
print(node() if callable(node) and not hasattr(node, "definition") else told(node))
"""


def python(*arguments):
    """Run Python; give the last line that it prints."""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("sent", ["node", "elsewhere"])
def test_kinds_of_code(tmp_path, sent):
    """In a process that has no file of it, the code of a result and of steps is what it was."""
    steps = [
        NAMES.sub(rf"\1_{number}", text) + STEP.format(number)
        for number, text in enumerate(KINDS.values())
    ]
    loads = ", ".join(f"load_{number}" for number in range(len(steps)))
    script, other, pickled = (tmp_path / name for name in ("script.py", "other.py", "pickled"))
    script.write_text(PROGRAM.format(steps="\n".join(steps), loads=loads, sent=sent))
    other.write_text(OTHER)
    here = python(script, tmp_path / "store", pickled)
    script.unlink()
    there = python(other, pickled)
    for number, name in enumerate(KINDS):
        step = f"load_{number}"
        assert there[0][step] == here[0][step], name
    assert there == here
    assert all(source for source, _ in here[1].values())
