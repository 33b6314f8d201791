"""The page that README.rst leads to: curve, matrix and note of the best of ten trials."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from daskperiment import dashboard
from tests.test_documents import README, commands, script_of_the_readme


def test_the_readme_leads_to_a_page(visit: Any, tmp_path: Path) -> None:
    """Its script and commands, in an empty folder, fill the page as they say."""
    (tmp_path / "moons.py").write_text(script_of_the_readme(), encoding="utf-8")
    mine = [words for words in commands(README) if "moons" in shlex.join(words)]
    kept = {name: text for name, text in os.environ.items() if "DASKPERIMENT" not in name}
    for words in mine:
        if words[1] != "board":
            command = [sys.executable, "-m", *words]
            subprocess.run(command, cwd=tmp_path, env=kept, check=True, capture_output=True)
    with dashboard.start(tmp_path / "daskperiment_cache", port=0, experiment="moons") as server:
        site = visit(server)
        page = site.open("?experiment=moons&sort=-Result", "tbody tr")
        assert page.locator("tbody tr").count() == 10
        best = page.locator("tbody tr").first.get_attribute("data-trial")
        site.open(f"?experiment=moons&tab=trial&trial={best}", ".curves .plot canvas")
        site.drawn(1)
        assert site.texts(".curves h2") == ["Curves", "loss"]
        assert "Bends where the moons meet" in page.locator("main").text_content()
        matrix = page.locator("figure.artifact:has-text('confusion matrix')")
        assert [text.strip() for text in matrix.locator("th").all_text_contents()] == [
            "moon", "False", "True",
        ]  # fmt: skip
        assert matrix.locator("tbody tr").count() == 3
        site.picture("readme")
