"""Ids that no trial has are answered alike by each kind of store, whichever method is asked."""

from __future__ import annotations

from typing import Any

import pytest

import daskperiment
from daskperiment.cli.command_options import TRIALS
from daskperiment.errors import TrialIDNotFoundError

METHODS: dict[str, Any] = {
    "get_steps": lambda ex, id: ex.get_steps(id),
    "get_persisted": lambda ex, id: ex.get_persisted("keep", id),
    "load_metric": lambda ex, id: ex.load_metric("loss", id),
    "load_metric of several": lambda ex, id: ex.load_metric("loss", [1, id]),
    "get_metrics": lambda ex, id: ex.get_metrics(id),
    "get_code": lambda ex, id: ex.get_code(id),
    "get_environment": lambda ex, id: ex.get_environment(id),
    "get_python_packages": lambda ex, id: ex.get_python_packages(id),
    "get_artifacts": lambda ex, id: ex.get_artifacts(id),
    "get_log": lambda ex, id: ex.get_log(id),
    "compare": lambda ex, id: ex.compare(1, id),
    "explain": lambda ex, id: ex.explain(id),
    "load": lambda ex, id: ex.load("kept", id),
    "save": lambda ex, id: ex.save("more", 1, trial_id=id),
    "tag": lambda ex, id: ex.tag([1, id], "x"),
    "note": lambda ex, id: ex.note(id, "x"),
    "rename": lambda ex, id: ex.rename(id, "x"),
    "archive": lambda ex, id: ex.archive(id),
    "delete_trials": lambda ex, id: ex.delete_trials([1, id]),
}
NONE = [-1, 0, 2, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 10**20, -(10**20), 10**5000]


def test_ids_that_no_trial_has(place: Any) -> None:
    """Each of them is a TrialIDNotFoundError, nothing is written, and the one trial stays."""
    ex = daskperiment.Experiment("ids", backend=place.backend)

    @ex.persist
    def keep() -> int:
        ex.save_metric("loss", 0, 1.0)
        ex.save("kept", [1])
        return 1

    @ex.result
    def last(x: int) -> int:
        return x

    result = last(keep())
    assert result.compute(scheduler="synchronous") == 1
    methods = {
        **METHODS,
        "reproduce": lambda ex, id: result.reproduce(id),
        "resume": lambda ex, id: result.resume(id),
    }
    for name, ask in methods.items():
        for id in NONE:
            with pytest.raises(TrialIDNotFoundError) as raised:
                ask(ex, id)
            assert len(str(raised.value)) < 1000, name
        for wrong in (True, 1.5, float("nan"), "1", b"1", [1]):
            # Several are one argument of these.
            if isinstance(wrong, list) and name in ("load_metric", "note", "archive"):
                continue
            with pytest.raises((TrialIDNotFoundError, TypeError)):
                ask(ex, wrong)
    assert ex.get_trial_ids([1, *NONE]) == [1]
    table = ex.get_history(archived=True)
    assert table.index.tolist() == [1]
    assert {"Tags", "Notes", "Name", "Archived"}.isdisjoint(table.columns)
    assert ex.get_artifacts()["Name"].tolist() == ["kept"]


@pytest.mark.parametrize("text", ["1".zfill(25), "9" * 20, "-" + "9" * 20, "7-" + "9" * 20])
def test_a_command_takes_an_id_as_it_is_written(text: str) -> None:
    """Digits are neither cut, so that another trial is meant, nor too many to be told of."""
    first, _, last = text.partition("-") if text[0] != "-" else (text, "", "")
    assert TRIALS.convert(text, None, None) == [(int(first), int(last or first))]
    assert TRIALS.convert("9" * 5000, None, None)[0][0] > 10**100
