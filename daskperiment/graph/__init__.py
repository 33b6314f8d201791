"""Parameters, steps and results as Dask collections, and the graph of one trial."""
