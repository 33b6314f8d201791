"""Inside a running trial, in whatever process its tasks run.

What comes in is a trial request and the arguments of a task; what goes out is the value that the
user's function returned, and records for :mod:`daskperiment.recording`. Only the functions that
stand in the tasks of a graph are called from outside.
"""
