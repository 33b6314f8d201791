"""The process that computes: it ships trials, follows them, and writes the ends nobody else can.

What comes in is a trial request that leaves this process, or the end of a computation that this
process waits for. What goes out are the records that no task of the trial could write.
"""
