"""Writing an experiment to a folder, as text that Git and diff tools can show.

::

    <folder>/
        daskperiment.json    which experiment this is
        history.csv          a row for each trial
        trials/000001.json   all about a trial
        code/000001.py       the code of its steps
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from daskperiment.cli import output
from daskperiment.cli.answering import Failed, Refused
from daskperiment.cli.listing import rows_of, write
from daskperiment.cli.stored import find, store_of
from daskperiment.cli.trial import record
from daskperiment.errors import StoreError
from daskperiment.experiment import Experiment
from daskperiment.history import read_trials

__all__ = ["export"]

_MARK = "daskperiment.json"


def export(backend: str | None, id: str, folder: Path) -> None:
    """Write an experiment to a folder."""
    experiment, store = find(backend, id), store_of(backend, id)
    _check_folder(folder, id)
    for each in (folder, folder / "trials", folder / "code"):
        _make(each)
    write(folder / _MARK, _json({"experiment": id, "format": 1}))
    frame = experiment.get_history(verbose=True, running=True).reset_index()
    frame.columns = _unique(frame.columns)
    write(folder / "history.csv", output.as_csv(list(frame.columns), rows_of(frame)))
    trials = read_trials(store)
    for number, trial in trials.items():
        told = {**record(experiment, store, trial), **_surroundings(experiment, number)}
        code = told.pop("code")
        write(folder / "trials" / f"{number:06}.json", _json(told))
        write(folder / "code" / f"{number:06}.py", code)
    many = "1 trial" if len(trials) == 1 else f"{len(trials)} trials"
    output.print_text(f"{many} of {id} written to {folder}.")


def _surroundings(experiment: Experiment, trial: int) -> dict[str, Any]:
    """Give code and packages; of what is damaged, the reason."""
    try:
        packages = experiment.get_python_packages(trial).splitlines()
        code = experiment.get_code(trial)
    except (StoreError, KeyError) as error:
        return {"packages": None, "code": f"# The code cannot be read: {error}\n"}
    return {"packages": packages, "code": code if code.endswith("\n") else f"{code}\n"}


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
    """Tell columns of one name apart, as a parameter called Result."""
    seen: dict[str, int] = {}
    unique = []
    for name in map(str, names):
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique
