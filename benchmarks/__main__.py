"""Run all benchmarks, each part in its own process, print the table, and write it as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks.apart import PartError, figures_of
from benchmarks.timing import Figure

SPEED = ("local", "steps", "starting", "frames", "growth", "history", "shared", "cluster")
"""What runs if nothing is named; the others take long, or more than the extra ``test``."""
PARTS = {name: f"benchmarks.{name}" for name in (*SPEED, "million", "many", "validity")}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", help=f"{', '.join(PARTS)}; by default {', '.join(SPEED)}"
    )
    parser.add_argument("--json", type=Path, default=Path("benchmarks/latest.json"))
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"unknown: {', '.join(unknown)}; expected {', '.join(PARTS)}")
    figures: list[Figure] = []
    failed: list[str] = []
    print(f"{'what':62} {'ours':>10} {'floor':>10} unit  {'ratio':>6}  budget", flush=True)
    for name in arguments.parts or SPEED:
        with tempfile.TemporaryDirectory() as folder:
            try:
                for figure in figures_of(PARTS[name], Path(folder)):
                    figures.append(figure)
                    print(line(figure), flush=True)
            except PartError as error:
                failed.append(str(error))
    write(arguments.json, figures)
    if failed:
        sys.exit("\n".join(failed))


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
