"""Configurations: trees of values whose leaves are parameters with dotted names.

In come dicts, dataclasses, attrs and pydantic models, OmegaConf's configurations and files; out go
leaves with their types and defaults, values that fit them, and the object made of values again.
Nothing here knows of graphs or trials.
"""

from __future__ import annotations

from daskperiment.configuration.config_tree import ConfigTree
from daskperiment.configuration.sections import ConfigSection, Leaf, Variants, build

__all__ = ["ConfigTree", "Leaf", "ConfigSection", "Variants", "build"]
