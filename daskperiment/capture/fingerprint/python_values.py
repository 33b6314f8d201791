"""Encodings of Python's own types.

A subclass may carry more than the type that it extends: the handlers of `EXACT` are for exactly
these types, those of `FAMILIES` for subclasses, too.
"""

from __future__ import annotations

import argparse
import array
import collections
import datetime
import decimal
import fractions
import logging
import pathlib
import random
import re
import struct
import types
import uuid
from typing import Any

from daskperiment.capture.encoding import Encoder, Handler, by_attributes, by_parts, by_text

__all__ = ["EXACT", "FAMILIES", "encode_repr"]

_DOUBLE = struct.Struct("<d")


def encode_none(encoder: Encoder, value: None) -> None:
    encoder.out += b"N"


def encode_bool(encoder: Encoder, value: bool) -> None:
    encoder.out += b"T" if value else b"F"


def encode_int(encoder: Encoder, value: int) -> None:
    encoder.out += b"i%x;" % value  # hexadecimal: no limit to the number of digits


def encode_float(encoder: Encoder, value: float) -> None:
    encoder.out += b"f"
    encoder.out += _double(value)


def encode_complex(encoder: Encoder, value: complex) -> None:
    encoder.out += b"c" + _double(value.real) + _double(value.imag)


def _double(value: float) -> bytes:
    # Every nan is the same one.
    return _DOUBLE.pack(value if value == value else float("nan"))


def encode_text(encoder: Encoder, value: str) -> None:
    # Surrogates, as in file names that are no text, count too.
    encoder.out += b"s"
    encoder.text(value)


def encode_bytes(encoder: Encoder, value: Any) -> None:
    encoder.tag(type(value).__name__.encode())
    encoder.raw(value)


def encode_memoryview(encoder: Encoder, value: memoryview) -> None:
    encoder.tag_text(b"memoryview", f"{value.format} {value.shape}", value.ndim)
    encoder.raw(value if value.c_contiguous else value.tobytes())


def encode_array(encoder: Encoder, value: array.array[Any]) -> None:
    encoder.tag_text(b"array", value.typecode)
    encoder.raw(memoryview(value))


def encode_list(encoder: Encoder, value: list[Any]) -> None:
    if encoder.enter(value):
        encoder.sequence(b"l", value, len(value))
        encoder.leave(value)


def encode_tuple(encoder: Encoder, value: tuple[Any, ...]) -> None:
    if encoder.enter(value):
        encoder.sequence(b"t", value, len(value))
        encoder.leave(value)


def encode_deque(encoder: Encoder, value: collections.deque[Any]) -> None:
    with encoder.within(value) as entered:
        if entered:
            encoder.sequence(b"deque", value, len(value))
            encoder.feed(value.maxlen)


def encode_dict(encoder: Encoder, value: dict[Any, Any]) -> None:
    if encoder.enter(value):
        encoder.mapping(value)
        encoder.leave(value)


def encode_counter(encoder: Encoder, value: collections.Counter[Any]) -> None:
    encoder.tag(b"counter")
    encode_dict(encoder, value)


def encode_defaultdict(encoder: Encoder, value: collections.defaultdict[Any, Any]) -> None:
    encoder.tag(b"defaultdict")
    encoder.feed(value.default_factory)
    encode_dict(encoder, value)


def encode_mappingproxy(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"mappingproxy")
    with encoder.within(value) as entered:
        if entered:
            encoder.mapping(dict(value))


def encode_set(encoder: Encoder, value: Any) -> None:
    encoder.tag(type(value).__name__.encode(), len(value))
    with encoder.within(value) as entered:
        if entered:
            # The order of a set differs between processes.
            for item in sorted(encoder.encode_separately(item) for item in value):
                encoder.out += item


def encode_repr(encoder: Encoder, value: Any) -> None:
    """Write a value whose own text describes it in full."""
    encoder.tag_text(type(value).__name__.encode(), repr(value))


def encode_time(encoder: Encoder, value: Any) -> None:
    zone = value.tzinfo
    name = getattr(zone, "key", None) or getattr(zone, "zone", None) or repr(zone)
    encoder.tag_text(type(value).__qualname__.encode(), value.isoformat(), value.fold)
    encoder.text(str(name))


def encode_path(encoder: Encoder, value: pathlib.PurePath) -> None:
    encoder.tag_text(b"path", encoder.path(value))


def encode_namespace(encoder: Encoder, value: Any) -> None:
    encoder.tag_text(b"namespace", type(value).__name__)
    with encoder.within(value) as entered:
        if entered:
            encoder.mapping(vars(value))


EXACT: dict[type, Handler] = {
    type(None): encode_none,
    bool: encode_bool,
    int: encode_int,
    float: encode_float,
    complex: encode_complex,
    str: encode_text,
    **dict.fromkeys((bytes, bytearray), encode_bytes),
    memoryview: encode_memoryview,
    array.array: encode_array,
    list: encode_list,
    tuple: encode_tuple,
    dict: encode_dict,
    **dict.fromkeys((set, frozenset), encode_set),
    range: by_attributes(b"range", "start", "stop", "step"),
    slice: by_attributes(b"slice", "start", "stop", "step"),
    **dict.fromkeys((type(...), type(NotImplemented)), encode_repr),
    collections.deque: encode_deque,
    collections.Counter: encode_counter,
    collections.OrderedDict: by_parts(b"ordered", lambda value: [list(value.items())]),
    collections.defaultdict: encode_defaultdict,
    types.MappingProxyType: encode_mappingproxy,
    **dict.fromkeys((types.SimpleNamespace, argparse.Namespace), encode_namespace),
    **dict.fromkeys((datetime.datetime, datetime.time), encode_time),
    **dict.fromkeys((datetime.date, datetime.timedelta, datetime.timezone), encode_repr),
    **dict.fromkeys((decimal.Decimal, uuid.UUID), encode_repr),
    fractions.Fraction: by_attributes(b"fraction", "numerator", "denominator"),
    random.Random: by_parts(b"random", lambda value: [value.getstate()]),
}

FAMILIES: tuple[tuple[type, Handler], ...] = (
    (pathlib.PurePath, encode_path),
    (re.Pattern, by_attributes(b"pattern", "pattern", "flags")),
    (BaseException, by_parts(b"exception", lambda value: [type(value), value.args, vars(value)])),
    # What is logged is no part of a step's output.
    (logging.Logger, by_text(b"logger", lambda value: value.name)),
    (logging.LoggerAdapter, by_text(b"logger", lambda value: value.name)),
)
