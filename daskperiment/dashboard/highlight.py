"""Python source as words with a kind, for colours; the page makes text nodes of them."""

from __future__ import annotations

import io
import keyword
import tokenize

__all__ = ["tokens"]

_KINDS = {tokenize.STRING: "string", tokenize.COMMENT: "comment", tokenize.NUMBER: "number"}
_STRINGS = {
    getattr(tokenize, name)
    for name in ("FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END")
    if hasattr(tokenize, name)
}


def tokens(source: str) -> list[list[list[str]]]:
    """Cut a source in lines of ``[text, kind]``; text that is no Python has no kinds.

    >>> tokens("return 1")
    [[['return', 'keyword'], [' ', ''], ['1', 'number']]]
    """
    lines = source.splitlines()
    marks: list[list[tuple[int, int, str]]] = [[] for _ in lines]
    try:
        _mark(source, marks)
    except (tokenize.TokenError, SyntaxError, ValueError):
        pass  # what was read up to there is coloured
    return [_pieces(line, found) for line, found in zip(lines, marks, strict=True)]


def _mark(source: str, marks: list[list[tuple[int, int, str]]]) -> None:
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = _kind(token, before)
        before = token.string
        (first, start), (last, end) = token.start, token.end
        for number in range(first, min(last, len(marks)) + 1) if kind else ():
            left = start if number == first else 0
            right = end if number == last else 10**9
            marks[number - 1].append((left, right, kind))


def _kind(token: tokenize.TokenInfo, before: str) -> str:
    if token.type == tokenize.NAME:
        if keyword.iskeyword(token.string):
            return "keyword"
        return "name" if before in ("def", "class") else ""
    if token.type in _STRINGS:
        return "string"
    if (
        token.type == tokenize.OP
        and token.string == "@"
        and not token.line[: token.start[1]].strip()
    ):
        return "keyword"
    return _KINDS.get(token.type, "")


def _pieces(line: str, marks: list[tuple[int, int, str]]) -> list[list[str]]:
    pieces, place = [], 0
    for start, end, kind in marks:
        if start > place:
            pieces.append([line[place:start], ""])
        if end > max(start, place):
            pieces.append([line[max(start, place) : end], kind])
            place = min(end, len(line))
    if place < len(line):
        pieces.append([line[place:], ""])
    return [piece for piece in pieces if piece[0]]
