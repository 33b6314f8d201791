"""Code that hangs on classes of libraries, or that a module gives on demand, counts where used."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from daskperiment.capture.code import CodeCapture

HELPER = "def helper(x):\n    return x + {}\n"
REGISTER = "import pandas as pd\n@pd.api.extensions.register_{}_accessor('mine_{}')\n"
ACCESSOR = "class Mine:\n    def __init__(self, of):\n        self.of = of\n"

EXTENSIONS = {
    kind: (
        HELPER + REGISTER.format(kind, kind) + ACCESSOR
        + "    def go(self):\n        return helper(1)\n"
        f"def step(x):\n    return x.mine_{kind}.go()\n"
    )
    for kind in ("dataframe", "series", "index")
} | {
    "method put on a class": (
        "import pandas as pd\n" + HELPER + "pd.DataFrame.mine_method = helper\n"
        "def step(x):\n    return x.mine_method()\n"
    ),
    "used by a helper": (
        HELPER + REGISTER.format("dataframe", "deep") + ACCESSOR
        + "    def go(self):\n        return helper(1)\ndef inner(x):\n"
        "    return [y.mine_deep for y in x]\ndef step(x):\n    return inner(x)\n"
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _unregistered():
    """Take the accessors away again."""
    kinds = (pd.DataFrame, pd.Series, pd.Index)
    yield
    for kind in kinds:
        for name in [each for each in vars(kind) if each.startswith("mine_")]:
            delattr(kind, name)
        getattr(kind, "_accessors", set()).difference_update(
            {each for each in getattr(kind, "_accessors", ()) if each.startswith("mine_")}
        )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("text", EXTENSIONS.values(), ids=EXTENSIONS)
def test_registered_code(write, step_of, text):
    """What was registered with a library, and what it calls, counts in the steps that use it."""
    before = step_of(write("usercode", text.format(1)).step)
    assert step_of(write("usercode", text.format(2)).step).fingerprint != before.fingerprint
    assert step_of(write("usercode", text.format(1)).step) == before
    other = write("other", "def step(x):\n    return x.mine_nothing\n")
    assert step_of(other.step).functions == ["other.step"]


MODULES = {
    "value": "def __getattr__(name):\n    return {}\n",
    "kept": "def __getattr__(name):\n    globals()[name] = {}\n    return globals()[name]\n",
    "helper": HELPER + "def __getattr__(name):\n    return helper(1)\n",
    "function": ("def __getattr__(name):\n    def made(x):\n        return {}\n    return made\n"),
    "submodule": (
        "import importlib\n"
        "def __getattr__(name):\n    return importlib.import_module('lazy_part')\n"
    ),
    "imported": (
        "def __getattr__(name):\n    from lazy_part import value as ASKED\n    return ASKED\n"
    ),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("used", ["helpers.ASKED", "helpers.ASKED.value"])
def test_getattr_of_a_module(write, step_of, name, used):
    """What a module gives on demand counts by its code, before and after the first time."""
    found = []
    for value in (1, 2, 1):
        for module in ("helpers", "lazy_part", "usercode"):
            sys.modules.pop(module, None)
        write("lazy_part", f"def value():\n    return {value}\n", load=False)
        write("helpers", MODULES[name].replace("{}", str(value)))
        step = write("usercode", f"import helpers\ndef step(x):\n    return {used}\n").step
        found.append(step_of(step))
        sys.modules["helpers"].ASKED  # noqa: B018  # asked for, it may be kept
        assert step_of(step) == found[-1]
    assert found[0].fingerprint != found[1].fingerprint
    assert found[0] == found[2]


def test_other_names_of_such_a_module(write):
    """Names that stand in the module do not hang on what it gives on demand."""
    step = "import helpers\ndef step(x):\n    return helpers.RATE\n"
    found = []
    for value in (1, 2):
        write("helpers", f"RATE = 1\ndef __getattr__(name):\n    return {value}\n")
        found.append(CodeCapture().capture({"step": write("usercode", step).step}).steps["step"])
    assert found[0] == found[1]
