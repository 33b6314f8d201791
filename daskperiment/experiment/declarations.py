"""Declaring: parameters, steps and results, and the values that parameters have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from daskperiment.experiment.base import ExperimentBase, explained_methods
from daskperiment.no_value import NO_VALUE

if TYPE_CHECKING:
    from daskperiment.graph.keywords import CheckedNode
    from daskperiment.graph.step import StepCall, StepFunction
    from daskperiment.parameters import Parameter
    from daskperiment.result import Result

__all__ = ["Declarations", "ResultDecorator", "StepDecorator"]

P = ParamSpec("P")
T = TypeVar("T")


class StepDecorator(Protocol):
    """What ``@ex()`` and ``@ex.persist()`` decorate a function with."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> StepFunction[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> StepFunction[P, T]: ...


class ResultDecorator(Protocol):
    """What ``@ex.result()`` decorates a function with."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> StepFunction[P, Result[T]]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> StepFunction[P, Result[T]]: ...


@explained_methods
class Declarations(ExperimentBase):
    """The methods that declare what an experiment consists of."""

    def parameter(
        self, name: str | Callable[..., Any], default: Any = NO_VALUE, secret: bool = False
    ) -> Parameter:
        """Declare a parameter.

        Parameters
        ----------
        name : str or callable
            The parameter's name. Or, as a decorator, a function: the parameter has its name, and
            a default computed in each trial from the parameters that its arguments name, unless
            it was set.
        default : object, optional
            The value while none is set; None is a value.
        secret : bool
            Whether the value, such as a password, is used and compared only: no record, text or
            message has it. What is computed from a secret parameter by functions that are no
            steps is secret, too. What a step returns is not.

        Returns
        -------
        Parameter
            A node that stands for the value.

        Raises
        ------
        ParameterUndeclaredError
            If a function's argument names no parameter.
        """
        from daskperiment.parameters import Parameter

        if not isinstance(secret, bool):
            raise TypeError(f"secret is {secret!r}; expected True or False")
        if callable(name):
            return self._computed_parameter(name, secret)
        self._parameters.declare(name, default, secret)
        self._nodes[name] = Parameter.plain(self._parameters, name)
        return self._nodes[name]

    def file(self, source: Any) -> CheckedNode:
        """Declare files as an input: a node that stands for them.

        Parameters
        ----------
        source : str, pathlib.Path or node
            The path of a file or folder, a pattern such as ``"data/*.csv"``, a URL that fsspec
            opens such as ``"s3://bucket/key"``, or a node that gives one of these, such as a
            parameter.

        Returns
        -------
        dask.delayed.Delayed
            A step that takes it gets an absolute :class:`~pathlib.Path`, for a pattern a sorted
            list of them, and a URL as it is. What counts is the content: of a file with its own
            name, of a folder or pattern with the names within; where an object store tells a
            version or an etag, that. Moving or touching files re-runs nothing.

        Raises
        ------
        TypeError
            If `source` is none of these. Files that are not there are an error of the trial.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import daskperiment
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "numbers.txt").write_text("1 2 3")
        >>> ex = daskperiment.Experiment("reading", backend=folder / "store")
        >>> @ex.persist(reuse=True)
        ... def read(path):
        ...     return [int(text) for text in path.read_text().split()]
        >>> @ex.result
        ... def total(numbers):
        ...     return sum(numbers)
        >>> s = total(read(ex.file(folder / "numbers.txt")))
        >>> s.compute()
        6
        >>> _ = (folder / "numbers.txt").write_text("4 5 6")
        >>> s.compute()
        15
        """
        from daskperiment.graph.step import file_node

        return file_node(source)

    def _computed_parameter(self, function: Callable[..., Any], secret: bool) -> Parameter:
        from daskperiment.parameters import Parameter

        name, arguments = function.__name__, inspect.signature(function).parameters
        # An argument with a default may name something else than a parameter.
        wanted = [n for n, a in arguments.items() if n in self._nodes or a.default is a.empty]
        self._parameters.declare_computed(name, tuple(wanted), secret)
        inputs = {argument: self._nodes[argument] for argument in wanted}
        self._nodes[name] = Parameter.computed(self._parameters, name, function, inputs, self.seed)
        return self._nodes[name]

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], *, nout: int | None = None
    ) -> StepFunction[P, T]: ...  # fmt: skip
    @overload
    def __call__(
        self, function: Callable[P, T], *, nout: int | None = None
    ) -> StepFunction[P, T]: ...  # fmt: skip
    @overload
    def __call__(
        self, function: None = None, *, nout: int | None = None
    ) -> StepDecorator: ...  # fmt: skip

    def __call__(
        self, function: Callable[..., Any] | None = None, *, nout: int | None = None
    ) -> Any:
        """Decorate a function: it becomes a step, and calling it makes a node of the graph.

        Parameters
        ----------
        function : callable, optional
            Without it, a decorator is returned, so that ``@ex()`` works.
        nout : int, optional
            Number of outputs, if the function returns that many: the node can be unpacked.

        Returns
        -------
        callable
            Its ``__wrapped__`` is the function itself.
        """
        from daskperiment.graph.step import Step

        return self._decorate(function, Step, persist=False, nout=nout)

    @overload
    def persist(
        self, function: Callable[P, Coroutine[Any, Any, T]], *, nout: int | None = None,
        reuse: bool | None = None, version: str | None = None, ignore: Sequence[str] = (),
        format: str | None = None,
    ) -> StepFunction[P, T]: ...  # fmt: skip
    @overload
    def persist(
        self, function: Callable[P, T], *, nout: int | None = None,
        reuse: bool | None = None, version: str | None = None, ignore: Sequence[str] = (),
        format: str | None = None,
    ) -> StepFunction[P, T]: ...  # fmt: skip
    @overload
    def persist(
        self, function: None = None, *, nout: int | None = None,
        reuse: bool | None = None, version: str | None = None, ignore: Sequence[str] = (),
        format: str | None = None,
    ) -> StepDecorator: ...  # fmt: skip

    def persist(
        self, function: Callable[..., Any] | None = None, *, nout: int | None = None,
        reuse: bool | None = None, version: str | None = None, ignore: Sequence[str] = (),
        format: str | None = None,
    ) -> Any:  # fmt: skip
        """Decorate a function: a step whose output is kept in each trial.

        Parameters
        ----------
        function : callable, optional
            Without it, a decorator is returned.
        nout : int, optional
            Number of outputs.
        reuse : bool, optional
            True: the output of an earlier trial is taken where nothing that determines it changed.
            False: never. None: as the experiment says.
        version : str, optional
            Counts as part of the code. Give another one where the step depends on something that
            its code does not show, such as a file that was replaced.
        ignore : sequence of str
            Names of arguments that the output does not depend on, such as ``n_jobs`` or
            ``verbose``: with other values the output is reused all the same.
        format : str, optional
            Name of the format in which the output is kept, such as ``"parquet"`` or ``"pickle"``.
            Without it, an open format that gives it back exactly and is as fast as pickle, and
            pickle where there is none. An output that the format does not take is not kept.

        Raises
        ------
        UnknownFormatError
            If no format has that name.

        See Also
        --------
        get_persisted : Get such an output.
        explain : What would be reused, and what not and why.
        """
        from daskperiment.graph.step import Step

        return self._decorate(
            function, Step, persist=True, nout=nout, reuse=reuse, version=version, ignore=ignore,
            format=format,
        )  # fmt: skip

    @overload
    def result(
        self, function: Callable[P, Coroutine[Any, Any, T]], *, persist: bool = False,
        nout: int | None = None, reuse: bool | None = None, version: str | None = None,
        ignore: Sequence[str] = (), format: str | None = None,
    ) -> StepFunction[P, Result[T]]: ...  # fmt: skip
    @overload
    def result(
        self, function: Callable[P, T], *, persist: bool = False,
        nout: int | None = None, reuse: bool | None = None, version: str | None = None,
        ignore: Sequence[str] = (), format: str | None = None,
    ) -> StepFunction[P, Result[T]]: ...  # fmt: skip
    @overload
    def result(
        self, function: None = None, *, persist: bool = False,
        nout: int | None = None, reuse: bool | None = None, version: str | None = None,
        ignore: Sequence[str] = (), format: str | None = None,
    ) -> ResultDecorator: ...  # fmt: skip

    def result(
        self, function: Callable[..., Any] | None = None, *, persist: bool = False,
        nout: int | None = None, reuse: bool | None = None, version: str | None = None,
        ignore: Sequence[str] = (), format: str | None = None,
    ) -> Any:  # fmt: skip
        """Decorate a function: calling it makes a :class:`Result`, and computing that is a trial.

        Parameters
        ----------
        function : callable, optional
            Without it, a decorator is returned.
        persist : bool
            Whether the output is kept for :meth:`get_persisted` too.
        nout : int, optional
            Number of outputs.
        reuse, version, ignore, format
            As for :meth:`persist`; they need `persist`.
        """
        from daskperiment.result import Result

        return self._decorate(
            function, partial(Result, self._planner), persist=persist, nout=nout, reuse=reuse,
            version=version, ignore=ignore, format=format,
        )  # fmt: skip

    def _decorate(self, function: Any, wrap: Callable[[StepCall], Any], **traits: Any) -> Any:
        if function is None:
            return lambda function: self._decorate(function, wrap, **traits)
        from daskperiment.graph.step import StepFunction

        step: StepFunction = StepFunction(function, wrap, seed=self.seed, **traits)
        self._steps[step.name] = step
        return step

    def set_parameters(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Set values of parameters, for all trials that begin from now on.

        Parameters
        ----------
        values : mapping of str to object, optional
            Names and values of parameters whose names are no identifiers, as the leaves of a
            configuration: ``{"opt.lr": 0.1}``.
        **named
            Parameter names and values.

        Raises
        ------
        ParameterUndeclaredError
            If a name is not declared. Nothing is set then.
        TypeError
            If a value is a node, which is no data before it is computed. Nothing is set then.
        ConfigurationError
            If a value does not fit the configuration that it is a leaf of. Nothing is set then.
        """
        from daskperiment.parameters import all_named

        self._parameters.set(all_named("set_parameters", values, named))

    def get_parameters(self, trial_id: int | None = None) -> dict[str, Any]:
        """Return parameter values.

        Parameters
        ----------
        trial_id : int, optional
            Of that trial. Without it, the current values of those that have one. Secrets are not
            shown: compute the parameter to have its value.
        """
        if trial_id is None:
            return self._parameters.current({})
        from daskperiment.history.tables import get_parameters

        return get_parameters(self._store_to_read(), trial_id)

    def check_executable(self) -> None:
        """Check that every parameter has a value.

        Raises
        ------
        ParameterUndefinedError
            Naming every parameter that has none.
        """
        parameters = self._parameters
        if missing := parameters.missing(parameters.names, parameters.current({})):
            from daskperiment.execution.lifecycle import undefined

            raise undefined(missing)
