"""In the manner of scikit-learn's example of a grid search for digits."""

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.svm import SVC


def main():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X[:400], y[:400], random_state=0)
    search = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.001, 0.0001]}, cv=2)
    search.fit(X_train, y_train)
    print(f"best of the search {search.best_score_:.4f}, by {search.best_params_}")
    print(f"accuracy {search.score(X_test, y_test):.4f}")


if __name__ == "__main__":
    main()
