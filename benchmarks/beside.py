"""Two versions of the package side by side: ``python benchmarks/beside.py TREE [TREE] [--only …]``.

A tree is a checkout, such as ``git worktree add ../before COMMIT`` makes one; the second is this
one unless another is named. Each group of figures is taken in processes of its own, in turns, so
that a noisy moment hits both. What a version cannot do is left open.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
LONGEST = 150.0
"""Seconds that one version may take for one group."""


def groups() -> dict[str, Callable[[Path], Iterator[Any]]]:
    """Return what is measured, by name; only what both versions may have is imported."""
    from benchmarks import growth, local, starting, steps  # of this tree

    growth.SMALL, growth.LARGE = 250, 1_000  # an earlier version may take a minute for more
    return {
        "trial": local.trivial_trial,
        "metric": local.save_metric,
        "points": local.million_points,
        "writers": point_writers,
        "history": lambda folder: local.history(folder, 10_000),
        "memory": lambda folder: local.history(folder, 100_000),
        "array": local.persist_and_load,
        "size": size,
        "hits": lambda folder: iter([steps.hit(folder, "10 numbers", 10, 6)]),
        "starting": starting.run,
        "growth": growth.run,
    }


def size(folder: Path) -> Iterator[Any]:
    """What a trial takes in a folder, of 2,000 that are alike and of 2,000 that are not."""
    from benchmarks import histories, local, timing  # as above

    for name, values in (("that are alike", 1), ("of different arguments", 2_000)):
        ex, result = local.trivial(folder / name)
        for number in range(2_000):
            result.bind(a=number % values).compute(scheduler="synchronous")
        local.close_recorders()
        bytes_each = histories.size_of(folder / name) / ex.trial_id
        yield timing.Figure(f"bytes on disk per trial, of trials {name}", bytes_each, 0, "B")


def point_writers(folder: Path) -> Iterator[Any]:
    """Points that eight processes save at once, on servers of their own."""
    from contextlib import ExitStack

    from benchmarks import writers
    from tests.store import mongo_server, redis_server

    os.environ["DASK_DASKPERIMENT__JOURNAL"] = str(folder / "journal")
    with ExitStack() as stack:
        program = redis_server.server_of_wheel()
        server = stack.enter_context(redis_server.redis_server(program, folder / "redis"))
        other = stack.enter_context(mongo_server.running(folder / "mongo"))
        yield from writers.point_writers({"redis": server.url, "mongo": other.url("bench")})


def measure(name: str) -> None:
    """Take the figures of a group with the package that this process finds first."""
    import daskperiment  # noqa: F401  # of the tree that is measured, before `benchmarks`

    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory() as folder:
        for figure in groups()[name](Path(folder)):
            print(json.dumps([figure.name, figure.ours, figure.floor, figure.unit]), flush=True)


def figures_of(tree: Path, name: str) -> dict[str, Any]:
    """Return the figures of a group with the package of a tree, as far as it came."""
    path = [str(tree), os.environ.get("PYTHONPATH", "")] if tree != HERE else [str(HERE)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    command = [sys.executable, __file__, "--measure", name]
    with tempfile.TemporaryFile("w+") as out:
        try:
            subprocess.run(
                command, stdout=out, stderr=subprocess.DEVNULL, timeout=LONGEST, check=False,
                env=environment, cwd=tree,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            pass
        out.seek(0)
        found = [json.loads(line) for line in out if line.startswith("[")]
    return {label: rest for label, *rest in found}


def shown(figure: list[Any] | None) -> str:
    """Return a figure with its ratio to the floor of the same run."""
    if figure is None:
        return f"{'–':>10} {'':>6}"
    ours, floor, _ = figure
    return f"{ours:10.3f} {ours / floor:6.2f}" if floor else f"{ours:10.3f} {'':>6}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs="*", type=Path)
    parser.add_argument("--only", nargs="*", help="groups of figures")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    trees = [tree.resolve() for tree in arguments.trees]
    if not 1 <= len(trees) <= 2:
        parser.error("name the tree to compare with, and perhaps another one in place of this")
    before, after = (*trees, HERE)[:2]
    names = ("trial", "metric", "points", "writers", "history", "memory", "array", "size", "hits",
             "starting", "growth")  # fmt: skip
    print(f"{'what':66} {'before':>10} {'ratio':>6} {'after':>10} {'ratio':>6} unit")
    for name in arguments.only or names:
        old, new = figures_of(before, name), figures_of(after, name)
        for label in dict.fromkeys([*new, *old]):
            unit = (new.get(label) or old[label])[2]
            print(f"{label:66} {shown(old.get(label))} {shown(new.get(label))} {unit}", flush=True)


if __name__ == "__main__":
    main()
