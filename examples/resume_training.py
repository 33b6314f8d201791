"""A training loop that may be killed at any moment, and goes on where it was.

    python examples/resume_training.py                  # trains, is killed at epoch 7, goes on
    python examples/resume_training.py train --kill 7   # only trains, and is killed at epoch 7
    python examples/resume_training.py resume 1         # only goes on with trial 1

What is added to the plain loop are the three lines with ``ex.`` in ``train``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from typing import Any

import torch
from torch import nn

import daskperiment

ex = daskperiment.Experiment("resume_training", seed=1)
epochs = ex.parameter("epochs", default=10)
lr = ex.parameter("lr", default=0.05)


@ex.persist
def load_data() -> tuple[torch.Tensor, torch.Tensor]:
    """Return points, and whether each lies within a circle: it is kept, so it is made once."""
    points = torch.rand(256, 2) * 2 - 1
    return points, (points.norm(dim=1) < 0.8).float()


def order(count: int) -> Any:
    """Return the numbers of points in random order."""
    return torch.randperm(count)


@ex.result
def train(data: tuple[torch.Tensor, torch.Tensor], epochs: int, lr: float) -> dict[str, Any]:
    """Train a small network with dropout on shuffled batches; return its weights and loss."""
    points, inside = data
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    loss: Any = None
    # Last before the loop: it also brings the random generators to where they were.
    state, last = ex.restore(default=(None, 0))
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    for epoch in range(last + 1, epochs + 1):
        for batch in order(len(points)).split(64):
            optimizer.zero_grad()
            scores = model(points[batch]).squeeze(1)
            loss = nn.functional.binary_cross_entropy_with_logits(scores, inside[batch])
            loss.backward()
            optimizer.step()
        ex.save_metric("loss", epoch, loss)
        ex.checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, epoch)
        if str(epoch) == os.environ.get("KILL_AT"):
            os.kill(os.getpid(), signal.SIGKILL)
    return {"weights": model.state_dict(), "loss": loss.item()}


s = train(load_data(), epochs, lr)


def main() -> None:
    """Train or go on as the command line says; without arguments, show all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["train", "resume"])
    parser.add_argument("trial", nargs="?", type=int, default=1)
    parser.add_argument("--kill", metavar="EPOCH")
    given = parser.parse_args()
    if given.what is None:
        subprocess.run([sys.executable, __file__, "train", "--kill", "7"], check=False)
        print("killed at epoch 7:", ex.get_history(verbose=True, running=True)["Status"].tolist())
    if given.what == "train":
        os.environ["KILL_AT"] = given.kill or ""
        print("loss", s.compute()["loss"])
    else:
        trial = given.trial if given.what else ex.trial_id
        print("loss", s.resume(trial)["loss"])
        print(ex.load_metric("loss", ex.trial_id))


if __name__ == "__main__":
    main()
