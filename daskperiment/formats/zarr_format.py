"""Large arrays, and arrays of Dask, chunk by chunk in a zip file of zarr."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib import import_module
from typing import Any

from daskperiment.formats.format import Buffer, Format, file_content
from daskperiment.formats.numpy_formats import array_preview, is_exact_array
from daskperiment.formats.trees import top_modules
from daskperiment.records import Preview

__all__ = ["FORMATS"]


def _is_dask_array(value: Any) -> bool:
    return "dask" in top_modules(value) and hasattr(value, "chunks") and hasattr(value, "dtype")


class ZarrFormat(Format):
    """An array in compressed chunks, of which readers load what they need."""

    name, suffix, media = "zarr", ".zarr.zip", "application/zip"
    mapped = True

    def takes(self, value: Any) -> bool:
        """Whether it is an array of zarr, or of NumPy: these come back as arrays of NumPy."""
        return "zarr" in sys.modules and is_exact_array(value)

    def shows(self, value: Any) -> bool:
        """Whether it is an array of Dask, which is computed chunk by chunk, or one of zarr."""
        return _is_dask_array(value) or ("zarr" in top_modules(value) and hasattr(value, "shape"))

    def writes(self, value: Any) -> bool:
        """Whether it is an array of any of these libraries."""
        return is_exact_array(value) or self.shows(value)

    def write(self, value: Any) -> Buffer:
        """Return the zip file."""
        zarr: Any = import_module("zarr")
        with tempfile.TemporaryDirectory(prefix="daskperiment-") as folder:
            path = os.path.join(folder, "array.zarr.zip")
            store = zarr.storage.ZipStore(path, mode="w")
            try:
                chunks = getattr(value, "chunksize", None) or _chunks(value)
                target = zarr.create_array(
                    store=store, shape=value.shape, dtype=value.dtype, chunks=chunks
                )
                _fill(target, value)
            finally:
                store.close()
            return file_content(path)

    def read(self, data: Buffer) -> Any:
        """Return an array of NumPy."""
        zarr: Any = import_module("zarr")
        with tempfile.TemporaryDirectory(prefix="daskperiment-") as folder:
            path = os.path.join(folder, "array.zarr.zip")
            with open(path, "wb") as file:
                file.write(data)
            store = zarr.storage.ZipStore(path, mode="r")
            try:
                return zarr.open_array(store=store, mode="r")[...]
            finally:
                store.close()

    def preview(self, value: Any) -> Preview:
        """Return shape and type."""
        if is_exact_array(value):
            return array_preview(value)
        return Preview("array", dtype=str(value.dtype), shape=list(value.shape))


def _chunks(value: Any) -> Any:
    return getattr(value, "chunks", None) or "auto"


def _fill(target: Any, value: Any) -> None:
    """Write an array, of Dask one chunk after the other, so that two are never in memory."""
    if not _is_dask_array(value):
        target[...] = value[...]
        return
    slices: Any = import_module("dask.array.core").slices_from_chunks(value.chunks)
    for where in slices:
        target[where] = value[where].compute()


FORMATS: tuple[Format, ...] = (ZarrFormat(),)
