"""Two trials side by side, and which change explains which difference.

Everything here only reads, and nothing is unpickled.
"""

from __future__ import annotations

from daskperiment.compare.build import compare
from daskperiment.compare.comparison import Comparison
from daskperiment.compare.parts import ABSENT, Absent, Cause, Pair, StepComparison

__all__ = ["ABSENT", "Absent", "Cause", "Comparison", "Pair", "StepComparison", "compare"]
