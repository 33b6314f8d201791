"""In the manner of XGBoost's Python introduction."""

import xgboost as xgb
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import daskperiment

ex = daskperiment.Experiment("xgboost_train")
ex.autolog("xgboost")


def main():
    X, y = load_breast_cancer(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    dtrain, dtest = xgb.DMatrix(X_train, label=y_train), xgb.DMatrix(X_test, label=y_test)
    param = {"max_depth": 2, "eta": 1, "objective": "binary:logistic", "eval_metric": "auc"}
    evallist, found = [(dtrain, "train"), (dtest, "eval")], {}
    xgb.train(param, dtrain, 4, evals=evallist, evals_result=found, verbose_eval=False)
    for data, metrics in found.items():
        print(data, *(f"{value:.4f}" for value in metrics["auc"]))


if __name__ == "__main__":
    ex.result(main)().compute()
