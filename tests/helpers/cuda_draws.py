"""Draws on a GPU, by functions that other processes can import."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


def cupy():
    return pytest.importorskip("cupy")


def torch_draws():
    return torch.rand(3, device="cuda").tolist() + torch.randn(3, device="cuda").tolist()


def dropout_draws():
    return torch.nn.functional.dropout(torch.ones(20, device="cuda")).tolist()


def layer_draws():
    return torch.nn.Linear(2, 2, device="cuda").weight.flatten().tolist()


def permutation_draws():
    return torch.randperm(10, device="cuda").tolist()


def cupy_draws():
    return cupy().random.rand(3).tolist()


def cupy_integers():
    return cupy().random.randint(0, 1000, 5).tolist()


def both_draws():
    return torch_draws() + cupy_draws()
