"""Running a recorded trial again, with today's code or with the recorded one.

What comes in is a result and the id of one of its trials; what goes out is a comparison of that
trial with its new run. Only :class:`daskperiment.result.Result` calls this. Recorded code runs
here: a trial that is only looked at, by history or compare, never comes this way.
"""

from __future__ import annotations

from daskperiment.reproduce.reproduction import CODES, reproduce

__all__ = ["CODES", "reproduce"]
