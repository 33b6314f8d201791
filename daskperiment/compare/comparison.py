"""The comparison of two trials, made of what a store holds about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import msgspec

from daskperiment.capture.code_changes import changed_functions, diff_functions
from daskperiment.capture.code_inside import content_of
from daskperiment.capture.environment import changes
from daskperiment.codec import is_object
from daskperiment.compare.alignment import aligned
from daskperiment.compare.causes import changed_entries, compare_steps
from daskperiment.compare.evidence import Evidence, collect, comparable, with_origins
from daskperiment.compare.parts import ABSENT, Differences, Pair
from daskperiment.compare.report import as_html, as_text
from daskperiment.compare.wording import explanation
from daskperiment.history.stored_values import StoredObject, viewed
from daskperiment.history.trial_records import RecordedTrial, trial_or_raise
from daskperiment.records import Code, Environment, Function
from daskperiment.secret_values import may_differ
from daskperiment.store.protocol import Store

__all__ = ["Comparison", "compare"]

_PACKAGES = "requirements"
_GIT = "git"
_UNLISTED: dict[str, dict[str, str]] = {_GIT: {}}
"""What is not listed among the rest of the environment: it has a table of its own."""
_UNREACHING: dict[str, dict[str, str]] = {_GIT: {}, "memory": {}}
"""What explains no step: its own code is compared as such, whatever the repository holds."""


@dataclass(frozen=True, repr=False)
class Comparison(Differences):
    """Two trials side by side: what differs, where it began and what explains it.

    Printed, it is a text that fits a terminal; in a notebook it shows as HTML. The attributes
    hold the same as data.

    Attributes
    ----------
    differs : bool
        Whether anything is known to differ, in what went in or in what came out.
    identical : bool
        Whether the results and the outputs of every step were checked and are equal. What could
        not be checked, such as a value without fingerprint, makes it False.
    unverified : tuple of str
        What could not be checked, a line each.
    explanation : str
        Where the trials part first and why, in a few sentences.
    first_difference : StepComparison or None
        The first step in graph order that ended otherwise, with the changes that reach it.
    """

    @property
    def explanation(self) -> str:
        """Where the trials part first and why, in a few sentences."""
        return explanation(self)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as dicts, lists and the plain values that the trials recorded.

        Two values side by side are a dict with the keys ``first`` and ``second``; a key is left
        out for a trial that does not have the value.
        """
        judged = {"differs": self.differs, "identical": self.identical}
        return {**judged, "explanation": self.explanation, **_plain(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, Pair):
        pair = {"first": value.first, "second": value.second}
        return {name: _plain(item) for name, item in pair.items() if item is not ABSENT}
    if isinstance(value, StoredObject):
        return {name: getattr(value, name) for name in ("type", "repr", "size", "reason")}
    if is_dataclass(value):
        return {field.name: _listed(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _listed(value: Any) -> Any:
    """Return our own tuples as lists; those among the recorded values stay what they are."""
    return list(map(_plain, value)) if type(value) is tuple else _plain(value)


def compare(store: Store, first: int, second: int) -> Comparison:
    """Return the comparison of two trials: differences read as changes from the first on.

    Nothing is unpickled. What is damaged or missing is left out and named in ``problems``.
    """
    trials = [trial_or_raise(store, each).spelled_out(store) for each in (first, second)]
    found = (with_origins(store, collect(store, trial)) for trial in trials)
    old, new = comparable(*aligned(*found))
    return _ComparisonBuilder(store, old, new).comparison()


class _ComparisonBuilder:
    """Builds a comparison of what a store holds about two trials."""

    def __init__(self, store: Store, old: Evidence, new: Evidence) -> None:
        self.store = store
        self.old, self.new = old, new
        self.trials = Pair(old.trial, new.trial)

    def comparison(self) -> Comparison:
        old, new = self.trials
        parameters, same_parameters = self._split(old.parameters, new.parameters)
        metrics, same_metrics = self._split(self.old.metrics, self.new.metrics)
        around = _environment_changes(self.old.environment, self.new.environment)
        return Comparison(
            first=old.trial,
            second=new.trial,
            statuses=Pair(old.status, new.status),
            targets=Pair(old.begun.result, new.begun.result),
            failures=self._each(_failure),
            results=self._each(self._result),
            same_result=self._same_result(),
            seeds=Pair(old.begun.seed, new.begun.seed),
            stochastic=self.old.stochastic or self.new.stochastic,
            parameters=parameters,
            same_parameters=same_parameters,
            metrics=metrics,
            same_metrics=same_metrics,
            steps=compare_steps(self.old, self.new, parameters, around.reaching),
            functions=_function_diffs(self.old.code, self.new.code),
            packages=around.packages,
            git=around.git,
            environment=around.environment,
            problems=tuple(
                dict.fromkeys(
                    [
                        *self.old.problems,
                        *self.new.problems,
                        *_untold_secrets(old.parameters, new.parameters),
                    ]
                )
            ),
            sources=Pair(old.begun.source, new.begun.source),
        )

    def _each(self, get: Callable[[RecordedTrial], Any]) -> Pair[Any]:
        return Pair(get(self.trials.first), get(self.trials.second))

    def _split(
        self, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> tuple[dict[str, Pair[Any]], dict[str, Any]]:
        """Return the recorded values that differ by name, and those that are the same."""
        identities = {name: _identities(old.get(name), new.get(name)) for name in {**old, **new}}
        first, second = ({k: identities[k][place] for k in d} for place, d in enumerate((old, new)))
        changed = changed_entries(first, second)
        unknown = {name for name in changed if _is_untold(old.get(name), new.get(name))}
        return (
            {name: Pair(self._view(old, name), self._view(new, name))
             for name in changed if name not in unknown},
            {name: self._view(old, name) for name in old if name not in changed},
        )  # fmt: skip

    def _view(self, forms: Mapping[str, Any], name: str) -> Any:
        return viewed(forms[name], self.store) if name in forms else ABSENT

    def _result(self, trial: RecordedTrial) -> Any:
        form = _result_form(trial)
        return form if form is ABSENT else viewed(form, self.store)

    def _same_result(self) -> bool | None:
        forms = self._each(_result_form)
        if ABSENT in forms:
            return forms.first is forms.second
        if not all(map(is_object, forms)):
            return _canonical(forms.first) == _canonical(forms.second)
        outputs = _result_output(self.old), _result_output(self.new)
        if None not in outputs:
            return outputs[0] == outputs[1]
        # Equal values may be pickled to other bytes, other values never to equal ones.
        first, second = (form.get("digest") for form in forms)
        return True if first is not None and first == second else None


def _failure(trial: RecordedTrial) -> str | None:
    failure = trial.ended.failure if trial.ended else None
    return failure.description if failure else trial.reason


def _result_form(trial: RecordedTrial) -> Any:
    ended = trial.ended
    return ended.value if ended and ended.status == "succeeded" else ABSENT


def _result_output(evidence: Evidence) -> str | None:
    """Return the fingerprint of the result: the output of the last step of its name."""
    name = evidence.trial.begun.result
    keys = [node.key for node in evidence.nodes.values() if node.step == name]
    run = evidence.runs.get(keys[-1]) if keys else None
    return run.output if run else None


def _canonical(form: Any) -> bytes:
    """Return bytes that are equal if two recorded values are: 1, 1.0 and True are not."""
    return msgspec.json.encode(form, order="deterministic")


def _identities(old: Any, new: Any) -> tuple[bytes, bytes]:
    """Return bytes that are equal if two recorded values are.

    Objects are by what they are, where that is known, else by their bytes: not by how they show
    themselves, which may be an address.
    """
    contents = [content.fingerprint for form in (old, new) if (content := content_of(form))]
    digests = [(form["type"], digest) for form in (old, new)
               if is_object(form) and (digest := form.get("digest"))]  # fmt: skip
    for found in (contents, digests):
        if len(found) == 2 and None not in found:
            return _canonical(found[0]), _canonical(found[1])
    old, new = (_without_content(form) for form in (old, new))
    return _canonical(old), _canonical(new)


def _without_content(form: Any) -> Any:
    return form if content_of(form) is None else {**form, "content": None}


def _is_untold(old: Any, new: Any) -> bool:
    """Whether two recorded values are secrets, or one is, and nobody can tell whether they differ.

    The same text of marks without a fingerprint says nothing either.
    """
    marks = [form.get("mark") if is_object(form) else None for form in (old, new)]
    if old is None or new is None or marks == [None, None]:
        return False
    return may_differ(*(mark or "" for mark in marks)) is None


def _untold_secrets(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"parameter {name!r} is a secret that is not comparable: it was recorded with another key, "
        "or has no fingerprint"
        for name in old
        if name in new and _is_untold(old[name], new[name])
    ]


def _function_diffs(old: Code | None, new: Code | None) -> dict[str, str]:
    if old is None or new is None:
        return {}
    steps = [step for step in old.steps if step in new.steps]
    changed = (each for step in steps for each in changed_functions(old, new, step))
    return {name: _diff(name, *pair) for name, *pair in changed}


def _diff(name: str, old: Function | None, new: Function | None) -> str:
    if old is None or new is None:
        return f"{name} is {'used now' if old is None else 'no longer used'}."
    return diff_functions(old, new) or f"{name} is written the same: its default values differ."


# The environments ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _EnvironmentChanges:
    """What differs of the environments of two trials."""

    packages: dict[str, Pair[Any]] = field(default_factory=dict)
    git: dict[str, Pair[Any]] = field(default_factory=dict)
    environment: tuple[str, ...] = ()
    """What else differs, a line each."""
    reaching: tuple[str, ...] = ()
    """What may change the output of a step that does not change itself, a line each."""


def _environment_changes(old: Environment | None, new: Environment | None) -> _EnvironmentChanges:
    """Return what differs; if an environment could not be read, nothing is known to."""
    if old is None or new is None or old == new:
        return _EnvironmentChanges()
    return _EnvironmentChanges(
        packages=_changed_in(old, new, _PACKAGES),
        git=_changed_in(old, new, _GIT),
        # With the same packages in both, only what is no package is listed.
        environment=tuple(changes(_only(old, {**_UNLISTED, _PACKAGES: _of(new, _PACKAGES)}),
                                  _only(new, _UNLISTED))),
        reaching=tuple(changes(_only(old, _UNREACHING), _only(new, _UNREACHING))),
    )  # fmt: skip


def _of(environment: Environment, category: str) -> dict[str, str]:
    return environment.categories.get(category, {})


def _changed_in(old: Environment, new: Environment, category: str) -> dict[str, Pair[Any]]:
    return changed_entries(_of(old, category), _of(new, category))


def _only(environment: Environment, others: dict[str, dict[str, str]]) -> Environment:
    """Return an environment with some categories exchanged for others."""
    return Environment({**environment.categories, **others})
