"""Running a recorded trial again, with today's code or the recorded one; or going on with it.

What comes in is a result and the id of one of its trials; what goes out is a comparison of that
trial with its new run, or the result of the trial that went on from it. Only
:class:`daskperiment.result.Result` calls this. Recorded code runs here, and what was kept is
loaded: a trial that is only looked at, by history or compare, never comes this way.
"""

from __future__ import annotations

from daskperiment.reproduce.reproduction import CODES, reproduce
from daskperiment.reproduce.resumption import resume

__all__ = ["CODES", "reproduce", "resume"]
