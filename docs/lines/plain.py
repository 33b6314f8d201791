"""Train a classifier of digits, and keep its figure and the model as files."""

import joblib
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import ConfusionMatrixDisplay, log_loss
from sklearn.model_selection import train_test_split


def train(rate, epochs):
    """Return the share of the test's digits that are recognised."""
    digits = load_digits()
    parts = train_test_split(digits.data / 16, digits.target, random_state=0)
    X, X_test, y, y_test = parts
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=rate, random_state=0)
    for epoch in range(epochs):
        model.partial_fit(X, y, classes=digits.target_names)
        loss = log_loss(y, model.predict_proba(X))
        accuracy = model.score(X_test, y_test)
        print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.4f}")
    shown = ConfusionMatrixDisplay.from_estimator(model, X_test, y_test)
    shown.figure_.savefig("confusion.png")
    joblib.dump(model, "model.joblib")
    return accuracy


if __name__ == "__main__":
    print(train(rate=0.01, epochs=5))
