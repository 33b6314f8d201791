"""What a store must do, and nothing more.

A store keeps one experiment: *records* in a few named streams and *objects* under the digest of
their content. It does not know what they mean; all meaning is written once, above it. Anybody may
write a store against this module alone and show with :mod:`daskperiment.testing` that it keeps
the contract. At the end stands what may help in it.

Streams
-------
===========  ==========================================================================
``trials``   how trials began and ended (the first record comes from ``allocate``)
``steps``    step runs
``points``   batches of metric points
``outputs``  the first output seen for a step's code, inputs and seed, and what is known under
             a cache key (trial is 0); these can be found by their ids
``notes``    what else there is of a trial, such as an impure step; of trial 0: sweeps
``beats``    heartbeats of running trials
``logs``     pieces of what steps printed, logged and warned of
===========  ==========================================================================

Record ids
----------
A record is identified by ``(stream, trial, id)``. A trial number of 0 stands for the experiment
itself. The id is text of at most 200 characters; the trial's first record has the id ``begun``.

Owners
------
A store may lose trials: somebody deletes the experiment, an older backup takes its place, a server
comes back with less than it had. Then an id is given out a second time. So a record may name its
*owner*, a trial id together with the token that it was allocated to. Whether the store still has
that pair is looked at in the same step as the write, so that no record joins a stranger's trial.

Removed trials
--------------
A trial may be removed, and its id is never given out again. Of its records nothing stays but a
marker. Who still writes for it is not stopped, and changes nothing.

For every method
----------------
*Threads and processes.* Any number of threads and processes may use stores on the same address at
once; one store object may be used by many threads. A store object survives ``fork`` and pickles
as its address.

*Errors.* `StoreUnavailableError` if the store cannot be reached or did not answer in time,
`CorruptRecordError` if what it holds is damaged, `StoreError` for anything else that went wrong.
No other exception leaves a store. Messages never show a password.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pickle import PickleBuffer
from typing import Any, NamedTuple, Protocol, runtime_checkable

from daskperiment.errors import RecordsRefusedError, StoreError

__all__ = [
    "Allocation",
    "Attesting",
    "Buffer",
    "Fault",
    "Inspectable",
    "Owner",
    "Record",
    "State",
    "Store",
    "Stored",
    "last_deletion",
]

Buffer = Any
"""Something that supports the buffer protocol: bytes, memoryview, mmap."""


class Owner(NamedTuple):
    """A trial id and the token that it was allocated to."""

    trial: int
    token: str


class Record(NamedTuple):
    """A record as a store gets it."""

    stream: str
    trial: int
    id: str
    body: bytes
    """UTF-8 encoded JSON object. A store may look into it, but must give back equal JSON."""
    owner: Owner | None = None
    """What the store must have for the record to be written; None if it need have nothing. The
    owner of a record of trial 0 is the trial that wrote it."""


class Stored(NamedTuple):
    """A record as it is read back, with its place in the stream."""

    position: int
    """Positive; grows in the order of writing within one stream, with gaps. Records become
    visible in order: none appears later at a position below one that was already read."""
    trial: int
    id: str
    body: bytes


class Allocation(NamedTuple):
    """A trial's place in the store."""

    trial: int
    clock: float
    """The store's clock, in seconds since the Unix epoch."""
    new: bool
    """False if the token had its trial already."""
    stands: bool = True
    """Whether the record that the caller knew is there; True if it named none."""


class State(NamedTuple):
    """A glance at a store."""

    latest: int
    """The highest trial id given out, 0 before the first."""
    clock: float
    """The store's clock, in seconds since the Unix epoch: one clock for all who use it."""
    stands: bool = True
    """Whether the record that the caller knew is there; True if it named none."""


@runtime_checkable
class Store(Protocol):
    """Where one experiment's records live. See the module's docstring for what holds throughout."""

    @property
    def address(self) -> str:
        """Names the store and experiment for people and logs: a URL without password."""

    def allocate(self, token: str, body: bytes, known: Record | None = None) -> Allocation:
        """Allocate the token's trial id, and write the trial's first record.

        Ids are 1, 2, 3 … without gaps. The id and the record ``("trials", id, "begun", body)``
        appear together or not at all. A token that has an id already keeps it, and nothing is
        written.

        Parameters
        ----------
        token : str
            Unique for each trial, at most 100 ASCII characters.
        body : bytes
            Body of the trial's first record.
        known : Record, optional
            A record of the stream ``trials``, with its owner, that the caller knows to be there:
            where it is not, the store lost something. Its body does not matter.
        """

    def append(self, records: Sequence[Record]) -> list[Record]:
        """Write records; those whose identity is there already are left as they are.

        Each owner among the records is looked up in the same step as the write.

        All or nothing where the store has transactions; else in order, so that the same call
        made again completes what was cut off. When it returns, the records survive the end of
        this process.

        Returns
        -------
        list of Record
            Of the stream ``outputs`` alone: what stands in the store for those records whose
            identity was there already, with the body that was written first. Other streams'
            repeated records are passed over in silence.

        Raises
        ------
        RecordsRefusedError
            If the store does not have the owner of a record; that record is not written.
        """

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        """Read a stream in order of position.

        Parameters
        ----------
        stream : str
            An unknown stream is an empty one.
        trials : collection of int, optional
            Only the records of these trials. Without it, all.
        after : int, optional
            Only the records at higher positions.
        """

    def find(self, ids: Collection[str]) -> list[Record]:
        """Find records of the stream ``outputs`` and trial 0 by their ids, through an index.

        Parameters
        ----------
        ids : collection of str
            Hundreds of them cost one round trip. One that stands there twice counts once.

        Returns
        -------
        list of Record
            Those that are there, in any order.
        """

    def put(self, digest: str, parts: Sequence[Buffer]) -> None:
        """Keep an object: the bytes of all parts, one after the other.

        An object appears whole or not at all. One that is there already is left alone. The parts
        may be large: they are neither joined nor copied as a whole.

        Parameters
        ----------
        digest : str
            Lower-case hexadecimal digits, at most 64.
        """

    def get(self, digest: str) -> Buffer:
        """Return an object's bytes, as a buffer that may be writable and private to the caller.

        Raises
        ------
        KeyError
            If there is no such object.
        """

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """Return the size in bytes of each of these objects that is there, without reading them.

        Those that are not there are left out.
        """

    def remove(self, markers: Sequence[Record], outputs: Collection[str] = ()) -> None:
        """Remove trials, and leave a marker in the place of each.

        All records of a marker's trial go, from every stream; then the marker stands alone, behind
        all that was written to the stream ``trials`` before. From then on

        - `allocate` returns the trial's id for its token, as not new, and writes nothing;
        - `append` passes over records whose owner is the trial, in silence;
        - a known record of the trial counts as there, for nothing was lost.

        No moment shows a trial with its marker and with other records of that stream. What was cut
        off is completed by the same call.

        Parameters
        ----------
        markers : sequence of Record
            Each of the stream ``trials``, with its owner and the id ``removed``.
        outputs : collection of str
            Ids of records of the stream ``outputs`` and trial 0 that go too; those that are not
            there are passed over.

        Raises
        ------
        RecordsRefusedError
            If the store does not have the owner of a marker. Then nothing is removed.
        """

    def discard(self, digests: Collection[str]) -> None:
        """Remove objects; those that are not there are passed over in silence.

        A buffer that `get` returned before stays as it is; a `get` at the same time returns the
        whole object or raises the KeyError. Afterwards `put` keeps an object of this digest anew.
        """

    def state(self, known: Record | None = None) -> State:
        """Return the highest trial id and the store's clock; `known` is as in `allocate`."""

    def delete(self) -> None:
        """Remove everything that this experiment wrote, and nothing else.

        The store can be used again afterwards and is then empty. What `Attesting` needs may stay
        for a while, if nothing can be learned from it but that there was a deletion.
        """

    def close(self) -> None:
        """Close connections and files; a later call opens them again."""


class Fault(NamedTuple):
    """Something in a store that is not as the store writes it."""

    place: str
    what: str
    remedy: str
    mend: Callable[[], object] | None
    """Puts it right while nobody writes to the store; ``None`` where the store cannot."""


@runtime_checkable
class Inspectable(Protocol):
    """A store that can look itself over, as those of the package can; others need not."""

    def faults(self, seconds: float) -> Iterable[Fault]:
        """Return what is damaged or odd below the records, looked for so long at most."""

    def digests(self) -> Iterable[str]:
        """Return the digests of all objects that are there, in any order."""

    def set_aside(self, stream: str, record: Stored) -> None:
        """Take a record out of its stream, and keep it where no question reads it.

        Another record may have its identity then. The others keep their positions. One that is
        not there is passed over in silence.
        """

    def has_aside(self) -> bool:
        """Whether any record was set aside: what it named is not known."""


@runtime_checkable
class Attesting(Protocol):
    """A store that tells a deletion from a loss, as those of the package do; others need not.

    What somebody deleted is meant to be gone. What a store lost, its writers write again.
    """

    def last_deletion(self) -> str:
        """Return what names the last `delete` of the experiment by anybody.

        Empty if none is known of: such as before the first, or after the store was emptied by
        other means. Each deletion has another name.
        """


def last_deletion(store: Store) -> str | None:
    """Return what names the last deletion of a store; None if that cannot be told now."""
    if not isinstance(store, Attesting):
        return ""
    try:
        return store.last_deletion()
    except StoreError:
        return None


def refused(address: str, owners: Mapping[Owner, int | None]) -> RecordsRefusedError:
    """Return the error for records whose owners a store does not have."""
    listed = ", ".join(f"trial {owner.trial} ({owner.token})" for owner in list(owners)[:3])
    return RecordsRefusedError(
        f"{address} does not have {listed}{' and others' if len(owners) > 3 else ''}: it lost or "
        "renumbered what records were written for. Begin the trial again, and write them for that.",
        owners,
    )


def removed_token(token: str) -> str:
    """Return what may stand in the place of a token whose trial was removed."""
    return f"removed:{token}"


def flat(part: Buffer) -> memoryview:
    """Return a view of a part as plain bytes, whatever its type and shape, without copying it."""
    if not isinstance(part, memoryview):
        return PickleBuffer(part).raw()  # Of arrays in any order and of any type.
    # A view of a view through PickleBuffer crashes some Pythons when a reference cycle with it
    # is collected; a cast has no such chain, but it refuses empty arrays.
    return part.cast("B") if part.nbytes else memoryview(b"")


def batches(records: Iterable[Record], count: int, size: int) -> Iterator[list[Record]]:
    """Cut records, in order, into batches of so many records, and of so many bytes in all.

    A larger record is a batch of its own.
    """
    batch: list[Record] = []
    used = 0
    for record in records:
        if batch and (len(batch) == count or used + len(record.body) > size):
            yield batch
            batch, used = [], 0
        batch.append(record)
        used += len(record.body)
    if batch:
        yield batch
