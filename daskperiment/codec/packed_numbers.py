"""Numbers as digits in texts: about as short as bytes, and JSON that SQL can read, too.

A number has the same count of digits as its neighbours, the lowest first, and a text has up to 64
numbers. What they spell is a whole number above the least of all, or a float: its sign, its
exponent above the lowest of all, and as many bits of its mantissa as any of them uses. A random
float takes nine digits, one that comes from 32 bits five. All come back bit by bit, and nan and the
infinite ones as they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

__all__ = [
    "AT_ONCE",
    "DIGITS",
    "MOST_DIGITS",
    "PackedNumbers",
    "packed",
    "packed_runs",
    "unpacked",
]

DIGITS = bytes(each for each in range(35, 127) if each not in b"\\'").decode()
"""The digits 0 to 89: no quotes and nothing that JSON escapes."""
AT_ONCE = 64
"""Numbers of one text."""
MOST_DIGITS = 10
_BASE = len(DIGITS)
_IN_32 = 4
"""Digits of which 32 bits can hold any."""
_MANTISSA = 52
_SHIFTS = 60
"""Most between two exponents: a 64-bit integer holds two to this power."""
_LOWEST = -1022
"""Exponent of the smallest float that has all bits."""
_SPECIAL = 0x7FF
_NAN, _INF = 1, 2


class PackedNumbers(NamedTuple):
    """Numbers in texts, and what they are read by."""

    texts: list[str]
    digits: int
    """Of each number."""
    bits: int
    """Of a mantissa; -1 if all are whole numbers."""
    base: int | float
    """The least of whole numbers, or the last bit of the lowest exponent."""


def packed(values: Any) -> PackedNumbers | None:
    """Return numbers of a list, or of an array of 64-bit integers or floats, in texts.

    None if they are not all floats, or all whole, or too far apart.
    """
    import numpy as np  # noqa: PLC0415  # most commands do without

    array = values if isinstance(values, np.ndarray) else None
    kinds = set(map(type, values)) if array is None else {int if array.dtype.kind == "i" else float}
    if kinds == {int}:
        least, most = (min(values), max(values)) if array is None else (
            int(array.min()), int(array.max())
        )  # fmt: skip
        if most - least >= 1 << 62 or not -(1 << 63) <= least <= most < 1 << 63:
            return None
        base: int | float = least
        codes, bits = np.array(values, "int64") - least, -1
    elif kinds == {float}:
        found = _codes_of_floats(np.array(values, "float64"))
        if found is None:
            return None
        codes, bits, base = found
    else:
        return None
    highest, digits = int(codes.max()), 1
    while _BASE**digits <= highest:
        digits += 1
    text = _spelled(codes, digits).tobytes().decode()
    return PackedNumbers(_texts(text, digits), digits, bits, base)


def packed_runs(values: Any, starts: list[int]) -> list[PackedNumbers | None]:
    """Return the numbers of an array of finite floats as `packed`, those from each place apart.

    Of many short runs that takes much less than to pack one after the other. None stands for runs
    that are to be packed by themselves.
    """
    import numpy as np  # noqa: PLC0415  # as above

    raw = values.view("int64")
    exponents, mantissas = raw >> _MANTISSA & 0x7FF, raw & ((1 << _MANTISSA) - 1)
    usual = values != 0
    lowest = np.minimum.reduceat(np.where(usual, exponents, _SPECIAL), starts)
    highest = np.maximum.reduceat(np.where(usual, exponents, -1), starts)
    every = np.bitwise_or.reduceat(np.where(usual, mantissas, 0), starts)
    last_bits = np.where(every == 0, 1 << _MANTISSA, every & -every)
    bits = _MANTISSA - np.log2(last_bits.astype("float64")).astype("int64")
    fits = (highest > 0) & (lowest > 0) & (highest - lowest <= _SHIFTS)
    fits &= lowest - 1023 - bits >= _LOWEST
    # Where it does not fit, what comes out is not looked at.
    sizes = np.diff([*starts, len(values)])
    kinds = np.where(usual, exponents - np.repeat(lowest, sizes) + 1, 0) * 2 + (raw < 0)
    shifts = np.repeat(bits, sizes)
    codes = kinds << shifts | np.where(usual, mantissas >> (_MANTISSA - shifts), 0)
    most = np.maximum.reduceat(codes, starts)
    digits = np.searchsorted(_powers(), most, side="right") + 1
    codes[np.repeat(~fits, sizes)] = 0
    spelled = _spelled(codes, int(digits.max()))
    found: list[PackedNumbers | None] = []
    columns = zip(fits.tolist(), digits.tolist(), bits.tolist(), lowest.tolist(), strict=True)
    ends = [*starts[1:], len(values)]
    for (whole, count, bit, low), start, end in zip(columns, starts, ends, strict=True):
        if not whole:
            found.append(None)
            continue
        texts = _texts(spelled[start:end, :count].tobytes().decode(), count)
        found.append(PackedNumbers(texts, count, bit, 2.0 ** (low - 1023 - bit)))
    return found


@cache
def _powers() -> Any:
    import numpy as np  # noqa: PLC0415  # as above

    return np.array([_BASE**power for power in range(1, MOST_DIGITS)], "int64")


def _texts(text: str, digits: int) -> list[str]:
    size = digits * AT_ONCE
    return [text[start : start + size] for start in range(0, len(text), size)]


def _spelled(codes: Any, digits: int) -> Any:
    """Return the digits of numbers, a row for each, as letters."""
    import numpy as np  # noqa: PLC0415  # as above

    spelled = np.empty((digits, len(codes)), "uint8")
    for start in range(0, digits, _IN_32):
        # Short integers are divided several at once.
        above = codes // _BASE**_IN_32
        part = (codes - above * _BASE**_IN_32).astype("uint32")
        for place in range(start, min(start + _IN_32, digits)):
            tens = part // np.uint32(_BASE)
            spelled[place] = part - tens * np.uint32(_BASE)
            part = tens
        codes = above
    return np.frombuffer(DIGITS.encode(), "uint8")[spelled.T]


def unpacked(numbers: PackedNumbers) -> list[int | float]:
    """Return the numbers of texts.

    Digits that are none count as 0: who made such texts gets some numbers.
    """
    import numpy as np  # noqa: PLC0415  # as above

    texts, digits, bits, base = numbers
    spelled = _meanings()[np.frombuffer("".join(texts).encode(), "uint8")].reshape(-1, digits)
    codes = np.zeros(len(spelled), "int64")
    for place in reversed(range(digits)):
        codes *= _BASE
        codes += spelled[:, place]
    if bits < 0:
        whole = codes + base if -(1 << 62) < base < 1 << 62 else codes.astype(object) + base
        return list(whole.tolist())
    kinds, mantissas = codes >> bits, codes & ((1 << bits) - 1)
    with np.errstate(all="ignore"):
        floats = np.ldexp((mantissas + (1 << bits)).astype("float64"), (kinds >> 1) - 1) * base
        floats[kinds < 2] = 0.0
        floats[(kinds < 2) & (mantissas == _NAN)] = np.nan
        floats[(kinds < 2) & (mantissas == _INF)] = np.inf
        floats[kinds & 1 == 1] *= -1.0
    return list(floats.tolist())


def _codes_of_floats(floats: Any) -> tuple[Any, int, float] | None:
    """Return floats as whole numbers, the bits of their mantissas, and the last bit of the lowest.

    Above the bits stands twice the exponent, counted from 1 for the lowest, and the sign. The
    exponent is 0 for a zero, and for what is not finite, as the bits say then.
    """
    import numpy as np  # noqa: PLC0415  # as above

    raw = floats.view("int64")
    exponents = raw >> _MANTISSA & 0x7FF
    mantissas = raw & ((1 << _MANTISSA) - 1)
    special = exponents == _SPECIAL
    usual = (floats != 0) & ~special
    if usual.any():
        lowest, highest = int(exponents[usual].min()), int(exponents[usual].max())
    elif special.any():
        lowest = highest = 1023
    else:
        return None  # zeros alone are short as they are
    every = int(np.bitwise_or.reduce(mantissas[usual]))
    spare = (every & -every).bit_length() - 1 if every else _MANTISSA
    bits = max(_MANTISSA - spare, 2 if special.any() else 0)
    # Those with the exponent 0 have fewer bits than others: they are below the lowest.
    if highest - lowest > _SHIFTS or lowest - 1023 - bits < _LOWEST:
        return None
    nan = np.isnan(floats)
    kinds = np.where(usual, exponents - lowest + 1, 0) * 2 + ((raw < 0) & ~nan)
    marks = np.where(nan, _NAN, np.where(special, _INF, 0))
    codes = kinds << bits | np.where(usual, mantissas >> (_MANTISSA - bits), marks)
    return codes, bits, 2.0 ** (lowest - 1023 - bits)


@cache
def _meanings() -> Any:
    import numpy as np  # noqa: PLC0415  # as above

    found = np.zeros(256, "uint8")
    found[np.frombuffer(DIGITS.encode(), "uint8")] = range(_BASE)
    return found
