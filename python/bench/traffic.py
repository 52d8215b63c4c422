"""Flower's own count of bytes, without fedpress and with it: a SuperLink and two SuperNodes on loopback.

usage: python traffic.py [--hidden 2660] [--seeds 1 2 3] [--picture FILE.svg] [--only-compressed] [KEY=VALUE ...]

KEY=VALUE are settings of the example for the runs with fedpress, such as 'uplink="rotation|trellis=0.4"'.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from deployment import deployment


def main() -> None:
    """Run the example off and on for each seed, and print a table."""
    arguments = parse()
    runs: dict[bool, list[dict]] = {True: []} if arguments.only_compressed else {False: [], True: []}
    for seed in arguments.seeds:
        for compress in runs:
            settings = dict(arguments.settings) if compress else {}
            with deployment() as here:
                run = here.run({"hidden": arguments.hidden, "seed": seed, "compress": compress, **settings})
            runs[compress].append(run)
            down, up = traffic(run)
            loss, accuracy = run["losses"][-1], run["accuracies"][-1]
            name = "fedpress" if compress else "plain"
            print(
                f"{seed} {name:9} {down:12} down {up:12} up  loss {loss:.4f} accuracy {accuracy:.4f}",
                flush=True,
            )
    if arguments.only_compressed:
        return
    down, up = (mean(column) for column in zip(*map(traffic, runs[False]), strict=True))
    less_down, less_up = (mean(column) for column in zip(*map(traffic, runs[True]), strict=True))
    losses = {name: mean(run["losses"][-1] for run in found) for name, found in runs.items()}
    print(f"less down {down / less_down:.1f}x, less up {up / less_up:.1f}x")
    print(f"mean loss {losses[False]:.4f} plain, {losses[True]:.4f} with fedpress")
    if arguments.picture:
        arguments.picture.write_text(picture(down, up, less_down, less_up))


def traffic(run: dict) -> tuple[int, int]:
    """Return bytes down and up, as Flower counts them."""
    counted = run["entry"]["network-traffic"]
    return counted["outbound-bytes"], counted["inbound-bytes"]


def picture(down: float, up: float, less_down: float, less_up: float) -> str:
    """Return four bars, as SVG."""
    rows = [
        ("down, plain", down),
        ("down, fedpress", less_down),
        ("up, plain", up),
        ("up, fedpress", less_up),
    ]
    bars = []
    for i, (name, value) in enumerate(rows):
        y, width = 14 + 30 * i + 12 * (i // 2), 430 * value / down
        color = "#8a8f98" if "plain" in name else "#1a7f5a"
        bars.append(f'<text x="118" y="{y + 15}" text-anchor="end">{name}</text>')
        bars.append(f'<rect x="126" y="{y}" width="{width:.1f}" height="20" fill="{color}"/>')
        bars.append(f'<text x="{132 + width:.1f}" y="{y + 15}">{value / 1e6:.1f} MB</text>')
    font = 'font-family="sans-serif" font-size="13" fill="#555"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="156" {font}>{"".join(bars)}</svg>\n'


def setting(text: str) -> tuple[str, object]:
    """Return a key and its value."""
    key, _, value = text.partition("=")
    return key, json.loads(value)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=2660)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--only-compressed", action="store_true")
    parser.add_argument("settings", nargs="*", type=setting)
    return parser.parse_args()


if __name__ == "__main__":
    main()
