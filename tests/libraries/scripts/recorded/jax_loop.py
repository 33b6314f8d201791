"""In the manner of JAX's tutorial of a training loop by gradients."""

import jax
import jax.numpy as jnp

import daskperiment

ex = daskperiment.Experiment("jax_loop")


def loss(weights, X, y):
    return jnp.mean((X @ weights - y) ** 2)


def main():
    key = jax.random.key(0)
    X = jax.random.normal(key, (32, 3))
    y = X @ jnp.array([1.0, -2.0, 0.5])
    weights = jnp.zeros(3)
    step = jax.jit(jax.value_and_grad(loss))
    for epoch in range(5):
        value, gradient = step(weights, X, y)
        weights = weights - 0.1 * gradient
        ex.save_metric("loss", epoch, value)
        print(f"epoch {epoch}: loss {value:.4f}")


if __name__ == "__main__":
    ex.result(main)().compute()
