"""The parts of an object, as stores get them."""

from __future__ import annotations

from pickle import PickleBuffer

from daskperiment.store.protocol import Buffer

__all__ = ["flat"]


def flat(part: Buffer) -> memoryview:
    """View a part as plain bytes, whatever its type and shape, without copying it."""
    if not isinstance(part, memoryview):
        return PickleBuffer(part).raw()  # Of arrays in any order and of any type.
    # A view of a view through PickleBuffer crashes some Pythons when a reference cycle with it
    # is collected; a cast has no such chain, but it refuses empty arrays.
    return part.cast("B") if part.nbytes else memoryview(b"")
