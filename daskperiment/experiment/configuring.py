"""Configurations as an experiment has them: nodes for a tree, its sections and its leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from daskperiment.configuration import ConfigSection, ConfigTree, Leaf, build
from daskperiment.formatting import html_table, nearest, plain_repr, shorten
from daskperiment.graph.dask_tasks import Task, TaskRef
from daskperiment.graph.keywords import CheckedNode
from daskperiment.parameters import Parameter, Parameters

__all__ = ["Configuration"]


class Configuration(CheckedNode):
    """A tree of parameters, or a section of one, made by :meth:`Experiment.config`.

    It is a :class:`dask.delayed.Delayed` that stands for the object of its leaves' values.
    """

    __slots__ = ("_nodes", "_parameters", "_path", "_tree")

    def __init__(
        self, parameters: Parameters, tree: ConfigTree, nodes: Mapping[str, Parameter], path: str
    ) -> None:
        names = [name for name in tree.leaves if _within(name, path)]
        part: Any = tree.part(path)
        section = part if isinstance(part, ConfigSection) else ConfigSection(dict, {path: part})
        key = f"configuration-{tokenize(parameters.key(path), sorted(names))}"
        taken: list[Any] = [nodes[name] for name in names]
        inputs = [TaskRef(node.key) for node in taken]
        task = Task(key, _make, section, path, tuple(names), *inputs)
        graph = HighLevelGraph.from_collections(key, {key: task}, dependencies=taken)
        super().__init__(key, graph)  # type: ignore[no-untyped-call]  # dask's
        for name, value in {
            "_parameters": parameters, "_tree": tree, "_path": path, "_nodes": dict(nodes)
        }.items():  # fmt: skip
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __getitem__(self, name: str) -> Any:
        path = f"{self._path}.{name}" if self._path else name
        part = self._tree.part(path) if isinstance(name, str) else None
        if part is None:
            where = f"at {self._path!r}" if self._path else "at its top"
            hint = nearest(str(name), self.keys()) or f"; there are {', '.join(self.keys())}"
            raise KeyError(f"The configuration has no {name!r} {where}{hint}")
        if isinstance(part, Leaf):
            return self._nodes[path]
        return Configuration(self._parameters, self._tree, self._nodes, path)

    def keys(self) -> Sequence[str]:
        """Return the names of its parts, so that ``**cfg`` gives them to a step."""
        start = len(self._path) + 1 if self._path else 0
        names = [name[start:].partition(".")[0] for name in self._tree.leaves
                 if _within(name, self._path) and name != self._path]  # fmt: skip
        return list(dict.fromkeys(names))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __dir__(self) -> list[str]:
        return [*self.keys(), "compute", "keys", "persist", "visualize"]

    def _rows(self) -> list[list[str]]:
        values = self._parameters.current({})
        return [[name, shorten(plain_repr(values[name]), 60) if name in values else "no value"]
                for name in self._tree.leaves if _within(name, self._path)]  # fmt: skip

    def __repr__(self) -> str:
        listed = "".join(f"\n  {name}: {value}" for name, value in self._rows())
        return f"Configuration({self._path!r}){listed}"

    def _repr_html_(self) -> str:
        return html_table(["Parameter", "Value"], self._rows())


def _within(name: str, path: str) -> bool:
    return not path or name == path or name.startswith(f"{path}.")


def _make(section: ConfigSection, path: str, names: tuple[str, ...], *values: Any) -> Any:
    """Return the object of a section: the task of a configuration's node."""
    given = dict(zip(names, values, strict=True))
    if path in given:  # a group of variants
        return build(section, given)[path]
    return build(section, given, f"{path}." if path else "")
