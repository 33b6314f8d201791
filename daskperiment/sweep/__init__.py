"""Many trials of one result: over a grid, at random, or where a sampler points.

A sweep stands above results: it computes trials and writes down only what defines the sweep itself.
Which trials it consists of, and which points are still missing, is read from the trials.
"""

from __future__ import annotations

from daskperiment.sweep.sweeping import sweep

__all__ = ["sweep"]
