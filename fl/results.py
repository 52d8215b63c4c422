#!/usr/bin/env python3
"""Makes the tables of fl/RESULTS.md from the logs of experiments, which it runs where they are missing.

usage: fl/results.py FEDPRESS DATA OUT [NAME...]

FEDPRESS is the command with the trainer, DATA a folder with those of the data sets (mnist, fashion-mnist,
cifar10), OUT where trainings are kept and gone on with. A table stands between the lines
`<!-- experiments/NAME.toml -->` and `<!-- end -->`; of names that are given only theirs are made.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
TABLE = re.compile(r"(<!-- experiments/([\w-]+)\.toml -->\n).*?(<!-- end -->)", re.S)


def table(command: str, data: Path, out: Path, name: str) -> str:
    """The tables of one file of experiments, as the command prints them."""
    file = HERE / "experiments" / f"{name}.toml"
    dataset = tomllib.loads(file.read_text())["dataset"]
    line = [command, "train", file, "--data", data / dataset, "--out", out / name]
    done = subprocess.run([*line, "--resume", "--markdown"], check=True, capture_output=True, text=True)
    return done.stdout


def main() -> None:
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    command, data, out, *names = sys.argv[1:]

    def made(match: re.Match[str]) -> str:
        head, name, end = match.groups()
        if names and name not in names:
            return match[0]
        return f"{head}\n{table(command, Path(data), Path(out), name)}{end}"

    results = HERE / "RESULTS.md"
    results.write_text(TABLE.sub(made, results.read_text()))


if __name__ == "__main__":
    main()
