"""Settings that libraries keep for the whole process, and that results depend on.

They belong to what a step's code reads where it uses such a library. Only what differs from the
library's own default counts, so that whoever sets nothing has nothing that could change. How
something is shown, such as the number of rows or digits, is left out: people change that while
they look at results.
"""

from __future__ import annotations

import locale
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any

__all__ = ["SETTING", "has_settings", "depends_on", "settings_of_library"]

SETTING = "setting "
"""What names of settings begin with, among those of constants."""

_Settings = Iterable[tuple[str, Any, Any]]
"""Name, value and the library's own default."""


def _of_decimal(decimal: Any) -> _Settings:
    context, default = decimal.getcontext(), "ROUND_HALF_EVEN"
    yield "decimal.getcontext().prec", context.prec, 28
    yield "decimal.getcontext().rounding", context.rounding, default


def _of_numpy(numpy: Any) -> _Settings:
    # Whether something is raised counts; whether it is said does not.
    return [(f"numpy.geterr()[{name!r}]", value if value in ("raise", "call") else "", "")
            for name, value in numpy.geterr().items()]  # fmt: skip


def _of_torch(torch: Any) -> _Settings:
    yield "torch.get_default_dtype()", str(torch.get_default_dtype()), "torch.float32"
    yield "torch.get_default_device()", str(torch.get_default_device()), "cpu"
    precision = torch.get_float32_matmul_precision()
    yield "torch.get_float32_matmul_precision()", precision, "highest"


def _of_jax(jax: Any) -> _Settings:
    yield "jax.config.jax_enable_x64", jax.config.jax_enable_x64, False
    precision = jax.config.jax_default_matmul_precision
    yield "jax.config.jax_default_matmul_precision", precision, None


def _of_sklearn(sklearn: Any) -> _Settings:
    config = sklearn.get_config()
    for name, default in (
        *(("transform_output", "default"), ("assume_finite", False)),
        *(("array_api_dispatch", False), ("enable_metadata_routing", False)),
    ):
        yield f"sklearn.get_config()[{name!r}]", config.get(name, default), default


def _of_xarray(xarray: Any) -> _Settings:
    options = xarray.get_options()
    defaults = {"arithmetic_join": "inner", "arithmetic_broadcast": True, "keep_attrs": "default"}
    for name, default in defaults.items():
        yield f"xarray.get_options()[{name!r}]", options.get(name, default), default


def _of_locale(_: Any) -> _Settings:
    # What days and months are called, how numbers are written, and which text is before another.
    for name in ("LC_TIME", "LC_NUMERIC", "LC_COLLATE"):
        yield f"locale.{name}", locale.setlocale(getattr(locale, name)), "C"


def _of_mpmath(mpmath: Any) -> _Settings:
    yield "mpmath.mp.prec", mpmath.mp.prec, 53


_READING: dict[str, Callable[[Any], _Settings]] = {
    "decimal": _of_decimal, "jax": _of_jax, "numpy": _of_numpy, "sklearn": _of_sklearn,
    "torch": _of_torch, "xarray": _of_xarray, "mpmath": _of_mpmath,
    **dict.fromkeys(("locale", "calendar", "datetime", "time"), _of_locale),
}  # fmt: skip
_SETTING = {
    "decimal": {"setcontext", "localcontext", "prec", "rounding"},
    "jax": {"update", "enable_x64", "default_matmul_precision"},
    "mpmath": {"dps", "prec", "workdps", "workprec"},
    "numpy": {"seterr", "errstate"},
    **{library: {"setlocale"} for library in ("locale", "calendar", "datetime", "time")},
    "sklearn": {"set_config", "config_context", "set_output"},
    "torch": {
        *("set_default_dtype", "set_default_device", "set_default_tensor_type"),
        "set_float32_matmul_precision",
    },
    "xarray": {"set_options"},
}
"""By what code sets them."""


_WITH_NAMES = ("datetime", "time")
_NAMING = {"strftime", "strptime"}
"""By what code asks these for names of days and months."""


def has_settings(library: str) -> bool:
    """Whether a library has settings on which results depend, and may have been set."""
    return library in _READING and library in sys.modules


def depends_on(library: str, attributes: Collection[str]) -> bool:
    """Whether code that reads some attributes depends on what was set, and sets it not itself."""
    asks = library not in _WITH_NAMES or not _NAMING.isdisjoint(attributes)
    return asks and _SETTING[library].isdisjoint(attributes)


def settings_of_library(library: str) -> list[tuple[str, str]]:
    """Return the settings that differ from the library's own defaults, with their values."""
    try:
        found = list(_READING[library](sys.modules[library]))
    except Exception:  # of a version that has none of this, or is not imported to the end
        return []
    # Equal texts are one object, as what is held against it later asks for.
    return [(name, sys.intern(repr(value))) for name, value, default in found if value != default]
