"""Records and values <-> bytes; what is not plain becomes an object.

In come records (:mod:`daskperiment.records`) and Python values of any type; out go the bodies that
a store's streams hold and the objects (:class:`Blob`) that it keeps under digests, and all the way
back. Only `load_object`, and `unpack` where it needs it, unpickle. Every room above may call it.
"""

from __future__ import annotations

from daskperiment.codec.bodies import (
    MARK,
    are_intact,
    blocked,
    decode,
    decode_each,
    decode_many,
    dump_record,
    encode,
    find_record,
    from_excerpt,
    is_of,
    is_sealed,
    load_record,
    parsed,
    placed,
    sealed,
)
from daskperiment.codec.class_values import NamedValue, named
from daskperiment.codec.descriptions import describe
from daskperiment.codec.fields import (
    check_kept,
    from_plain,
    is_long,
    is_object,
    named_parts,
    object_ref,
    pack,
    pickled,
    signing_key_in_force,
    to_plain,
    unkept,
    unpack,
)
from daskperiment.codec.kinds import NotPlainError
from daskperiment.codec.long_values import LongValues, spelled_out
from daskperiment.codec.number_points import (
    FLOAT_POINT,
    NumberPoints,
    numbers_body,
)
from daskperiment.codec.object_format import (
    Blob,
    ObjectFile,
    check_object,
    dump_object,
    load_object,
    seal,
)
from daskperiment.codec.point_runs import MANY, PointRecord, PointRun, points_body, runs_within
from daskperiment.codec.renumbering import Renumbering, with_trial
from daskperiment.codec.signed_records import (
    check_signature,
    content_hash,
    has_piece_signature,
    has_signature,
    signed,
    signed_piece,
)

__all__ = [
    "FLOAT_POINT",
    "MANY",
    "MARK",
    "Blob",
    "LongValues",
    "NamedValue",
    "NotPlainError",
    "NumberPoints",
    "ObjectFile",
    "PointRecord",
    "PointRun",
    "Renumbering",
    "are_intact",
    "blocked",
    "check_kept",
    "check_object",
    "check_signature",
    "content_hash",
    "decode",
    "decode_each",
    "decode_many",
    "describe",
    "dump_object",
    "dump_record",
    "encode",
    "find_record",
    "from_excerpt",
    "from_plain",
    "named",
    "named_parts",
    "has_piece_signature",
    "has_signature",
    "is_object",
    "is_of",
    "is_sealed",
    "is_long",
    "load_object",
    "load_record",
    "numbers_body",
    "object_ref",
    "pack",
    "parsed",
    "pickled",
    "placed",
    "points_body",
    "runs_within",
    "seal",
    "sealed",
    "signed",
    "signed_piece",
    "signing_key_in_force",
    "spelled_out",
    "to_plain",
    "unkept",
    "unpack",
    "with_trial",
]
