"""The computation of a script's result, and the report of how it went."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click
import dask

from daskperiment.cli import output
from daskperiment.cli.command_options import (
    assignments,
    debug_option,
    given_argument,
    help_option,
    literal,
    spaces,
    trial_options,
    work,
)
from daskperiment.cli.exit_status import Command, Failed, Refused, exiting_at_interrupt
from daskperiment.cli.lookup import checked, trial_of
from daskperiment.cli.script import choose, is_loading, loaded
from daskperiment.cli.trial_report import print_explanation
from daskperiment.errors import ConfigurationError, DaskperimentError, StoreError
from daskperiment.experiment import experiment_of
from daskperiment.formatting import install_command, nearest, plain_repr, shorten, table
from daskperiment.history import read_trials
from daskperiment.history.trial_records import find_trial
from daskperiment.result import Result
from daskperiment.store.liveness import current_origin

__all__ = ["describe", "explain", "main_for", "reproduce", "resume", "run"]

_OF_SWEEPS = ("sampler", "direction", "n_trials")
_SCHEDULERS = ("synchronous", "threads", "processes")


def run(script: Path, given: Sequence[str], name: str | None, options: Mapping[str, Any]) -> None:
    """Load a script and compute its result, as a trial or as a sweep."""
    began = time.time()
    with _script(script, name, options["backend"]) as result:
        _note_own_trial(script, result, began)
        _compute(result, given, options)


def main_for(result: Result, argv: Sequence[str] | None = None) -> None:
    """Run the command line of a script, as ``Result.main`` says, and end the process.

    Where the script is only loaded, by ``daskperiment run`` or by a process that computes for it,
    nothing is done.
    """
    # A process that computes for a script imports it first; so early, only its name tells that.
    if is_loading() or multiprocessing.current_process().name != "MainProcess":
        return
    with exiting_at_interrupt():
        args = list(sys.argv[1:] if argv is None else argv)
        _own_command(result).main(args, f"python {os.path.basename(sys.argv[0])}")


def _own_command(result: Result) -> click.Command:
    @click.command(cls=Command, add_help_option=False)
    @given_argument
    @trial_options
    @debug_option
    @help_option
    def main(given: tuple[str, ...], wants_help: bool, **options: Any) -> None:
        """Compute the result as a trial."""
        if wants_help:
            click.echo(f"{click.get_current_context().get_help()}\n\n{_described(result)}")
        else:
            _compute(result, given, options)

    return main


def describe(script: Path, backend: str | None) -> None:
    """List the parameters and results of a script."""
    with _backend(backend), loaded(script) as module:
        results = {id(each): each for each in vars(module).values() if isinstance(each, Result)}
        if not results:
            choose(module, None)  # raises, and says how a result is made
        click.echo(f"Usage: daskperiment run {script} [NAME=VALUE]... [OPTIONS]")
        for result in results.values():
            variables = [name for name, value in vars(module).items() if value is result]
            click.echo()
            output.print_text(_described(result, f" (--result {', '.join(variables)})"))
        click.echo("\nThe options are listed by daskperiment run --help.")


def explain(
    script: Path, given: Sequence[str], name: str | None, backend: str | None, format_: str
) -> None:
    """Print which steps would be reused."""
    with _script(script, name, backend) as result:
        bound = _bound(result, assignments(given, _reader(result)))
        print_explanation(experiment_of(result).explain(bound), format_)


def reproduce(
    script: Path, trial: int, name: str | None, code: str, scheduler: str | None,
    backend: str | None,
) -> None:  # fmt: skip
    """Run a trial again, and show what differs."""
    with _script(script, name, backend) as result, _scheduler(scheduler):
        number = trial_of(experiment_of(result), trial)
        comparison = result.reproduce(number, code=code)
        output.print_text(repr(comparison))
        if comparison.same_result is False:
            raise Failed(f"Trial {number} was not reproduced: the result is another one.")


def resume(
    script: Path, trial: int, name: str | None, scheduler: str | None, backend: str | None
) -> None:
    """Go on with a trial, and print what came of it."""
    with _script(script, name, backend) as result, _scheduler(scheduler):
        _resumed(result, trial)


# The script ------------------------------------------------------------------------------------


@contextmanager
def _script(script: Path, name: str | None, backend: str | None) -> Iterator[Result]:
    with _backend(backend), loaded(script) as module:
        yield choose(module, name)


def _backend(backend: str | None) -> AbstractContextManager[Any]:
    """The context in which experiments that name no backend use this one."""
    given = {} if checked(backend) is None else {"daskperiment.backend": backend}
    return dask.config.set(given)


def _note_own_trial(script: Path, result: Result, began: float) -> None:
    """Print a note if the script computed a trial itself while it was loaded."""
    experiment = experiment_of(result)
    latest = experiment.trial_id
    trial = read_trials(result.definition.planner.store, [latest]).get(latest) if latest else None
    if trial and trial.begun.started >= began and trial.begun.origin == current_origin():
        note = (
            f"Note: {script} computed trial {latest} itself when it was loaded. Put that below "
            'if __name__ == "__main__": to have only the trial that you ask for.'
        )
        click.echo(note, err=True)


def _described(result: Result, option: str = "") -> str:
    parameters = result.definition.planner.parameters
    current = parameters.current({})
    rows = []
    for name in parameters.names:
        missing = parameters.missing([name], current)
        state = "no value" if missing == (name,) else "computed in each trial"
        text = plain_repr(current[name]) if name in current else state
        rows.append([f"  {name}", shorten(text, 70)])
    head = f"Result {result.name}{option} of experiment {experiment_of(result).id}"
    return f"{head}\nParameters:\n{table([], rows) if rows else '  none'}"


# Computing -------------------------------------------------------------------------------------


def _compute(result: Result, given: Sequence[str], options: Mapping[str, Any]) -> None:
    read = _reader(result)
    bound = _bound(result, assignments(given, read))
    space = spaces(options["swept"], read)
    _check_names(result, space)
    past = _trial_to_resume(options["resume"])
    if past is not None and (given or space):
        raise Refused(f"--resume {past} goes on with a trial, which has its own parameters.")
    is_sweep = bool(space or options["resume"]) and past is None
    for name in _OF_SWEEPS:
        if options[name] is not None and not is_sweep:
            option = name.replace("_", "-")
            raise Refused(f"--{option} is for a sweep: give --sweep NAME=A,B,… too.")
    with _scheduler(options["scheduler"]):
        if past is not None:
            _resumed(result, past, options["reuse"] or None)
        elif is_sweep:
            _sweep(bound, space or None, options)
        else:
            _trial(bound, options)


def _trial_to_resume(text: str | None) -> int | None:
    """Return the trial that is to be gone on with; None if it is a sweep, whose id is longer."""
    is_number = text is not None and text.isdecimal() and len(text) < 12
    return int(text) if text is not None and is_number else None


def _resumed(result: Result, past: int, reuse: bool | None = None) -> None:
    number = trial_of(experiment_of(result), past)
    _report(result, lambda: result.resume(number, reuse=reuse), {"resumes": str(number)})


def _reader(result: Result) -> Callable[[str, str], Any]:
    """Return what says which value a text means: leaves of configurations have types."""
    parameters = result.definition.planner.parameters

    def read(name: str, text: str) -> Any:
        try:
            return parameters.parsed(name, text, literal)
        except ConfigurationError as error:
            raise Refused(str(error)) from error

    return read


def _bound(result: Result, given: Mapping[str, Any]) -> Result:
    _check_names(result, given)
    try:
        return result.bind(given)
    except ConfigurationError as error:
        raise Refused(str(error)) from error


def _check_names(result: Result, given: Mapping[str, Any]) -> None:
    declared = result.definition.planner.parameters.names
    unknown = [name for name in given if name not in declared]
    if unknown:
        hint = nearest(unknown[0], declared)
        raise Refused(
            f"No parameter {', '.join(map(repr, unknown))} in experiment "
            f"{experiment_of(result).id!r}{hint or ';'} {'It' if hint else 'it'} declares: "
            f"{', '.join(declared) or 'none'}."
        )


def _scheduler(name: str | None) -> AbstractContextManager[Any]:
    if name is None:
        return nullcontext()
    if name in _SCHEDULERS:
        return dask.config.set(scheduler=name)
    if "://" in name:
        return _client(name)
    raise Refused(
        f"There is no scheduler {name!r}; expected {', '.join(_SCHEDULERS)}, or the "
        "address of a cluster, such as tcp://127.0.0.1:8786."
    )


def _client(address: str) -> AbstractContextManager[Any]:
    try:
        from distributed import Client  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise Failed(
            f"A cluster needs a package that is not installed: {install_command('distributed')}"
        ) from error
    try:
        return Client(address, timeout=10)
    except Exception as error:
        why = "" if isinstance(error, OSError | ValueError) else f" ({_error_text(error)})"
        raise Failed(
            f"No scheduler answers at {address!r}{why}: start one, or correct the address."
        ) from error


def _trial(result: Result, options: Mapping[str, Any]) -> None:
    # Without --reuse, the experiment and its steps say what is reused.
    reuse = options["reuse"] or None
    _report(result, lambda: result.compute(seed=options["seed"], reuse=reuse), {})


def _report(result: Result, compute: Callable[[], Any], more: Mapping[str, str]) -> None:
    """Compute a trial, and print what came of it."""
    experiment = experiment_of(result)
    before = experiment.trial_id
    started = time.perf_counter()
    try:
        value = compute()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() in a step is a failure like others
        trial = _number(result, before)
        if trial is None and isinstance(error, DaskperimentError):
            raise  # nothing ran, and the message says why
        raise Failed(_failure(result, trial, error)) from error
    elapsed = time.perf_counter() - started
    report = {
        "experiment": experiment.id,
        "trial": str(_number(result, before) or "unknown"),
        **more,
        "result": _shown(value),
        "time": f"{elapsed:.3g} s",
    }
    output.print_pairs(report.items())


def _number(result: Result, before: int) -> int | None:
    """The id of the trial that was computed, None if none began."""
    try:
        found = find_trial(result.definition.planner.store, result.computed_token, before)
    except StoreError:
        return None  # the store went away, and the result matters more
    return None if found is None else found.trial


def _failure(result: Result, trial: int | None, error: BaseException) -> str:
    if trial is None:
        return f"No trial began: {_error_text(error)}. --debug shows where."
    ended = read_trials(result.definition.planner.store, [trial])[trial].ended
    failure = ended.failure if ended else None
    step = f" in step {failure.step!r}" if failure and failure.step else ""
    # As it is recorded, where it quotes no secret.
    told = shorten(failure.description, 300) if failure else _error_text(error)
    return (
        f"Trial {trial} failed{step}: {told}. "
        f"'daskperiment show {experiment_of(result).id} {trial}' shows where, and so does --debug."
    )


def _error_text(error: BaseException) -> str:
    return shorten(f"{type(error).__name__}({error})", 300)


def _shown(value: Any) -> str:
    try:
        return shorten(repr(value), 200)
    except Exception as error:
        return f"a {type(value).__name__}, whose repr raises {type(error).__name__}"


def _sweep(result: Result, space: Any, options: Mapping[str, Any]) -> None:
    options = {**options, "reuse": options["reuse"] or None}
    names = (*_OF_SWEEPS, "resume", "seed", "reuse")
    keywords = {name: options[name] for name in names if options[name] is not None}
    try:
        frame = result.sweep(space, progress=sys.stderr.isatty(), **keywords)
    except (ValueError, TypeError) as error:
        # What is wrong with the request is found before anything is run.
        raise Refused(str(error)) from error
    except ImportError as error:
        raise Failed(str(error)) from error  # Optuna is an extra
    work("listings").print_frame(frame.reset_index(), "table")
    failed = int((~frame["Success"]).sum())
    if failed:
        raise Failed(f"{failed} of {len(frame)} trials failed; the column Description says why.")
