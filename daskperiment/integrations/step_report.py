"""Where all that a library tells of its work goes: to the step that runs."""

from __future__ import annotations

import math
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from daskperiment.errors import TrialIDNotFoundError, UncertainStepError
from daskperiment.execution.context import RunningStep
from daskperiment.execution.helper_threads import running_step
from daskperiment.execution.metric_points import point_of
from daskperiment.execution.step_records import (
    check_artifact_name,
    save_artifact,
    save_points,
)
from daskperiment.formatting import shorten
from daskperiment.records import Point

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["StepReport", "plain", "tidy"]


class StepReport:
    """What a library reports, as points and artifacts of the step in which it does.

    Parameters
    ----------
    prefix : str
        Stands before the names of metrics and artifacts, where a step trains several models.

    Raises
    ------
    TypeError
        If the prefix is no text.
    """

    def __init__(self, prefix: str = "") -> None:
        if not isinstance(prefix, str):
            raise TypeError(
                f"The prefix is {shorten(repr(prefix), 60)}; expected text that stands before the "
                "names of metrics, such as 'teacher/'."
            )
        self.prefix = prefix
        self._relay: Relay | None = None

    def __getstate__(self) -> dict[str, Any]:
        # It goes to a process that the step starts, or is copied.
        running = _certain_step()
        if self._relay is None and running is not None and running.trial is not None:
            self._relay = Relay(running.key, running.trial.trial)
            running.at_end.append(self._take_in)
        return {"prefix": self.prefix, "_relay": self._relay}

    @property
    def _there(self) -> Relay | None:
        """By which the step is told, in a process that it started."""
        return self._relay if _certain_step() is None else None

    @property
    def place(self) -> tuple[str, int]:
        """Key of the step, and number of its trial; 0 without one."""
        if self._there is not None:
            return self._there.step, self._there.trial
        trial = self.step.trial
        return self.step.key, trial.trial if trial is not None else 0

    def _take_in(self) -> None:
        """Save what another process told this step of."""
        for points, artifact in self._relay.told() if self._relay is not None else ():
            if artifact is None:
                save_points(self.step, points)
            else:
                self.artifact(*artifact)

    @property
    def step(self) -> RunningStep:
        """The step that runs.

        Raises
        ------
        TrialIDNotFoundError
            Outside a step, or in a thread that may work for one of several.
        """
        running = running_step()
        if running is None:
            raise TrialIDNotFoundError(
                "No step runs here, so there is no trial to record this training in. Train in a "
                "step while a result is computed; in a unit test of a function alone: "
                "with daskperiment.testing.no_trial(): ..."
            )
        return running

    def points(self, metrics: Mapping[str, Any], epoch: Any) -> None:
        """Save a point of each metric; what is not one number is left out."""
        points = _points(self.prefix, metrics, epoch)
        if self._there is not None:
            self._there.tell(points, None)
        else:
            save_points(self.step, points)

    def series(self, name: str, measured: Iterable[tuple[Any, Any, float]]) -> None:
        """Save points of a metric: the epoch, value and time of each."""
        points = [
            msgspec.structs.replace(
                point_of(self.prefix + name, (), {"epoch": epoch, "value": value}), time=time
            )
            for epoch, value, time in measured
        ]
        save_points(self.step, points)

    def artifact(self, name: str, value: Any, wanted: str | None = None) -> None:
        """Save a value as an artifact."""
        if self._there is not None:
            self._there.tell([], (name, value, wanted))
            return
        check_artifact_name(self.prefix + name)
        save_artifact(self.step, self.prefix + name, value, wanted)

    def settings(self, name: str, values: Mapping[Any, Any]) -> None:
        """Save a library's settings as JSON: values that are none are described."""
        self.artifact(name, plain(values), "json")

    def at_end(self, act: Callable[[], None]) -> None:
        """Let something be written down when the function of the step has returned."""
        self.step.at_end.append(act)


class Relay:
    """A file by which a process that a step started tells it of points and artifacts.

    Parameters
    ----------
    step : str
        Key of the step.
    trial : int
        Number of its trial.
    """

    def __init__(self, step: str, trial: int) -> None:
        self.step, self.trial = step, trial
        descriptor, self._path = tempfile.mkstemp(prefix="daskperiment-")  # for its owner alone
        os.close(descriptor)

    def tell(self, points: Sequence[Point], artifact: tuple[Any, ...] | None) -> None:
        """Write down points, or what an artifact is made of; both survive the process."""
        with open(self._path, "ab") as file:
            file.write(pickle.dumps((points, artifact)))

    def told(self) -> Iterator[tuple[Sequence[Point], tuple[Any, ...] | None]]:
        """Yield all that was written down, and remove it."""
        try:
            with open(self._path, "rb") as file:
                while True:
                    yield pickle.load(file)
        except (EOFError, pickle.UnpicklingError, FileNotFoundError):
            pass  # the end, or what was cut by the end of that process
        finally:
            if os.path.exists(self._path):
                os.unlink(self._path)


def _certain_step() -> RunningStep | None:
    try:
        return running_step()
    except UncertainStepError:
        return None


def _points(prefix: str, metrics: Mapping[str, Any], epoch: Any) -> list[Point]:
    found = []
    for name, value in metrics.items():
        try:
            found.append(point_of(f"{prefix}{name}", (), {"epoch": epoch, "value": value}))
        except TypeError:  # a text or a picture: libraries report these among the numbers
            continue
    return found


def plain(value: Any) -> Any:
    """Return a value that JSON has, with the text of whatever it lacks."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        return plain(item())
    return shorten(" ".join(repr(value).split()), 200)


def tidy(columns: Any) -> pd.DataFrame:
    """Return columns as a table that open formats keep: mixed values are described."""
    import pandas as pd  # noqa: PLC0415  # for those who have tables

    table = pd.DataFrame(columns)
    for name in [each for each in table if table[each].dtype == object]:
        values = [each if each is None else plain(each) for each in table[name]]
        mixed = len({type(each) for each in values if each is not None}) > 1
        table[name] = [repr(each) for each in values] if mixed else values
    return table
