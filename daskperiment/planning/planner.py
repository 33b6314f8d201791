"""From what is asked of a trial to its plan: what it begins with and what it reuses."""

from __future__ import annotations

import math
import platform
import threading
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import dask
from dask.utils import parse_timedelta

from daskperiment.capture.code import CodeCapture
from daskperiment.capture.code_changes import unknown_constants
from daskperiment.capture.environment import EnvironmentCapture
from daskperiment.capture.secret_key import secret_parameters
from daskperiment.client.progress import ProgressReporter
from daskperiment.client.shipping import LocalRequest, prepare
from daskperiment.cluster import clients
from daskperiment.codec import Blob, content_hash, dump_record, signing_key_in_force
from daskperiment.errors import StoreError, StoreUnavailableError
from daskperiment.execution.calls import SCALARS
from daskperiment.execution.lifecycle import undefined
from daskperiment.execution.trial import Resumption, TrialRequest, TrialSetup
from daskperiment.graph.template import Key, Template
from daskperiment.parameters import Parameters
from daskperiment.planning.change_warner import ChangeWarner
from daskperiment.planning.forecasts import StepForecast, forecast_steps
from daskperiment.planning.left_out import SecretSources
from daskperiment.planning.past_trials import TrialMakeup, contents_with_code
from daskperiment.planning.reuse_planner import ReusePlanner
from daskperiment.planning.trial_defaults import TrialDefaults
from daskperiment.recording.patience import patiently
from daskperiment.records import Argument, Code, Environment, Files, Graph
from daskperiment.reuse.cache_entries import Hit
from daskperiment.reuse.cache_keys import keys_without_reuse
from daskperiment.reuse.reuse_plan import ReusePlan
from daskperiment.seeds import fresh_seed
from daskperiment.store.liveness import current_directory, current_origin
from daskperiment.store.protocol import Store

__all__ = ["Planner", "TrialOptions", "TrialPlan", "check_reuse", "patience"]

_PATIENCE = "daskperiment.patience"
_LOGS = "daskperiment.logs"
_SYSTEM = "daskperiment.system-metrics"
_PAUSE = 5.0
"""Seconds between two looks at what a trial uses, where nothing is configured."""
_IN_SWEEPS = 30.0
"""Seconds that the trials of a sweep wait where nothing is configured: one must not end all."""

T = TypeVar("T", Code, Environment)


@dataclass(frozen=True)
class TrialOptions:
    """What whoever computes a result asks of the trial."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Parameter values that stand in for those of the experiment."""
    seed: int | None = None
    """Without it, the experiment's; without that, a fresh one."""
    reuse: bool | None = None
    """Whether outputs of earlier trials may be taken; None leaves it to experiment and steps."""
    sweep: str | None = None
    """Id of the sweep that the trial belongs to."""
    source: int | None = None
    """The trial that this one reproduces."""
    resumption: Resumption | None = None
    """What it goes on from."""
    progress: ProgressReporter | None = None
    """Told of each step, if somebody watches."""

    def refined(self, **asked: Any) -> TrialOptions:
        """Return options that also ask for what is given here and not None."""
        asked = {name: value for name, value in asked.items() if value is not None}
        return replace(self, **asked) if asked else self


def check_reuse(reuse: Any) -> bool | None:
    """Refuse what does not say whether to reuse outputs.

    Raises
    ------
    TypeError
        If it is neither True, False nor None.
    """
    if reuse is None or isinstance(reuse, bool):
        return reuse
    raise TypeError(f"reuse is {reuse!r}; expected True, False or None")


def patience(sweep: str | None = None) -> float:
    """Return how many seconds a trial waits, when it begins, for a store that is away.

    It is the Dask configuration value ``daskperiment.patience``; where there is none, trials of a
    sweep wait and others do not.
    """
    given = dask.config.get(_PATIENCE, None)
    if given is None:
        return 0.0 if sweep is None else _IN_SWEEPS
    seconds = _seconds(given)
    if not 0 <= seconds < math.inf:
        raise ValueError(
            f"daskperiment.patience is {given!r}; expected a time from 0, such as 30 or '30s'"
        )
    return seconds


def _seconds(given: Any) -> float:
    try:
        return math.nan if isinstance(given, bool) else float(parse_timedelta(given))
    except (ValueError, TypeError, KeyError, AttributeError):
        return math.nan


@dataclass(frozen=True)
class TrialPlan:
    """A trial before it begins: what its first task asks for, and how its graph is made."""

    token: str
    source: LocalRequest
    reuse: ReusePlan | None
    """What it reuses and shares; None if it does neither, so that the graph is the template's."""


class _Snapshot(Generic[T]):
    """What a capture finds at the moment when it is asked, with the object that keeps it.

    Parameters
    ----------
    capture : CodeCapture or EnvironmentCapture
        Returns the same record while nothing changes.
    *arguments
        Of its method ``capture``.
    """

    def __init__(self, capture: Any, *arguments: Any) -> None:
        self._capture = capture
        self._arguments = arguments
        self._last: tuple[T, Blob] | None = None
        self._lock = threading.Lock()

    def now(self) -> tuple[T, Blob]:
        """Return the record as it is now, and the object that keeps it."""
        with self._lock:
            record = self._capture.capture(*self._arguments)
            if self._last is None or self._last[0] is not record:
                self._last = record, dump_record(record)
            return self._last


class _Setups:
    """What is worked out once for each template, which it does not keep alive."""

    def __init__(self, template: Template) -> None:
        self.code: _Snapshot[Code] = _Snapshot(CodeCapture(), template.functions)
        self._graph: tuple[Graph, Blob] | None = None
        self._arguments: dict[str, dict[str, Argument]] = {}
        self._parameters = template.reaching
        self._setup: TrialSetup | None = None
        self._said: tuple[Any, Any] | None = None
        """What was configured for it of logs and of looks at the machine."""

    def graph(self, template: Template) -> tuple[Graph, Blob]:
        """Return the template's graph of this moment, and the object that keeps it."""
        arguments = template.key_specs.arguments() if template.persisting else {}
        if self._graph is None or arguments != self._arguments:
            graph = template.graph_with(arguments)
            self._graph, self._arguments = (graph, dump_record(graph)), arguments
        return self._graph

    def setup(
        self, store: Store, result: str, code: Code, code_blob: Blob, environment: Blob,
        graph: Blob, observers: tuple[Callable[[Any], None], ...],
    ) -> TrialSetup:  # fmt: skip
        """Return what coming trials have in common: the same object while nothing changes."""
        last, origin, key, directory = (
            self._setup,
            current_origin(),
            signing_key_in_force(),
            current_directory(),
        )
        said = logs, looks = dask.config.get(_LOGS, True), dask.config.get(_SYSTEM, True)
        now = (
            code_blob.digest, environment.digest, graph.digest, origin, key, directory, said,
            observers,
        )  # fmt: skip
        # One object for many trials: it is pickled once, and a worker unpickles it once.
        if last is None or now != (
            last.code.digest, last.environment.digest, last.graph.digest, last.origin,
            last.signing_key, last.directory, self._said, last.observers,
        ):  # fmt: skip
            last = self._setup = TrialSetup(
                store, result, code_blob, environment, graph,
                codes={step: each.fingerprint for step, each in code.steps.items()},
                origin=origin, signing_key=key, parameters=self._parameters,
                doubts={step: _doubt(unknown) for step, each in code.steps.items()
                        if (unknown := unknown_constants(each))},
                code_hash=None if key is None else content_hash(code_blob.parts),
                hashes={} if key is None else {
                    "environment": content_hash(environment.parts),
                    "graph": content_hash(graph.parts),
                },
                directory=directory, logs=_checked_switch(_LOGS, logs), observers=observers,
                looked_at=_checked_pause(_SYSTEM, looks),
            )  # fmt: skip
            self._said = said
        return last


def _checked_switch(name: str, given: Any) -> bool:
    """Refuse what does not say whether something is switched on."""
    if isinstance(given, bool):
        return given
    raise ValueError(f"{name} is {given!r}; expected True or False")


def _checked_pause(name: str, given: Any) -> float:
    """Return seconds: 0 where something is switched off; refuse what says neither."""
    if isinstance(given, bool):
        return _PAUSE if given else 0.0
    if isinstance(given, int | float) and given >= 1:
        return float(given)
    raise ValueError(f"{name} is {given!r}; expected True, False or a number of seconds from 1")


class _Passed(NamedTuple):
    """The latest trial that reused nothing, as long as none that may came after it."""

    template: Template
    request: TrialRequest
    code: Code
    graph: Graph
    number: int
    """How many such trials there were."""
    alone: bool
    """Whether all of them were of one template."""


def _makeup(
    template: Template, request: TrialRequest, code: Code, graph: Graph,
    files: Mapping[str, dict[str, dict[str, str]]] | None = None,
) -> TrialMakeup:  # fmt: skip
    files = template.key_specs.files(request.values) if files is None else files
    objects = {name: value for name, value in request.values.items() if type(value) not in SCALARS}
    contents = contents_with_code(objects) if objects else {}
    return TrialMakeup(request.values, code, graph, platform.python_version(), files, contents)


def _doubt(unknown: Sequence[str]) -> str:
    return f"its code reads {', '.join(unknown)}, which has no fingerprint"


class Planner:
    """Plans one experiment's trials.

    Parameters
    ----------
    store : Store
        Where trials are recorded.
    parameters : Parameters
        The experiment's parameters.
    defaults : TrialDefaults
        What holds where neither step nor options say anything.

    Attributes
    ----------
    observers : tuple of callable
        Called with each step of its trials before the step's function is: they can be pickled.
    """

    def __init__(self, store: Store, parameters: Parameters, defaults: TrialDefaults) -> None:
        self.store = store
        self.parameters = parameters
        self.defaults = defaults
        self.observers: tuple[Callable[[Any], None], ...] = ()
        self._environment: _Snapshot[Environment] = _Snapshot(EnvironmentCapture())
        self._setups: weakref.WeakKeyDictionary[Template, _Setups] = weakref.WeakKeyDictionary()
        self._changes = ChangeWarner(store)
        self._sources = SecretSources()
        self._checked: TrialSetup | None = None
        self._reuse_planner = ReusePlanner(store)
        self._passed: _Passed | None = None

    def __reduce__(self) -> Any:
        state = {"observers": self.observers}
        return Planner, (self.store, self.parameters, self.defaults), state

    def plan(
        self, template: Template, options: TrialOptions, later: bool = False,
        watched: bool = False,
    ) -> TrialPlan:  # fmt: skip
        """Return the plan of a new trial.

        Parameters
        ----------
        template : Template
        options : TrialOptions
        later : bool
            Whether it is computed some time later, or never: then parameter values, code and
            environment are those of the moment when it begins, unless its graph depends on them.
        watched : bool
            As for :class:`~daskperiment.client.shipping.LocalRequest`.
        """
        token = uuid.uuid4().hex
        # Where nothing is reused the graph is the same whatever the values are.
        if later and not template.reusable(options.reuse, self.defaults.reuse):
            source = LocalRequest(lambda: self._request(template, token, options)[0])
            return TrialPlan(token, source, None)
        request, reuse = self._request(template, token, options)
        if clients() and not request.missing:
            prepare(self.store, request.setup.blobs, request.patience)
        in_flight = reuse.in_flight if reuse is not None else frozenset()
        return TrialPlan(token, LocalRequest(lambda: request, in_flight, watched), reuse)

    def _request(
        self, template: Template, token: str, options: TrialOptions
    ) -> tuple[TrialRequest, ReusePlan | None]:
        request, code, environment, graph = self._snapshot(template, token, options)
        # A setup is the same object as long as nothing changes. A trial that is run again is
        # compared with its first run.
        resumption = options.resumption
        if request.setup is not self._checked and options.source is None and resumption is None:
            patiently(partial(self._changes.check, code, environment), request.patience)
            self._checked = request.setup
        if request.missing or not (template.persisting or template.takes_files):
            return request, None
        if files := template.key_specs.files(request.values):
            request = replace(request, files=dump_record(Files(files)))
        if not template.persisting:
            return request, None
        reusable = (
            [] if options.reuse is False else template.reusable(options.reuse, self.defaults.reuse)
        )
        outputs: Mapping[str, Hit] = {} if resumption is None else resumption.outputs
        if reusable or outputs:
            # A store that is away offers nothing; the trial's first task says that it is away.
            try:
                self._note_passed()
                makeup = _makeup(template, request, code, graph, files)
                plan = self._plan_of_reuse(template, reusable, request, makeup, outputs)
                return request.with_step_keys(plan.step_keys), plan
            except StoreUnavailableError:
                request = replace(request, patience=0.0)  # it was waited for as long as that
            except StoreError:
                pass
        specs = template.key_specs
        cache_keys = specs.cache_keys(request.values, code.steps, request.seed)
        last = self._passed
        number, alone = (last.number, last.alone) if last else (0, True)
        alone = alone and (last is None or last.template is template)
        self._passed = _Passed(template, request, code, graph, number + 1, alone)
        return request.with_step_keys(keys_without_reuse(specs.specs, cache_keys)), None

    def _plan_of_reuse(
        self, template: Template, reusable: list[Key], request: TrialRequest,
        makeup: TrialMakeup, outputs: Mapping[str, Hit],
    ) -> ReusePlan:  # fmt: skip
        try:
            return self._reuse_planner.plan(template, reusable, request, makeup, outputs)
        except StoreUnavailableError:
            return patiently(
                lambda: self._reuse_planner.plan(template, reusable, request, makeup, outputs),
                request.patience,
            )

    def _snapshot(
        self, template: Template, token: str, options: TrialOptions
    ) -> tuple[TrialRequest, Code, Environment, Graph]:
        """Return what a trial begins with if it begins at this moment."""
        values = self.parameters.current(options.values)
        setups = self._setups_of(template)
        code, code_blob = setups.code.now()
        environment, environment_blob = self._environment.now()
        if self.parameters.secrets:
            captured = (code, code_blob), (environment, environment_blob)
            (code, code_blob), (environment, environment_blob) = self._sources.left_out(
                captured, values
            )
        graph, graph_blob = setups.graph(template)
        chosen = self.defaults.seed if options.seed is None else options.seed
        # Most trials wait for nothing: they are spared the call.
        waits = options.sweep is not None or dask.config.get(_PATIENCE, None) is not None
        request = TrialRequest(
            setups.setup(
                self.store, template.result, code, code_blob, environment_blob, graph_blob,
                self.observers,
            ),
            token,
            seed=fresh_seed() if chosen is None else chosen,
            values=values,
            missing=self.parameters.missing(
                template.parameters, values, template.inlined.values()
            ),
            sweep=options.sweep, source=options.source,
            resumption=None if options.resumption is None else options.resumption.for_steps,
            patience=patience(options.sweep) if waits else 0.0,
            progress=None if options.progress is None else options.progress.id,
            secrets=secret_parameters(secrets) if (secrets := self.parameters.secrets) else None,
        )  # fmt: skip
        return request, code, environment, graph

    def forecasts(
        self, template: Template, options: TrialOptions
    ) -> tuple[list[StepForecast], bool]:
        """Return what would become of each step, were the trial computed now.

        And whether any of them may reuse an output; if not, it is told for ``reuse=True``.

        Raises
        ------
        ParameterUndefinedError
            If a parameter has no value.
        StoreError
            If the store cannot be read.
        """
        request, code, _, graph = self._snapshot(template, "", options)
        if request.missing:
            raise undefined(request.missing)
        allowed = template.reusable(options.reuse, self.defaults.reuse)
        reusable = allowed or template.reusable(True, True)
        makeup = _makeup(template, request, code, graph)
        self._note_passed()
        forecasts = forecast_steps(
            self._reuse_planner, self.store, template, reusable, request, makeup
        )
        return forecasts, bool(allowed)

    def _note_passed(self) -> None:
        """Note the latest trial that reused nothing: what comes is held against it."""
        if self._passed is not None:
            template, request, code, graph, number, alone = self._passed
            makeup = _makeup(template, request, code, graph)
            self._reuse_planner.note(template, makeup, number if alone else None)
            self._passed = None

    def _setups_of(self, template: Template) -> _Setups:
        setups = self._setups.get(template)
        if setups is None:
            setups = self._setups[template] = _Setups(template)
        return setups

    def before_submission(self, template: Template, options: TrialOptions) -> None:
        """Warn, in the process of the user, of what changed since the previous trial."""
        setups = self._setups_of(template)
        captured = setups.code.now(), self._environment.now()
        if self.parameters.secrets:
            values = self.parameters.current(options.values)
            captured = self._sources.left_out(captured, values)
        (code, code_blob), (environment, environment_blob) = captured
        waits = patience(options.sweep)
        if clients():
            blobs = code_blob, environment_blob, setups.graph(template)[1]
            prepare(self.store, blobs, waits)
        patiently(partial(self._changes.check, code, environment), waits)

    def code(self, functions: Mapping[str, Callable[..., Any]]) -> Code:
        """Return the code of these steps, as it is now."""
        return CodeCapture().capture(functions)

    def environment(self) -> Environment:
        """Return the environment, as it is now."""
        return self._environment.now()[0]

    def forget(self) -> None:
        """Remember no records: they were deleted."""
        self._changes, self._checked = ChangeWarner(self.store), None
        self._reuse_planner, self._passed = ReusePlanner(self.store), None
