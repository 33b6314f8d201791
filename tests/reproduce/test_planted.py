"""Recorded code that somebody altered: none of it runs."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from daskperiment.capture.code import CodeCapture
from daskperiment.errors import ReproductionError
from daskperiment.records import Code
from daskperiment.reproduce.rebuild import rebuild

HELPER = "def helper(n):\n    return n\n\n\n"
THEN = HELPER + "def prep(n):\n    return [helper(n)] * 3\n"
TODAY = HELPER + "def prep(n):\n    return [helper(n) + 0] * 3\n"
PLANT = "open({mark!r}, 'a').write('planted')"
PLANTS = {
    "body": "def prep(n):\n    {plant}\n    return [helper(n)] * 3\n",
    "default": "def prep(n, _={plant}):\n    return [helper(n)] * 3\n",
    "annotation": "def prep(n: {plant}):\n    return [helper(n)] * 3\n",
    "decorator": "@(lambda f: {plant} and f)\ndef prep(n):\n    return [helper(n)] * 3\n",
    "attribute": "@helper.__class__({plant})\ndef prep(n):\n    return [helper(n)] * 3\n",
    "class": "class prep:\n    {plant}\n",
    "lambda": "lambda n, _={plant}: [helper(n)] * 3\n",
    "beside": "def prep(n):\n    return [helper(n)] * 3\n{plant}\n",
}
_numbers = itertools.count()


def step(folder: Path, source: str) -> Callable[..., Any]:
    """Return the function ``prep`` of a module of this source."""
    name = f"planted_{next(_numbers)}"
    (folder / f"{name}.py").write_text(source)
    spec = importlib.util.spec_from_file_location("planted", folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., Any] = module.prep
    return function


def planted(code: Code, name: str, source: str) -> Code:
    """Return recorded code with another source of the function whose name ends so."""
    functions = {
        key: replace(function, source=source) if function.name.endswith(name) else function
        for key, function in code.functions.items()
    }
    return replace(code, functions=functions)


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", ["prep", "helper"])
def test_altered_source_does_not_run(tmp_path: Path, plant: str, name: str) -> None:
    """A source that does not fit its fingerprint is refused before it, or any other, is run."""
    recorded = CodeCapture().capture({"prep": step(tmp_path, THEN)})
    today = step(tmp_path, TODAY)
    now = CodeCapture().capture({"prep": today})
    mark = tmp_path / "mark"
    source = PLANTS[plant].format(plant=PLANT.format(mark=str(mark))).replace("prep", name)
    with pytest.raises(ReproductionError, match=f"{name} is not the one.*Nothing was run"):
        rebuild(1, planted(recorded, name, source), now, {"prep": today})
    assert not mark.exists()


def test_what_was_recorded_is_built(tmp_path: Path) -> None:
    """The source as it was recorded fits its fingerprint, and runs."""
    recorded = CodeCapture().capture({"prep": step(tmp_path, THEN)})
    today = step(tmp_path, TODAY)
    now = CodeCapture().capture({"prep": today})
    built = rebuild(1, recorded, now, {"prep": today}).functions["prep"]
    assert built(2) == [2, 2, 2]
