"""The parts of ``python -m benchmarks``: each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from benchmarks import __main__ as program
from benchmarks.apart import PartError, figures_of

ROOT = Path(__file__).resolve().parents[1]
HEAD = """
import os, subprocess, sys, time
from pathlib import Path
import pytest
from benchmarks.timing import Figure

def run(folder):
    yield Figure("first", os.getpid(), 2.0, "ms", 1.0)
"""
PARTS = {
    "good": 'yield Figure("second", os.getpid(), 0, "ms", note=str(folder))',
    "failing": 'raise ValueError("what went wrong")',
    "skipped": 'pytest.skip("what went wrong")',
    "leaving": 'raise SystemExit("what went wrong")',
    "killed": "os.kill(os.getpid(), 9)",
    "gone": """
        child = os.fork()  # which holds the pipe open
        if child == 0:
            time.sleep(600)
        (Path(__file__).parent / "child").write_text(str(child))
        os.kill(os.getpid(), 9)
    """,
    "endless": """
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as server:
            try:
                told = Path(__file__).parent / "server"
                told.with_suffix(".part").write_text(str(server.pid))
                told.with_suffix(".part").rename(told)
                time.sleep(600)
            finally:
                server.kill()
    """,
}
MAIN = """
import os, types
from benchmarks import __main__ as program, apart

def tell(process, number):
    apart.PATIENCE = 100
    os.kill(process, number)

# A part that was not told yet goes on for ever; one that was has all the time that it needs.
apart.PATIENCE, apart.os = {patience}, types.SimpleNamespace(kill=tell)
program.PARTS = {{"endless": "part_endless", "good": "part_good"}}
program.main()
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put parts where processes that are started find them."""
    for name, body in PARTS.items():
        text = HEAD + textwrap.indent(textwrap.dedent(body), "    ")
        (tmp_path / f"part_{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(program, "PARTS", {name: f"part_{name}" for name in PARTS})
    return tmp_path


def test_each_part_has_a_process_and_a_folder(parts, monkeypatch, capfd):
    """Each is measured in a process of its own, and what it leaves in its folder is removed."""
    written = parts / "deep" / "figures.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "good", "good", "--json", str(written)])
    program.main()
    figures = json.loads(written.read_text(encoding="utf-8"))["figures"]
    assert [figure["name"] for figure in figures] == ["first", "second"] * 2
    numbers = [figure["ours"] for figure in figures]
    assert numbers[0] == numbers[1] != numbers[2] == numbers[3]
    assert os.getpid() not in numbers
    folders = {figure["note"] for figure in figures[1::2]}
    assert len(folders) == 2
    assert not any(map(os.path.exists, folders))
    out = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in out] == ["what", "first", "second", "first", "second"]
    assert out[1].split() == ["first", f"{numbers[0]:.3f}", "2.000", "ms",
                              f"{numbers[0] / 2:.2f}", "≤", "1", "MISSED"]  # fmt: skip


@pytest.mark.parametrize("name", ["failing", "skipped", "leaving", "killed"])
def test_others_run_where_one_fails(parts, monkeypatch, capfd, name):
    """What a part measured before it failed is told, then why; the status says it at the end."""
    written = parts / "figures.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", name, "good", "--json", str(written)])
    with pytest.raises(SystemExit) as exited:
        program.main()
    assert f"part_{name}" in str(exited.value)
    assert "part_good" not in str(exited.value)
    figures = json.loads(written.read_text(encoding="utf-8"))["figures"]
    assert [figure["name"] for figure in figures] == ["first", "first", "second"]
    told = capfd.readouterr().err
    assert name == "killed" or "what went wrong" in told
    assert name != "failing" or f'part_{name}.py", line' in told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_what_a_part_leaves_running_holds_nothing_up(parts):
    """A part is over with its process, whoever holds the other end of its pipe."""
    try:
        with closing(figures_of("part_gone", parts)) as figures:
            assert next(figures).name == "first"
            with pytest.raises(PartError):
                next(figures)
        assert psutil.pid_exists(int((parts / "child").read_text()))
    finally:
        os.kill(int((parts / "child").read_text()), signal.SIGTERM)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to a group")
@pytest.mark.parametrize("of_a_terminal", [True, False])
def test_ctrl_c(parts, of_a_terminal):
    """Ctrl-C ends all, and what the part had started, whether its process is told too or not."""
    path = os.pathsep.join([str(parts), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN.format(patience=100 if of_a_terminal else 0.5),
         "endless", "good", "--json", str(parts / "figures.json")],
        env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in ("heading", "first")]
    deadline = time.monotonic() + 60
    while not (parts / "server").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if of_a_terminal:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    with process.stdout:
        lines += process.stdout
    assert process.wait(120)
    assert "".join(lines).count("first") == 1
    assert not psutil.pid_exists(int((parts / "server").read_text()))
    assert not (parts / "figures.json").exists()
