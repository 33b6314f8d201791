"""docs/glossary.rst has a sentence for each noun of the package, and none that means nothing."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "daskperiment"
GLOSSARY = (ROOT / "docs" / "glossary.rst").read_text(encoding="utf-8")
# Names of the past, and riddles: whoever needs such a thing takes the word that the glossary has.
GONE = {
    "arrangement", "attendant", "beacon", "desk", "flight", "formula", "laboratory", "lead",
    "order", "pulse", "recipe", "slim", "spool", "surroundings", "telling", "weaving", "wish",
    "workshop",
}  # fmt: skip


def classes() -> dict[str, set[str]]:
    """The classes of each room, without leading underscores."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[room].add(node.name.lstrip("_"))
    return dict(found)


def sections() -> dict[str, str]:
    """The sections of the page by title."""
    parts = re.split(r"^(\w+)\n-{3,}\n", GLOSSARY, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def words() -> dict[str, str]:
    """The words that everybody needs, each with its sentence."""
    found = re.findall(r"^    (\S.*)\n((?:        .+\n)+)", sections()["Words"], re.MULTILINE)
    return {word: " ".join(text.split()) for word, text in found}


def listed(room: str) -> dict[str, str]:
    """The classes that the page lists for a room, each with its sentence."""
    found = re.findall(r"^``(\w+)``\n((?:    .+\n)+)", sections()[room], re.MULTILINE)
    assert len(found) == len(dict(found)) == sections()[room].count("\n``"), room
    return {name: " ".join(text.split()) for name, text in found}


def test_the_glossary_has_every_class() -> None:
    """Each class stands under its room, and nothing stands there that is no class."""
    assert set(sections()) - {"Words"} == set(classes())
    assert sum(map(len, classes().values())) > 250
    for room, names in classes().items():
        assert set(listed(room)) == names, room


def test_each_entry_is_one_sentence() -> None:
    """A sentence begins in capitals, ends with a stop and has none before."""
    entries = {**words(), **{n: s for room in classes() for n, s in listed(room).items()}}
    assert len(entries) > 280
    for name, sentence in entries.items():
        assert re.fullmatch(r"[A-Z].*[^.]\.", sentence), name
        assert not re.search(r"[.!?] [A-Z]", sentence), name
        assert len(sentence) < 160, name


@pytest.mark.parametrize("word", words())
def test_words_are_used(word: str) -> None:
    """A word of the first part stands in the pages and in the package, and so is no invention."""
    pattern = re.compile(re.sub(" ", r"\\s+", word).removesuffix("s"), re.IGNORECASE)
    pages = [path for path in (ROOT / "docs").glob("*.rst") if path.name != "glossary.rst"]
    assert any(pattern.search(path.read_text(encoding="utf-8")) for path in pages)
    name = re.compile("_?".join(word.removesuffix("s").split()), re.IGNORECASE)
    assert any(name.search(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py"))


def test_words_of_the_past_name_nothing() -> None:
    """No class and no module is called by a word that is gone."""
    names = [name for found in classes().values() for name in found]
    parts = {part.lower() for name in names for part in re.findall(r"[A-Z][a-z]+", name)}
    for path in PACKAGE.rglob("*.py"):
        parts |= {part for place in path.relative_to(PACKAGE).parts
                  for part in place.removesuffix(".py").split("_")}  # fmt: skip
    assert {"trial", "planner", "entries"} <= parts
    assert not GONE & {form for part in parts for form in (part, part.removesuffix("s"))}
