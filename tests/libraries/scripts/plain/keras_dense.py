"""In the manner of Keras' guide to training and evaluation."""

import keras
import numpy as np


def main():
    keras.utils.set_random_seed(0)
    x_train, x_test = np.random.rand(64, 8), np.random.rand(16, 8)
    y_train, y_test = x_train.sum(1) > 4, x_test.sum(1) > 4
    model = keras.Sequential([
        keras.Input((8,)),
        keras.layers.Dense(16, activation="relu"),
        keras.layers.Dense(1, activation="sigmoid"),
    ])  # fmt: skip
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    history = model.fit(x_train, y_train, epochs=3, verbose=0, validation_split=0.25)
    for name, values in history.history.items():
        print(name, *(f"{value:.4f}" for value in values))
    results = model.evaluate(x_test, y_test, verbose=0)
    print(f"test loss {results[0]:.4f}, test accuracy {results[1]:.4f}")


if __name__ == "__main__":
    main()
