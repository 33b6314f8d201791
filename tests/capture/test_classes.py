"""What a class would do counts, however it was made; what Python writes by itself does not."""

from __future__ import annotations

import textwrap

import pytest

from daskperiment.capture.code import CodeCapture

CLASSES = {
    "dataclass": "@dataclasses.dataclass\nclass C:\n    x: int = DEFAULT",
    "with slots": "@dataclasses.dataclass(slots=True)\nclass C:\n    x: int = DEFAULT",
    "a switch that is on": "@dataclasses.dataclass\nclass C:\n    x: bool = DEFAULT == 1",
    "field": "@dataclasses.dataclass\nclass C:\n    x: int = dataclasses.field(default=DEFAULT)",
    "frozen with a factory": (
        "@dataclasses.dataclass(kw_only=True, frozen=True, slots=True)\n"
        "class C:\n    x: int = dataclasses.field(default_factory=lambda: DEFAULT)"
    ),
    "factory in a closure": (
        "def made(n):\n    return lambda: n\n@dataclasses.dataclass(slots=True)\n"
        "class C:\n    x: int = dataclasses.field(default_factory=made(DEFAULT))"
    ),
    "metadata": (
        "@dataclasses.dataclass\nclass C:\n"
        "    x: int = dataclasses.field(default=1, metadata={'scale': DEFAULT})"
    ),
    "option of a field": (
        "@dataclasses.dataclass\nclass C:\n    x: int = dataclasses.field(repr=DEFAULT == 1)"
    ),
    "option of a dataclass": (
        "@dataclasses.dataclass(order=DEFAULT == 1, eq=True)\nclass C:\n    x: int"
    ),
    "make_dataclass": (
        "C = dataclasses.make_dataclass('C', "
        "[('x', int, dataclasses.field(default=DEFAULT))], slots=True)"
    ),
    "inherited dataclass": (
        "@dataclasses.dataclass(slots=True)\nclass B:\n    x: int = DEFAULT\n"
        "@dataclasses.dataclass(slots=True)\nclass C(B):\n    y: int = 0"
    ),
    "initial variable": (
        "@dataclasses.dataclass\nclass C:\n    x: dataclasses.InitVar[int] = DEFAULT\n"
        "    def __post_init__(self, x):\n        self.y = x"
    ),
    "class of a field": (
        "@dataclasses.dataclass\nclass Inner:\n    x: int = DEFAULT\n"
        "@dataclasses.dataclass\nclass C:\n    inner: Inner"
    ),
    "annotated": "class C:\n    x: typing.Annotated[int, DEFAULT] = 0",
    "literal": "class C:\n    x: typing.Literal[DEFAULT] = 0",
    "nested annotation": "class C:\n    x: dict[str, list[typing.Literal[DEFAULT]] | None] = None",
    "text put in place": "class C:\n    x: int = 0\nC.__annotations__['y'] = str(DEFAULT)",
    "value put in place": "class C:\n    x: int = 0\nC.__annotations__['y'] = DEFAULT",
    "argument of a base": (
        "T = typing.TypeVar('T')\nclass B(typing.Generic[T]):\n    pass\n"
        "class C(B[typing.Literal[DEFAULT]]):\n    pass"
    ),
    "annotation of a method": (
        "class C:\n    def go(self, x: typing.Annotated[int, DEFAULT]):\n        return x"
    ),
    "named tuple": "class C(typing.NamedTuple):\n    x: int = DEFAULT",
    "old named tuple": "C = collections.namedtuple('C', 'x', defaults=[DEFAULT])",
    "typed dict": "class C(typing.TypedDict, total=DEFAULT == 1):\n    x: int",
    "enum": "C = enum.Enum('C', {'A': DEFAULT})",
    "enum by name": "class C(enum.Enum):\n    A = DEFAULT",
    "class method of an enum": (
        "class C(enum.Enum):\n    A = 1\n    @classmethod\n    def _missing_(cls, value):\n"
        "        return DEFAULT"
    ),
    "static method's default": (
        "class C:\n    @staticmethod\n    def f(x=DEFAULT):\n        return x"
    ),
    "property's default": "class C:\n    @property\n    def x(self, d=DEFAULT):\n        return d",
    "partial method": (
        "class C:\n    def f(self, x):\n        return x\n"
        "    g = functools.partialmethod(f, DEFAULT)"
    ),
    "method for a type": (
        "def other(self, x):\n    return DEFAULT\nclass C:\n    @functools.singledispatchmethod\n"
        "    def f(self, x):\n        return x\n    f.register(int)(other)"
    ),
    "special attribute": "class C:\n    __array_priority__ = DEFAULT",
    "special table": "class C:\n    __settings__ = {'a': [DEFAULT]}",
    "slots": "NAMES = ('a', 'b')[:DEFAULT]\nclass C:\n    __slots__ = NAMES",
    "set by a base": (
        "class B:\n    def __init_subclass__(cls, **k):\n        cls.z = DEFAULT\n"
        "class C(B):\n    pass"
    ),
    "given to a base": (
        "class B:\n    def __init_subclass__(cls, by):\n        cls.by = by\n"
        "class C(B, by=DEFAULT):\n    pass"
    ),
    "metaclass": (
        "class M(type):\n    def __new__(m, name, bases, space):\n"
        "        return super().__new__(m, name, bases, {**space, 'z': DEFAULT})\n"
        "class C(metaclass=M):\n    pass"
    ),
    "class decorator": (
        "def mark(n):\n    def decorate(cls):\n        cls.mark = n\n        return cls\n"
        "    return decorate\n@mark(DEFAULT)\nclass C:\n    pass"
    ),
    "made by type": "C = type('C', (), {'x': DEFAULT})",
    "made by new_class": "import types\n"
    "C = types.new_class('C', (), {}, lambda n: n.update(x=DEFAULT))",
    "own descriptor": (
        "class D:\n    def __init__(self, v):\n        self.v = v\n"
        "    def __get__(self, o, t):\n        return self.v\nclass C:\n    x = D(DEFAULT)"
    ),
    "class in a class": "class C:\n    class Meta:\n        x = DEFAULT",
    "old arguments": "class C:\n    def __init__(self, *, x=DEFAULT):\n        self.x = x",
    "subclass of a dict": (
        "class C(dict):\n    def __missing__(self, key):\n        return DEFAULT"
    ),
}  # fmt: skip

TEXT = """
import collections, dataclasses, enum, functools, typing
DEFAULT = 1
{}
def step():
    return C
"""


@pytest.mark.parametrize("text", CLASSES.values(), ids=CLASSES)
def test_constant_in_a_class(write, step_of, text):
    """A constant that a class was made with counts, though the class's source stays the same."""
    text = TEXT.format(text)
    before = step_of(write("usercode", text).step)
    changed = step_of(write("usercode", text.replace("DEFAULT = 1", "DEFAULT = 2")).step)
    assert changed.fingerprint != before.fingerprint
    assert step_of(write("usercode", text).step) == before
    assert None not in before.constants.values()


def test_use_of_a_class(write):
    """Pickling, hashing and looking at a class changes nothing of what it would do."""
    module = write("usercode", TEXT.format(CLASSES["with slots"]))
    before = CodeCapture().capture({"step": module.step})
    exec(
        "import copy, inspect, pickle\ninspect.signature(C)\ntyping.get_type_hints(C)\n"
        "C.__doc__\nrepr(C()) == repr(copy.copy(C()))\npickle.dumps(C())",
        vars(module),
    )
    assert CodeCapture().capture({"step": module.step}) == before


COSMETIC = [
    ("    x: int = 0", "    # A comment.\n    x: int = 0"),
    ("class C:", 'class C:\n    """A docstring."""'),
    ("def step", "def unused(): return C()\n\ndef step"),
    ("x: int = 0", "x: int = (0)"),
]


@pytest.mark.parametrize(("old", "new"), COSMETIC)
@pytest.mark.parametrize(
    "decorator", ["", "@dataclasses.dataclass\n", "@dataclasses.dataclass(slots=True)\n"]
)
def test_cosmetic_edits(write, step_of, decorator, old, new):
    """Comments, docstrings and layout of a class change nothing, however it was made."""
    text = textwrap.dedent(TEXT.format(f"{decorator}class C:\n    x: int = 0"))
    before = step_of(write("usercode", text).step)
    assert step_of(write("usercode", text.replace(old, new)).step) == before
