"""What can be set: names, types and defaults, as the steps take them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class DataSettings:
    """Of the data."""

    test_share: float = 0.25
    scaled: bool = True


@dataclass
class FitSettings:
    """Of the fit."""

    kind: Literal["logistic", "ridge"] = "logistic"
    penalty: float = 1.0
    steps: int = 40


@dataclass
class Settings:
    """All of them."""

    data: DataSettings = field(default_factory=DataSettings)
    fit: FitSettings = field(default_factory=FitSettings)
