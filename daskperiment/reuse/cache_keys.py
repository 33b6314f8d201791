"""Cache keys: digests of all that determines an output.

The cache key of a node covers its code with all of the user's own code that it uses, its arguments
and the cache keys of the nodes that it takes. It comes twice: *base* leaves seeds out, *seeded* has
the seeds of the node and of all before it. Which of them counts is known once the steps have run:
the first if none of them drew random numbers.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from daskperiment.capture.code import CodeCapture
from daskperiment.capture.code_inside import described
from daskperiment.capture.files import FileSource, by_content, paths_in, source_of
from daskperiment.capture.fingerprint import NoFingerprintError, combine, exact_fingerprint
from daskperiment.capture.members import ATOMS
from daskperiment.capture.signatures import DEFAULT
from daskperiment.formatting import brief
from daskperiment.records import Argument, StepCode, cache_entry_id
from daskperiment.reuse.cache_entries import CHANGED, UNKNOWN
from daskperiment.reuse.key_parts import (
    DefaultValue,
    FileContent,
    FileInput,
    Key,
    KeyOf,
    KeySpec,
    LiveValue,
    Part,
    UsedFunction,
)
from daskperiment.reuse.parameter_fields import ParameterField, source_in
from daskperiment.reuse.unordered import SET, in_any_order
from daskperiment.secret_values import Secret, concealed
from daskperiment.seeds import step_seed

__all__ = [
    "CacheKey",
    "CallKey",
    "KeySpecs",
    "NoCacheKey",
    "StepKeys",
    "first_ids",
    "keys_without_reuse",
    "series_of",
]

SCHEME = "recipe 2"
"""To be raised when cache keys are made in another way; stores are full of keys of this one."""


def series_of(version: str) -> str:
    """Return the part of Python's version that outputs may depend on, as ``sum`` of floats does."""
    return ".".join(version.split(".")[:2])


# Of these there are as many as steps: structures of text alone, which Python's garbage collector
# need not look at.


class CacheKey(Struct, frozen=True, gc=False):
    """The cache key of a node in one trial."""

    base: str
    """Without seeds."""
    seeded: str
    """With the seeds of the node and of all before it."""


class CallKey(Struct, frozen=True, gc=False):
    """What determines a step's output together with what other nodes give it."""

    code: str
    """Digest of its code; with a fingerprint of all arguments it makes a cache key."""
    call: str
    """Digest of its code and of all that does not come from other nodes."""
    by_nodes: bool = True
    """Whether other nodes give it something, and it does not only get a folder to write into."""

    def of_inputs(self, inputs: str, seed: int) -> CacheKey:
        """Return the cache key of the output for inputs that are there."""
        base = combine(self.code, inputs)
        return CacheKey(base, combine(base, str(seed)))


class NoCacheKey(Struct, frozen=True, gc=False):
    """Why a node has no cache key."""

    reason: str
    place: str = ""
    """Of the step that it is the reason of; others have none because they take what it gives."""


class _Given(NamedTuple):
    """What the cache keys of a trial are made of, where its arguments are fixed."""

    steps: Mapping[str, StepCode]
    seed: int
    values: tuple[tuple[Key, CacheKey | NoCacheKey], ...]

    def is_same(self, other: _Given) -> bool:
        """Whether cache keys are those of another trial but for seeds.

        Code that is the same is one object.
        """
        return self.steps is other.steps and self.values == other.values


class KeySpecs:
    """How the cache keys of one result's graph are made.

    Parameters
    ----------
    specs : sequence of KeySpec
        Inputs before those who take them; the result is the last.
    functions : mapping
        Label -> function that is no step.
    parameters : mapping
        Key of a parameter that is not computed -> its name.
    """

    def __init__(
        self, specs: Sequence[KeySpec], functions: Mapping[str, Callable[..., Any]],
        parameters: Mapping[Key, str],
    ) -> None:  # fmt: skip
        self.specs = specs
        self.functions = functions
        self._parameters = parameters
        known = {spec.key for spec in specs if spec.taken is not None or _is_file(spec)}
        self._direct = known | parameters.keys()
        """Keys of what is known before anything runs: parameters, their parts, and files."""
        self._capture = CodeCapture()
        self._places = {spec.key: spec.place for spec in specs if spec.place}
        self._places.update((key, f"parameter {name}") for key, name in parameters.items())
        self._given = [spec for spec in specs if spec.taken is not None or spec.parameter]
        self.is_steady = not functions and all(
            isinstance(part, (str, KeyOf)) for spec in specs for part in spec.parts
        )
        """Whether cache keys depend on nothing but what a trial is given."""
        self._last: tuple[_Given, dict[Key, CacheKey | NoCacheKey]] | None = None
        self._known: dict[str, tuple[Any, CacheKey]] = {}
        """Parameter -> the last of its values that cannot change, with its cache key."""
        self._outside: dict[Key, KeySpec] = {}
        """The nodes that no step, parameter or file reaches: data from outside."""
        for spec in specs:
            files = any(isinstance(part, FileContent) for part in spec.parts)
            if not spec.place and not files and all(k in self._outside for k in spec.inputs):
                self._outside[spec.key] = spec
        self._told = [
            (spec.place, name, parts) for spec in specs
            for name, parts in spec.arguments.items() if self._is_told(parts)
        ]  # fmt: skip

    def takes_nodes(self, spec: KeySpec) -> bool:
        """Return whether what a step gets depends on more than parameters and its own call."""
        return any(key not in self._direct for key in spec.counting)

    def takes_folders(self, spec: KeySpec, values: Mapping[str, Any]) -> bool:
        """Return whether a step gets a folder that is known before: it may write into it."""
        sources = _sources(self._file_inputs.get(spec.place, ()), values)
        return any(os.path.isdir(source.text) for source in sources)

    def call_key(
        self, spec: KeySpec, found: Mapping[Key, CacheKey | NoCacheKey],
        values: Mapping[str, Any], steps: Mapping[str, StepCode],
    ) -> CallKey | None:  # fmt: skip
        """Return what determines a step's output together with its inputs; None if it has none.

        The arguments are those of `cache_keys`, and what it returned; `steps` has all `codes`.
        """
        # What other nodes give stands for itself once they have run; and so does what a folder
        # holds that the step itself may have written.
        by_nodes = self.takes_nodes(spec)
        known = self._direct if by_nodes else set()
        direct = [part for part in spec.parts
                  if (part.key in known if isinstance(part, KeyOf) else known or type(part) is str)
                  ]  # fmt: skip
        try:
            code = _code_of(spec, steps)
            parts = [part if type(part) is str else _digest(part, found, values, steps)
                     for part in direct]  # fmt: skip
        except NoFingerprintError:
            return None
        parts = in_any_order(parts) if SET in parts else parts
        return CallKey(combine("code", code), combine("call", code, *parts), by_nodes)

    def bases_by_inputs(
        self, specs: Iterable[KeySpec], known: Callable[[set[str]], set[str]],
        found: Mapping[Key, CacheKey | NoCacheKey], values: Mapping[str, Any],
        steps: Mapping[str, StepCode],
    ) -> dict[Key, str]:  # fmt: skip
        """Return the keys by which outputs are known for steps' inputs, as far as these are known.

        They are where a step gets nothing but what parameters and its own call say. `known` picks
        the codes that an output was ever found by in this way; the others are as for `call_key`.
        """
        codes: dict[Key, str] = {}
        of_step: dict[tuple[str, str, str], str] = {}
        for spec in specs:
            forms = [part for parts in spec.arguments.values() for part in parts]
            if len(forms) == len(spec.arguments) and all(map(self._is_known, forms)):
                name = spec.place if spec.place in steps else spec.step
                which = name, spec.step, spec.version
                if which not in of_step:
                    of_step[which] = combine("code", _code_of(spec, steps))
                codes[spec.key] = of_step[which]
        worth = known(set(of_step.values())) if codes else set()
        return {
            spec.key: combine(codes[spec.key], _inputs_of(spec, found, values))
            for spec in specs if codes.get(spec.key) in worth
        }  # fmt: skip

    def _is_known(self, form: Part) -> bool:
        if isinstance(form, KeyOf):
            return form.key in self._parameters
        return isinstance(form, (str, LiveValue, DefaultValue))

    def codes(self, steps: Mapping[str, StepCode]) -> Mapping[str, StepCode]:
        """Return the code of steps, with that of the functions that are none."""
        return {**self._capture.capture(self.functions).steps, **steps} if self.functions else steps

    def cache_keys(
        self, values: Mapping[str, Any], steps: Mapping[str, StepCode], seed: int
    ) -> dict[Key, CacheKey | NoCacheKey]:
        """Return the cache key of every node for one trial.

        Parameters
        ----------
        values : mapping
            Parameter values.
        steps : mapping
            Step or place -> its code.
        seed : int
            The trial's seed.
        """
        found = {key: self._of_value(values, name) for key, name in self._parameters.items()}
        for spec in self._given:
            if (known := _of_given(spec, values)) is not None:
                found[spec.key] = known
        given, last = _Given(steps, seed, tuple(found.items())), self._last
        if last is not None and last[0].is_same(given):
            if last[0].seed == seed:
                return last[1]
            for spec in self.specs:
                if spec.key not in found:
                    before = last[1][spec.key]
                    found[spec.key] = (
                        before if isinstance(before, NoCacheKey)
                        else _with_seeds(spec, before.base, _seeds_before(spec, found), seed)
                    )  # fmt: skip
            self._last = given, found
            return found
        steps = self.codes(steps)
        series = series_of(platform.python_version())
        for spec in self.specs:
            if spec.key not in found:
                found[spec.key] = _cache_key(spec, found, values, steps, seed, series)
        if self.is_steady:
            self._last = given, found
        return found

    def _of_value(self, values: Mapping[str, Any], name: str) -> CacheKey | NoCacheKey:
        """Return the cache key of a parameter; of a value that cannot change it is made once."""
        known = self._known.get(name)
        if known is not None and values.get(name, self) is known[0]:
            return known[1]
        found = _of_value(values, name)
        if isinstance(found, CacheKey) and type(values[name]) in ATOMS:
            self._known[name] = values[name], found
        return found

    def files(self, values: Mapping[str, Any]) -> dict[str, dict[str, dict[str, str]]]:
        """Return what the files among the inputs of each step hold, as `Files` records it."""
        found: dict[str, dict[str, dict[str, str]]] = {}
        for place, inputs in self._file_inputs.items():
            for source in _sources(inputs, values):
                with suppress(NoFingerprintError):  # its absence is an error of the trial
                    found.setdefault(place, {})[source.text] = source.parts()
        return found

    @cached_property
    def _file_inputs(self) -> dict[str, list[FileInput]]:
        """What may name files of those that stand before each step, without another between."""
        before: dict[Key, list[FileInput]] = {
            key: [ParameterField(name, ())] for key, name in self._parameters.items()
        }
        found = {}
        for spec in self.specs:
            inputs: list[FileInput] = [spec.taken] if spec.taken is not None else []
            for part in () if inputs else spec.parts:
                if isinstance(part, KeyOf):
                    inputs += before.get(part.key, [])
                elif isinstance(part, (FileContent, LiveValue)):
                    inputs.append(part)
            if spec.parameter:
                inputs = [ParameterField(spec.parameter, ())]
            before[spec.key] = inputs
            if spec.step:
                found[spec.place], before[spec.key] = inputs, []
        return found

    def _is_told(self, parts: Sequence[Part]) -> bool:
        """Whether an argument is told of that is neither fixed nor a node of the trial."""
        if len(parts) > 1:
            return True
        part = parts[0]
        return isinstance(part, LiveValue) or (
            isinstance(part, KeyOf) and part.key in self._outside
        )

    def arguments(self) -> dict[str, dict[str, Argument]]:
        """Return what is to be recorded of the arguments that may be others in a later trial.

        By place and name: of values that may change in place, of Dask's collections, and of
        containers of nodes. Fixed values are no part of it.
        """
        if not self._told:
            return {}
        codes = self.codes({})
        found: dict[Key, CacheKey | NoCacheKey] = {}
        series = series_of(platform.python_version())
        for spec in self._outside.values():
            found[spec.key] = _cache_key(spec, found, {}, codes, 0, series)
        arguments: dict[str, dict[str, Argument]] = {}
        for place, name, parts in self._told:
            arguments.setdefault(place, {})[name] = self._argument(parts, found)
        return arguments

    def _argument(
        self, parts: Sequence[Part], found: Mapping[Key, CacheKey | NoCacheKey]
    ) -> Argument:
        first = parts[0]
        text = brief(first.value) if isinstance(first, LiveValue) else ""
        try:
            if len(parts) == 1 and isinstance(first, LiveValue):
                # What files hold is told of as such.
                return replace(described(first.value), text=text)
            digests = [self._part(part, found) for part in parts]
        except NoFingerprintError:
            return Argument(text)
        digests = in_any_order(digests) if SET in digests else digests
        return Argument(text, digests[0] if len(digests) == 1 else combine(*digests))

    def _part(self, part: Part, found: Mapping[Key, CacheKey | NoCacheKey]) -> str:
        if isinstance(part, KeyOf):
            before = found.get(part.key)
            if isinstance(before, NoCacheKey):
                raise NoFingerprintError(before.reason)
            return before.base if before is not None else self._places.get(part.key, "")
        if isinstance(part, UsedFunction):
            return part.function.split(" ", 2)[-1]  # without its number in this graph
        if isinstance(part, (LiveValue, DefaultValue)):
            return exact_fingerprint(part.value)
        return str(part)


def _code_of(spec: KeySpec, steps: Mapping[str, StepCode]) -> str:
    series = series_of(platform.python_version())
    return combine(SCHEME, series, spec.step, spec.version, _code(steps, spec.place, spec.step))


def _inputs_of(
    spec: KeySpec, found: Mapping[Key, CacheKey | NoCacheKey], values: Mapping[str, Any]
) -> str:
    """Return the fingerprint of all that a step gets, as its run makes it."""
    parts: list[str] = []
    for name in sorted(spec.arguments):
        parts += (name, _digest(spec.arguments[name][0], found, values, {}))
    return combine(*parts, *spec.turned)


def _is_file(spec: KeySpec) -> bool:
    return bool(spec.parts) and all(isinstance(part, FileContent) for part in spec.parts)


def _sources(inputs: Iterable[FileInput], values: Mapping[str, Any]) -> Iterator[FileSource]:
    for part in inputs:
        if isinstance(part, LiveValue):
            yield from map(source_of, paths_in(part.value))
        elif isinstance(part, ParameterField):
            if part.path or not isinstance(values.get(part.name), ATOMS):
                with suppress(Exception):  # the trial raises it, where the user sees it
                    yield from map(source_of, paths_in(part.taken_from(values)))
        else:
            with suppress(NoFingerprintError):
                yield source_in(part.source, values)


def _cache_key(
    spec: KeySpec, found: Mapping[Key, CacheKey | NoCacheKey], values: Mapping[str, Any],
    codes: Mapping[str, StepCode], seed: int, series: str,
) -> CacheKey | NoCacheKey:  # fmt: skip
    # What takes something that has no key has none either, for the same reason.
    for key in spec.counting:
        before = found[key]
        if isinstance(before, NoCacheKey):
            return before if before.place else NoCacheKey(before.reason, spec.place)
    seeded = _seeds_before(spec, found)
    try:
        code = _code(codes, spec.place, spec.step) if spec.step else ""
        parts = [
            part if type(part) is str else _digest(part, found, values, codes)
            for part in spec.parts
        ]
    except NoFingerprintError as error:
        return NoCacheKey(str(error), spec.place)
    parts = in_any_order(parts) if SET in parts else parts
    # The place in the graph is left out, so that equal calls anywhere share an output; it comes
    # in by the seed, where that counts.
    base = combine(SCHEME, series, spec.step, spec.version, code, *parts)
    return _with_seeds(spec, base, seeded, seed)


def _seeds_before(spec: KeySpec, found: Mapping[Key, CacheKey | NoCacheKey]) -> list[str]:
    """Return the cache keys with seeds of those that a node takes, where these have any."""
    seeded = []
    for key in spec.counting:
        before = found[key]
        if isinstance(before, CacheKey) and before.seeded != before.base:
            seeded.append(before.seeded)
    return seeded


def _with_seeds(spec: KeySpec, base: str, seeded: Sequence[str], seed: int) -> CacheKey:
    if not spec.place and not seeded:
        return CacheKey(base, base)
    own = str(step_seed(seed, spec.place)) if spec.place else ""
    return CacheKey(base, combine(base, own, *seeded))


def _digest(
    part: Part, found: Mapping[Key, CacheKey | NoCacheKey], values: Mapping[str, Any],
    codes: Mapping[str, StepCode],
) -> str:  # fmt: skip
    if isinstance(part, KeyOf):
        before = found[part.key]
        return before.base if isinstance(before, CacheKey) else ""
    if isinstance(part, UsedFunction):
        return _code(codes, part.function)
    if isinstance(part, str):
        return part
    if isinstance(part, FileContent):
        source = source_in(part.source, values)
        return source.identity(source.content())
    try:
        return exact_fingerprint(part.value, by_content)
    except NoFingerprintError as error:
        if isinstance(part, DefaultValue):
            return DEFAULT
        raise NoFingerprintError(f"an argument {UNKNOWN}: {error}") from None


def _code(codes: Mapping[str, StepCode], *names: str) -> str:
    """Return the fingerprint of the code that the first known of some names stands for."""
    code = codes[names[0]] if names[0] in codes else codes[names[-1]]
    if None in code.constants.values():
        name = next(name for name, value in code.constants.items() if value is None)
        what = CHANGED if name in code.states else UNKNOWN
        raise NoFingerprintError(f"{name}, which its code reads, {what}")
    return code.fingerprint


def _of_value(values: Mapping[str, Any], name: str) -> CacheKey | NoCacheKey:
    if name not in values:
        return NoCacheKey(f"parameter {name!r} has no value")
    try:
        known = exact_fingerprint(values[name], by_content)
    except NoFingerprintError as error:
        return NoCacheKey(f"the value of parameter {name!r} {UNKNOWN}: {error}")
    return CacheKey(known, known)


def _of_given(spec: KeySpec, values: Mapping[str, Any]) -> CacheKey | NoCacheKey | None:
    """Return the cache key of what a trial gets a value for; None for what is computed in it."""
    if spec.taken is not None:
        return _of_part(values, spec.taken)
    return _of_value(values, spec.parameter) if spec.parameter in values else None


def _of_part(values: Mapping[str, Any], part: ParameterField) -> CacheKey | NoCacheKey:
    try:
        known = exact_fingerprint(part.taken_from(values), by_content)
    except NoFingerprintError as error:
        return NoCacheKey(f"{part} {UNKNOWN}: {error}")
    except Exception as error:  # the trial raises it, where the user sees it
        whole = values.get(part.name)
        text = concealed(str(error), [whole]) if type(whole) is Secret else error
        return NoCacheKey(f"{part} cannot be taken: {type(error).__name__}: {text}")
    return CacheKey(known, known)


class StepKeys(Struct, frozen=True, gc=False):
    """The cache keys of one step in one trial, and what its run writes down of them."""

    base: str
    """Without seeds. Empty, as the other, if the step has no cache key."""
    seeded: str
    ids: tuple[str, ...] = ()
    """Ids of the records that tell later trials of the output."""
    reusable: bool = False
    """Whether this trial might have reused its output."""
    reason: str | None = None
    """Why it runs, where its output might have been reused."""
    call: CallKey | None = None
    """By which the output is found once the inputs are there, if they are all that may differ."""
    expected: bool = False
    """Whether the store knows an output of the same call."""
    hint: str = ""
    """Id of the record by which it will know one."""

    def seeded_as(self, seeded: str) -> StepKeys:
        """Return these keys for a trial with other seeds; no record is named by them."""
        return StepKeys(
            self.base, seeded, self.ids, self.reusable, self.reason, self.call, self.expected,
            self.hint,
        )  # fmt: skip

    def because(self, reason: str) -> StepKeys:
        """Return these keys with another reason."""
        return replace(self, reason=reason)

    def found_by(self, call: CallKey, expected: bool, hint: str) -> StepKeys:
        """Return these keys with the call by which the output is found."""
        return replace(self, call=call, expected=expected, hint=hint)


def first_ids(spec: KeySpec, found: CacheKey) -> tuple[str, ...]:
    """Return the ids of the records to write where nothing was looked up."""
    base = cache_entry_id(found.base)
    return (base, cache_entry_id(found.seeded)) if spec.persist else (base,)


def keys_without_reuse(
    specs: Iterable[KeySpec], cache_keys: Mapping[Key, CacheKey | NoCacheKey]
) -> dict[str, StepKeys]:
    """Return the cache keys by place for a trial that reuses nothing, so that later ones may."""
    return {
        spec.place: StepKeys(found.base, found.seeded, first_ids(spec, found))
        for spec in specs
        if spec.place and isinstance(found := cache_keys[spec.key], CacheKey)
    }
