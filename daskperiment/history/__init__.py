"""What was recorded, as data: trials, DataFrames, metrics and persisted values.

A store comes in; trials as named tuples, DataFrames and Python values go out. Whatever answers a
question about trials that ran may call: the experiment, compare, explain, sweep, reproduce, the
dashboard and the command line. Everything here only reads. Nothing is unpickled but by
:meth:`StoredObject.load` and ``get_persisted``, which say so. The modules that make DataFrames are
imported where they are needed: pandas takes longer to load than all else.
"""

from __future__ import annotations

import sys

from daskperiment.history import stored_values
from daskperiment.history.stored_values import StoredObject
from daskperiment.history.trial_records import RecordedTrial, read_trials, trial_or_raise

__all__ = ["RecordedTrial", "StoredObject", "read_trials", "trial_or_raise"]

# The name of the module in tables that were pickled before it was renamed.
sys.modules[f"{__name__}.values"] = stored_values
