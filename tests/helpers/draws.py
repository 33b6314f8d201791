"""A trial of something that may draw random numbers."""

from __future__ import annotations


def reusable(ex, draw):
    """Make a result of a reusable step that calls something."""

    @ex.persist(reuse=True)
    def step():
        return draw()

    @ex.result
    def out(value):
        return value

    return out(step())
