"""Dask collections: an input is what its graph says, and an output is no content."""

from __future__ import annotations

import dask.array as da
import dask.bag as db
import numpy as np
import pandas as pd
import pytest

import daskperiment
from daskperiment.errors import PersistedResultNotFoundError, StoreWarning
from daskperiment.execution import kept_files
from tests.reuse.work import ran, write

pytest.importorskip("pyarrow")
dd = pytest.importorskip("dask.dataframe")


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("lazy", backend=tmp_path / "store", seed=0)


FRAME = pd.DataFrame({"a": [1, 2]})
LAZY = {
    "ones": lambda: da.ones((4, 4), chunks=2),
    "array": lambda: da.from_array(np.arange(4.0), chunks=2) + 1,
    "frame": lambda: dd.from_pandas(FRAME, npartitions=1).a,
    "bag": lambda: db.from_sequence([1, 2]),
}


@pytest.mark.parametrize("kind", LAZY)
def test_as_input(ex, log, kind):
    """Made anew it is the same; another one runs the step."""

    @ex.result(persist=True, reuse=True)
    def total(values):
        write(log, "total")
        return float(np.sum(values))

    first = total(LAZY[kind]()).compute()
    assert (total(LAZY[kind]()).compute(), ran(log)) == (first, {"total": 1})
    total(da.zeros(3)).compute()
    assert ran(log) == {"total": 1}


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, 1), lambda x: {"data": x}])
@pytest.mark.parametrize("kind", LAZY)
def test_as_output(ex, log, kind, wrap):
    """It is neither kept nor reused; that is said once, with what to do."""

    @ex.persist(reuse=True, version=f"{kind} {wrap}")
    def load():
        write(log, "load")
        return wrap(LAZY[kind]())

    @ex.result
    def total(values):
        return 1

    kept_files.warn_of_lazy.cache_clear()
    with pytest.warns(StoreWarning, match=r"'load' returned is not kept or reused: it is a lazy"):
        total(load()).compute()
    total(load()).compute()  # warnings are errors here
    assert ran(log) == {"load": 2}
    assert "lazy Dask collection" in ex.explain(total(load()))["load"].reason
    with pytest.raises(PersistedResultNotFoundError, match="lazy Dask collection"):
        ex.get_persisted("load", 1)
