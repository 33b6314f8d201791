"""From the tasks of a template to how their cache keys are made."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

from dask.utils import funcname

from daskperiment.capture.files import FileSource, take_file
from daskperiment.capture.fingerprint import NoFingerprintError, exact_fingerprint
from daskperiment.capture.signatures import defaults_of, in_order
from daskperiment.execution.between_steps import run_between, run_parameter
from daskperiment.execution.calls import Call, member_name
from daskperiment.execution.tasks import run_result, run_step
from daskperiment.formatting import brief
from daskperiment.graph.dask_tasks import (
    Alias,
    DataNode,
    GraphNode,
    List,
    Set,
    Task,
    TaskRef,
    function_of,
    members,
    references,
)
from daskperiment.records import Argument
from daskperiment.reuse.cache_keys import KeySpecs
from daskperiment.reuse.key_parts import (
    DefaultValue,
    FileContent,
    KeyOf,
    KeySpec,
    LiveValue,
    UsedFunction,
)
from daskperiment.reuse.parameter_fields import ParameterField
from daskperiment.reuse.unordered import END, MEMBER, SET

__all__ = ["fixed_arguments", "make_key_specs"]

_FIXED = (type(None), bool, int, float, complex, str, bytes)
"""Types of arguments that cannot change in place."""


def make_key_specs(
    tasks: Mapping[Any, GraphNode], order: Iterator[Hashable],
    inlined: Mapping[Hashable, str], taken: Mapping[Hashable, ParameterField],
) -> KeySpecs:  # fmt: skip
    """Return how the cache keys of a template's tasks are made.

    Parameters
    ----------
    tasks : mapping
        Every task that the result depends on, as trials have it.
    order : iterator
        Their keys, inputs before those who take them.
    inlined : mapping
        Key of a parameter that is not computed -> its name.
    taken : mapping
        Key of a task that only takes a part of such a parameter -> the part.
    """
    maker = _Maker(inlined, taken, tasks)
    specs = [
        # Its task needs what it takes a part of; its output depends on the part alone.
        KeySpec(key, (), taken=taken[key], beside=tuple(references(tasks[key])))
        if key in taken
        else maker.spec(key, tasks[key])
        for key in order
    ]
    return KeySpecs(specs, maker.functions, inlined)


class _Maker:
    def __init__(
        self, inlined: Mapping[Hashable, str], taken: Mapping[Hashable, ParameterField],
        tasks: Mapping[Any, GraphNode],
    ) -> None:  # fmt: skip
        self._tasks = tasks
        self.functions: dict[str, Callable[..., Any]] = {}
        self._taken = taken
        self._names = dict(inlined)
        self._computed: set[Hashable] = set()

    def spec(self, key: Hashable, task: Any) -> KeySpec:
        function = function_of(task)
        if function is run_step or function is run_result:
            return self._step(key, task)
        if function is run_parameter:
            return self._parameter(key, task)
        if function is run_between:
            _, label, function, *args = task.args
            if function is take_file:
                return self._file(key, args[0])
            parts = [self._uses(function), *self._arguments(function, args, task.kwargs)]
            named = {**{str(number): form for number, form in enumerate(args)}, **task.kwargs}
            given = {name: found for name, form in named.items()
                     for path, found in members(form, self._tasks)
                     if not path and not isinstance(found, DataNode)}  # fmt: skip
            return KeySpec(key, tuple(parts), place=label, given=given)
        if function is take_file:
            return self._file(key, task.args[0])
        return KeySpec(key, tuple(self._parts(task)))

    def _file(self, key: Hashable, source: Any) -> KeySpec:
        if isinstance(source, FileSource):
            return KeySpec(key, (FileContent(source),))
        if source.key in self._taken:
            return KeySpec(key, (FileContent(self._taken[source.key]),), beside=(source.key,))
        name = self._names.get(source.key, "")
        # A parameter that names the files is no part of the key by its value.
        before = () if name and source.key not in self._computed else (KeyOf(source.key),)
        return KeySpec(key, (FileContent(ParameterField(name)), *before))

    def _step(self, key: Hashable, task: Any) -> KeySpec:
        _, call, *forms = task.args
        assert isinstance(call, Call)
        arguments = {name: tuple(self._parts(form))
                     for name, form in zip(call.names, forms, strict=True)}  # fmt: skip
        for name, value in defaults_of(call.function.__wrapped__):
            arguments.setdefault(name, (DefaultValue(value),))
        ignored = [part for name in call.ignore for part in arguments.pop(name, ())]
        return KeySpec(
            key, tuple(_labelled(arguments, call)), place=call.key, step=call.step,
            version=call.version, persist=call.persist, reuse=call.reuse,
            arguments=arguments, ignored=call.ignore, given=self._given(call, forms),
            turned=tuple(call.turned()) if call.keywords else (),
            beside=tuple(part.key for part in ignored if isinstance(part, KeyOf)),
        )  # fmt: skip

    def _given(self, call: Call, forms: Sequence[Any]) -> dict[str, Any]:
        """Return the keys of what a call is given and others see, by what it is called there."""
        # As sets: a call may be given thousands of nodes in one list.
        given = {name: frozenset(paths) for name, paths in call.given.items()}
        return {
            member_name(name, path): LiveValue(each.value) if isinstance(each, DataNode) else each
            for name, form in zip(call.names, forms, strict=True) if name in given
            for path, each in members(form, self._tasks) if path in given[name]
        }  # fmt: skip

    def _parameter(self, key: Hashable, task: Any) -> KeySpec:
        _, name, function, _, names, *values = task.args
        self._names[key] = name
        self._computed.add(key)
        inputs = dict(zip(names, values, strict=True))
        function = function.__wrapped__
        parts = [self._uses(function), *self._arguments(function, [], inputs)]
        return KeySpec(key, tuple(parts), place=f"parameter {name}", parameter=name)

    def _uses(self, function: Callable[..., Any]) -> UsedFunction:
        for label, known in self.functions.items():
            if known is function:
                return UsedFunction(label)
        label = f"function {len(self.functions)} {funcname(function)}"
        self.functions[label] = function
        return UsedFunction(label)

    def _arguments(
        self, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]
    ) -> Iterator[Any]:
        yield f"{len(args)} and {len(kwargs)} arguments"
        for value in args:
            yield from self._parts(value)
        for name in in_order(function, kwargs):
            yield name
            yield from self._parts(kwargs[name])

    def _parts(self, item: Any) -> Iterator[Any]:
        if isinstance(item, TaskRef):
            yield KeyOf(item.key)
        elif isinstance(item, Alias):
            yield KeyOf(item.target)
        elif isinstance(item, DataNode):
            yield _literal(item.value)
        elif (members := _members(item)) is not None:
            yield f"{'frozenset' if function_of(item) is frozenset else 'set'} of {len(members)}"
            yield SET
            for member in members:
                yield MEMBER
                yield from self._parts(member)
            yield END
        elif isinstance(item, Task):
            # A list or dict with nodes in it is a task too, of a type of its own.
            plain = type(item) is Task
            yield f"({type(item).__name__}"
            if plain:
                yield self._uses(item.func)
            yield from self._arguments(item.func, item.args, item.kwargs if plain else {})
            yield ")"
        else:
            yield _literal(item)


def _members(item: Any) -> Sequence[Any] | None:
    """Return what a set is made of, of a list or in Dask's own way; None for all else."""
    if isinstance(item, Set):
        return item.args
    if isinstance(item, Task) and function_of(item) in (set, frozenset):
        made_of = item.args[0] if len(item.args) == 1 else None
        return made_of.args if isinstance(made_of, List) else None
    return None


def _labelled(arguments: Mapping[str, tuple[Any, ...]], call: Call) -> Iterator[Any]:
    """Yield the parts of all arguments, each behind its name: equal for equal calls."""
    for name in in_order(call.function.__wrapped__, arguments):
        yield f"argument {name}: {len(arguments[name])}"
        yield from arguments[name]


def fixed_arguments(call: Call, forms: Sequence[Any]) -> dict[str, Argument]:
    """Return what the graph records of a call's arguments that cannot change in place."""
    given = dict(zip(call.names, forms, strict=True))
    left_out = dict(defaults_of(call.function.__wrapped__)) if call.defaulted else {}
    values = {**left_out, **given}
    return {
        name: _fixed(value) for name, value in values.items()
        if type(value) in _FIXED and name not in call.ignore
    }  # fmt: skip


def _fixed(value: Any) -> Argument:
    short = type(value) not in (str, bytes, int) or (type(value) is int and abs(value) < 10**18)
    return Argument(brief(value), None if short else exact_fingerprint(value))


def _literal(value: Any) -> Any:
    if type(value) in _FIXED:
        try:
            return exact_fingerprint(value)
        except NoFingerprintError:
            pass  # said for the trial that needs it
    return LiveValue(value)
