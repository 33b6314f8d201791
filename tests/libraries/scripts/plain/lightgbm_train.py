"""In the manner of LightGBM's Python quick start, with its early stopping."""

import lightgbm as lgb
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split


def main():
    X, y = load_breast_cancer(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    train_data = lgb.Dataset(X_train, label=y_train)
    validation_data = lgb.Dataset(X_test, label=y_test, reference=train_data)
    param = {"num_leaves": 7, "objective": "binary", "metric": "auc", "verbose": -1, "seed": 0}
    found = {}
    callbacks = [lgb.early_stopping(3, verbose=False), lgb.record_evaluation(found)]
    lgb.train(param, train_data, 20, valid_sets=[validation_data], callbacks=callbacks)
    print("auc", *(f"{value:.4f}" for value in found["valid_0"]["auc"]))


if __name__ == "__main__":
    main()
