"""Classes of a script, whose objects are kept together with them: unchanged, they are reused."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("attrs")
pytest.importorskip("pydantic")

SCRIPT = """
import attrs, cloudpickle, dataclasses, enum, json, msgspec, pathlib, pickle, pydantic, tempfile
import typing
import daskperiment
from daskperiment.capture.code import CodeCapture

def same(self, other):
    return type(other) is type(self)

class Plain:
    rate = 1
    __eq__ = same
    __hash__ = None
    def go(self):
        return self.rate

@attrs.define
class Attrs:
    x: int = 1
    def go(self):
        return self.x

@attrs.frozen(cache_hash=True)
class AttrsFrozen:
    x: int = 1

@attrs.define(slots=False)
class AttrsWithoutSlots:
    x: int = 1

@dataclasses.dataclass
class Data:
    x: int = 1

@dataclasses.dataclass(slots=True, frozen=True, order=True)
class DataWithSlots:
    x: int = 1

class Model(pydantic.BaseModel):
    x: int = 1
    @pydantic.field_validator("x")
    @classmethod
    def check(cls, value):
        return value

class Struct(msgspec.Struct):
    x: int = 1

class Pair(typing.NamedTuple):
    x: int = 1

class Choice(enum.Enum):
    A = 1
    @classmethod
    def _missing_(cls, value):
        return cls.A

ex = daskperiment.Experiment("main", backend=pathlib.Path(tempfile.mkdtemp()), seed=1)
found = {}
for Kept in (Plain, Attrs, AttrsFrozen, AttrsWithoutSlots, Data, DataWithSlots, Model, Struct,
             Pair, Choice):
    def make(Kept=Kept):
        return Kept() if Kept is not Choice else Kept(1)
    def last(value):
        return 1
    make.__qualname__ = make.__name__ = "make_" + Kept.__name__
    last.__qualname__ = last.__name__ = "last_" + Kept.__name__
    result = ex.result(last)(ex.persist(reuse=True)(make)())
    held, number = dict(vars(Kept)), ex.trial_id + 1
    reused = []
    for _ in range(3):
        result.compute()
        reused.append(ex.explain(result)[make.__name__].reason)
    changed = [name for name, item in vars(Kept).items() if held.get(name, item) is not item]
    own = type(ex.get_persisted(make.__name__, number)) is Kept
    # As a value that a worker made comes back.
    before = CodeCapture().capture({"make": make})
    pickle.loads(cloudpickle.dumps(make()))
    travelled = CodeCapture().capture({"make": make}) == before
    found[Kept.__name__] = [reused == [f"output of trial {number}"] * 3, changed, own, travelled]

Plain.rate = 2
value = ex.get_persisted("make_Plain", 1)
found["edited"] = [Plain.rate, value.go()]
print(json.dumps(found))
"""


def test_hits(run_python):
    """Loading what is kept leaves its class as it is, so that the next trial is a hit as well."""
    found = json.loads(run_python(SCRIPT, 1))
    assert found.pop("edited") == [2, 2]
    assert found == {name: [True, [], True, True] for name in found}
