"""Classes that code finds by asking which there are, and settings of libraries."""

from __future__ import annotations

import decimal
import locale

import numpy as np
import pytest

from daskperiment.capture.code import CodeCapture
from daskperiment.errors import CodeChangedWarning
from tests.helpers.garbage import collect

FOUND = {
    "of a class": "def step():\n    return [c().f() for c in Base.__subclasses__()]\n",
    "of the class itself": "def step():\n    return Base.make().f()\n",
    "by a helper": """
def every(cls):
    for each in cls.__subclasses__():
        yield each
        yield from every(each)
def step():
    return [c().f() for c in every(Base)]
""",
    "by __init_subclass__": "def step():\n    return REGISTRY['Plug']().f()\n",
    "by a metaclass": "def step():\n    return METACLASS['Plug']().f()\n",
}
CLASSES = """
REGISTRY, METACLASS = {}, {}
class Meta(type):
    def __new__(meta, name, bases, members):
        METACLASS[name] = made = super().__new__(meta, name, bases, members)
        return made
class Base(metaclass=Meta):
    def __init_subclass__(cls):
        REGISTRY[cls.__name__] = cls
    @classmethod
    def make(cls):
        return cls.__subclasses__()[0]()
class Middle(Base):
    pass
class Plug(Middle):
    def f(self):
        return VALUE
"""


@pytest.mark.parametrize("way", FOUND)
def test_classes_that_nobody_names(write, step_of, way):
    """What a class does that is found by its base, or by a table of all, is code of the step."""
    first, same, other = (
        step_of(write("usercode", CLASSES.replace("VALUE", value) + FOUND[way]).step)
        for value in ("1", "1  # as before", "2")
    )
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert "usercode.Plug" in first.functions
    assert None not in first.constants.values()  # as it would be of what the code changes
    collect()


def test_a_class_that_comes_later(write):
    """In a running process a new class among those that are found changes the code, too."""
    module = write("usercode", CLASSES.replace("VALUE", "1") + FOUND["by a helper"])
    capture = CodeCapture()
    before = capture.capture({"step": module.step}).steps["step"].fingerprint
    assert capture.capture({"step": module.step}).steps["step"].fingerprint == before
    exec("class Later(Base):\n    def f(self):\n        return 3\n", vars(module))
    assert capture.capture({"step": module.step}).steps["step"].fingerprint != before


SETTINGS = {
    "decimal": ("import decimal\ndef step():\n    return decimal.Decimal(1) / 3\n", "prec"),
    "numpy": ("import numpy as np\ndef step():\n    return np.ones(1) / 0\n", "divide"),
    "annotation": ("import decimal\ndef step(x: decimal.Decimal):\n    return x / 3\n", "prec"),
    "annotation as text": (
        "from __future__ import annotations\nimport numpy as np\n"
        "def step(x: list[np.ndarray]):\n    return x[0] / 0\n",
        "divide",
    ),
    "late import": ("def step():\n    import decimal\n    return decimal.Decimal(1) / 3\n", "prec"),
}
SET_THERE = {
    "decimal": """
import decimal
def step():
    decimal.getcontext().prec = 5
    return decimal.Decimal(1) / 3
""",
    "numpy": """
import numpy as np
def step():
    with np.errstate(divide="raise"):
        return np.ones(1) / 0
""",
    "neither": "def step():\n    return 1\n",
}


@pytest.fixture
def set_anew():
    """Set what results depend on, and put it back."""
    with decimal.localcontext() as context, np.errstate():

        def change():
            context.prec = 7
            np.seterr(divide="raise")

        yield change


@pytest.mark.parametrize("way", SETTINGS)
def test_settings_of_libraries_that_it_uses(write, step_of, set_anew, way):
    """What was set for the whole process counts by its name; what was not says nothing."""
    text, name = SETTINGS[way]
    module = write("usercode", text)
    capture = CodeCapture()
    before = capture.capture({"step": module.step}).steps["step"]
    set_anew()
    after = capture.capture({"step": module.step}).steps["step"]
    assert before.fingerprint != after.fingerprint
    assert not before.constants
    assert [name in each for each in after.constants] == [True]


@pytest.mark.parametrize("way", SET_THERE)
def test_settings_that_it_sets_itself(write, step_of, set_anew, way):
    """Code that sets them does not depend on what they were, nor code without the library."""
    module = write("usercode", SET_THERE[way])
    before = step_of(module.step).fingerprint
    set_anew()
    assert step_of(module.step).fingerprint == before


LOCAL = {
    "time": "import time\ndef step():\n    return time.strftime('%A')\n",
    "datetime": "from datetime import date\ndef step():\n    return date.max.strftime('%A')\n",
    "order": "import locale\ndef step():\n    return sorted('aBc', key=locale.strxfrm)\n",
}


@pytest.mark.parametrize("way", LOCAL)
def test_the_language_of_the_process(write, step_of, monkeypatch, way):
    """The names of days and the order of letters count where code asks for them."""
    module = write("usercode", LOCAL[way])
    before = step_of(module.step).fingerprint
    assert step_of(module.step).fingerprint == before
    # Not every machine has another language.
    monkeypatch.setattr(locale, "setlocale", lambda category, value=None: "de_DE.UTF-8")
    assert step_of(module.step).fingerprint != before
    waiting = write("waiting", "import time\ndef step():\n    return time.monotonic()\n").step
    assert not step_of(waiting).constants


def test_the_precision_of_mpmath(write, step_of):
    """So does the number of digits that mpmath computes with."""
    mpmath = pytest.importorskip("mpmath")
    module = write("usercode", "import mpmath\ndef step():\n    return mpmath.mpf(1) / 3\n")
    before = step_of(module.step).fingerprint
    with mpmath.workdps(40):
        assert step_of(module.step).fingerprint != before
    assert step_of(module.step).fingerprint == before


def test_how_something_is_shown(write, step_of):
    """Options of display, which people change while they look, run nothing again."""
    module = write("usercode", SETTINGS["numpy"][0])
    before = step_of(module.step).fingerprint
    with np.printoptions(precision=2):
        assert step_of(module.step).fingerprint == before


def test_the_reason_says_that_it_was_set(ex, set_anew):
    """Who asks why a step runs is told which setting is set now, and which is put back."""

    @ex.persist(reuse=True)
    def third():
        return str(decimal.Decimal(1) / 3)

    result = ex.result(str)(third())
    result.compute(scheduler="synchronous")
    set_anew()
    assert ex.explain(result)["third"].reason == "setting decimal.getcontext().prec is set now"
    with pytest.warns(CodeChangedWarning, match="prec, which it reads, changed"):
        assert len(result.compute(scheduler="synchronous")) == 9
    with decimal.localcontext(prec=28):
        assert ex.explain(result)["third"].verdict == "hit"
