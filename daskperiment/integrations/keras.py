"""Keras: what a model reports after each epoch are points of the trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from daskperiment.integrations.step_report import StepReport

__all__ = ["KerasCallback"]


class KerasCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback for ``fit`` and ``evaluate`` of Keras' models.

    Logs of each epoch are points; what ``evaluate`` returns is a point of ``test_loss`` and the
    like. The optimizer's settings are the artifact ``optimizer``, the layers ``layers``.

    Parameters
    ----------
    prefix : str
        Stands before the names of metrics and artifacts.

    Examples
    --------
    ::

        model.fit(x, y, epochs=5, callbacks=[KerasCallback()])
    """

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self._report = StepReport(prefix)
        self._fitting = False
        self._evaluations = 0

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Save the settings of the optimizer."""
        self._fitting = True
        if (optimizer := getattr(self.model, "optimizer", None)) is not None:
            self._report.settings("optimizer", optimizer.get_config())

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Save what the epoch came to."""
        self._report.points(logs or {}, epoch)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Save the table of layers: by now they have their shapes."""
        self._fitting = False
        layers = {
            each.name: {"kind": type(each).__name__, "weights": each.count_params()}
            for each in self.model.layers
            if each.built
        }
        self._report.settings("layers", layers)

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Save what an evaluation came to; those of ``fit`` are among its logs."""
        if not self._fitting:
            metrics = {f"test_{name}": value for name, value in (logs or {}).items()}
            self._report.points(metrics, self._evaluations)
            self._evaluations += 1
