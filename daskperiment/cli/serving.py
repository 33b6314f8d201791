"""Starting the dashboard, which is an extra."""

from __future__ import annotations

import importlib

from daskperiment.cli.answering import Failed, Refused
from daskperiment.cli.stored import ids, store_of

__all__ = ["serve"]


def serve(
    backend: str | None, experiment: str | None, port: int, host: str, token: str | None,
    open_browser: bool,
) -> None:  # fmt: skip
    """Start the dashboard and wait until it ends."""
    if experiment is None:
        ids(backend)  # a store that is away is told here, and not by an empty page
    else:
        store_of(backend, experiment)
    try:
        dashboard = importlib.import_module("daskperiment.dashboard")
    except ImportError as error:
        raise Failed(
            f"The dashboard needs {error.name or 'a package'}, which cannot be loaded: "
            'pip install "daskperiment[dashboard]"'
        ) from error
    settings = {"port": port, "host": host, "token": token, "open_browser": open_browser}
    try:
        dashboard.serve(backend, experiment=experiment, **settings)
    except ValueError as error:
        raise Refused(str(error)) from error
