"""The tools that are compared: each runs a project once, in a process of its own."""

from __future__ import annotations

import glob
import importlib
import inspect
import logging
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.validity.project import Project, State, Step

__all__ = ["HOW", "LIBRARIES", "Outcome", "TOOLS", "load_libraries", "run_tool"]

SECONDS = 120
"""How long one run may take."""

HOW = {
    "ours": "Experiment(reuse=True) and ex.persist; files by ex.file, as a Path or just opened",
    "joblib": "Memory.cache of each step; paths as text, the seed as an argument",
    "redun": "task of each step, hash_includes= its helpers; File and Dir, the seed as an argument",
    "hamilton": "with_cache(recompute= steps that take files); paths as text, the seed as an input",
}
"""How each tool is used: as its documentation tells a careful user."""

LIBRARIES = {
    "ours": ("daskperiment", "daskperiment.experiment", "daskperiment.planning.planner",
             "daskperiment.compare", "daskperiment.explain", "daskperiment.store.file.store"),
    "joblib": ("joblib",),
    "redun": ("redun", "redun.scheduler", "redun.backends.db", "redun.file"),
    "hamilton": ("hamilton.driver", "hamilton.ad_hoc_utils", "hamilton.caching.adapter"),
}  # fmt: skip


@dataclass
class Outcome:
    """What one run of a project by one tool gave."""

    ran: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    """What the steps' functions return for the inputs that they got in this run."""
    verdicts: dict[str, str] = field(default_factory=dict)
    """What ``explain`` said before the run, for each step."""
    reasons: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    """The reasons that ``explain`` of the trial gives after it."""
    comparison: str = ""
    """What ``compare`` says of this trial and the one before it."""
    warned: list[str] = field(default_factory=list)
    error: str = ""


def load_libraries(tools: list[str]) -> None:
    """Import what the tools need, so that processes forked from this one have it."""
    for tool in tools:
        for name in LIBRARIES[tool]:
            importlib.import_module(name)
    for name in ("numpy", "pandas", "distributed", "pydantic", "attrs"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            pass


def run_tool(tool: str, project: Project, state: State, folder: Path, trial: int) -> Outcome:
    """Return what comes of running a project now, in a process that has seen nothing of it before.

    Parameters
    ----------
    tool : str
        Its name in `TOOLS`.
    project : Project
        The project, as it stands in `folder`.
    state : State
        Its numbers, from which arguments and environment variables come.
    folder : Path
        Of the project; each tool keeps its outputs in a folder of its own there.
    trial : int
        Number of this run, from 1.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(writer, tool, project, state, folder, trial)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else Outcome(error="the process died")


def _answer(writer: int, *run: Any) -> None:
    """Run, write down what came of it, and end this process."""
    signal.alarm(SECONDS)
    try:
        outcome = _run(*run)
    except BaseException:  # whatever it is, the parent is to show it
        outcome = Outcome(error=traceback.format_exc())
    with os.fdopen(writer, "wb") as stream:
        pickle.dump(outcome, stream)
    os._exit(0)


def _run(tool: str, project: Project, state: State, folder: Path, trial: int) -> Outcome:
    os.chdir(folder)
    os.environ.update(project.variables(state))
    outcome = Outcome()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        steps = _imported(folder)
        call = Call(project, state, folder, steps)
        with _listening() as ran:
            TOOLS[tool](call, outcome, trial)
            outcome.ran = sorted(ran)
    outcome.warned = [f"{each.category.__name__}: {each.message}" for each in caught]
    outcome.expected = call.expected(outcome.outputs, tool)
    return outcome


def _imported(folder: Path) -> ModuleType:
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(folder / "code"), str(folder / "site")]
    return importlib.import_module("steps")


class _Names(logging.Handler):
    """Notes what the steps log: their names."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.names.append(record.getMessage())


@contextmanager
def _listening() -> Iterator[list[str]]:
    handler, log = _Names(), logging.getLogger("project")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler.names
    log.removeHandler(handler)


@dataclass(frozen=True)
class Call:
    """A project that is to be called: its functions, and the arguments of each."""

    project: Project
    state: State
    folder: Path
    steps: ModuleType

    @property
    def by_position(self) -> bool:
        return self.state.cosmetics.get("call form", 0) % 2 == 1

    @property
    def seed(self) -> int:
        """The trial's seed."""
        numbers = [self.state.numbers[k.name] for k in self.project.knobs() if k.kind == "seed"]
        return numbers[0] if numbers else 1

    def function(self, step: Step) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(self.steps, step.name)
        return function

    def arguments(self, step: Step, given: Callable[[str, Any], Any]) -> dict[str, Any]:
        """Return what a step gets besides other steps, made by the tool from kind and value."""
        found = self.project.arguments(step, self.state)
        return {name: given(kind, value) for name, (kind, value) in found.items()}

    def chain(
        self,
        wrap: Callable[[Step], Callable[..., Any]],
        given: Callable[[str, Any], Any],
    ) -> dict[str, Any]:
        """Call each step, as a tool wraps it, with what the steps before it gave."""
        nodes: dict[str, Any] = {}
        for step in self.project.steps:
            named = {name: nodes[name] for name in step.inputs} | self.arguments(step, given)
            function = wrap(step)
            nodes[step.name] = function(*named.values()) if self.by_position else function(**named)
        return nodes

    def plain(self, kind: str, value: Any) -> Any:
        """Return an argument as plain data: paths are text."""
        if kind == "field":
            return self.project.options(self.state)[value]
        if kind == "glob":
            return sorted(glob.glob(f"{self.folder}/{value}/*.txt"))
        return value if kind in ("literal", "seed") else str(self.folder / value)

    def expected(self, outputs: dict[str, Any], tool: str) -> dict[str, Any]:
        """Return what each step's function gives for the inputs that it had."""
        found = {}
        for step in self.project.steps:
            named = {name: outputs[name] for name in step.inputs}
            if step.stochastic and tool == "ours":
                continue  # its draws belong to a trial
            found[step.name] = self.function(step)(**named, **self.arguments(step, self.plain))
        return found


def gather(**values: Any) -> dict[str, Any]:
    """Return all outputs."""
    return values


def _ours(call: Call, outcome: Outcome, trial: int) -> None:
    from daskperiment import Experiment
    from daskperiment.recording.registry import close_recorders

    ex = Experiment("validity", backend=call.folder / "ours", reuse=True, seed=call.seed)
    options = ex.parameter("options", default=call.project.options(call.state))

    def given(kind: str, value: Any) -> Any:
        match kind:
            case "literal":
                return value
            case "seed":
                return None
            case "field":
                return options[value]
            case "path" | "folder path":
                return call.folder / value
        return ex.file(call.folder / (f"{value}/*.txt" if kind == "glob" else value))

    nodes = call.chain(lambda step: ex.persist(call.function(step)), given)
    result = ex.result(gather)(**nodes)
    told = ex.explain(result)
    outcome.verdicts = {step.key: step.verdict for step in told}
    outcome.reasons = {step.key: step.reason for step in told}
    outcome.outputs = result.compute(scheduler="synchronous")
    outcome.told = {step.key: step.reason for step in ex.explain(ex.trial_id)}
    if trial > 1:
        outcome.comparison = ex.compare(ex.trial_id - 1, ex.trial_id).explanation
    close_recorders()


def _joblib(call: Call, outcome: Outcome, trial: int) -> None:
    from joblib import Memory

    memory = Memory(call.folder / "joblib", verbose=0)
    outcome.outputs = call.chain(lambda step: memory.cache(call.function(step)), call.plain)


def _redun(call: Call, outcome: Outcome, trial: int) -> None:
    from redun import Dir, File, Scheduler, task
    from redun.config import Config

    uri = f"sqlite:///{call.folder / 'redun.db'}"
    logging.getLogger("redun").setLevel(logging.ERROR)
    scheduler = Scheduler(config=Config({"backend": {"db_uri": uri}}))
    scheduler.load()

    def given(kind: str, value: Any) -> Any:
        match kind:
            case "node" | "path":
                return File(str(call.folder / value))
            case "folder" | "folder path" | "glob":
                return Dir(str(call.folder / value))
        return call.plain(kind, value)

    def wrap(step: Step) -> Callable[..., Any]:
        names = call.project.helpers(step, call.state)
        found = (_looked_up(call.steps, name) for name in names)
        # redun hashes plain functions that are global; it has no hash for other callables.
        helpers = [each for each in found if _is_global(each)]
        made = task(name=step.name, namespace="project", hash_includes=helpers)
        return made(call.function(step))

    outcome.outputs = scheduler.run(call.chain(wrap, given))


def _looked_up(module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _is_global(found: Any) -> bool:
    return (
        inspect.isfunction(found)
        and found.__qualname__.isidentifier()
        and not hasattr(found, "__wrapped__")
    )


def _hamilton(call: Call, outcome: Outcome, trial: int) -> None:
    from hamilton import ad_hoc_utils, driver

    inputs: dict[str, Any] = {}
    files = []
    for step in call.project.steps:
        inputs |= call.arguments(step, call.plain)
        kinds = {kind for kind, _ in call.project.arguments(step, call.state).values()}
        if kinds - {"literal", "seed", "field"}:
            files.append(step.name)
    functions = [call.function(step) for step in call.project.steps]
    module = ad_hoc_utils.create_temporary_module(*functions, module_name="project_steps")
    builder = driver.Builder().with_modules(module)
    built = builder.with_cache(path=call.folder / "hamilton", recompute=files).build()
    names = [step.name for step in call.project.steps]
    outcome.outputs = built.execute(names, inputs=inputs)


TOOLS: dict[str, Callable[[Call, Outcome, int], None]] = {
    "ours": _ours,
    "joblib": _joblib,
    "redun": _redun,
    "hamilton": _hamilton,
}
