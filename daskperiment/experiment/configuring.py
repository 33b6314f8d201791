"""Configurations as an experiment has them: nodes for a tree, its sections and its leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from daskperiment.configuration import ConfigSection, ConfigTree, Leaf, build
from daskperiment.experiment.base import ExperimentBase, explained_methods
from daskperiment.formatting import html_table, nearest, plain_repr, shorten
from daskperiment.graph.dask_tasks import Task, TaskRef
from daskperiment.graph.keywords import CheckedNode
from daskperiment.parameters import Parameter, Parameters

__all__ = ["Configuration", "ConfigurationMethods"]


@explained_methods
class ConfigurationMethods(ExperimentBase):
    """The methods that declare trees of parameters."""

    def config(self, tree: Any, variants: Mapping[str, Any] | None = None) -> Configuration:
        """Declare a tree of parameters, with dotted names.

        Parameters
        ----------
        tree : dict, dataclass, attrs or pydantic model, OmegaConf configuration, str or Path
            Given as an object or as a class with defaults; text is the path of a YAML, TOML or
            JSON file. What has names in it is a section; all else is a leaf, lists included, and
            dicts where a class declares one.
        variants : mapping of str to mapping, optional
            Path of a section -> name -> what the section may be. The name is the value of the
            parameter that has the section's path; the first one stands where the tree names none.

        Returns
        -------
        Configuration
            A node: as the argument of a step it stands for the object, made again of the values
            of all leaves. Its sections are such nodes, too, and its leaves are parameters:
            ``cfg.opt.lr`` and ``cfg["opt"]["lr"]`` are the parameter ``opt.lr``.

        Raises
        ------
        ConfigurationError
            If a value does not fit its annotation, or a file cannot be read.
        TypeError
            If `tree` is none.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import daskperiment
        >>> ex = daskperiment.Experiment("configured", backend=pathlib.Path(tempfile.mkdtemp()))
        >>> cfg = ex.config({"opt": {"lr": 0.1, "name": "adam"}, "epochs": 2})
        >>> @ex.result
        ... def train(lr, cfg):
        ...     return lr, cfg["opt"]["name"]
        >>> s = train(cfg.opt.lr, cfg)
        >>> s.bind({"opt.lr": 0.5}).compute()
        (0.5, 'adam')
        >>> ex.get_history()[["opt.lr", "opt.name", "epochs"]]
                  opt.lr opt.name  epochs
        Trial ID
        1            0.5     adam       2
        """
        read = ConfigTree(tree, variants)
        self._parameters.declare_tree(read)
        for name in read.leaves:
            self._nodes[name] = Parameter.plain(self._parameters, name)
        return Configuration(self._parameters, read, self._nodes, "")

    def parameters_from(self, namespace: Any) -> Configuration:
        """Declare the parameters that a program's own command line gave.

        Parameters
        ----------
        namespace : argparse.Namespace or OmegaConf configuration
            What ``parser.parse_args()`` returns, or what Hydra gives to ``main``. Each value is a
            parameter with its name.

        Returns
        -------
        Configuration
            As from :meth:`config`: ``args.lr`` is the parameter ``lr``, and ``args`` itself, given
            to a step, is a namespace of this trial's values.

        Raises
        ------
        TypeError
            If `namespace` is none.

        Examples
        --------
        >>> import argparse, pathlib, tempfile
        >>> import daskperiment
        >>> parser = argparse.ArgumentParser()
        >>> _ = parser.add_argument("--lr", type=float, default=0.1)
        >>> ex = daskperiment.Experiment("parsed", backend=pathlib.Path(tempfile.mkdtemp()))
        >>> args = ex.parameters_from(parser.parse_args(["--lr", "0.5"]))
        >>> @ex.result
        ... def train(args):
        ...     return args.lr
        >>> train(args).compute()
        0.5
        >>> ex.get_parameters(1)
        {'lr': 0.5}
        """
        if isinstance(namespace, (str, Path)):
            raise TypeError(
                f"parameters_from() got {shorten(repr(namespace), 60)}; expected what "
                "parse_args() returns, or Hydra's configuration."
            )
        return self.config(namespace)


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
