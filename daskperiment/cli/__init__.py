"""The command line: ``daskperiment`` and ``daskperimentboard``.

Words of a shell come in; text, exit statuses and, with a script, trials go out. `group`, `board`
and `command_options` say which commands and options there are. They load click alone, so that
help and shell completion answer at once; the modules that do the work are loaded when a command
runs. Nothing imports this room but programs, and ``Result.main``, which makes a script one.
"""

from __future__ import annotations

from daskperiment.cli.group import cli, main

__all__ = ["cli", "main"]
