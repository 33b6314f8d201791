"""A trial's tasks as a scheduler in this process takes them, or as they run without one.

What Dask does with a graph before it is run, it does for graphs that are to be merged, culled and
named first, and it takes longer than a small trial. What its scheduler for one thread decides
depends on the graph alone: of a graph that trials have in common it is worked out once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import Any, NamedTuple

import dask
from dask import local, threaded
from dask.base import get_scheduler, named_schedulers
from dask.callbacks import Callback
from dask.delayed import Delayed
from dask.order import order

from daskperiment.execution.random_state import steps_in_turn
from daskperiment.execution.shared_tasks import StoredOutputs
from daskperiment.execution.trial import TrialHandle, TrialRequest
from daskperiment.graph.dask_tasks import DataNode, GraphNode, Task, TaskRef
from daskperiment.graph.keywords import USUAL
from daskperiment.secret_values import revealed

__all__ = ["OUTPUTS", "TRIAL", "LocalTasks", "local_scheduler"]

TRIAL = "daskperiment-trial"
"""Key of the node that stands for the current trial in every template."""
OUTPUTS = "daskperiment-outputs"
"""Key of the node that stands for what the current trial takes from the store."""

Key = Any

_ASKING = ("delayed_optimize", "optimizations", "cache", "rerun_exceptions_locally")
"""What users configure who want something of Dask besides the result."""
_SPELLINGS = frozenset({*_ASKING, *(name.replace("_", "-") for name in _ASKING)})


def local_scheduler(keywords: Mapping[str, Any]) -> Callable[..., Any] | None:
    """Return the scheduler of Dask for this process that takes a trial's tasks as they are.

    None where somebody asks for what Dask does before and beside, or for another scheduler.

    Parameters
    ----------
    keywords : mapping
        As for :func:`dask.compute`.
    """
    if not keywords.keys() <= USUAL - {"optimize_graph"} or Callback.active:
        return None
    if not _SPELLINGS.isdisjoint(dask.config.config) and any(map(_is_configured, _ASKING)):
        return None
    asked = keywords.get("scheduler")
    # Dask looks for a client first, also where the name says that there is none to be asked.
    found = named_schedulers.get(asked) if isinstance(asked, str) else None
    found = found or get_scheduler(scheduler=asked, cls=Delayed)
    return found if found in (local.get_sync, threaded.get) else None


def _is_configured(name: str) -> bool:
    return dask.config.get(name, None) not in (None, False)


class _Turn(NamedTuple):
    """One task when it is its turn."""

    key: Key
    task: Any
    form: list[Any]
    """The arguments that it calls its function with, but for what other tasks give."""
    taken: tuple[tuple[int, Key], ...]
    """The places of those, and the keys of what stands there."""
    plain: bool
    """Whether that is all there is to it."""
    done: tuple[Key, ...]
    """What no task takes any more afterwards."""

    def run(self, values: dict[Key, Any]) -> None:
        """Add what the task gives to the values, and drop what is done."""
        key, task, form, taken, plain, done = self
        if plain:
            arguments = form.copy()
            for place, each in taken:
                arguments[place] = values[each]
            values[key] = task.func(*arguments)
        else:
            values[key] = task({each: values[each] for each in task.dependencies})
        if done and (returned := values[TRIAL].returned).latest is not None:
            returned.let_go([values[each] for each in done])
        for each in done:
            del values[each]


class LocalTasks:
    """Tasks that run in this process.

    Parameters
    ----------
    key : hashable
        Of the last one.
    tasks : mapping
        Key -> task: those that it depends on. Of one trial alone: inputs before those who take
        them, in the order in which they run here; each is let go of when it has run.
    names : mapping
        Key in the template -> key here, or the node that takes its place.
    parameters : mapping, optional
        Key -> name, of the parameters that come with each trial, as the trial itself does then:
        the tasks are common to many. None for those of one trial.
    mixed : bool
        Whether some call functions of the user's that belong to no trial.
    ordered : bool
        Whether those that are common to many run in their order here, as those of one trial do.
    """

    def __init__(
        self, key: Key, tasks: dict[Key, GraphNode], names: Mapping[Key, Any] | None = None,
        parameters: Mapping[Key, str] | None = None, mixed: bool = False, ordered: bool = False,
    ) -> None:  # fmt: skip
        self.key = key
        self.tasks = tasks
        self.names = names or {}
        self._mixed = mixed
        self._ordered = ordered
        self._are_common = parameters is not None
        self._parameters = parameters or {}
        self._names = set(self._parameters.values())

    def __reduce__(self) -> Any:
        # Without what is of use where the template is.
        parameters = self._parameters if self._are_common else None
        return LocalTasks, (self.key, self.tasks, None, parameters, self._mixed, self._ordered)

    def fits(self, trial: TrialHandle | TrialRequest) -> bool:
        """Whether a trial has a value for each parameter."""
        return self._names <= trial.values.keys()

    def _given(self, trial: TrialHandle) -> dict[Key, Any]:
        """Return what the tasks take and no task makes."""
        given = {key: trial.values[name] for key, name in self._parameters.items()}
        if trial.secrets is not None:
            given = {key: revealed(value) for key, value in given.items()}
        given[TRIAL] = trial
        return given

    def run(
        self, get: Callable[..., Any], trial: TrialHandle, outputs: StoredOutputs | None = None,
        **keywords: Any,
    ) -> Any:  # fmt: skip
        """Run the tasks, and return what the last one gives.

        Where the caller's thread runs them they run without a scheduler. Those that trials have in
        common run in its order; those of one trial alone depth first, as working out the other
        order takes as long as some of the steps.

        Parameters
        ----------
        get : callable
            From `local_scheduler`.
        trial : TrialHandle
        outputs : StoredOutputs, optional
            What it takes from the store by tasks that other trials take it by, too.
        **keywords
            For the scheduler.
        """
        values = self._given(trial)
        if outputs is not None:
            values[OUTPUTS] = outputs
        if get is not local.get_sync or Callback.active:
            nodes = {key: DataNode(key, value) for key, value in values.items()}
            # Not a cache that others see: these keys are not of one trial alone.
            return get({**self.tasks, **nodes}, self.key, cache={}, **keywords)
        trial.returned.in_turn = not self._mixed
        with nullcontext() if self._mixed else steps_in_turn():
            # What all trials have in common is kept; of one trial's own tasks thousands of turns
            # are not, which the garbage collector would have to look at.
            for turn in self._kept if self._are_common else self._passing():
                turn.run(values)
        return values[self.key]

    @cached_property
    def _kept(self) -> list[_Turn]:
        """The tasks in their order, or in that of Dask's scheduler for one thread."""
        keys = list(self.tasks) if self._ordered else self._line() or list(self._by_scheduler())
        last = self._last_takers(keys)
        return [_turn(key, self.tasks[key], last) for key in keys]

    def _passing(self) -> Iterator[_Turn]:
        """Yield the tasks in their order, and let go of each."""
        last = self._last_takers(self.tasks)
        for key in list(self.tasks):
            yield _turn(key, self.tasks.pop(key), last)

    def _last_takers(self, keys: Iterable[Key]) -> dict[Key, Key]:
        """Return of each task the last one that takes what it gives."""
        tasks = self.tasks
        return {each: key for key in keys for each in tasks[key].dependencies if each in tasks}

    def _line(self) -> list[Key]:
        """Return the keys in order, where each takes but one other: there is nothing to decide."""
        line, tasks = [self.key], self.tasks
        while before := [each for each in tasks[line[-1]].dependencies if each in tasks]:
            if len(before) > 1:
                return []
            line += before
        return line[::-1]

    def _by_scheduler(self) -> Iterator[Key]:
        """Yield the keys as Dask's scheduler takes them: what became ready last comes first."""
        tasks = self.tasks
        ranks = order(tasks)
        waiting: dict[Key, int] = {}
        takers: dict[Key, list[Key]] = {}
        ready, found = [], {self.key}
        stack = [self.key]
        while stack:
            key = stack.pop()
            before = [each for each in tasks[key].dependencies if each in tasks]
            waiting[key] = len(before)
            if not before:
                ready.append(key)
            for each in before:
                takers.setdefault(each, []).append(key)
            new = [each for each in before if each not in found]
            found.update(new)
            stack += new
        ready.sort(key=ranks.__getitem__, reverse=True)
        while ready:
            key = ready.pop()
            yield key
            freed = []
            for taker in takers.get(key, ()):
                waiting[taker] -= 1
                if not waiting[taker]:
                    freed.append(taker)
            ready += sorted(freed, key=ranks.__getitem__, reverse=True)


def _turn(key: Key, task: Any, last: Mapping[Key, Key]) -> _Turn:
    done, taken, plain = [], [], type(task) is Task and not task.kwargs
    for each in task.dependencies:
        if last.get(each) == key:
            done.append(each)
    if plain:
        for place, form in enumerate(task.args):
            if type(form) is TaskRef:
                taken.append((place, form.key))
            elif isinstance(form, (GraphNode, TaskRef)):
                plain = False
    return _Turn(key, task, list(task.args) if plain else [], tuple(taken), plain, tuple(done))
