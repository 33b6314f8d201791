"""``daskperiment run``, and scripts that are their own command line."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import daskperiment
from daskperiment.cli.computation import main_for
from daskperiment.cli.script import loaded
from tests.cli.conftest import SCRIPT, Command, as_new_process, one_line, process


def history(folder: Path, id: str = "pairs"):
    """Read the history as a later process would."""
    as_new_process()
    return daskperiment.Experiment(id, backend=folder / "daskperiment_cache").get_history(True)


def test_run_computes_one_trial_with_the_given_values(
    run: Command, script: Path, folder: Path
) -> None:
    """Literals are values, the rest is text; the summary tells trial, result and time."""
    answer = run("run", script, "a=1", "b=2.5", "name=some text", "--seed", "7")
    assert answer.status == 0, answer
    told = dict(line.split(maxsplit=1) for line in answer.out.splitlines())
    assert told.pop("time").endswith(" s")
    assert told == {"experiment": "pairs", "trial": "1", "result": "4.3"}
    row = history(folder).loc[1]
    assert [row["a"], row["b"], row["name"], row["sum_"]] == [1, 2.5, "some text", 3.5]
    assert [row["Seed"], row["Success"]] == [7, True]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_run_on_each_scheduler(run: Command, script: Path, scheduler: str) -> None:
    """Functions, classes and helper modules of the script work on every scheduler."""
    answer = run("run", script, "a=3", "--scheduler", scheduler)
    assert answer.status == 0, answer
    assert "result      8.0" in answer.out


def test_run_on_a_cluster(script: Path) -> None:
    """A scheduler's address is a cluster, whose workers have never seen the script."""
    from distributed import LocalCluster

    script.with_name("beside.py").unlink()
    script.write_text(
        SCRIPT.replace("from beside import twice", "def twice(value): return 2*value")
    )
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    ) as cluster:
        done = process("run", script, "a=3", "--scheduler", cluster.scheduler_address)
    assert done.returncode == 0, done
    assert "result      8.0" in done.stdout


def test_run_records_what_python_records(run: Command, script: Path, folder: Path) -> None:
    """A trial by this command and one by `python script.py` differ in nothing."""
    assert run("run", script, "--seed", 1).status == 0
    text = script.read_text().partition("if __name__")[0]
    script.write_text(text + 'if __name__ == "__main__":\n    result.compute(seed=1)\n')
    subprocess.run(
        [sys.executable, "-W", "error", script.name], cwd=folder, check=True, timeout=120
    )
    assert run("run", script, "--seed", 1).err == ""
    as_new_process()
    ex = daskperiment.Experiment("pairs", backend=folder / "daskperiment_cache")
    assert not ex.compare(1, 2).differs
    assert not ex.compare(2, 3).differs


def test_processes_do_not_run_the_script_again(run: Command, folder: Path) -> None:
    """A script that computes without a guard computes once, and is told how to do it better."""
    path = folder / "unguarded.py"
    path.write_text(
        "import daskperiment\n"
        "ex = daskperiment.Experiment('unguarded')\n"
        "a = ex.parameter('a', default=1)\n"
        "@ex.result\n"
        "def same(a): return a\n"
        "s = same(a)\n"
        "s.compute(scheduler='synchronous')\n"
    )
    answer = run("run", path, "a=2", "--scheduler", "processes")
    assert answer.status == 0, answer
    assert "computed trial 1 itself" in answer.err
    assert list(history(folder, "unguarded")["Result"]) == [1, 2]


def test_backend_option_is_for_experiments_that_name_none(
    run: Command, script: Path, folder: Path
) -> None:
    """--backend says where trials go; what the script names itself stays."""
    assert run("run", script, "--backend", "elsewhere").status == 0
    assert (folder / "elsewhere" / "pairs").exists()
    script.write_text(SCRIPT.replace('"pairs")', '"pairs", backend="own")'))
    assert run("run", script, "--backend", "elsewhere").status == 0
    assert run("history", "pairs", "--backend", "own").out.count("\n") == 2


def test_script_help_lists_parameters_and_results(run: Command, script: Path) -> None:
    """--help after a script tells its parameters with defaults, and computes nothing."""
    script.write_text(SCRIPT + '\nfree = ex.parameter("free")\nother = result.bind(a=9)\n')
    answer = run("run", script, "--help")
    assert answer.status == 0, answer
    for line in ("  a     1", "  name  'x'", "  sum_  computed in each trial", "  free  no value",
                 "(--result result)", "(--result other)"):  # fmt: skip
        assert line in answer.out, answer
    assert not (script.parent / "daskperiment_cache").exists()


def test_one_of_several_results_is_chosen_by_name(run: Command, script: Path) -> None:
    """With several results there is no guessing; a variable or a function's name chooses."""
    script.write_text(SCRIPT + "\nother = result.bind(a=9)\n")
    one_line(run("run", script), 2, "--result", "result (score)", "other (score)")
    assert "result      12.0" not in run("run", script, "--result", "result").out
    assert "trial       2" in run("run", script, "--result", "other").out
    one_line(run("run", script, "--result", "score"), 2, "several results")
    one_line(run("run", script, "--result", "nope"), 2, "no result 'nope'")


def test_one_result_of_two_names_is_one(run: Command, script: Path) -> None:
    """Two variables for the same result need no choice, and its function's name is one too."""
    script.write_text(SCRIPT + "\nalias = result\n")
    assert run("run", script).status == 0
    assert run("run", script, "--result", "score").status == 0


def test_failed_trial_is_one_line_and_status_1(run: Command, script: Path) -> None:
    """A failure names trial, step and exception; with --debug comes the traceback."""
    answer = run("run", script, "b=0")
    one_line(answer, 1, "Trial 1 failed in step 'score'", "ZeroDivisionError(", "show pairs 1")
    answer = run("run", script, "b=0", "--debug")
    assert answer.status == 1
    assert "Traceback (most recent call last" in answer.err
    assert "return twice(pair.a) / pair.b + sum_" in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["q=1"], ["'q'", "a, b, name, sum_"]),
        (["a"], ["'a'", "NAME=VALUE"]),
        (["a=1", "a=2"], ["'a'", "twice"]),
        (["--seed", "x"], ["--seed", "run --help"]),
        (["--seed", "-1"], ["--seed"]),
        (["--scheduler", "thread"], ["'thread'", "threads", "tcp://"]),
        (["--sampler", "random"], ["--sampler", "--sweep"]),
        (["--sweep", "q=1,2"], ["'q'", "a, b, name, sum_"]),
        (["--sweep", "a="], ["'a='", "no value"]),
        (["--nope"], ["--nope"]),
        (["--backend", "nope://x"], ["'nope://x'", "redis://"]),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    run: Command, script: Path, folder: Path, arguments: list[str], words: list[str]
) -> None:
    """What is asked for in a wrong way is refused with what is right, and nothing is recorded."""
    one_line(run("run", script, *arguments), 2, *words)
    assert not (folder / "daskperiment_cache").exists()


def test_parameter_without_a_value_is_named(run: Command, script: Path) -> None:
    """A parameter that nobody gave a value is wrong use, and no trial."""
    script.write_text(SCRIPT.replace('ex.parameter("b", default=2)', 'ex.parameter("b")'))
    one_line(run("run", script), 2, "'b'")
    assert run("run", script, "b=1").status == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import daskperiment\nx = (\n", ["line 2", "no Python"]),
        ("import daskperiment\n\n1 / 0\n", ["line 3: ZeroDivisionError: division by zero"]),
        ("import nowhere_to_be_found\n", ["line 1: ModuleNotFoundError"]),
        ("import broken\n", ["line 1 (in ", "broken.py, line 1)", "SyntaxError"]),
        ("raise SystemExit(3)\n", ["exit status 3"]),
        ("raise ValueError('two\\nlines \\x1b[31m')\n", [r"two lines \x1b[31m"]),
        ("class E(BaseException): pass\nraise E('mine')\n", ["line 2: E: mine"]),
        ("def f(): f()\nf()\n", ["line 1: RecursionError"]),
        ("import daskperiment\ndaskperiment.Experiment('no id')\n", ["line 2: ", "'no id'"]),
        ("x = 1\n", ["defines no result"]),
        (b"\x7fELF\x00\xff\xfe", ["no Python"]),
        (b"# coding: nonsense\n", ["no Python"]),
        ("(" * 5000, ["no Python"]),
    ],
)
def test_broken_script_is_one_line(
    run: Command, folder: Path, text: str | bytes, words: list[str]
) -> None:
    """A script that cannot be loaded is named with the line at fault."""
    (folder / "broken.py").write_text("def f(:\n")
    path = folder / "script.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    one_line(run("run", path), 2 if "no result" in words[0] else 1, "script.py", *words)
    assert "Traceback" in run("--debug", "run", path).err


@pytest.mark.parametrize("scheduler", ["synchronous", "processes"])
@pytest.mark.parametrize(
    ("line", "words"),
    [("raise SystemExit(4)", "SystemExit(4)"), ("raise BaseException('x')", "BaseException(x)")],
)
def test_step_that_leaves_is_a_failed_trial(
    run: Command, script: Path, folder: Path, line: str, words: str, scheduler: str
) -> None:
    """What a step raises to leave the process fails the trial, and is told in one line."""
    script.write_text(SCRIPT.replace("    return twice(", f"    {line}\n    return twice("))
    answer = run("run", script, "--scheduler", scheduler)
    one_line(answer, 1, "Trial 1 failed in step 'score'", words)
    assert list(history(folder)["Status"]) == ["failed"]


@pytest.mark.parametrize("name", ["nowhere.py", "."])
def test_no_script_is_one_line(run: Command, name: str) -> None:
    """What is no file is wrong use."""
    one_line(run("run", name), 2, name)


def test_no_scheduler_at_the_address(
    run: Command, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster that does not answer is one line."""
    import distributed

    for error in (OSError("Timed out"), TypeError("TLS expects an ssl_context")):

        def refuse(*arguments: object, error: Exception = error, **settings: object) -> None:
            raise error

        monkeypatch.setattr(distributed, "Client", refuse)
        answer = run("run", script, "--scheduler", "tcp://127.0.0.1:1")
        one_line(answer, 1, "'tcp://127.0.0.1:1'", "start one")


def test_ctrl_c_is_status_130(script: Path, folder: Path) -> None:
    """An interrupted run leaves one line, status 130 and a trial that says so."""
    script.write_text(
        SCRIPT.replace(
            "    return twice(",
            "    import time; open('ready', 'w'); time.sleep(60)\n    return twice(",
        )
    )
    code = "import sys; sys.argv[0] = 'daskperiment'; from daskperiment.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "run", str(script)], stderr=subprocess.PIPE, text=True
    ) as running:
        deadline = time.monotonic() + 60
        while not (folder / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert err.strip() == "Interrupted."
    assert list(history(folder)["Status"]) == ["interrupted"]


def test_loading_leaves_the_process_as_it_was(script: Path) -> None:
    """While a script is loaded it is the main module; afterwards all is as before."""
    before = sys.modules["__main__"], list(sys.path), list(sys.argv)
    with loaded(script) as module:
        assert sys.modules["__main__"] is module
        assert (sys.argv, sys.path[0]) == ([str(script)], str(script.parent))
        assert module.result.name == "score"
        assert type(module.Pair).__name__ == "type"
        assert module.Pair.__module__ == "__main__"
    assert (sys.modules["__main__"], sys.path, sys.argv) == before


@pytest.mark.parametrize(
    "guard",
    [
        'if __name__ == "__main__":\n    flag = 2',
        'if "__main__" == __name__:\n    flag = 2',
        'if __name__ != "__main__":\n    flag = 1\nelse:\n    flag = 2',
        'if __name__ == "__main__" and True:\n    flag = 2',
        'try:\n    if __name__ == "__main__":\n        flag = 2\nfinally:\n    pass',
    ],
)
def test_guards_are_not_entered(folder: Path, guard: str) -> None:
    """However it is written, what is for `python script.py` alone is left out."""
    path = folder / "guarded.py"
    path.write_text(
        f"flag = 1\n{guard}\ndef inside():\n    return __name__ == '__main__'\nname = __name__\n"
    )
    with loaded(path) as module:
        assert (module.flag, module.name, module.inside()) == (1, "__main__", True)


# Result.main() ---------------------------------------------------------------------------------


def write_own(script: Path) -> None:
    """Give the script a command line of its own."""
    text = SCRIPT.partition("if __name__")[0]
    script.write_text(
        f"{text}from daskperiment.cli.computation import main_for\nmain_for(result)\n"
    )


def test_script_is_its_own_command_line(script: Path, folder: Path) -> None:
    """`python script.py a=3 --seed 1` is a trial, also with processes that import the script."""
    write_own(script)
    done = subprocess.run(
        [sys.executable, script.name, "a=3", "--seed", "1", "--scheduler", "processes"],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "result      8.0" in done.stdout
    row = history(folder).loc[1]
    assert (row["a"], row["Seed"]) == (3, 1)


def test_script_of_its_own_can_be_run_and_asked(run: Command, script: Path, folder: Path) -> None:
    """`daskperiment run` computes such a script once, and it has a help."""
    write_own(script)
    assert run("run", script, "a=5").status == 0
    assert list(history(folder)["a"]) == [5]


def test_main_takes_arguments(
    ex: daskperiment.Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    """Arguments can be given; the process ends with the status that they deserve."""
    a = ex.parameter("a", default=1)

    @ex.result
    def inverse(a: float) -> float:
        return 1 / a

    result = inverse(a)
    for arguments, status in ((["a=2"], 0), (["a=0"], 1), (["z=0"], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as left:
            main_for(result, arguments)
        assert left.value.code == status
    assert list(ex.get_history()["a"]) == [2, 0]
    told = capsys.readouterr()
    assert "result      0.5" in told.out
    assert "  a  1" in told.out
