"""Changed arguments of a step's call, and what is to be said of each."""

from __future__ import annotations

import dask.array as da
import numpy as np

CHANGES = {
    "literal": ({"x": 3}, {"x": 4}, "argument x 3 → 4"),
    "left out": ({"x": 3}, {"x": 3, "share": 0.3}, "argument share 0.2 → 0.3"),
    "list": ({"x": [1, 2]}, {"x": [1, 3]}, "argument x [1, 2] → [1, 3]"),
    "array": ({"x": np.arange(3)}, {"x": np.arange(4)}, "argument x: other data"),
    "collection": (
        {"x": da.ones(4, chunks=2)}, {"x": da.zeros(4, chunks=2)}, "argument x: other data"
    ),
}  # fmt: skip
"""What is given first and then, and the reason that names the change."""


def steps(ex):
    """Return what makes a result of the arguments of a reusable step, which ignores one."""

    @ex.persist(reuse=True, ignore=("n_jobs",))
    def train(x, n_jobs, share=0.2):
        return float(np.sum(x)) * share

    @ex.result
    def out(value):
        return value

    n_jobs = ex.parameter("n_jobs", default=1)
    return lambda **given: out(train(n_jobs=n_jobs, **given))


def check_changes(ex, kinds=CHANGES):
    """Make the changes one by one, each with another ignored argument; return the trials' ids."""
    make, trials = steps(ex), {}
    for kind in kinds:
        before, now, reason = CHANGES[kind]
        make(**before).compute(reuse=False)
        result = make(**now).bind(n_jobs=8)
        assert ex.explain(result)["train"].reason == f"{reason}; n_jobs ignored"
        result.compute()
        trials[kind] = (ex.trial_id - 1, ex.trial_id)
        assert ex.explain(ex.trial_id)["train"].reason == f"{reason}; n_jobs ignored"
        (first,) = [ex.compare(*trials[kind]).first_difference]
        assert (first.key, {cause.kind for cause in first.causes}) == ("train", {"argument"})
        again = ex.explain(make(**now).bind(n_jobs=2))["train"]
        assert (again.verdict, "n_jobs ignored" in again.reason) == ("hit", True)
    return trials
