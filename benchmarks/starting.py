"""What it takes to begin: in an interpreter, on a command line, and with the first trial."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.timing import Figure, side_by_side

__all__ = ["run"]

ROUNDS = 9

FIRST_TRIAL = """
import sys, time
import daskperiment
ex = daskperiment.Experiment("first", backend=sys.argv[1])
a = ex.parameter("a", default=1)

@ex
def add(a, b):
    return a + b

@ex.result
def double(x):
    return 2 * x

node = double(add(a, 2))
for _ in range(2):
    start = time.perf_counter()
    node.compute(scheduler="synchronous")
    print(time.perf_counter() - start)
"""

CLICK = """
import click

@click.group()
def main():
    "A command line with as many commands."

for name in "abcdefghijklmnopqrstuvwxyz":
    main.add_command(click.Command(name, help=name))
main()
"""


def run(folder: Path) -> Iterator[Figure]:
    """Measure each in processes of its own."""
    use = "import daskperiment, pathlib, tempfile; "
    use += "daskperiment.Experiment('a', backend=pathlib.Path(tempfile.mkdtemp()))"
    yield _compared("import daskperiment / import dask.delayed",
                    ["-c", "import daskperiment"], ["-c", "import dask.delayed"], 0.3)  # fmt: skip
    yield _compared(
        "first use of Experiment / dask.delayed, numpy, sqlite3",
        ["-c", use], ["-c", "import dask.delayed, numpy, sqlite3"], 1.3,
    )  # fmt: skip
    script = folder / "group.py"
    script.write_text(CLICK)
    command = ["-c", "from daskperiment.cli import main; main()", "--help"]
    yield _compared("help of the command / click with as many commands",
                    command, [str(script), "--help"], 1.5)  # fmt: skip
    yield _first_trial(folder)


def _compared(name: str, ours: list[str], floor: list[str], budget: float) -> Figure:
    """Each beside an interpreter that does nothing, which neither pays for."""
    first, second = side_by_side(_start(ours), _start(floor), ROUNDS)
    nothing, _ = side_by_side(_start(["-c", ""]), _start(["-c", ""]), ROUNDS)
    note = f"{first:.3f} and {second:.3f} s with the interpreter"
    return Figure(name, (first - nothing) * 1e3, (second - nothing) * 1e3, "ms", budget, note)


def _start(arguments: list[str]) -> Callable[[], object]:
    def run() -> None:
        command = [sys.executable, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=_environment())

    run()  # so that what is compiled once is compiled
    return run


def _environment() -> dict[str, str]:
    """Return the environment of a person whose Python keeps what it compiles."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def _first_trial(folder: Path) -> Figure:
    script = folder / "first.py"
    script.write_text(FIRST_TRIAL)
    found = []
    for number in range(ROUNDS):
        command = [sys.executable, str(script), str(folder / f"first{number}")]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=_environment()
        )
        first, second = map(float, done.stdout.split())
        found.append(first - second)
    more = statistics.median(found) * 1e3
    return Figure("first trial of a process, more than the second / 60 ms", more, 60.0, "ms", 1.0)
