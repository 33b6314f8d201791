"""Only what can be trusted is reused; where it is not, the step runs, and it is said why."""

from __future__ import annotations

import uuid
from pathlib import Path

import dask
import numpy as np
import pytest
from msgspec.structs import replace

import daskperiment
from daskperiment.codec import decode, encode
from daskperiment.errors import ImpureStepWarning, StoreWarning
from daskperiment.records import CacheEntry
from daskperiment.store.protocol import Record
from tests.reuse.work import ran, write

KINDS = ["folder", "redis", "mongo"]


told = pytest.mark.filterwarnings("ignore::daskperiment.errors.NeverReusedWarning")
"""Of these a warning tells that they always run: see tests/reuse/test_never_reused.py."""


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("trust", backend=tmp_path / "store", reuse=True)


class Strange:
    """Can be pickled and has no fingerprint: the pickle of a copy is another one."""

    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return Strange, (self.value,), {"at": uuid.uuid4().hex}


class Refuses:
    """Cannot be pickled."""

    def __reduce__(self):
        raise TypeError("made of smoke")


def chain(ex, log, make, take=lambda value: 1):
    """Make a result of two kept steps: one makes a value, the other takes it."""

    @ex.persist
    def first():
        write(log, "first")
        return make()

    @ex.persist
    def second(value):
        write(log, "second")
        return take(value)

    @ex.result
    def last(number):
        return number

    return last(second(first()))


def reasons(ex, trial):
    """Give why each step of a trial ran."""
    return {step.key: (step.verdict, step.reason) for step in ex.explain(trial)}


def test_no_fingerprint(ex, log):
    """An output without fingerprint is reused: what it was made of decides."""
    result = chain(ex, log, lambda: Strange(1), lambda value: value.value)
    assert result.compute() == 1
    assert ran(log) == {"first": 1, "second": 1}
    assert [step.verdict for step in ex.explain(result)] == ["not needed", "hit", "run"]
    assert result.compute() == 1
    assert ran(log) == {}

    @ex.persist
    def other(value):
        write(log, "other")
        return value.value + 1

    assert ex._steps["last"](other(ex._steps["first"]())).compute() == 2
    assert ran(log) == {"other": 1}


def test_no_fingerprint_is_not_comparable(ex, log):
    """Of two outputs without fingerprint nobody says that they differ."""
    result = chain(ex, log, lambda: Strange(1))
    result.compute()
    result.compute(reuse=False)
    told = str(ex.compare(1, 2))
    assert "not comparable" in told
    assert (
        "whether the output of step 'first' differs is not known" in " ".join(told.split()).lower()
    )
    assert ex.get_steps(1).set_index("Step")["Checkable"].to_dict() == {
        "first": False, "second": False, "last": True,
    }  # fmt: skip


@told
def test_argument_without_fingerprint(ex, log):
    """What takes an argument or a parameter without fingerprint runs; what follows need not."""
    value = ex.parameter("value", default=1)

    @ex.persist
    def take(one, other):
        write(log, "take")
        return 1

    @ex.persist
    def after(number):
        write(log, "after")
        return number

    @ex.result
    def last(number):
        return number

    result = last(after(take(Refuses(), value)))
    for _ in range(2):
        assert result.compute() == 1
    assert ran(log) == {"take": 2, "after": 1}
    assert "an argument has no fingerprint" in reasons(ex, 2)["take"][1]
    result = last(after(take(1, value))).bind(value=Refuses())
    for _ in range(2):
        assert result.compute() == 1
    assert ran(log) == {"take": 2}
    assert "the value of parameter 'value' has no fingerprint" in reasons(ex, 4)["after"][1]


def test_impure(tmp_path, ex, log):
    """A step that once returned another output runs each time, and so do those that take it."""
    # The size alone, which nobody sees it ask for.
    path = tmp_path / "source"

    result = chain(ex, log, lambda path=str(path): Path(path).stat().st_size, lambda value: value)
    path.write_text("1")
    assert result.compute() == 1
    assert result.compute() == 1
    assert ran(log) == {"first": 1, "second": 1}
    path.write_text("12")
    with pytest.warns(ImpureStepWarning, match="first"):
        assert result.compute(reuse=False) == 2
    assert ran(log) == {"first": 1, "second": 1}
    for size in (3, 4):
        path.write_text("1" * size)
        with pytest.warns(ImpureStepWarning, match="first"):
            assert result.compute() == size
        assert ran(log) == {"first": 1, "second": 1}
    assert reasons(ex, ex.trial_id)["first"][1].startswith("impure")
    assert reasons(ex, ex.trial_id)["second"][1].startswith("before it, first: impure")


def test_hits_raise_no_impurity(ex, log):
    """Outputs that are taken from earlier trials are held against nothing."""
    result = chain(ex, log, lambda: np.arange(5.0), lambda value: float(value.sum()))
    for _ in range(3):
        assert result.compute() == 10.0
    assert ran(log) == {"first": 1, "second": 1}


def test_trial_id(ex, log):
    """A step that reads its trial's id is each trial's own, and so is what follows."""
    result = chain(ex, log, lambda: ex.current_trial_id, lambda value: value)
    assert [result.compute() for _ in range(3)] == [1, 2, 3]
    assert ran(log) == {"first": 3, "second": 3}
    assert "it read the trial's id" in reasons(ex, 3)["first"][1]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_trial_id_at_once(ex, log, scheduler, plain):
    """Even where nobody knew that it would: trials computed at once do not share it."""
    value = ex.parameter("value", default=1)

    def read(value):
        return ex.current_trial_id

    @ex.persist
    def second(number):
        return number

    @ex.result
    def last(number):
        return number, ex.current_trial_id

    first = (dask.delayed if plain else ex)(read)
    result = last(second(first(value)))
    for _ in range(2):
        found = dask.compute(*[result.bind(value=1) for _ in range(4)], scheduler=scheduler)
        assert all(read == own for read, own in found)
        assert len(set(found)) == 4


@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError, "failed"), (KeyboardInterrupt, "interrupted")]
)
def test_failed_step(ex, log, tmp_path, error, status):
    """A step that failed or was interrupted is not reused; those that had finished are."""
    there = tmp_path / "there"

    def fail(value, there=str(there), error=error):
        if not Path(there).exists():
            raise error("once")
        return 7

    result = chain(ex, log, lambda: 5, fail)
    with pytest.raises(error):
        result.compute()
    assert ex.get_history(verbose=True)["Status"].tolist() == [status]
    there.touch()
    assert ran(log) == {"first": 1, "second": 1}
    assert result.compute() == 7
    assert ran(log) == {"second": 1}


@pytest.fixture(params=KINDS)
def kept(request, make_place, log):
    """Make an experiment on each kind of store, with a trial whose step keeps an array."""
    place = make_place(request.param)
    ex = daskperiment.Experiment("trust", backend=place.backend, reuse=True)
    result = chain(ex, log, lambda: 1, lambda value: np.arange(3.0))
    assert result.compute().tolist() == [0, 1, 2]
    ran(log)
    return place, ex, result


def object_of(ex, trial, step):
    """Give the digest of a step's kept object."""
    import msgspec

    for record in ex._store.read("steps", [trial]):
        run = msgspec.json.decode(record.body)
        if run["step"] == step:
            return run["kept"]["value"]["digest"]
    raise AssertionError(step)


def test_altered_object(kept, log):
    """An object that was altered is not used: the step runs, a warning says why, and it is kept."""
    place, ex, result = kept
    digest = object_of(ex, 1, "second")
    data = bytearray(bytes(ex._store.get(digest)))
    data[-3] ^= 1
    place.overwrite("trust", digest, bytes(data))
    before = ex.explain(result)["second"]
    assert before.verdict == "miss"
    assert "trial 1 kept could not be loaded" in before.reason
    assert ex.explain(result)["first"].verdict == "hit"
    with pytest.warns(StoreWarning, match="trial 1 kept of step 'second' cannot be loaded"):
        assert result.compute().tolist() == [0, 1, 2]
    assert ran(log) == {"second": 1}
    assert reasons(ex, 2)["second"] == (
        "miss", "the output that trial 1 kept could not be loaded",
    )  # fmt: skip
    assert result.compute().tolist() == [0, 1, 2]
    assert ran(log) == {}
    assert ex.get_persisted("second", 3).tolist() == [0, 1, 2]


def test_missing_object(kept, log):
    """An object that is gone is made again, and found by the next trial."""
    _, ex, result = kept
    ex._store.discard([object_of(ex, 1, "second")])
    assert "no longer in the store" in ex.explain(result)["second"].reason
    # The process that put it there may believe that the store has it still.
    assert result.compute().tolist() == [0, 1, 2]
    assert ran(log) == {"second": 1}
    assert "no longer in the store" in reasons(ex, 2)["second"][1]
    assert result.compute().tolist() == [0, 1, 2]
    assert ran(log) == {}


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_gone_while_the_trial_runs(ex, log, scheduler, monkeypatch):
    """An object that vanishes after the trial was arranged costs a run of its step, no more."""
    result = chain(ex, log, lambda: 1, lambda value: np.arange(3.0))
    result.compute()
    ran(log)
    store, digest = ex._store, object_of(ex, 1, "second")
    sizes = type(store).sizes

    def vanishing(self, digests):
        found = sizes(self, digests)
        self.discard([digest])
        patch.setattr(type(store), "sizes", sizes)  # once, and what is kept anew stays
        return found

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "sizes", vanishing)
        if scheduler == "processes":  # the warning is given where the task runs
            assert result.compute(scheduler=scheduler).tolist() == [0, 1, 2]
        else:
            with pytest.warns(StoreWarning, match="cannot be loaded"):
                assert result.compute(scheduler=scheduler).tolist() == [0, 1, 2]
    assert ran(log) == {"second": 1}
    assert result.compute(scheduler=scheduler).tolist() == [0, 1, 2]
    assert ran(log) == {}


def test_unsigned(tmp_path, log, open_again):
    """With a key, what is not signed or signed with another is not used; the new one is."""

    def compute(reason=""):
        ex = open_again("trust", tmp_path / "store", reuse=True)
        result = chain(ex, log, lambda: 1, lambda value: np.arange(3.0))
        before = ex.explain(result)["second"].reason
        value = result.compute().tolist()
        after = ex.explain(ex.trial_id)["second"].reason
        assert reason in before
        assert reason in after
        return value, ran(log)

    assert compute() == ([0, 1, 2], {"first": 1, "second": 1})
    for key in ("secret", "other"):
        with dask.config.set({"daskperiment.signing-key": key}):
            reason = "its record is not signed with the signing key, or was changed"
            assert compute(reason) == ([0, 1, 2], {"first": 1, "second": 1})
            assert compute() == ([0, 1, 2], {})
    assert compute() == ([0, 1, 2], {})  # without a key whatever is signed will do


UNTRUSTED = {
    "not signed": lambda entry: entry,
    "damaged": lambda entry: b'{"trial": 1, "key',
    "doubtful": lambda entry: encode(replace(entry, note="its threads drew as timing had it")),
}


@pytest.mark.parametrize("how", UNTRUSTED)
@pytest.mark.parametrize("drawing", ["none", "first", "plain"])
def test_what_a_plain_step_cannot_be_trusted_of_is_replaced(
    tmp_path, log, open_again, drawing, how
):
    """One record of a step that keeps nothing does not have it run for ever: a good one follows.

    Nor of one that draws random numbers, or that stands behind one.
    """

    def compute(folder):
        ex = open_again("trust", tmp_path / folder, reuse=True, seed=7)

        @ex.persist
        def first():
            write(log, "first")
            return [1 if drawing != "first" else ex.rng.integers(1, 2)] * 400

        @ex
        def plain(value):
            write(log, "plain")
            return sum(value) if drawing != "plain" else sum(value) * ex.rng.integers(1, 2)

        @ex.result(persist=True)
        def last(number, value):
            write(log, "last")
            return number

        value = first()
        result = last(plain(value), value)
        told = {step.key: step.verdict for step in ex.explain(result)}
        assert result.compute() == 400
        return ex, told

    ex, _ = compute("other")
    entries = [one for one in ex._store.read("outputs") if b'"key":"plain"' in one.body]
    (record,) = [one for one in entries if one.id.startswith("r-")]
    body = UNTRUSTED[how](decode(record.body, CacheEntry))
    key = "secret" if how == "not signed" else None
    if key is None:
        ex = open_again("trust", tmp_path / "store")
        ex._store.append([Record("outputs", 0, record.id, body)])
    else:
        compute("store")
    ran(log)
    with dask.config.set({"daskperiment.signing-key": key}):
        compute("store")
        assert ran(log)["plain"] == 1
        _, told = compute("store")
        assert (told["plain"], told["last"], ran(log)) == ("not needed", "hit", {})
        count = len(list(ex._store.read("outputs")))
        compute("store")
    assert len(list(ex._store.read("outputs"))) == count


def test_what_was_read_before_is_not_known(tmp_path, log, open_again):
    """Who ran behind what was not trusted runs once more, and no seed is blamed for it."""
    path = tmp_path / "data"
    path.write_text("data")

    def compute():
        ex = open_again("trust", tmp_path / "store", reuse=True)

        @ex.persist
        def reads():
            write(log, "reads")
            return path.read_text()

        @ex.result(persist=True)
        def last(text):
            write(log, "last")
            return text * 500

        result = last(reads())
        told = ex.explain(result)["last"]
        assert result.compute() == "data" * 500
        return told, ran(log)

    compute()
    with dask.config.set({"daskperiment.signing-key": "secret"}):
        assert compute()[1] == {"reads": 1, "last": 1}
        told, runs = compute()
        assert told.reason == (
            "it is not known which files the steps before it read in trial 2; "
            "runs, unless its inputs are those of trial 2"
        )
        assert runs == {}
        told, runs = compute()
        assert (told.verdict, runs) == ("hit", {})


class Fragile:
    """Can be pickled, and loaded only if a file is there."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return load_fragile, (self.path,)

    def __dask_tokenize__(self):
        return self.path


def load_fragile(path):
    return Fragile(Path(path).read_text())


def test_not_loadable(tmp_path, ex, log):
    """What cannot be unpickled any more is made again."""
    path = tmp_path / "path"
    path.write_text(str(path))
    result = chain(ex, log, lambda: 1, lambda value, path=str(path): Fragile(path))
    assert result.compute().path == str(path)
    assert result.compute().path == str(path)
    assert ran(log) == {"first": 1, "second": 1}
    path.unlink()
    with pytest.warns(StoreWarning, match="FileNotFoundError"):
        assert result.compute().path == str(path)
    assert ran(log) == {"second": 1}


class Kind:
    """Has a fingerprint, and refuses to be pickled."""

    def __dask_tokenize__(self):
        return "kind"

    def __reduce__(self):
        raise TypeError("made of smoke")


@told
@pytest.mark.parametrize("make", [Kind, Refuses])
def test_not_kept(ex, log, make):
    """Where an output cannot be pickled, its step runs when it is needed, and says why."""
    result = chain(ex, log, make)
    for _ in range(3):
        assert result.compute() == 1
    assert ran(log) == {"first": 1, "second": 1}
    assert ex.explain(result)["second"].verdict == "hit"

    @ex.persist(reuse=True)
    def other(value):
        return 2

    first = ex._steps["first"]
    last = ex._steps["last"]
    assert last(other(first())).compute() == 2
    assert ran(log) == {"first": 1}
    told = reasons(ex, 4)["first"][1]
    assert told.startswith("output not kept: ")
    assert "made of smoke" in told


@told
def test_no_endless_trail(ex, log):
    """Outputs that are never reused leave no further record for each trial."""
    result = chain(ex, log, lambda: ex.current_trial_id, lambda value: Refuses())
    stream = lambda: sum(r.id.startswith("r-") for r in ex._store.read("outputs"))  # noqa: E731
    for _ in range(3):
        result.compute()
    ex.flush()
    before = stream()
    for _ in range(5):
        result.compute()
    ex.flush()
    assert stream() == before
