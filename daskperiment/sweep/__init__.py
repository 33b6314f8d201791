"""Many trials of one result: over a grid, at random, or at points that Optuna suggests.

What comes in is a result, and a space or the id of a sweep to resume; what goes out is a table of
trials. Only :class:`daskperiment.result.Result`, the command line and scripts call this: it stands
above results, computes trials as a user would, and writes only the record that defines the sweep.
"""

from __future__ import annotations

from daskperiment.sweep.runner import sweep

__all__ = ["sweep"]
