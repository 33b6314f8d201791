"""Whatever a library's object wraps is the user's code: every callable inside, and the settings."""

from __future__ import annotations

import importlib
import re
import sys

import pytest

from daskperiment.capture.code import CodeCapture

pytest.importorskip("toolz")
pytest.importorskip("wrapt")
pytest.importorskip("tenacity")

OWN = "def first(x):\n    return x + {}\ndef last(x):\n    return x * 2\n"

WRAPPERS = {
    "first of a composition": OWN + "use = toolz.compose(last, first)",
    "last of a composition": OWN + "use = toolz.compose(first, last)",
    "middle of a composition": OWN + "use = toolz.compose(last, first, last)",
    "left to right": OWN + "use = toolz.compose_left(last, first, str)",
    "function beside": OWN + "use = toolz.juxt(last, first)",
    "complement": OWN + "use = toolz.complement(first)",
    "function when it fails": OWN + "use = toolz.excepts(ValueError, last, first)",
    "curried": OWN + "use = toolz.curry(map, first)",
    "curried argument": "def add(x, y):\n    return x + y\nuse = toolz.curry(add)({})",
    "curried keyword": "def add(x, y):\n    return x + y\nuse = toolz.curry(add, y={})",
    "curry in a composition": (
        "def add(x, y):\n    return x + y\nuse = toolz.compose(str, toolz.curry(add, {}))"
    ),
    "partial in a composition": (
        "import functools\ndef add(x, y):\n    return x + y\n"
        "use = toolz.compose(str, functools.partial(add, {}))"
    ),
    "memoized": OWN + "use = toolz.memoize(first)",
    "decorator of wrapt": (
        "@wrapt.decorator\ndef around(wrapped, instance, args, kwargs):\n"
        "    return wrapped(*args, **kwargs) + {}\n@around\ndef use(x):\n    return x"
    ),
    "function under wrapt": (
        "@wrapt.decorator\ndef around(wrapped, instance, args, kwargs):\n"
        "    return wrapped(*args, **kwargs)\n@around\ndef use(x):\n    return x + {}"
    ),
    "helper of a wrapper": (
        "def helper():\n    return {}\n@wrapt.decorator\n"
        "def around(wrapped, instance, args, kwargs):\n"
        "    return wrapped(*args, **kwargs) + helper()\n@around\ndef use(x):\n    return x"
    ),
    "wrapt with settings": (
        "N = {}\ndef times(n):\n    @wrapt.decorator\n"
        "    def around(wrapped, instance, args, kwargs):\n"
        "        return n * wrapped(*args, **kwargs)\n    return around\n"
        "@times(N)\ndef use(x):\n    return x"
    ),
    "method under wrapt": (
        "@wrapt.decorator\ndef around(wrapped, instance, args, kwargs):\n"
        "    return wrapped(*args, **kwargs) + {}\nclass use:\n    @around\n    def go(self):\n"
        "        return 1"
    ),
    "object proxy": (
        "class Proxy(wrapt.ObjectProxy):\n    def go(self):\n        return {}\nuse = Proxy([1])"
    ),
    "number of attempts": (
        "N = {}\n@tenacity.retry(stop=tenacity.stop_after_attempt(N))\ndef use(x):\n    return x"
    ),
    "condition of a retry": (
        "def bad(r):\n    return r == {}\n@tenacity.retry(retry=tenacity.retry_if_result(bad))\n"
        "def use(x):\n    return x"
    ),
    "combined conditions": (
        "def bad(r):\n    return r == {}\n@tenacity.retry(retry=tenacity.retry_any("
        "tenacity.retry_if_exception_type(ValueError), tenacity.retry_if_result(bad)))\n"
        "def use(x):\n    return x"
    ),
    "exception of a retry": (
        "E = [KeyError, ValueError, TypeError][{}]\n@tenacity.retry("
        "retry=tenacity.retry_if_exception_type(E))\ndef use(x):\n    return x"
    ),
    "callback of a retry": (
        "def after(state):\n    return {}\n@tenacity.retry(retry_error_callback=after)\n"
        "def use(x):\n    return x"
    ),
    "under a retry": "@tenacity.retry\ndef use(x):\n    return x + {}",
    "kept on disk": OWN + "use = joblib.Memory(tempfile.mkdtemp(), verbose=0).cache(first)",
    "vectorized": "import numpy as np\ndef first(x):\n    return x + {}\nuse = np.vectorize(first)",
}

TEXT = """
import tempfile
import joblib, tenacity, toolz, wrapt
{}
def step(x):
    return use
"""


@pytest.fixture
def module_of(tmp_path, monkeypatch):
    """Import a module of this text."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def module_of(text):
        (tmp_path / "usercode.py").write_text(text)
        sys.modules.pop("usercode", None)
        importlib.invalidate_caches()
        return importlib.import_module("usercode")

    yield module_of
    sys.modules.pop("usercode", None)


def step_of(module):
    """Capture the module's step anew."""
    return CodeCapture().capture({"step": module.step}).steps["step"]


@pytest.mark.parametrize("text", WRAPPERS.values(), ids=WRAPPERS)
def test_edit_inside_a_wrapper(module_of, text):
    """An edit inside a wrapper is seen, and the same code is the same, also after a call."""
    before, same = [step_of(module_of(TEXT.format(text.format(1)))) for _ in range(2)]
    assert same == before
    module = module_of(TEXT.format(text.format(2)))
    changed = step_of(module)
    assert changed.fingerprint != before.fingerprint
    if callable(module.use) and not isinstance(module.use, type):
        try:
            module.use(1)
        except (TypeError, ValueError):
            module.use([1, 2])
        assert step_of(module) == changed


@pytest.mark.parametrize("text", WRAPPERS.values(), ids=WRAPPERS)
def test_cosmetic_edit_inside_a_wrapper(module_of, text):
    """A comment and a docstring inside a wrapper change nothing."""
    before = step_of(module_of(TEXT.format(text.format(1))))
    comment = '\\1"""A docstring."""\n\\1# A comment.\n\\1return'
    text = re.sub(r"^( +)return", comment, text, count=1, flags=re.MULTILINE)
    assert step_of(module_of(TEXT.format(text.format(1)))) == before
