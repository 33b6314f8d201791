"""Experiments that the browser looks at: a study that really ran, and a hostile one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

import daskperiment
from daskperiment.records import Curation, Node, Origin, curation_id
from tests.dashboard.stores import PLANTS, FolderLab
from tests.history.lab import NOW

__all__ = ["figures", "hostile", "study", "wide"]


def study(root: Path, backend: object = None) -> None:
    """Run 28 trials, the last of which fails."""
    ex = daskperiment.Experiment("study", backend=root if backend is None else backend)
    lr, depth = ex.parameter("lr", default=0.1), ex.parameter("depth", default=3)
    kernel, data = ex.parameter("kernel", default="rbf"), ex.parameter("data", default="iris")

    @ex.persist
    def load(data):
        return np.arange(5_000.0)

    @ex
    def scale(values, lr):
        return values * lr

    @ex
    def fit(values, depth, lr):
        for epoch in range(40):
            ex.save_metric("loss", epoch, math.exp(-epoch * lr) + 0.1 / depth)
            ex.save_metric("accuracy", epoch, 1 - math.exp(-epoch * lr))
        if lr > 0.65:
            raise ValueError(f"lr {lr} diverges")
        return depth

    @ex.result
    def score(model, kernel, lr):
        return round(model * lr, 6)

    result = score(fit(scale(load(data), lr), depth, lr), kernel, lr)
    for number in range(28):
        values = {"lr": number / 40, "depth": 1 + number % 4, "kernel": "abc"[number % 3]}
        try:
            result.bind(**values).compute()
        except ValueError:
            pass
    ex.flush()


def figures(root: Path) -> None:
    """Run two trials with artifacts of every kind, a log, and what they used of the machine."""
    ex = daskperiment.Experiment("figures", backend=root)

    @ex.result
    def score(a: int) -> float:
        ex.save("picture", np.full((8, 8, 3), 99 * a, "u1"), format="png")
        ex.save("page", f"<h1>page {a}</h1>", format="html")
        ex.save("drawing", "<svg xmlns='http://www.w3.org/2000/svg'><circle r='9'/></svg>", "svg")
        ex.save("table", pd.DataFrame({"moon": ["a", "b"], "share": [a / 2, 1.0]}))
        ex.save("words", f"a = {a}")
        ex.save("weights", np.arange(6.0).reshape(2, 3) * a)
        ex.save("settings", {"a": a, "path": Path("x")})
        ex.save_metric("loss", 0, 1 / a)
        ex.save_metric("loss", 1, 0.5 / a)
        print("it went well")
        return a / 2

    node = score(ex.parameter("a"))
    for a in (1, 2):
        node.bind(a=a).compute()
    ex.flush()
    lab = FolderLab(root / "figures")
    used = [(f"system/{name}", 5 * i, 9.0) for name in ("cpu_percent", "memory_mb") for i in (1, 2)]
    for trial in (1, 2):
        lab.points(trial, *used)
    lab.store.close()


def wide(lab: FolderLab) -> None:
    """Write 60 trials of 41 parameters, 200 epochs of two metrics, and two results each."""
    for number in range(60):
        same = {f"setting_with_a_long_name_{i:02}": i for i in range(37)}
        lr = 10.0 ** -(1 + number % 4)
        differ = {"lr": lr, "depth": number % 5, "kind": "abc"[number % 3], "batch": 2**number}
        trial = lab.open({**same, **differ}, graph=[Node("fit", "fit"), Node("s", "s", ["fit"])])
        for batch in range(0, 200, 100):
            epochs = range(batch, batch + 100)
            lab.points(trial, *(("loss", i, math.exp(-i * lr) + number / 100) for i in epochs))
            odd = math.nan if number == 59 else math.inf if number == 58 else 0.5
            lab.points(trial, *(("acc", i, odd if i == 150 else i / 200) for i in epochs))
        lab.step(trial, "fit", output=f"o{number}")
        if number == 59:
            lab.beat(trial, NOW, s=NOW)
            continue  # it runs
        lab.succeed(trial, {"f1": (number * 7 % 60) / 60 + 1e-9, "cost": {"s": number / 3}})
    for at, trial in enumerate((3, 4), 1):
        remark = "a note" if trial == 3 else None
        said = Curation(float(at), "ann", tags=["baseline"], remark=remark, archived=trial == 4)
        lab.add("notes", trial, curation_id(float(at), "x"), said)


def hostile(lab: FolderLab) -> None:
    """Plant markup in every field that the page shows."""
    for number in range(3):
        trial = lab.open(
            {
                f"name {PLANTS}": f"value {number} {PLANTS}",
                f"$$\\frac{{1}}{{2}}$$ {PLANTS}": number,
            },
            graph=[
                Node(f"key {PLANTS}", f"step {PLANTS}", [], [f"name {PLANTS}"]),
                Node(f"last {PLANTS}", f"step {PLANTS}", [f"key {PLANTS}"]),
            ],
            sources={f"code {PLANTS}": f"def f():\n    return '{number} {PLANTS}'\n"},
            environment={
                f"category {PLANTS}": {f"fact {PLANTS}": f"fact's {PLANTS}"},
                "git": {"commit": f"{number} {PLANTS}", "diff": f"+ {number} {PLANTS}"},
                "requirements": {f"package {PLANTS}": f"{number} {PLANTS}"},
            },
            origin=Origin(f"host {PLANTS}", "boot", 1, 1.0, f"user {PLANTS}"),
            result=f"result step {PLANTS}",
            sweep=f"sweep {PLANTS}",
        )
        where = {"host": f"host {PLANTS}", "thread": f"thread {PLANTS}"}
        kept = {"value": lab.form(Hostile())}
        lab.step(trial, f"key {PLANTS}", kept=kept, output=f"o{number}", note=PLANTS, **where)
        lab.step(trial, f"last {PLANTS}", worker_name=f"worker {PLANTS}", output=f"p{number}")
        lab.points(trial, (f"metric {PLANTS}", 0, 1.0), (f"metric {PLANTS}", 1, number))
        if number:
            lab.succeed(trial, Hostile() if number == 1 else f"result {PLANTS}")
        else:
            lab.fail(trial, ValueError(f"failure {PLANTS}"))


class Hostile:
    """Shows itself as markup."""

    def __repr__(self) -> str:
        return f"repr {PLANTS}"
