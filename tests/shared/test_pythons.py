"""Other versions of Python and of Dask that use the store of this one at the same time.

They are those of the other environments of tox, or those that the environment variable
``DASKPERIMENT_TEST_PYTHONS`` names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared.conftest import KINDS

PROGRAM = """
import json, sys, daskperiment
from pathlib import Path

backend, what, *values = sys.argv[1:]
ex = daskperiment.Experiment("pythons", backend=backend if "://" in backend else Path(backend))

@ex.persist(reuse=True)
def prepare(a):
    return {"half": a / 2, "pair": (a, str(a))}

@ex.result
def score(prepared, a):
    for epoch in range(3):
        ex.save_metric("loss", epoch, a + ex.rng.random())
    return prepared["pair"], a * 10

a = ex.parameter("a")
result = score(prepare(a), a)
if what == "trials":
    for value in values:
        made = result.bind(a=int(value)).compute(scheduler="synchronous", seed=int(value))
        assert made == ((int(value), value), 10 * int(value)), made
else:
    history = ex.get_history(verbose=True)
    told = {
        "trials": history.index.tolist(),
        "a": [int(one) for one in history["a"]],
        "results": [repr(one) for one in history["Result"]],
        "statuses": history["Status"].tolist(),
        "points": ex.load_metric("loss", history.index.tolist()).T.to_numpy().tolist(),
        "steps": sorted(map(str, ex.get_steps()["Step"])),
        "kept": [repr(ex.get_persisted("prepare", trial)) for trial in history.index],
        "compared": str(ex.compare(*history.index[history["a"] == 7])),
    }
    print(json.dumps(told))
"""


def others() -> list[str]:
    """Return the interpreters of other environments."""
    named = os.environ.get("DASKPERIMENT_TEST_PYTHONS", "")
    beside = (
        Path(sys.prefix).parent / name / "bin" / "python" for name in ("py313", "py312", "lowest")
    )
    listed = [*filter(None, named.split(os.pathsep)), *(str(path) for path in beside)]
    mine = Path(sys.prefix).resolve()
    return [
        one for one in listed if Path(one).exists() and mine not in Path(one).absolute().parents
    ]


def versions(python: str) -> str:
    """Return which Python and which Dask an interpreter has; empty if it is not set up for us."""
    code = (
        "import sys, dask, pandas, redis, pymongo; print(*sys.version_info[:2], dask.__version__)"
    )
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return found.stdout.strip()


@pytest.fixture(scope="module")
def usable() -> list[str]:
    """List interpreters of other versions of Python or Dask; the test is skipped without any."""
    own = versions(sys.executable)
    found = [python for python in others() if versions(python) not in ("", own)]
    if not found:
        pytest.skip("there is no environment with another version: run tox, or name one")
    return found


@pytest.mark.parametrize("number", range(3))
def test_versions_share_a_store(number, usable, make_place, journal_root, tmp_path):
    """Trials of two versions, one after the other and at once: all there, the same for both."""
    program, other = tmp_path / "program.py", usable[number % len(usable)]
    program.write_text(PROGRAM)
    backend = str(make_place(KINDS[number]).backend)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}

    def start(python, *arguments):
        order = [python, str(program), backend, *map(str, arguments)]
        return subprocess.Popen(order, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def end(process):
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
        return out.decode()

    end(start(other, "trials", 7))
    at_once = [start(sys.executable, "trials", 7, 1, 2, 3), start(other, "trials", 4, 5, 6)]
    for process in at_once:
        end(process)
    mine, theirs = (
        json.loads(end(one)) for one in [start(sys.executable, "ask"), start(other, "ask")]
    )
    assert mine["trials"] == list(range(1, 9))
    assert set(mine["statuses"]) == {"succeeded"}
    assert sorted(mine["a"]) == [1, 2, 3, 4, 5, 6, 7, 7]
    # The same seed draws the same in each of them.
    points = [point for a, point in zip(mine["a"], mine["points"], strict=True) if a == 7]
    assert points[0] == points[1]
    for one in (mine, theirs):
        compared = one.pop("compared")
        assert "python" in compared.lower() or "dask" in compared, compared
    assert mine == theirs
