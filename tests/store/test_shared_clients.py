"""Clients that the stores of a process have in common."""

from __future__ import annotations

import os

import pytest

from daskperiment.store.shared_clients import SharedClient, shared_client


def test_it_is_closed_by_the_last_that_has_it() -> None:
    """Equal ways have one client, which stays while anybody has it."""
    closed: list[list[int]] = []
    first = shared_client(({"host": ["a", "b"]},), lambda: [1], closed.append)
    second = shared_client(({"host": ["a", "b"]},), lambda: [2], closed.append)
    assert first is second
    del first
    assert not closed
    assert second.client == [1]
    del second
    assert closed == [[1]]
    third = shared_client(({"host": ["a", "b"]},), lambda: [3], closed.append)
    assert third.client == [3]


def test_other_ways_have_other_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other options, another process and what cannot be compared have a client of their own."""
    ways = [({"db": 0},), ({"db": 1},), ({"db": 0, "user": "me"},), ({"db": {1}},), ({"db": {1}},)]
    found = [shared_client(way, list, len) for way in ways]
    monkeypatch.setattr(os, "getpid", lambda: -1)
    found.append(shared_client(ways[0], list, len))
    assert len(set(map(id, found))) == len(found)
    assert all(isinstance(one, SharedClient) for one in found)
