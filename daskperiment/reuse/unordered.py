"""Sets among the parts of cache keys: in whatever order their members come, the key is the same."""

from __future__ import annotations

from collections.abc import Sequence

from daskperiment.capture.fingerprint import combine

__all__ = ["END", "MEMBER", "SET", "in_any_order"]

SET, MEMBER, END = "(set", "(member", "set)"
"""Stand before the members of a set, before each of them, and behind the last."""


def in_any_order(parts: Sequence[str]) -> list[str]:
    """Return the digests of parts, with the members of each set in an order of their own.

    Parameters
    ----------
    parts : sequence of str
        Digests, and the three words above around those of sets, which may hold sets again.
    """
    open_sets: list[list[list[str]]] = []
    found: list[str] = []
    for part in parts:
        into = open_sets[-1][-1] if open_sets else found
        if part == SET:
            open_sets.append([[]])
        elif part == MEMBER:
            open_sets[-1].append([])
        elif part == END:
            members = open_sets.pop()[1:]
            into = open_sets[-1][-1] if open_sets else found
            into += [SET, *sorted(combine(*member) for member in members)]
        else:
            into.append(part)
    return found
