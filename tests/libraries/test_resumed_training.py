"""A network that is killed while it is trained comes to the same weights as one that is not."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "resume_training.py"


def test_the_example(tmp_path, monkeypatch):
    """Killed at epoch 7 of 10 and gone on with: one curve of 10 points, and the same weights."""
    killed = subprocess.run(
        [sys.executable, str(SCRIPT), "train", "--kill", "7"], cwd=tmp_path, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(SCRIPT.parent)
    example = importlib.import_module(SCRIPT.stem)
    found = example.s.resume(1, scheduler="synchronous")
    whole = example.s.compute(scheduler="synchronous", reuse=False)
    assert found["loss"] == whole["loss"]
    for name, weight in whole["weights"].items():
        assert torch.equal(found["weights"][name], weight)
    curves = example.ex.load_metric("loss", [2, 3])
    assert curves.index.tolist() == list(range(1, 11))
    assert curves[2].tolist() == curves[3].tolist()
    assert example.ex.get_steps(2).set_index("Key")["Reused From"]["load_data"] == 1


@pytest.mark.parametrize("kind", ["module", "optimizer", "tied", "grad", "half"])
def test_states_of_torch(ex, kind):
    """What PyTorch calls a state comes back to the bit: tied, half, or with gradients too."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    weight = model[0].weight
    state = {
        "module": lambda: model.state_dict(), "optimizer": lambda: optimizer.state_dict(),
        "tied": lambda: {"a": weight.detach(), "b": weight.detach()},
        "grad": lambda: {"weight": weight}, "half": lambda: {"x": weight.detach().bfloat16()},
    }[kind]()  # fmt: skip
    fails = [True]

    def check():
        if fails:
            fails.pop()
            raise RuntimeError("broken")

    @ex.result
    def train(state):
        found = ex.restore()
        if found is None:
            ex.checkpoint(state, 1)
        check()
        return found[0]

    result = train(state)
    with pytest.raises(RuntimeError, match="broken"):
        result.compute(scheduler="synchronous")
    found = result.resume(1, scheduler="synchronous")
    torch.testing.assert_close(found, state, rtol=0, atol=0)
    if kind == "tied":
        assert found["a"].data_ptr() == found["b"].data_ptr()


def test_generators_go_on(ex):
    """Draws after a checkpoint are those of an undisturbed run, of each generator at hand."""
    fails = [False]

    def check():
        if fails and fails.pop():
            raise RuntimeError("broken")

    @ex.result
    def train():
        torch.rand(3), torch.nn.Linear(2, 2)
        drawn, last = ex.restore(default=([], 0))
        loader = torch.utils.data.DataLoader(range(8), batch_size=4, shuffle=True)
        for epoch in range(last + 1, 5):
            drawn = [*drawn, torch.rand(2), torch.randn(1), *loader, torch.normal(0.0, 1.0, (3,))]
            ex.checkpoint(drawn, epoch)
            if epoch == 2:
                check()
        return drawn

    expected = train().compute(scheduler="synchronous", seed=4)
    fails.append(True)
    with pytest.raises(RuntimeError, match="broken"):
        train().compute(scheduler="synchronous", seed=4)
    for one, other in zip(train().resume(2, scheduler="synchronous"), expected, strict=True):
        assert torch.equal(one, other)
