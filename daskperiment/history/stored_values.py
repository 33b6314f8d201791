"""Recorded values as Python objects, without unpickling any that is not plain data."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import msgspec
from dask.utils import format_bytes

from daskperiment.codec import (
    LongValues,
    from_plain,
    is_long,
    is_object,
    object_ref,
    signing_key_in_force,
    spelled_out,
    unpack,
)
from daskperiment.errors import CorruptRecordError, StoreError
from daskperiment.formats import read_file
from daskperiment.formatting import html_table, shorten
from daskperiment.history.previews import preview_html, preview_text
from daskperiment.records import ObjectRef
from daskperiment.secret_values import HIDDEN
from daskperiment.store.file import FileStore
from daskperiment.store.protocol import Buffer

__all__ = [
    "FURTHEST",
    "MISSING",
    "MissingValue",
    "StoredObject",
    "as_number_held",
    "loaded",
    "spelled",
    "viewed",
    "viewed_all",
]

FURTHEST = 9.2e9
"""Seconds before or after 1970 within which a time can be shown in a table."""


class MissingValue:
    """The type of `MISSING`, which stands where a trial has no value."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = MissingValue()
_AS_IS = frozenset({bool, int, float, str, type(None), MissingValue})
"""Types of recorded values that are Python values already, as most are."""
_NUMBERS = (bool, int, float)


class StoredObject:
    """A recorded value that is not plain data, as it stands in the store: not loaded.

    Two are equal if they stand for the same bytes, wherever these are.
    """

    __slots__ = ("_ref", "_store")

    def __init__(self, ref: ObjectRef, store: _ObjectSource) -> None:
        self._ref = ref
        self._store = store

    def __reduce__(self) -> Any:
        # A server's store pickles with its password, and tables are passed around.
        store = getattr(self._store, "unchecked", self._store)
        kept: _ObjectSource = _AbsentStore(store.address)
        if isinstance(store, FileStore):
            kept = store.without_secrets()
        return StoredObject, (self._ref, kept)

    @property
    def type(self) -> str:
        """``str`` of the value's type."""
        return self._ref.type

    @property
    def repr(self) -> str:
        """How the value showed itself: one line, shortened."""
        return self._ref.repr

    @property
    def size(self) -> int:
        """Bytes in the store; 0 if the value was not kept."""
        return self._ref.size

    @property
    def python(self) -> str | None:
        """Minor version of Python that pickled the value; ``None`` if nobody wrote it down."""
        return self._ref.python

    @property
    def reason(self) -> str | None:
        """Why the value was not kept; ``None`` if it was."""
        return self._ref.reason

    @property
    def preview(self) -> str:
        """What was told of the value when it was kept, as lines; nothing is loaded.

        Of a table its head, of a text its beginning, of an array its shape and statistics.
        """
        return preview_text(self._ref)

    @property
    def is_secret(self) -> bool:
        """Whether it is the value of a secret parameter, which no store has."""
        return self._ref.mark is not None

    @property
    def parts(self) -> dict[str, Any]:
        """Plain fields of a data class or named tuple by name, as far as they are recorded."""
        return {name: viewed(data, self._store) for name, data in self._ref.parts.items()}

    @property
    def number(self) -> bool | int | float | None:
        """The one number that an array or tensor holds, as it was recorded; None for all else."""
        number = self._ref.number
        found = number if type(number) in _NUMBERS or number is None else _number_of(number)
        return found if type(found) in _NUMBERS else None

    def load(self, signing_key: str | bytes | None = None) -> Any:
        """Load the value. This runs code of whoever wrote it: do so only if you trust the store.

        Parameters
        ----------
        signing_key : str or bytes, optional
            By default the dask configuration ``daskperiment.signing-key``. With a key, an object
            that is unsigned or was changed is refused.

        Raises
        ------
        PersistedResultNotFoundError
            If the value was not kept, or is no longer in the store.
        CorruptRecordError
            If the object is damaged.
        OtherPythonError
            If there is a function in it that another minor version of Python compiled. Loading
            other objects of that version gives an OtherPythonWarning.
        UntrustedObjectError
            If a signing key is set and does not fit.
        """
        return loaded(msgspec.to_builtins(self._ref), self._store, signing_key)

    def __repr__(self) -> str:
        if self.is_secret:
            return HIDDEN
        state = format_bytes(self.size) if self.reason is None else "not kept"
        return f"StoredObject({shorten(self.repr, 60)}, {state})"

    def _repr_html_(self) -> str:
        kept = format_bytes(self.size) if self.reason is None else f"not kept: {self.reason}"
        rows = [["type", self.type], ["value", self.repr], ["size", kept]]
        told = "" if self._ref.preview is None else preview_html(self._ref)
        shown = [[name, shorten(text, 100)] for name, text in rows]
        return html_table(["Stored object", ""], shown) + told

    def __eq__(self, other: object) -> bool:
        return self._what == other._what if isinstance(other, StoredObject) else NotImplemented

    def __hash__(self) -> int:
        return hash((self._ref.type, self._ref.digest, self._ref.repr))

    @property
    def _what(self) -> ObjectRef:
        """The reference without who pickled the value, and without what its bytes tell."""
        return msgspec.structs.replace(self._ref, python=None, parts={}, number=None)


class _ObjectSource(Protocol):
    """What an object is loaded from: a store, or what is left of one in a pickle."""

    @property
    def address(self) -> str: ...

    def get(self, digest: str) -> Buffer: ...


class _AbsentStore(NamedTuple):
    """The address of a store that did not travel with a pickle."""

    address: str

    def get(self, digest: str) -> Buffer:
        """Refuse, and say where to ask instead."""
        raise StoreError(
            f"Object {digest} of {self.address} came by a pickle, which does not carry the way to "
            "a server. Ask the experiment for its history here, and load from that."
        )


def _number_of(form: Any) -> Any:
    try:
        return from_plain(form)
    except CorruptRecordError:
        return None


def as_number_held(value: Any) -> Any:
    """Return the number that an object holds in its place; any other value as it is."""
    number = value.number if isinstance(value, StoredObject) else None
    return value if number is None else number


def loaded(data: Any, store: _ObjectSource, signing_key: str | bytes | None = None) -> Any:
    """Return the Python object that a recorded value was, unpickled if need be."""
    return unpack(data, store.get, signing_key_in_force(signing_key), read_file)


def spelled(data: Any, store: _ObjectSource) -> Any:
    """Return the form of a recorded value in which long plain ones stand in full."""
    return spelled_out(data, store.get, signing_key_in_force()) if is_long(data) else data


def viewed(data: Any, store: _ObjectSource) -> Any:
    """Return a recorded value as a Python object, or a `StoredObject` if it is not plain data."""
    if type(data) in _AS_IS:
        return data
    data = spelled(data, store)
    try:
        return StoredObject(object_ref(data), store) if is_object(data) else from_plain(data)
    except CorruptRecordError as error:
        return StoredObject(ObjectRef("?", "<damaged>", reason=str(error)), store)


def viewed_all(data: list[Any], store: _ObjectSource) -> list[Any]:
    """Return what `viewed` does of each value; the same list if all of them are as they are."""
    if _AS_IS.issuperset(map(type, data)):
        return data
    long = LongValues(store.get, signing_key_in_force())
    return [viewed(long.spelled_out(value), store) for value in data]
