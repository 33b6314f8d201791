"""Running a recorded trial again, with today's code or with the recorded one."""

from __future__ import annotations

from daskperiment.reproduce.running import CODES, reproduce

__all__ = ["CODES", "reproduce"]
