"""What a process runs on: platform, processor, memory, Python and its packages.

Nothing here changes by itself while the process runs, and nothing starts another process or
imports a package that is asked about.
"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy
import psutil

from daskperiment.warn import ignore_old_nvml

__all__ = ["CATEGORIES", "installed"]

Facts = dict[str, str]

_HEAD = 1024
"""Bytes of a package's metadata that are read first: they may be as long as a book."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def platform_facts() -> Facts:
    """The operating system."""
    uname = platform.uname()
    facts = {"system": uname.system, "release": uname.release, "machine": uname.machine}
    facts["kernel"] = uname.version
    with suppress(OSError):  # not Linux, or a container without this file
        facts["distribution"] = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    with suppress(ValueError, AttributeError, OSError):
        facts["libc"] = os.confstr("CS_GNU_LIBC_VERSION") or ""
    return {name: text for name, text in facts.items() if text}


def cpu_facts() -> Facts:
    """The processor, and how many threads libraries may use."""
    facts = {"model": _cpu_model(), "logical cores": str(psutil.cpu_count() or "unknown")}
    facts["physical cores"] = str(psutil.cpu_count(logical=False) or "unknown")
    facts.update({name: os.environ[name] for name in _THREADS if name in os.environ})
    return facts


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine() or "unknown"


def memory_facts() -> Facts:
    """How much memory the machine has."""
    size = psutil.virtual_memory().total
    return {"total": f"{size / 2**30:.1f} GiB ({size} bytes)"}


def python_facts() -> Facts:
    """The interpreter."""
    facts = {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "build": " ".join(platform.python_build()).strip(),
        "compiler": platform.python_compiler(),
        "executable": _interpreter(sys.executable or "") or "unknown",
        "free threading": "yes" if sysconfig.get_config_var("Py_GIL_DISABLED") else "no",
    }
    if "PYTHONHASHSEED" in os.environ:
        facts["PYTHONHASHSEED"] = os.environ["PYTHONHASHSEED"]
    return facts


def _interpreter(path: str) -> str:
    """The one name of an environment's interpreter, which has several in one folder."""
    folder = os.path.dirname(path)
    for _ in range(5):
        if not os.path.islink(path):
            break
        target = os.path.normpath(os.path.join(folder, os.readlink(path)))
        if os.path.dirname(target) != folder:
            break  # out of a virtual environment, into what it was made from
        path = target
    return path


def blas_facts() -> Facts:
    """The library by which numpy does linear algebra, and its variant for this processor.

    Other variants add numbers in another order, and so round otherwise.
    """
    facts: Facts = {}
    with suppress(Exception):  # earlier versions of numpy have no such table
        built = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
        facts["library"] = f"{built['name']} {built['version']}"
        facts["configuration"] = str(built.get("openblas configuration", ""))
    with suppress(ImportError):
        from threadpoolctl import threadpool_info  # noqa: PLC0415  # not everybody has it

        found = [each for each in threadpool_info() if each["user_api"] == "blas"]
        # Others, such as scipy's own, are there or not by what was imported so far.
        own = [each for each in found if "numpy" in each["filepath"]] or found[:1]
        for name in ("internal_api", "version", "architecture", "threading_layer"):
            facts[name.replace("_", " ")] = str(own[0].get(name) or "") if own else ""
    return {name: text for name, text in facts.items() if text}


def _package_facts(name: str) -> Callable[[], Facts]:
    def facts() -> Facts:
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            return {}
        installer = (found.read_text("INSTALLER") or "").strip().partition("\n")[0]
        known = {"version": _name_and_version(found)[1], "installer": installer}
        for line in (found.read_text("WHEEL") or "").splitlines():
            if line.startswith("Tag:"):
                known.setdefault("wheel", line.partition(":")[2].strip())
        return {key: text for key, text in known.items() if text}

    return facts


def conda_facts() -> Facts:
    """The conda environment, if this is one."""
    folder = Path(sys.prefix) / "conda-meta"
    if not folder.is_dir():
        return {}
    packages = sorted(path.stem for path in folder.glob("*.json"))
    name = os.environ.get("CONDA_DEFAULT_ENV") or Path(sys.prefix).name
    return {"environment": name, "prefix": sys.prefix, "packages": "\n".join(packages)}


def gpu_facts() -> Facts:
    """The graphics processors, where NVML and its Python package are there."""
    if not may_have_nvidia():
        return {}
    ignore_old_nvml()
    try:
        import pynvml  # noqa: PLC0415  # an optional extra
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
    except Exception as error:
        # The package without a driver: as if there was no graphics processor.
        return {"note": f"NVML is not available: {error}"}
    try:
        return _gpus(pynvml)
    finally:
        pynvml.nvmlShutdown()


def may_have_nvidia() -> bool:
    """Whether a driver may be there, without asking it; Linux and WSL have a device for it."""
    return sys.platform != "linux" or any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg")))


def _gpus(nvml: Any) -> Facts:
    facts = {"driver": _text(nvml.nvmlSystemGetDriverVersion())}
    for place in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(place)
        size = nvml.nvmlDeviceGetMemoryInfo(handle).total
        name = _text(nvml.nvmlDeviceGetName(handle))
        facts[f"device {place}"] = f"{name}, {size / 2**30:.1f} GiB"
    return facts


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def installed() -> Facts:
    """Return the installed distributions: name -> version, sorted."""
    found: Facts = {}
    for distribution in metadata.distributions():
        name, version = _name_and_version(distribution)
        # The first one on the path is the one that is imported.
        if name and name not in found:
            found[name] = version
    return dict(sorted(found.items(), key=lambda item: (item[0].lower(), item[0])))


def _name_and_version(distribution: metadata.Distribution) -> tuple[str, str]:
    # Read as text: parsing the metadata of some hundred packages takes far longer.
    fields: Facts = {}
    for line in _head_of(distribution).splitlines():
        name, colon, value = line.partition(":")
        if not colon or len(fields) == 2:
            break
        if name in ("Name", "Version"):
            fields[name] = value.strip()
    return fields.get("Name", ""), fields.get("Version", "unknown")


def _head_of(distribution: metadata.Distribution) -> str:
    """Return the beginning of the metadata, where name and version stand."""
    folder = getattr(distribution, "_path", None)
    if isinstance(folder, Path):
        head = _beginning(os.path.join(folder, "METADATA")).decode("utf-8", "replace")
        head = head[: head.rfind("\n")]  # the last line may be cut off
        if "\nName:" in head and "\nVersion:" in head:
            return head
    return distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""


def _beginning(path: str) -> bytes:
    """Return the first bytes of a file, none if there is no such file.

    Without a file object, which takes longer to make than the bytes to read: there are hundreds.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        return b""
    try:
        return os.read(descriptor, _HEAD)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


CATEGORIES: dict[str, Callable[[], Facts]] = {
    "platform": platform_facts,
    "cpu": cpu_facts,
    "memory": memory_facts,
    "python": python_facts,
    "blas": blas_facts,
    "numpy": _package_facts("numpy"),
    "scipy": _package_facts("scipy"),
    "pandas": _package_facts("pandas"),
    "conda": conda_facts,
    "gpu": gpu_facts,
}
"""Category -> what gathers its facts; no facts mean that the category does not apply."""
