"""What a history keeps for its next reader is right on every store, also after it lost trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import pandas as pd
import pytest

import daskperiment
from daskperiment.history import kept_columns
from daskperiment.history.tables import get_history
from daskperiment.store.opening import columns_folder, open_store


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Let a few trials be worth keeping, in a folder of the test's own."""
    monkeypatch.setattr(kept_columns, "WORTH", 3)
    with dask.config.set({"daskperiment.cache": str(tmp_path / "cache")}):
        yield


def test_kept_columns(place: Any) -> None:
    """Filters, pages and whole histories are those of who keeps nothing, now and when more ends."""
    ex = daskperiment.Experiment("kept", backend=place.backend)
    n = ex.parameter("n", default=0)

    @ex.result
    def half(n: int) -> dict[str, float]:
        return {"half": n / 2}

    result = half(n)
    store = open_store(place.backend, "kept")

    def compute(numbers: range) -> None:
        for number in numbers:
            result.bind(n=number).compute(scheduler="synchronous")
        ex.flush()

    def check() -> None:
        trials = range(1, store.state().latest + 1)
        plainly = get_history(store, ("n",), verbose=True, running=True, trials=trials)
        pd.testing.assert_frame_equal(ex.get_history(verbose=True, running=True), plainly)

    for numbers in (range(5), range(5, 6), range(6, 12)):
        compute(numbers)
        check()
        check()
    assert (columns_folder(store) / "index.json").exists()
    found = ex.get_history(where="Result.half >= 2 and n < 10", sort="-n", limit=3)
    assert found["n"].tolist() == [9, 8, 7]
    ex.delete()
    compute(range(20, 24))
    check()
    assert ex.get_history()["n"].tolist() == [20, 21, 22, 23]
    store.close()
