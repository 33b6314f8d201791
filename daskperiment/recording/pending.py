"""Objects that wait, in a local folder, for a store that is away."""

from __future__ import annotations

import mmap
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from daskperiment.errors import StoreError
from daskperiment.store.protocol import Buffer, Store

__all__ = ["Spool"]

_ENDING = ".object"


class Spool:
    """A folder of objects on their way to a store.

    Parameters
    ----------
    folder : pathlib.Path
        Made when the first object is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, digest: str, parts: Sequence[Buffer]) -> None:
        """Write an object down, whole or not at all."""
        target = self._folder / f"{digest}{_ENDING}"
        temporary = self._folder / f"{digest}.{uuid.uuid4().hex}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                file.writelines(parts)
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StoreError(
                f"Cannot keep an object in {str(self._folder)!r} ({error}). Free some space there, "
                "or name another folder in the configuration 'daskperiment.journal'."
            ) from error

    def deliver(self, store: Store) -> int:
        """Hand every object to the store, and tell how many there were."""
        count = 0
        for path in self.waiting():
            try:
                _put(store, path)
                path.unlink()
            except FileNotFoundError:
                continue  # another process delivered it
            count += 1
        return count

    def waiting(self) -> Iterator[Path]:
        """The files of the objects that wait."""
        try:
            entries = [entry.path for entry in os.scandir(self._folder)]
        except (FileNotFoundError, NotADirectoryError):
            return iter(())  # what stands in its way is for the store to say
        except OSError as error:
            raise StoreError(
                f"Cannot look into {str(self._folder)!r} ({error}). Make it readable for this user."
            ) from error
        return (Path(path) for path in entries if path.endswith(_ENDING))


def _put(store: Store, path: Path) -> None:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            store.put(path.stem, [])
            return
        # Never closed: an error that a store raised may still refer to parts of it.
        store.put(path.stem, [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)])
