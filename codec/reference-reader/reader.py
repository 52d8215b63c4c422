"""An independent reader of the fedpress stream format 0.1, written from FORMAT.md alone.

    read(bytes) -> list of Stream   every stream of the input, decoded
    reader.py FILE.fp               a line per tensor: name, element type, shape, sha256
    reader.py --check DIR           every DIR/*.fp against its *.expected, bit for bit

Numbers in comments (3.1, 7, ...) are sections of FORMAT.md. It favours plainness over speed. Fields
are checked in the order of their bytes, since what is wrong first decides the error (3).
"""
import hashlib
import math
import struct
import sys
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Corrupt = type("Corrupt", (ValueError,), {})            # the input contradicts a rule of the format
Truncated = type("Truncated", (ValueError,), {})        # it ends before an end record does
Unsupported = type("Unsupported", (ValueError,), {})    # it needs a later reader
KNOWN = TENSOR, CHUNK, END, METADATA, MANIFEST, INDEX = 0x01, 0x02, 0x03, 0x81, 0x82, 0x83  # 3
MAGIC, VERSION = b"\x89FDP\r\n\x1a\n", b"\x00\x01"
DTYPES = {0x01: ("BOOL", 1), 0x02: ("U8", 1), 0x03: ("I8", 1), 0x04: ("U16", 2), 0x05: ("I16", 2),
          0x06: ("U32", 4), 0x07: ("I32", 4), 0x08: ("U64", 8), 0x09: ("I64", 8), 0x10: ("F16", 2),
          0x11: ("BF16", 2), 0x12: ("F32", 4), 0x13: ("F64", 8), 0x14: ("C64", 8),
          0x18: ("F8_E4M3", 1), 0x19: ("F8_E5M2", 1), 0x1A: ("F8_E8M0", 1),
          0x1B: ("F8_E4M3FNUZ", 1), 0x1C: ("F8_E5M2FNUZ", 1)}                               # 4.1
WIDTH = dict(DTYPES.values())
LARGEST = {"F32": np.float32(float.fromhex("0x1.fffffep127")), "F16": np.float32(65504),
           "BF16": np.float32(float.fromhex("0x1.fep127"))}    # finite ones of the lossy types
HADAMARD, KASHIN, SUBSAMPLE, UNIFORM, SHUFFLE, ZSTD = 0x01, 0x02, 0x10, 0x20, 0x30, 0x31
STAGES = {HADAMARD: [("B", 8, 15)],                            # 5; parameters: code, least, most
          KASHIN: [("B", 8, 15), ("B", 0, 1), ("f", 1, 2)],
          SUBSAMPLE: [("f", 2.0 ** -149, 1)],                  # from the least f32 above 0
          UNIFORM: [("B", 1, 16), ("B", 0, 1), ("B", 8, 21)], SHUFFLE: [], ZSTD: [("b", -7, 22)]}
CRC_TABLE = list(range(256))
for _ in range(8):                                             # 2; 0x1EDC6F41 reflected
    CRC_TABLE = [value >> 1 ^ (value & 1) * 0x82F63B78 for value in CRC_TABLE]
M64, M128, FEDPRESS, GOLDEN = 2 ** 64 - 1, 2 ** 128 - 1, 0x6665647072657373, 0x9E3779B97F4A7C15
PCG_MULTIPLIER, SIGNS, WINDOW, SELECTION = 0x2360ED051FC65DA44385DF649FCCF645, 1, 2, 3      # 8
Stream = namedtuple("Stream", "metadata manifest tensors")     # a dict, a list; None without


def require(condition, sentence, error=Corrupt):
    if not condition:
        raise error(sentence)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def blocks(n, size):
    """2: the lengths of blocks(n, s) for n > 0."""
    before = max(1, n // size) - 1
    return [size] * before + [n - before * size]


def mix(z):
    """8.1, for an int or an array of uint64."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
    return z ^ z >> 31


def absorb(h, *values):
    """8.2: the chain from h over these values."""
    for value in values:
        h = mix(h ^ mix(value + GOLDEN & M64))
    return h


def name_hash(name):
    raw = name.encode()
    padded = raw + bytes(-len(raw) % 8)
    return absorb(FEDPRESS, len(raw), *struct.unpack(f"<{len(padded) // 8}Q", padded))


def unrotate(x, key):
    """7.1: the inverse signed rotation of 2^k numbers."""
    k = len(x).bit_length() - 1
    for stage in range(k):
        pairs = x.reshape(-1, 2, 1 << stage)
        x = np.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), axis=1)
    root = float(np.float32(0.5 ** 0.5)) if k % 2 else 1                       # 0x3F3504F3
    x = x.reshape(-1) * np.float32(root * 2.0 ** -(k // 2))
    words = mix(np.arange(1, len(x) // 64 + 2, dtype=np.uint64) * GOLDEN + key)    # arrays wrap
    flip = np.unpackbits(words.astype("<u8").view("u1"), bitorder="little")[:len(x)]
    return np.where(flip, -x, x)


def unzstd(payload, length):
    """The `length` bytes that exactly one zstd frame decompresses to."""
    import zstandard
    try:
        require(zstandard.frame_content_size(payload) in (-1, length), "Wrong zstd content size.")
        return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompress(
            payload, max_output_size=length, read_across_frames=False, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Corrupt(f"A zstd payload does not decompress: {error}.") from None


def to_elements(x, exponent, dtype):
    """7, steps 3 and 4: scale, clamp (once for both), convert."""
    first = math.trunc(exponent / 2)
    x = x * np.float32(2.0 ** first) * np.float32(2.0 ** (exponent - first))
    x = np.clip(x, -LARGEST[dtype], LARGEST[dtype])
    if dtype != "BF16":
        return x.astype("<f4" if dtype == "F32" else "<f2").tobytes()
    raw = x.view(np.uint32)
    return (raw + np.uint32(0x7FFF) + (raw >> 16 & 1) >> 16).astype("<u2").tobytes()


@dataclass
class Tensor:
    name: str
    dtype: str
    shape: tuple                     # its open first dimension is closed by the last chunk
    open: bool
    full_group: int                  # G
    offset: int                      # of the tensor record, from the preamble
    pipeline: dict                   # stage number: parameters, as in STAGES
    lossy: bool
    chain: int                       # 8.2: KEY up to the tensor key, absorbed
    data: bytes = b""                # little-endian elements in C order

    def sizes(self, n):
        """N coefficients, K coded ones (both found in f64), and the length of P, for n values."""
        if n == 0 or not self.lossy:
            return n, n, n * WIDTH[self.dtype]
        total = math.floor(self.pipeline.get(KASHIN, (0, 0, 1))[2] * n + 0.5)
        coded = min(total, max(1, math.floor(self.pipeline.get(SUBSAMPLE, [1])[0] * total + 0.5)))
        if UNIFORM not in self.pipeline:
            return total, coded, 4 * coded + 1
        q, _, b = self.pipeline[UNIFORM]
        return total, coded, 8 * len(blocks(coded, 1 << b)) + (coded * q + 7) // 8 + 1

    @np.errstate(all="ignore")
    def decode(self, group, n, payload, stored):
        """The element bytes of one group, which decodes alone."""
        total, coded, length = self.sizes(n)
        if ZSTD in self.pipeline and not stored:
            require(len(payload) < length, "A zstd payload is not shorter than its content.")
            payload = unzstd(payload, length)
        require(len(payload) == length, f"A payload has {len(payload)} bytes instead of {length}.")
        if SHUFFLE in self.pipeline and n:
            return np.frombuffer(payload, "u1").reshape(-1, n).T.tobytes()
        if n == 0 or not self.lossy:
            return payload
        exponent, = struct.unpack("b", payload[-1:])
        require(exponent == 0 or -126 <= exponent <= -65 or exponent >= 64, "Invalid exponent.")
        x = self.coded_coefficients(payload[:-1], coded) * np.float32(total / coded)     # the gain
        if SUBSAMPLE in self.pipeline:
            x, chosen = np.zeros(total, np.float32), x
            x[self.select(group, total, coded)] = chosen
        return to_elements(self.undo_transform(x, group, n), exponent, self.dtype)

    def coded_coefficients(self, p, coded):
        bound = np.float32(2.0 ** 80)
        if UNIFORM not in self.pipeline:
            x = np.frombuffer(p, "<f4")
            require(np.all(np.abs(x) <= bound), "A coefficient is NaN or above 2^80.")
            return x
        q, _, b = self.pipeline[UNIFORM]
        lengths = blocks(coded, 1 << b)
        low, step = np.frombuffer(p, "<f4", 2 * len(lengths)).reshape(-1, 2).T
        valid = (np.abs(low) <= bound) & (step >= 0) & (step * np.float32(2 ** q - 1) <= bound)
        require(np.all(valid), "The range of a quantizer block is NaN, negative or above 2^80.")
        bits = np.unpackbits(np.frombuffer(p, "u1", offset=8 * len(lengths)), bitorder="little")
        codes = (bits[:coded * q].reshape(coded, q) @ (1 << np.arange(q))).astype(np.float32)
        return np.repeat(low, lengths) + codes * np.repeat(step, lengths)

    def select(self, group, total, coded):
        """8.4: the `coded` selected positions among `total`, ascending."""
        state = absorb(self.chain, SELECTION, 0) << 64 | absorb(self.chain, SELECTION, 1) | 1
        state = state * pow(PCG_MULTIPLIER, group << 21, 1 << 128) & M128
        chosen = []
        for i in range(total):
            state = state * PCG_MULTIPLIER & M128
            low, turn = (state >> 64 ^ state) & M64, state >> 122
            draw = (low >> turn | low << (64 - turn)) & M64
            if draw * (total - i) >> 64 < coded - len(chosen):
                chosen.append(i)
        return chosen

    def undo_transform(self, x, group, n):
        """7.1, receiver: coefficients at their N positions to n values."""
        parameters = self.pipeline.get(HADAMARD) or self.pipeline.get(KASHIN)
        if not parameters:
            return x
        limit = 1 << parameters[0]
        for j, length in enumerate(blocks(len(x), limit)):
            size = 1 << min(limit, length).bit_length() - 1
            for purpose, at in (WINDOW, j * limit + length - size), (SIGNS, j * limit):
                if purpose == SIGNS or length > size:
                    key = absorb(self.chain, purpose, (group << 16) + j & M64)
                    x[at:at + size] = unrotate(x[at:at + size], key)
        return x[np.arange(n) * len(x) // n]           # all of them for hadamard, where N = n


class Records:
    """3 to 6: the records of one stream, and the fields of the body of the current one."""

    def __init__(self, data, start):
        self.data, self.start, self.after = data, start, start + 10    # after the current record
        self.at = self.end = self.offset = 0                           # in, of its body; of it
        preamble = data[start:self.after]
        require(MAGIC.startswith(preamble[:8]), f"There is no preamble at byte {start}.")
        require(VERSION.startswith(preamble[8:]), "The version is not 0.1.", Unsupported)
        self.need(start, 10)

    def need(self, at, length):
        require(at + length <= len(self.data), f"Byte {at + length - 1} is missing.", Truncated)
        return self.data[at:at + length]

    def finish(self):
        require(self.at == self.end, f"The record before byte {self.after} has bytes left over.")
        return self.after

    def next(self, *allowed, limit=1 << 24):
        """Goes to the next known record and gives its kind; behind an index nothing is skipped."""
        kind = None
        while kind not in KNOWN:
            at = self.finish()
            kind, length, check = struct.unpack("<BIH", self.need(at, 7))
            require(crc32c(self.data[at:at + 5]) & 0xFFFF == check, f"Damaged header at byte {at}.")
            require(kind in KNOWN or kind >= 0x80, f"Unknown record 0x{kind:02x}.", Unsupported)
            fits = kind in allowed and length <= limit if kind in KNOWN else allowed != (END,)
            require(fits, f"The record at byte {at} is out of its place or too long.")
            record = self.need(at, 7 + length + 4)
            require(crc32c(record[:-4]) == int.from_bytes(record[-4:], "little"),
                    f"The checksum of the record at byte {at} is wrong.")
            self.offset, self.after = at - self.start, at + len(record)
        self.at, self.end = at + 7, at + 7 + length
        return kind

    def take(self, length):
        require(length <= self.end - self.at, "A record body ends inside a field.")
        self.at += length
        return self.data[self.at - length:self.at]

    def number(self, code, least=-math.inf, most=math.inf):
        value, = struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))
        require(least <= value <= most, f"A field is {value}, not {least} to {most}.")   # nor NaN
        return value

    def varint(self, least=0, most=M64):
        value, shift, byte = 0, 0, 0x80
        while byte >= 0x80:
            byte = self.number("B")
            value, shift = value | (byte & 0x7F) << shift, shift + 7
            require(value <= most, f"A varint is above {most}.")
        require(value >= least and (byte or shift == 7), f"A varint is below {least} or too long.")
        return value

    def text(self, limit):
        raw = self.take(self.varint(most=limit))
        require(raw.decode(errors="ignore").encode() == raw, "A text is not UTF-8.")
        return raw.decode()

    def description(self, taken, valid_flags, listed=None):
        """4, up to the dimensions; also 3.2: (name, dtype, shape, open), and the flags."""
        name = self.text(65536)
        require("\0" not in name and name not in taken, f"The name {name!r} is not unique or NUL.")
        require(listed is None or name == listed[0], f"The manifest does not list {name!r} here.")
        taken.add(name)
        number = self.number("B")
        require(number in DTYPES, f"Unknown element type 0x{number:02x}.", Unsupported)
        flags = self.number("B")
        require(flags & ~0x20 in valid_flags, f"{name!r} has the flags 0x{flags:02x}.")
        is_open = flags & 0x20 > 0
        shape = tuple(self.varint() for _ in range(self.varint(is_open, 64)))
        fits = shape[0] == 0 < math.prod(shape[1:]) <= 1 << 63 if is_open else True
        require(fits and math.prod(shape) <= 1 << 63, f"{name!r} has the shape {shape}.")
        found = name, DTYPES[number][0], shape, is_open
        require(listed in (None, found), f"{name!r} is not what the manifest says.")
        return found, flags

    def tensor(self, taken, listed):
        """4 and 5."""
        valid_flags = [key + g for key in (0, 0x40) for g in range(12, 21)]
        (name, dtype, *rest), flags = self.description(taken, valid_flags, listed)
        stages = {}
        for _ in range(self.number("B")):
            before, number = max(stages, default=-1), self.number("B")
            require(number > before and (number >> 4 != before >> 4 or number >> 4 == 3),
                    "The stages of a pipeline descend or repeat.")
            require(number in STAGES, f"Unknown pipeline stage 0x{number:02x}.", Unsupported)
            require(number >= SHUFFLE or dtype in LARGEST, f"A lossy pipeline on {dtype}.")
            require(number != SHUFFLE or not stages, "A lossy pipeline has a shuffle.")
            stages[number] = [self.number(*parameter) for parameter in STAGES[number]]
        lossy, seeded = (min(stages, default=99) < least for least in (SHUFFLE, UNIFORM))
        seed, number = (self.number("Q"), self.varint()) if seeded else (0, 0)
        key = self.number("Q") if flags & 0x40 else name_hash(name)
        chain = absorb(FEDPRESS, seed, number, 0, key)
        return Tensor(name, dtype, *rest, 1 << (flags & 31), self.offset, stages, lossy, chain)

    def chunks(self, tensor):
        """6: reads all chunks of the tensor into its data; gives their number."""
        full, size, groups = tensor.full_group, math.prod(tensor.shape), []
        last = size == 0 and not tensor.open
        while not last:
            self.next(CHUNK, limit=14 + tensor.sizes(full)[2])   # "can need": for a full group
            group = self.varint(len(groups), len(groups))
            flags, n = self.number("B", 0, 3 if ZSTD in tensor.pipeline else 1), self.varint()
            last, stored = flags & 1 > 0, flags & 2 > 0
            left = (n if last else math.inf) if tensor.open else size - group * full
            fits = n == min(full, left) and last == (left <= full) and (n > 0 or group == 0)
            require(fits, f"A chunk of {n} values (last: {last}) does not fit its tensor.")
            groups.append(tensor.decode(group, n, self.take(self.end - self.at), stored))
        if tensor.open:
            total, row = group * full + n, math.prod(tensor.shape[1:])
            require(total % row == 0 and total <= 1 << 63, "An open tensor has no whole rows.")
            tensor.shape = (total // row,) + tensor.shape[1:]
        tensor.data = b"".join(groups)
        return len(groups)


def read_stream(data, start):
    """One stream, and the position behind its end record."""
    r, metadata, manifest, tensors, chunks, distance = Records(data, start), None, None, [], 0, 0
    taken, before, follow = set(), None, (TENSOR, INDEX, END)
    kind = r.next(METADATA, MANIFEST, *follow)
    if kind == METADATA:
        metadata = {}
        for _ in range(r.varint()):
            key = r.text(1 << 20)                      # code points order like bytes of UTF-8
            require(before is None or before < key, "The metadata keys do not ascend.")
            metadata[key], before = r.text(1 << 20), key
        kind = r.next(MANIFEST, *follow)
    if kind == MANIFEST:
        names = set()
        manifest = [r.description(names, [0])[0] for _ in range(r.varint())]
        follow = (TENSOR,) if manifest else (INDEX, END)
        kind = r.next(*follow)
    while kind == TENSOR:
        tensors.append(r.tensor(taken, manifest and manifest[len(tensors)]))
        chunks += r.chunks(tensors[-1])
        if manifest:
            follow = (TENSOR,) if len(tensors) < len(manifest) else (INDEX, END)
        kind = r.next(*follow)
    if kind == INDEX:
        distance = -r.offset
        r.varint(len(tensors), len(tensors))
        for tensor in tensors:
            r.number("Q", name_hash(tensor.name), name_hash(tensor.name))
            r.varint(tensor.offset, tensor.offset)
        r.next(END)
        distance += r.offset
    for value in len(tensors), chunks, distance, r.offset:
        r.varint(value, value)
    r.number("B", *[r.after - start - r.offset] * 2)
    return Stream(metadata, manifest, tensors), r.finish()


def read(data):
    """All streams of the input, decoded and checked."""
    data, at, streams = bytes(data), 0, []
    while at < len(data) or not streams:
        stream, at = read_stream(data, at)
        streams.append(stream)
    return streams


def check(paths):
    failed = 0
    for path in paths:
        try:
            data = b"".join(t.data for stream in read(path.read_bytes()) for t in stream.tensors)
            require(data == path.with_suffix(".expected").read_bytes(), "Other bytes.")
            verdict = "OK"
        except (ValueError, OSError) as error:
            verdict = f"FAILED ({type(error).__name__}: {error})"
        failed += verdict != "OK"
        print(f"{path.name}: {verdict}")
    print(f"{len(paths) - failed} passed, {failed} failed")
    return int(failed > 0)


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--check":
        return check(sorted(Path(arguments[1]).glob("*.fp")))
    if len(arguments) != 1:
        return __doc__
    try:
        for t in (t for stream in read(Path(arguments[0]).read_bytes()) for t in stream.tensors):
            shape = "x".join(map(str, t.shape)) or "scalar"
            print(t.name, t.dtype, shape, hashlib.sha256(t.data).hexdigest())
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))                       # a text goes to stderr, with status 1
