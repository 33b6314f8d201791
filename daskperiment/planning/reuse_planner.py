"""The reuse plans of one experiment's trials, with the reasons for what must run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import ref

from daskperiment.client.tracker import tracker_of
from daskperiment.execution.given_values import exact_or_none, holds_moved_code
from daskperiment.execution.kept_files import warn_never_reused
from daskperiment.execution.trial import TrialRequest
from daskperiment.graph.template import Template
from daskperiment.planning.past_trials import PastTrials, TrialMakeup
from daskperiment.planning.reasons import ReasonFinder
from daskperiment.recording.registry import recorder_for
from daskperiment.records import CacheEntry, Code, cache_entry_id
from daskperiment.reuse.cache_entries import (
    Answers,
    CacheEntries,
    Hit,
    latest,
    outdated,
    why_not,
)
from daskperiment.reuse.cache_keys import (
    CacheKey,
    CallKey,
    KeySpecs,
    NoCacheKey,
    StepKeys,
    first_ids,
)
from daskperiment.reuse.key_parts import (
    KeySpec,
    LiveValue,
)
from daskperiment.reuse.reuse_plan import NEVER_RUN, ReusePlan, with_cure
from daskperiment.store.protocol import Store

if TYPE_CHECKING:
    from daskperiment.planning.kept_plans import KeptPlan

__all__ = ["ReusePlanner"]

IMPURE = "impure"
_MOST = 100
"""Nodes of a graph whose plan is kept: of more, memory would hold as much as the store."""

_NONE: Mapping[Any, Any] = {}

Key = Hashable
Refusal = Callable[[Hit], str]
ByInputs = Callable[[list[KeySpec], Callable[[set[str]], set[str]]], dict[Key, str]]


class ReusePlanner:
    """Plans what the trials of one experiment reuse of the outputs in its store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._past = PastTrials(store)
        self._planned: dict[str, TrialMakeup] = {}
        """Place -> the latest trial of this process that has a step there."""
        self._begun = 0
        """How many trials of this process are known."""
        self._kept: KeptPlan | None = None
        self._latest: tuple[Any, ...] | None = None
        """What a plan that may be kept is made of, until the next one is asked for."""

    def plan(
        self, template: Template, reusable: Collection[Hashable], request: TrialRequest,
        now: TrialMakeup, outputs: Mapping[str, Hit] = _NONE,
    ) -> ReusePlan:  # fmt: skip
        """Return the reuse plan of a trial that is about to be computed, with reasons.

        Parameters
        ----------
        template : Template
        reusable : collection
            Keys of the steps whose outputs may be reused.
        request : TrialRequest
        now : TrialMakeup
            The trial, as others are held against it.
        outputs : mapping of str to Hit
            Place of a step -> what it returned in the trial that this one goes on from. It is taken
            whatever may be reused, if the step's cache key is still that.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        plan = self.decided(template, reusable, request, now.code, outputs=outputs)
        for key, why_never in plan.never.items():
            warn_never_reused(template.places[key], why_never)
        step_keys = dict(plan.step_keys)
        new = [place for place, keys in step_keys.items() if keys.reason == NEVER_RUN]
        if new:
            finder = self.finder(now)
            for place in new:
                step_keys[place] = step_keys[place].because(
                    finder.told(place, plan.unfit.get(place))[0]
                )
        self._planned.update(dict.fromkeys(template.places.values(), now))
        self._begun += 1
        return replace(plan, step_keys=step_keys) if new else plan

    def note(self, template: Template, trial: TrialMakeup, count: int | None) -> None:
        """Note a trial that reused nothing, the last of so many; later ones are held against it.

        Without a count there were others whose steps are not known.
        """
        self._planned.update(dict.fromkeys(template.places.values(), trial))
        self._begun += count or 0

    def _latest_with(self, place: str) -> TrialMakeup | None:
        return self._planned.get(place) or self._past.latest_with(place)

    def _catch_up(self) -> None:
        """Forget the trials of this process, if any began elsewhere: the store has them all."""
        if not self._past.covers(self._begun):
            self._planned.clear()

    def finder(self, now: TrialMakeup) -> ReasonFinder:
        """Return what finds the reasons why steps of a trial run."""
        self._catch_up()
        return ReasonFinder(self._latest_with, self._past.unknown, now)

    def _last_kept(self) -> KeptPlan | None:
        """Return the latest plan that others may have, too."""
        latest, self._latest = self._latest, None
        if latest is not None:
            # The first trial of a process keeps none.
            from daskperiment.planning.kept_plans import KeptPlan  # noqa: PLC0415

            held, *others = latest
            if (specs := held()) is not None:
                self._kept = KeptPlan.of(specs, *others)
        return self._kept

    def decided(
        self, template: Template, reusable: Collection[Hashable], request: TrialRequest,
        code: Code, refusal: Refusal | None = None, outputs: Mapping[str, Hit] = _NONE,
    ) -> ReusePlan:  # fmt: skip
        """Return the reuse plan of a trial, in which a reason stands for each step that is new.

        `refusal` says why an output is not to be taken, empty if it may be.
        """
        specs = template.key_specs
        cache_keys = specs.cache_keys(request.values, code.steps, request.seed)
        recorder = recorder_for(self._store)
        recorder.settle()
        tracker = tracker_of(recorder) if recorder.listeners else None
        in_flight = tracker.in_flight() if tracker is not None else frozenset()
        key = request.setup.signing_key
        plain = refusal is None and not outputs and not in_flight
        kept = self._last_kept() if plain else None
        if kept is not None and kept.holds_for(specs, reusable, cache_keys, key, self._store):
            return kept.of_trial(specs, cache_keys)
        codes = specs.codes(code.steps)
        own = _own_hits(specs, cache_keys, outputs)
        plan, answers = decide_reuse(
            self._store, specs.specs, cache_keys, {*reusable, *own}, in_flight, refusal, key,
            lambda new, known: specs.bases_by_inputs(
                new, known, cache_keys, request.values, codes
            ),
            own,
        )  # fmt: skip
        calls = _calls(specs, plan, cache_keys, request, code)
        if calls:
            return _with_calls(plan, calls, self._store, key)
        if plain and plan.hits and len(specs.specs) <= _MOST:
            # Whether it is worth it is looked at when another trial comes: most are the only one.
            self._latest = ref(specs), reusable, cache_keys, key, answers, plan
        return plan


def _own_hits(
    specs: KeySpecs, cache_keys: Mapping[Key, CacheKey | NoCacheKey],
    outputs: Mapping[str, Hit],
) -> dict[Key, Hit]:  # fmt: skip
    """Return the outputs of the trial that a trial goes on from, if they are still what it needs.

    What the trial made of its parameters, code and seed is what it would make of them now: whether
    a step may be reused elsewhere does not matter.
    """
    hits: dict[Key, Hit] = {}
    for spec in specs.specs if outputs else ():
        known, found = outputs.get(spec.place), cache_keys[spec.key]
        if known is None or isinstance(found, NoCacheKey) or found.base != known.cache_key:
            continue
        if why_not(known.entry) is None and outdated(known.entry) is None:
            hits[spec.key] = Hit(found.seeded, known.entry)
    return hits


# Outputs that are found when the inputs are there -------------------------------------------------


def _calls(
    specs: KeySpecs, plan: ReusePlan, cache_keys: Mapping[Key, CacheKey | NoCacheKey],
    request: TrialRequest, code: Code,
) -> dict[Key, tuple[str, CallKey]]:  # fmt: skip
    """Return place and call of the steps that run, and that take what other nodes give."""
    found, codes = {}, specs.codes(code.steps)
    for spec in specs.specs:
        reason = plan.reasons.get(spec.key)
        if reason is None or reason.startswith(IMPURE) or spec.key in plan.hits:
            continue
        if not (specs.takes_nodes(spec) or specs.takes_folders(spec, request.values)):
            continue  # its cache key says all that its inputs could say
        call = specs.call_key(spec, cache_keys, request.values, codes)
        if call is not None and spec.place in plan.step_keys:
            found[spec.key] = spec.place, call
    return found


def _with_calls(
    plan: ReusePlan, calls: Mapping[Key, tuple[str, CallKey]], store: Store,
    signing_key: bytes | None,
) -> ReusePlan:  # fmt: skip
    """Return a plan that says of which calls the store knows an output."""
    entries = CacheEntries(store, signing_key)
    entries.read({call.call for _, call in calls.values()})
    known = {key: entry for key, (_, call) in calls.items()
             if (entry := latest(entries.all(call.call)))}  # fmt: skip
    step_keys = dict(plan.step_keys)
    for place, call in calls.values():
        # One that rests on files as they were counts: there may be others for the same call, and
        # a new one is to stand beside it.
        found = entries.all(call.call)
        hint = cache_entry_id(call.call, len(found) if _are_untrusted(found) else 0)
        step_keys[place] = step_keys[place].found_by(call, bool(found), hint)
    return replace(plan, step_keys=step_keys, known_calls=known)


# Which outputs are taken, which steps are shared, and what must run ------------------------------


def decide_reuse(
    store: Store, specs: Sequence[KeySpec], cache_keys: Mapping[Key, CacheKey | NoCacheKey],
    reusable: Collection[Key], in_flight: Collection[str], refusal: Refusal | None = None,
    signing_key: bytes | None = None, by_inputs: ByInputs = lambda new, known: {},
    own: Mapping[Key, Hit] = _NONE,
) -> tuple[ReusePlan, Answers]:  # fmt: skip
    """Decide what runs, and tell by what; raises StoreError if the store cannot be read.

    Parameters
    ----------
    store : Store
        Where outputs of earlier trials are.
    specs : sequence of KeySpec
        Inputs before those who take them; the result is the last.
    cache_keys : mapping
        Of every node.
    reusable : collection
        Keys of the steps whose outputs may be reused.
    in_flight : collection of str
        Cache keys whose content a trial in flight makes.
    refusal : callable, optional
        Asked for each output that would be loaded why it is not to be; it answers with no text
        if it is.
    signing_key : bytes, optional
        Outputs whose records are not signed with it are not taken.
    by_inputs : callable, optional
        Returns the keys by which outputs of steps are known for their inputs, if these are known
        now, and the code is among those that its second argument finds in the store.
    own : mapping
        Key of a step -> the output that is taken for it, whatever else is known.
    """
    decision = _Decision(
        store, specs, cache_keys, reusable, in_flight, refusal, signing_key, by_inputs, own
    )
    return decision.plan(), decision.answers


class _Decision:
    """The reuse plan of one trial in the making.

    What is decided of a node follows from what was decided of those before it, so each of the
    methods walks the nodes once, inputs first.
    """

    def __init__(
        self, store: Store, specs: Sequence[KeySpec],
        cache_keys: Mapping[Key, CacheKey | NoCacheKey], reusable: Collection[Key],
        in_flight: Collection[str], refusal: Refusal | None, signing_key: bytes | None,
        by_inputs: ByInputs, own: Mapping[Key, Hit],
    ) -> None:  # fmt: skip
        self.own = own
        self.store = store
        self.by_inputs = by_inputs
        self.same_inputs: dict[Key, Hit] = {}
        """Steps that nothing is known of by their cache keys, and an output for their inputs."""
        self.refusal = refusal
        self.specs = {spec.key: spec for spec in specs}
        self.cache_keys = cache_keys
        self.last = specs[-1].key
        # In the order of the graph, as all that is gone through: that is how it lies in memory,
        # and of thousands of nodes not all are near the processor.
        wanted = set(reusable)
        self.reusable = {spec.key: None for spec in specs if spec.key in wanted}
        self.in_flight = in_flight
        self.entries = CacheEntries(store, signing_key)
        self.before = self._ancestors(reusable)
        self.drew: dict[Key, bool | None] = {}
        self.fitting: dict[Key, list[CacheEntry]] = {}
        """What is known of nodes, but for what was made of something that others had changed."""
        self.reading: set[Key] = set()
        """Nodes that read files besides their arguments, and all behind them."""
        self.suspects: dict[Key, str] = {}
        self.reasons: dict[Key, str] = {}
        self.unfit: dict[str, str] = {}
        self.never: dict[Key, str] = {}
        self.sizes: dict[str, int | None] = {}
        """Of the objects of outputs that might be taken; None of those that are gone."""

    @property
    def answers(self) -> Answers:
        """What the store said."""
        there = {digest: size for digest, size in self.sizes.items() if size is not None}
        entries = self.entries
        return Answers(
            entries.asked, entries.bodies, list(self.sizes), there, entries.some_on_files
        )

    def plan(self) -> ReusePlan:
        keys = self.cache_keys
        known = {key: found for key in self.before if isinstance(found := keys[key], CacheKey)}
        self.entries.read(dict.fromkeys([found.base for found in known.values()]))
        self._find_same_inputs()
        self._find_drawing()
        drawn = [found.seeded for key, found in known.items() if self.drew[key]]
        self.entries.read(dict.fromkeys(drawn))
        self._find_fitting()
        self._find_suspects()
        hits = self._present({key: hit for key in self.reusable if (hit := self._hit(key))})
        computed = self._computed(hits)
        needed = self._needed(hits, computed)
        shared = self._shared(hits)
        made = needed - hits.keys()
        return ReusePlan(
            step_keys=self._step_keys(), hits=hits, shared=shared, computed=computed,
            seeded={key: found.seeded for key, found in known.items()},
            needed=needed, reasons=self.reasons, unfit=self.unfit, never=self.never,
            in_flight=frozenset([shared[key] for key in shared if key in made]),
        )  # fmt: skip

    def _ancestors(self, keys: Iterable[Key]) -> list[Key]:
        """Return nodes and all before them, inputs first."""
        found: set[Key] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in found and key in self.specs:
                found.add(key)
                waiting += self.specs[key].inputs
        return [key for key in self.specs if key in found]

    def _find_same_inputs(self) -> None:
        """Find outputs of steps that got the same from other nodes, where they get it now so."""
        keys = [(key, self.cache_keys[key]) for key in self.reusable]
        new = [self.specs[key] for key, found in keys
               if isinstance(found, CacheKey) and not self.entries.all(found.base)]  # fmt: skip
        bases = self.by_inputs(new, self._with_entries)
        self.entries.read(set(bases.values()))
        for key, base in bases.items():
            entry = latest(self.entries.all(base))
            if entry is not None and not entry.drew and base not in self.entries.impure:
                self.same_inputs[key] = Hit(base, entry)

    def _with_entries(self, cache_keys: set[str]) -> set[str]:
        self.entries.read(cache_keys)
        return {each for each in cache_keys if self.entries.all(each)}

    def _find_drawing(self) -> None:
        """Find out which nodes draw random numbers, or any before them; None if nobody knows."""
        reading = self.entries.some_read
        for key in self.before:
            before = [self.drew.get(each, False) for each in self.specs[key].counting]
            before.append(self._draws(key))
            self.drew[key] = True if True in before else None if None in before else False
            if reading and (
                self._reads(key) or not self.reading.isdisjoint(self.specs[key].inputs)
            ):
                self.reading.add(key)

    def _draws(self, key: Key) -> bool | None:
        spec, found = self.specs[key], self.cache_keys[key]
        if isinstance(found, NoCacheKey):
            return None
        if not spec.place or found.base == found.seeded:
            return False
        drew = [entry.drew for entry in self.entries.all(found.base)]
        return any(drew) if drew else False if key in self.same_inputs else None

    def _reads(self, key: Key) -> bool:
        found = self.cache_keys[key]
        known = self.entries.all(found.base) if isinstance(found, CacheKey) else []
        return any(entry.reads for entry in known)

    def _name(self, key: Key) -> str:
        """Return the cache key that determines a node's output: with seeds where they matter."""
        found = self.cache_keys[key]
        assert isinstance(found, CacheKey)
        return found.seeded if self.drew.get(key) else found.base

    def _find_fitting(self) -> None:
        """Find the outputs that were made of what the nodes before them return."""
        for key in self.before:
            found, given = self.cache_keys[key], self.specs[key].given
            if isinstance(found, CacheKey):
                entries = self.entries.all(self._name(key))
                if any((given and entry.given) or entry.spoiled for entry in entries):
                    returned = {name: self._returned(each) for name, each in given.items()}
                    self.fitting[key] = [one for one in entries if not _changed(one, returned)]

    def _known(self, key: Key) -> list[CacheEntry]:
        """Return what is known of a node's outputs that were made of what their cache key says."""
        fitting = self.fitting.get(key)
        return self.entries.all(self._name(key)) if fitting is None else fitting

    def _returned(self, key: Key | LiveValue) -> set[str] | None:
        """Return the fingerprints of what a node gives, as far as that is known."""
        if isinstance(key, LiveValue):
            digest = None if holds_moved_code(key.value) else exact_or_none(key.value)
            return None if digest is None else {digest}
        found, spec = self.cache_keys[key], self.specs.get(key)
        if isinstance(found, NoCacheKey):
            return None
        if spec is not None and len(spec.parts) == 1 and isinstance(spec.parts[0], LiveValue):
            return self._returned(spec.parts[0])  # a literal that is a node
        if spec is None or spec.taken is not None:
            return {found.base}  # of a parameter it is the fingerprint of its value
        known = {entry.exact for entry in self._known(key) if entry.exact and not entry.note}
        return known or (set() if self.fitting.get(key) == [] else None)

    def _find_suspects(self) -> None:
        """Find the nodes whose outputs cache keys do not determine, and why."""
        if not self.entries.impure and not self.entries.some_noted:
            return
        for key in self.before:
            why = self._suspicion(key) or self._suspicion_before(key)
            if why:
                self.suspects[key] = why

    def _suspicion(self, key: Key) -> str | None:
        found = self.cache_keys[key]
        if isinstance(found, NoCacheKey):
            return None
        if found.base in self.entries.impure:
            return f"{IMPURE}: with nothing changed, it once returned another output"
        entries = self.entries.all(self._name(key)) or self.entries.all(found.base)
        if entries and all(entry.note for entry in entries):
            return why_not(entries[-1])
        return None

    def _suspicion_before(self, key: Key) -> str | None:
        for each in self.specs[key].counting:
            if each in self.suspects:
                place, why = self.specs[each].place, self.suspects[each]
                known = why.startswith("before it") or not place
                return why if known else f"before it, {place}: {why}"
        return None

    def _hit(self, key: Key) -> Hit | None:
        if key in self.own:
            trial = self.own[key].entry.trial
            self.reasons[key] = f"the output that trial {trial} kept could not be loaded"
            return self.own[key]
        found = self.cache_keys[key]
        if isinstance(found, NoCacheKey):
            if found.place in ("", self.specs[key].place):
                self.reasons[key] = found.reason
                self._note_never(key, found.reason)
            else:
                self.reasons[key] = f"before it, {found.place}: {found.reason}"
            return None
        if key in self.suspects:
            self.reasons[key] = self.suspects[key]
            return None
        name = self._name(key)
        if name in self.in_flight:
            # By the key that is in flight, so that what follows has the same keys too.
            self.reasons[key] = "a trial in flight runs it"
            return None
        entries = [] if self.drew[key] is None else self._known(key)
        if not self.reading.isdisjoint(self.specs[key].inputs):
            # What was read before the step must be known too.
            entries = [entry for entry in entries if not entry.partial]
        entry = latest(entries)
        if entry is None and key in self.same_inputs:
            same = self.same_inputs[key]
            name, entry = same.cache_key, same.entry
        if entry is None:
            self.reasons[key] = NEVER_RUN
            if unfit := self._why_none(key, found, entries):
                self.unfit[self.specs[key].place] = unfit
                self._note_never(key, unfit)
            return None
        # Where it comes from tells why, should it turn out that it cannot be loaded.
        self.reasons[key] = f"the output that trial {entry.trial} kept could not be loaded"
        return Hit(name, entry)

    def _note_never(self, key: Key, reason: str) -> None:
        if (told := with_cure(reason)) is not None:
            self.never[key] = told

    def _why_none(self, key: Key, found: CacheKey, entries: Sequence[CacheEntry]) -> str | None:
        """Return why none of the outputs known under a step's key is taken."""
        if not entries and self.fitting.get(key) == []:
            (*_, entry) = self.entries.all(self._name(key))
            returned = {name: self._returned(each) for name, each in self.specs[key].given.items()}
            name = _changed(entry, returned)
            return f"argument {name} had been changed by another step in trial {entry.trial}"
        if self.drew[key] is None and self.entries.all(found.base):
            return "it is not known whether what is before it draws random numbers"
        known = self._known(key)
        if known and known[-1] not in entries:
            trial = known[-1].trial
            return f"it is not known which files the steps before it read in trial {trial}"
        if entries:
            return why_not(entries[-1]) or outdated(entries[-1])
        with_any_seed = [entry for entry in self.entries.all(found.base) if not entry.note]
        if with_any_seed and found.base != found.seeded:
            return f"another seed for random numbers than in trial {with_any_seed[-1].trial}"
        return None

    def _present(self, hits: dict[Key, Hit]) -> dict[Key, Hit]:
        """Return the hits whose outputs are still in the store."""
        digests = {key: digest for key, hit in hits.items() if (digest := hit.digest)}
        self.sizes.update(dict.fromkeys(digests.values()))
        there = self.store.sizes(list(self.sizes)) if digests else {}
        self.sizes.update(there)
        gone = [key for key, digest in digests.items() if digest not in there]
        for key in gone:
            trial = hits.pop(key).entry.trial
            self.reasons[key] = f"the output that trial {trial} kept is no longer in the store"
        return hits

    def _computed(self, hits: Collection[Key]) -> dict[Key, list[Key]]:
        """Return the computed parameters before hits."""
        if not any(self.specs[key].parameter for key in self.before):
            return {}
        found: dict[Key, dict[Key, None]] = {}
        for key in self.before:
            spec = self.specs[key]
            before = [found[each] for each in spec.inputs if found.get(each)]
            # Most nodes add nothing to what the one before them has, and share it.
            found[key] = before[0] if len(before) == 1 else {k: None for b in before for k in b}
            if spec.parameter:
                found[key] = {**found[key], key: None}
        return {key: list(found[key]) for key in hits if found[key]}

    def _needed(
        self, hits: dict[Key, Hit], computed: Mapping[Key, Sequence[Key]]
    ) -> frozenset[Key]:
        """Return what the trial's graph consists of; what is refused is no hit any more."""
        needed: set[Key] = set()
        waiting = [self.last]
        while waiting:
            key = waiting.pop()
            if key not in needed:
                needed.add(key)
                if key in hits and self.refusal and (reason := self.refusal(hits[key])):
                    del hits[key]
                    self.reasons[key] = reason
                if key in hits:
                    waiting += computed.get(key, ())
                elif key in self.specs:
                    waiting += self.specs[key].inputs
        return frozenset(needed)

    def _shared(self, hits: Collection[Key]) -> dict[Key, str]:
        """Return the nodes that have a cache key, as all before them, and are not suspect.

        What is taken from the store needs nothing before it: an argument that is ignored may be
        anything.
        """
        shared: dict[Key, str] = {}
        for key in self.before:
            if key in self.own:
                shared[key] = self.own[key].cache_key
                continue
            if isinstance(self.cache_keys[key], NoCacheKey) or key in self.suspects:
                continue
            free = key in hits or self.specs[key].taken is not None
            inputs = () if free else self.specs[key].inputs
            if all(each in shared or each not in self.specs for each in inputs):
                shared[key] = self._name(key)
        return shared

    def _step_keys(self) -> dict[str, StepKeys]:
        found = {}
        for key, spec in self.specs.items():
            known = isinstance(self.cache_keys[key], CacheKey)
            if spec.place and (known or key in self.reusable):
                found[spec.place] = self._keys_of(spec)
        return found

    def _keys_of(self, spec: KeySpec) -> StepKeys:
        found, reason = self.cache_keys[spec.key], self.reasons.get(spec.key)
        if isinstance(found, NoCacheKey):
            return StepKeys("", "", (), reusable=True, reason=reason)
        ids = self._ids(spec, found)
        return StepKeys(found.base, found.seeded, ids, spec.key in self.reusable, reason)

    def _ids(self, spec: KeySpec, found: CacheKey) -> tuple[str, ...]:
        """Return the ids of the records to write: none for what is known already."""
        if spec.key not in self.drew:
            return first_ids(spec, found)
        if found.base in self.entries.impure:
            return ()
        drew = self.drew[spec.key]
        known = drew and not _are_untrusted(self.entries.all(found.base))
        wanted = [] if known else [found.base]
        if spec.persist and drew is not False:
            wanted.append(found.seeded)
        counts = [(name, len(self.entries.all(name))) for name in wanted]
        again = spec.persist or self.fitting.get(spec.key) == []
        return tuple([
            cache_entry_id(name, n) for name, n in counts
            if again or not n or _are_untrusted(self.entries.all(name))
        ])  # fmt: skip


def _are_untrusted(entries: Sequence[CacheEntry]) -> bool:
    """Whether nothing that is known under a cache key can be relied on: one more is to be."""
    return all(entry.note for entry in entries)


def _changed(entry: CacheEntry, returned: Mapping[str, set[str] | None]) -> str | None:
    """Return which argument was not what the node before gives, when an output was made of it."""
    for name, digest in entry.given.items():
        known = returned.get(name)
        if known is not None and digest not in known:
            return name
    return next((name for name in entry.spoiled if not _is_told(name, entry, returned)), None)


def _is_told(name: str, entry: CacheEntry, returned: Mapping[str, set[str] | None]) -> bool:
    """Whether it is known of an argument, and of all its members, what the nodes before give."""
    members = [each for each in entry.given if each == name or each.startswith(f"{name}[")]
    return bool(members) and all(returned.get(each) is not None for each in members)
