from __future__ import annotations

import pandas as pd
import pytest

from daskperiment.codec import pack
from daskperiment.errors import (
    CorruptRecordError,
    PersistedResultNotFoundError,
    StoreWarning,
    TrialIDNotFoundError,
    UntrustedObjectError,
)
from daskperiment.history.steps import get_persisted, get_steps
from daskperiment.records import Failure
from tests.history.lab import NOW

COLUMNS = [
    *["Trial ID", "Step", "Key", "Status", "Started", "Wall Time", "CPU Time", "Peak Memory"],
    *[
        "Host",
        "PID",
        "Worker",
        "Worker Name",
        "Thread",
        "Input Fingerprint",
        "Output Fingerprint",
        "Checkable",
    ],
    *["Stochastic", "Reused From"],
]


def keep(lab, trial, key, value, signing_key=None):
    lab.step(trial, key, signing_key=signing_key, kept={"value": lab.form(value, signing_key)})


def test_get_steps(lab):
    """Each step run is a row; columns have their natural dtypes."""
    id = lab.begin()
    lab.step(id, "load", inputs="f00", output="ba5")
    lab.step(id, "load#2", note="its input has no fingerprint", stochastic=True, reused=3)
    frame = get_steps(lab.store, id)
    assert frame.columns.tolist() == COLUMNS
    assert frame["Trial ID"].tolist() == [1, 1]
    assert frame["Step"].tolist() == ["load", "load"]
    assert frame["Key"].tolist() == ["load", "load#2"]
    assert frame["Started"].tolist() == [pd.Timestamp(NOW - 5, unit="s", tz="UTC")] * 2
    assert frame["Wall Time"].tolist() == [pd.Timedelta("250ms")] * 2
    assert frame["CPU Time"].tolist() == [pd.Timedelta("125ms")] * 2
    assert frame["Peak Memory"].tolist() == [2**33] * 2
    assert frame["Input Fingerprint"].tolist()[0] == "f00"
    assert pd.isna(frame["Output Fingerprint"][1])
    assert frame["Checkable"].tolist() == [True, False]
    assert frame["Stochastic"].tolist() == [False, True]
    assert frame["Reused From"].dtype == "Int64"
    assert frame["Reused From"][1] == 3
    assert pd.isna(frame["Reused From"][0])


def test_steps_of_all_trials(lab):
    """Without a trial, all step runs come sorted by trial, in the order recorded."""
    first, second = lab.begin(), lab.begin()
    lab.step(second, "b")
    lab.step(first, "b")
    lab.step(second, "a")
    frame = get_steps(lab.store)
    assert list(zip(frame["Trial ID"], frame["Key"], strict=True)) == [
        (1, "b"), (2, "b"), (2, "a"),
    ]  # fmt: skip


def test_no_steps(lab):
    """Without step runs the columns are the same, and an unknown trial is an error."""
    empty = get_steps(lab.store)
    assert empty.columns.tolist() == COLUMNS
    assert empty["Wall Time"].dtype == "timedelta64[ns]"
    lab.begin()
    assert len(get_steps(lab.store, 1)) == 0
    with pytest.raises(TrialIDNotFoundError):
        get_steps(lab.store, 2)


def test_damaged_step_run(lab):
    """A damaged step run is left out with a warning."""
    id = lab.begin()
    lab.add("steps", id, "torn", b"[")
    lab.step(id, "load")
    with pytest.warns(StoreWarning, match="'torn'"):
        assert get_steps(lab.store)["Key"].tolist() == ["load"]


# Persisted values


@pytest.mark.parametrize("value", [1, None, (1, 2), range, print])
def test_get_persisted(lab, value):
    """What a persisted step returned comes back, plain or not."""
    id = lab.begin()
    lab.step(id, "load")
    keep(lab, id, "clean", value)
    assert get_persisted(lab.store, "clean", id) == value


def test_persisted_calls(lab):
    """If a step was called more than once, its Key tells which value is meant."""
    id = lab.begin()
    keep(lab, id, "load#10", 10)
    keep(lab, id, "load", 1)
    keep(lab, id, "load#2", 2)
    assert get_persisted(lab.store, "load#2", id) == 2
    assert get_persisted(lab.store, "load#1", id) == 1
    with pytest.raises(PersistedResultNotFoundError, match="'load#1', 'load#2', 'load#10'"):
        get_persisted(lab.store, "load", id)


def test_persisted_one_call_of_two(lab):
    """A name is not taken for the one call of several whose value happens to be there."""
    id = lab.begin()
    lab.step(id, "load", "failed")
    keep(lab, id, "load#2", 2)
    with pytest.raises(PersistedResultNotFoundError, match=r"called 2 times .* 'load#2'"):
        get_persisted(lab.store, "load", id)
    assert get_persisted(lab.store, "load#2", id) == 2


def test_persisted_by_a_repeated_run(lab):
    """A step that was run again, because a worker died, has the value of a run that ended."""
    id = lab.begin()
    lab.step(id, "load", "failed")
    keep(lab, id, "load", 5)
    lab.step(id, "load", "interrupted")
    assert get_persisted(lab.store, "load", id) == 5


def test_nothing_persisted(lab):
    """The error says whether the step is unknown, failed, or just was not persisted."""
    id = lab.begin()
    lab.step(id, "plain")
    lab.step(id, "broken", "failed", failure=Failure("E", "E()"))
    keep(lab, id, "kept", 1)
    with pytest.raises(PersistedResultNotFoundError, match=r"'plain' was not.*'kept'.*@ex.persist"):
        get_persisted(lab.store, "plain", id)
    with pytest.raises(PersistedResultNotFoundError, match="'broken' failed in trial 1"):
        get_persisted(lab.store, "broken", id)
    with pytest.raises(
        PersistedResultNotFoundError, match=r"'x'.*'plain', 'broken', 'kept'.*value: 'kept'"
    ):
        get_persisted(lab.store, "x", id)


def test_persisted_in_unknown_trial(lab):
    """An unknown trial is told from one that ran no step."""
    with pytest.raises(TrialIDNotFoundError):
        get_persisted(lab.store, "load", 1)
    id = lab.begin()
    with pytest.raises(PersistedResultNotFoundError, match=r"no run of a step 'load'.*none"):
        get_persisted(lab.store, "load", id)


def test_persisted_value_that_was_not_kept(lab):
    """The error says why a value was not kept."""
    id = lab.begin()
    data, _ = pack(n for n in [1])
    lab.step(id, "load", kept={"value": data})
    with pytest.raises(PersistedResultNotFoundError, match=r"was not kept.*generator"):
        get_persisted(lab.store, "load", id)


def test_persisted_value_cut_off(lab):
    """A cut-off object is refused as damaged."""
    id = lab.begin()
    keep(lab, id, "load", print)
    for digest in lab.store._objects:
        lab.store._objects[digest] = lab.store._objects[digest][:20]
    with pytest.raises(CorruptRecordError):
        get_persisted(lab.store, "load", id)


def test_persisted_value_with_key(lab):
    """With a signing key, values and records that it did not sign are refused."""
    id = lab.begin()
    lab.step(id, "value", signing_key=b"key", kept={"value": lab.form(range)})
    with pytest.raises(UntrustedObjectError):
        get_persisted(lab.store, "value", id, b"key")
    keep(lab, id, "signed", print, b"key")
    keep(lab, id, "unsigned", range)
    assert get_persisted(lab.store, "signed", id, b"key") is print
    with pytest.raises(UntrustedObjectError):
        get_persisted(lab.store, "unsigned", id, b"key")
