"""SZ3 (pysz, from PyPI) at absolute bounds, beside which `--example fields` prints pipelines of this crate:

    python -m venv v && v/bin/pip install pysz==1.1.0
    v/bin/python codec/benches/sz3.py FILE 256x16x32x32 10 0.1 0.01

FILE holds little-endian f32. Bits a value, NMSE, the largest error, GB/s to compress and to decompress.
"""
import sys
import time

import numpy as np
from pysz import sz, szConfig, szErrorBoundMode


def best(repeats, run):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        made = run()
        seconds.append(time.perf_counter() - start)
    return min(seconds), made


def main(file, shape, repeats, *bounds):
    x = np.fromfile(file, "<f4").reshape([int(side) for side in shape.split("x")])
    exact = x.astype(np.float64)
    for bound in bounds:
        config = szConfig()
        config.setDims(*x.shape)
        config.errorBoundMode, config.absErrorBound = szErrorBoundMode.ABS, float(bound)
        encode, (codes, _) = best(int(repeats), lambda: sz.compress(x, config))
        decode, y = best(int(repeats), lambda: sz.decompress(codes, np.float32, x.shape))
        error = exact - (y[0] if isinstance(y, tuple) else y)
        nmse = (error ** 2).sum() / (exact ** 2).sum()
        print(f"SZ3 {bound:<10} {codes.size * 8 / x.size:8.4f} bits  NMSE {nmse:.3e}"
              f"  largest {abs(error).max():.3e}  {x.nbytes / encode / 1e9:.3f} and"
              f" {x.nbytes / decode / 1e9:.3f} GB/s", flush=True)


main(*sys.argv[1:])
