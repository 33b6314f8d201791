"""Records and plain values <-> bytes; what is not plain becomes an object."""

from __future__ import annotations

from daskperiment.codec.bodies import decode, decode_each, decode_many, encode
from daskperiment.codec.objects import (
    Blob,
    check_object,
    dump_object,
    dump_record,
    find_record,
    load_object,
    load_record,
)
from daskperiment.codec.plain import NotPlainError, from_plain, is_object, object_ref, to_plain
from daskperiment.codec.values import describe, pack, unpack

__all__ = [
    "Blob",
    "NotPlainError",
    "decode",
    "decode_each",
    "decode_many",
    "describe",
    "dump_object",
    "dump_record",
    "encode",
    "find_record",
    "from_plain",
    "is_object",
    "check_object",
    "load_object",
    "load_record",
    "object_ref",
    "pack",
    "to_plain",
    "unpack",
]
