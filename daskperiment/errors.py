"""Every error and warning that daskperiment raises on its own account.

::

    DaskperimentError
    ├── CheckpointError (TypeError)
    ├── ConfigurationError (TypeError, ValueError)
    ├── FilterError (ValueError)
    ├── FormatError (TypeError, ValueError)
    ├── InputFileError (FileNotFoundError)
    ├── MissingLibraryError (ImportError)
    ├── ParameterUndeclaredError (TypeError, ValueError)
    ├── ParameterUndefinedError (ValueError)
    ├── ReproductionError (ValueError)
    ├── ResumptionError (ValueError)
    ├── SecretKeyError (ValueError)
    ├── StepEndedError (RuntimeError)
    ├── TrialIDNotFoundError (ValueError)
    │   └── UncertainStepError
    ├── TrialReusedError (ValueError)
    ├── UnknownFormatError (ValueError)
    ├── LookupFailedError (KeyError)
    │   ├── ArtifactNotFoundError
    │   ├── MetricNotFoundError
    │   ├── PersistedResultNotFoundError
    │   └── StepNotFoundError
    └── StoreError
        ├── StoreUnavailableError (ConnectionError)
        ├── CorruptRecordError
        ├── ObjectsUnavailableError (ConnectionError)
        ├── OtherPythonError
        ├── RecordsRefusedError
        └── UntrustedObjectError

    DaskperimentWarning (UserWarning)
    ├── CodeChangedWarning
    ├── EnvironmentChangedWarning
    ├── ImpureStepWarning
    ├── NeverReusedWarning
    ├── OtherPythonWarning
    ├── RandomStateWarning
    ├── ResumptionWarning
    └── StoreWarning
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "ArtifactNotFoundError",
    "CheckpointError",
    "CodeChangedWarning",
    "ConfigurationError",
    "CorruptRecordError",
    "DaskperimentError",
    "DaskperimentWarning",
    "EnvironmentChangedWarning",
    "ImpureStepWarning",
    "FilterError",
    "FormatError",
    "InputFileError",
    "MissingLibraryError",
    "ObjectsUnavailableError",
    "LookupFailedError",
    "MetricNotFoundError",
    "NeverReusedWarning",
    "OtherPythonError",
    "OtherPythonWarning",
    "ParameterUndeclaredError",
    "ParameterUndefinedError",
    "PersistedResultNotFoundError",
    "RandomStateWarning",
    "RecordsRefusedError",
    "ReproductionError",
    "ResumptionError",
    "ResumptionWarning",
    "SecretKeyError",
    "StepEndedError",
    "StepNotFoundError",
    "StoreError",
    "StoreUnavailableError",
    "StoreWarning",
    "TrialIDNotFoundError",
    "TrialReusedError",
    "UncertainStepError",
    "UnknownFormatError",
    "UntrustedObjectError",
]


class DaskperimentError(Exception):
    """Base of every error that daskperiment raises on its own account."""


class MissingLibraryError(DaskperimentError, ImportError):
    """An optional library is needed and not installed; the message says how to install it."""


class ParameterUndeclaredError(DaskperimentError, TypeError, ValueError):
    """A value was given for a parameter that the experiment does not declare."""


class ParameterUndefinedError(DaskperimentError, ValueError):
    """A parameter that a computation needs has neither a default nor a value."""


class ConfigurationError(DaskperimentError, TypeError, ValueError):
    """A configuration cannot be read, or a value does not fit it; the message names the path."""


class FilterError(DaskperimentError, ValueError):
    """What says which trials are meant, or in which order, cannot be understood."""


class FormatError(DaskperimentError, TypeError, ValueError):
    """A value cannot be kept in the format that was asked for."""


class UnknownFormatError(DaskperimentError, ValueError):
    """There is no format of this name."""


class InputFileError(DaskperimentError, FileNotFoundError):
    """An ``ex.file`` names nothing that is there, or what cannot be read."""


class ReproductionError(DaskperimentError, ValueError):
    """A trial cannot be run again as it was asked for; the message names what is in the way."""


class CheckpointError(DaskperimentError, TypeError):
    """A step's state cannot be kept as a checkpoint; the message says why, and what to do."""


class ResumptionError(DaskperimentError, ValueError):
    """A trial cannot be gone on with; the message names what is in the way."""


class SecretKeyError(DaskperimentError, ValueError):
    """The key that secret parameters are compared by cannot be read, made, or trusted."""


class StepEndedError(DaskperimentError, RuntimeError):
    """A step that has ended, or whose trial was interrupted, draws or saves points no more."""


class TrialIDNotFoundError(DaskperimentError, ValueError):
    """There is no such trial, or no trial is running here."""


class TrialReusedError(DaskperimentError, ValueError):
    """A trial is to be deleted of which other trials reuse what it kept."""


class UncertainStepError(TrialIDNotFoundError):
    """It is not certain for which step a thread works; the message says how to tell it."""


class LookupFailedError(DaskperimentError, KeyError):
    """Something asked for by name is not in the store."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which hides line breaks and doubles quotes.
        return str(self.args[0]) if self.args else ""


class ArtifactNotFoundError(LookupFailedError):
    """A trial has no artifact of this name."""


class MetricNotFoundError(LookupFailedError):
    """A trial has no metric of this name."""


class PersistedResultNotFoundError(LookupFailedError):
    """A trial kept no value for this step."""


class StepNotFoundError(LookupFailedError):
    """A trial has no step of this name."""


class StoreError(DaskperimentError):
    """A store could not do what was asked."""


class StoreUnavailableError(StoreError, ConnectionError):
    """The store cannot be reached, or did not answer in time."""


class CorruptRecordError(StoreError):
    """Something in the store is damaged; the message names it and the remedy."""


class RecordsRefusedError(StoreError):
    """A store does not have the trials that records were written for: it lost or renumbered them.

    Attributes
    ----------
    owners : dict
        For each refused pair of trial id and token the id that the token has now, None if the
        store does not know the token.
    """

    def __init__(self, message: str, owners: Mapping[Any, int | None]) -> None:
        super().__init__(message)
        self.owners: dict[Any, int | None] = dict(owners)

    def __reduce__(self) -> Any:
        return RecordsRefusedError, (str(self), self.owners)


class ObjectsUnavailableError(StoreError, ConnectionError):
    """The bucket that large objects of a store are in cannot be reached; the store can."""


class OtherPythonError(StoreError):
    """An object has code in it that another minor version of Python compiled."""


class UntrustedObjectError(StoreError):
    """An object is unsigned or altered while a signing key is configured."""


class DaskperimentWarning(UserWarning):
    """Base of every warning that daskperiment issues."""


class CodeChangedWarning(DaskperimentWarning):
    """A step, or a function that it uses, differs from the previous trial's."""


class EnvironmentChangedWarning(DaskperimentWarning):
    """Python, the platform or a package differs from the previous trial's."""


class ImpureStepWarning(DaskperimentWarning):
    """A step returned another output for the same code, inputs and seed, or changed an input."""


class NeverReusedWarning(DaskperimentWarning):
    """A step whose output may be reused can never be, and so always runs; it says why."""


class OtherPythonWarning(DaskperimentWarning):
    """An object is loaded that another minor version of Python pickled."""


class RandomStateWarning(DaskperimentWarning):
    """Steps drew from the global random state while others ran in the same process."""


class ResumptionWarning(DaskperimentWarning):
    """A trial that is gone on with is not in all respects as it was; the message says in which."""


class StoreWarning(DaskperimentWarning):
    """Records wait for a store that is away, or part of a store cannot be read."""
