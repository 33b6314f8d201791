"""Declaring configurations: trees of parameters with dotted names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskperiment.experiment.base import ExperimentBase, explained_methods
from daskperiment.formatting import shorten

if TYPE_CHECKING:
    from daskperiment.experiment.configuring import Configuration

__all__ = ["ConfigurationMethods"]


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
        from daskperiment.configuration import ConfigTree
        from daskperiment.experiment.configuring import Configuration
        from daskperiment.parameters import Parameter

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
