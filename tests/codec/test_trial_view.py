"""What people may query of a trial, drawn from its records."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from daskperiment.codec import to_plain
from daskperiment.codec.trial_view import added_view, begun_view
from daskperiment.records import OUTCOMES


def ended(status: str, **fields: object) -> bytes:
    body = {"status": status, "finished": 2.5, "elapsed": 1.0, **fields}
    return json.dumps(body).encode()


def computed(name: str, value: object) -> bytes:
    return json.dumps({"name": name, "value": to_plain(value)}).encode()


def test_beginning() -> None:
    """A trial that begins shows its status and parameters; what is not there is left out."""
    body = {"result": "f", "started": 1.5, "parameters": {"pair": to_plain((1, 2)), "no": None}}
    view = begun_view(json.dumps(body).encode())
    started = datetime.fromtimestamp(1.5, UTC)
    assert view.values == {"status": "running", "step": "f", "started": started}
    assert view.items == {"parameters": {"pair": (1, 2), "no": None}}


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[1]", b'{"parameters": 3, "origin": 4}'])
def test_damaged_beginning(body: bytes) -> None:
    """A damaged record makes fewer fields and no error."""
    assert begun_view(body).values == {"status": "running"}


def test_outcomes_of_one_write() -> None:
    """Of several outcomes the strongest counts, and it takes away what it has no value for."""
    view = added_view([ended("interrupted"), ended("succeeded", value=3), ended("failed")])
    assert view.values["status"] == "succeeded"
    assert view.values["result"] == 3
    assert set(view.removed) == {"type", "description", "failed_step"}


@pytest.mark.parametrize("status", OUTCOMES)
def test_outcome_that_stands(status: str) -> None:
    """An outcome changes nothing where the same or a stronger one stands."""
    stronger = OUTCOMES[: OUTCOMES.index(status) + 1]
    assert added_view([ended(status)]).unless == {"status": stronger}


def test_result_that_is_none() -> None:
    """A result of None is shown; a large one is shown by its size."""
    assert added_view([ended("succeeded", value=None)]).values["result"] is None
    large = added_view([ended("succeeded", value="x" * 20_000)])
    assert large.values["result"] == "(20002 bytes)"


def test_computed_parameters() -> None:
    """Computed parameters are added to the others; records of other kinds set nothing."""
    view = added_view([computed("a", 1), computed("b.c", "x"), b"{}", b"no JSON"])
    assert view == ({}, (), {}, {"parameters": {"a": 1, "b.c": "x"}})
