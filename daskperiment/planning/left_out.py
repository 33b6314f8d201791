"""What the records of a trial leave out, because the value of a secret parameter stands in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from daskperiment.capture.environment.secret_looks import split_diff
from daskperiment.codec import Blob, dump_record
from daskperiment.errors import DaskperimentWarning
from daskperiment.records import Code, Environment, Function
from daskperiment.secret_values import Secret, quoted
from daskperiment.warn import warn_user

__all__ = ["Captured", "SecretSources"]

Captured = tuple[tuple[Code, Blob], tuple[Environment, Blob]]
"""Code and environment of a moment, with the objects that keep them."""

_NOTE = "its source is left out, as the value of a secret parameter stands in it"


class SecretSources:
    """Leaves out of code and environment what quotes a secret, and tells of it once."""

    def __init__(self) -> None:
        self._last: tuple[Captured, tuple[str, ...], Captured] | None = None
        self._told: set[str] = set()

    def left_out(self, captured: Captured, values: Mapping[str, Any]) -> Captured:
        """Return code and environment without what quotes the secrets among some values."""
        secrets = [value for value in values.values() if type(value) is Secret]
        marks = tuple(secret.mark for secret in secrets)
        last = self._last
        # The same objects while nothing changes, as the records that they are made of.
        if last is None or "" in marks or last[1] != marks or not _is_same(last[0], captured):
            last = self._last = captured, marks, self._made(captured, secrets)
        return last[2]

    def _made(self, captured: Captured, secrets: Iterable[Secret]) -> Captured:
        (code, code_blob), (environment, environment_blob) = captured
        functions = {name: _without(function, secrets) for name, function in code.functions.items()}
        if functions != code.functions:
            self._tell([name for name in functions if functions[name].note == _NOTE])
            code = replace(code, functions=functions)
            code_blob = dump_record(code)
        git = environment.categories.get("git", {})
        if (found := _git_without(git, secrets)) != git:
            environment = Environment({**environment.categories, "git": found})
            environment_blob = dump_record(environment)
        return (code, code_blob), (environment, environment_blob)

    def _tell(self, names: Iterable[str]) -> None:
        new = [name for name in names if name not in self._told]
        if new:
            self._told.update(new)
            warn_user(
                DaskperimentWarning(
                    f"The value of a secret parameter stands in the source of {', '.join(new)}, "
                    "which is left out of the record, so that it cannot be run again from there. "
                    "Take the value from the argument, and out of the source."
                )
            )


def _is_same(one: Captured, other: Captured) -> bool:
    return one[0][0] is other[0][0] and one[1][0] is other[1][0]


def _without(function: Function, secrets: Iterable[Secret]) -> Function:
    if function.source is None or not quoted(function.source, secrets):
        return function
    return replace(function, source=None, note=_NOTE)


def _git_without(git: Mapping[str, str], secrets: Iterable[Secret]) -> dict[str, str]:
    """Return what is known of a repository, without the changes of files that quote a secret."""
    diff = git.get("diff", "")
    kept = "".join(part for part in split_diff(diff) if not quoted(part, secrets))
    if kept == diff:
        return dict(git)
    return {**git, "diff": kept, "secrets": "changes are left out that quote a secret parameter"}
