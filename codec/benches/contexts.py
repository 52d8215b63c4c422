"""What neighbours tell of the multiples of a step, in ideal code lengths and 20 bits a token of a table:

    python codec/benches/contexts.py features.f32 256x16x32x32

of features behind a ReLU (f32, little-endian, [images, channels, height, width]; numpy alone is needed), in bits
a value at an NMSE of .03 and of .01: the models that section 7.7 of FORMAT.md was chosen from.
"""
import sys

import numpy as np

DEAD = 0.1


def multiples(x, step):
    t = x / step
    return np.rint(t - np.clip(t, -DEAD, DEAD)).astype(np.int64)


def nmse(x, k, step):
    y = k * step
    for part in (k == 1, k > 1):
        y = y + part * (x - k * step)[part].mean()
    return ((x - y) ** 2).sum() / (x ** 2).sum()


def step_for(x, error):
    low, high = 1e-3 * x.std(), 10 * x.std()
    for _ in range(18):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if nmse(x, multiples(x, middle), middle) > error else (middle, high)
    return low


def bits(symbols, contexts):
    symbols = np.clip(symbols.ravel(), -30, 60).astype(np.int64) + 30
    counts = np.zeros((int(contexts.max()) + 1, 91))
    np.add.at(counts, (contexts.ravel().astype(np.int64), symbols), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    length = -(counts * np.log2(np.where(counts > 0, share, 1))).sum()
    return (length + 20 * (counts > 0).sum()) / symbols.size


def shifted(a, down, across, channel=0):
    """The values so far above, to the left and channels before; 0 beyond an edge."""
    out = a
    for axis, by in ((1, channel), (2, down), (3, across)):
        out = np.roll(out, by, axis)
        edge = [slice(None)] * 4
        edge[axis] = slice(0, by) if by >= 0 else slice(by, None)
        if by:
            out[tuple(edge)] = 0
    return out


def levels(s, n):
    """Zero, and n - 1 parts alike of what is above."""
    edges = np.unique(np.quantile(s[s > 0], np.arange(1, n - 1) / (n - 1)))
    return np.where(s <= 0, 0, 1 + np.searchsorted(edges, s))


def fitted(values, target):
    rows = np.stack([v.ravel() for v in values] + [np.ones(target.size)], 1)
    weights = np.linalg.lstsq(rows[::5], target.ravel()[::5], rcond=None)[0]
    return (rows @ weights).reshape(target.shape)


def by_channel(values, target):
    out = np.empty_like(target)
    for c in range(target.shape[1]):
        out[:, c] = fitted([v[:, c] for v in values], target[:, c])
    return out


def main(file, shape):
    x = np.fromfile(file, "<f4").reshape([int(n) for n in shape.split("x")]).astype(np.float64)
    for error in 3e-2, 1e-2:
        k = multiples(x, step_for(x, error))
        a = k.astype(np.float64)
        left, up, corner, other = (shifted(a, *d) for d in ((0, 1), (1, 0), (1, 1), (1, -1)))
        near = [left, up, corner, other]
        before = [shifted(a, dy, dx, 1) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        channels = [shifted(a, 0, 0, c) for c in range(1, a.shape[1])]
        mean = np.maximum(fitted(near, a), 0)
        held = np.clip(fitted(near, a), np.minimum(np.minimum(left, up), other),
                       np.maximum(np.maximum(left, up), other))
        differ = levels(abs(left - corner) + abs(up - corner) + abs(up - other), 4)

        def parts(mean):
            part = np.searchsorted([1 / 32, 0.3, 0.5, 1, 1.5, 2.5], mean, side="right")
            return (part + ((mean > 2.5) & (mean > np.rint(mean)))) * 4 + differ

        def own(values):
            return bits(k, levels(by_channel(values, a) + 0.02, 32))

        print(f"NMSE {error}:")
        for name, found in (
            ("no neighbours", bits(k, np.zeros_like(k))),
            ("16 levels of 2 |left| + 2 |up| + |above left| + |above right|",
             bits(k, levels(2 * left + 2 * up + corner + other, 16))),
            ("what is left of a linear mean, 8 parts of it, 4 levels of differences",
             bits(k - np.rint(mean), parts(mean))),
            ("the same, the mean held between neighbours", bits(k - np.rint(held), parts(held))),
            ("32 levels of a linear mean with weights for each channel", own(near)),
            ("and nine values of the channel before", own(near + before)),
            ("and the same place in all channels before", own(near + before + channels)),
        ):
            print(f"  {found:.3f}  {name}", flush=True)


main(*sys.argv[1:])
