"""What configuration classes of libraries would do counts as that of plain classes does."""

from __future__ import annotations

import importlib
import sys

import pytest

from daskperiment.capture.code import CodeCapture

pytest.importorskip("attrs")
pytest.importorskip("pydantic")
pytest.importorskip("msgspec")

CLASSES = {
    "attrs": "@attrs.define\nclass C:\n    x: int = DEFAULT",
    "attrs without slots": "@attrs.define(slots=False)\nclass C:\n    x: int = DEFAULT",
    "attrs frozen": "@attrs.frozen\nclass C:\n    x: int = attrs.field(default=DEFAULT)",
    "attrs factory": (
        "@attrs.define\nclass C:\n    x: list = attrs.field(factory=lambda: [DEFAULT])"
    ),
    "attrs metadata": "@attrs.define\nclass C:\n    x: int = attrs.field(metadata={'u': DEFAULT})",
    "attrs validator": (
        "@attrs.define\nclass C:\n    x: int = attrs.field(validator=attrs.validators.lt(DEFAULT))"
    ),
    "attrs validators": (
        "@attrs.define\nclass C:\n    x: int = attrs.field(validator=[attrs.validators.optional("
        "attrs.validators.in_([5, DEFAULT])), attrs.validators.instance_of(int)])"
    ),
    "attrs own validator": (
        "def check(o, a, v):\n    assert v < DEFAULT\n"
        "@attrs.define\nclass C:\n    x: int = attrs.field(validator=check)"
    ),
    "attrs decorated validator": (
        "@attrs.define\nclass C:\n    x: int = attrs.field()\n    @x.validator\n"
        "    def check(self, a, v):\n        assert v < DEFAULT"
    ),
    "attrs decorated default": (
        "@attrs.define\nclass C:\n    x: int = attrs.field()\n    @x.default\n"
        "    def start(self):\n        return DEFAULT"
    ),
    "attrs converter": (
        "@attrs.define\nclass C:\n"
        "    x: int = attrs.field(converter=attrs.converters.default_if_none(DEFAULT))"
    ),
    "old attrs": "@attr.s\nclass C:\n    x = attr.ib(default=DEFAULT)",
    "inherited attrs": (
        "@attrs.define\nclass B:\n    x: int = DEFAULT\n@attrs.define\nclass C(B):\n    y: int = 0"
    ),
    "made by attrs": "C = attrs.make_class('C', {'x': attrs.field(default=DEFAULT)})",
    "pydantic": "class C(BaseModel):\n    x: int = DEFAULT",
    "pydantic field": "class C(BaseModel):\n    x: int = Field(default=DEFAULT)",
    "pydantic factory": "class C(BaseModel):\n    x: int = Field(default_factory=lambda: DEFAULT)",
    "pydantic constraint": "class C(BaseModel):\n    x: int = Field(default=3, le=DEFAULT)",
    "pydantic pattern": (
        "class C(BaseModel):\n    x: str = Field(default='a', pattern='a' * DEFAULT)"
    ),
    "pydantic alias": "class C(BaseModel):\n    x: int = Field(default=3, alias='a' * DEFAULT)",
    "pydantic configuration": (
        "class C(BaseModel):\n    model_config = pydantic.ConfigDict(str_max_length=DEFAULT)\n"
        "    x: str = ''"
    ),
    "pydantic annotated": (
        "T = typing.Annotated[int, Field(le=DEFAULT)]\nclass C(BaseModel):\n    x: T = 0"
    ),
    "pydantic annotated deeper": (
        "T = list[typing.Annotated[int, Field(le=DEFAULT)]]\nclass C(BaseModel):\n    x: T = []"
    ),
    "pydantic after validator": (
        "def check(v):\n    return v + DEFAULT\nT = typing.Annotated[int, "
        "pydantic.AfterValidator(check)]\nclass C(BaseModel):\n    x: T = 0"
    ),
    "pydantic validator": (
        "class C(BaseModel):\n    x: int = 0\n    @pydantic.field_validator('x')\n"
        "    @classmethod\n    def check(cls, v):\n        return v + DEFAULT"
    ),
    "pydantic shared validator": (
        "def check(v):\n    return v + DEFAULT\nclass C(BaseModel):\n    x: int = 0\n"
        "    both = pydantic.field_validator('x')(check)"
    ),
    "pydantic validated fields": (
        "class C(BaseModel):\n    x: int = 0\n    y: int = 0\n"
        "    @pydantic.field_validator(*['x', 'y'][:DEFAULT])\n"
        "    @classmethod\n    def check(cls, v):\n        return v + 1"
    ),
    "pydantic private": "class C(BaseModel):\n    _p: int = pydantic.PrivateAttr(default=DEFAULT)",
    "pydantic computed": (
        "class C(BaseModel):\n    @pydantic.computed_field\n    @property\n"
        "    def x(self) -> int:\n        return DEFAULT"
    ),
    "pydantic inherited": (
        "class B(BaseModel):\n    x: int = DEFAULT\nclass C(B):\n    y: int = 0"
    ),
    "pydantic within": (
        "class B(BaseModel):\n    x: int = DEFAULT\nclass C(BaseModel):\n    b: B | None = None"
    ),
    "pydantic generic": (
        "T = typing.TypeVar('T')\nclass B(BaseModel):\n    x: int = DEFAULT\n"
        "class G(BaseModel, typing.Generic[T]):\n    v: T\nC = G[B]"
    ),
    "made by pydantic": "C = pydantic.create_model('C', x=(int, DEFAULT))",
    "pydantic dataclass": "@pydantic.dataclasses.dataclass\nclass C:\n    x: int = DEFAULT",
    "old pydantic": "class C(v1.BaseModel):\n    x: int = DEFAULT",
    "old pydantic field": "class C(v1.BaseModel):\n    x: int = v1.Field(3, le=DEFAULT)",
    "old pydantic validator": (
        "class C(v1.BaseModel):\n    x: int = 0\n    @v1.validator('x', allow_reuse=True)\n"
        "    def check(cls, v):\n        return v + DEFAULT"
    ),
    "old pydantic configuration": (
        "class C(v1.BaseModel):\n    class Config:\n        max_anystr_length = DEFAULT"
    ),
    "msgspec": "class C(msgspec.Struct):\n    x: int = DEFAULT",
    "msgspec factory": (
        "class C(msgspec.Struct):\n    x: list = msgspec.field(default_factory=lambda: [DEFAULT])"
    ),
    "msgspec option": "class C(msgspec.Struct, frozen=DEFAULT == 1):\n    x: int = 0",
}

TEXT = """
import typing
import attr, attrs, msgspec, pydantic, pydantic.dataclasses
import pydantic.v1 as v1
from pydantic import BaseModel, Field
DEFAULT = {}
{}
def step():
    return C
"""


@pytest.fixture
def step_of(tmp_path, monkeypatch):
    """Give what a step depends on in a module of this text."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def step_of(text):
        (tmp_path / "usercode.py").write_text(text)
        sys.modules.pop("usercode", None)
        importlib.invalidate_caches()
        step = importlib.import_module("usercode").step
        return CodeCapture().capture({"step": step}).steps["step"]

    yield step_of
    sys.modules.pop("usercode", None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("text", CLASSES.values(), ids=CLASSES)
def test_constant_in_a_class(step_of, text):
    """A constant that a class was made with counts, though the class's source stays the same."""
    before, same, other = [step_of(TEXT.format(value, text)) for value in (1, 1, 2)]
    assert other.fingerprint != before.fingerprint
    assert same == before
    assert None not in before.constants.values()
