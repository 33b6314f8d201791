"""Two trials side by side, and which change explains which difference.

A store and two trial ids come in, a :class:`Comparison` goes out: data that prints as text and
shows as HTML. Explain, reproduce, the dashboard, the command line and the experiment may call.
Everything here only reads, and nothing is unpickled.
"""

from __future__ import annotations

from daskperiment.compare.comparison import Comparison, compare
from daskperiment.compare.parts import ABSENT, Absent, Cause, Pair, StepComparison

__all__ = ["ABSENT", "Absent", "Cause", "Comparison", "Pair", "StepComparison", "compare"]
