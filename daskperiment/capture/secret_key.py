"""The key by which secrets are compared: a file of the user's own, and never in a store."""

from __future__ import annotations

import os
import secrets
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask

from daskperiment.capture.fingerprint import NoFingerprintError, exact_fingerprint
from daskperiment.errors import SecretKeyError
from daskperiment.secret_values import Secret, SecretParameters, mark_of, revealed

__all__ = ["covered", "part_of", "secret_parameters"]

_SETTING = "daskperiment.secret-key"


def secret_parameters(names: frozenset[str]) -> SecretParameters:
    """Return parameters of these names with the key that is configured, or that the user has.

    Raises
    ------
    SecretKeyError
        If there is no key and none can be made, or if others can read it.
    """
    given = dask.config.get(_SETTING, None)
    if given is None:
        return SecretParameters(names, _own_key())
    if not isinstance(given, (str, bytes)) or not given:
        raise SecretKeyError(
            f"{_SETTING} is of type {type(given).__name__} or empty; expected a long and random "
            "text. Leave it unset to have a key of your own made."
        )
    return SecretParameters(names, given.encode() if isinstance(given, str) else given)


def covered(values: Mapping[str, Any], parameters: SecretParameters) -> dict[str, Any]:
    """Return values of parameters, those of secret ones as secrets."""
    return {
        name: _secret(revealed(value), parameters.key) if name in parameters.names else value
        for name, value in values.items()
    }


def part_of(secret: Secret, part: Any) -> Secret:
    """Return a part of a secret's value as a secret."""
    return _secret(part, secret.key)


def _secret(value: Any, key: bytes) -> Secret:
    try:
        mark = mark_of(exact_fingerprint(value), key)
    except NoFingerprintError:
        mark = ""
    return Secret(value, key, mark)


def _own_key() -> bytes:
    path = _folder() / "daskperiment" / "secret-key"
    try:
        if not path.exists():
            _make(path)
        _check_rights(path)
        key = path.read_bytes().strip()
    except OSError as error:
        raise SecretKeyError(
            f"Secret parameters are compared by a key, and {str(path)!r} cannot be made or read "
            f"({error.strerror or error}). Let it be, or give a key of your own: a long and "
            f"random text as {_SETTING} of Dask's configuration."
        ) from error
    if not key:
        raise SecretKeyError(f"The key in {str(path)!r} is empty; remove the file to have another.")
    return key


def _folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home())
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _check_rights(path: Path) -> None:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise SecretKeyError(
            f"Others may read {str(path)!r}, and whoever has this key can guess secrets by their "
            f"marks in a store. Run chmod 600 {path}, or remove the file to have another key."
        )


def _make(path: Path) -> None:
    """Make the key, unless another process was faster: one of them stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink()
