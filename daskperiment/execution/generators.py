"""Families of random generators: those that a library has once in a process.

Each family is seeded for steps, tells whether they drew from it, and comes back as it was. A
library that is not imported costs nothing, and a device that nobody used is not touched: torch
keeps a seed for when CUDA is initialised. What cannot be observed counts as drawn from.
"""

from __future__ import annotations

import random
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np

from daskperiment.execution.unseen_draws import notice_states

__all__ = [
    "PACKAGES",
    "ArrivalFinder",
    "GeneratorFamily",
    "families_of",
    "imported_families",
    "move_numpy",
    "move_python",
    "numpy_position",
    "python_position",
]


class GeneratorFamily(ABC):
    """Generators that a process has once; made when steps begin, it knows the user's own state."""

    observed = True
    """Whether it is known what was drawn, and not only supposed."""
    package = ""
    """The package whose generators they are."""

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Give the generators a seed, from 0 to 2**64 - 1."""

    @abstractmethod
    def drawn(self) -> bool:
        """Return whether something may have been drawn since they were seeded."""

    @abstractmethod
    def restore(self) -> None:
        """Give the generators the state back that they had when this was made."""

    def position(self) -> Any:
        """Return where the generators are; None if that cannot be read, or nobody used them."""
        return None

    def move(self, position: Any) -> None:
        """Bring the generators to a position."""
        raise NotImplementedError(f"{type(self).__name__} has no position")


class StatefulGenerators(GeneratorFamily):
    """Generators whose whole state can be read and written.

    Parameters
    ----------
    read, write, seed : callable
    """

    def __init__(
        self, read: Callable[[], Any], write: Callable[[Any], None], seed: Callable[[int], Any]
    ) -> None:
        self._read, self._write, self._give_seed = read, write, seed
        self._outside = self._fresh = read()

    def seed(self, seed: int) -> None:
        """Give the generators a seed, and remember the state that it makes."""
        self._give_seed(seed)
        self._fresh = self._read()

    def drawn(self) -> bool:
        """Return whether the state is another than after seeding."""
        return not _same(self._read(), self._fresh)

    def restore(self) -> None:
        """Write the state that was there before."""
        self._write(self._outside)

    def position(self) -> Any:
        """Return the state."""
        return self._read()

    def move(self, position: Any) -> None:
        """Write a state."""
        self._write(position)


class WaitingSeed:
    """What torch calls when it initialises devices: it gives them the seed of that moment.

    torch keeps a text of the stack with each seed that waits, which takes longer than a small
    step. So one call waits for all steps, and each says its seed here.

    Parameters
    ----------
    devices : module
    seed : int
    """

    def __init__(self, devices: Any, seed: int) -> None:
        self._devices = devices
        self.seed = seed

    def __call__(self) -> None:
        """Seed all devices."""
        for place in range(self._devices.device_count()):
            self._devices.default_generators[place].manual_seed(self.seed)


class UntouchedDevices(GeneratorFamily):
    """Generators of devices that torch has not initialised, and that this does not initialise.

    Parameters
    ----------
    torch : module
    devices : module
        Such as ``torch.cuda``. A seed that it is given now is kept until it is initialised.
    """

    def __init__(self, torch: Any, devices: Any) -> None:
        self._torch, self._devices = torch, devices
        self._seed = 0
        self._absent = devices is torch.cuda and not torch.backends.cuda.is_built()

    def seed(self, seed: int) -> None:
        """Give the devices a seed for the moment in which they are initialised."""
        self._seed = seed
        self._give(seed)

    def _give(self, seed: int) -> None:
        devices = self._devices
        if self._absent:
            return
        tracker = getattr(devices, "_lazy_seed_tracker", None)
        wait = getattr(devices, "_lazy_call", None)
        if devices.is_initialized() or tracker is None or wait is None:
            devices.manual_seed_all(seed)
            return
        latest = (tracker.get_calls() or [None])[-1]
        if latest is not None and isinstance(latest[0], WaitingSeed):
            latest[0].seed = seed
        else:  # the user's own code gave one
            wait(WaitingSeed(devices, seed), seed_all=True)

    def drawn(self) -> bool:
        """Return whether a step initialised the devices and drew there."""
        if not self._devices.is_initialized():
            return False
        now = self._devices.get_rng_state_all()
        self._devices.manual_seed_all(self._seed)
        return not _same(now, self._devices.get_rng_state_all())

    def restore(self) -> None:
        """Give the devices the seed of the processor's generator: a user's seed is for both."""
        self._give(self._torch.initial_seed())

    def position(self) -> Any:
        """Return the state of each device, once a step has initialised them."""
        return self._devices.get_rng_state_all() if self._devices.is_initialized() else None

    def move(self, position: Any) -> None:
        """Give each device a state."""
        self._devices.set_rng_state_all(position)


class CupyStates(dict[int, Any]):
    """cupy's generators by device, each made with a certain seed where a step first uses it.

    Parameters
    ----------
    make : callable
        Makes a generator from a seed.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self._make = make
        self.seed = 0

    def get(self, device: int, default: Any = None) -> Any:
        """Return the generator of a device."""
        if device not in self:
            self[device] = self._make(np.uint64(self.seed))
        return self[device]


class CupyGenerators(GeneratorFamily):
    """cupy's generators: their state cannot be read, so steps get others.

    Parameters
    ----------
    module : module
        ``cupy.random._generator``.
    """

    def __init__(self, module: Any) -> None:
        self._module, self._outside = module, module._random_states
        self._states = CupyStates(module.RandomState)

    def seed(self, seed: int) -> None:
        """Have generators made anew with this seed."""
        self._states.clear()
        self._states.seed = seed
        self._module._random_states = self._states

    def drawn(self) -> bool:
        """Return whether a step used one."""
        return bool(self._states)

    def restore(self) -> None:
        """Put the user's generators back."""
        self._module._random_states = self._outside


class OpaqueGenerators(GeneratorFamily):
    """Generators that can be seeded at most: who runs beside them is taken to draw.

    Parameters
    ----------
    seed : callable
    """

    observed = False

    def __init__(self, seed: Callable[[int], Any] = lambda seed: None) -> None:
        self._give_seed = seed

    def seed(self, seed: int) -> None:
        """Give the generators a seed."""
        self._give_seed(seed)

    def drawn(self) -> bool:
        """Return True: nobody can tell."""
        return True

    def restore(self) -> None:
        """Leave them as they are."""


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    try:  # as bytes: to compare them itself takes torch longer than to make and to read them
        return bool(first.numpy().tobytes() == second.numpy().tobytes())
    except RuntimeError:  # a torch that was built for another NumPy
        return bool(first.equal(second))


# Where single generators are ----------------------------------------------------------------------


def python_position(generator: random.Random) -> dict[str, Any]:
    """Return the state of one of Python's generators as an array and plain values."""
    version, words, gauss = generator.getstate()
    return {"version": version, "words": np.array(words, dtype=np.uint32), "gauss": gauss}


def move_python(generator: random.Random, position: dict[str, Any]) -> None:
    """Give one of Python's generators a state."""
    words = tuple(map(int, position["words"]))
    # The class's own, as that of the module counts who calls it as drawing.
    random.Random.setstate(generator, (position["version"], words, position["gauss"]))


def numpy_position(generator: np.random.Generator) -> dict[str, Any]:
    """Return the state of one of NumPy's generators, and how many it spawned."""
    seeds: Any = generator.bit_generator.seed_seq
    return {"state": generator.bit_generator.state, "spawned": seeds.n_children_spawned}


def move_numpy(generator: np.random.Generator, position: dict[str, Any]) -> None:
    """Give one of NumPy's generators a state."""
    seeds: Any = generator.bit_generator.seed_seq
    seeds.spawn(max(0, position["spawned"] - seeds.n_children_spawned))
    generator.bit_generator.state = position["state"]


# Which there are ---------------------------------------------------------------------------------


def _torch(torch: Any) -> Iterable[GeneratorFamily]:
    if not hasattr(torch, "get_rng_state"):
        return  # the import failed halfway
    _notice_states(torch)
    # Not torch.manual_seed, which seeds every device there is and takes a hundred times as long.
    generator = getattr(torch, "default_generator", torch)
    yield StatefulGenerators(torch.get_rng_state, torch.set_rng_state, generator.manual_seed)
    yield _devices(torch, torch.cuda)
    xpu = getattr(torch, "xpu", None)
    if xpu is not None and xpu.is_available():
        yield _devices(torch, xpu)
    if hasattr(torch, "mps") and torch.backends.mps.is_available():
        mps = torch.mps
        yield StatefulGenerators(mps.get_rng_state, mps.set_rng_state, mps.manual_seed)


def _notice_states(torch: Any) -> None:
    devices = [getattr(torch, name, None) for name in ("cuda", "xpu", "mps")]
    for module in (torch, *devices):
        for owner in (module, getattr(module, "random", None)):
            notice_states(owner, ("set_rng_state", "set_rng_state_all"))


def _devices(torch: Any, devices: Any) -> GeneratorFamily:
    if not devices.is_initialized():
        return UntouchedDevices(torch, devices)
    return StatefulGenerators(
        devices.get_rng_state_all, devices.set_rng_state_all, devices.manual_seed_all
    )


def _cupy(cupy: Any) -> Iterable[GeneratorFamily]:
    module = sys.modules.get("cupy.random._generator")
    known = hasattr(module, "_random_states") and hasattr(module, "RandomState")
    yield CupyGenerators(module) if known else OpaqueGenerators()


def _tensorflow(tensorflow: Any) -> Iterable[GeneratorFamily]:
    yield OpaqueGenerators(lambda seed: tensorflow.random.set_seed(seed & 0x7FFFFFFF))


_FAMILIES: dict[str, Callable[[Any], Iterable[GeneratorFamily]]] = {
    "torch": _torch, "cupy": _cupy, "tensorflow": _tensorflow,
}  # fmt: skip

PACKAGES = frozenset(_FAMILIES)
"""The packages that have families."""


def imported_families() -> list[GeneratorFamily]:
    """Return the families of the packages that this process has imported."""
    found: list[GeneratorFamily] = []
    for package in sorted(PACKAGES):
        module = sys.modules.get(package)
        spec = getattr(module, "__spec__", None)
        if module is not None and not getattr(spec, "_initializing", False):
            found += families_of(package)
    return found


def families_of(package: str) -> list[GeneratorFamily]:
    """Return the families of an imported package."""
    try:
        found = list(_FAMILIES[package](sys.modules[package]))
    except Exception:  # a version that we do not know, or a device in trouble
        found = [OpaqueGenerators()]
    for family in found:
        family.package = package
    return found


class ArrivalFinder(MetaPathFinder):
    """Tells when one of some packages has been imported.

    Parameters
    ----------
    packages : set of str
    arrived : callable
        Called with the package's name, in the thread that imports it.
    """

    def __init__(self, packages: frozenset[str], arrived: Callable[[str], None]) -> None:
        self._packages, self._arrived = packages, arrived

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find such a package as others do, and let its loader tell when it is there."""
        if fullname not in self._packages:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                self._follow(spec)
                return spec
        return None

    def _follow(self, spec: ModuleSpec) -> None:
        execute: Callable[[ModuleType], None] | None = getattr(spec.loader, "exec_module", None)
        if execute is None:
            return

        def execute_and_tell(module: ModuleType) -> None:
            execute(module)
            self._arrived(spec.name)

        spec.loader.exec_module = execute_and_tell  # type: ignore[union-attr, method-assign]
