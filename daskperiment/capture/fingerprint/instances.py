"""Encodings of functions and classes, by their code, and of objects of any class."""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import functools
import operator
import re
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from daskperiment.capture.encoding import (
    Encoder,
    Handler,
    KnownCode,
    NoFingerprintError,
    by_attributes,
    by_parts,
    by_text,
    combine,
)
from daskperiment.capture.fingerprint.python_values import encode_repr
from daskperiment.capture.fingerprint.reductions import name_of, open_state, write_state
from daskperiment.capture.members import wrapped_by
from daskperiment.capture.origin import distribution, is_own, module_of, origin_of
from daskperiment.capture.walk import Walk

__all__ = ["EXACT", "encode_name", "handler_for", "registered_handler"]

_PASSING = re.compile(r"(^|_)(fit|score|refit)_time_?$|^_stop_words_id$")
"""Attributes of estimators that say how long something took, or where it lies in memory."""
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_WRAPPERS = ("_lru_cache_wrapper", "PjitFunction")
_OPERATORS = (operator.itemgetter, operator.attrgetter, operator.methodcaller)


def encode_code(encoder: Encoder, value: Any) -> None:
    """Write a function or class by the user's code that it consists of, or by its package."""
    known = encoder.code.get(id(value))
    if known is not None and known.value is value:
        encoder.out += known.written
        return
    if id(value) in encoder.coding:
        encoder.tag_text(b"again", value.__qualname__)
        return
    encoder.coding.add(id(value))
    try:
        encoder.count_walk()
        walk = Walk(value)
        code = _code_of(encoder, value, walk)
    finally:
        encoder.coding.discard(id(value))
    encoder.code[id(value)] = KnownCode(value, code, walk)
    encoder.out += code


def _code_of(encoder: Encoder, value: Any, walk: Walk) -> bytes:
    if not walk.units:
        return b"<named 0>" + name_of(value).encode()
    return encoder.digest_separately(functools.partial(_write_walk, walk=walk))


def _write_walk(encoder: Encoder, walk: Walk) -> None:
    """Write all that a walk found; the constants need a fingerprint."""
    encoder.tag(b"code", len(walk.units))
    for unit in walk.units:
        encoder.text(unit.fingerprint)
    encoder.feed(list(walk.edges))
    encoder.feed(list(walk.names))
    encoder.feed(walk.packages)
    for constant in walk.constants.values():
        encoder.tag_text(b"reads", constant.label, constant.owner + 1)
        if constant.state:
            if encoder.exact:
                raise NoFingerprintError(f"uses {constant.name}, which its code changes")
            encoder.tag(b"state")
            continue
        try:
            encoder.feed(constant.value)
        except NoFingerprintError as error:
            raise error.within(f"uses {constant.name}") from None


def encode_name(encoder: Encoder, value: Any) -> None:
    """Write a function, class or module by its name alone."""
    encoder.tag_text(b"code", getattr(value, "__qualname__", value.__name__))


def encode_builtin(encoder: Encoder, value: Any) -> None:
    encoder.tag_text(b"builtin", name_of(value))
    owner = getattr(value, "__self__", None)
    if not isinstance(owner, (types.ModuleType, type(None))):
        encoder.feed(owner)


def encode_module(encoder: Encoder, value: types.ModuleType) -> None:
    encoder.tag_text(b"module", value.__name__)
    if is_own(value.__name__):
        walk = Walk(value)
        _write_walk(encoder, walk)
        encoder.code[id(value)] = KnownCode(value, b"", walk)
    else:
        encoder.text(combine("module", *(distribution(value.__name__) or ())))


def _enum(encoder: Encoder, value: enum.Enum) -> None:
    encoder.tag(b"enum")
    _write_name(encoder, type(value))
    encoder.text(str(value.name))
    encoder.feed(value.value)


def _namedtuple(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"namedtuple")
    _write_class(encoder, type(value))
    encoder.feed(list(getattr(value, "_fields", ())))  # documented, in spite of its name
    encoder.feed(tuple(value))
    _write_state(encoder, value)


def _wrapper(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"wrapper")
    _write_class(encoder, type(value))
    encoder.feed(wrapped_by(value))


def registered_handler(function: Callable[[Any], Any]) -> Handler:
    """Return the handler for a class that somebody registered with a function."""

    def handler(encoder: Encoder, value: Any) -> None:
        encoder.tag(b"registered")
        _write_name(encoder, type(value))
        encoder.feed(function(value))

    return handler


def _tokenized(encoder: Encoder, value: Any) -> None:
    _write_token(encoder, value, lambda each: each.__dask_tokenize__())


def _write_token(encoder: Encoder, value: Any, token_of: Callable[[Any], Any]) -> None:
    encoder.tag(b"token")
    _write_name(encoder, type(value))
    try:
        token = token_of(value)
    except Exception as error:
        raise NoFingerprintError(f"its __dask_tokenize__ failed: {error!r}") from None
    encoder.feed(token)


def _normalizer(kind: type) -> Callable[[Any], Any] | None:
    """Return the function that somebody registered with Dask for a class, not one of Dask's own."""
    tokens = getattr(sys.modules.get("dask.base"), "normalize_token", None)
    found = None if tokens is None else tokens.dispatch(kind)
    top = (module_of(found) or "dask").partition(".")[0]
    return None if top in ("dask", "toolz", "cytoolz", "tlz") else found


def _instance(encoder: Encoder, value: Any) -> None:
    """Write an object by its class's code and its state."""
    with encoder.within(value) as entered:
        if entered:
            encoder.tag(b"instance")
            _write_class(encoder, type(value))
            _write_base(encoder, value)
            _write_state(encoder, value)


def _write_name(encoder: Encoder, kind: type) -> None:
    """Write a class's name, and the user's code of it: steps may call what the value can do."""
    encoder.text(kind.__qualname__)
    if is_own(kind.__module__):
        encoder.feed(kind)


def _write_class(encoder: Encoder, kind: type) -> None:
    encoder.text(kind.__qualname__)
    encoder.feed(kind)


def _write_base(encoder: Encoder, value: Any) -> None:
    """Write what an object of a subclass of a built-in type holds as such."""
    for base, plain in _PLAIN_VALUE.items():
        if isinstance(value, base):
            # Not base(value), which would call what the subclass overrides.
            encoder.feed(plain(value))
            return


def _write_state(encoder: Encoder, value: Any) -> None:
    kind = type(value)
    state = open_state(kind, dict(getattr(value, "__dict__", {})))
    # As pickle does: nothing public lists the slots of a class and of its bases.
    slots = getattr(copyreg, "_slotnames")(kind)  # noqa: B009
    state |= {name: getattr(value, name) for name in slots if hasattr(value, name)}
    if dataclasses.is_dataclass(value):
        # Fields without initial value, and those that live in no dict.
        state.update((f.name, getattr(value, f.name, None)) for f in dataclasses.fields(value))
    write_state(encoder, state)


def _estimator(encoder: Encoder, value: Any) -> None:
    """Write an estimator: its class, parameters and fitted state, without how long it took."""
    with encoder.within(value) as entered:
        if entered:
            encoder.tag(b"estimator")
            _write_class(encoder, type(value))
            state = {k: v for k, v in vars(value).items() if not _PASSING.search(k)}
            if isinstance(results := state.get("cv_results_"), dict):
                state["cv_results_"] = {k: v for k, v in results.items() if "_time" not in k}
            write_state(encoder, state)


def _reduced(encoder: Encoder, value: Any) -> None:
    """Write an extension type's object, such as a fitted tree, by what pickle would keep."""
    encoder.tag(b"reduced")
    _write_class(encoder, type(value))
    try:
        parts = value.__reduce_ex__(4)
    except Exception as error:
        raise NoFingerprintError(f"cannot be taken apart: {error!r}") from None
    if not isinstance(parts, tuple) or any(part is not None for part in parts[3:]):
        raise NoFingerprintError(f"a {type(value).__qualname__} has no fingerprint")
    encoder.feed(parts[1:3])


def handler_for(kind: type) -> Handler | None:
    """Return the handler for a type that is not known by itself; None if pickle has to say it."""
    if issubclass(kind, type):
        return encode_code
    for base in kind.__mro__:
        known = _BY_NAME.get(f"{base.__module__}.{base.__qualname__}")
        if known is not None:
            return known
    if issubclass(kind, enum.Enum):
        return _enum
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _namedtuple
    if hasattr(kind, "__dask_tokenize__"):
        return _tokenized
    normalize = _normalizer(kind)
    if normalize is not None:
        return lambda encoder, value: _write_token(encoder, value, normalize)
    if hasattr(kind, "get_params") and hasattr(kind, "fit"):
        return _estimator
    return _handler_by_state(kind)


def _handler_by_state(kind: type) -> Handler | None:
    of = origin_of(kind.__module__)
    if dataclasses.is_dataclass(kind) or (of == "own" and _keeps_state_openly(kind)):
        return _instance
    known = kind.__module__.startswith(("sklearn.", "torch.nn."))
    if known and (_is_extension(kind) or "__getstate__" not in _special(kind)):
        return _reduced if _is_extension(kind) else _instance
    return _wrapper if kind.__name__ in _WRAPPERS else None


def _is_extension(kind: type) -> bool:
    # Classes of compiled code are static (no heap type), or cannot be assigned to.
    return not kind.__flags__ & (1 << 9) or bool(kind.__flags__ & (1 << 8))


def _keeps_state_openly(kind: type) -> bool:
    """Whether an object's dict and slots are all that there is to it."""
    bases = [base for base in kind.__mro__[:-1] if base not in _PLAIN_VALUE]
    return not _special(kind) and not any(map(_is_extension, bases))


def _special(kind: type) -> set[str]:
    """Return the names by which a class says itself what pickle keeps of its objects."""
    names = {"__reduce__", "__reduce_ex__", "__getstate__"}
    bases = [base for base in kind.__mro__[:-1] if base not in _PLAIN_VALUE]
    return {name for base in bases for name in names & vars(base).keys()}


_PLAIN_VALUE: dict[type, Any] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: lambda value: complex(value.real, value.imag),
    str: str.__str__,
    bytes: lambda value: bytes.join(b"", [value]),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
}
"""The plain value that an object of a subclass holds."""

EXACT: dict[type, Handler] = {
    types.FunctionType: encode_code,
    **dict.fromkeys((types.BuiltinFunctionType, types.MethodDescriptorType), encode_builtin),
    **dict.fromkeys((types.WrapperDescriptorType, types.MethodWrapperType), encode_builtin),
    types.ClassMethodDescriptorType: encode_builtin,
    types.MethodType: by_attributes(b"method", "__func__", "__self__"),
    types.ModuleType: encode_module,
    functools.partial: by_attributes(b"partial", "func", "args", "keywords"),
    # A lock has no value of its own.
    **dict.fromkeys(_LOCKS, by_text(b"nothing", lambda value: type(value).__name__)),
    **dict.fromkeys(_OPERATORS, by_text(b"operator", repr)),
}


# Single classes of libraries ---------------------------------------------------------------------


def _tree(value: Any) -> list[Any]:
    # The nodes follow from these; as they lie in memory there are addresses among them.
    kind = type(value).__qualname__
    return [kind, value.data, value.leafsize, value.boxsize, value.indices]


def _spline(value: Any) -> list[Any]:
    # Not the space that the fit worked in.
    kind = type(value).__qualname__
    return [kind, value.get_knots(), value.get_coeffs(), getattr(value, "ext", None)]


def _config(value: Any) -> list[Any]:
    # Not the tree that it is a part of: what it takes from there stands here as it is.
    tool = sys.modules["omegaconf"].OmegaConf
    try:
        content = tool.to_object(value)
    except Exception:  # a value is missing, or what it refers to
        content = None
    plain = tool.to_container(value, resolve=False, throw_on_missing=False)
    return [tool.get_type(value), tool.is_readonly(value), tool.is_struct(value), plain, content]


def _study_trial(value: Any) -> list[Any]:
    # A step that is given one may report to it: it is the same trial after that.
    return [value.study.study_name, value.number]


def _delayed(value: Any) -> list[Any]:
    # Not its key, which is drawn at random: what it calls, and how.
    return [getattr(value, name) for name in ("_obj", "_pure", "_nout")]


def _compiled(value: Any) -> list[Any]:
    # Not what the compiler made of it so far, nor the numbers by which it knows its own.
    return [*value.children(), getattr(value.dynamo_ctx, "compiler_config", None)]


def _exported(value: Any) -> list[Any]:
    texts = [str(value.graph), str(value.graph_signature), str(value.range_constraints)]
    return [*texts, value.state_dict, value.constants]


_BY_NAME: dict[str, Handler] = {
    "_struct.Struct": by_text(b"struct", lambda value: str(value.format)),
    "typing.ForwardRef": by_text(b"forward", lambda value: str(value.__forward_arg__)),
    "torch.finfo": encode_repr,
    "torch.iinfo": encode_repr,
    "torch._dynamo.eval_frame.OptimizedModule": by_parts(b"compiled", _compiled),
    "torch.export.exported_program.ExportedProgram": by_parts(b"exported", _exported),
    "dask.delayed.DelayedLeaf": by_parts(b"delayed", _delayed),
    "jaxlib._jax.Device": by_text(b"device", str),
    # Takes a hook away that stands in the module itself.
    "torch.utils.hooks.RemovableHandle": by_text(b"nothing", lambda value: type(value).__name__),
    # Who listens for changes, which is counted anew on every way through pickle.
    "matplotlib.cbook.CallbackRegistry": by_text(b"nothing", lambda value: type(value).__name__),
    "omegaconf.basecontainer.BaseContainer": by_parts(b"config", _config),
    "optuna.trial._trial.Trial": by_parts(b"study trial", _study_trial),
    "scipy.interpolate._fitpack2.UnivariateSpline": by_parts(b"spline", _spline),
    "scipy.spatial._ckdtree.cKDTree": by_parts(b"tree", _tree),
    "sklearn.utils._bunch.Bunch": by_parts(b"bunch", lambda value: [dict(value)]),
}
"""Classes whose reductions do not say what they are, by name, so that no library is imported."""
