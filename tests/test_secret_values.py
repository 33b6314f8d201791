"""Texts that quote a secret are recorded without it."""

from __future__ import annotations

import base64
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskperiment.secret_values import HIDDEN, Secret, concealed

TEXT = 'hunter2 "Zq9"\n/ü'


@dataclass
class Login:
    """A class with a password."""

    user: str
    password: str
    port: int = 5432


class Slotted:
    """A class that keeps its password in a slot."""

    __slots__ = ("password",)

    def __init__(self):
        self.password = TEXT


HOLDING = {
    "text": TEXT,
    "bytes": TEXT.encode(),
    "bytearray": bytearray(TEXT.encode()),
    "dict": {"password": TEXT},
    "list": [{"a": (TEXT,)}],
    "set": {TEXT},
    "dataclass": Login("me", TEXT),
    "slots": Slotted(),
    "secret": Secret(TEXT, b"key", ""),
}
SPELLED = {
    "plain": TEXT,
    "repr": repr(TEXT),
    "bytes": repr(TEXT.encode()),
    "json": json.dumps(TEXT),
    "quoted": quote(TEXT),
    "quoted wholly": quote(TEXT, safe=""),
    "form": quote_plus(TEXT),
    "base64": base64.b64encode(TEXT.encode()).decode(),
    "hex": TEXT.encode().hex(),
}


@pytest.mark.parametrize("spelled", SPELLED.values(), ids=SPELLED)
@pytest.mark.parametrize("value", HOLDING.values(), ids=HOLDING)
def test_a_text_loses_what_it_has_of_a_secret(value, spelled):
    """Wherever a secret has a text, and however another text quotes it, it is gone."""
    found = concealed(f"cannot use {spelled}: denied", [value])
    assert "hunter2" not in found
    assert spelled.strip("'\"b") not in found
    assert found.startswith("cannot use ")
    assert HIDDEN in found


@pytest.mark.parametrize(
    ("value", "text", "found"),
    [
        ("abc", "abc of abcd", f"{HIDDEN} of abcd"),
        (7, "7 of 17 at 7", f"{HIDDEN} of 17 at {HIDDEN}"),
        (123456, "code 123456.", f"code {HIDDEN}."),
        (None, "None of it", "None of it"),
        (True, "True", "True"),
        ("", "no text", "no text"),
        ("  ", "a  b", "a  b"),
        ("db://me:pa%20ss@host", "password 'pa ss' of me", f"password '{HIDDEN}' of me"),
        (Path("/keys/own"), "no file /keys/own here", f"no file {HIDDEN} here"),
        ({"host": "h", "password": "long-one"}, "the host h", f"the host {HIDDEN}"),
        ("a.c+e", "abcde a.c+e", f"abcde {HIDDEN}"),
    ],
)
def test_short_texts_count_as_words(value, text, found):
    """A short secret is left out where it stands alone, so that a text stays readable."""
    assert concealed(text, [value]) == found


def test_what_contains_itself_is_looked_through():
    """A secret that holds itself ends, as one that is very deep does."""
    value = ["hunter2"]
    value.append(value)
    assert concealed("x hunter2", [value]) == f"x {HIDDEN}"


@given(st.text(min_size=4).filter(str.strip), st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_left_out_of_any_other(secret, before, behind):
    """Whatever the secret is, no text that quoted it still has it, but by what hides it."""
    found = concealed(before + secret + behind, [secret])
    assert secret not in found.replace(HIDDEN, "\0\0") or secret in (before, behind)
    assert HIDDEN in found


def test_a_secret_shows_itself_nowhere():
    """Neither ``repr``, ``str``, ``format`` nor the attributes' listing has the value."""
    secret = Secret("hunter2", b"key", "mark")
    assert {repr(secret), str(secret), f"{secret}", repr([secret])[1:-1]} == {HIDDEN}
    assert pickle.loads(pickle.dumps(secret)).value == "hunter2"
