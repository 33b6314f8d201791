"""Warnings of steps that return another output than before, though all that is known is equal."""

from __future__ import annotations

import datetime
import functools
import itertools
import re
import threading
import time
import timeit
import types
import uuid
import warnings
from time import perf_counter

import pandas as pd
import pytest

from daskperiment.errors import ImpureStepWarning

OUTPUTS = [6, 5, 5, 5, 5, 6, 6, 7, 5]
WARNS = [False, True, False, False, False, True, False, True, True]


def impure_warnings(compute):
    """Compute, and return the texts of the warnings of impure steps."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compute()
    return [str(one.message) for one in caught if one.category is ImpureStepWarning]


def reading_file(ex, file):
    @ex.result
    def read(name):
        with open(name) as opened:
            return int(opened.read())

    return read(str(file))


@pytest.mark.parametrize("process", ["one", "many"])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_impurity_is_told_at_a_change(tmp_path, ex, again, process, scheduler):
    """A step warns where its output differs from the latest, and not for ever after."""
    file, told = tmp_path / "data", []
    for output in OUTPUTS:
        file.write_text(str(output))
        result = reading_file(ex, file)
        told.append(impure_warnings(lambda r=result: r.compute(scheduler=scheduler, seed=1)))
        ex = again() if process == "many" else ex
    assert [bool(each) for each in told] == WARNS
    assert "in trial 9 than in trial 8" in told[-1][0]


def test_long_history_of_changes(tmp_path, ex, again):
    """The latest of many outputs is found, whatever their number."""
    file = tmp_path / "data"
    for output in range(21):
        file.write_text(str(output))
        assert bool(impure_warnings(reading_file(ex, file).compute)) == (output > 0)
    for output, changed in ((20, False), (7, True), (7, False), (0, True)):
        file.write_text(str(output))
        assert bool(impure_warnings(reading_file(again(), file).compute)) == changed


class Slotted:
    """An object of which nobody can tell whether it changed."""

    __slots__ = ("rate",)

    def __reduce__(self):
        raise TypeError("cannot be pickled")


def opaque(rate):
    value = Slotted()
    value.rate = rate
    return value


SETTINGS = opaque(1)


def test_constant_without_fingerprint_is_unknown_not_unchanged(ex):
    """A step that reads what has no fingerprint is not checkable, and is never called impure."""

    @ex.result
    def use():
        return SETTINGS.rate

    def compute():
        for rate in (1, 2):
            SETTINGS.rate = rate
            use().compute()

    assert not impure_warnings(compute)
    assert not ex.get_steps()["Checkable"].any()
    told = ex.compare(1, 2).explanation
    assert re.search(r"perhaps constant \S*SETTINGS", told)
    assert "not pure" not in told
    assert "changed" not in told


@pytest.mark.parametrize("way", ["argument", "default", "closure", "partial", "method"])
def test_unknown_values_of_every_kind(ex, way):
    """However a value without fingerprint gets into a step, nothing is said to be unchanged."""
    value = opaque(1)

    def by_argument(value):
        return value.rate

    def by_default(settings=value):
        return settings.rate

    def by_closure():
        return value.rate

    bound = types.SimpleNamespace(by_partial=functools.partial(by_argument, value))

    def by_partial():
        return bound.by_partial()

    class Owner:
        settings = value

        def rate(self):
            return self.settings.rate

    def by_method():
        return Owner().rate()

    function = {
        "argument": by_argument, "default": by_default, "closure": by_closure,
        "partial": by_partial, "method": by_method,
    }[way]  # fmt: skip
    step = ex.result(function)
    result = step(value) if way == "argument" else step()

    def compute():
        for rate in (1, 2):
            value.rate = rate
            result.compute()

    assert not impure_warnings(compute)
    assert not ex.get_steps()["Checkable"].any()
    assert "not pure" not in str(ex.compare(1, 2))


@pytest.mark.parametrize("kind", ["counter", "iterator", "generator", "list"])
def test_state_is_known_to_change(ex, kind):
    """What the code itself changes, iterators included, makes a step impure: that is known."""
    count = 0
    values = iter([1, 2]) if kind == "iterator" else (n for n in (1, 2))
    seen = []

    def counter():
        nonlocal count
        count += 1
        return count

    def taker():
        return next(values)

    def lister():
        seen.append(1)
        return len(seen)

    result = ex.result({"counter": counter, "list": lister}.get(kind, taker))()
    assert not impure_warnings(result.compute)
    assert len(impure_warnings(result.compute)) == 1
    assert ex.get_steps()["Checkable"].all()
    name = {"counter": "count", "list": "seen"}.get(kind, "values")
    assert re.search(rf"its code changes \S*{name}, which it reads", ex.compare(1, 2).explanation)


BARRIER = threading.Barrier(1)


def test_waiting_for_others_leaves_a_step_checkable(ex):
    """Barriers, events and queues are no data: what takes part in them can be checked."""

    @ex.result
    def wait():
        BARRIER.wait(10)
        return 1

    wait().compute()
    assert ex.get_steps()["Checkable"].all()


def test_pure_steps_never_warn(ex, again):
    """Equal outputs in many trials of several processes are no change."""
    for _ in range(3):
        assert not impure_warnings(_double(ex)(ex.parameter("n", default=1)).compute)
        ex = again()


def _double(ex):
    @ex.result
    def double(n):
        return 2 * n

    return double


# Clocks -------------------------------------------------------------------------------------------


def local_time():
    import time as clock

    return clock.time_ns()


def local_datetime():
    from datetime import datetime

    return datetime.now()


def method_time():
    class Stamp:
        def get(self):
            return time.monotonic_ns()

    return Stamp().get()


def with_clock(clock):
    return lambda: clock.now()


NOW = datetime.datetime.now

CLOCKS = [
    (lambda: time.time(), "time.time"),
    (lambda: time.strftime("%S") + str(time.time_ns()), "time.strftime, time.time_ns"),
    (lambda: perf_counter(), "time.perf_counter"),
    (lambda: timeit.default_timer(), "timeit.default_timer"),
    (lambda: datetime.datetime.now(), "datetime.datetime.now"),
    (lambda: datetime.datetime.now(tz=datetime.UTC), "datetime.datetime.now"),
    (lambda: uuid.uuid1(), "uuid.uuid1"),
    (lambda: NOW(), "datetime.datetime.now"),
    (lambda: pd.Timestamp.now(), "pandas.Timestamp.now"),
    (lambda: local_time(), "time.time_ns"),
    (lambda: local_datetime(), "datetime.datetime.now"),
    (lambda: method_time(), "time.monotonic_ns"),
    (with_clock(datetime.datetime), "datetime.datetime.now"),
]


def stamping(ex, read):
    @ex.result
    def stamp():
        return str(read())

    return stamp()


def clock_told(result, **how):
    """Compute twice, and return what a warning of an impure step says of clocks."""
    texts = impure_warnings(lambda: [result.compute(**how), result.compute(**how)])
    return re.findall(r"reads a clock: ([\w., ]+)\. Make the time an argument", " ".join(texts))


@pytest.mark.parametrize(("read", "name"), CLOCKS)
def test_warning_names_the_clock(ex, read, name):
    """However the code comes by a clock, directly or in a helper, the warning names it."""
    (told,) = clock_told(stamping(ex, read))
    assert told == name


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_warning_names_the_clock_elsewhere(ex, scheduler):
    """On other schedulers, where the step runs in another thread or process."""
    assert clock_told(stamping(ex, time.time_ns), scheduler=scheduler) == ["time.time_ns"]


@pytest.mark.parametrize(
    "read",
    [
        lambda: (time.sleep(0), next(COUNTER)),
        lambda: (datetime.datetime(2026, 1, 1), next(COUNTER)),
        lambda: (types.SimpleNamespace(time=len, now=len).time, next(COUNTER)),
    ],
)
def test_no_clock_is_named_that_is_not_read(ex, read):
    """What else the module of a clock has, and what only has its name, is no clock."""
    assert clock_told(stamping(ex, read)) == []


COUNTER = itertools.count()
CALLS = []


def count_in_a_list():
    CALLS.append(1)
    return len(CALLS)


@pytest.mark.parametrize(
    ("count", "name"), [(lambda: next(COUNTER), "COUNTER"), (count_in_a_list, "CALLS")]
)
def test_warning_names_what_the_code_changes(ex, count, name):
    """What a step reads and changes itself is the cause that is named."""
    result = stamping(ex, count)
    texts = impure_warnings(lambda: [result.compute(), result.compute()])
    assert re.findall(r"Its code changes ([\w., ]+), which it reads", " ".join(texts)) == [
        f"{__name__}.{name}"
    ]


def test_changed_file_is_named_before_a_clock(tmp_path, ex):
    """What is known to have changed is the cause, not what a step reads besides."""
    file = tmp_path / "data"

    @ex.result
    def read(name):
        time.perf_counter()
        with open(name) as opened:
            return opened.read()

    texts = []
    for text in ("1", "2"):
        file.write_text(text)
        texts += impure_warnings(read(str(file)).compute)
    assert "It read file" in texts[0]
    assert "clock" not in texts[0]
