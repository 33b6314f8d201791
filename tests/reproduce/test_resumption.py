"""Trials that are gone on with: in which state, under what conditions, and what is said."""

from __future__ import annotations

import copy
import datetime
import math
import os
import threading

import numpy as np
import pytest
from dask import config

import daskperiment
from daskperiment.errors import (
    CheckpointError,
    ResumptionError,
    ResumptionWarning,
    TrialIDNotFoundError,
)
from daskperiment.history import read_trials
from daskperiment.recording.checkpoint_records import kept_checkpoints
from daskperiment.testing import no_trial
from tests.reproduce.loops import BREAK, EPOCHS, define


@pytest.fixture
def broken(ex, monkeypatch):
    """Make a result whose trial 1 failed at epoch 7; from now on nothing breaks."""
    ex._defaults.seed = 5
    result = define(ex)
    monkeypatch.setenv(BREAK, "7")
    with pytest.raises(RuntimeError):
        result.compute(scheduler="synchronous")
    monkeypatch.delenv(BREAK)
    return result


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_on_every_scheduler(ex, broken, scheduler):
    """A failed trial is gone on with wherever its steps run, with the draws that were to come."""
    result = broken.resume(1, scheduler=scheduler)
    assert result == broken.compute(scheduler="synchronous")
    assert ex.load_metric("loss", [2])[2].tolist() == ex.load_metric("loss", [3])[3].tolist()


def test_chain(ex, broken, monkeypatch):
    """A trial that went on is gone on with in turn, also if it broke before its own checkpoint."""
    for trial, at in ((1, "8"), (2, "9")):
        monkeypatch.setenv(BREAK, at)
        with pytest.raises(RuntimeError, match=f"broken at {at}"):
            broken.resume(trial, scheduler="synchronous")
    monkeypatch.delenv(BREAK)
    assert broken.resume(3, scheduler="synchronous") == broken.compute(scheduler="synchronous")
    assert ex.load_metric("loss", 4).index.tolist() == list(range(1, EPOCHS + 1))
    trials = read_trials(ex._store)
    assert [one.begun.resumes for one in trials.values()] == [None, 1, 2, 3, None]


def test_broken_before_a_checkpoint_of_its_own(ex):
    """A trial that went on and kept nothing is gone on with from where the first one was."""
    late = threading.Event()

    @ex.result
    def train():
        state, last = ex.restore(default=("", 0))
        if last and not late.is_set():
            raise RuntimeError("early")
        for epoch in range(last + 1, 4):
            state += str(epoch)
            ex.save_metric("loss", epoch, epoch)
            ex.checkpoint(state, epoch)
            if epoch == 2 and not last:
                raise RuntimeError("first")
        return state

    result = train()
    with pytest.raises(RuntimeError, match="first"):
        result.compute()
    with pytest.raises(RuntimeError, match="early"):
        result.resume(1)
    late.set()
    assert result.resume(2) == "123"
    assert ex.load_metric("loss", 3)[3].tolist() == [1.0, 2.0, 3.0]


def test_without_a_checkpoint(ex):
    """A trial that kept nothing begins at the beginning, with its parameters and seed."""
    a = ex.parameter("a", default=1)
    fails = [True]

    def check():
        if fails.pop():
            raise RuntimeError("broken")

    @ex.result
    def train(a):
        check()
        assert ex.restore() is None
        return a, ex.rng.random()

    with pytest.raises(RuntimeError):
        train(a).bind(a=3).compute(seed=7)
    fails += [False, False]
    assert train(a).resume(1) == train(a).bind(a=3).compute(seed=7)


def test_what_cannot_be_gone_on_with(ex, broken):
    """Each trial that cannot be gone on with is refused with what to do; nothing is recorded."""

    @ex.result
    def another():
        with pytest.raises(ResumptionError, match="still running"):
            another_node[0].resume(ex.current_trial_id)

    another_node = [another()]
    another_node[0].compute(scheduler="synchronous")
    for trial, error, match in (
        (2, ResumptionError, r"computed the result 'another'.*call resume\(2\) of 'another'"),
        (9, TrialIDNotFoundError, "trials 1 to 2"),
        ("1", TrialIDNotFoundError, "integer from 1"),
    ):
        with pytest.raises(error, match=match):
            broken.resume(trial)
    with pytest.raises(ResumptionError, match=r"succeeded.*reproduce\(2\)"):
        another_node[0].resume(2)
    with pytest.raises(TypeError, match="takes no 'seed'"):
        broken.resume(1, seed=3)
    with pytest.raises(TypeError, match="schedular"):
        broken.resume(1, schedular="threads")
    assert ex.trial_id == 2


def test_gone_on_with_twice(ex, broken):
    """Who goes on with a trial a second time is told of the first."""
    broken.resume(1, scheduler="synchronous")
    with pytest.warns(ResumptionWarning, match="trial 2 .succeeded. went on from it already"):
        broken.resume(1, scheduler="synchronous")


def test_bound_to_other_values(ex):
    """The trial's parameters are taken; who binds the result to others is told."""
    a = ex.parameter("a", default=1)
    fails = [True]

    @ex.result
    def train(a):
        if fails and fails.pop():
            raise RuntimeError("broken")
        return a

    result = train(a).bind(a=2)
    with pytest.raises(RuntimeError):
        result.compute()
    trial = ex.trial_id
    with pytest.warns(ResumptionWarning, match="parameter 'a' is bound to another value, and the"):
        assert result.bind(a=3).resume(trial) == 2
    with pytest.warns(ResumptionWarning) as told:  # that it was gone on with
        assert result.resume(trial) == 2
    assert "bound" not in str(told[0].message)


def test_restored_twice(ex):
    """A second restore() brings back state and generators once more, and no point twice."""
    fails = [False]

    @ex.result
    def train():
        found = ex.restore()
        np.random.rand(3), ex.rng.random()  # as a model that is set up
        drawn, last = ex.restore(default=([], 0))
        assert found is None or found == (drawn, last)
        for epoch in range(last + 1, 5):
            drawn = [*drawn, ex.rng.random(), np.random.rand()]
            ex.save_metric("loss", epoch, epoch)
            ex.checkpoint(drawn, epoch)
            if epoch == 2 and fails and fails.pop():
                raise RuntimeError("broken")
        return drawn

    expected = train().compute(seed=3)
    fails.append(True)
    with pytest.raises(RuntimeError):
        train().compute(seed=3)
    assert train().resume(2) == expected
    assert sum(one.body.count(b'"loss"') for one in ex._store.read("points", [3])) == 4


EPOCHS_OF_ALL_KINDS = {
    "halves": [0.5, 1.0], "negative": [-2, -1], "the same": [1, 1], "backwards": [3, 1],
    "texts": ["a", "b"], "dates": [datetime.date(2024, 1, n) for n in (1, 2)],
    "pairs": [(0, 1), (1, 0)], "nan": [math.nan, math.nan], "none": [None, None],
    "large": [10**30, 10**31], "mixed": [True, "b"],
}  # fmt: skip


@pytest.mark.parametrize("kind", EPOCHS_OF_ALL_KINDS)
def test_epochs_of_all_kinds(ex, kind):
    """Whatever epochs are, the last checkpoint that was kept is the one that comes back."""
    epochs = EPOCHS_OF_ALL_KINDS[kind]

    @ex.result
    def train():
        found = ex.restore()
        if found is not None:
            return found
        for number, epoch in enumerate(epochs):
            ex.checkpoint(number, epoch)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        train().compute()
    state, epoch = train().resume(1)
    assert state == 1
    assert (type(epoch), repr(epoch)) == (type(epochs[1]), repr(epochs[1]))


def test_other_code(ex, tmp_path, again):
    """Code that changed is told of, the trial goes on, and nobody reuses what came of both."""

    def defined(ex, factor, breaks):
        @ex.persist(reuse=True)
        def train():
            state, last = ex.restore(default=(0, 0))
            for epoch in range(last + 1, 5):
                state += factor
                ex.checkpoint(state, epoch)
                if epoch == 2 and breaks and not (tmp_path / "gone").exists():
                    (tmp_path / "gone").touch()
                    raise RuntimeError("broken")
            return state

        @ex.result
        def last(x):
            return x

        return last(train())

    with pytest.raises(RuntimeError):
        defined(ex, 1, True).compute()
    result = defined(again(), 10, True)
    with pytest.warns(ResumptionWarning, match="code of step 'train' is another one"):
        assert result.resume(1) == 22
    assert result.compute() == 40  # not the 22 that other code had begun


def test_latest_of_what_was_kept(ex, tmp_path, again):
    """Of what several trials of a line kept for a step, that of the latest one is taken."""

    def defined(ex, factor, breaks):
        @ex.persist
        def prepare():
            (tmp_path / f"ran-{factor}-{len(list(tmp_path.glob('ran-*')))}").touch()
            return factor

        @ex.result
        def last(x, breaks):
            if breaks:
                raise RuntimeError("broken")
            return x

        return last(prepare(), ex.parameter("breaks", default=breaks))

    with pytest.raises(RuntimeError):
        defined(ex, 1, True).compute()
    result = defined(again(), 10, True)
    with (
        pytest.warns(ResumptionWarning, match="code of step 'prepare' is another one"),
        pytest.raises(RuntimeError),
    ):
        result.resume(1)
    assert len(list(tmp_path.glob("ran-*"))) == 2
    with pytest.raises(RuntimeError):
        result.resume(2)
    assert len(list(tmp_path.glob("ran-*"))) == 2


def test_reused_afterwards(ex, tmp_path):
    """What a trial came to that went on with the same code is reused as that of any other."""

    @ex.persist(reuse=True)
    def train(gone):
        state, last = ex.restore(default=(0, 0))
        for epoch in range(last + 1, 5):
            state += 1
            ex.checkpoint(state, epoch)
            if epoch == 2 and not os.path.exists(gone):
                os.mkdir(gone)
                raise RuntimeError("broken")
        return state, last

    @ex.result
    def last(x):
        return x

    result = last(train(str(tmp_path / "gone")))
    with pytest.raises(RuntimeError):
        result.compute()
    assert result.resume(1) == (4, 2)
    assert result.compute() == (4, 2)


def test_a_damaged_checkpoint(ex, monkeypatch):
    """Of a checkpoint that is gone or damaged a warning tells, and the one before it is taken."""
    monkeypatch.setenv(BREAK, "7")
    with config.set({"daskperiment.checkpoints": 2}), pytest.raises(RuntimeError):
        define(ex).compute(scheduler="synchronous", seed=5)
    monkeypatch.delenv(BREAK)
    expected = define(ex).compute(scheduler="synchronous", seed=5)
    ((latest, before),) = (kept[:2] for (trial, _), kept in kept_checkpoints(ex._store).items()
                           if trial == 1)  # fmt: skip
    ex._store.discard(latest.digests)
    with pytest.warns(ResumptionWarning, match="epoch 7 in trial 1 cannot be loaded"):
        assert define(ex).resume(1, scheduler="synchronous") == expected
    ex._store.discard(before.digests)
    with pytest.warns(ResumptionWarning) as told:
        assert define(ex).resume(1, scheduler="synchronous") == expected
    assert len([one for one in told if "cannot be loaded" in str(one.message)]) == 2


def test_checkpoints_name_a_metric_once(ex, monkeypatch):
    """However many there are, each name is written down once, and is known of all that follow."""

    @ex
    def before(x):
        for number in range(30):
            ex.save_metric(f"m{number:02}", -1, 0.0)
        return x

    @ex.result
    def train(x):
        start, _ = ex.restore((0, None))
        for epoch in range(start, 6):
            for number in range(30) if epoch < 3 else ():
                ex.save_metric(f"m{number:02}", epoch, float(epoch))
            ex.save_metric(f"late{epoch}", epoch, 1.0)
            if epoch == 4 and os.environ.get(BREAK):
                raise RuntimeError
            ex.checkpoint(epoch + 1, epoch)

    node = train(before(1))
    monkeypatch.setenv(BREAK, "4")
    with pytest.raises(RuntimeError):
        node.compute(scheduler="synchronous")
    monkeypatch.delenv(BREAK)
    notes = b"".join(one.body for one in ex._store.read("notes") if b'"epoch"' in one.body)
    assert [notes.count(b'"m%02d"' % number) for number in range(30)] == [1] * 30
    assert [notes.count(b'"late%d"' % epoch) for epoch in range(5)] == [1, 1, 1, 1, 0]
    node.resume(1, scheduler="synchronous")
    # Of the step before, which saved them too and ran anew, they are not taken for its own.
    assert ex.load_metric("m07", 2)[2].to_dict() == {-1: 0.0, 0: 0.0, 1: 1.0, 2: 2.0}
    assert {*ex.get_metrics(2)} == {*ex.get_metrics(1), "late5"}


def test_points_of_other_steps_stay_theirs(ex):
    """A step that goes on takes its own points along; those of a step that runs again are new."""
    fails = [True]

    @ex
    def before():
        ex.save_metric("size", 0, 1.0)
        ex.save_metric("size", 5, 1.0)
        return 1

    @ex.result
    def train(x):
        last = ex.restore(default=(0, 0))[1]
        for epoch in range(last + 1, 4):
            ex.checkpoint(epoch, epoch)  # before its point
            ex.save_metric("loss", epoch, epoch)
            ex.save_metric("batches", 100 * epoch, epoch)
            if epoch == 2 and fails and fails.pop():
                raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        train(before()).compute()
    train(before()).resume(1)
    count = [one.body.count(b'"size"') for one in ex._store.read("points", [2])]
    assert sum(count) == 2
    assert ex.load_metric("loss", 2).index.tolist() == [1, 2, 3]
    assert ex.load_metric("batches", 2).index.tolist() == [100, 300]


@pytest.mark.parametrize("state", [
    3, [1, (2, "x")], {"a": np.arange(3)}, np.float64(2.5), {1, 2}, None, "text", b"bytes",
    {"nested": [np.eye(2), {"deep": (1, None)}]},
])  # fmt: skip
def test_states(ex, state):
    """A state comes back equal, of the same type, and as it was when it was kept."""
    fails = [True]

    @ex.result
    def train():
        found = ex.restore()
        if found is None:
            mine = copy.deepcopy(state)
            ex.checkpoint(mine, np.int64(4))
            if isinstance(mine, list):
                mine.append("later")
        if fails and fails.pop():
            raise RuntimeError
        return found

    before = repr(state)
    with pytest.raises(RuntimeError):
        train().compute()
    found, epoch = train().resume(1)
    assert (repr(found), type(found)) == (before, type(state))
    assert repr(epoch) == "4"


def test_wrong_calls(ex):
    """A state that cannot be kept, an odd epoch or number is refused at the first call."""

    @ex.result
    def train():
        with pytest.raises(CheckpointError, match=r"epoch 1 cannot be kept: .*state_dict"):
            ex.checkpoint(threading.Lock(), 1)
        with pytest.raises(TypeError, match=r"The state stands before it: checkpoint\(state"):
            ex.checkpoint(1, threading.Lock())
        for keep, error in ((0, ValueError), ("2", TypeError), (True, TypeError)):
            with pytest.raises(error, match="keep is"):
                ex.checkpoint(1, 1, keep=keep)
        with config.set({"daskperiment.checkpoints": "many"}), pytest.raises(TypeError):
            ex.checkpoint(1, 1)

    train().compute()
    assert not kept_checkpoints(ex._store)
    for call in (lambda: ex.checkpoint(1, 1), ex.restore):
        with pytest.raises(TrialIDNotFoundError, match="no_trial"):
            call()


def test_without_a_trial(ex):
    """In a unit test of the function alone nothing is kept, and the default is restored."""
    with no_trial():
        ex.checkpoint({"a": 1}, 3)
        assert ex.restore(default="mine") == "mine"
        with pytest.raises(ValueError, match="keep is 0"):
            ex.checkpoint(1, 1, keep=0)
    assert ex.trial_id == 0


def test_a_step_that_ended(ex):
    """Whoever keeps a state for a step that is over is told so."""
    kept = []

    @ex.result
    def train():
        kept.append(ex.wrap(lambda: ex.checkpoint(1, 1)))

    train().compute(scheduler="synchronous")
    with pytest.raises(daskperiment.errors.StepEndedError, match="keep checkpoints no more"):
        kept[0]()
