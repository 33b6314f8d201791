"""Processes as users have them."""

from __future__ import annotations

from tests.capture.conftest import run_python

__all__ = ["run_python"]
