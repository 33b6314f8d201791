from __future__ import annotations

import functools
import linecache
import textwrap
import threading

import pytest

from daskperiment.capture.code import CodeCapture
from daskperiment.capture.code_changes import changed_functions, diff_functions, source_text

STEP = """
def step(x):
    return x + 1
"""


def fingerprint_of(write, step_of, text, name="usercode"):
    return step_of(write(name, text).step).fingerprint


@pytest.mark.parametrize(
    "text",
    [
        "\n\n\n# far below\ndef step(x):\n    return x + 1\n",
        "def step(x):\n    # says why\n    return x + 1  # and how\n",
        "def step(x):\n    '''Add one.'''\n    return x + 1\n",
        "def step( x ):\n    return (x\n        + 1)\n",
        "def other(deco):\n    return deco\n\n@other\ndef step(x):\n    return x + 1\n",
    ],
    ids=["moved", "comment", "docstring", "layout", "decorator"],
)
def test_what_does_not_matter(write, step_of, text):
    """Comments, docstrings, layout, lines and a step's own decorators do not count."""
    assert fingerprint_of(write, step_of, STEP) == fingerprint_of(write, step_of, text)


@pytest.mark.parametrize(
    "text",
    [
        "def step(x):\n    return x + 2\n",
        "def step(x):\n    return x - 1\n",
        "def step(x, y=1):\n    return x + 1\n",
        "def step(x):\n    return x + 1.0\n",
        "def step(x):\n    '''Add.'''\n    'not a docstring'\n    return x + True\n",
    ],
)
def test_what_matters(write, step_of, text):
    """Operators, constants and their types, and parameters count."""
    assert fingerprint_of(write, step_of, STEP) != fingerprint_of(write, step_of, text)


def test_helper_two_levels_deep(write, step_of):
    """An edit of a helper's helper changes the step; its comment does not."""
    text = """
        def low(x):
            return x * {0}  # {1}
        def mid(x):
            return low(x)
        def step(x):
            return mid(x)
    """
    first, same, other = (
        fingerprint_of(write, step_of, text.format(*values))
        for values in [(2, "a"), (2, "b"), (3, "a")]
    )
    assert first == same != other


def test_helper_through_module_attribute(write, step_of):
    """A helper reached as an attribute of a module is followed, into that module's own globals."""
    write(
        "helpers", "SCALE = 2\ndef scale(x):\n    return x * SCALE\ndef unused():\n    return 1\n"
    )
    module = write("usercode", "import helpers\ndef step(x):\n    return helpers.scale(x)\n")
    first = step_of(module.step)
    assert first.functions == ["usercode.step", "helpers.scale"]
    assert set(first.constants) == {"helpers.SCALE"}
    helpers = write("helpers", "SCALE = 2\ndef scale(x):\n    return x * SCALE * 1\n")
    assert step_of(module.step).fingerprint != first.fingerprint
    helpers.scale.__globals__["SCALE"] = 3
    assert step_of(module.step).constants != first.constants


CLASS = """
class Base:
    def weight(self):
        return {base}
class Model(Base):
    factor = {factor}
    @property
    def doubled(self):
        return helper(self.weight())
    @staticmethod
    def other():
        return {static}
def helper(x):
    return x * {helper}
def step(x):
    return Model().doubled * x
"""
VALUES = {"base": 1, "factor": 2, "static": 3, "helper": 4}


@pytest.mark.parametrize("part", VALUES)
def test_classes(write, step_of, part):
    """Methods, base classes, attributes, and what methods call, count."""
    first = fingerprint_of(write, step_of, CLASS.format(**VALUES))
    assert first == fingerprint_of(write, step_of, CLASS.format(**VALUES))
    assert first != fingerprint_of(write, step_of, CLASS.format(**{**VALUES, part: 9}))


def test_swapped_helpers(write, step_of):
    """Two helpers that change places are a change, though the same code is used."""
    write("one", "def f(x):\n    return x + 1\ndef g(x):\n    return x * 2\n")
    text = "from one import f as {0}, g as {1}\ndef step(x):\n    return a(b(x))\n"
    first = fingerprint_of(write, step_of, text.format("a", "b"))
    assert first != fingerprint_of(write, step_of, text.format("b", "a"))


def test_import_inside_function(write, step_of):
    """A module imported late counts as a whole, the same before and after it was loaded."""
    write("late", "import deeper\ndef f():\n    return deeper.g()\n", load=False)
    write("deeper", "def g():\n    return 1\n", load=False)
    module = write("usercode", "def step():\n    from late import f\n    return f()\n")
    before = step_of(module.step)
    assert module.step() == 1
    after = step_of(module.step)
    assert before == after
    assert before.functions == ["usercode.step", "late", "deeper"]
    write("deeper", "def g():\n    return 22\n", load=False)
    assert step_of(module.step).fingerprint != before.fingerprint


def test_packages_are_named_not_followed(write, step_of):
    """Installed packages end the walk: name and version are recorded, under the name to install."""
    text = """
        import json
        import numpy as np
        from sklearn.svm import SVC
        def step(x):
            return json.dumps(np.sum(SVC(x)))
    """
    found = step_of(write("usercode", text).step)
    assert found.functions == ["usercode.step"]
    assert set(found.packages) == {"numpy", "scikit-learn"}


def test_closures_and_defaults(step_of):
    """Closure values, defaults and keyword-only defaults count, whatever they are."""

    def make(rate, default, keyword):
        def inner(x, y=default, *, z=keyword):
            return x * rate + y + z

        return inner

    first = step_of(make(1, 2, 3))
    assert first == step_of(make(1, 2, 3))
    others = {step_of(make(*values)).fingerprint for values in [(9, 2, 3), (1, 9, 3), (1, 2, 9)]}
    assert len(others | {first.fingerprint}) == 4


def test_helper_in_a_container(write, code_of):
    """A function in a table of functions is followed, and its edit shown."""
    text = """
        def low(x):
            return x + {0}
        TABLE = {{"low": low}}
        def step(x):
            return TABLE["low"](x)
    """
    old = code_of(write("usercode", text.format(1)).step)
    new = code_of(write("usercode", text.format(2)).step)
    ((name, before, after),) = changed_functions(old, new, "step")
    assert name == "usercode.low"
    assert "-    return x + 1\n+    return x + 2" in diff_functions(before, after)


def test_user_decorator(write, step_of):
    """What a decorator of the user's does, and with which argument, counts."""
    text = """
        import functools
        def plus(n):
            def decorate(f):
                @functools.wraps(f)
                def wrapper(x):
                    return f(x) + {0}
                return wrapper
            return decorate
        @plus({1})
        def step(x):
            return x
    """
    first, code, argument = (
        fingerprint_of(write, step_of, text.format(*values))
        for values in [("n", 1), ("n + 1", 1), ("n", 2)]
    )
    assert len({first, code, argument}) == 3


class Wrapper:
    """Stands for a step: an object of daskperiment's that carries a function."""

    __module__ = "daskperiment.graph.step"

    def __init__(self, function):
        functools.update_wrapper(self, function)


def test_wrapped_steps(write, step_of):
    """A step used by another is walked as the function it wraps."""
    module = write("usercode", "def inner(x):\n    return x\ndef step(x):\n    return inner(x)\n")
    module.inner = Wrapper(module.inner)
    assert "usercode.inner" in step_of(module.step).functions
    assert step_of(Wrapper(module.step)) == step_of(module.step)


class Callable_:
    def __init__(self, n):
        self.n = n

    def __call__(self, x):
        return x + self.n

    def method(self, x):
        return x * self.n


@pytest.mark.parametrize(
    "make",
    [
        Callable_,
        lambda n: Callable_(n).method,
        lambda n: functools.partial(Callable_.method, n),
        lambda n: lambda x: x + n,
        lambda n: functools.lru_cache(functools.partial(lambda m, x: m + x, n)),
    ],
    ids=["object", "method", "partial", "lambda", "lru_cache"],
)
def test_kinds_of_callables(step_of, make):
    """Callable objects, bound methods, partials and lambdas are known by code and state."""
    assert step_of(make(1)).fingerprint == step_of(make(1)).fingerprint
    assert step_of(make(1)).fingerprint != step_of(make(2)).fingerprint
    assert step_of(make(1)).functions


@pytest.mark.parametrize("function", [len, max, int, functools.reduce])
def test_step_without_own_code(code_of, function):
    """A step that is no user's code has a fingerprint, and a note that says where it is from."""
    code = code_of(function)
    assert code == code_of(function)
    (only,) = code.functions.values()
    assert "no source: part of" in only.note


def test_lambdas_on_one_line(write, step_of):
    """Two lambdas on one line are told apart, and each shows its own text."""
    module = write("usercode", "pair = [lambda x: x + 1, lambda x: x + 2]\n")
    code = [CodeCapture().capture({"step": each}) for each in module.pair]
    assert [source_text(each).splitlines()[1] for each in code] == [
        "lambda x: x + 1",
        "lambda x: x + 2",
    ]


def terminal(text):
    """Define functions as a terminal does: no source is kept."""
    variables = {"__name__": "__main__"}
    exec(compile(textwrap.dedent(text), "<stdin>", "exec"), variables)
    return variables


def test_terminal(code_of, step_of):
    """Without source the compiled code counts, not lines, comments and docstrings."""
    text = "def step(x):\n    '''{0}'''\n    return x in {{'a', 'b', 'c'}} and {1}\n"
    first = terminal(text.format("Doc.", 1))["step"]
    same = terminal("# moved\n\n" + text.format("Another.", 1))["step"]
    other = terminal(text.format("Doc.", 2))["step"]
    assert step_of(first).fingerprint == step_of(same).fingerprint
    assert step_of(first).fingerprint != step_of(other).fingerprint
    (function,) = code_of(first).functions.values()
    assert function.source is None
    assert function.note.startswith("no source: ")
    assert "# no source: " in source_text(code_of(first))


def test_terminal_class_and_helper(step_of):
    """Without source, too, helpers and the methods of classes count."""
    text = "class C:\n    def m(self):\n        return {0}\ndef h(x):\n    return x + {1}\n"
    text += "def step(x):\n    return h(C().m())\n"
    prints = {
        step_of(terminal(text.format(*v))["step"]).fingerprint for v in [(1, 1), (2, 1), (1, 2)]
    }
    assert len(prints) == 3


def cell(variables, number, text):
    """Run a cell as IPython does: the source is in linecache, under no existing file."""
    name, text = f"/tmp/ipykernel_0/{number}.py", textwrap.dedent(text)
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), variables)


def test_notebook():
    """A helper that is defined again in a later cell is seen, with its source."""
    variables = {"__name__": "__main__"}
    cell(variables, 1, "def helper(x):\n    return x + 1\n")
    cell(variables, 2, "def step(x):\n    return helper(x)\n")
    capture, steps = CodeCapture(), {"step": variables["step"]}
    old = capture.capture(steps)
    cell(variables, 3, "def helper(x):\n    # new\n    return x + 2\n")
    new = capture.capture(steps)
    ((name, before, after),) = changed_functions(old, new, "step")
    assert name == "helper"
    assert (before.file, after.note) == (None, None)
    assert "+    # new" in diff_functions(before, after)


def test_file_edited_but_not_loaded(write, code_of):
    """Source that is not what runs is not recorded as if it was."""
    module = write("usercode", STEP)
    write("usercode", "def step(x):\n    return x + 2\n", load=False)
    (function,) = code_of(module.step).functions.values()
    assert function.source is None
    assert "changed after it was loaded" in function.note


def test_lines_moved_but_not_loaded(write, code_of):
    """A function that moved in its file since it was loaded is found again."""
    module = write("usercode", STEP)
    first = code_of(module.step)
    write("usercode", "import os\n\n\n" + STEP, load=False)
    assert code_of(module.step) == first


def test_edited_and_reloaded(write):
    """A module that is edited and loaded again is seen by the same capture."""
    capture, module = CodeCapture(), write("usercode", STEP)
    old = capture.capture({"step": module.step})
    module = write("usercode", STEP.replace("1", "2"))
    new = capture.capture({"step": module.step})
    assert "return x + 2" in source_text(new)
    assert changed_functions(old, new, "step")


def test_same_object_while_nothing_changes(write):
    """A second capture gives the same object; so does one after a change was taken back."""
    module = write("usercode", "RATE = 1000.5\ndef step(x):\n    return x * RATE\n")
    capture, steps = CodeCapture(), {"step": module.step}
    first = capture.capture(steps)
    assert capture.capture(steps) is first
    module.RATE = float("1000.5")
    assert capture.capture(steps) is first
    module.RATE = 2
    assert capture.capture(steps) != first


@pytest.mark.parametrize(
    "change",
    [
        "LIST.append(1)",
        "DICT['a']['b'] = 2",
        "ARRAY[0] = 5",
        "OBJECT.n = 2",
        "SET.add(7)",
        "Config.rate = 3",
        "helper.__defaults__ = (5,)",
        "helper.__code__ = (lambda x, y=1: x - y).__code__",
        "del LIST",
    ],
)
def test_changes_in_place(write, change):
    """Lists, dicts, arrays, objects and functions that change in place are seen at once."""
    text = """
        import numpy as np
        class Config:
            rate = 1
            def __init__(self):
                self.n = 1
        LIST, DICT, SET = [1, 2], {"a": {"b": 1}}, {1}
        ARRAY, OBJECT = np.zeros(10), Config()
        def helper(x, y=1):
            return x + y
        def step(x):
            return helper(x), LIST, DICT, ARRAY, OBJECT, Config, SET
    """
    module = write("usercode", text)
    capture, steps = CodeCapture(), {"step": module.step}
    first = capture.capture(steps)
    assert capture.capture(steps) is first
    exec(change, vars(module))
    assert capture.capture(steps).steps["step"].fingerprint != first.steps["step"].fingerprint


def test_item_moves_between_lists(write):
    """An item that moves from an inner to an outer list is seen."""
    module = write("usercode", "T = [[1, 2], [3]]\ndef step():\n    return T\n")
    capture, steps = CodeCapture(), {"step": module.step}
    first = capture.capture(steps)
    module.T.append(module.T[1].pop())
    assert capture.capture(steps) != first


def test_constant_without_fingerprint(write, step_of):
    """A value without fingerprint is named, with None."""
    module = write("usercode", "G = (i for i in [])\ndef step():\n    return G\n")
    assert step_of(module.step).constants == {"usercode.G": None}


def test_nothing_escapes(write):
    """Objects of the user's that fail whenever they are looked at do not stop a capture."""
    text = """
        class Hostile:
            def __getattribute__(self, name):
                raise RuntimeError("no")
            def __eq__(self, other):
                raise RuntimeError("no")
            __hash__ = None
        BAD = Hostile()
        def step():
            return BAD
    """
    code = CodeCapture().capture({"step": write("usercode", text).step})
    assert code.steps["step"].fingerprint


def test_recursion_and_registry(write, step_of):
    """Functions that call one another, and a table of functions that read it, come to an end."""
    text = """
        TABLE = {}
        def even(n):
            return n == 0 or odd(n - 1)
        def odd(n):
            return n != 0 and TABLE["even"](n - 1)
        TABLE.update(even=even, odd=odd)
        def step(n):
            return even(n)
    """
    found = step_of(write("usercode", text).step)
    assert set(found.functions) == {"usercode.step", "usercode.even", "usercode.odd"}
    assert found.constants["usercode.TABLE"]


def test_dataclass_and_enum(write, step_of):
    """Fields' defaults and enum values that are computed from elsewhere count."""
    text = """
        import dataclasses, enum
        RATE = {0}
        class Kind(enum.Enum):
            A = RATE
        @dataclasses.dataclass
        class Config:
            rate: float = RATE
        def step(x):
            return {1}
    """
    for used in ("Kind.A", "Config()"):
        first = fingerprint_of(write, step_of, text.format(1, used))
        assert first == fingerprint_of(write, step_of, text.format(1, used))
        assert first != fingerprint_of(write, step_of, text.format(2, used))


def test_two_processes(run_python):
    """The order of sets, which differs between processes, has no part in it."""
    text = """
        import dataclasses
        from daskperiment.capture.code import CodeCapture
        WORDS = {"a", "b", "c", "d", "e"}
        class C:
            def m(self):
                return {"x", "y", "z"}
        def helper(x):
            return x in {"p", "q", "r", "s"}
        space = {"__name__": "__main__"}
        exec("def f(x):\\n    return x in {'p', 'q', 'r', 's'}", space)
        def step(x):
            return helper(x), WORDS, C(), space["f"]
        code = CodeCapture().capture({"step": step, "other": space["f"]})
        print(code.steps["step"].fingerprint, code.steps["other"].fingerprint)
    """
    assert run_python(text, 1) == run_python(text, 2)


def test_threads(write):
    """Captures in many threads at once give one and the same object."""
    module = write("usercode", STEP)
    capture, found = CodeCapture(), []
    barrier = threading.Barrier(8)

    def work():
        barrier.wait()
        found.append(capture.capture({"step": module.step}))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(each) for each in found}) == 1
    assert len(found) == 8


def test_source_text_is_readable(write):
    """The steps come first, then their helpers, each once, with its file."""
    text = "def helper(x):\n    return x\ndef a(x):\n    return helper(x)\n"
    text += "def b(x):\n    return a(x)\n"
    module = write("usercode", text)
    code = CodeCapture().capture({"b": module.b, "a": module.a})
    shown = source_text(code)
    places = [shown.index(each) for each in ("# step b", "# step a", "# usercode.helper")]
    assert places == sorted(places)
    assert shown.count("def helper") == 1
    assert "def b" not in source_text(code, ["a"])
    with pytest.raises(ValueError, match="no step 'c'"):
        source_text(code, ["c"])


def test_changed_functions_names_both_sides(write):
    """A helper that is new or gone has None on the other side; an equal step has no changes."""
    old = CodeCapture().capture({"step": write("usercode", STEP).step})
    text = "def helper(x):\n    return x\ndef step(x):\n    return helper(x)\n"
    new = CodeCapture().capture({"step": write("usercode", text).step})
    found = {name: (a is None, b is None) for name, a, b in changed_functions(old, new, "step")}
    assert found == {"usercode.step": (False, False), "usercode.helper": (True, False)}
    assert changed_functions(old, old, "step") == []
    assert changed_functions(old, new, "unknown") == []


def test_generated_methods_are_not_code(write, code_of):
    """What a dataclass writes by itself is not shown as code of the user's."""
    text = """
        import dataclasses
        @dataclasses.dataclass(order=True)
        class Config:
            rate: float = 1.0
        def step():
            return Config()
    """
    code = code_of(write("usercode", text).step)
    assert list(code.functions) == ["usercode.step", "usercode.Config"]
    text = "import dataclasses\n@dataclasses.dataclass\nclass C:\n    x: int\ndef f():\n    C"
    variables = terminal(text)
    assert list(code_of(variables["f"]).functions) == ["f", "C"]


@pytest.mark.parametrize(
    "body",
    [
        "STATE['n'] += 1",
        "STATE.update(n=STATE['n'] + 1)",
        "ITEMS.append(1)",
        "globals_()",
        "model()",
        "OBJECT.n += 1",
        "OBJECT.inner.n = 3",
        "Total.total += 1",
        "state.COUNT += 1",
        "state.STATE['n'] += 1",
        "helper()",
        "CACHE[len(CACHE)] = Counter()",
    ],
)
def test_state_is_no_constant(write, body):
    """What the code itself changes has no fingerprint, and its content is no change of code."""
    write("state", "STATE, COUNT = {'n': 0}, 0\n")
    text = f"""
        import types
        import state
        class Total:
            total = 0
        class Counter:
            def __init__(self):
                self.n, self.inner = 0, types.SimpleNamespace(n=0)
        STATE, ITEMS, CACHE, COUNT, MODEL, OBJECT = {{"n": 0}}, [], {{}}, 0, None, Counter()
        def helper():
            STATE["n"] += 1
        def globals_():
            global COUNT
            COUNT += 1
        def model():
            global MODEL
            MODEL = MODEL or Counter()
        def step():
            seen = STATE, ITEMS, CACHE, COUNT, MODEL, OBJECT, Total.total
            seen += state.STATE, state.COUNT
            {body}
            return seen
    """
    module = write("usercode", text)
    capture, steps = CodeCapture(), {"step": module.step}
    first = capture.capture(steps)
    module.step()
    assert capture.capture(steps) is first
    assert None in first.steps["step"].constants.values()


def test_nonlocal_state(step_of):
    """A closure variable that is counted up is state, too."""
    n = 0

    def step():
        nonlocal n
        n += 1
        return n

    first = step_of(step)
    step()
    assert step_of(step) == first
    assert list(first.constants.values()) == [None]


def test_local_names_are_no_state(write, step_of):
    """Changing a local value of the same name, or another object, leaves a constant constant."""
    text = """
        TABLE = {{"a": {0}}}
        def helper():
            TABLE = dict()
            TABLE["a"] = 2
            return TABLE
        def step(x):
            x["a"] = TABLE["a"]
            x.update(TABLE)
            return helper()
    """
    first, other = (step_of(write("usercode", text.format(value)).step) for value in (1, 2))
    assert first.constants["usercode.TABLE"] is not None
    assert first.fingerprint != other.fingerprint
