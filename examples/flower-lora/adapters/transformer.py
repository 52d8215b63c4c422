"""A small transformer, its adapters (LoRA, Hu et al. 2021) and their gradients: nothing here knows of fedpress."""

from __future__ import annotations

import numpy as np

from adapters.task import LENGTH, TOKENS

Arrays = dict[str, np.ndarray]

BLOCKS, HEADS, RANK, SCALE = 2, 4, 16, 2.0
LAYERS = ("q", "k", "v", "o", "up", "down")


def make_base(draws: np.random.Generator, width: int) -> Arrays:
    """Return the weights of a transformer before any training."""
    shapes = {"tokens": (TOKENS, width), "places": (LENGTH, width), "head": (TOKENS, width)}
    for block in range(BLOCKS):
        shapes |= {f"{block}.{layer}": (width, width) for layer in "qkvo"}
        shapes |= {f"{block}.up": (4 * width, width), f"{block}.down": (width, 4 * width)}
    return {n: (draws.normal(size=s) / s[1] ** 0.5).astype(np.float32) for n, s in shapes.items()}


def make_adapters(draws: np.random.Generator, base: Arrays) -> Arrays:
    """Return a pair of narrow matrices for every layer of the blocks; B is zero, so that nothing changes yet."""
    found: Arrays = {}
    for name, weight in base.items():
        if name.rpartition(".")[2] in LAYERS:
            n_out, n_in = weight.shape
            found[f"{name}.lora_A"] = (draws.normal(size=(RANK, n_in)) / n_in**0.5).astype(np.float32)
            found[f"{name}.lora_B"] = np.zeros((n_out, RANK), np.float32)
    return found


class Pass:
    """One way forward through base and adapters, and the gradients on the way back."""

    def __init__(self, base: Arrays, adapters: Arrays, trains_base: bool = False) -> None:
        """Set up; gradients are of the adapters, or of the base."""
        self.base, self.adapters, self.trains_base = base, adapters, trains_base
        self.gradients: Arrays = {}
        self._back: list = []

    def loss(self, texts: np.ndarray) -> float:
        """Return the mean negative logarithm of what the model gives to each next token."""
        x = self.base["tokens"][texts[:, :-1]] + self.base["places"]
        for block in range(BLOCKS):
            x = x + self._attention(f"{block}.", self._norm(x))
            x = x + self._mlp(f"{block}.", self._norm(x))
        x = self._norm(x)
        logits = x @ self.base["head"].T
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        given = powers / powers.sum(axis=-1, keepdims=True)
        wanted = np.take_along_axis(given, texts[:, 1:, None], axis=-1)
        self._last = (texts, x, given)
        return float(-np.log(wanted + 1e-12).mean())

    def backward(self) -> Arrays:
        """Return the gradients of the last loss."""
        texts, x, error = self._last
        np.put_along_axis(
            error, texts[:, 1:, None], np.take_along_axis(error, texts[:, 1:, None], -1) - 1, -1
        )
        error /= error.shape[0] * error.shape[1]
        self._add("head", error, x)
        error = self._back.pop()(error @ self.base["head"])
        for _ in range(2 * BLOCKS):
            branch, norm = self._back.pop(), self._back.pop()
            error = error + norm(branch(error))
        if self.trains_base:
            self.gradients["places"] = error.sum(axis=0)
            self.gradients["tokens"] = np.zeros_like(self.base["tokens"])
            np.add.at(self.gradients["tokens"], texts[:, :-1], error)
        return self.gradients

    def _add(self, name: str, error: np.ndarray, x: np.ndarray) -> None:
        """Take note of the gradient of a weight, where the base is trained."""
        if self.trains_base:
            self.gradients[name] = np.tensordot(error, x, axes=((0, 1), (0, 1)))

    def _linear(self, name: str, x: np.ndarray):
        """Return x W^T + s (x A^T) B^T, and the way back."""
        weight, a = self.base[name], self.adapters.get(f"{name}.lora_A")
        y = x @ weight.T
        if a is not None:
            b = self.adapters[f"{name}.lora_B"]
            narrow = x @ a.T
            y = y + SCALE * narrow @ b.T

        def back(error: np.ndarray) -> np.ndarray:
            self._add(name, error, x)
            found = error @ weight
            if a is not None:
                through = SCALE * error @ b
                axes = ((0, 1), (0, 1))
                self.gradients[f"{name}.lora_B"] = np.tensordot(error, SCALE * narrow, axes=axes)
                self.gradients[f"{name}.lora_A"] = np.tensordot(through, x, axes=axes)
                found = found + through @ a
            return found

        return y, back

    def _norm(self, x: np.ndarray) -> np.ndarray:
        """Return x over the root mean square of its values (Zhang and Sennrich 2019)."""
        size = np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)
        y = x / size
        self._back.append(lambda error: (error - y * (error * y).mean(axis=-1, keepdims=True)) / size)
        return y

    def _mlp(self, block: str, x: np.ndarray) -> np.ndarray:
        hidden, up = self._linear(block + "up", x)
        y, down = self._linear(block + "down", np.maximum(hidden, 0))
        self._back.append(lambda error: up(down(error) * (hidden > 0)))
        return y

    def _attention(self, block: str, x: np.ndarray) -> np.ndarray:
        """Each place looks at itself and those before it (Vaswani et al. 2017)."""
        texts, length, width = x.shape
        (q, back_q), (k, back_k), (v, back_v) = (self._linear(block + layer, x) for layer in "qkv")

        def heads(y: np.ndarray) -> np.ndarray:
            return y.reshape(texts, length, HEADS, width // HEADS).swapaxes(1, 2)

        def together(y: np.ndarray) -> np.ndarray:
            return y.swapaxes(1, 2).reshape(texts, length, width)

        q, k, v = heads(q), heads(k), heads(v)
        scale = (width // HEADS) ** -0.5
        scores = scale * q @ k.swapaxes(-1, -2)
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        looks = powers / powers.sum(axis=-1, keepdims=True)
        y, back_o = self._linear(block + "o", together(looks @ v))

        def back(error: np.ndarray) -> np.ndarray:
            error = heads(back_o(error))
            by_look = error @ v.swapaxes(-1, -2)
            by_score = scale * looks * (by_look - (by_look * looks).sum(axis=-1, keepdims=True))
            found = back_q(together(by_score @ k)) + back_k(together(by_score.swapaxes(-1, -2) @ q))
            return found + back_v(together(looks.swapaxes(-1, -2) @ error))

        self._back.append(back)
        return y


def train(base: Arrays, adapters: Arrays, texts: np.ndarray, draws: np.random.Generator, steps: int, rate: float,
          trains_base: bool = False) -> float:  # fmt: skip
    """Train in place by Adam (Kingma and Ba 2015), adapters or the base; return the mean loss."""
    trained = base if trains_base else adapters
    means = {name: (np.zeros_like(array), np.zeros_like(array)) for name, array in trained.items()}
    losses = []
    for step in range(1, steps + 1):
        way = Pass(base, adapters, trains_base)
        losses.append(way.loss(texts[draws.choice(len(texts), 16, replace=False)]))
        for name, gradient in way.backward().items():
            first, second = means[name]
            first += 0.1 * (gradient - first)
            second += 0.01 * (gradient * gradient - second)
            size = np.sqrt(second / (1 - 0.99**step)) + 1e-8
            trained[name] -= np.float32(rate / (1 - 0.9**step)) * first / size
    return float(np.mean(losses))


def evaluate(base: Arrays, adapters: Arrays, texts: np.ndarray) -> float:
    """Return the loss of texts."""
    return Pass(base, adapters).loss(texts)
