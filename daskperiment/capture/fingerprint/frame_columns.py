"""The columns of a pandas frame, however it keeps them."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["FrameColumns"]

# As many types of columns are looked for one by one; of more, all places are put in order.
_FEW = 16


class FrameColumns:
    """Gives the columns of a frame, many at once.

    A frame that was made column by column has a block for each, and pandas goes through all of
    them for each part that it is asked for. So its blocks are looked at here, and where it has none
    any more, the columns are asked for one by one.
    """

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self._numbers: dict[int, Any] = {}
        self._blocks, self._owners, self._rows = _blocks_of(frame)

    def by_type(self) -> dict[str, tuple[Any, Any]]:
        """Return the types by their texts in the order of the columns, each with its places."""
        np: Any = sys.modules["numpy"]
        found: dict[str, tuple[Any, list[Any]]] = {}
        for dtype, places in self._alike():
            found.setdefault(str(dtype), (dtype, []))[1].append(places)
        return {text: (dtype, places[0] if len(places) == 1 else np.sort(np.concatenate(places)))
                for text, (dtype, places) in found.items()}  # fmt: skip

    def _alike(self) -> list[tuple[Any, Any]]:
        """Return the objects that types are, with the places of their columns, by the first."""
        np: Any = sys.modules["numpy"]
        # Most columns share their type, as an object: it need not be asked for its text each time.
        if self._blocks is None:
            dtypes, owners = self._frame.dtypes.tolist(), slice(None)
        else:
            dtypes, owners = [values.dtype for values in self._blocks], self._owners
        kinds = {id(dtype): dtype for dtype in dtypes}
        numbers = np.fromiter(map(id, dtypes), "u8", len(dtypes))[owners]
        if len(kinds) <= _FEW:
            found = [(dtype, np.flatnonzero(numbers == kind)) for kind, dtype in kinds.items()]
        else:
            each, counts = np.unique(numbers, return_counts=True)
            places = np.split(np.argsort(numbers, kind="stable"), counts.cumsum()[:-1])
            found = [(kinds[kind], some) for kind, some in zip(each.tolist(), places, strict=True)]
        # A block may have lost all of its columns.
        return sorted((one for one in found if len(one[1])), key=lambda one: one[1][0])

    def arrays(self, places: Any) -> list[Any]:
        """Return columns of an extension type, each as it is kept."""
        if self._blocks is None:
            return [self._one(place) for place in places.tolist()]
        found = [self._blocks[owner] for owner in self._owners[places].tolist()]
        return found if found[0].ndim == 1 else [self._one(place) for place in places.tolist()]

    def joined(self, places: Any) -> Any:
        """Return columns of an extension type, one behind the other."""
        arrays = self.arrays(places)
        # What pandas asks each such type to have, and calls without looking at the arrays again.
        join = getattr(type(arrays[0]), "_concat_same_type")  # noqa: B009
        return join(arrays)

    def cells(self, places: Any) -> Any:
        """Return columns of numbers, instants or objects as the rows of an array."""
        np: Any = sys.modules["numpy"]
        if self._blocks is None:
            return np.concatenate([_cells_of(self._one(place)) for place in places.tolist()])
        owners, rows = self._owners[places], self._rows[places]
        # Columns that stand side by side in one block are one piece of it.
        cuts = np.flatnonzero((np.diff(owners) != 0) | (np.diff(rows) != 1)) + 1
        if len(cuts) and (owners == owners[0]).all():
            return self._block(owners[0])[rows]
        firsts = np.concatenate([[0], cuts])
        lasts = rows[np.concatenate([cuts, [len(rows)]]) - 1]
        block = self._block
        pieces = [
            block(owner)[first : last + 1]
            for owner, first, last in zip(
                owners[firsts].tolist(), rows[firsts].tolist(), lasts.tolist(), strict=True
            )
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _block(self, owner: int) -> Any:
        assert self._blocks is not None
        found = self._numbers.get(owner)
        if found is None:
            found = self._numbers[owner] = _cells_of(self._blocks[owner])
        return found

    def _one(self, place: int) -> Any:
        return self._frame.iloc[:, place].array


def _blocks_of(frame: Any) -> tuple[list[Any] | None, Any, Any]:
    """Return the values of a frame's blocks, and for each column which and where; None if none."""
    manager: Any = getattr(frame, "_mgr", None)
    try:
        return [block.values for block in manager.blocks], manager.blknos, manager.blklocs
    except AttributeError:
        return None, None, None


def _cells_of(values: Any) -> Any:
    """Return one or more columns as the rows of an array, and instants as numbers."""
    if type(values) is not sys.modules["numpy"].ndarray:
        kept: Any = sys.modules["pandas"].arrays
        instants = (kept.DatetimeArray, kept.TimedeltaArray, kept.PeriodArray)
        values = values.asi8 if isinstance(values, instants) else values.to_numpy()
    return values if values.ndim == 2 else values.reshape(1, -1)
