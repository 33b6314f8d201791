"""Three classifiers of breast cancers with scikit-learn: scores, figures and notes.

``python examples/figures_and_notes.py`` fits three models, of which nothing says that it is
recorded; lists them; keeps a figure of its own beside those of the library; tags the best one and
says why; and shows what is known of it. It needs the packages of the extra ``sklearn``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import daskperiment

ex = daskperiment.Experiment("figures-and-notes", seed=1)
kind = ex.parameter("kind", default="logistic")

MODELS = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "forest": lambda: RandomForestClassifier(n_estimators=50),
    "svm": lambda: make_pipeline(StandardScaler(), SVC()),
}


@ex.persist(reuse=True)
def load() -> dict[str, np.ndarray]:
    """Return the measurements, a third of them for the test."""
    X, y = load_breast_cancer(return_X_y=True)
    parts = map(np.asarray, train_test_split(X, y, test_size=0.33, random_state=0))
    train, test, train_labels, test_labels = parts
    return {
        "train": train, "test": test, "train_labels": train_labels, "test_labels": test_labels,
    }  # fmt: skip


def errors_by_size(model: Any, data: dict[str, np.ndarray]) -> Figure:
    """Draw which tumours are mistaken, by their mean radius."""
    wrong = model.predict(data["test"]) != data["test_labels"]
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.hist([data["test"][~wrong, 0], data["test"][wrong, 0]], label=["right", "wrong"])
    axes.set(xlabel="mean radius", ylabel="tumours")
    axes.legend()
    return figure


@ex.result
def fit(data: dict[str, np.ndarray], kind: str) -> float:
    """Fit a model, and return the share of tumours that it tells right."""
    model = MODELS[kind]()
    model.fit(data["train"], data["train_labels"])
    ex.save("errors by size", errors_by_size(model, data))
    return float(model.score(data["test"], data["test_labels"]))


s = fit(load(), kind)


def main() -> None:
    """Compute a trial of each model, choose one, and show what is known of it."""
    with ex.autolog("sklearn"):
        for name in MODELS:
            s.bind(kind=name).compute()
    best = ex.best("Result")
    ex.tag(best, "chosen")
    ex.note(best, "Fewest mistakes; look at the figure of errors before it is used for small ones.")
    print(ex.get_history()[["kind", "Result", "Tags"]])
    print(f"\nTrial {best} keeps:\n")
    print(ex.get_artifacts(best)[["Name", "Format", "Size"]])
    print(f"\nIts f1 is {ex.load_metric('f1', best)[best].iloc[-1]:.3f}.")


if __name__ == "__main__":
    main()
