"""The server: averages adapters in bfloat16. It needs no base, and never sees one."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Strategy

from adapters import transformer
from fedpress.flower import Compressed, record_of

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train the same adapters without fedpress and with it, and print what each cost and gave."""
    config = context.run_config
    compressed = Compressed(
        FedAvg(),
        uplink=str(config["uplink"]),
        downlink=str(config["downlink"]),
        downlink_updates=str(config["downlink-updates"]),
    )
    found = {}
    if config["compare"]:
        # Flower's own mean knows no bfloat16.
        found["plain"] = losses(grid, context, FedAvg(), np.dtype(np.float32))
    found["fedpress"] = losses(grid, context, compressed, np.dtype(ml_dtypes.bfloat16))
    print(compressed.report())
    print("loss by round:")
    for name, by_round in found.items():
        print(f"{name:>9}", *(f"{loss:.4f}" for loss in by_round))
    if config["result"]:
        total = {way: vars(compressed.report().total(way)) for way in ("down", "up")}
        line = {"losses": found, "traffic": total, "run": context.run_id}
        Path(str(config["result"])).write_text(json.dumps(line))


def losses(grid: Grid, context: Context, strategy: Strategy, dtype: np.dtype) -> list[float]:
    """Run a federation of its own, from the same adapters; return the loss of each round."""
    config = context.run_config
    draws = np.random.default_rng([int(config["seed"]), 1])
    # Of the base only its shapes.
    shapes = transformer.make_base(draws, int(config["width"]))
    adapters = transformer.make_adapters(draws, shapes)
    first = record_of({name: array.astype(dtype) for name, array in adapters.items()})
    result = strategy.start(grid=grid, initial_arrays=first, num_rounds=int(config["num-server-rounds"]))
    return [float(metrics["loss"]) for metrics in result.evaluate_metrics_clientapp.values()]
