"""In the manner of scikit-learn's Getting Started."""

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_validate, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

mlflow.autolog()


def main():
    X, y = load_iris(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    pipe.fit(X_train, y_train)
    print(f"accuracy {accuracy_score(y_test, pipe.predict(X_test)):.4f}")
    result = cross_validate(pipe, X, y)
    for fold, score in enumerate(result["test_score"]):
        print(f"fold {fold}: {score:.4f}")


if __name__ == "__main__":
    main()
