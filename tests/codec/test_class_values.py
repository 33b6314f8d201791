"""Members of enums, named tuples and dataclasses as parameters: plain, by the names of classes."""

from __future__ import annotations

import enum
import json
import subprocess
import sys
import textwrap
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import daskperiment
from daskperiment.codec import NamedValue, from_plain, named, pack, to_plain, unpack
from daskperiment.errors import PersistedResultNotFoundError


class Kind(enum.Enum):
    ADAM = "adam"
    SGD = object()


class Level(enum.IntEnum):
    LOW = 1


class Perm(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    first: int
    second: Any = None


@dataclass(frozen=True)
class Opt:
    lr: float = 0.1
    kind: Kind = Kind.ADAM


@dataclass
class Config:
    opt: Opt = Opt()
    path: Path = Path("data")
    steps: list[Opt] = field(default_factory=list)
    made: int = field(init=False, default=0)

    class Inner(enum.Enum):
        ONE = 1


@dataclass
class Reducing:
    a: int = 1

    def __reduce__(self):
        return Reducing, (2,)


@dataclass
class Mapped(OrderedDict):
    a: int = 1


class More(Pair):
    pass


def through_json(value):
    return json.loads(json.dumps(to_plain(named(value))))


PLAIN = [
    Kind.ADAM, Kind.SGD, Level.LOW, Perm.READ, Config.Inner.ONE, Pair(1), Pair(1, Pair(2)), Opt(),
    Config(Opt(1.0, Kind.SGD), steps=[Opt()]), [Kind.ADAM, {"a": (Opt(), {Kind.SGD})}],
    {Kind.ADAM: 1}, {Level.LOW},
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=range(len(PLAIN)))
def test_survive(value):
    """They come back equal, of their class, and members as themselves; no object is kept."""
    form, blob = pack(value, most=None)
    assert blob is None
    for back in (from_plain(json.loads(json.dumps(form))), unpack(form, {}.__getitem__)):
        assert back == value
        assert repr(back) == repr(value)
        if isinstance(value, enum.Enum):
            assert back is value


def test_what_was_set_survives():
    """A field that a class does not take when it is made comes back as it was set."""
    config = Config()
    config.made = 50
    assert from_plain(through_json(config)).made == 50


class Local(NamedTuple):
    a: int = 1


def _local():
    class Kind(enum.Enum):
        A = 1

    @dataclass
    class Local:
        a: int = 1

    extra = Config()
    extra.more = 1
    return [Kind.A, Local(), extra]


@pytest.mark.parametrize(
    "value",
    [*_local(), Reducing(), Mapped(), More(1), Perm.READ | Perm.WRITE, Opt(lr=object()), object()],
    ids=lambda value: type(value).__name__,
)
def test_others_are_objects(value):
    """What its fields do not tell, or what is found under no name, is kept as an object as ever."""
    form, _ = pack(value, most=None)
    assert form["$"] == "object"


def test_outputs_stay_objects():
    """What steps return is pickled: it is loaded where the class is found in no module."""
    assert pack(Opt())[0]["$"] == "object"


def test_secrets_stay_secrets(ex):
    """The value of a secret parameter is taken apart for nobody."""
    key = ex.parameter("key", secret=True)
    ex.result(lambda key: None)(key).bind(key=Opt(lr=123456.75)).compute(scheduler="synchronous")
    assert repr(ex.get_parameters(1)["key"]) == "<secret>"


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        (["no.such.module", "Kind", "ADAM"], "Kind.ADAM"), ([__name__, "Kind", "RMS"], "Kind.RMS"),
        ([__name__, "Config.Inner", "TWO"], "Config.Inner.TWO"), ([__name__, "Gone", {}], "Gone()"),
        ([__name__, "Opt", {"lr": 1}], "Opt(lr=1)"), ([__name__, "Pair", {"b": 1}], "Pair(b=1)"),
        ([__name__, "Reducing", {"a": 1}], "Reducing(a=1)"), (["os", "path", "x"], "path.x"),
    ],
)  # fmt: skip
def test_not_found(parts, shown):
    """What is not there any more is shown as it was; only loading it is an error."""
    form = {"$": "class", "v": parts}
    value = from_plain(form)
    assert (type(value), repr(value)) == (NamedValue, shown)
    assert value == from_plain(to_plain(value))
    assert hash(value) == hash(from_plain(form))
    for load in (value.load, lambda: unpack([form], {}.__getitem__)):
        with pytest.raises(PersistedResultNotFoundError, match=parts[1]):
            load()


def test_nothing_is_imported_by_looking(tmp_path, ex):
    """A history names a class without importing its module; loading the value imports it."""
    (tmp_path / "settings.py").write_text(
        "import enum\nprint('imported')\nclass Kind(enum.Enum):\n    A = 1\n"
    )
    code = """
        import sys, daskperiment
        ex = daskperiment.Experiment("demo", backend=sys.argv[1])
        if sys.argv[2] == "run":
            import settings
            show = ex.result(lambda kind: str(kind))
            frame = show(ex.parameter("kind")).sweep({"kind": [settings.Kind.A]}, progress=False)
            assert frame["kind"].tolist() == [settings.Kind.A]
        value = ex.get_history()["kind"].iloc[0]
        print(repr(value))
        if sys.argv[2] == "look":
            print(value.load() is sys.modules["settings"].Kind.A)
    """

    def run(what):
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "store"), what]
        path = {"PYTHONPATH": f"{tmp_path}:{Path(daskperiment.__file__).parents[1]}"}
        done = subprocess.run(command, env=path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert run("run") == ["imported", "<Kind.A: 1>"]
    assert run("look") == ["Kind.A", "imported", "True"]


def test_swept_selected_and_reproduced(ex):
    """They are swept, stand in the history as themselves, and a trial is reproduced with them."""
    result = ex.result(lambda x: str(x))(ex.parameter("x"))
    values = [Kind.ADAM, Opt(0.5), Pair(1, [Kind.SGD])]
    frame = result.sweep({"x": values}, progress=False)
    assert frame["x"].tolist() == values
    assert ex.get_parameters(1)["x"] is Kind.ADAM
    assert result.reproduce(2, scheduler="synchronous").identical
    again = result.sweep({"x": values}, resume=frame.attrs["sweep"], progress=False)
    assert again["x"].tolist() == values
    assert ex.get_history(where="x.lr > 0.4").index.tolist() == [2, 4]
