"""A line fitted by PyTorch's autograd."""

import json

import torch

WEIGHT = torch.zeros(1, requires_grad=True)
BIAS = torch.zeros(1, requires_grad=True)


def init():
    x = torch.tensor([0.0, 1.0, 2.0, 3.0])
    optimizer = torch.optim.SGD([WEIGHT, BIAS], lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(WEIGHT * x + BIAS, 2 * x + 1).backward()
        optimizer.step()


def run(data):
    x = torch.tensor(json.loads(data)["data"])
    with torch.no_grad():
        return {"result": [round(value, 1) for value in (WEIGHT * x + BIAS).tolist()]}
