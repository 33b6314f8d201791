"""What a signing key says of the records of a store: the one place where readers ask it.

A store comes in; out goes one that reads only what holders of the key wrote, and tells of the rest.
Whoever shows or decides by records reads through it; who delivers, copies, prunes and looks a store
over reads the store itself, for there it matters what is there.
"""

from __future__ import annotations

from daskperiment.vouching.record_vouching import MissingRecords, Vouching
from daskperiment.vouching.vouched_store import Doubts, VouchedStore, silently, vouched

__all__ = ["Doubts", "MissingRecords", "VouchedStore", "Vouching", "silently", "vouched"]
