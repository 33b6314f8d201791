"""Dask graphs: of calls that a user makes, and of the trials made of them.

The calls of steps come in and make an ordinary Dask graph, the template of a result's trials. With
a request and a reuse plan a template becomes the graph of one trial, which Dask runs. Called by
parameters and planning; the one place that knows how Dask writes tasks down.
"""
