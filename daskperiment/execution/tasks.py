"""Running one step of a trial as a task of a graph, from its inputs to its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from daskperiment.capture.code_inside import with_code
from daskperiment.capture.encoding import KnownCode
from daskperiment.capture.files import by_content, by_stamp, paths_in
from daskperiment.capture.fingerprint import (
    NoFingerprintError,
    bytes_of_arrays,
    combine,
    exact_fingerprint,
    fingerprint,
    is_array,
)
from daskperiment.capture.signatures import DEFAULT, defaults_of
from daskperiment.cluster import worker
from daskperiment.codec import Blob, pack
from daskperiment.codec.buffer_digests import BufferDigests
from daskperiment.execution.calls import SCALARS, Call
from daskperiment.execution.changed_arguments import changed_arguments, spoiled_arguments
from daskperiment.execution.context import ACTIVE, RunningStep
from daskperiment.execution.given_values import exact_or_none, given_by_others
from daskperiment.execution.helper_threads import have_threads
from daskperiment.execution.kept_files import (
    EARLY,
    LAZY,
    EarlyFile,
    files_returned,
    keep_files,
    unnamed_file,
    warn_of_unkept,
)
from daskperiment.execution.known_outputs import OutputsByInputs, are_exact
from daskperiment.execution.lifecycle import (
    end,
    fail,
    failure_of,
    keep_again,
    keep_or_explain,
    status_of,
    watch_for_interruption,
)
from daskperiment.execution.observed_files import ObservedFiles
from daskperiment.execution.purity import report_conflicts
from daskperiment.execution.random_state import doubt_of
from daskperiment.execution.running import (
    Stopwatch,
    Usage,
    is_lazy,
    refuse_node,
    run_alone,
    run_call,
    watched,
)
from daskperiment.execution.trial import TrialHandle
from daskperiment.formats import as_file, as_object, asks_others
from daskperiment.recording.recorder import Recorder
from daskperiment.recording.registry import recorder_for
from daskperiment.records import (
    INEXACT,
    Alteration,
    Argument,
    CacheEntry,
    EndStatus,
    Failure,
    FileState,
    Output,
    StepRun,
    is_replacement_id,
    reused_run_id,
    step_run_id,
)
from daskperiment.reuse.cache_entries import reads_with, why_not, worth_writing
from daskperiment.reuse.cache_keys import StepKeys
from daskperiment.seeds import step_seed
from daskperiment.store.liveness import current_origin

__all__ = [
    "StepRunner",
    "deliver_visit",
    "inputs_of",
    "run_recorded",
    "run_result",
    "run_step",
]

INLINE = 1000
"""Bytes up to which what a step returned stands in its records, if it is plain: there are several.
What is larger is an object, which is kept once and can be dropped."""


def run_step(trial: TrialHandle | None, call: Call, /, *values: Any) -> Any:
    """Run a step; in a trial, record its run."""
    if trial is None:
        return run_alone(call, values)
    runner = run_recorded(trial, call, values)
    deliver_visit(trial, runner.recorder)
    return runner.value


def run_result(trial: TrialHandle, call: Call, /, *values: Any) -> Any:
    """Run a trial's last step, and end the trial."""
    runner = run_recorded(trial, call, values)
    return end(trial, runner.recorder, runner.value)


def run_recorded(
    trial: TrialHandle, call: Call, values: Sequence[Any],
    before: list[FileState] | None = None,
) -> StepRunner:  # fmt: skip
    """Run a step in a trial, and write its run down.

    Delivering it is left to `deliver_visit`, or to the trial's end. `before` is what the steps
    before it read besides their arguments, None if that is not known.
    """
    runner = StepRunner(trial, call, before)
    if trial.at_home:
        runner.run(values)
    else:
        owner, key = trial.owner, trial.signing_key
        with runner.recorder.visit(owner, trial.token, trial.first_record, key, trial.looked_at):
            watch_for_interruption(runner.recorder)
            runner.run(values)
    return runner


def deliver_visit(trial: TrialHandle, recorder: Recorder) -> None:
    """Deliver what was written of a trial, in a process that does not see to its end."""
    if not trial.at_home:
        recorder.settle()
        if recorder.outputs.found_conflicts:
            report_conflicts(recorder, quietly=trial.followed)


class StepRunner:
    """One run of a step in a trial, from its inputs to its record."""

    def __init__(
        self, trial: TrialHandle, call: Call, before: list[FileState] | None = None
    ) -> None:
        self.trial = trial
        self.before = before
        self.reads: tuple[FileState, ...] = ()
        self.written: tuple[FileState, ...] = ()
        self.files: dict[str, Any] = {}
        """Those that are kept with the output."""
        self.recorder = recorder_for(trial.store)
        self.call = call
        name = call.key if call.key in trial.codes else call.step
        self.code = trial.codes.get(name, "")
        self.running = RunningStep(call.key, step_seed(trial.seed, call.key), trial)
        self.keys = trial.step_keys.get(call.key)
        self.ids: list[str] = []
        """Those of the records that tell later trials of the output that are not there yet."""
        self.is_new = False
        """Whether nothing is known yet of what it returns."""
        self.known: OutputsByInputs | None = None
        self.known_now: OutputsByInputs | None = None
        """By what its inputs are once it has written into a folder that it was given."""
        self.arguments: dict[str, Argument] = {}
        self.watched: list[str] = []
        """Names of the arguments that can be changed in place, and that others see."""
        self.beside = tuple(ACTIVE)
        self.changed: tuple[str, ...] = ()
        self.spoiled: tuple[str, ...] = ()
        """Names of the arguments that another step had changed in place, or a part of them."""
        self.given: dict[str, str] = {}
        """Fingerprints of what others see, too, by argument."""
        self.inputs: str | None = None
        self.note: str | None = trial.doubts.get(name)
        """Why nobody can check what it returned."""
        self.doubt: str | None = None
        """Why what it returned is not to be trusted."""
        self.kept: Any = None
        self.output: str | None = None
        self.exact: str | None = None
        self.value: Any = None
        self.record: StepRun | None = None

    def run(self, values: Sequence[Any]) -> None:
        """Run the function, and write down how it went."""
        if self.trial.progress is not None:
            self.trial.show(self.call.key, "running")
        if self.keys is not None:
            self.ids = self.recorder.outputs.unknown(self.keys.ids)
            # Without a plan there is an id for another seed as well, which nobody may ask for
            # unless the step draws.
            first = self.keys.ids[:1]
            self.is_new = bool(self.ids) and (
                self.keys.reusable
                or self.ids[0] == first[0]
                or self.recorder.outputs.drew(first[0])
            )
        # Before the function runs: it might change what it was given.
        self._take(values)
        if self.keys is not None and self.keys.call is not None and self._reuse_known(self.keys):
            return
        files = watched(self.running, values, self.trial.directory, self.known is not None)
        watch = Stopwatch()
        try:
            self.value = run_call(self.running, self.call, values)
            refuse_node(self.call.step, self.value)
        except BaseException as error:
            with suppress(Warning):  # made an error by a filter, it must not hide the user's
                self._failed(error, watch.read(), values)
            raise
        usage = watch.read()
        if self.watched:
            self._find_changed(values)
        if files.noted:
            self._note_files(files)
            if self.known is not None and files.folders_changed():
                self._note_inputs_now(values)
        self._succeeded(self.value, usage)

    def _keep_files(self, value: Any, started: float) -> None:
        """Keep the files whose paths the step returns; whose they are not has read them."""
        made, read, besides = files_returned(value, self.written, started)
        self.reads = *self.reads, *read
        if made and self.call.persist:
            self.files = {"files": keep_files(self.recorder, made, self.trial.signing_key)}
            self.written = tuple(besides)

    def _note_files(self, files: ObservedFiles) -> None:
        # Reading files once more is worth its time where outputs are reused.
        digests = self.keys is not None and self.keys.reusable
        secrets = () if self.trial.secrets is None else self.trial.secret_values
        reads, written, doubt = files.told(digests, secrets)
        self.reads, self.written = tuple(reads), tuple(written)
        self.doubt = doubt or self.doubt

    def _note_inputs_now(self, values: Sequence[Any]) -> None:
        """Note what the step would get now, which it made of a folder that it was given."""
        assert self.keys is not None
        found = dict(self.arguments)
        for name, value in zip(self.call.names, values, strict=True):
            if any(paths_in(value)):
                found[name] = Argument("", self._digest(name, value, by_content))
        if (inputs := inputs_of(found, self.call)) is not None:
            self.known_now = OutputsByInputs(self.keys, inputs, self.running.seed)
            self.known_now.read(self.recorder.store, self.trial.signing_key)

    def _take(self, values: Sequence[Any]) -> None:
        """Note what the function gets, argument by argument; what has no fingerprint is noted."""
        call, found = self.call, self.arguments
        changes = self.recorder.outputs.changes.get(self.trial.token)
        handing = changes.handing if changes is not None else None
        # Reading files is worth its time where outputs are reused.
        path = by_content if self.keys is not None and self.keys.reusable else by_stamp
        # What is not known is noted where a value is looked at once more below.
        fresh = BufferDigests() if call.given and self.is_new else None
        buffers = self.trial.returned.take() or fresh
        for name, value in zip(call.names, values, strict=True):
            if name in call.secret:
                found[name] = self._of_secret(name, value, path)
                continue
            text = _text(value)
            if name in call.ignore:
                found[name] = Argument(text)
            elif text:
                found[name] = Argument(text, self._digest(name, value, path))
            else:
                found[name] = self._described(name, value, path, buffers)
            if not text and (name in call.shared or self._is_handed_on(name, handing)):
                self.watched.append(name)
        if call.defaulted:
            self._add_defaults(path)
        self.inputs = inputs_of(found, call)
        self.running.made_of = self.code, self.inputs
        if changes is not None and changes.altered:
            spoiled, noted = spoiled_arguments(call, values, changes)
            self.spoiled = tuple(spoiled)
            for each in noted:
                self.recorder.outputs.altered(self.trial.trial, each)
        if call.given and self.is_new:
            named = dict(zip(call.names, values, strict=True))
            self.given = given_by_others(call, named, found, path is by_content, buffers)

    def _add_defaults(self, path: Callable[[Any], str]) -> None:
        for name, value in defaults_of(self.call.function.__wrapped__):
            if name not in self.arguments and name not in self.call.ignore:
                self.arguments[name] = _default(value, path)

    def _find_changed(self, values: Sequence[Any]) -> None:
        """Note the arguments that are other ones than before the function ran."""
        # What ran meanwhile may have done it: then nobody can tell which of them did.
        beside = {*self.running.beside, *(step.key for step in (*self.beside, *ACTIVE))}
        before = {name: self.arguments[name].fingerprint for name in self.watched}
        changes = self.recorder.outputs.changes_in(self.trial.token)
        found = changed_arguments(self.call, before, values, self.value, changes)
        if found:
            self.changed, others = tuple(found), sorted(beside - {self.call.key})
            noted = Alteration(self.call.key, self.call.step, found, others)
            self.recorder.outputs.altered(self.trial.trial, noted)
            if others:
                self.doubt = f"argument {found[0]} was changed while it ran"

    def _of_secret(self, name: str, value: Any, path: Callable[[Any], str]) -> Argument:
        """Return what is recorded of an argument that is a secret, or holds one: its mark."""
        secrets = self.trial.secrets
        if name in self.call.ignore or secrets is None:
            return Argument()
        try:
            return Argument("", secrets.mark(exact_fingerprint(value, path)))
        except Exception:  # whose text may quote it
            self.note = self.note or f"its input has no fingerprint: argument {name}, a secret"
            return Argument()

    def _secrets(self, values: Sequence[Any]) -> list[Any]:
        """Return what no text of an exception may quote."""
        pairs = zip(self.call.names, values, strict=True)
        given = [value for name, value in pairs if name in self.call.secret]
        return given if self.trial.secrets is None else [*self.trial.secret_values, *given]

    def _of_untouched(self, name: str, value: Any) -> str | None:
        """Return the fingerprint of an array that was loaded for this step alone: it is known."""
        found, digest = self.trial.untouched.pop(id(value), (None, ""))
        fits = found is value and name not in self.call.shared and name not in self.call.ignore
        return digest if fits else None

    def _is_handed_on(self, name: str, handing: set[str] | None) -> bool:
        """Whether an argument came here by a step that returned what others see, too."""
        return not (handing or set()).isdisjoint(self.call.lent.get(name, ()))

    def _described(
        self, name: str, value: Any, path: Callable[[Any], str], buffers: BufferDigests | None
    ) -> Argument:
        known = self.trial.untouched and self._of_untouched(name, value)
        if known:
            return Argument("", known)
        code: dict[int, KnownCode] = {}
        buffers = buffers or BufferDigests()
        digest = self._digest(name, value, path, code, buffers)
        return with_code(value, digest, code, path, buffers) if code else Argument("", digest)

    def _digest(
        self, name: str, value: Any, path: Callable[[Any], str],
        code: dict[int, KnownCode] | None = None, buffers: BufferDigests | None = None,
    ) -> str | None:  # fmt: skip
        with suppress(NoFingerprintError):
            return exact_fingerprint(value, path, code, buffers)
        try:
            # Not good enough for taking an output, but for telling that something changed.
            return INEXACT + fingerprint(value, path)
        except Exception as error:  # user-defined objects may fail in any way
            self.note = self.note or f"its input has no fingerprint: argument {name}: {error}"
        return None

    def _failed(self, error: BaseException, usage: Usage, values: Sequence[Any]) -> None:
        halted = self.running.halted == "interrupted"
        failure = failure_of(error, self.call.key, self._secrets(values))
        status = "interrupted" if halted else status_of(error)
        self._record(usage, status, failure=failure)
        if not halted:  # else the trial's end is on record, and this is no failure of it
            fail(self.trial, failure, error)

    def _succeeded(self, value: Any, usage: Usage) -> None:
        first = value[0] if isinstance(value, (list, tuple)) and value else value
        if self.keys is not None and (self.written or isinstance(first, (Path, dict))):
            self._keep_files(value, usage.started)
        early: EarlyFile | None = None
        try:
            early = self._early_file(value) if self.call.persist else None
            if early is not None:
                # An interrupt may come at any moment: not before there is who closes it.
                early.parts.begin()
            blob = self._look_at_output(value, early)
        finally:
            if early is not None:
                early.parts.close()
        self.doubt = self.doubt or doubt_of(self.running)
        self.note = self.note or self.doubt
        self._record(usage, "succeeded")
        if blob is not None:
            keep_again(self.recorder, blob)
        if self.output and self.inputs and not self.note:
            self._record_output(self.output)
        if self.ids or self.known is not None:
            self._record_entry(value, self.ids)

    def _early_file(self, value: Any) -> EarlyFile | None:
        """Return the file of a large output if it can be written while that is looked at."""
        if bytes_of_arrays(value) < EARLY:
            return None
        if not self.recorder.outputs.unknown([self._output_id()]):
            return None  # as it is the same, it is there already
        return unnamed_file(self.recorder, value, self.call.format)

    def _look_at_output(self, value: Any, early: EarlyFile | None) -> Blob | None:
        """Take the output's fingerprint, keep it, and return what has to stay for good."""
        # Its large arrays are read once for all that follows.
        buffers = None if type(value) in SCALARS else BufferDigests()
        try:
            self.output = fingerprint(value, by_content if self.call.persist else str, buffers)
        except Exception as error:  # user-defined objects may fail in any way
            self.note = self.note or f"its output has no fingerprint: {error}"
        if buffers is not None and buffers.known and not have_threads():
            self.trial.returned.note(buffers)
        if self.call.handed and (self.is_new or (self.ids and self.running.stochastic)):
            self.exact = self.output if is_array(value) else exact_or_none(value, buffers)
        lazy = (self.call.persist or self.output is None) and is_lazy(value)
        if lazy:
            self.doubt = f"its output is {LAZY}"
        return self._keep(value, lazy, buffers, early) if self.call.persist else None

    def _keep(
        self, value: Any, lazy: bool, buffers: BufferDigests | None, early: EarlyFile | None
    ) -> Blob | None:
        """Keep what the step returned, and return the object if it has to stay for good."""
        reusable = self.keys is not None and self.keys.reusable
        name, key = self.call.format, self.trial.signing_key
        file = early and early.file
        if name is None:
            form, blob = pack(value, key, INLINE, partial(as_object, buffers=buffers, file=file))
        else:
            form, blob = as_file(name, buffers, file)(value, key)
        if lazy:
            form, blob = {**form, "size": 0, "digest": None, "reason": f"it is {LAZY}"}, None
        if self.trial.returned.latest is not None and asks_others(name):
            self.trial.returned.take()  # they may have changed it
        if reusable:
            warn_of_unkept(self.call.step, form)
        begun = blob and early and blob._replace(parts=early.parts)
        kept = keep_or_explain(self.recorder, form, begun or blob)
        self.kept = {"value": kept, **self.files}
        return None if reusable else blob

    def _reuse_known(self, keys: StepKeys) -> bool:
        """Take an earlier trial's output for the same inputs, if there is one."""
        if self.inputs is None or not are_exact(self.arguments.values()):
            return False
        watch = Stopwatch()
        self.known = OutputsByInputs(keys, self.inputs, self.running.seed)
        known = self.known.find(self.trial, self.recorder)
        if known is None:
            return False
        entry, self.value, reason = known
        self.running.stochastic, self.output, self.kept = entry.drew, entry.output, entry.kept
        self.running.metrics.update(entry.metrics)
        self.running.artifacts += entry.artifacts
        self.reads, self.written = entry.reads, entry.written
        self._record(watch.read(), "succeeded", reused=entry.trial, reason=reason)
        # From now on the cache key leads to it, so that not even the inputs are needed.
        partial = self.before is None
        entry = msgspec.structs.replace(entry, reads=self._all_reads(), partial=partial,
                                       given=self.given)  # fmt: skip
        self.recorder.entry(
            worth_writing(keys.ids, entry), entry, self.trial.owner, self.trial.signing_key
        )
        return True

    def _record(
        self, usage: Usage, status: EndStatus, failure: Failure | None = None,
        reused: int | None = None, reason: str | None = None,
    ) -> None:  # fmt: skip
        trial, keys, here, call = self.trial, self.keys, worker(), self.call
        origin = trial.origin if trial.at_home else current_origin()
        self.record = StepRun(
            key=call.key, step=call.step, status=status, started=usage.started,
            wall=usage.wall, cpu=usage.cpu, peak=usage.peak, host=origin.host, pid=origin.pid,
            thread=usage.thread, code=self.code, inputs=self.inputs, output=self.output,
            note=self.note, stochastic=self.running.stochastic, seed=self.running.seed,
            kept=self.kept, failure=failure, metrics=tuple(sorted(self.running.metrics)),
            artifacts=tuple(self.running.artifacts),
            cache_key=(keys and keys.base) or None, reusable=keys is not None and keys.reusable,
            reused=reused, reason=reason or (keys.reason if keys is not None else None),
            worker=here and here.address, worker_name=here and here.name,
            arguments=self.arguments, reads=self.reads, written=self.written, changed=self.changed,
        )  # fmt: skip
        id = (step_run_id(call.key, usage.started, origin.pid) if reused is None
              else reused_run_id(call.key, reused))  # fmt: skip
        record, key = self.record, self.trial.signing_key
        if key is None:
            self.recorder.write("steps", self.trial.trial, id, record, self.trial.owner)
        else:
            self.recorder.write_signed("steps", trial.trial, id, record, trial.owner, key)
        if self.trial.progress is not None:
            self.trial.show(call.key, status)

    def _output_id(self) -> str:
        """Return the id of the record of what the step returned for its code, inputs and seed."""
        seed = str(self.running.seed) if self.running.stochastic else ""
        id = combine(self.call.step, self.code, self.inputs or "", seed)
        if self.reads and self.keys is not None and self.keys.reusable:
            # A file that changed is an input that changed.
            id = combine(id, *(f"{each.kind} {each.name} {each.digest}" for each in self.reads))
        return id

    def _record_output(self, output: str) -> None:
        cache_key = (self.keys and self.keys.base) or None
        by_inputs = self.known.key.base if self.known is not None else None
        record = Output(
            self.trial.trial, self.call.key, self.call.step, output, cache_key, self.reads,
            by_inputs,
        )  # fmt: skip
        self.recorder.output(self._output_id(), record, self.trial.owner)

    def _all_reads(self) -> tuple[FileState, ...]:
        before = self.before or ()
        return tuple(reads_with(before, self.reads) if self.reads else before)

    def _record_entry(self, value: Any, ids: list[str]) -> None:
        entry = CacheEntry(
            self.trial.trial, self.call.key, self.call.step, self.running.stochastic, self.output,
            None if self.doubt else self.kept, self.doubt, str(type(value)),
            tuple(sorted(self.running.metrics)), self._all_reads(), self.written,
            self.before is None, exact=self.exact, given=self.given,
            artifacts=tuple(self.running.artifacts), spoiled=self.spoiled,
        )  # fmt: skip
        if self.running.stochastic and self.call.given and not self.is_new:
            ids = []  # it never drew before, so nobody looked what it was made of
        if self.doubt:
            # Of an output that is not to be trusted only whether the step draws is of use.
            ids = ids[:1]
        if any(map(is_replacement_id, ids)):
            ids = worth_writing(ids, entry)
        self.recorder.entry(ids, entry, self.trial.owner, self.trial.signing_key)
        assert self.keys is not None
        if self.keys.call is not None and why_not(entry) is None:
            # What the steps before it read is in its inputs.
            # And so is what another step changed.
            own = msgspec.structs.replace(entry, reads=self.reads, partial=False, spoiled=())
            for known in (self.known if self.keys.call.by_nodes else None, self.known_now):
                ids = known.ids(entry.drew, self.recorder.outputs) if known is not None else []
                self.recorder.entry(ids, own, self.trial.owner, self.trial.signing_key)


def _default(value: Any, path: Callable[[Any], str]) -> Argument:
    """Return what a step gets that is given nothing: its code tells a value that says nothing."""
    try:
        return Argument(_text(value), exact_fingerprint(value, path))
    except Exception:  # as above
        return Argument(_text(value), DEFAULT)


def _text(value: Any) -> str:
    """Return a scalar in short; of others the graph tells what is to be told."""
    kind = type(value)
    if kind is str:
        return repr(value) if len(value) <= 60 else ""
    fits = kind is int and -(10**18) < value < 10**18
    return repr(value) if fits or kind is float or kind is bool or value is None else ""


def inputs_of(arguments: Mapping[str, Argument], call: Call) -> str | None:
    """Return the fingerprint of all that a step gets; None if a part of it has none."""
    parts: list[str] = []
    for name in sorted(arguments):
        digest = arguments[name].fingerprint
        if name in call.ignore:
            continue
        if digest is None:
            return None
        parts += (name, digest)
    return combine(*parts, *(call.turned() if call.keywords else ()))
