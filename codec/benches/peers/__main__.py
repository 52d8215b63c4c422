"""Compares fedpress with its peers on the same tensors at the same real bits, and prints Markdown."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import bounded
import equal_error
import lossless
import measure
import ours
import picture
import rotated
import scalar
import speed
import table
import tensors
from metrics import Floats

from codec import Family

RATES = (0.25, 0.5, 1.0, 2.0, 4.0)
PACKAGES = ("fedpress", "pysz", "zfpy", "zstandard", "pcodec", "blosc2", "numpy")


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="safetensors, npy, npz; none: tensors made here")
    parser.add_argument(
        "--log2",
        type=int,
        choices=range(10, 25),
        metavar="10..24",
        default=18,
        help="values of tensors made here [default: 2^18]",
    )
    parser.add_argument("--least", type=int, default=1 << 16, help="skip smaller tensors of files")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="bits a value")
    parser.add_argument("--seeds", type=int, default=24, help="of each randomised codec")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls, of which the best counts")
    parser.add_argument("--only", default="", help="of tensors whose name contains this")
    parser.add_argument("--errors", type=float, nargs="+", help="print bits at these NMSE instead")
    parser.add_argument("--speed", type=int, nargs="+", metavar="LOG2", help="speed on 2^LOG2 values instead")
    parser.add_argument("--torch", action="store_true", help="with bitsandbytes and torchao")
    parser.add_argument("--svg", type=Path, help="draw error against bits")
    parser.add_argument("--save", type=Path, help="keep the rows, as JSON")
    parser.add_argument("--saved", type=Path, nargs="+", help="measure nothing, take these rows")
    asked = parser.parse_args()
    for path in asked.files:
        if not path.is_file():
            parser.error(f"{path}: no such file")
    return asked


def families(with_torch: bool) -> list[Family]:
    """Everything that is compared."""
    found = [*ours.UNBIASED, *rotated.FAMILIES, *scalar.FAMILIES, *ours.BIASED, *bounded.FAMILIES]
    found += [*scalar.CASTS, *ours.LOSSLESS, *lossless.FAMILIES]
    if with_torch:
        import torch_peers

        found += torch_peers.FAMILIES
    return found


def inputs(asked: argparse.Namespace) -> Iterator[tuple[str, Floats]]:
    """The tensors to measure on."""
    made = (tensors.of_file(path, asked.least) for path in asked.files)
    every = (tensor for file in made for tensor in file) if asked.files else tensors.made(asked.log2)
    return ((name, x) for name, x in every if asked.only in name)


def measured(asked: argparse.Namespace) -> list[measure.Row]:
    """All rows."""
    compared, rows = families(asked.torch), []
    for name, x in inputs(asked):
        for rate in [*asked.rates, None]:
            rows += measure.measure(name, x, compared, rate, asked.seeds, asked.repeats)
    return rows


def elsewise(asked: argparse.Namespace) -> Iterator[str]:
    """Lines of the other tables: speed, and bits at equal errors."""
    for log2 in asked.speed or []:
        yield from speed.table(log2, asked.repeats)
    if asked.errors:
        compared = [*ours.UNBIASED[:3], *ours.BIASED, *bounded.FAMILIES]
        for name, x in inputs(asked):
            yield from equal_error.table(name, x, compared, asked.errors)


def machine() -> str:
    """One line about where this ran."""
    cpus = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return f"{cpus[0] if cpus else platform.machine()}, {os.cpu_count()} processors; {packages}"


def main() -> None:
    """Measure and print."""
    asked = arguments()
    if asked.errors or asked.speed:
        print(machine(), end="\n\n")
        for line in elsewise(asked):
            print(line, flush=True)
        return
    rows = [row for path in asked.saved for row in measure.load(path)] if asked.saved else measured(asked)
    if not rows:
        sys.exit("no tensor to measure: none has as many values as --least, or none has a name with --only")
    if asked.save:
        measure.save(rows, asked.save)
    if asked.svg:
        asked.svg.write_text(picture.picture(rows))
    print(machine(), end="\n\n")
    for line in table.tables(rows):
        print(line)
    unbiased, biased = ours.UNBIASED[0].name, ours.BIASED[0].name
    print("How many times the error of fedpress, at the same bits asked for:\n")
    for line in table.against(rows, unbiased, [family.name for family in rotated.FAMILIES + scalar.FAMILIES]):
        print(line)
    for line in table.against(rows, biased, [family.name for family in bounded.FAMILIES]):
        print(line)


if __name__ == "__main__":
    main()
