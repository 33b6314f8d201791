"""The command line: ``daskperiment`` and ``daskperimentboard``.

Commands are declared in small modules that load click alone, so that help and shell completion
answer at once. What a command does is in a module of its own, which is loaded when it runs.
"""

from __future__ import annotations

from daskperiment.cli.group import cli, main

__all__ = ["cli", "main"]
