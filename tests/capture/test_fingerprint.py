from __future__ import annotations

import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import io
import ipaddress
import operator
import pathlib
import pickle
import random
import re
import string
import struct
import threading
import types
import typing
import uuid
import zoneinfo

import numpy as np
import pandas as pd
import pytest
import scipy.interpolate
import scipy.sparse
import scipy.spatial
import scipy.stats
import sklearn.utils
from dask.base import normalize_token
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import daskperiment
from daskperiment.capture.encoding import BULK, Encoder
from daskperiment.capture.fingerprint import NoFingerprintError, combine, fingerprint
from daskperiment.capture.fingerprint.arrays import encode_byte_parts, encode_ndarray


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Config:
    rate: float = 0.1
    layers: tuple = (1, 2)


@dataclasses.dataclass(slots=True)
class Slotted:
    rate: float = 0.1


Pair = collections.namedtuple("Pair", "a b")
Other = collections.namedtuple("Other", "a c")


class Plain:
    def __init__(self, x):
        self.x = x


class Slots:
    __slots__ = ("x", "y")

    def __init__(self, x):
        self.x = x


class Words(list):
    pass


class Number(float):
    pass


class Token:
    def __init__(self, x):
        self.hidden = lambda: x
        self.x = x

    def __getstate__(self):
        raise TypeError

    def __dask_tokenize__(self):
        return ("Token", self.x)


zone = datetime.timezone(datetime.timedelta(hours=1))
square = np.arange(9.0).reshape(3, 3)
record = np.zeros(2, dtype=np.dtype([("a", "u1"), ("b", "f8")], align=True))

# All of these are different from one another.
VALUES = [
    *(None, True, False, 0, 1, -1, 2**70, 0.0, -0.0, 1.0, float("nan"), float("inf"), 1j),
    *("", "1", "a", "N", b"", b"a", bytearray(b"a"), "\ud800", memoryview(b"a")),
    *([], (), {}, set(), frozenset(), [1], (1,), {1}, frozenset({1}), {1: 1}, {1: "1"}, {"1": 1}),
    *([[1], 2], [[1, 2]], [1, [2]], ["a-b", "c"], ["a", "b-c"], ["ab", "c"], ["a", "bc"]),
    *(range(3), range(1, 3), slice(3), slice(1, 3), ..., NotImplemented),
    *(collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), {"a": 1, "b": 2}),
    *(collections.Counter("a"), collections.defaultdict(int, a=1), collections.defaultdict(list)),
    *(collections.deque([1]), collections.deque([1], 3), types.SimpleNamespace(a=1)),
    *(datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), datetime.time(1)),
    *(datetime.datetime(2020, 1, 1, tzinfo=zone), datetime.timedelta(1), zone),
    *(decimal.Decimal("1"), decimal.Decimal("1.0"), fractions.Fraction(1), uuid.UUID(int=1)),
    *(pathlib.Path("a"), pathlib.Path("b"), re.compile("a"), re.compile("a", re.IGNORECASE)),
    *(Colour.RED, Colour.BLUE, Level.RED, Pair(1, 2), Pair(2, 1), Other(1, 2)),
    *(Config(), Config(0.2), Slotted(), Plain(1), Plain(2), Slots(1), Words([1]), Number(1)),
    *(Token(1), Token(2), random.Random(1), random.Random(2), ValueError("a"), KeyError("a")),
    *(len, max, "a".upper, "b".upper, operator.itemgetter(1), operator.itemgetter(2), np, re),
    *(int, float, dict, Plain, Slots, Colour, np.ndarray, np.sum, np.add, np.multiply),
    *(functools.partial(max, 1), functools.partial(max, 2), functools.partial(min, 1)),
    *(np.int64(1), np.int32(1), np.float64(1), np.bool_(True), np.datetime64("2020"), np.str_("a")),
    *(square, square.T, square.ravel(), square[:, :2], square.astype("f4")),
    *(np.array(1.0), np.array([1.0]), np.empty((0, 3)), np.empty((3, 0)), np.empty(0, "i4")),
    *(np.array(["a-b", "c"], object), np.array(["a", "b-c"], object), np.array(["a-b", "c"])),
    *(np.array([1, "1"], object), np.array(["1", 1], object), np.array([None], object)),
    *(record, np.array([(1, 0), (0, 0)], record.dtype), np.array(["2020"], "M8[D]")),
    *(np.array(["2020"], "M8[s]"), np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2])),
    *(np.dtype("f8"), np.dtype("i8"), np.random.default_rng(1), np.random.default_rng(2)),
    *(np.random.RandomState(1), np.random.RandomState(2)),
    *(scipy.sparse.csr_matrix(square), scipy.sparse.csc_matrix(square)),
    *(scipy.sparse.csr_matrix(square.T), scipy.sparse.coo_array(square)),
    *(pd.Series([1, 2]), pd.Series([1.0, 2.0]), pd.Series([1, 2], name="a")),
    *(pd.Series([1, 2], index=[1, 2]), pd.Series([1, 2], index=["a", "b"]), pd.Index([1, 2])),
    *(pd.Series(["a-b", "c"], dtype=kind) for kind in ("string", object)), pd.Series(["a", "b-c"]),
    *(pd.Series([1, None], dtype="Int64"), pd.Series([1, 0], dtype="Int64"), pd.RangeIndex(2)),
    *(pd.Series([True, None], dtype="boolean"), pd.Series(["a", None]), pd.Series(["a", "None"])),
    *(pd.Series(["a", "b"], dtype="category"), pd.Categorical(["a"], ["a", "b"])),
    *(pd.Categorical(["a"], ["a", "b"], ordered=True), pd.Categorical(["a"], ["b", "a"])),
    *(pd.date_range("2020", periods=2), pd.date_range("2020", periods=2, tz="UTC")),
    *(pd.period_range("2020", periods=2, freq="D"), pd.period_range("2020", periods=2, freq="M")),
    *(pd.interval_range(0, 2), pd.interval_range(0, 2, closed="left"), pd.timedelta_range(0, "1D")),
    *(pd.arrays.SparseArray([0, 1]), pd.MultiIndex.from_product([[1], [2, 3]])),
    pd.MultiIndex.from_product([[1, 2], [3]]),
    pd.MultiIndex.from_product([[1], [2, 3]], names=["a", "b"]),
    *(pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"b": [2], "a": [1]})),
    *(pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"c": [1, 2]})),
    *(pd.DataFrame([[1, 2]]), pd.DataFrame([[1], [2]]), pd.DataFrame(index=[1]), pd.DataFrame()),
    *(pd.Timestamp("2020"), pd.Timestamp("2020", tz="UTC"), pd.Timedelta(1), pd.NA, pd.NaT),
    *(pd.Interval(0, 1), pd.Period("2020", "M"), pd.CategoricalDtype(["a"]), pd.offsets.Day(1)),
    *(LogisticRegression(), LogisticRegression(C=2), StandardScaler()),
    *(lambda x: x, lambda x: x + 1, [lambda x: x], threading.Lock()),
]  # fmt: skip


def test_different_values_have_different_fingerprints():
    """No two of some two hundred values of all kinds, chosen to be confused, are equal."""
    found = collections.defaultdict(list)
    for value in VALUES:
        found[fingerprint(value)].append(value)
    assert [values for values in found.values() if len(values) > 1] == []
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in found)


def copied(value):
    try:
        return pickle.loads(pickle.dumps(value))
    except (TypeError, AttributeError, pickle.PicklingError):
        return value


@pytest.mark.parametrize("place", range(len(VALUES)))
def test_copies_have_equal_fingerprints(place):
    """What comes back from pickle has the fingerprint of the original."""
    assert fingerprint(copied(VALUES[place])) == fingerprint(VALUES[place])


def strided(values):
    return np.repeat(values, 2, axis=0)[::2]


big = np.random.default_rng(0).normal(size=(300, 7, 90))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: "x", (2, 3): "y"}, {(2, 3): "y", 1: "x"}),
        ({"a", "b", "c"}, {"c", "b", "a"}),
        (float("nan"), -float("nan")),
        (square, np.asfortranarray(square)),
        (square, strided(square)),
        (square, square.astype(">f8")),
        (square[::-1], square[::-1].copy()),
        (big, np.asfortranarray(big)),
        (big, strided(big)),
        (np.moveaxis(big, 0, 2), np.moveaxis(big, 0, 2).copy()),
        (np.broadcast_to(1.0, (100, 1000)), np.ones((100, 1000))),
        (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 9], mask=[0, 1])),
        (
            scipy.sparse.coo_array(([1, 2], ([0, 1], [0, 1]))),
            scipy.sparse.coo_array(([2, 1], ([1, 0], [1, 0]))),
        ),
        (pd.DataFrame(square), pd.DataFrame(np.asfortranarray(square))),
        (pd.Series(["a", None], dtype="string"), pd.Series(["a", np.nan], dtype="string")),
        (pd.Series([1, None], dtype="Int64"), pd.Series([1, pd.NA], dtype="Int64")),
        (
            pd.DataFrame({"a": [1, 2, 3]}).iloc[::2].reset_index(drop=True),
            pd.DataFrame({"a": [1, 3]}),
        ),
        (
            pd.MultiIndex.from_product([[1, 2], [3]])[:1],
            pd.MultiIndex.from_product([[1], [3]]),
        ),
    ],
)  # fmt: skip
def test_equal_values_in_another_form(one, other):
    """Order of filling, memory layout, and what is hidden under a mask do not count."""
    assert fingerprint(one) == fingerprint(other)


def test_padding_of_records_does_not_count():
    """The bytes between the fields of a structured array may hold anything."""
    one, other = np.zeros(2, record.dtype), np.zeros(2, record.dtype)
    other.view("u1").reshape(2, -1)[:, 1] = 77
    assert one.tobytes() != other.tobytes()
    assert fingerprint(one) == fingerprint(other)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner)
    | st.tuples(inner, inner),
    max_leaves=20,
))  # fmt: skip
def test_any_plain_value(value):
    """A deep copy has the same fingerprint, and a list around it another one."""
    assert fingerprint(copy.deepcopy(value)) == fingerprint(value)
    assert fingerprint([value]) != fingerprint(value)


@given(st.lists(st.text()), st.lists(st.text()))
def test_texts_are_not_run_together(one, other):
    """Lists of texts, as list, array or Series, have equal fingerprints only if they are equal."""
    for form in (list, lambda v: np.array(v, object), lambda v: pd.Series(v, dtype=object)):
        assert (fingerprint(form(one)) == fingerprint(form(other))) == (one == other)


@pytest.mark.parametrize("size", [65_536, 65_537, 1_000_000])
def test_one_byte_of_many(size):
    """A single changed byte in a large buffer is seen, at its beginning, middle and end."""
    data = bytearray(size)
    prints = {fingerprint(bytes(data))}
    for place in (0, size // 2, size - 1):
        data[place] = 1
        prints.add(fingerprint(bytes(data)))
    assert len(prints) == 4


def test_many_medium_values():
    """A stream of more values than one buffer holds is digested in full and in order."""
    values = [str(number) * 20 for number in range(20_000)]
    first = fingerprint(values)
    values[5], values[6] = values[6], values[5]
    assert fingerprint(values) != first


@pytest.mark.parametrize(
    "make",
    [
        lambda: (item for item in []),
        lambda: open("/dev/null"),  # noqa: SIM115
        lambda: [1, {"a": object()}],
        lambda: Plain(threading.Thread()),
        lambda: iter([1]),
    ],
)
def test_no_fingerprint(make):
    """What cannot be told apart for sure has no fingerprint, and the reason is said."""
    value = make()
    with pytest.raises(NoFingerprintError) as caught:
        fingerprint(value)
    assert caught.value.reason
    assert caught.value.reason == str(caught.value)
    if hasattr(value, "close"):
        value.close()


def test_reasons_name_the_place():
    """The reason leads to the part that has no fingerprint."""
    with pytest.raises(NoFingerprintError, match=r"^its x: its (_started: its _cond|_handle): "):
        fingerprint(Plain(threading.Thread()))


def test_depth():
    """Endless nesting is refused, not followed for ever."""
    deep = None
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NoFingerprintError, match="deep"):
        fingerprint(deep)


def looping_list(x):
    loop = [x]
    loop.append({"a": loop})
    return loop


def looping_array(x):
    loop = np.empty(2, object)
    loop[:] = x, loop
    return loop


def looping_object(x):
    loop = Plain(x)
    loop.y = {"back": [loop]}
    return loop


def looping_ring(x):
    ring = [Plain(number) for number in range(30)]
    for each in ring:
        each.others = ring
    ring[17].x = x
    return ring


@pytest.mark.parametrize("make", [looping_list, looping_array, looping_object, looping_ring])
def test_cycles(make):
    """What contains itself has a fingerprint: that of its copy, and another with other content."""
    assert fingerprint(make(-1)) == fingerprint(make(-1)) == fingerprint(copied(make(-1)))
    assert fingerprint(make(-1)) != fingerprint(make(-2))


class State:
    def __init__(self, x):
        self.x, self.seen = x, []

    def __getstate__(self):
        return {"x": self.x}


class Built:
    def __init__(self, x):
        self.x = x

    def __reduce__(self):
        return Built, (self.x,)


class Listed(list):
    def __reduce_ex__(self, protocol):
        return Listed, (), {"size": len(self)}, iter(self)


class Mapped(dict):
    def __reduce__(self):
        return Mapped, (), None, None, iter(self.items())


@pytest.mark.parametrize(
    "make",
    [
        State,
        Built,
        lambda x: Listed([x]),
        lambda x: Mapped(a=x),
        lambda x: io.BytesIO(bytes([x])),
        lambda x: collections.ChainMap({"a": x}),
        lambda x: collections.UserDict(a=x),
        lambda x: zoneinfo.ZoneInfo(["UTC", "Europe/Berlin"][x]),
        lambda x: [int | str, list[int], typing.Literal[x]],
        lambda x: string.Template(str(x)),
        lambda x: ipaddress.ip_address(x),
        lambda x: struct.Struct("<d" * x),
        lambda x: np.polynomial.Polynomial([x, 1]),
        lambda x: scipy.stats.norm(x),
        lambda x: [scipy.stats.norm, scipy.stats.gamma][x],
        lambda x: scipy.interpolate.CubicSpline([0, 1, 2], [x, 1, 4]),
        lambda x: scipy.spatial.cKDTree([[x, 0.0], [2, 3]]),
        lambda x: sklearn.utils.Bunch(a=x),
        lambda x: pd.DataFrame({"a": [x]}).groupby("a"),
    ],
)
def test_reductions(make):
    """Whatever pickle can take apart has a fingerprint: of what is in it, not of where it lies."""
    assert fingerprint(make(0)) == fingerprint(make(0))
    assert fingerprint(make(0)) != fingerprint(make(1))


def test_what_pickle_leaves_out_does_not_count():
    """What a class's __getstate__ drops is no part of its objects."""
    used = State(1)
    used.seen.append(5)
    assert fingerprint(used) == fingerprint(State(1))


class Restless:
    def __reduce__(self):
        return Restless, (), {"made": object.__hash__(self)}


def test_a_class_that_is_another_after_a_round_trip():
    """Where a copy by pickle would have another fingerprint, there is none, and it is said."""
    with pytest.raises(NoFingerprintError, match=r"Restless has no fingerprint.*round trip"):
        fingerprint(Restless())


NOTHING, NOBODY = object(), object()


def test_sentinels():
    """An object that is nothing but itself is known by the names that a module has for it."""
    assert fingerprint(NOTHING) == fingerprint(NOTHING) != fingerprint(NOBODY)
    with pytest.raises(NoFingerprintError, match="object has no fingerprint"):
        fingerprint([object()])


class Handle:
    def __init__(self, x):
        self.x, self.lock = x, threading.Condition()


class Derived(Handle):
    pass


def test_registered():
    """A registered function says what counts of a class and of its subclasses."""
    with pytest.raises(NoFingerprintError, match="its lock"):
        fingerprint(Handle(1))
    daskperiment.register_fingerprint(Handle, lambda each: each.x)
    assert fingerprint(Handle(1)) == fingerprint(Handle(1)) != fingerprint(Handle(2))
    assert fingerprint(Derived(1)) == fingerprint(Derived(1)) != fingerprint(Handle(1))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((1, str), TypeError), ((Handle, "x"), TypeError), ((int, str), ValueError)],
)
def test_registered_badly(arguments, error):
    """What cannot be registered is refused."""
    with pytest.raises(error, match=r"register|replaced"):
        daskperiment.register_fingerprint(*arguments)


class Normalized:
    def __init__(self, x):
        self.x, self.made = x, threading.Condition()


def test_registered_with_dask():
    """What somebody registered with Dask for a class counts."""
    normalize_token.register(Normalized, lambda each: ("normalized", each.x))
    assert fingerprint(Normalized(1)) == fingerprint(Normalized(1)) != fingerprint(Normalized(2))


@pytest.mark.parametrize("kinds", ["f", "fi", "fifi", "ffsifd"])
def test_frames_of_many_columns(kinds):
    """A frame's columns count one by one, however many there are and whatever lies beside them."""
    make = {
        "f": lambda n: np.arange(4) + n / 7,
        "i": lambda n: np.arange(4) + n,
        "s": lambda n: [str(n)] * 4,
        "d": lambda n: pd.date_range("2020", periods=4) + pd.Timedelta(n, "D"),
    }
    columns = {str(n): make[kinds[n % len(kinds)]](n) for n in range(2_500)}
    frame = pd.DataFrame(columns)
    assert fingerprint(frame) == fingerprint(frame.copy()) == fingerprint(copied(frame))
    other = frame.copy()
    other.iloc[2, 2_400] = other.iloc[3, 2_400]
    assert fingerprint(other) != fingerprint(frame)
    swapped = frame.rename(columns={"3": "5", "5": "3"})
    assert fingerprint(swapped) != fingerprint(frame)


def test_the_same_object_twice_is_no_cycle():
    """A value that is used in two places is allowed."""
    inner = [1]
    assert fingerprint([inner, inner]) == fingerprint([[1], [1]])


def test_functions_by_code(write):
    """A function's fingerprint follows its code, its helpers and constants, not its place."""
    text = "RATE = {0}\ndef h(x):\n    return x * RATE\ndef f(x):\n    {1}\n    return h(x)\n"
    first = fingerprint(write("usercode", text.format(1, "# a")).f)
    assert first == fingerprint(write("usercode", "\n" + text.format(1, "# b")).f)
    assert first != fingerprint(write("usercode", text.format(2, "# a")).f)


def test_objects_by_their_class(write):
    """The code of an object's class counts, and its state."""
    text = "class C:\n    def __init__(self):\n        self.x = 1\n"
    text += "    def m(self):\n        return {0}\n"
    first = fingerprint(write("usercode", text.format(1)).C())
    assert first == fingerprint(write("usercode", text.format(1)).C())
    assert first != fingerprint(write("usercode", text.format(2)).C())


class Lazy:
    def __init__(self):
        self.x = 1

    @functools.cached_property
    def y(self):
        return self.x + 1


def test_cached_properties_do_not_count():
    """An object is the same before and after it remembered what follows from its state."""
    value = Lazy()
    before = fingerprint(value)
    assert value.y == 2
    assert fingerprint(value) == before


def test_functions_that_read_their_own_registry(write):
    """Functions in a table that they read themselves have a fingerprint that shows an edit."""
    text = "T = []\ndef a():\n    return T\ndef b():\n    return T, {0}\nT += [a, b]\n"
    first, other = (write("usercode", text.format(value)).T for value in (1, 2))
    prints = [fingerprint(each) for each in (first, other)]
    assert len(set(prints)) == 2
    assert fingerprint(other[0]) == fingerprint(other[0])


def test_closures_in_another_order():
    """Two functions of the same code with other closure values are told apart in a list."""

    def make(n):
        return lambda: n

    assert fingerprint([make(1), make(2)]) != fingerprint([make(2), make(1)])
    assert fingerprint([make(1), make(2)]) == fingerprint([make(1), make(2)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomForestClassifier(5, random_state=0),
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        lambda: GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2),
    ],
    ids=["forest", "pipeline", "search"],
)
def test_estimators(make):
    """Estimators are known by parameters and fitted state; how long fitting took is not."""
    x, y = load_iris(return_X_y=True)
    unfitted = fingerprint(make())
    one, other = make().fit(x, y), make().fit(x, y)
    assert fingerprint(one) == fingerprint(other) == fingerprint(copied(one))
    third = make().fit(x[:100], y[:100])
    assert len({unfitted, fingerprint(one), fingerprint(third)}) == 3


def test_generators_move_on():
    """A random generator that was drawn from has another fingerprint."""
    for generator in (np.random.default_rng(0), random.Random(0), np.random.RandomState(0)):
        before = fingerprint(generator)
        generator.random()
        assert fingerprint(generator) != before
    spawning = np.random.default_rng(0)
    spawning.spawn(1)
    assert fingerprint(spawning) != fingerprint(np.random.default_rng(0))


def test_where_an_estimator_lay():
    """The place of something in memory, which an estimator notes, is no part of it."""
    one, other = (CountVectorizer().fit(["a few words"]) for _ in range(2))
    vars(other)["_stop_words_id"] = 7
    assert fingerprint(one) == fingerprint(other)


def test_failing_token():
    """A __dask_tokenize__ that fails is a reason to have no fingerprint."""

    class Failing:
        def __dask_tokenize__(self):
            raise RuntimeError("boom")

    with pytest.raises(NoFingerprintError, match="boom"):
        fingerprint(Failing())


def test_combine_is_length_prefixed():
    """Digests of several texts depend on where one ends."""
    assert combine("ab", "c") != combine("a", "bc")
    assert combine() != combine("") != combine("", "")
    assert combine("\ud800") == combine("\ud800")


def test_two_processes(run_python):
    """Fingerprints agree between processes whose sets have different orders."""
    text = """
        import dataclasses, enum, decimal, datetime
        import numpy as np, pandas as pd
        from daskperiment.capture.fingerprint import fingerprint
        @dataclasses.dataclass(frozen=True)
        class D:
            x: int
        class K(enum.Enum):
            A = "a"
        class C:
            words = {"a", "b", "c", "d"}
            def m(self):
                return {"x", "y", "z", "w"}
        def f(x, y={"q", "r", "s"}):
            return C().m()
        values = [
            {"a", "b", "c", ("d", 1)}, frozenset("abcdef"), {D(1), D(2), D(3)}, K.A, C(), C, f, D,
            {K.A: 1, "b": {3, "x"}}, np.arange(5), pd.DataFrame({"a": ["x", "y"]}),
            lambda: {"1", "2"}, pd.Series(["a", "b"], dtype="category"),
            {decimal.Decimal(1), datetime.date(2020, 1, 1)},
        ]
        for value in values:
            print(fingerprint(value))
    """
    first = run_python(text, 1)
    assert len(first.split()) == 14
    assert first == run_python(text, 2)


def test_main_and_imported_class_agree(run_python):
    """A class means the same in the script that defines it and where that script is imported."""
    text = """
        import sys
        from daskperiment.capture.fingerprint import fingerprint
        class C:
            def __init__(self):
                self.x = 1
        if __name__ == "__main__":
            import both
            print(fingerprint(C()) == fingerprint(both.C()))
    """
    assert run_python(text, 1, "both.py").strip() == "True"


@pytest.mark.parametrize("size", [BULK + 1, BULK * 3, BULK * 3 + 7])
def test_bytes_in_parts_are_those_of_a_whole(size):
    """What comes part by part has the digest of the array that it would make."""
    whole = np.random.default_rng(0).integers(0, 256, size).astype("u1")
    found = []
    for write in (
        lambda encoder: encode_ndarray(encoder, whole),
        lambda encoder: encode_byte_parts(encoder, size, np.array_split(whole, 5)),
    ):
        encoder = Encoder(lambda kind: encode_ndarray)
        write(encoder)
        found.append(encoder.digest())
    assert found[0] == found[1]
