"""The data, the network and its training: nothing here knows of fedpress."""

from __future__ import annotations

import numpy as np

CLASSES, FEATURES, SAMPLES = 10, 1494, 600

Model = dict[str, np.ndarray]


def make_data(seed: int, partition: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and classes of a partition: a pattern for each class, under noise.

    Partition -1 is for tests. Others have mostly two thirds of the classes, each other ones.
    """
    patterns = np.random.default_rng(seed).normal(size=(CLASSES, FEATURES)).astype(np.float32)
    draws = np.random.default_rng([seed, partition + 1])
    share = np.ones(CLASSES) if partition < 0 else draws.permutation(CLASSES) % 3 + 0.2
    labels = draws.choice(CLASSES, SAMPLES, p=share / share.sum())
    noise = draws.normal(scale=6.0, size=(SAMPLES, FEATURES)).astype(np.float32)
    return (patterns[labels] + noise) / np.float32(6.0), labels


def make_model(seed: int, hidden: int) -> Model:
    """Return a network of one hidden layer with random weights."""
    draws = np.random.default_rng(seed)
    return {
        "fc1.weight": (draws.normal(size=(hidden, FEATURES)) * (2 / FEATURES) ** 0.5).astype(np.float32),
        "fc1.bias": np.zeros(hidden, np.float32),
        "fc2.weight": (draws.normal(size=(CLASSES, hidden)) * (1 / hidden) ** 0.5).astype(np.float32),
        "fc2.bias": np.zeros(CLASSES, np.float32),
        "steps": np.array(0),
    }


def forward(model: Model, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return hidden activations and the probabilities of the classes."""
    hidden = np.maximum(inputs @ model["fc1.weight"].T + model["fc1.bias"], 0)
    logits = hidden @ model["fc2.weight"].T + model["fc2.bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return hidden, powers / powers.sum(axis=1, keepdims=True)


def train(model: Model, inputs: np.ndarray, labels: np.ndarray, rate: float = 0.05) -> Model:
    """Return the model after an epoch of stochastic gradient descent."""
    model = {name: np.array(array) for name, array in model.items()}
    for start in range(0, len(inputs), 50):
        x, y = inputs[start : start + 50], labels[start : start + 50]
        hidden, error = forward(model, x)
        error[np.arange(len(y)), y] -= 1
        error /= len(y)
        back = (error @ model["fc2.weight"]) * (hidden > 0)
        model["fc2.weight"] -= rate * error.T @ hidden
        model["fc2.bias"] -= rate * error.sum(axis=0)
        model["fc1.weight"] -= rate * back.T @ x
        model["fc1.bias"] -= rate * back.sum(axis=0)
        model["steps"] += 1
    return model


def evaluate(model: Model, inputs: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return loss and accuracy."""
    _, probabilities = forward(model, inputs)
    loss = -np.log(probabilities[np.arange(len(labels)), labels] + 1e-9).mean()
    return float(loss), float((probabilities.argmax(axis=1) == labels).mean())
