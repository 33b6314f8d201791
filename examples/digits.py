"""Eight trials of a classifier of handwritten digits: recorded, listed and compared.

Run it twice: ``python examples/digits.py``. The trials are kept in the folder
``daskperiment_cache`` where it runs, so the second run continues at trial 9 and compares its
trials with those of the first. Edit a step in between, and it says what changed.

With parameters it computes one trial: ``python examples/digits.py rate=0.05 --seed 1``, or
``daskperiment run examples/digits.py rate=0.05 --seed 1``. ``--help`` lists the parameters.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import SGDClassifier

import daskperiment

ex = daskperiment.Experiment("digits", seed=2026)
components = ex.parameter("components", default=32)
rate = ex.parameter("rate", default=0.01)
epochs = ex.parameter("epochs", default=8)

PARAMETERS = ["components", "rate", "epochs"]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"components": 8},
    {"components": 16},
    {"components": 100},  # an image has 64 pixels: this trial fails, and its row says why
    {"rate": 0.001},
    {"rate": 0.1},
    {"components": 16, "rate": 0.001},
    {"epochs": 16},
]


def share_correct(model: Any, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of images that a model labels correctly."""
    return float((model.predict(images) == labels).mean())


@ex
def load() -> tuple[np.ndarray, np.ndarray]:
    """Return the images, one row of 64 pixels each, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return np.asarray(images) / 16, np.asarray(labels)


@ex
def split(digits: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """Keep a quarter of the images, drawn at random, for the test."""
    images, labels = digits
    order = ex.rng.permutation(len(images))
    test, train = np.split(order, [len(order) // 4])
    return {
        "train": images[train],
        "train_labels": labels[train],
        "test": images[test],
        "test_labels": labels[test],
    }


@ex.persist
def reduce(data: dict[str, np.ndarray], components: int) -> dict[str, np.ndarray]:
    """Project the images on the principal components of the training images."""
    projection = PCA(components, svd_solver="full").fit(data["train"])
    return {
        **data,
        "train": projection.transform(data["train"]),
        "test": projection.transform(data["test"]),
    }


@ex
def train(data: dict[str, np.ndarray], rate: float, epochs: int) -> SGDClassifier:
    """Fit a linear classifier, and record how it does after each epoch."""
    model = SGDClassifier(learning_rate="constant", eta0=rate, random_state=0)
    images, labels = data["train"], data["train_labels"]
    for epoch in range(epochs):
        order = ex.rng.permutation(len(images))
        model.partial_fit(images[order], labels[order], classes=range(10))
        correct = share_correct(model, data["test"], data["test_labels"])
        ex.save_metric("accuracy", epoch=epoch, value=correct)
    return model


@ex.result
def score(model: SGDClassifier, data: dict[str, np.ndarray]) -> float:
    """Return the share of test images that the model labels correctly."""
    return share_correct(model, data["test"], data["test_labels"])


reduced = reduce(split(load()), components)
result = score(train(reduced, rate, epochs), reduced)


def run_trials() -> None:
    """Compute one trial per setting, with one line of progress."""
    for number, values in enumerate(SETTINGS, start=1):
        print(f"\r{number} of {len(SETTINGS)}", end="", file=sys.stderr, flush=True)
        try:
            result.bind(**values).compute()
        except ValueError:
            continue  # the trial is recorded as failed, with the error
    print("\r" + " " * 20 + "\r", end="", file=sys.stderr, flush=True)


def show_eight() -> None:
    """Run the trials, and show what is known about them afterwards."""
    earlier = ex.trial_id
    if earlier:
        print(f"Found {earlier} trials; continuing at trial {earlier + 1}.\n")
    run_trials()

    first = earlier + 1
    history = ex.get_history()
    print("All trials:\n")
    columns = [*PARAMETERS, "Result", "Success", "Description"]
    with pd.option_context("display.max_columns", None, "display.width", 120):
        print(history[columns])
    print(f"\nAccuracy in trials {first}, {first + 1} and {first + 4}, epoch by epoch:\n")
    print(ex.load_metric("accuracy", [first, first + 1, first + 4]))
    print(f"\nTrials {first} and {first + 1}:\n")
    print(ex.compare(first, first + 1))

    alike = history.index[(history[PARAMETERS] == history.loc[first, PARAMETERS]).all(axis=1)]
    if alike[0] < first:
        before = alike[alike < first][-1]
        print(f"\nTrial {before}, and trial {first} with the same parameters:\n")
        print(ex.compare(before, first))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        result.main()
    else:
        show_eight()
