"""Lossless peers: zstd, blosc2 with byte shuffle and zstd, pcodec. One thread each."""

from __future__ import annotations

import blosc2
import numpy as np
import zstandard
from metrics import Floats
from pcodec import ChunkConfig, standalone

from codec import Codec, Family


def _zstd() -> Codec:
    compressor, decompressor = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()
    return Codec(
        lambda x, _seed: compressor.compress(x.tobytes()),
        lambda blob: np.frombuffer(decompressor.decompress(blob), np.float32),
    )


def _blosc2() -> Codec:
    blosc2.set_nthreads(1)

    def encode(x: Floats, _seed: int) -> bytes:
        return bytes(
            blosc2.compress2(
                x.reshape(-1), clevel=1, codec=blosc2.Codec.ZSTD, filters=[blosc2.Filter.SHUFFLE], typesize=4
            )
        )

    return Codec(encode, lambda blob: np.frombuffer(blosc2.decompress2(blob), np.float32))


def _pcodec() -> Codec:
    return Codec(
        lambda x, _seed: standalone.simple_compress(x.reshape(-1), ChunkConfig()),
        lambda blob: np.asarray(standalone.simple_decompress(blob)),
    )


def _once(name: str, codec: Codec) -> Family:
    return Family(name, True, lambda _x, _bits: codec, rated=False)


FAMILIES = [
    _once("zstd 1", _zstd()),
    _once("blosc2, shuffle and zstd 1", _blosc2()),
    _once("pcodec", _pcodec()),
]
