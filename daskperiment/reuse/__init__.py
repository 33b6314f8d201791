"""What a store knows of outputs: the cache keys that name them and the entries found under them.

Cache keys are worked out of code, arguments and parameter values. An entry says what is known of
the output that a key led to. Whether a trial reuses it is decided in :mod:`daskperiment.planning`.
"""
