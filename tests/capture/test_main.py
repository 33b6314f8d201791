"""Whether a module is run as a script, with ``-m``, or imported says nothing of its code."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

TEXT = """
import collections, dataclasses, enum, functools, logging, typing
import daskperiment
from daskperiment.capture.code import CodeCapture

log = logging.getLogger(__name__)
RATE = {rate}

class Plain:
    rate = RATE
    twice = 2
    again = twice * rate
    def go(self):
        return type(self)().rate

@dataclasses.dataclass
class Config:
    plain: Plain = dataclasses.field(default_factory=Plain)
    rate: int = RATE

class Kind(enum.Enum):
    ONE = 1

Pair = collections.namedtuple("Pair", "a b", defaults=[RATE])
PLAIN, CONFIG, KIND, PAIR = Plain(), Config(), Kind.ONE, Pair(1)
COUNT = 0

def times(n):
    def decorate(function):
        @functools.wraps(function)
        def inner(*args):
            return n * function(*args)
        return inner
    return decorate

@times(RATE)
def helper(x):
    global COUNT
    COUNT += 1
    return x

def fit(n):
    class Callback(Plain):
        name = "callback"
        class Inner:
            pass
    def inner():
        return Callback().go()
    logging.getLogger(__name__).info("fit")
    log.info("fit")
    try:
        return inner(), helper(n), CONFIG, KIND, PAIR, PLAIN, Config(), (lambda: RATE)()
    except ValueError:
        return None

code = CodeCapture().capture({{"fit": fit}})
"""

RUN = {
    "script": (["{folder}/usercode.py"], ""),
    "module": (["-m", "usercode"], ""),
    "import": (["-c", "import usercode as u; print(u.code.steps['fit'].fingerprint)"], "usercode."),
}


def fingerprint(folder, arguments):
    """Run Python in the folder; give what it prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()])}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    arguments = [each.format(folder=folder) for each in arguments]
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ways_of_running(tmp_path):
    """A script, ``python -m`` and an import have one code, and see its edit."""
    found = []
    for rate in (1, 2):
        text = TEXT.format(rate=rate) + "\nif __name__ == '__main__':\n"
        text += "    print(code.steps['fit'].fingerprint)\n"
        (tmp_path / "usercode.py").write_text(text)
        found.append({fingerprint(tmp_path, way) for way, _ in RUN.values()})
    assert [len(each) for each in found] == [1, 1]
    assert found[0] != found[1]


PROGRAM = """
import daskperiment, pathlib
ex = daskperiment.Experiment("main", backend=pathlib.Path(__file__).parent / "store", seed=0)
RATE = {}
def helper(n):
    return n * RATE
@ex.persist(reuse=True)
def fit(n):
    class Callback: pass
    return helper(n)
@ex.result
def out(v): return v
r = out(fit(1))
if __name__ == "__main__":
    print(r.compute())
"""


@pytest.mark.parametrize("imported_first", [False, True])
def test_reason_across_ways_of_running(tmp_path, imported_first):
    """A change between a script's run and an import's is told without a word about other names."""
    script, imported = RUN["script"][0], ["-c", "import usercode; usercode.r.compute()"]
    told = ["-W", "ignore", "-c", "import usercode; print(usercode.ex.explain(usercode.r))"]
    (tmp_path / "usercode.py").write_text(textwrap.dedent(PROGRAM.format(1)))
    fingerprint(tmp_path, imported if imported_first else script)
    assert "output of trial 1" in fingerprint(tmp_path, told)
    (tmp_path / "usercode.py").write_text(textwrap.dedent(PROGRAM.format(2)))
    (reason,) = [line for line in fingerprint(tmp_path, told).splitlines() if "fit" in line[:7]]
    assert reason.split("miss")[1].strip() == "the value of usercode.RATE changed"
