"""A small and a large network of dense layers in NumPy, and their training: nothing here knows of fedpress."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

Network = dict[str, np.ndarray]

TEMPERATURE = 3.0


def make_network(draws: np.random.Generator, sizes: Sequence[int]) -> Network:
    """Return a network with random weights: layer i maps sizes[i] to sizes[i + 1] values."""
    network: Network = {}
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        network[f"{i}.weight"] = (draws.normal(size=(n_out, n_in)) * (2 / n_in) ** 0.5).astype(np.float32)
        network[f"{i}.bias"] = np.zeros(n_out, np.float32)
    return network


def forward(network: Network, inputs: np.ndarray) -> list[np.ndarray]:
    """Return what every layer is given, rectified, and at last the logits."""
    n_layers = len(network) // 2
    values = [inputs]
    for i in range(n_layers):
        out = values[-1] @ network[f"{i}.weight"].T + network[f"{i}.bias"]
        values.append(np.maximum(out, 0) if i < n_layers - 1 else out)
    return values


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def train(
    network: Network,
    draws: np.random.Generator,
    inputs: np.ndarray,
    labels: np.ndarray,
    teacher: np.ndarray | None,
    epochs: int,
    rate: float,
) -> float:
    """Train in place, by cross-entropy and, with a teacher's logits, by distillation; return the last loss.

    The loss is that of FedGKT: cross-entropy + T^2 KL(teacher || network), both softened by the temperature T.
    """
    loss = 0.0
    for _ in range(epochs):
        order = draws.permutation(len(inputs))
        loss = 0.0
        for start in range(0, len(order), 50):
            batch = order[start : start + 50]
            values = forward(network, inputs[batch])
            error = softmax(values[-1])
            loss -= float(np.log(error[np.arange(len(batch)), labels[batch]] + 1e-9).sum())
            error[np.arange(len(batch)), labels[batch]] -= 1
            if teacher is not None:
                ours, theirs = softmax(values[-1] / TEMPERATURE), softmax(teacher[batch] / TEMPERATURE)
                error += TEMPERATURE * (ours - theirs)
            step(network, values, error / len(batch), rate)
    return loss / len(inputs)


def step(network: Network, values: list[np.ndarray], error: np.ndarray, rate: float) -> None:
    """Go a step of gradient descent; ``error`` is the gradient of the loss by the logits."""
    for i in reversed(range(len(network) // 2)):
        weight = network[f"{i}.weight"]
        back = (error @ weight) * (values[i] > 0)
        weight -= rate * error.T @ values[i]
        network[f"{i}.bias"] -= rate * error.sum(axis=0)
        error = back


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the fraction of samples whose largest logit is that of their class."""
    return float((logits.argmax(axis=1) == labels).mean())
