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
import types
import uuid
from typing import Any

from daskperiment.capture.fingerprint.encoder import Encoder, Handler, encode_double

__all__ = ["EXACT", "FAMILIES"]


def encode_none(encoder: Encoder, value: None) -> None:
    encoder.out += b"N"


def encode_bool(encoder: Encoder, value: bool) -> None:
    encoder.out += b"T" if value else b"F"


def encode_int(encoder: Encoder, value: int) -> None:
    encoder.out += b"i%x;" % value  # hexadecimal: no limit to the number of digits


def encode_float(encoder: Encoder, value: float) -> None:
    encoder.out += b"f"
    encoder.out += encode_double(value)


def encode_complex(encoder: Encoder, value: complex) -> None:
    encoder.out += b"c" + encode_double(value.real) + encode_double(value.imag)


def encode_text(encoder: Encoder, value: str) -> None:
    # Surrogates, as in file names that are no text, count too.
    encoder.out += b"s"
    encoder.text(value)


def encode_bytes(encoder: Encoder, value: Any) -> None:
    encoder.tag(type(value).__name__.encode())
    encoder.raw(value)


def encode_memoryview(encoder: Encoder, value: memoryview) -> None:
    encoder.tag(b"memoryview", value.ndim)
    encoder.text(f"{value.format} {value.shape}")
    encoder.raw(value if value.c_contiguous else value.tobytes())


def encode_array(encoder: Encoder, value: array.array[Any]) -> None:
    encoder.tag(b"array")
    encoder.text(value.typecode)
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


def encode_ordered(encoder: Encoder, value: collections.OrderedDict[Any, Any]) -> None:
    encoder.tag(b"ordered")
    encoder.feed(list(value.items()))


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


def encode_range(encoder: Encoder, value: Any) -> None:
    encoder.sequence(type(value).__name__.encode(), (value.start, value.stop, value.step), 3)


def encode_repr(encoder: Encoder, value: Any) -> None:
    # For types whose own text describes them in full.
    encoder.tag(type(value).__qualname__.encode())
    encoder.text(repr(value))


def encode_fraction(encoder: Encoder, value: fractions.Fraction) -> None:
    encoder.sequence(b"fraction", (value.numerator, value.denominator), 2)


def encode_time(encoder: Encoder, value: Any) -> None:
    zone = value.tzinfo
    name = getattr(zone, "key", None) or getattr(zone, "zone", None) or repr(zone)
    encoder.tag(type(value).__qualname__.encode(), value.fold)
    encoder.text(value.isoformat())
    encoder.text(str(name))


def encode_path(encoder: Encoder, value: pathlib.PurePath) -> None:
    encoder.tag(b"path")
    encoder.text(str(value))


def encode_pattern(encoder: Encoder, value: re.Pattern[Any]) -> None:
    encoder.sequence(b"pattern", (value.pattern, value.flags), 2)


def encode_random(encoder: Encoder, value: random.Random) -> None:
    encoder.tag(b"random")
    encoder.feed(value.getstate())


def encode_namespace(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"namespace")
    encoder.text(type(value).__name__)
    with encoder.within(value) as entered:
        if entered:
            encoder.mapping(vars(value))


def encode_exception(encoder: Encoder, value: BaseException) -> None:
    encoder.tag(b"exception")
    encoder.feed(type(value))
    encoder.feed(value.args)
    encoder.feed(vars(value))


def encode_logger(encoder: Encoder, value: Any) -> None:
    # What is logged is no part of a step's output.
    encoder.tag(b"logger")
    encoder.text(value.name)


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
    **dict.fromkeys((range, slice), encode_range),
    **dict.fromkeys((type(...), type(NotImplemented)), encode_repr),
    collections.deque: encode_deque,
    collections.Counter: encode_counter,
    collections.OrderedDict: encode_ordered,
    collections.defaultdict: encode_defaultdict,
    types.MappingProxyType: encode_mappingproxy,
    **dict.fromkeys((types.SimpleNamespace, argparse.Namespace), encode_namespace),
    **dict.fromkeys((datetime.datetime, datetime.time), encode_time),
    **dict.fromkeys((datetime.date, datetime.timedelta, datetime.timezone), encode_repr),
    **dict.fromkeys((decimal.Decimal, uuid.UUID), encode_repr),
    fractions.Fraction: encode_fraction,
    random.Random: encode_random,
}

FAMILIES: tuple[tuple[type, Handler], ...] = (
    (pathlib.PurePath, encode_path),
    (re.Pattern, encode_pattern),
    (BaseException, encode_exception),
    (logging.Logger, encode_logger),
    (logging.LoggerAdapter, encode_logger),
)
