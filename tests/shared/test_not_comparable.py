"""What has no fingerprint, or is never reused, is told alike whatever the store."""

from __future__ import annotations

import pytest

from daskperiment.errors import NeverReusedWarning
from daskperiment.execution import kept_files
from tests.reuse.test_never_reused import HELD, constant
from tests.reuse.test_trust import Strange
from tests.reuse.work import ran, write
from tests.shared.conftest import open_again

KINDS = ["folder", "redis", "mongo"]


@pytest.fixture(autouse=True)
def new_process():
    """As if nothing had been told in this process."""
    kept_files._warn_once.cache_clear()


@pytest.fixture
def log(tmp_path):
    """Give the file in which steps write down that they run."""
    return str(tmp_path / "log")


def opened(place, log):
    """Open the experiment as a later process would; give it and its result of two steps."""
    ex = open_again("strange", place.backend)

    @ex.persist(reuse=True)
    def make(*, size):
        write(log, "make")
        return Strange(size)

    @ex.result
    def last(value):
        return value.value

    return ex, last(make(size=ex.parameter("size", default=1)))


@pytest.mark.parametrize("kind", KINDS)
def test_output_without_fingerprint_is_reused(kind, make_place, log):
    """It is a hit in a later process, and another one runs."""
    place = make_place(kind)
    _, result = opened(place, log)
    assert (result.compute(), ran(log)) == (1, {"make": 1})
    ex, result = opened(place, log)
    assert (ex.explain(result)["make"].verdict, result.compute(), ran(log)) == ("hit", 1, {})
    assert (result.bind(size=2).compute(), ran(log)) == (2, {"make": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_reproduce_says_not_comparable(kind, make_place, log):
    """Nobody says that such outputs differ: what follows is verified, and they are not."""
    place = make_place(kind)
    opened(place, log)[1].compute()
    _, result = opened(place, log)
    found = result.reproduce(1)
    assert ran(log) == {"make": 2}
    verdicts = {step.key: step.verdict for step in found.steps}
    assert (verdicts["make"], verdicts["last"]) == ("unchecked", "same")
    assert "not comparable" in str(found)
    assert not any(step.differs for step in found.steps)
    (unverified,) = found.unverified
    assert unverified.startswith("step 'make': its output has no fingerprint: ")


@pytest.mark.parametrize("kind", KINDS)
def test_never_reused_is_told(kind, make_place):
    """One warning, with reason and cure, and the explanation says it before the first run."""
    ex = open_again("never", make_place(kind).backend)
    result = ex.result(lambda value: 1)(ex.persist(reuse=True)(constant)(HELD is None))
    reason = ex.explain(result)["constant"].reason
    assert reason.startswith("never reused: ")
    assert "HELD" in reason
    assert "make it in the step" in reason
    with pytest.warns(NeverReusedWarning, match=r"'constant' .*HELD.* make it in the step") as told:
        assert [result.compute() for _ in range(2)] == [1, 1]
    assert len(told) == 1
    assert ex.get_steps(2).set_index("Step")["Reused From"].isna()["constant"]
