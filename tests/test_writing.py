"""The store that docs/writing.rst shows keeps the contract, as far as that page says."""

from __future__ import annotations

import doctest
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from daskperiment.testing import StoreConformance

PAGE = Path(__file__).parents[1] / "docs" / "writing.rst"
NAME = "store_of_the_guide"


@pytest.fixture(scope="module")
def module() -> Any:
    """Give the module that a reader would make of the page's first examples."""
    examples = doctest.DocTestParser().get_examples(PAGE.read_text(encoding="utf-8"))
    module = ModuleType(NAME)
    for example in examples[:3]:
        exec(example.source, vars(module))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, NAME, module)
        yield module


class TestStoreOfTheGuide(StoreConformance):
    """The contract, but for what needs another process."""

    test_processes = test_survives_the_process = test_fork = None  # type: ignore[assignment]

    @pytest.fixture
    def make_store(self, module: Any) -> Callable[[str], Any]:
        """Make stores in an empty memory."""
        module.MemoryStore._kept.clear()
        return module.MemoryStore  # type: ignore[no-any-return]
