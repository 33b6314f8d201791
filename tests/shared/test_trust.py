"""Looking at an experiment runs no code of those who wrote it; loading asks for a signature."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path

import dask
import numpy as np
import pytest

import daskperiment
from daskperiment.codec import dump_object
from daskperiment.errors import CorruptRecordError, UntrustedObjectError
from tests.shared.conftest import open_again

KEY = {"daskperiment.signing-key": "a secret of the tests"}


class Malice:
    """Unpickling it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path):
    """Name the file that malice makes."""
    return tmp_path / "marker"


def define(ex, value):
    """Declare an experiment that keeps this value wherever one is kept."""
    given = ex.parameter("given", default=value)

    @ex.parameter
    def computed(given):
        return value

    @ex.persist
    def keep(given, computed):
        ex.save_metric("loss", 0, 1.0)
        return value

    @ex.result
    def give(kept):
        return value

    return give(keep(given, computed))


def look(ex, backend):
    """Look at an experiment in every way that there is."""
    for ask in (
        lambda: ex.get_history(verbose=True, running=True)._repr_html_(),
        lambda: repr(list(ex.get_history()["Result"])),
        lambda: repr([ex.get_parameters(trial) for trial in (1, 2)]),
        lambda: repr(ex.get_steps()),
        lambda: repr(ex.load_metric("loss", [1, 2])),
        lambda: ex.get_metrics(),
        lambda: [ex.get_code(trial) for trial in (1, 2)],
        lambda: [ex.get_environment(trial) for trial in (1, 2)],
        lambda: ex.get_python_packages(1),
        lambda: repr(ex.compare(1, 2)),
        lambda: ex.compare(1, 2)._repr_html_(),
        lambda: repr(ex.compare(1, 2).to_dict()),
        lambda: repr(daskperiment.list_experiments(backend)),
        lambda: repr(ex),
    ):
        with suppress(CorruptRecordError):
            ask()


@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
def test_looking_never_unpickles(place, marker):
    """A malicious pickle in every place where an object is does no harm until it is loaded."""
    malice = Malice(marker)
    ex = daskperiment.Experiment("trust", backend=place.backend)
    result = define(ex, malice)
    result.compute(scheduler="synchronous")
    result.compute(scheduler="synchronous")
    # Whoever made the value has tried whether its class can be rebuilt.
    marker.unlink(missing_ok=True)
    digests = place.objects("trust")
    assert len(digests) >= 4
    look(open_again("trust", place.backend), place.backend)
    evil = [pickle.dumps(malice), b"".join(dump_object([malice]).parts)]
    for data in evil:
        for digest in digests:
            place.overwrite("trust", digest, data)
        look(open_again("trust", place.backend), place.backend)
        assert not marker.exists()
    # The next trial reads code and environment of the one before; and so does a copy.
    ex = open_again("trust", place.backend)
    define(ex, 1).compute()
    daskperiment.copy("trust", place.backend, marker.parent / "copy")
    assert not marker.exists()
    kept = ex.get_history().loc[1, "Result"]
    with pytest.raises(CorruptRecordError):
        kept.load()
    assert not marker.exists()


def test_malice_works(place, marker):
    """The test above can fail: loading such an object does run code."""
    ex = daskperiment.Experiment("trust", backend=place.backend)
    define(ex, Malice(marker)).compute(scheduler="synchronous")
    ex.get_history().loc[1, "Result"].load()
    assert marker.exists()


def refuse(ex):
    """Each way to load a value of trial 1 refuses."""
    for load in (
        lambda: ex.get_persisted("keep", 1),
        lambda: ex.get_history().loc[1, "Result"].load(),
        lambda: ex.get_parameters(1)["given"].load(),
    ):
        with pytest.raises(UntrustedObjectError):
            load()


@pytest.mark.filterwarnings("ignore:Nothing vouches for:daskperiment.errors.StoreWarning")
def test_unsigned_objects(place, marker):
    """With a signing key, what was written without one is refused."""
    ex = daskperiment.Experiment("trust", backend=place.backend)
    define(ex, Malice(marker)).compute(scheduler="synchronous")
    with dask.config.set(KEY):
        refuse(open_again("trust", place.backend))
    assert not marker.exists()


def test_altered_objects(place, marker):
    """With a signing key, what is not as it was signed is refused."""
    with dask.config.set(KEY):
        ex = daskperiment.Experiment("trust", backend=place.backend)
        define(ex, np.arange(1000)).compute(scheduler="synchronous")
        assert np.array_equal(ex.get_persisted("keep", 1), np.arange(1000))
        # The parameter is pickled, the output and the result are a file of an open format.
        signed = {ref["digest"]: bytes(ex._store.get(ref["digest"])) for ref in references(ex)}
        assert len(signed) == 2
        foreign = b"".join(dump_object(Malice(marker), b"another key").parts)
        swapped = b"".join(dump_object([1], KEY["daskperiment.signing-key"].encode()).parts)
        unsigned = b"".join(dump_object(Malice(marker)).parts)
        for alter in (
            lambda data: foreign, lambda data: swapped, lambda data: unsigned, lambda data: b"",
            lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[:-1],
        ):  # fmt: skip
            for digest, data in signed.items():
                place.overwrite("trust", digest, alter(data))
            refuse(open_again("trust", place.backend))
        for digest, data in signed.items():
            place.overwrite("trust", digest, data)
        ex = open_again("trust", place.backend)
        assert np.array_equal(ex.get_persisted("keep", 1), np.arange(1000))
    assert not marker.exists()


def references(ex):
    """Find the references to objects in the records of values."""
    ex.flush()
    for stream in ("trials", "steps"):
        for one in ex._store.read(stream):
            yield from _search(daskperiment.codec.decode(one.body, dict))


def _search(data):
    if isinstance(data, dict):
        if data.get("$") == "object":
            yield data
        data = data.values()
    if not isinstance(data, str | bytes | int | float | None):
        for item in data:
            yield from _search(item)
