"""Pictures: figures of matplotlib, images of Pillow, and arrays that are one, as PNG or SVG."""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any

from daskperiment.formats.format import Buffer, Format
from daskperiment.formats.trees import top_modules
from daskperiment.records import Preview

__all__ = ["FORMATS", "picture_thumbnail"]

_SIZE = 240
"""Pixels of a thumbnail's longer side."""
_DOTS = 120
"""Dots per inch of a figure."""
_MODES = ("1", "L", "LA", "RGB", "RGBA")
_SHOW = "_repr_svg_"
"""What notebooks ask an object for that is a picture."""
_LARGEST = 50_000_000
"""Pixels of a picture that a thumbnail is made of, at most."""


def _figure(value: Any) -> Any:
    """Return the matplotlib figure that something is, or belongs to; None if there is none."""
    if "matplotlib" not in sys.modules:
        return None
    if hasattr(value, "savefig") and hasattr(value, "canvas"):
        return value
    inner = getattr(value, "figure", None)  # axes, and what seaborn returns
    return inner if hasattr(inner, "savefig") and hasattr(inner, "canvas") else None


def _is_image(value: Any) -> bool:
    return "PIL" in top_modules(value) and hasattr(value, "getpixel")


def picture_thumbnail(data: Buffer) -> bytes | None:
    """Return a small picture of the bytes of one, None if Pillow cannot make any."""
    try:
        images: Any = import_module("PIL.Image")
        with images.open(io.BytesIO(data)) as image:
            if image.width * image.height > _LARGEST:
                return None
            image.thumbnail((_SIZE, _SIZE))
            target = io.BytesIO()
            mode = image.mode if image.mode in _MODES else "RGBA"
            image.convert(mode).save(target, "PNG", optimize=True)
            return target.getvalue()
    except Exception:  # there is no Pillow, or it does not know such pictures
        return None


class PNGFormat(Format):
    """A picture as dots."""

    name, suffix, media = "png", ".png", "image/png"

    def takes(self, value: Any) -> bool:
        """Whether it is an image of Pillow, of a kind that PNG has."""
        images = sys.modules.get("PIL.Image")
        return images is not None and type(value) is images.Image and value.mode in _MODES

    def shows(self, value: Any) -> bool:
        """Whether it is a figure, or any image of Pillow."""
        return _is_image(value) or _figure(value) is not None

    def writes(self, value: Any) -> bool:
        """Whether it is a picture, or an array of numbers that can be one."""
        return self.shows(value) or _pixels(value) is not None

    def write(self, value: Any) -> bytes:
        """Return the file."""
        target = io.BytesIO()
        figure = _figure(value)
        if figure is not None:
            figure.savefig(target, format="png", dpi=_DOTS, bbox_inches="tight",
                           metadata={"Software": None})  # fmt: skip
        else:
            image = value if _is_image(value) else _from_array(value)
            image = image if image.mode in _MODES else image.convert("RGBA")
            image.save(target, "PNG")
        return target.getvalue()

    def read(self, data: Buffer) -> Any:
        """Return an image of Pillow."""
        images: Any = import_module("PIL.Image")
        with images.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
            found = image.copy()
        found.info = {}
        return found

    def preview(self, value: Any) -> Preview:
        """Return the size of the picture."""
        figure = _figure(value)
        if figure is not None:
            return Preview("image", shape=[int(side * _DOTS) for side in figure.get_size_inches()])
        if _is_image(value):
            return Preview("image", dtype=value.mode, shape=list(value.size))
        return Preview("image", shape=list(value.shape[1::-1]))

    def thumbnail(self, value: Any) -> bytes | None:
        """Return the picture, smaller."""
        return picture_thumbnail(self.write(value))


def _pixels(value: Any) -> Any:
    """Return an array of bytes that is a picture, None if a value cannot be one."""
    np: Any = sys.modules.get("numpy")
    if np is None or not hasattr(value, "__array__") or hasattr(value, "columns"):
        return None
    array = np.asarray(value)
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)  # as torch has them
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        return None
    if not array.size:
        return None
    if array.dtype.kind == "f":
        # As matplotlib has them: from 0 to 1.
        array = (np.clip(np.nan_to_num(array), 0, 1) * 255).round()
    elif array.dtype.kind == "b":
        array = array.astype("u1") * 255
    elif array.dtype.kind not in "iu":
        return None
    return np.ascontiguousarray(np.clip(array, 0, 255).astype("u1"))


def _from_array(value: Any) -> Any:
    return import_module("PIL.Image").fromarray(_pixels(value))


class SVGFormat(Format):
    """A figure as lines."""

    name, suffix, media = "svg", ".svg", "image/svg+xml"

    def takes(self, value: Any) -> bool:
        """Whether it comes back: no figure does."""
        return False

    def writes(self, value: Any) -> bool:
        """Whether it is a figure, or has a picture of itself as SVG."""
        return _figure(value) is not None or hasattr(value, _SHOW) or _is_svg(value)

    def write(self, value: Any) -> bytes:
        """Return the file."""
        if _is_svg(value):
            return bytes(value.encode())
        figure = _figure(value)
        if figure is None:
            return bytes(getattr(value, _SHOW)().encode())
        target = io.BytesIO()
        figure.savefig(target, format="svg", bbox_inches="tight", metadata={"Date": None})
        return target.getvalue()

    def read(self, data: Buffer) -> str:
        """Return the text of the file."""
        return bytes(data).decode()

    def preview(self, value: Any) -> Preview:
        """Say that it is a picture."""
        return Preview("image")

    def thumbnail(self, value: Any) -> bytes | None:
        """Return the figure, smaller, as dots."""
        return picture_thumbnail(PNGFormat().write(value)) if _figure(value) is not None else None


def _is_svg(value: Any) -> bool:
    return isinstance(value, str) and "<svg" in value[:1000]


FORMATS: tuple[Format, ...] = (PNGFormat(), SVGFormat())
