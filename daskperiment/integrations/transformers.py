"""Hugging Face transformers: what its Trainer logs are points of the trial."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback
from transformers.integrations import integration_utils

from daskperiment.integrations.step_report import StepReport

__all__ = ["TransformersCallback"]


class TransformersCallback(TrainerCallback):  # type: ignore[misc]
    """A callback for the Trainer of transformers.

    What it logs are points, by global step; its arguments and the model's configuration are the
    artifacts ``training arguments`` and ``model configuration``. Once this module is imported,
    ``TrainingArguments(report_to="daskperiment")`` stands for it.

    Parameters
    ----------
    prefix : str
        Stands before the names of metrics and artifacts.

    Examples
    --------
    ::

        trainer = Trainer(model, arguments, callbacks=[TransformersCallback()], ...)
    """

    def __init__(self, prefix: str = "") -> None:
        self._report = StepReport(prefix)

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Save the arguments and the model's configuration."""
        if state.is_world_process_zero:
            self._report.settings("training arguments", args.to_sanitized_dict())
            if (config := getattr(given.get("model"), "config", None)) is not None:
                self._report.settings("model configuration", config.to_dict())

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Save what was logged."""
        if state.is_world_process_zero and logs:
            self._report.points(logs, state.global_step)


integration_utils.INTEGRATION_TO_CALLBACK["daskperiment"] = TransformersCallback
