"""Values <-> files of open formats, with previews; one file for each library's formats.

In come values of any type; out go files that other programs read, and all the way back, without
unpickling anything. A format is asked for no value of a library that is not loaded.
"""

from __future__ import annotations

from daskperiment.formats.format import Format, Written
from daskperiment.formats.kept_values import (
    as_file,
    as_object,
    early_file,
    object_of,
    read_file,
)
from daskperiment.formats.known_formats import (
    PICKLE,
    asks_others,
    check_format_name,
    format_named,
    preview_beside,
    register,
    written_as,
    written_for_artifact,
    written_for_output,
)
from daskperiment.records import Preview

__all__ = [
    "PICKLE",
    "Format",
    "Preview",
    "Written",
    "as_file",
    "as_object",
    "asks_others",
    "check_format_name",
    "early_file",
    "format_named",
    "object_of",
    "preview_beside",
    "read_file",
    "register",
    "written_as",
    "written_for_artifact",
    "written_for_output",
]
