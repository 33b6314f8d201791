"""Parameters: named inputs of an experiment, as nodes of the graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Any

from dask.highlevelgraph import HighLevelGraph

from daskperiment.capture.secret_key import covered, secret_parameters
from daskperiment.capture.signatures import check_name
from daskperiment.configuration import ConfigTree
from daskperiment.errors import ParameterUndeclaredError
from daskperiment.execution.between_steps import run_parameter
from daskperiment.execution.calls import UserFunction
from daskperiment.execution.lifecycle import undefined
from daskperiment.formatting import html_table, nearest, plain_repr, shorten
from daskperiment.graph.arguments import find_node
from daskperiment.graph.dask_tasks import Task, TaskRef
from daskperiment.graph.keywords import CheckedNode
from daskperiment.graph.local_tasks import TRIAL
from daskperiment.graph.template import no_trial
from daskperiment.no_value import NO_VALUE
from daskperiment.secret_values import revealed

__all__ = ["Parameter", "Parameters", "all_named", "check_values"]


class Parameters:
    """The parameters of one experiment and their current values.

    Values are read all at once and replaced all at once, so that a trial never sees half of a
    change.

    Parameters
    ----------
    scope : str
        What tells this experiment's parameters from others' of the same name.
    """

    def __init__(self, scope: str) -> None:
        self._scope = scope
        self._lock = threading.Lock()
        self._defaults: dict[str, Any] = {}
        self._values: Mapping[str, Any] = {}
        self._computed: dict[str, tuple[str, ...]] = {}
        self._trees: tuple[ConfigTree, ...] = ()
        """The configurations that some of them are leaves of, the latest first."""
        self._changes = 0
        self.secrets: frozenset[str] = frozenset()
        """Names of those whose values are shown and written nowhere."""

    def __reduce__(self) -> Any:
        # A result that a task computes has the values of the moment when it was sent.
        with self._lock:
            state = {name: value for name, value in vars(self).items() if name != "_lock"}
        return Parameters, (self._scope,), state

    @property
    def names(self) -> list[str]:
        """Names in order of declaration."""
        return list(self._defaults)

    @property
    def keys(self) -> dict[str, str]:
        """Key of each parameter -> its name."""
        return {self.key(name): name for name in self._defaults}

    @property
    def stamp(self) -> int:
        """Changes whenever a parameter is declared or set."""
        return self._changes

    def key(self, name: str) -> str:
        """Return the key of a parameter's node."""
        text = f"{self._scope}\0{name}".encode("utf-8", "surrogatepass")
        return f"{name}-{blake2b(text, digest_size=16).hexdigest()}"

    def declare(self, name: str, default: Any = NO_VALUE, secret: bool = False) -> None:
        """Declare a parameter, or give it another default."""
        check_name(name, "A parameter")
        check_values({name: default})
        with self._lock:
            self._defaults[name] = default
            self._computed.pop(name, None)
            self._note_secret(name, secret)
            self._trees = tuple(tree for tree in self._trees if name not in tree.leaves)

    def declare_tree(self, tree: ConfigTree) -> None:
        """Declare the leaves of a configuration."""
        for name, leaf in tree.leaves.items():
            self.declare(name, leaf.default, name in tree.secrets)
        self._trees = (tree, *self._trees)

    def declare_computed(self, name: str, inputs: tuple[str, ...], secret: bool = False) -> None:
        """Declare a parameter whose default is computed from others in each trial.

        What is made of a secret is one, too.
        """
        self.check_declared(inputs)
        with self._lock:
            self._defaults[name] = NO_VALUE
            self._computed[name] = inputs
            self._note_secret(name, secret or not self.secrets.isdisjoint(inputs))

    def _note_secret(self, name: str, secret: bool) -> None:
        self.secrets = self.secrets | {name} if secret else self.secrets - {name}
        self._changes += 1

    def is_computed(self, name: str) -> bool:
        """Whether a parameter's default is computed from others in each trial."""
        return name in self._computed

    def set(self, values: Mapping[str, Any]) -> None:
        """Set values of parameters; TypeError for a node among them."""
        values = self.covered(self.fitted(values))
        with self._lock:
            self._values = {**self._values, **values}
            self._changes += 1

    def fitted(
        self, values: Mapping[str, Any], others: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Return values that are given now as parameters have them, those of leaves by their types.

        Parameters
        ----------
        values : mapping
            What is given; the values of a whole section may be given by its name.
        others : mapping, optional
            What was given before, and holds beside the values of the experiment.

        Raises
        ------
        ParameterUndeclaredError
            For a name that is not declared.
        ConfigurationError
            If a value does not fit its leaf, or the leaves do not fit together.
        TypeError
            For a node.
        """
        for tree in self._trees:
            values = tree.spread(values)
        self.check_declared(values)
        check_values(values)
        values = self.typed(values)
        for tree in self._trees:
            if not tree.leaves.keys().isdisjoint(values):
                given = {**(others or {}), **values}
                tree.check(self.current(given), given)
        return values

    def typed(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return values with those of leaves by their types; each is looked at by itself."""
        for tree in self._trees:
            values = tree.fitted(values)
        return values

    def check_space(self, space: Mapping[str, Iterable[Any]], others: Mapping[str, Any]) -> None:
        """Refuse values of a sweep that have no place beside each other; as `fitted` raises."""
        self.check_declared(space)
        for tree in self._trees:
            tree.check_space(space, self.current(others))

    def parsed(self, name: str, text: str, otherwise: Callable[[str], Any]) -> Any:
        """Return what a text of the command line means for a parameter."""
        tree = next((tree for tree in self._trees if name in tree.leaves), None)
        return otherwise(text) if tree is None else tree.parsed(name, text, otherwise)

    def covered(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return values with those of secret parameters as secrets."""
        if self.secrets.isdisjoint(values):
            return values
        return covered(values, secret_parameters(self.secrets))

    def check_declared(self, names: Iterable[str]) -> None:
        """Refuse names that are not declared.

        Raises
        ------
        ParameterUndeclaredError
            Naming them, and those that are.
        """
        unknown = [name for name in names if name not in self._defaults]
        if unknown:
            known = ", ".join(map(repr, self._defaults)) or "none yet"
            listed = ", ".join(map(repr, unknown))
            hint = nearest(unknown[0], self._defaults) or self._leaf_like(unknown[0])
            raise ParameterUndeclaredError(
                f"No parameter {listed} in this experiment{f'{hint} D' if hint else '; d'}eclared "
                f"are: {known}. Declare it first: ex.parameter({unknown[0]!r})."
            )

    def _leaf_like(self, name: str) -> str:
        """Return a hint at the leaves that end in a name, or begin with it."""
        found = [each for each in self._defaults
                 if each.endswith(f".{name}") or each.startswith(f"{name}.")]  # fmt: skip
        return f"; did you mean {found[0]!r}?" if found else ""

    def current(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """All values of this moment, in order of declaration."""
        # Without the lock: `set` puts a whole new mapping in place of the old one.
        values = {**self._defaults, **self._values, **overrides}
        for tree in self._trees:
            values.update(tree.dependent({**self._values, **overrides}))
        found = {name: value for name, value in values.items() if value is not NO_VALUE}
        return dict(self.covered(found)) if self.secrets else found

    def missing(
        self, needed: Iterable[str], values: Mapping[str, Any], plain: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Those of the needed parameters that have no value and none computed.

        `plain` are those that a graph takes as they are, however they are declared now.
        """
        missing: dict[str, None] = {}
        for name in needed:
            if name in values:
                continue
            inputs = None if name in plain else self._computed.get(name)
            found = (name,) if inputs is None else self.missing(inputs, values)
            missing.update(dict.fromkeys(found))
        return tuple(missing)


def all_named(method: str, values: Any, named: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values of a call that takes a mapping, keywords, or both.

    Raises
    ------
    TypeError
        If the first is no mapping of names, or one name is given in both ways.
    """
    if values is None:
        return named
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{method}() got {shorten(repr(values), 60)}; expected a mapping of parameter names to "
            f"values, such as {method}({{'opt.lr': 0.1}}), or keywords."
        )
    for name in values:
        check_name(name, "A parameter")
        if name in named:
            raise TypeError(f"{method}() got parameter {name!r} twice; give it once")
    return {**values, **named}


def check_values(values: Mapping[str, Any]) -> None:
    """Refuse nodes as values of parameters.

    Raises
    ------
    TypeError
        Naming the parameter and the node.
    """
    for name, value in values.items():
        found = find_node(value)
        if found is not None:
            path, node = found
            where = f", at {name}{path}" if path else ""
            raise TypeError(
                f"The value of parameter {name!r} is or holds the node {node!r}{where}; it has to "
                "be data, which a trial begins with. Give the step the node in place of the "
                f"parameter, or compute it first: {name}=node.compute(). A default that is made of "
                "other parameters is declared with @ex.parameter."
            )


class _CurrentValue:
    """Reads a parameter's value when it is called, or when it leaves the process."""

    def __init__(self, parameters: Parameters, name: str) -> None:
        self._parameters = parameters
        self._name = name

    def __call__(self) -> Any:
        values = self._parameters.current({})
        if self._name not in values:
            raise undefined((self._name,))
        return revealed(values[self._name])

    def __reduce__(self) -> Any:
        values = self._parameters.current({})
        return _FixedValue, (self._name, values.get(self._name, NO_VALUE))


class _FixedValue:
    def __init__(self, name: str, value: Any) -> None:
        self._name = name
        self._value = value

    def __call__(self) -> Any:
        if self._value is NO_VALUE:
            raise undefined((self._name,))
        return revealed(self._value)


class Parameter(CheckedNode):
    """A named input of an experiment, made by :meth:`Experiment.parameter`.

    It is a :class:`dask.delayed.Delayed`: computing it gives the current value; in a trial's graph
    it stands for the value that the trial runs with.
    """

    __slots__ = ("_name", "_parameters")

    def __init__(self, parameters: Parameters, name: str, graph: HighLevelGraph) -> None:
        super().__init__(parameters.key(name), graph)  # type: ignore[no-untyped-call]  # dask's
        object.__setattr__(self, "_parameters", parameters)
        object.__setattr__(self, "_name", name)

    @classmethod
    def plain(cls, parameters: Parameters, name: str) -> Parameter:
        """Return the node of a parameter that is given a value."""
        key = parameters.key(name)
        task = Task(key, _CurrentValue(parameters, name))
        graph = HighLevelGraph.from_collections(key, {key: task}, dependencies=())
        return cls(parameters, name, graph)

    @classmethod
    def computed(
        cls, parameters: Parameters, name: str, function: Callable[..., Any],
        inputs: Mapping[str, Parameter], seed: int | None,
    ) -> Parameter:  # fmt: skip
        """Return the node of a parameter whose default is computed from others."""
        key = parameters.key(name)
        references: list[Any] = [TaskRef(node.key) for node in inputs.values()]
        task = Task(key, run_parameter, TaskRef(TRIAL), name, UserFunction(function), seed,
                    tuple(inputs), *references)  # fmt: skip
        nodes: list[Any] = [*inputs.values(), no_trial()]
        graph = HighLevelGraph.from_collections(key, {key: task}, dependencies=nodes)
        return cls(parameters, name, graph)

    def __hash__(self) -> int:
        # Two nodes of one parameter can stand in a set, though == makes a node of them.
        return object.__hash__(self)

    @property
    def name(self) -> str:
        """The parameter's name."""
        return str(self._name)

    def _state(self) -> str:
        values = self._parameters.current({})
        if self._name in values:
            return shorten(plain_repr(values[self._name]), 60)
        return "computed in each trial" if self._parameters.is_computed(self._name) else "no value"

    def __dir__(self) -> list[str]:
        return [name for name in dir(type(self)) if name not in ("plain", "computed")]

    def __repr__(self) -> str:
        return f"Parameter({self._name!r}: {self._state()})"

    def _repr_html_(self) -> str:
        return html_table(["Parameter", "Value"], [[self._name, self._state()]])
