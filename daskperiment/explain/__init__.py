"""Why a step runs, or why it does not.

What planning forecasts of a result, or a store and a trial id, comes in; an
:class:`~daskperiment.explain.explanation.Explanation` goes out. The experiment and the command line
may call. Everything here only reads.
"""
