"""Generated programs and edits of them: every semantic edit is seen, every cosmetic one is not."""

from __future__ import annotations

import ast
import importlib
import random
import sys

import pytest

from daskperiment.capture.code import CodeCapture

PARTS = {
    "constant": "{v} = {n}",
    "list": "{v} = [{n}, {{'a': ({n}, 'x')}}]",
    "function": "def {v}(x):\n    return x + {u}{call} * {n}",
    "default": "def {v}(x={n}, *, y=None):\n    return x, {u}",
    "lambda": "{v} = lambda x: (x, {u}, {n})",
    "closure": (
        "def make_{v}(k):\n    def inner(x):\n        return x, k, {u}\n    return inner\n"
        "{v} = make_{v}({n})"
    ),
    "partial": (
        "def part_{v}(x, k):\n    return x, k, {u}\n{v} = functools.partial(part_{v}, k={n})"
    ),
    "decorated": (
        "def times_{v}(k):\n    def decorate(f):\n        @functools.wraps(f)\n"
        "        def inner(x):\n            return k, f(x)\n        return inner\n"
        "    return decorate\n@times_{v}({n})\ndef {v}(x):\n    return x, {u}"
    ),
    "class": "class {v}:\n    rate = {n}\n    def go(self):\n        return {u}",
    "subclass": (
        "class Base{v}:\n    def go(self):\n        return {n}, {u}\nclass {v}(Base{v}):\n    pass"
    ),
    "dataclass": (
        "N_{v} = {n}\n@dataclasses.dataclass(slots=True)\nclass {v}:\n    x: int = N_{v}\n"
        "    def go(self):\n        return {u}"
    ),
    "factory": (
        "@dataclasses.dataclass\nclass {v}:\n"
        "    x: list = dataclasses.field(default_factory=lambda: [{n}, {u}])"
    ),
    "enum": "class {v}(enum.Enum):\n    A = {n}\n    def go(self):\n        return {u}",
    "named tuple": "class {v}(typing.NamedTuple):\n    x: int = {n}\n    y: str = 'a'",
    "annotated": (
        "class {v}:\n    x: typing.Annotated[int, {n}] = 0\n    def go(self):\n        return {u}"
    ),
    "object": (
        "class Of{v}:\n    def __init__(self, n):\n        self.n = n\n    def __call__(self):\n"
        "        return {u}\n{v} = Of{v}({n})"
    ),
    "descriptor": (
        "class Get{v}:\n    def __get__(self, o, t):\n        return {n}, {u}\n"
        "class {v}:\n    x = Get{v}()"
    ),
    "dispatch": (
        "@functools.singledispatch\ndef {v}(x):\n    return x\n@{v}.register(int)\n"
        "def _(x):\n    return x + {n}, {u}"
    ),
    "nested class": "def {v}(x):\n    class Inner:\n        y = {n}\n    return Inner, {u}",
    "async": "async def {v}(x):\n    return {n}, {u}",
}


def program(rng, length):
    """Make a chain of parts, each of which uses the one before it; list number -> reached."""
    kinds = [rng.choice(list(PARTS)) for _ in range(length)]
    parts, used = [], "len"
    for number, kind in enumerate(kinds):
        name = f"part_{number}"
        text = PARTS[kind].format(v=name, u=used, n=f"<{number}>", call="")
        parts.append(text)
        used = name if "{u}" in PARTS[kind] or not number else f"({name}, {used})"
        if "{u}" not in PARTS[kind]:
            parts.append(f"def both_{number}():\n    return {used}")
            used = f"both_{number}"
    parts.append(f"def step(x):\n    return {used}")
    parts.append("def unused(x):\n    return step(x), <99>")
    return "import dataclasses, enum, functools, typing\n" + "\n".join(parts) + "\n", kinds


def filled(template, values):
    """Put numbers in."""
    for number, value in values.items():
        template = template.replace(f"<{number}>", str(value))
    return template


def commented(text, rng):
    """Edit what does not matter: comments, docstrings, blank lines, layout, names nobody uses."""
    lines = []
    for line in text.splitlines():
        if rng.random() < 0.3 and not line.startswith("@") and (not lines or lines[-1][:1] != "@"):
            lines.append(f"{line[: len(line) - len(line.lstrip())]}# A comment.")
        if line.startswith("def ") and rng.random() < 0.3:
            lines += [line, '    """A docstring."""']
        else:
            lines.append(line)
    return "UNUSED = 1\n\n\n" + "\n".join(lines) + "\n\nFURTHER = UNUSED\n"


def unparsed(text, rng):
    """Write it all anew in another layout."""
    return ast.unparse(ast.parse(text))


@pytest.fixture
def fingerprint(tmp_path, monkeypatch):
    """Give the code fingerprint of the step in a module of this text."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))

    def fingerprint(text):
        (tmp_path / "generated.py").write_text(text)
        sys.modules.pop("generated", None)
        importlib.invalidate_caches()
        step = importlib.import_module("generated").step
        found = CodeCapture().capture({"step": step}).steps["step"]
        assert None not in found.constants.values(), found.constants
        return found.fingerprint

    yield fingerprint
    sys.modules.pop("generated", None)


@pytest.mark.parametrize("seed", range(40))
def test_generated_edits(fingerprint, seed):
    """Each number in a generated program counts; comments, layout and unused names do not."""
    rng = random.Random(seed)
    template, kinds = program(rng, rng.randint(2, 7))
    values = {**{number: rng.randint(1, 9) for number in range(len(kinds))}, 99: 1}
    text = filled(template, values)
    before = fingerprint(text)
    for number, kind in enumerate(kinds):
        edited = filled(template, {**values, number: values[number] + 10})
        assert fingerprint(edited) != before, (kind, edited)
    for edit in (commented, unparsed):
        assert fingerprint(edit(text, rng)) == before, edit(text, random.Random(seed))
    assert fingerprint(filled(template, {**values, 99: 2})) == before
    assert fingerprint(text) == before
