"""Objects that another minor version of Python pickled: warned of, or refused."""

from __future__ import annotations

import functools
import types
import warnings

import numpy as np
import pytest

import daskperiment
from daskperiment.codec import fields, pack, unpack
from daskperiment.codec.object_format import PYTHON
from daskperiment.errors import OtherPythonError, OtherPythonWarning
from daskperiment.history.stored_values import viewed
from tests.shared.conftest import open_again

OTHER = "3.99"


def with_method():
    class Local:
        def method(self):
            return 1

    return Local


def without_method():
    class Local:
        size = 3

    return Local


def local_function():
    def inner(x):
        return x + 1

    return inner


COMPILED = {
    "lambda": lambda: lambda x: x,
    "function": local_function,
    "within a list": lambda: [1, {"f": local_function()}],
    "partial": lambda: functools.partial(local_function(), 1),
    "class": with_method,
    "instance": lambda: with_method()(),
    "code": lambda: local_function().__code__,
    "static method": lambda: staticmethod(local_function()),
}
SAFE = {
    "array": lambda: np.arange(1000.0),
    "named function": lambda: len,
    "class of a module": lambda: types.SimpleNamespace(text="CodeType _make_function"),
    "class without functions": without_method,
    "list of arrays": lambda: [np.arange(3), {"a": np.arange(300)}],
}


def kept(value, python):
    """Give the form and the bytes of a value that this version of Python pickled."""
    form, blob = pack(value)
    return {**form, "python": python}, b"".join(map(bytes, blob.parts))


@pytest.mark.parametrize("make", COMPILED.values(), ids=COMPILED)
def test_compiled_code_is_refused(make):
    """Code that another version compiled is refused with both versions, wherever it is."""
    form, data = kept(make(), OTHER)
    with (
        pytest.warns(OtherPythonWarning, match=rf"Python {OTHER} .*{PYTHON}"),
        pytest.raises(OtherPythonError, match=rf"Python {OTHER} compiled; Python {PYTHON}"),
    ):
        unpack(form, lambda digest: data)


@pytest.mark.parametrize("make", SAFE.values(), ids=SAFE)
def test_other_values_are_warned_of(make):
    """What holds no code is loaded, with a warning that names both versions."""
    form, data = kept(make(), OTHER)
    with pytest.warns(OtherPythonWarning, match=rf"Python {OTHER} .*{PYTHON}"):
        found = unpack(form, lambda digest: data)
    assert type(found) is type(make())


@pytest.mark.parametrize("make", [*COMPILED.values(), *SAFE.values()], ids=[*COMPILED, *SAFE])
@pytest.mark.parametrize("python", [PYTHON, None])
def test_same_python_and_old_records(make, python):
    """The same version, and records that name none, load everything as before."""
    form, data = kept(make(), python)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unpack(form, lambda digest: data)


def define(ex):
    """Declare an experiment that keeps a function and an array wherever values are kept."""
    given = ex.parameter("given", default=local_function())

    @ex.persist
    def keep(given):
        return np.arange(100).astype(object)  # which no open format holds

    @ex.result
    def result(kept, given):
        return local_function()

    return result(keep(given), given)


@pytest.mark.filterwarnings("ignore::daskperiment.errors.OtherPythonWarning")
def test_every_store_and_a_copy(place, tmp_path, monkeypatch):
    """The version travels with results, parameters and kept outputs, to copies too."""
    monkeypatch.setattr(fields, "PYTHON", OTHER)
    ex = daskperiment.Experiment("versions", backend=place.backend)
    define(ex).compute(scheduler="synchronous")
    daskperiment.copy("versions", place.backend, tmp_path / "copy")
    for backend in (place.backend, tmp_path / "copy"):
        ex = open_again("versions", backend)
        result = ex.get_history().loc[1, "Result"]
        assert result.python == OTHER
        for load in (result.load, ex.get_parameters(1)["given"].load):
            with pytest.raises(OtherPythonError, match=OTHER):
                load()
        with pytest.warns(OtherPythonWarning, match=OTHER):
            assert np.array_equal(ex.get_persisted("keep", 1), np.arange(100))


def test_equal_whoever_pickled_them():
    """Two stored values of the same bytes are equal, also if one says which Python made them."""
    form, _ = kept(np.arange(9), PYTHON)
    old = {name: value for name, value in form.items() if name != "python"}
    one, other = viewed(form, None), viewed(old, None)
    assert one == other
    assert hash(one) == hash(other)
