"""The methods for objects of the package's own stores: small ones there, large ones elsewhere.

Where large objects go is named by whoever computes, and recorded in the store: who opens it later
finds them. A store that has no such record keeps all its objects itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import msgspec

from daskperiment.errors import CorruptRecordError, ObjectsUnavailableError, StoreError
from daskperiment.store.buckets import Bucket, BucketPlace, recorded_place
from daskperiment.store.protocol import Buffer, Record, Stored, flat

__all__ = ["LARGE", "ObjectMethods", "RecordedPlace", "name_place", "share_place"]

LARGE = 100_000
"""Objects of more bytes than this go where the large ones are kept, if anywhere."""
_STREAM = "places"
_NAME = re.compile(r"[\w.-]*\w-[0-9a-f]{12}")
"""Of an experiment's folder."""


class RecordedPlace(msgspec.Struct, frozen=True):
    """Where large objects of an experiment are, as its store tells."""

    base: str
    """What was named, without what is secret in it."""
    root: str
    """The folder of this experiment below it."""


class ObjectMethods:
    """The methods for objects of a store that leaves these to parts of its own."""

    _objects: Any
    """Those in the store itself."""
    place: BucketPlace | None = None
    """The place of large objects that was named in this process; it may hold secrets."""
    _buckets: dict[str, Bucket] | None = None

    def name_place(self, place: BucketPlace | None) -> None:
        """Say where large objects go from now on, and by what those are opened that are there."""
        if place is not None and place != self.place:
            self.place, self._buckets = place, None

    def carried(self) -> dict[str, Any] | None:
        """Return what goes along when the store is pickled, beside its address."""
        return None if self.place is None else {"place": self.place}

    def put(self, digest: str, parts: Sequence[Buffer]) -> None:
        """Keep an object, see `Store.put`."""
        if sum(flat(part).nbytes for part in parts) > LARGE:
            bucket = self._bucket_in_use()
            if bucket is not None and not self._objects.sizes([digest]):
                bucket.put(digest, parts)
                return
        self._objects.put(digest, parts)

    def get(self, digest: str) -> Buffer:
        """Return an object's bytes, see `Store.get`."""
        try:
            return self._objects.get(digest)
        except KeyError:
            return self._get_elsewhere(digest)

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """Return the sizes of objects, see `Store.sizes`."""
        found: dict[str, int] = self._objects.sizes(digests)
        missing = set(digests).difference(found)
        if missing:
            for bucket in self._all_buckets():
                found |= bucket.sizes(missing)
                missing -= found.keys()
        return found

    def discard(self, digests: Collection[str]) -> None:
        """Remove objects, see `Store.discard`."""
        if digests:
            for bucket in self._all_buckets():
                bucket.discard(digests)
        self._objects.discard(digests)

    def digests_elsewhere(self) -> Iterator[str]:
        """Yield the digests of the objects that are not in the store itself."""
        for bucket in self._all_buckets():
            yield from bucket.digests()

    def delete_elsewhere(self) -> None:
        """Remove the objects that are not in the store itself."""
        buckets: list[Bucket] = []
        with suppress(CorruptRecordError):  # of a damaged store nobody knows where they are
            buckets = self._all_buckets()
        for bucket in buckets:
            bucket.delete()

    def _get_elsewhere(self, digest: str) -> Buffer:
        away: StoreError | None = None
        for bucket in reversed(self._all_buckets()):
            try:
                return bucket.get(digest)
            except KeyError:
                continue
            except ObjectsUnavailableError as error:
                away = error
        if away is not None:
            raise away
        raise KeyError(digest)

    # Places

    def _bucket_in_use(self) -> Bucket | None:
        """Return where large objects go, once that is recorded; None if into the store itself."""
        places = self._places()
        if self.place is None:
            return self._bucket(places[-1]) if places else None
        if not places or places[-1].base != self.place.url:
            known = [each for each in places if each.base == self.place.url]
            place = known[-1] if known else RecordedPlace(self.place.url, self._new_root())
            body = msgspec.json.encode(place)
            id = hashlib.sha256(b"%d %b" % (len(places), body)).hexdigest()[:32]
            self._as_store.append([Record(_STREAM, 0, id, body)])
            places = [*places, place]
        return self._bucket(places[-1])

    def _all_buckets(self) -> list[Bucket]:
        return list({each.root: self._bucket(each) for each in self._places()}.values())

    def _places(self) -> list[RecordedPlace]:
        """Return all recorded places, the one in use last."""
        places = []
        one: Stored
        # As a whole: that is one key, found also where a cluster moves keys.
        for one in self._as_store.read(_STREAM):
            with suppress(msgspec.DecodeError):
                places.append(msgspec.json.decode(one.body, type=RecordedPlace))
        return places

    def _bucket(self, recorded: RecordedPlace) -> Bucket:
        if self._buckets is None:
            self._buckets = {}
        bucket = self._buckets.get(recorded.root)
        if bucket is None:
            bucket = self._buckets[recorded.root] = Bucket(self._opened(recorded))
        return bucket

    def _opened(self, recorded: RecordedPlace) -> BucketPlace:
        """Return a recorded place with what opens it; anybody may have written the record."""
        named = self.place
        within = recorded.root.removeprefix(f"{recorded.base}/")
        if named is not None and named.url == recorded.base and _NAME.fullmatch(within):
            return named.below(recorded.root)
        place = recorded_place(recorded.root)
        if not place.is_trusted:
            raise StoreError(
                f"Objects of {self._as_store.address} are in {recorded.base!r}, as is recorded "
                "there. If you trust that, name it: Experiment(..., objects=...)."
            )
        return place

    def _new_root(self) -> str:
        assert self.place is not None
        address = self._as_store.address
        id = unquote(re.split("[/#]", address)[-1])
        return f"{self.place.url}/{id}-{hashlib.sha256(address.encode()).hexdigest()[:12]}"

    @property
    def _as_store(self) -> Any:
        return self


def name_place(store: Any, place: BucketPlace) -> None:
    """Say where the large objects of a store go; TypeError if it keeps all objects itself."""
    if not isinstance(store, ObjectMethods):
        raise TypeError(
            f"objects={place.url!r}: a backend of the type {type(store).__qualname__} keeps all "
            "objects itself; give a folder, Redis or MongoDB as backend"
        )
    store.name_place(place)


def share_place(*stores: Any) -> None:
    """Let stores of one experiment know where its large objects are, if one of them does."""
    able = [each for each in stores if isinstance(each, ObjectMethods)]
    place = next((each.place for each in able if each.place is not None), None)
    for each in able:
        each.name_place(place)
