"""Arguments that changed or are ignored, told of trials that a cluster computed."""

from __future__ import annotations

import pytest

from tests.helpers.arguments import CHANGES, check_changes


@pytest.mark.usefixtures("client")
def test_changed_and_ignored_arguments(ex):
    """Explain and compare name the argument that changed, as where trials run here."""
    trials = check_changes(ex)
    assert trials.keys() == CHANGES.keys()
