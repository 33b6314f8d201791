"""Before a trial: what it begins with, what it reuses and why the rest must run.

A result and the options of whoever computes it come in; a trial plan goes out: the request that
the first task begins the trial with, and the reuse plan that its graph is made by.
"""
