"""The server: fedpress is the wrapper around its strategy."""

from __future__ import annotations

import json
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Strategy

from digits import task
from fedpress.flower import Compressed

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation, then print what it cost."""
    config = context.run_config
    model = task.make_model(int(config["seed"]), int(config["hidden"]))
    strategy: Strategy = FedAvg()
    if config["compress"]:
        strategy = Compressed(
            strategy,
            uplink=str(config["uplink"]),
            downlink=str(config["downlink"]),
            downlink_updates=str(config["downlink-updates"]) or None,
            error_feedback=bool(config["error-feedback"]),
            keep=float(config["keep"]),
        )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord({name: Array(array) for name, array in model.items()}),
        num_rounds=int(config["num-server-rounds"]),
    )
    losses = [metrics["loss"] for metrics in result.evaluate_metrics_clientapp.values()]
    accuracies = [metrics["accuracy"] for metrics in result.evaluate_metrics_clientapp.values()]
    print(f"losses {losses}\naccuracies {accuracies}")
    if isinstance(strategy, Compressed):
        print(strategy.report())
    if config["result"]:
        line = {"losses": losses, "accuracies": accuracies, "run": context.run_id}
        Path(str(config["result"])).write_text(json.dumps(line))
