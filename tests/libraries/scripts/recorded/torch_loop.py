"""In the manner of PyTorch's Quickstart."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import daskperiment

ex = daskperiment.Experiment("torch_loop")


def make_data(rows):
    X = torch.rand(rows, 4)
    return DataLoader(TensorDataset(X, (X.sum(1) > 2).long()), batch_size=16)


def train(dataloader, model, loss_fn, optimizer):
    model.train()
    total = 0.0
    for X, y in dataloader:
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item()
    return total / len(dataloader)


def test(dataloader, model):
    model.eval()
    with torch.no_grad():
        correct = sum((model(X).argmax(1) == y).sum().item() for X, y in dataloader)
    return correct / len(dataloader.dataset)


def main():
    torch.manual_seed(0)
    train_dataloader, test_dataloader = make_data(64), make_data(32)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(5):
        loss = train(train_dataloader, model, loss_fn, optimizer)
        accuracy = test(test_dataloader, model)
        ex.save_metrics({"loss": loss, "accuracy": accuracy}, epoch)
        print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.4f}")


if __name__ == "__main__":
    ex.result(main)().compute()
