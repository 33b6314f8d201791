"""The ways in which a step can depend on a number, as fragments of code."""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import dedent

__all__ = ["COSMETICS", "FORMS", "Fragment", "fragment"]


@dataclass(frozen=True)
class Fragment:
    """What one knob puts into the project."""

    expression: str
    """A number, in the step."""
    files: dict[str, str] = field(default_factory=dict)
    """Text that is added to files."""
    prelude: str = ""
    """A line of the step before the expression."""
    parameter: str = ""
    """A parameter of the step that has a default."""
    decorator: str = ""
    """A line before the step."""
    argument: tuple[str, object] | None = None
    """How the parameter that has the knob's name is given: its kind, and its value."""
    helper: str = ""
    """The function in the module ``steps`` that the step calls."""


FORMS = {
    "body": ("number", "operator", "statement", "lambda", "comprehension"),
    "helper": ("import", "attribute", "partial", "function inside", "generator"),
    "constant": ("int", "float", "list", "dict", "nested", "tuple", "frozenset", "text", "bytes",
                 "array", "decimal", "date", "range", "complex", "regex"),
    "default": ("step", "helper", "keyword", "lambda"),
    "closure": ("function", "lambda", "twice", "partial", "list", "loop"),
    "decorator": ("argument", "body", "class", "of the step"),
    "config": ("dataclass", "field", "factory", "frozen", "inherited", "named tuple", "enum",
               "pydantic", "attrs"),
    "class": ("method", "base", "attribute", "property", "static", "class method", "call",
              "instance", "metaclass", "descriptor", "hook"),
    "package": ("version",),
    "argument": ("int", "float", "text", "list", "dict", "tuple", "array", "keyword"),
    "field": ("plain", "nested"),
    "file": ("node", "path", "observed"),
    "folder": ("node", "path", "glob", "observed"),
    "variable": ("get", "item", "getenv"),
    "seed": ("random", "numpy"),
}  # fmt: skip
"""For each kind of thing that a step may depend on, the forms in which it stands in a project."""

COSMETICS = (
    "comment", "trailing", "docstring", "blank lines", "layout", "header", "moved", "touch",
    "unused constant", "unused package", "unused variable", "unused field", "call form",
)  # fmt: skip
"""Edits that change nothing that a step depends on."""


def fragment(kind: str, form: str, name: str, number: int) -> Fragment:
    """Return what a knob of some kind and form puts into the project at a number."""
    return globals()[f"_{kind}"](form, name, number)


def _steps(text: str) -> dict[str, str]:
    return {"code/steps.py": dedent(text).lstrip()}


def _body(form, name, n):
    match form:
        case "operator":
            return Fragment(f"(x * 5 {'+-'[n % 2]} {n})")
        case "statement":
            return Fragment("(x + extra)", prelude=f"extra = {n}")
        case "lambda":
            return Fragment(f"(lambda y: y + {n})(x)")
        case "comprehension":
            return Fragment(f"sum(y + {n} for y in range(x % 5 + 1))")
    return Fragment(f"(x * 3 + {n})")


def _helper(form, name, n):
    files = {
        "code/outer.py": f"def {name}_outer(x):\n    return middle.{name}_middle(x) + 1\n",
        "code/middle.py": f"def {name}_middle(x):\n    return deep.{name}_core(x) * 2\n",
        "code/deep.py": f"def {name}_core(x):\n    return x + {n}\n",
    }
    match form:
        case "import":
            files["code/steps.py"] = f"from outer import {name}_outer\n"
        case "partial":
            files["code/steps.py"] = f"{name}_outer = functools.partial(outer.{name}_outer)\n"
        case "function inside":
            files["code/deep.py"] = (
                f"def {name}_core(x):\n    def {name}_inner(y):\n        return y + {n}\n\n"
                f"    return {name}_inner(x)\n"
            )
            files["code/steps.py"] = f"from outer import {name}_outer\n"
        case "generator":
            files["code/deep.py"] = f"def {name}_core(x):\n    yield x\n    yield {n}\n"
            files["code/middle.py"] = (
                f"def {name}_middle(x):\n    return sum(deep.{name}_core(x)) * 2\n"
            )
            files["code/steps.py"] = f"from outer import {name}_outer\n"
        case _:
            return Fragment(f"outer.{name}_outer(x)", files, helper=f"outer.{name}_outer")
    return Fragment(f"{name}_outer(x)", files, helper=f"{name}_outer")


_CONSTANTS = {
    "int": ("{n}", "{}"),
    "float": ("{n}.5", "int({} * 2)"),
    "list": ("[1, {n}]", "sum({})"),
    "dict": ('{{"a": {n}, "b": 2}}', '{}["a"]'),
    "nested": ('{{"a": [{{"b": {n}}}]}}', '{}["a"][0]["b"]'),
    "tuple": ("(3, {n})", "{}[1]"),
    "frozenset": ('frozenset({{"a", "b", {n}}})', "max(y for y in {} if isinstance(y, int))"),
    "text": ('"{n}"', "int({})"),
    "bytes": ('b"{n}"', "int({})"),
    "array": ("numpy.array([1, {n}])", "int({}.sum())"),
    "decimal": ('decimal.Decimal("{n}.5")', "int({} * 2)"),
    "date": ("datetime.date.fromordinal({n})", "{}.toordinal()"),
    "range": ("range({n})", "len({})"),
    "complex": ("complex(1, {n})", "int({}.imag)"),
    "regex": ('re.compile("a{n}")', "int({}.pattern[1:])"),
}


def _constant(form, name, n):
    text, use = _CONSTANTS[form]
    variable = f"{name}_value"
    head = "import datetime\nimport decimal\nimport re\n\nimport numpy\n\n"
    value = f"{head}{variable} = {text.format(n=n)}\n"
    return Fragment(use.format(f"settings.{variable}"), {"code/settings.py": value})


def _default(form, name, n):
    match form:
        case "step":
            return Fragment(f"(x + {name})", parameter=f"{name}: int = {n}")
        case "keyword":
            text = f"def _{name}(x, *, by={n}):\n    return x + by\n"
        case "lambda":
            text = f"_{name} = lambda x, by={n}: x + by\n"
        case _:
            text = f"def _{name}(x, by={n}):\n    return x + by\n"
    return Fragment(f"_{name}(x)", _steps(text), helper=f"_{name}")


_CLOSURES = {
    "loop": """
        def _{k}_make():
            found = []
            for {k}_by in range({n}):
                found.append(lambda x: x + {k}_by)
            return found


        _{k} = _{k}_make()[0]
        """,
    "lambda": """
        def _{k}_make({k}_by):
            return lambda x: x + {k}_by


        _{k} = _{k}_make({n})
        """,
    "twice": """
        def _{k}_make({k}_by):
            def inner(y):
                return y + {k}_by

            def outside(x):
                return inner(x) * 2

            return outside


        _{k} = _{k}_make({n})
        """,
    "partial": """
        def _{k}_add({k}_by, x):
            return x + {k}_by


        _{k} = functools.partial(_{k}_add, {n})
        """,
    "list": """
        def _{k}_make({k}_by):
            return lambda x: x + sum({k}_by)


        _{k} = _{k}_make([1, {n}])
        """,
    "function": """
        def _{k}_make({k}_by):
            def {k}_add(x):
                return x + {k}_by

            return {k}_add


        _{k} = _{k}_make({n})
        """,
}


def _closure(form, name, n):
    return Fragment(f"_{name}(x)", _steps(_CLOSURES[form].format(k=name, n=n)), helper=f"_{name}")


def _decorator(form, name, n):
    change = n if form in ("body", "class") else "by"
    argument = "" if form in ("body", "class") else n
    text = f"""
    def _{name}_by(by=0):
        def {name}_decorate(function):
            @functools.wraps(function)
            def {name}_inner(*args, **kwargs):
                return function(*args, **kwargs) + {change}

            return {name}_inner

        return {name}_decorate
    """
    if form == "of the step":
        return Fragment("1", _steps(text), decorator=f"@_{name}_by({n})")
    if form == "class":
        text = f"""
        class _{name}_by:
            def __init__(self):
                self.function = None

            def __call__(self, function):
                return {name}_Wrapped(function)


        class {name}_Wrapped:
            def __init__(self, function):
                self.function = function

            def __call__(self, x):
                return self.function(x) + {n}
        """
    text = dedent(text).lstrip() + f"\n\n@_{name}_by({argument})\ndef _{name}(x):\n    return x\n"
    return Fragment(f"_{name}(x)", _steps(text), helper=f"_{name}")


_CONFIGS = {
    "dataclass": "@dataclasses.dataclass\nclass {name}_Config:\n    width: int = {n}\n",
    "field": "@dataclasses.dataclass\nclass {name}_Config:\n"
    "    width: int = dataclasses.field(default={n})\n",
    "factory": "@dataclasses.dataclass\nclass {name}_Config:\n"
    "    width: int = dataclasses.field(default_factory=lambda: {n})\n",
    "frozen": "@dataclasses.dataclass(frozen=True, slots=True)\nclass {name}_Config:\n"
    "    width: int = {n}\n",
    "inherited": "@dataclasses.dataclass\nclass {name}_Base:\n    width: int = {n}\n\n\n"
    "@dataclasses.dataclass\nclass {name}_Config({name}_Base):\n    depth: int = 1\n",
    "named tuple": "class {name}_Config(typing.NamedTuple):\n    width: int = {n}\n",
    "enum": "class {name}_Config(enum.Enum):\n    width = {n}\n",
    "pydantic": "class {name}_Config(pydantic.BaseModel):\n"
    "    width: int = pydantic.Field(default={n})\n",
    "attrs": "@attrs.define\nclass {name}_Config:\n    width: int = attrs.field(default={n})\n",
}


def _config(form, name, n):
    head = "import dataclasses\nimport enum\nimport typing\n\n"
    head += {"pydantic": "import pydantic\n\n", "attrs": "import attrs\n\n"}.get(form, "")
    use = (
        f"settings.{name}_Config.width.value"
        if form == "enum"
        else f"settings.{name}_Config().width"
    )
    return Fragment(use, {"code/settings.py": head + _CONFIGS[form].format(name=name, n=n)})


_CLASSES = {
    "method": ("    def width(self):\n        return {n}\n", "{c}().width()"),
    "attribute": ("    width = {n}\n", "{c}.width"),
    "property": ("    @property\n    def width(self):\n        return {n}\n", "{c}().width"),
    "static": ("    @staticmethod\n    def width():\n        return {n}\n", "{c}.width()"),
    "class method": (
        "    inner = {n}\n\n    @classmethod\n    def width(cls):\n        return cls.inner\n",
        "{c}.width()",
    ),
    "call": ("    def __call__(self, x):\n        return x + {n}\n", "{c}()(x)"),
    "instance": ("    def __init__(self):\n        self.width = {n}\n", "{name}_made.width"),
    "base": ("    pass\n", "{c}().width()"),
    "metaclass": ("    pass\n", "{c}.width()"),
    "descriptor": ("    width = {name}_Base()\n", "{c}().width"),
    "hook": ("    pass\n", "{c}.width"),
}

_BASES = {
    "base": ("", "def width(self):\n        return {n}", "({name}_Base)"),
    "metaclass": ("(type)", "def width(cls):\n        return {n}", "(metaclass={name}_Base)"),
    "descriptor": ("", "def __get__(self, owner, kind=None):\n        return {n}", ""),
    "hook": ("", "def __init_subclass__(cls):\n        cls.width = {n}", "({name}_Base)"),
}
"""What stands before such a class: of which class, with which method; and how it is taken up."""


def _class(form, name, n):
    body, use = _CLASSES[form]
    base = heir = ""
    if form in _BASES:
        of, method, heir = _BASES[form]
        base = f"class {name}_Base{of}:\n    {method.format(n=n)}\n\n\n"
    text = f"{base}class {name}_Model{heir.format(name=name)}:\n{body.format(n=n, name=name)}"
    if form == "instance":
        text += f"\n\n{name}_made = {name}_Model()\n"
    return Fragment(use.format(c=f"{name}_Model", name=name), _steps(text))


def _package(form, name, n):
    info = f"site/{name}-{n}.dist-info"
    files = {
        f"{info}/METADATA": f"Name: {name}\nVersion: {n}\n",
        f"{info}/RECORD": f"{name}.py,,\n",
        f"site/{name}.py": f"def width():\n    return {n}\n",
        "code/steps.py": f"import {name}\n",
    }
    return Fragment(f"{name}.width()", files)


def _argument(form, name, n):
    import numpy as np

    values = {
        "int": (n, "{}"), "keyword": (n, "{}"), "float": (n / 2, "int({} * 2)"),
        "text": (str(n), "int({})"), "list": ([1, n], "sum({})"), "dict": ({"a": n}, '{}["a"]'),
        "tuple": ((1, n), "{}[1]"), "array": (np.array([1, n]), "int({}.sum())"),
    }  # fmt: skip
    value, use = values[form]
    return Fragment(use.format(name), argument=("literal", value))


def _field(form, name, n):
    use = f'{name}["depth"]' if form == "nested" else name
    return Fragment(use, argument=("field", name))


def _file(form, name, n):
    files = {f"data/{name}.txt": str(n)}
    if form == "observed":
        return Fragment(f'reading.number("data/{name}.txt")', files)
    return Fragment(f"reading.number({name})", files, argument=(form, f"data/{name}.txt"))


def _folder(form, name, n):
    count = n % 3 + 1
    files = {f"data/{name}/part{i}.txt": str(n // 3 * 7 + i) for i in range(count)}
    place = f"data/{name}"
    if form == "observed":
        return Fragment(f'reading.folder("{place}")', files)
    kind = {"node": "folder", "path": "folder path", "glob": "glob"}[form]
    return Fragment(f"reading.folder({name})", files, argument=(kind, place))


def _variable(form, name, n):
    use = {"get": 'environ.get("{}", "0")', "item": 'environ["{}"]', "getenv": 'getenv("{}")'}
    return Fragment(f"int(os.{use[form].format(name.upper())})")


def _seed(form, name, n):
    draw = "random.randrange(10**6)" if form == "random" else "int(numpy.random.randint(10**6))"
    text = f"""
    import numpy


    def _{name}(seed):
        if seed is not None:
            return random.Random(seed).randrange(10**6)
        return {draw}
    """
    return Fragment(f"_{name}({name})", _steps(text), argument=("seed", n), helper=f"_{name}")
