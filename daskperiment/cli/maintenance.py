"""Copying, exporting, delivering and removing records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dask.utils import parse_bytes

from daskperiment import copying
from daskperiment.cli import output
from daskperiment.cli.command_options import duration
from daskperiment.cli.exit_status import Failed, Refused
from daskperiment.cli.listings import print_frame, rows_of, write
from daskperiment.cli.lookup import bare_store_of, checked, find, ids, store_of
from daskperiment.cli.trial_report import points_of, trial_data
from daskperiment.errors import CorruptRecordError, StoreError
from daskperiment.experiment import Experiment
from daskperiment.history import RecordedTrial, read_trials
from daskperiment.recording.registry import recorder_for
from daskperiment.store.opening import open_store
from daskperiment.store.protocol import Store

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["copy", "delete", "export", "flush", "prepare_folder", "prune"]

_MARK = "daskperiment.json"


def copy(backend: Sequence[str], id: str, sources: Sequence[str], target: str) -> None:
    """Copy an experiment, from one store or from several."""
    given: Sequence[str | None] = [*backend, *sources] or [None]
    stores = [bare_store_of(each, id) for each in given]
    try:
        trials = copying.copy(id, [checked(each) for each in given], checked(target))
    except ValueError as error:
        raise Refused(str(error)) from error
    there = open_store(target, id).address
    names = ", ".join(dict.fromkeys(store.address for store in stores))
    if len(stores) == 1 and trials == copying.count_trials(stores[0]):
        output.print_text(f"{_trials(trials)} of {id} copied from {names} to {there}.")
    else:
        output.print_text(f"{there} has {_trials(trials)} of {id}, with those of {names}.")


def delete(backend: str | None, id: str, yes: bool) -> None:
    """Remove an experiment, after a question."""
    experiment, store = find(backend, id), open_store(backend, id)
    what = f"experiment {id} with {_trials(_count(store))} from {store.address}"
    if not yes and not click.confirm(output.safe(f"Delete {what}?")):
        raise Failed("Nothing was deleted.")
    experiment.delete()
    output.print_text(f"Deleted {what}.")


def _count(store: Store) -> int:
    try:
        return copying.count_trials(store)
    except CorruptRecordError:  # it can be deleted all the same
        return store.state().latest


def prune(
    backend: str | None, id: str, max_bytes: str | None, older_than: str | None, dry_run: bool
) -> None:
    """Remove reusable values that were not used for the longest time."""
    if max_bytes is None and older_than is None:
        raise Refused("Say what to remove: give --max-bytes, --older-than or both.")
    limit = None if max_bytes is None else _bytes(max_bytes)
    age = None if older_than is None else duration(older_than)
    found = find(backend, id).prune(max_bytes=limit, older_than=age, dry_run=dry_run)
    print_frame(found, "table")


def flush(backend: str | None, id: str | None, timeout: float | None) -> None:
    """Deliver what waits on this machine for the store."""
    for name in ids(backend) if id is None else [id]:
        recorder = recorder_for(bare_store_of(backend, name))
        before = recorder.delivery.waiting
        recorder.flush(timeout)
        what = f"{before} records were delivered" if before else "nothing waited"
        output.print_text(f"{name}: {what}.")


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"


def _bytes(text: str) -> int:
    try:
        return int(parse_bytes(text))
    except ValueError as error:
        raise Refused(f"Got {text!r} as a size; expected something like 500MB or 2GiB.") from error


# Exporting -------------------------------------------------------------------------------------


def export(backend: str | None, id: str, folder: Path) -> None:
    """Write an experiment to a folder, as text that Git and diff tools can show.

    ::

        <folder>/
            daskperiment.json    which experiment this is
            history.csv          a row for each trial
            trials/000001.json   all about a trial
            code/000001.py       the code of its steps
            logs/000001.txt      what its steps said, if anything
    """
    from daskperiment.history.metrics import load_metrics  # noqa: PLC0415  # NumPy, for few commands

    experiment, store = find(backend, id), store_of(backend, id)
    prepare_folder(folder, id)
    for each in (folder / "trials", folder / "code"):
        _make(each)
    frame = experiment.get_history(verbose=True, running=True, archived=True).reset_index()
    frame.columns = _unique(frame.columns)
    write(folder / "history.csv", output.as_text(list(frame.columns), rows_of(frame), "csv"))
    trials = read_trials(store)
    resumed = _resumed(trials)
    for number, trial in trials.items():
        metrics = load_metrics(store, number)
        told = trial_data(experiment, store, trial, resumed.get(number, ()), metrics)
        data = {**told, **_code_and_packages(experiment, number)}
        code = data.pop("code")
        data["system_metrics"] = output.plain_json(points_of(metrics, system=True))
        write(folder / "trials" / f"{number:06}.json", _json(data))
        write(folder / "code" / f"{number:06}.py", code)
        if log := experiment.get_log(number):
            _make(folder / "logs")
            write(folder / "logs" / f"{number:06}.txt", log)
    output.print_text(f"{_trials(len(trials))} of {id} written to {folder}.")


def _resumed(trials: Mapping[int, RecordedTrial]) -> dict[int, list[int]]:
    """Return the trials that went on from others, by these: all are at hand, and looked at once."""
    found: dict[int, list[int]] = {}
    for number, trial in trials.items():
        source = trials.get(trial.begun.resumes or 0)
        if source is not None and source.status not in ("succeeded", "running"):
            found.setdefault(source.trial, []).append(number)
    return found


def _code_and_packages(experiment: Experiment, trial: int) -> dict[str, Any]:
    """The code and the packages of a trial; of what is damaged, the reason."""
    try:
        packages = experiment.get_python_packages(trial).splitlines()
        code = experiment.get_code(trial)
    except (StoreError, KeyError) as error:
        return {"packages": None, "code": f"# The code cannot be read: {error}\n"}
    return {"packages": packages, "code": code if code.endswith("\n") else f"{code}\n"}


def prepare_folder(folder: Path, id: str) -> None:
    """Make a folder for an export of an experiment, and mark it; refuse one with other files."""
    _check_folder(folder, id)
    _make(folder)
    write(folder / _MARK, _json({"experiment": id, "format": 1}))


def _check_folder(folder: Path, id: str) -> None:
    """Refuse a folder that holds anything but an earlier export of the same experiment."""
    try:
        if not folder.exists() or not any(folder.iterdir()):
            return
        mark = json.loads((folder / _MARK).read_text(encoding="utf-8"))
        known = mark.get("experiment") if isinstance(mark, dict) else None
    except FileNotFoundError:
        known = None
    except (OSError, ValueError) as error:
        raise Refused(
            f"Cannot read {str(folder / _MARK)!r} ({error}); give another folder."
        ) from error
    if known != id:
        holds = f"an export of {known!r}" if known else "other files"
        raise Refused(f"The folder {str(folder)!r} holds {holds}; give a new or an empty one.")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(
            f"Cannot make {str(folder)!r}: {error.strerror or error}. Give another folder."
        ) from error


def _json(data: Any) -> str:
    return output.as_json(data, ascii_only=False) + "\n"


def _unique(names: pd.Index) -> list[str]:
    """Return names that differ: a parameter may be called Result, as a column is."""
    seen: Counter[str] = Counter()
    unique = []
    for text in map(str, names):
        seen[text] += 1
        unique.append(f"{text} ({seen[text]})" if seen[text] > 1 else text)
    return unique
