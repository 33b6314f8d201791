"""Words that a shell may complete: experiments, columns, trials, and parameters of a script.

A store is read and a script is parsed; nothing of either is run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import click

from daskperiment.capture.source import parse_python
from daskperiment.cli.lookup import find, ids

__all__ = ["columns", "experiments", "parameters", "trials"]

_LATEST = 20
"""Trials that are named beside the words for them."""


def experiments(ctx: click.Context) -> list[str]:
    """Return the ids of the store's experiments."""
    return ids(_backend(ctx))


def columns(ctx: click.Context) -> list[str]:
    """Return the columns of an experiment's history, and parts of results and metrics."""
    frame = find(_backend(ctx), _experiment(ctx)).get_history(
        verbose=True, running=True, limit=1, sort="-Trial ID", expand=True, metrics=True
    )
    return ["Trial ID", *map(str, frame.columns)]


def trials(ctx: click.Context) -> list[str]:
    """Return the latest trials of an experiment, and the words for some."""
    known = find(_backend(ctx), _experiment(ctx)).get_trial_ids()
    return ["latest", "best", *map(str, reversed(known[-_LATEST:]))]


def parameters(ctx: click.Context) -> list[str]:
    """Return the parameters that a script declares, with a sign behind them, by its text alone."""
    tree = parse_python(ctx.params["script"].read_bytes())
    return [f"{name}=" for name in dict.fromkeys(_declared(tree))]


def _declared(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="parameter"), args=[ast.Constant(value=str(name)), *_]
            ):
                yield name
            case ast.FunctionDef(name=name, decorator_list=decorators):
                if any(getattr(one, "attr", "") == "parameter" for one in decorators):
                    yield name


def _experiment(ctx: click.Context) -> str:
    # Where an option's value is missing, as where it is completed, click leaves arguments alone.
    return ctx.params.get("id") or next(one for one in ctx.args if not one.startswith("-"))


def _backend(ctx: click.Context) -> Any:
    given = ctx.params.get("backend")
    found = (given or [None])[0] if isinstance(given, tuple) else given
    return found or (ctx.parent.params.get("backend") if ctx.parent else None)
