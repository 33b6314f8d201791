"""Loading a script that defines an experiment.

A script is run as Python runs it: as the module ``__main__``, with its folder on ``sys.path``. So
its functions and classes have the names that they have by ``python script.py``: they are pickled
by value for other processes, and records of both are alike. What stands below
``if __name__ == "__main__":`` is left out, as it is when a script is imported.
"""

from __future__ import annotations

import ast
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import ModuleSpec, SourceFileLoader
from itertools import count
from pathlib import Path
from types import CodeType, ModuleType

from daskperiment.capture.source import parse_python
from daskperiment.cli.exit_status import Failed, Refused
from daskperiment.result import Result

__all__ = ["choose", "is_loading", "loaded", "results_of"]

_MAIN = "__main__"
_SHOWN = "__daskperiment_shown__"
"""Name by which a script's values are noted that stand alone in a line."""
_LOADING: ContextVar[bool] = ContextVar("daskperiment_loading_script", default=False)


def is_loading() -> bool:
    """Whether a script is just being loaded, so that nothing in it is to be computed."""
    return _LOADING.get()


@contextmanager
def loaded(script: Path) -> Iterator[ModuleType]:
    """Load a script; while the context lasts, it is this process's main module.

    Where it cannot be read, is no Python or raises, the message of Failed names file and line.
    """
    path = script.absolute()
    code = _compiled(path)
    module = ModuleType(_MAIN)
    module.__file__ = str(path)
    module.__loader__ = SourceFileLoader(_MAIN, str(path))
    # With a specification of this name, processes that multiprocessing starts do not run the
    # script again: what they need of it is pickled by value.
    module.__spec__ = ModuleSpec(_MAIN, module.__loader__, origin=str(path))
    kept = sys.modules[_MAIN], sys.argv, sys.path
    sys.modules[_MAIN], sys.argv, sys.path = module, [str(script)], [str(path.parent), *sys.path]
    try:
        _execute(code, module, path)
        yield module
    finally:
        sys.modules[_MAIN], sys.argv, sys.path = kept


def _compiled(path: Path) -> CodeType:
    try:
        tree = _noting_values(_WithoutMain().visit(parse_python(path.read_bytes(), str(path))))
        code: CodeType = compile(tree, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        raise Failed(f"{path}{where} is no Python: {error.msg}. Correct it.") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Failed(f"{path} is no Python: {error or type(error).__name__}.") from error
    except OSError as error:
        raise Failed(f"Cannot read {path}: {error.strerror or error}.") from error
    return code


def _noting_values(tree: ast.Module) -> ast.Module:
    """Let a script note what stands alone in a line, as a result does that has no name."""
    for node in tree.body:
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            function = ast.Name(_SHOWN, ast.Load())
            node.value = ast.copy_location(ast.Call(function, [node.value], []), node.value)
    return ast.fix_missing_locations(tree)


class _WithoutMain(ast.NodeTransformer):
    """A transformer for which ``__name__ == "__main__"`` is false outside functions and classes."""

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        match node:
            case ast.Compare(
                left=ast.Name(id="__name__"), ops=[op], comparators=[ast.Constant(value="__main__")]
            ) | ast.Compare(
                left=ast.Constant(value="__main__"), ops=[op], comparators=[ast.Name(id="__name__")]
            ) if isinstance(op, ast.Eq | ast.NotEq):  # fmt: skip
                return ast.copy_location(ast.Constant(isinstance(op, ast.NotEq)), node)
        return node

    def visit_FunctionDef(self, node: ast.AST) -> ast.AST:
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = visit_FunctionDef


def _execute(code: CodeType, module: ModuleType, path: Path) -> None:
    token = _LOADING.set(True)
    values: list[object] = []
    vars(module)[_SHOWN] = values.append
    try:
        exec(code, module.__dict__)  # the script that the user asked to run
    except SystemExit as error:
        raise Failed(
            f"{path} left with exit status {error.code!r} before all of it was defined. Put what "
            'only python should run below if __name__ == "__main__".'
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Failed(_where(error, path)) from error
    finally:
        _LOADING.reset(token)
        del vars(module)[_SHOWN]
    for value in values:
        if isinstance(value, Result) and all(value is not each for each in results_of(module)):
            vars(module)[_free_name(module, value)] = value


def results_of(module: ModuleType) -> list[Result]:
    """Return the results of a script, each once: its variables, and items of its containers."""
    found: dict[int, Result] = {}
    for value in list(vars(module).values()):
        values = value.values() if isinstance(value, dict) else value
        several = list(values) if isinstance(value, dict | list | tuple | set) else [value]
        found.update({id(each): each for each in several if isinstance(each, Result)})
    return list(found.values())


def _free_name(module: ModuleType, result: Result) -> str:
    """Return a variable for a result that has none: the name of its function, or one like it."""
    names = (f"{result.name}_{number}" for number in count(1))
    return next(name for name in names if name not in vars(module))


def _where(error: BaseException, path: Path) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    place = f"{path}, line {lines[-1]}" if lines else str(path)
    if isinstance(error, SyntaxError) and error.filename:
        place += f" (in {error.filename}, line {error.lineno})"
        return f"{place}: {type(error).__name__}: {error.msg}"
    return f"{place}: {type(error).__name__}: {error}"


def _without_result(path: Path) -> str:
    """Say why a script has no result: there is none, or it stands in the part that is left out."""
    tree = parse_python(path.read_bytes(), str(path))
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(_WithoutMain().visit(node.test), ast.Constant)
    ]
    if not lines:
        return (
            f"{path} defines no result. Call the function that is decorated with @ex.result, as in "
            "score = evaluate(model), outside functions."
        )
    return (
        f"{path} defines no result outside of the block of line {lines[0]}, if __name__ == "
        '"__main__", which is left out here. Put the call of the function that is decorated with '
        "@ex.result above that block, as in score = evaluate(model); or run it as it is: "
        f"python {path}."
    )


def choose(module: ModuleType, name: str | None) -> Result:
    """Return a script's result: the only one, or that of a variable or function of this name."""
    found = {key: value for key, value in vars(module).items() if isinstance(value, Result)}
    named = {id(each) for each in found.values()}
    others = [each for each in results_of(module) if id(each) not in named]
    found |= {f"{each.name}[{place}]": each for place, each in enumerate(others)}
    if not found:
        raise Refused(f"Nothing was computed: {_without_result(Path(str(module.__file__)))}")
    if name in found:
        return found[name]
    different = {id(each): each for each in found.values() if name in (None, each.name)}
    if len(different) == 1:
        return next(iter(different.values()))
    listed = ", ".join(f"{key} ({value.name})" for key, value in found.items())
    if name is not None and not different:
        raise Refused(f"{module.__file__} has no result {name!r}; it has: {listed}.")
    raise Refused(f"{module.__file__} has several results; choose with --result: {listed}.")
