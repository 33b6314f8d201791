"""What the tests of reproduction share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reproduce.project import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Make modules that a test can edit."""
    project = Project(tmp_path, monkeypatch)
    yield project
    project.forget()
