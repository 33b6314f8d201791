from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskperiment.codec import encode
from daskperiment.errors import StoreWarning, TrialIDNotFoundError
from daskperiment.history import read_trials, trial_or_raise
from daskperiment.history.trial_records import DAMAGED, as_trial_id
from daskperiment.records import Beat, Begun, Computed, Ended, beat_id
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Record
from tests.helpers.memory import MemoryStore
from tests.history.lab import ELSEWHERE, NOW, Lab


def only(lab, **keywords):
    (trial,) = read_trials(lab.store, **keywords).values()
    return trial


def test_trial_succeeded(lab):
    """A trial that succeeded has its records and its parameters in their recorded form."""
    id = lab.run((1, 2), lr=0.1, layers=(3, 4))
    trial = trial_or_raise(lab.store, id)
    assert trial.trial == id == 1
    assert trial.status == "succeeded"
    assert trial.begun.seed == 7
    assert trial.ended.value == {"$": "tuple", "v": [1, 2]}
    assert trial.parameters == {"lr": 0.1, "layers": {"$": "tuple", "v": [3, 4]}}


def test_trials_are_sorted_and_chosen(lab):
    """All trials come sorted by id; only those asked for are read, if there are such."""
    for value in range(12):
        lab.run(value)
    assert list(read_trials(lab.store)) == list(range(1, 13))
    assert list(read_trials(lab.store, [11, 2, 99])) == [2, 11]
    assert read_trials(MemoryStore()) == {}


def test_computed_parameters(lab):
    """Computed parameters stand behind the given ones, or replace them in their place."""
    id = lab.begin({"a": 1, "b": 2})
    lab.compute(id, "z", 26)
    lab.compute(id, "c", 3)
    lab.compute(id, "a", 10)
    parameters = trial_or_raise(lab.store, id).parameters
    assert list(parameters.items()) == [("a", 10), ("b", 2), ("c", 3), ("z", 26)]


def test_success_outweighs(lab):
    """Of several ends success holds, however late it came, and failure before interruption."""
    id = lab.begin()
    lab.fail(id, KeyboardInterrupt(), "interrupted")
    assert only(lab).status == "interrupted"
    lab.fail(id, ZeroDivisionError())
    assert only(lab).status == "failed"
    lab.succeed(id, 1)
    assert only(lab).status == "succeeded"


ENDS = st.lists(
    st.builds(
        Ended,
        st.sampled_from(["succeeded", "failed", "interrupted"]),
        st.sampled_from([1.0, 2.0, 3.0]),
        st.sampled_from([0.1, 0.2]),
        value=st.integers(0, 3),
    ),
    max_size=4,
)


@given(st.data(), st.lists(ENDS, min_size=1, max_size=4))
def test_order_of_records_does_not_matter(data, ends):
    """The same records in any order make the same trials."""
    begun = Begun("t", "r", 1.0, 1, {"a": 1}, "c", "e", "g", ELSEWHERE)
    records = []
    for trial, some in enumerate(ends, start=1):
        records.append(Record("trials", trial, "begun", encode(begun)))
        records.append(Record("trials", trial, "computed-x", encode(Computed("x", trial))))
        records.append(Record("trials", trial, "computed-b", encode(Computed("b", 2))))
        for number, end in enumerate(some):
            id = f"ended-{end.status}-{number}"
            records.append(Record("trials", trial, id, encode(end)))
    first, second = MemoryStore(), MemoryStore()
    first.append(records)
    second.append(data.draw(st.permutations(records)))
    assert list(read_trials(first).items()) == list(read_trials(second).items())
    for trial, some in read_trials(first).items():
        statuses = {end.status for end in ends[trial - 1]}
        best = next(
            (one for one in ("succeeded", "failed", "interrupted") if one in statuses), "lost"
        )
        assert some.status == best


def test_many_chunks(lab):
    """Trials whose records are far apart in the stream come together."""
    ids = [lab.begin({"n": n}) for n in range(1500)]
    for id in reversed(ids):
        lab.succeed(id, id)
    trials = read_trials(lab.store)
    assert [trial.ended.value for trial in trials.values()] == ids
    assert all(a < b for a, b in pairwise(trials))


def test_unknown_records_are_passed_over(lab):
    """Records that a later release may add to a trial disturb nothing."""
    id = lab.run(1)
    lab.add("trials", id, "archived", b"{}")
    assert only(lab).status == "succeeded"


# Damage


def test_damaged_begin_hides_one_trial(lab):
    """A trial whose first record is damaged is left out with a warning that names it."""
    lab.run(1)
    lab.store.allocate("torn", b'{"token": ')
    lab.run(3)
    with pytest.warns(StoreWarning, match="'begun' of trial 2") as caught:
        assert list(read_trials(lab.store)) == [1, 3]
    assert len(caught) == 1


def test_damaged_end_still_tells_the_status(lab):
    """A damaged last record does not make a trial run or fail that succeeded."""
    id = lab.begin()
    lab.add("trials", id, "ended-succeeded", b"\xff")
    with pytest.warns(StoreWarning, match="'ended-succeeded' of trial 1"):
        trial = only(lab)
    assert trial.status == "succeeded"
    assert trial.ended.finished == DAMAGED


def test_damaged_end_of_unknown_kind(lab):
    """A damaged last record whose id tells nothing is as good as none."""
    id = lab.begin()
    lab.add("trials", id, "ended-somehow", b"\xff")
    with pytest.warns(StoreWarning):
        assert only(lab).status == "running"


def test_intact_end_beats_damaged_one(lab):
    """Of two ends of the same kind the one that can be read holds."""
    id = lab.begin()
    lab.add("trials", id, "ended-failed-a", b"\xff")
    lab.fail(id, ZeroDivisionError("x"))
    with pytest.warns(StoreWarning):
        assert only(lab).ended.failure.description == "ZeroDivisionError(x)"


def test_much_damage_makes_a_short_warning(lab):
    """A warning names some of the damaged records and counts the rest."""
    for number in range(20):
        lab.store.allocate(f"t{number}", b"{")
    with pytest.warns(StoreWarning, match="and 17 more"):
        assert read_trials(lab.store) == {}


# Liveness


def test_running(lab):
    """A trial of a process that lives is running, however old its last sign of life."""
    id = lab.begin(started=NOW - 1e6)
    lab.beat(id, NOW - 1e6)
    assert only(lab).status == "running"
    assert only(lab).ended is None


def test_lost_with_its_process(lab):
    """A trial of a process that ended is lost, and a late end brings it back."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        id = lab.begin(origin=pool.submit(current_origin).result())
        alive = only(lab)
    assert alive.status == "running"
    assert only(lab).status == "lost"
    assert only(lab).reason == "its process is gone"
    lab.succeed(id, 1)
    assert only(lab).status == "succeeded"


@pytest.mark.parametrize(("age", "status"), [(59, "running"), (61, "lost")])
def test_heartbeat_of_another_host(lab, age, status):
    """On another host the latest sign of life decides, by the store's clock."""
    id = lab.begin(origin=ELSEWHERE, started=NOW + 3600)
    lab.beat(id, NOW - age)
    lab.beat(id, NOW - 500)
    assert only(lab).status == status
    assert only(lab, clock=NOW + 100).status == "lost"


def test_heartbeat_timeout_can_be_set(lab):
    """The timeout is a matter of configuration."""
    id = lab.begin(origin=ELSEWHERE)
    lab.beat(id, NOW - 61)
    with dask.config.set({"daskperiment.heartbeat-timeout": "2 minutes"}):
        assert only(lab).status == "running"
    with dask.config.set({"daskperiment.heartbeat-timeout": 30}):
        assert only(lab).reason == "no sign of life from another-host for 30 s"


@pytest.mark.parametrize(("age", "status"), [(3700, "running"), (2 * 86400, "lost")])
def test_no_heartbeat_at_all(lab, age, status):
    """Without any sign of life only the host's clock tells the age, and it may be wrong."""
    lab.begin(origin=ELSEWHERE, started=NOW - age)
    assert only(lab).status == status


def test_each_trial_has_its_own_beats(lab):
    """One trial's signs of life keep no other alive."""
    first, second = lab.begin(origin=ELSEWHERE), lab.begin(origin=ELSEWHERE)
    lab.beat(first, NOW - 600)
    lab.beat(second, NOW)
    assert [trial.status for trial in read_trials(lab.store).values()] == ["lost", "running"]


# Unknown trials


@pytest.mark.parametrize("id", [0, -1, 3, 10**30])
def test_unknown_trial(id):
    """An unknown id gets an error that names it, says which there are and where to look."""
    lab = Lab()
    lab.run(1)
    lab.run(2)
    with pytest.raises(TrialIDNotFoundError, match=f"no trial {id}: .* 1 to 2.*get_history"):
        trial_or_raise(lab.store, id)


def test_no_trial_yet(lab):
    """Without trials the error says what to do."""
    with pytest.raises(TrialIDNotFoundError, match="Compute a result first"):
        trial_or_raise(lab.store, 1)


@pytest.mark.parametrize("id", ["1", 1.0, True, None])
def test_no_trial_id(lab, id):
    """What is no integer is no trial id."""
    lab.run(1)
    with pytest.raises(TrialIDNotFoundError, match="integer from 1, not"):
        trial_or_raise(lab.store, id)


def test_numpy_trial_id(lab):
    """An id out of a DataFrame's index will do."""
    lab.run(1)
    assert trial_or_raise(lab.store, np.int64(1)).trial == 1


def test_damaged_trial_by_id(lab):
    """A trial that exists but cannot be read is not called unknown."""
    lab.store.allocate("torn", b"{")
    with (
        pytest.warns(StoreWarning),
        pytest.raises(TrialIDNotFoundError, match="memory://lab, or is damaged"),
    ):
        trial_or_raise(lab.store, 1)


@pytest.mark.parametrize("given", ["best", "latest", "1,3-7", "1", b"1", 1.5, None, True])
def test_what_is_no_id(lab, given):
    """What is no id is named with its type; for words of commands there are calls."""
    with pytest.raises(TrialIDNotFoundError) as told:
        as_trial_id(lab.store, given)
    assert f"{given!r} ({type(given).__name__})" in str(told.value)
    assert ("ex.best(by)" in str(told.value)) is isinstance(given, str)


def sent(lab, trial, time, sender="7.abc"):
    """Write a sign of life as a recorder does."""
    number = len(list(lab.store.read("beats")))
    lab.add("beats", trial, beat_id(time, sender, number), Beat(time))


DAY = 86400
CLOCKS = {
    "went on": ([-30, -15], 0, "running"),
    "stopped": ([-90, -75], 0, "lost"),
    "set back": ([DAY - 15, DAY, -10], 0, "running"),
    "set back, then dead": ([DAY - 15, DAY, -200, -185], 0, "lost"),
    "set back after death": ([DAY - 15, DAY], 0, "lost"),
    "set forward": ([-DAY, -5], 0, "running"),
    "set forward and back": ([-60, DAY, -30], 0, "running"),
    "set forward, then dead": ([-DAY, -100], 0, "lost"),
    "the same second again": ([0, -3600, -15, 0], 0, "running"),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_clocks_that_are_set(lab, name):
    """The sign of life that was written last counts, whatever the store's clock did meanwhile."""
    beats, now, status = CLOCKS[name]
    id = lab.begin(origin=ELSEWHERE)
    for time in beats:
        sent(lab, id, NOW + time)
    assert only(lab, clock=NOW + now).status == status


def test_late_delivery_of_another_process(lab):
    """What one process sent late says nothing of another that has just sent something."""
    id = lab.begin(origin=ELSEWHERE)
    sent(lab, id, NOW - 5, "client")
    sent(lab, id, NOW - 900, "worker")
    assert only(lab).status == "running"


def test_begun_in_the_far_future(lab):
    """A trial of a host whose clock is years ahead is not running for years."""
    lab.begin(origin=ELSEWHERE, started=NOW + 1000 * DAY)
    assert only(lab).status == "lost"
