"""An independent reader of the fedpress stream format 0.2, written from FORMAT.md alone.

    read(bytes) -> list of Stream   every stream of the input, decoded
    reader.py FILE.fp               a line per tensor: name, element type, shape, sha256
    reader.py --check DIR           every DIR/*.fp against its *.expected, bit for bit

A tensor of an unknown stage or element type has data None and a sentence in `unsupported`; all but
its payloads is checked, the rest is read, and the command ends with status 1.

Numbers in comments (3.1, 7, ...) are sections of FORMAT.md. It favours plainness over speed. Fields
are checked in the order of their bytes, since what is wrong first decides the error (3).
"""
import hashlib
import math
import re
import struct
import sys
from collections import namedtuple
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

Corrupt = type("Corrupt", (ValueError,), {})            # the input contradicts a rule of the format
Truncated = type("Truncated", (ValueError,), {})        # it ends before an end record does
Unsupported = type("Unsupported", (ValueError,), {})    # it needs a later reader
TENSOR, CHUNK, END, TIED, METADATA, MANIFEST, INDEX = 1, 2, 3, 4, 0x81, 0x82, 0x83
KNOWN = TENSOR, CHUNK, END, TIED, METADATA, MANIFEST, INDEX    # 3
MAGIC, VERSION = b"\x89FDP\r\n\x1a\n", b"\x00\x02"
DTYPES = {0x01: ("BOOL", 8), 0x02: ("U8", 8), 0x03: ("I8", 8), 0x04: ("U16", 16),
          0x05: ("I16", 16), 0x06: ("U32", 32), 0x07: ("I32", 32), 0x08: ("U64", 64),
          0x09: ("I64", 64), 0x10: ("F16", 16), 0x11: ("BF16", 16), 0x12: ("F32", 32),
          0x13: ("F64", 64), 0x14: ("C64", 64), 0x18: ("F8_E4M3", 8), 0x19: ("F8_E5M2", 8),
          0x1A: ("F8_E8M0", 8), 0x1B: ("F8_E4M3FNUZ", 8), 0x1C: ("F8_E5M2FNUZ", 8),
          0x20: ("F4", 4), 0x21: ("F6_E2M3", 6), 0x22: ("F6_E3M2", 6)}                      # 4.1
BITS = dict(DTYPES.values())
LARGEST = {"F32": np.float32(float.fromhex("0x1.fffffep127")), "F16": np.float32(65504),
           "BF16": np.float32(float.fromhex("0x1.fep127"))}    # finite ones of the lossy types
HADAMARD, KASHIN, ROTATION, SUBSAMPLE = 0x01, 0x02, 0x03, 0x10
UNIFORM, LLOYD_MAX, STEP, TRELLIS, MAX_ERROR = 0x20, 0x21, 0x22, 0x23, 0x24
SHUFFLE, ZSTD = 0x30, 0x31
STAGES = {HADAMARD: [("B", 8, 15)],                            # 5; parameters: code, least, most
          KASHIN: [("B", 8, 15), ("B", 0, 1), ("f", 1, 2)],
          ROTATION: [("B", 2, 3)], LLOYD_MAX: [("B", 1, 8)],
          MAX_ERROR: [("d", 1e-45, 1e38)],
          STEP: [("H", 50, 12000), ("B", 0, 1)], TRELLIS: [("H", 100, 12000), ("B", 0, 1)],
          SUBSAMPLE: [("f", 2.0 ** -149, 1)],                  # from the least f32 above 0
          UNIFORM: [("B", 1, 16), ("B", 0, 1), ("B", 8, 21)], SHUFFLE: [], ZSTD: [("b", -7, 22)]}
CRC_TABLE = list(range(256))
for _ in range(8):                                             # 2; 0x1EDC6F41 reflected
    CRC_TABLE = [value >> 1 ^ (value & 1) * 0x82F63B78 for value in CRC_TABLE]
M32, M64, FEDPRESS, GOLDEN = 2 ** 32 - 1, 2 ** 64 - 1, 0x6665647072657373, 0x9E3779B97F4A7C15
SIGNS, WINDOW, SELECTION, DITHER = 1, 2, 3, 5                           # 8.2
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


def word(key, i):
    """8.1, for an int or an array of uint64, which wraps by itself."""
    return mix(key + (i + 1) * GOLDEN & M64)


def absorb(h, *values):
    """8.2: the chain from h over these values."""
    for value in values:
        h = mix(h ^ mix(value + GOLDEN & M64))
    return h


def name_hash(name):
    raw = name.encode()
    padded = raw + bytes(-len(raw) % 8)
    return absorb(FEDPRESS, len(raw), *struct.unpack(f"<{len(padded) // 8}Q", padded))


def word32(key, i):
    """8.3."""
    z = key + (i + 1) * 0x9E3779B9 & M32
    z = (z ^ z >> 16) * 0x85EBCA6B & M32
    z = ((z ^ z >> 13) + (key >> 32)) * 0xC2B2AE35 & M32
    return z ^ z >> 16


def times(a, i):
    """8.4: the product in GF(2)[x]/(x^6 + x + 1)."""
    product = 0
    for t in reversed(range(6)):
        product = product << 1 ^ (i >> t & 1) * a
        product ^= (product >> 6) * 0b1000011
    return product


PRODUCTS = [[times(a, i) for i in range(64)] for a in range(64)]


def kept(s, total):
    """7: K', found in f64."""
    return min(total // 64 * 64, max(1, math.floor(s * 64 * (total // 64) + 0.5)))


def select(key, total, some):
    """8.4: the selected ones of `total` positions, ascending: `some` (K') and the rest."""
    m, chosen = total // 64, []
    r = word(key, 0) * m >> 64
    for j in range(m):
        w = word(key, j + 1)
        row, b = PRODUCTS[1 + ((w >> 32) * 63 >> 32)], w & 63
        k = (r + (j + 1) * some) // m - (r + j * some) // m
        chosen += sorted(64 * j + (row[i] ^ b) for i in range(k))
    return chosen + list(range(64 * m, total))


def unrotate(x, key):
    """7.1: the inverse signed rotation of 2^k numbers."""
    k = len(x).bit_length() - 1
    for stage in range(k):
        pairs = x.reshape(-1, 2, 1 << stage)
        x = np.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), axis=1)
    root = float(np.float32(0.5 ** 0.5)) if k % 2 else 1                       # 0x3F3504F3
    x = x.reshape(-1) * np.float32(root * 2.0 ** -(k // 2))
    words = word(key, np.arange(len(x) // 64 + 1, dtype=np.uint64))
    flip = np.unpackbits(words.astype("<u8").view("u1"), bitorder="little")[:len(x)]
    return np.where(flip, -x, x)


def mixing(n):
    """7.2: B, W, and B*floor(n/B)."""
    size = 1 << min(12, n.bit_length() - 1)
    return size, min(size, -(-16 * n // size)), n // size * size


def unmix(x, signs, window):
    """7.2: the inverse of one level, in place."""
    size, _, whole = mixing(len(x))
    if whole < len(x):
        x[-size:] = unrotate(x[-size:], window)
    for at in range(0, whole, size):                   # the signs are those of the whole group
        x[at:at + size] = unrotate(x[at:at + size], signs + at // 64 * GOLDEN & M64)


def levels(q):
    """7.3, read from there: 510 numbers copied would prove nothing."""
    text = (Path(__file__).parent.parent / "FORMAT.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| {q} \| ([0-9, ]+) \|$", text[text.index("### 7.3"):], re.MULTILINE)
    positive = np.array(row[1].split(","), np.float32) * np.float32(2.0 ** -16)
    return np.concatenate((-positive[::-1], positive))


def gaussian(w, g, r):
    """7.5: for each of 4096 slots the token, its frequency, and how far the slot is from its start."""
    text = (Path(__file__).parent.parent / "FORMAT.md").read_text(encoding="utf-8")
    text = text[text.index("**gaussian**"):text.index("## 8.")]
    normal = [int(n) for row in re.findall(r"^\| \d+\.\. \| ([0-9, ]+) \|$", text, re.MULTILINE)
              for n in row.split(",")]
    normal += [1 << 30] * (129 - len(normal))
    v = int(re.search(r"^V_0 to V_7: ([0-9, ]+)\.$", text, re.MULTILINE)[1].split(",")[w % 8])

    def below(a):
        u = abs(a) * v >> 2 + w // 8
        j, part = u >> 16, u & 0xFFFF
        p = normal[j] + ((normal[j + 1] - normal[j]) * part >> 16) if j < 128 else 1 << 30
        return (1 << 30) - p if a < 0 else p

    masses = [below((2 * h + 2 << r) + g - 1) - below((2 * h << r) + g - 1)
              for h in range(-112, 112)]
    table = [(m * 4095 + (1 << 29) >> 30) or int(m >= 1 << 15) for m in masses] + [0] * 31 + [1]
    table[masses.index(max(masses))] += 4096 - sum(table)
    return [(token, f, i) for token, f in enumerate(table) for i in range(f)]


class Bits:
    """7.5: the bit string that begins in the last of the coded bytes."""
    def __init__(self, codes):
        self.codes, self.at, self.word, self.filled = codes, len(codes), 0, 0

    def take(self, width):
        while self.filled < width:
            require(self.at > 0, "Bits are missing.")
            self.at -= 1
            self.word |= self.codes[self.at] << self.filled
            self.filled += 8
        value = self.word & (1 << width) - 1
        self.word, self.filled = self.word >> width, self.filled - width
        return value

    def gamma(self):
        zeros = 0
        while not self.take(1):
            zeros += 1
            require(zeros < 16, "A gamma code is longer than any.")
        return 1 << zeros | self.take(zeros)


def unfold(z):
    return -(z + 1) // 2 if z % 2 else z // 2


def lanes_for(coded):
    return 1 << min(6, max(1, coded // 4096).bit_length() - 1)


def symbols(codes, coded, bits, table_of, slots, then, lanes=None):
    """7.5: for each integer its table and its token, to `then`; x is what that returns."""
    lanes = lanes or lanes_for(coded)
    require(len(codes) >= 4 * lanes, "States of rANS are missing.")
    states, at = list(struct.unpack_from(f"<{lanes}I", codes)), 4 * lanes
    require(min(states) >= 1 << 16, "A state of rANS is below 2^16.")
    x = np.empty(coded, np.float32)
    for i in range(coded):
        table, state = table_of(i), states[i % lanes]
        token, f, distance = slots[table][state & 4095]
        state = f * (state >> 12) + distance
        if state < 1 << 16:
            require(at + 2 <= len(codes), "A word of rANS is missing.")
            state, at = state << 16 | codes[at] | codes[at + 1] << 8, at + 2
        states[i % lanes] = state
        x[i] = then(i, table, token)
    require(set(states) == {1 << 16}, "A state of rANS does not end at 2^16.")
    require(bits.word == 0 and bits.at == at, "Words and bits do not meet.")
    return x


def trellis_values(codes, w, r, coded):
    """7, 7.4 and 7.5: the x of K coefficients."""
    plane = (coded * r + 7) // 8
    require(len(codes) >= plane, "Low parts are missing.")
    low = code_numbers(codes[:plane], coded, r) if r else [0] * coded
    codes, width = codes[plane:], max(16, lanes_for(coded))
    tables, bits, walk = [gaussian(w, g, r) for g in (0, 1)], Bits(codes), {}

    def table_of(i):
        if i % (1024 * width) == 0:
            walk.clear()
        return walk.get(i % width, 0) & 1

    def then(i, g, token):
        h = token - 112
        if token == 255:
            length = bits.take(5)
            h = unfold((1 << length - 1) + bits.take(length - 1) if length else 0)
            held = h < 112 and any(token == h + 112 for token, _, _ in tables[g])
            require(not held and abs(h) <= 1 << 22 >> r, f"The escape {h} is none or too large.")
        k = (h << r) + int(low[i])
        walk[i % width] = walk.get(i % width, 0) >> 1 ^ 5 * g ^ 2 * (k & 1)
        return 2 * k + g

    return symbols(codes, coded, bits, table_of, tables, then)


def travelled(bits):
    """7.6: a table, as its 4096 slots."""
    first, last = bits.take(8), bits.take(8)
    require(first <= last <= 174, "A table has no tokens or too many.")
    weights, before = [0] * 175, 0
    for token in range(first, last + 1):
        before += unfold(bits.gamma() - 1)
        require(0 <= before <= 48, "A weight is below 0 or above 48.")
        weights[token] = before
    require(weights[first] and weights[last], "A table is longer than its tokens.")
    masses = [(65536, 77936, 92682, 110218)[(v - 1) % 4] << (v - 1) // 4 if v else 0
              for v in weights]
    table = [max(1, mass * 4096 // sum(masses)) if mass else 0 for mass in masses] + [0] * 81
    table[table.index(max(table))] += max(0, 4096 - sum(table))
    while sum(table) > 4096:
        table[table.index(max(table))] -= 1
    if max(table) == 4096:
        table[table.index(4096)], table[255] = 4095, 1
    return [(token, f, i) for token, f in enumerate(table) for i in range(f)]


def multiples(codes, classes, coded):
    """7, 7.5 and 7.6: the k of K coefficients."""
    require(1 <= classes <= 12, "No classes or more than 12.")
    bits = Bits(codes)
    tables = [travelled(bits) for _ in range(classes)]
    of = [bits.take((classes - 1).bit_length()) for _ in range((coded + 255) // 256)]
    require(max(of) < classes, "A block is of no class.")

    def then(i, table, token):
        return integer(token, bits)

    return symbols(codes, coded, bits, lambda i: of[i // 256], tables, then)


def integer(token, bits):
    """7.6: the integer of a token and its rest."""
    if token < 31:
        return token - 15
    require(token < 175, "A token that may not occur.")
    o, q = 4 + (token - 31) // 8, (token - 31) // 2 % 4
    m = (4 + q << o - 2) + bits.take(o - 2)
    return -m if token % 2 == 0 else m


def varint_at(codes, at):
    """2: a varint in the middle of codes, and where it ends."""
    value = shift = 0
    while True:
        require(at < len(codes) and shift < 64, "A varint of the neighbours does not end.")
        byte, at = codes[at], at + 1
        value, shift = value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            require((byte or shift == 7) and value <= M64, "A varint is too long.")
            return value, at


def among_neighbours(codes, coded):
    """7.7, behind C: the k of K coefficients."""
    require(len(codes) >= 1 and 1 << codes[0] <= lanes_for(coded), "Too many lanes.")
    lanes = 1 << codes[0]
    across, at = varint_at(codes, 1)
    down, at = varint_at(codes, at)
    require(1 <= across < down <= 1 << 20, "A distance is out of range.")
    require(len(codes) >= at + 6, "Weights or parts are missing.")
    weights = [np.float32(weight) for weight in struct.unpack_from("4b", codes, at)]
    halvings, count = codes[at + 4:at + 6]
    edges, codes = list(codes[at + 6:at + 6 + count]), codes[at + 6 + count:]
    valid = halvings <= 3 and count <= 7 and len(edges) == count
    valid = valid and edges == sorted(set(edges)) and all(1 <= edge <= 48 for edge in edges)
    tables = (8 >> halvings) * (count + 1)
    require(valid and tables <= 32, "Parts or edges are reserved.")
    bits, whole, zero = Bits(codes), coded // lanes * lanes, np.float32(0)
    slots = [travelled(bits) for _ in range(tables)]
    k, state = np.zeros(coded, np.float32), {}

    def table_of(i):
        def at(distance):
            return k[i - distance * lanes] if distance * lanes <= i < whole else zero
        left, up, corner, other = at(across), at(down), at(down + across), at(down - across)
        terms = [w * n for w, n in zip(weights, (left, up, corner, other))]
        total = ((terms[0] + terms[1]) + terms[2]) + terms[3]
        total = max(total, np.float32(32) * min(left, up, other))
        total = min(total, np.float32(32) * max(left, up, other))
        size = abs(total)
        m = np.rint(size / np.float32(32))
        part = sum(edge <= size for edge in (1, 10, 16, 32, 48, 80))
        part += int(size >= 80 and np.float32(32) * m < size)
        differ = (abs(left - corner) + abs(up - corner)) + abs(up - other)
        octave = int(math.frexp(differ)[1]) - 1 if differ else 0
        level = 1 + 2 * octave + int(differ >= 1.5 * 2 ** octave) if differ else 0
        state["m"], state["sign"] = m, -1 if total < 0 else 1
        return (part >> halvings) * (count + 1) + sum(edge <= level for edge in edges)

    def then(i, table, token):
        k[i] = state["sign"] * (state["m"] + np.float32(integer(token, bits))) + zero
        return k[i]

    symbols(codes, coded, bits, table_of, slots, then, lanes)
    require(np.max(np.abs(k)) < 1 << 21, "A multiple beside its neighbours is 2^21 or more.")
    k[:whole] = k[:whole].reshape(-1, lanes).T.reshape(-1)
    return k


def dither_offsets(key, member):
    """8.5: o for each t, from DITHER(f, 1) and (c - g, S), or none of them."""
    if member is None:
        return [0] * 16
    own, size = member
    draws = [[(word32(key, 256 * t + j), j) for j in range(size)] for t in range(16)]
    return [(sum(h < of[own] for h in of) << 15) // size for of in draws]


def step_coefficients(p, nearest, coded, dither):
    """7, from the size on."""
    require(len(p) >= 4, "The step of a group is missing.")
    size, = struct.unpack_from("<f", p)
    valid = 0 <= size <= 2.0 ** 77 and math.copysign(1, size) > 0
    require(valid, "The step of a group is NaN, negative or above 2^77.")
    one = more = np.float32(0)
    if size == 0:
        require(len(p) == 4, "Something stands behind the step of zeros.")
        k = np.zeros(coded, np.float32)
    else:
        require(len(p) >= 7, "Shifts or classes are missing.")
        one, more = (np.float32(shift / 256) for shift in struct.unpack_from("bb", p, 4))
        k = multiples(p[7:], p[6], coded) if p[6] else among_neighbours(p[7:], coded)
        largest = np.max(np.abs(k))
        valid = largest < 1 << 22 and (largest + np.float32(1)) * np.float32(size) <= 2.0 ** 80
        require(valid, "A coefficient is above 2^80.")
    if nearest:
        shift = np.sign(k) * one + (np.sign(k) * (np.abs(k) >= 2)) * (more - one)
    else:
        key, offsets = dither
        draws = [word32(key, i // 2) >> 16 * (i % 2) + 1 for i in range(coded)]
        draws = [draw + offsets[i // 16 % 16] & 0x7FFF for i, draw in enumerate(draws)]
        shift = np.array(draws, np.float32) * np.float32(2.0 ** -15) + np.float32(2.0 ** -16 - 0.5)
    return (k - shift) * np.float32(size)


def unzstd(payload, length):
    """The bytes, at most `length` or exactly, that exactly one zstd frame decompresses to."""
    import zstandard
    exactly = not isinstance(length, range)
    valid = (-1, length) if exactly else (-1, *length)
    length = length if exactly else length[-1]
    try:
        require(zstandard.frame_content_size(payload) in valid, "Wrong zstd content size.")
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


def lossy(pipeline):
    return min(pipeline, default=SHUFFLE) < SHUFFLE


def code_numbers(packed, coded, q):
    """7: codes of q bits, least significant bit first."""
    bits = np.unpackbits(np.frombuffer(packed, "u1"), bitorder="little")
    return bits[:coded * q].reshape(coded, q) @ (1 << np.arange(q))


def coded_coefficients(pipeline, p, coded, dither):
    """7, from what stands behind the exponent."""
    if STEP in pipeline or MAX_ERROR in pipeline:
        nearest = MAX_ERROR in pipeline or pipeline[STEP][1]
        return step_coefficients(p, nearest, coded, dither)
    bound = np.float32(2.0 ** 80)
    if LLOYD_MAX in pipeline:
        q, scale = pipeline[LLOYD_MAX][0], np.frombuffer(p, "<f4", 1)
        require(0 <= scale[0] <= 2.0 ** 77, "The scale of a group is NaN, negative or above 2^77.")
        return (levels(q) * scale)[code_numbers(p[4:], coded, q)]
    if TRELLIS in pipeline:
        require(len(p) >= 4, "The scale of a group is missing.")
        scale, = struct.unpack_from("<f", p)
        valid = 0 <= scale <= 2.0 ** 77 and math.copysign(1, scale) > 0
        require(valid, "The scale of a group is NaN, negative or above 2^77.")
        if scale == 0:
            require(len(p) == 4, "Something stands behind the scale of zeros.")
            return np.zeros(coded, np.float32)
        require(len(p) >= 6 and p[4] < 128 and p[5] <= 6, "Reserved width or number of low bits.")
        x = trellis_values(p[6:], p[4], p[5], coded) * np.float32(scale)
        require(np.all(np.abs(x) <= bound), "A coefficient is above 2^80.")
        return x
    if UNIFORM not in pipeline:
        x = np.frombuffer(p, "<f4").copy()
        require(np.all(np.abs(x) <= bound), "A coefficient is NaN or above 2^80.")
        return x
    q, _, b = pipeline[UNIFORM]
    lengths = blocks(coded, 1 << b)
    low, step = np.frombuffer(p, "<f4", 2 * len(lengths)).reshape(-1, 2).T
    valid = (np.abs(low) <= bound) & (step >= 0) & (step * np.float32(2 ** q - 1) <= bound)
    require(np.all(valid), "The range of a quantizer block is NaN, negative or above 2^80.")
    codes = code_numbers(p[8 * len(lengths):], coded, q).astype(np.float32)
    return np.repeat(low, lengths) + codes * np.repeat(step, lengths)


@dataclass
class Tensor:
    name: str
    dtype: str
    shape: tuple                     # its open first dimension is closed by the last chunk
    open: bool
    full_group: int                  # G
    offset: int                      # of the tensor record, from the preamble
    pipelines: list                  # the table (5): stage number: parameters, as in STAGES
    unsupported: str                 # why it cannot be decoded, or ""
    chain: int                       # 8.2: KEY up to the tensor key, absorbed
    dither: int                      # 8.2: DITHER up to the purpose, absorbed
    member: tuple[int, int] | None   # 8.5: c - g and S
    kept: bool                       # whether tied tensors may refer to it
    tied: int = 0                    # how many do
    data: bytes | None = None        # little-endian elements in C order; None if unsupported

    def sizes(self, pipeline, n):
        """N coefficients, K' and K coded ones, and the length of P, or its lengths, for n values."""
        if n == 0 or not lossy(pipeline):
            return n, n, n, (n * BITS[self.dtype] + 7) // 8
        total = some = coded = math.floor(pipeline.get(KASHIN, (0, 0, 1))[2] * n + 0.5)     # f64
        if SUBSAMPLE in pipeline:
            some = kept(*pipeline[SUBSAMPLE], total)
            coded = some + total % 64
        if LLOYD_MAX in pipeline:
            return total, some, coded, 5 + (coded * pipeline[LLOYD_MAX][0] + 7) // 8
        if TRELLIS in pipeline:
            return total, some, coded, range(5, 7 + 4 * lanes_for(coded) + 4 * coded + 1)
        if STEP in pipeline or MAX_ERROR in pipeline:
            most = 8 + 4 * lanes_for(coded) + 3600 + (coded + 255) // 256 + 5 * coded
            return total, some, coded, range(5, most + 1)
        if UNIFORM not in pipeline:
            return total, some, coded, 1 + 4 * coded
        q, _, b = pipeline[UNIFORM]
        return total, some, coded, 1 + 8 * len(blocks(coded, 1 << b)) + (coded * q + 7) // 8

    @np.errstate(all="ignore")
    def decode(self, pipeline, group, n, payload, stored):
        """The element bytes of one group, which decodes alone."""
        total, some, coded, length = self.sizes(pipeline, n)
        lengths = length if isinstance(length, range) else [length]
        if ZSTD in pipeline and not stored:
            frame = payload
            require(len(frame) < lengths[-1], "A zstd payload is not shorter than its content.")
            payload = unzstd(frame, length)
            require(len(frame) < len(payload), "A zstd payload is not shorter than its content.")
        require(len(payload) in lengths, f"A payload has {len(payload)} bytes instead of {length}.")
        if SHUFFLE in pipeline and n and BITS[self.dtype] % 8 == 0:
            return np.frombuffer(payload, "u1").reshape(-1, n).T.tobytes()
        if n == 0 or not lossy(pipeline):
            return payload
        exponent, = struct.unpack("b", payload[:1])
        require(exponent == 0 or -126 <= exponent <= -65 or exponent >= 64, "Invalid exponent.")
        blocks_of = [absorb(self.dither, (group << 16) + block & M64) for block in (0, 1)]
        dither = blocks_of[0], dither_offsets(blocks_of[1], self.member)
        x = coded_coefficients(pipeline, payload[1:], coded, dither)
        if SUBSAMPLE in pipeline:
            key = absorb(self.chain, SELECTION, group << 16 & M64)
            x[:some] *= np.float32(total // 64 * 64 / max(some, 1))             # the gain
            x, chosen = np.zeros(total, np.float32), x
            x[select(key, total, some)] = chosen
        return to_elements(self.undo_transform(pipeline, x, group, n), exponent, self.dtype)

    def undo_transform(self, pipeline, x, group, n):
        """7.1 and 7.2, receiver: coefficients at their N positions to n values."""
        if ROTATION in pipeline:
            require(np.all(np.abs(x) <= np.float32(2.0 ** 80)), "A coefficient is above 2^80.")
            count, stride = pipeline[ROTATION][0], mixing(n)[1]
            order = np.concatenate([np.arange(r, n, stride) for r in range(stride)])
            for level in reversed(range(count)):
                keys = (absorb(self.chain, purpose, (group << 16) + level & M64)
                        for purpose in (SIGNS, WINDOW))
                unmix(x, *keys)
                if level == 1:
                    y = np.empty_like(x)
                    y[order] = x
                    x = y
                elif level == 2:
                    x = x[order]
            return x
        parameters = pipeline.get(HADAMARD) or pipeline.get(KASHIN)
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
        require(self.need(start, 10)[8:] == VERSION, "The version is not 0.2.", Unsupported)

    def need(self, at, length):
        require(at + length <= len(self.data), f"Byte {at + length - 1} is missing.", Truncated)
        return self.data[at:at + length]

    def finish(self):
        require(self.at == self.end, f"The record before byte {self.after} has bytes left over.")
        return self.after

    def next(self, *allowed, limit=1 << 27):
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
        require(name not in taken, f"The name {name!r} is not unique.")
        require(listed is None or name == listed[0], f"The manifest does not list {name!r} here.")
        taken.add(name)
        number = self.number("B")
        dtype, bits = DTYPES.get(number, (f"0x{number:02x}", 8))           # 8: nothing to check
        flags = self.number("B")
        require(flags & ~0x20 in valid_flags, f"{name!r} has the flags 0x{flags:02x}.")
        is_open = flags & 0x20 > 0
        shape = tuple(self.varint() for _ in range(self.varint(is_open, 64)))
        row = math.prod(shape[1:])
        fits = shape[0] == 0 < row <= 1 << 63 and row * bits % 8 == 0 if is_open else True
        require(fits and math.prod(shape) <= 1 << 63, f"{name!r} has the shape {shape}.")
        found = name, dtype, shape, is_open
        require(listed in (None, found), f"{name!r} is not what the manifest says.")
        return found, flags

    def pipeline(self, dtype):
        """5: stage number: parameters; those of an unknown stage are None."""
        stages = {}
        for _ in range(self.number("B")):
            before, number = max(stages, default=0), self.number("B")
            alone = number >> 4 != before >> 4 or number >= SHUFFLE or before == 0
            require(number > before and alone, "The stages of a pipeline descend or repeat.")
            length, listed = self.number("B"), STAGES.get(number)
            if listed is None:
                stages[number] = None
                self.take(length)
                continue
            fits = length == struct.calcsize("<" + "".join(code for code, _, _ in listed))
            require(fits, f"Stage 0x{number:02x} has parameters of {length} bytes.")
            stages[number] = [self.number(*parameter) for parameter in listed]
        if None not in stages.values() and min(stages, default=SHUFFLE) < SHUFFLE:
            require(dtype in LARGEST or dtype not in BITS, f"A lossy pipeline on {dtype}.")
            require(SHUFFLE not in stages, "A lossy pipeline has a shuffle.")
            require(not stages.keys() >= {ROTATION, SUBSAMPLE}, "A rotation is subsampled.")
            alone = MAX_ERROR not in stages or min(stages) == MAX_ERROR
            require(alone, "A bound of the error behind a transform or subsampling.")
        return stages

    def tensor(self, taken, listed):
        """4."""
        valid_flags = [more + g for more in (0, 0x40, 0x80, 0xC0) for g in range(12, 21)]
        (name, dtype, *rest), flags = self.description(taken, valid_flags, listed)
        unsupported = "" if dtype in BITS else f"Unknown element type {dtype}."
        count = self.number("B")
        require(count & 0x70 == 0 < count & 15, f"{name!r} has 0x{count:02x} for pipelines.")
        pipelines = [self.pipeline(dtype) for _ in range(count & 15)]
        numbers = {number for pipeline in pipelines for number in pipeline}
        for number in sorted(numbers - STAGES.keys()):
            unsupported = unsupported or f"Unknown pipeline stage 0x{number:02x}."
        seed = turn = client = cohort = 0
        if flags & 0x80:
            seed, turn, client = self.number("Q"), self.varint(), self.varint()
            cohort = self.varint()
        clients, own = cohort >> 1, cohort & 1
        draws = any(pipeline.get(STEP, [0, 1])[1] == 0 for pipeline in pipelines)
        draws = draws or numbers & {HADAMARD, KASHIN, ROTATION, SUBSAMPLE}
        seeded = flags & 0x80 or not draws
        require(seeded, f"{name!r} has no seeds.")
        key = self.number("Q") if flags & 0x40 else name_hash(name)
        chain = absorb(FEDPRESS, seed, turn, client * own, key)
        together = clients >= 2 and client < clients
        first = client & ~255 if together else client
        member = (client - first, min(256, clients - first)) if together else None
        dither = absorb(FEDPRESS, seed, turn, first, key, DITHER)
        return Tensor(name, dtype, *rest, 1 << (flags & 31), self.offset, pipelines, unsupported,
                      chain, dither, member, count >= 0x80)

    def tied(self, taken, listed, tensors):
        """4.2."""
        (name, dtype, shape, _), _ = self.description(taken, [0], listed)
        offset, size = self.varint(), math.prod(shape)
        originals = [t for t in tensors if t.offset == offset and t.kept and not t.open]
        fits = [t for t in originals if t.dtype == dtype and math.prod(t.shape) == size > 0]
        require(fits and self.offset != 0, f"{name!r} is tied to no tensor at {offset}.")
        fits[0].tied += 1
        require(fits[0].tied <= 63, f"A tensor more than 63 is tied to {fits[0].name!r}.")
        return replace(fits[0], name=name, shape=shape, offset=self.offset, kept=False)

    def chunks(self, tensor):
        """6: reads all chunks of the tensor into its data; gives their number."""
        full, size, groups = tensor.full_group, math.prod(tensor.shape), []
        last = size == 0 and not tensor.open
        while not last:
            self.next(CHUNK, limit=4096 + 8 * (full if tensor.open else min(full, size)))
            group = self.varint(len(groups), len(groups))
            flags, count = self.number("B"), len(tensor.pipelines)
            require(flags >> 4 < count, f"A chunk of pipeline {flags >> 4}, of {count}.")
            pipeline = tensor.pipelines[flags >> 4]
            require(flags & 15 <= (3 if ZSTD in pipeline else 1), f"Chunk flags 0x{flags:02x}.")
            last, stored, n = flags & 1 > 0, flags & 2 > 0, self.varint()
            left = (n if last else math.inf) if tensor.open else size - group * full
            fits = n == min(full, left) and last == (left <= full) and (n > 0 or group == 0)
            require(fits, f"A chunk of {n} values (last: {last}) does not fit its tensor.")
            payload = self.take(self.end - self.at)
            groups.append(b"" if tensor.unsupported else
                          tensor.decode(pipeline, group, n, payload, stored))
        if tensor.open:
            total, row = group * full + n, math.prod(tensor.shape[1:])
            require(total % row == 0 and total <= 1 << 63, "An open tensor has no whole rows.")
            tensor.shape = (total // row,) + tensor.shape[1:]
        tensor.data = None if tensor.unsupported else b"".join(groups)
        return len(groups)


def read_stream(data, start):
    """One stream, and the position behind its end record."""
    r, metadata, manifest, tensors, chunks, distance = Records(data, start), None, None, [], 0, 0
    taken, before, follow = set(), None, (TENSOR, TIED, INDEX, END)
    kind = r.next(METADATA, MANIFEST, *follow)
    if kind == METADATA:
        metadata = {}
        for _ in range(r.varint()):
            key = r.text(1 << 27)                      # code points order like bytes of UTF-8
            require(before is None or before < key, "The metadata keys do not ascend.")
            metadata[key], before = r.text(1 << 27), key
        kind = r.next(MANIFEST, *follow)
    if kind == MANIFEST:
        names = set()
        manifest = [r.description(names, [0])[0] for _ in range(r.varint())]
        follow = (TENSOR, TIED) if manifest else (INDEX, END)
        kind = r.next(*follow)
    while kind in (TENSOR, TIED):
        listed = manifest and manifest[len(tensors)]
        if kind == TIED:
            tensors.append(r.tied(taken, listed, tensors))
        else:
            tensors.append(r.tensor(taken, listed))
            chunks += r.chunks(tensors[-1])
        if manifest:
            follow = (TENSOR, TIED) if len(tensors) < len(manifest) else (INDEX, END)
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


def test_vectors():
    """Those of 8: draws, keys and the selection."""
    chosen = [3, 8, 21, 30, 36, 47, 57, 64, 75, 82, 89, 100, 118, 130, 143, 148, 153, 174, 184]
    asked = [(0, 0), (0, 1), (0, M32), (0x0123456789ABCDEF, 0), (M64, 1 << 31)]
    assert [word(0, i) for i in (0, M32)] == [0xE220A8397B1DCDAF, 0xBEEB67EAF1FC5E61]
    assert [word32(*a) for a in asked] == [0x92CA2F0E, 0x3CD6E3F3, 0, 0xCCC34CEE, 0x6FF1DDC5]
    assert absorb(FEDPRESS, 7, 3, 0, name_hash("fc1.weight"), 1, 0) == 0x0425C161F489A929
    assert dither_offsets(42, (3, 10))[:4] == [26214, 26214, 9830, 19660]
    assert dither_offsets(42, (44, 51))[:4] == [25057, 30840, 8995, 10922]
    assert kept(0.1, 200) == 19 and select(42, 200, 19) == chosen + list(range(192, 200))


def check(paths):
    test_vectors()
    failed = 0
    for path in paths:
        try:
            tensors = [t for stream in read(path.read_bytes()) for t in stream.tensors]
            for t in tensors:
                require(not t.unsupported, f"{t.name!r}: {t.unsupported}", Unsupported)
            data = b"".join(t.data for t in tensors)
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
    status = 0
    try:
        for t in (t for stream in read(Path(arguments[0]).read_bytes()) for t in stream.tensors):
            shape = "x".join(map(str, t.shape)) or "scalar"
            found = f"Unsupported: {t.unsupported}" if t.unsupported else None
            status |= found is not None
            print(t.name, t.dtype, shape, found or hashlib.sha256(t.data).hexdigest())
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))                       # a text goes to stderr, with status 1
