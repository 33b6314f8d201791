"""The fuzzer of tests/damage on servers: keys and documents are changed, and all is asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.damage.fuzz import Fuzzer, Tally
from tests.damage.servers import MongoTarget, RedisTarget
from tests.shared.places import Place

SECONDS = float(os.environ.get("DASKPERIMENT_FUZZ_SECONDS", "5"))


def fuzzed(target: Any, scratch: Path) -> Tally:
    fuzzer = Fuzzer(target, scratch, int(os.environ.get("DASKPERIMENT_FUZZ_SEED", "1")))
    fuzzer.report = lambda line: print(line, flush=True)
    tally = fuzzer.run(100_000, SECONDS, least=3)
    print(tally._replace(faults=[]), fuzzer.slowest)
    return tally


def test_fuzzed_redis(make_place: Callable[[str], Place], tmp_path: Path) -> None:
    """Whatever a key holds, no other exception, no hang, no false row and no pickle that is run."""
    tally = fuzzed(RedisTarget(make_place("redis").backend, tmp_path), tmp_path)
    assert tally.mutations >= 3
    assert tally.faults == []


def test_fuzzed_mongo(make_place: Callable[[str], Any], tmp_path: Path) -> None:
    """Whatever a document holds, no other exception, no hang, no false row and no run pickle."""
    place = make_place("mongo")
    target = MongoTarget(place.backend, place.name, tmp_path)
    try:
        tally = fuzzed(target, tmp_path)
    finally:
        target.close()
    assert tally.mutations >= 3
    assert tally.faults == []
