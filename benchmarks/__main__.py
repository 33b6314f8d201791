"""Run all benchmarks, print the table, and write it as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path

from benchmarks import (
    cluster,
    frames,
    growth,
    history,
    local,
    many,
    million,
    shared,
    starting,
    steps,
    validity,
)
from benchmarks.timing import Figure

PARTS = {
    "local": local,
    "steps": steps,
    "starting": starting,
    "frames": frames,
    "growth": growth,
    "history": history,
    "million": million,
    "shared": shared,
    "cluster": cluster,
    "many": many,
    "validity": validity,
}
SPEED = ("local", "steps", "starting", "frames", "growth", "history", "shared", "cluster")
"""What runs if nothing is named; the others take long, or more than the extra ``test``."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", help=f"{', '.join(PARTS)}; by default {', '.join(SPEED)}"
    )
    parser.add_argument("--json", type=Path, default=Path("benchmarks/latest.json"))
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"unknown: {', '.join(unknown)}; expected {', '.join(PARTS)}")
    figures = []
    print(f"{'what':62} {'ours':>10} {'floor':>10} unit  {'ratio':>6}  budget")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.parts or SPEED:
            for figure in PARTS[name].run(Path(folder)):
                figures.append(figure)
                print(line(figure), flush=True)
    write(arguments.json, figures)


def line(figure: Figure) -> str:
    """One line of the table."""
    floor = f"{figure.floor:10.3f}" if figure.floor else " " * 10
    ratio = f"{figure.ratio:6.2f}" if figure.ratio is not None else " " * 6
    budget = "" if figure.budget is None else f"≤ {figure.budget:g}"
    if figure.met is False:
        budget += "  MISSED"
    text = f"{figure.name:62} {figure.ours:10.3f} {floor} {figure.unit:4}  {ratio}  {budget}"
    return f"{text}  {figure.note}".rstrip()


def write(path: Path, figures: list[Figure]) -> None:
    """Write the figures down."""
    data = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "figures": [
            {**figure._asdict(), "ratio": figure.ratio, "met": figure.met} for figure in figures
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
