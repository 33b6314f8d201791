"""From a running trial to its store: what was written reaches it, whatever happens on the way.

Records, metric points and objects come in from the tasks of a trial. They go to a local journal
first and from there to the store, in batches. Above it stand the tasks of trials and the client;
below it the store and the codec.
"""
