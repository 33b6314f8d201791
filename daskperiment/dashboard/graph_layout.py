"""Where a graph's steps stand when the page draws it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from toolz import groupby

from daskperiment.records import Node

__all__ = ["MAX_STEPS", "layout_graph"]

MAX_STEPS = 150
"""Steps of a graph that is drawn; of a larger one there is the table of steps alone."""
_ROUNDS = 4


def layout_graph(nodes: Sequence[Node]) -> dict[str, Any]:
    """Return where each step of a graph is drawn: its layer, inputs first, and its row in it.

    Edges are pairs of keys; ``layers`` and ``rows`` tell how many there are.

    >>> graph = layout_graph([Node("a", "a"), Node("b", "b"), Node("c", "c", ["a", "b"])])
    >>> [(node["key"], node["layer"], node["row"]) for node in graph["nodes"]]
    [('a', 0, 0.0), ('b', 0, 1.0), ('c', 1, 0.5)]
    >>> graph["edges"], graph["layers"], graph["rows"]
    ([['a', 'c'], ['b', 'c']], 2, 2)
    """
    known = {node.key for node in nodes}
    inputs = {n.key: [key for key in dict.fromkeys(n.steps) if key in known] for n in nodes}
    layers = _layers(nodes, inputs)
    rows = _rows(layers, inputs)
    return {
        "nodes": [
            {
                "key": node.key,
                "step": node.step,
                "parameters": node.parameters,
                "layer": layers[node.key],
                "row": rows[node.key],
            }
            for node in nodes
        ],
        "edges": [[source, node.key] for node in nodes for source in inputs[node.key]],
        "layers": max(layers.values(), default=-1) + 1,
        "rows": max(Counter(layers.values()).values(), default=0),
    }


def _layers(nodes: Sequence[Node], inputs: dict[str, list[str]]) -> dict[str, int]:
    # A graph stands in order, so that a step's inputs have their layer already.
    layers: dict[str, int] = {}
    for node in nodes:
        layers[node.key] = 1 + max((layers.get(key, -1) for key in inputs[node.key]), default=-1)
    return layers


def _rows(layers: dict[str, int], inputs: dict[str, list[str]]) -> dict[str, float]:
    """Return rows so that few lines cross: each layer by the middle of its neighbours."""
    users: dict[str, list[str]] = defaultdict(list)
    for key, sources in inputs.items():
        for source in sources:
            users[source].append(key)
    columns = groupby(layers.__getitem__, layers)
    rows: dict[str, float] = {}
    tallest = max(map(len, columns.values()), default=0)
    _settle(rows, columns, tallest)
    for turn in range(_ROUNDS):
        neighbours = users if turn % 2 else inputs
        for layer in sorted(columns, reverse=bool(turn % 2)):
            columns[layer].sort(key=lambda key: _middle(key, neighbours[key], rows))
            _settle(rows, {layer: columns[layer]}, tallest)
    return rows


def _settle(rows: dict[str, float], columns: dict[int, list[str]], tallest: int) -> None:
    for keys in columns.values():
        offset = (tallest - len(keys)) / 2
        rows.update({key: offset + i for i, key in enumerate(keys)})


def _middle(key: str, neighbours: list[str], rows: dict[str, float]) -> float:
    if not neighbours:
        return rows[key]
    return sum(rows[other] for other in neighbours) / len(neighbours)
