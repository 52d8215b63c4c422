"""Two sites in NVFlare's simulator fit a matrix; fedpress is four filters around their job.

usage: python job.py [--workspace FOLDER] [--plain]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.client.config import TransferType
from nvflare.recipe import SimEnv

from fedpress.nvflare import Decode, Encode

HERE = Path(__file__).parent


def main() -> None:
    """Run the job, and write what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path("work"))
    parser.add_argument("--plain", action="store_true", help="without fedpress")
    arguments = parser.parse_args()
    recipe = NumpyFedAvgRecipe(
        name="fedpress",
        model=np.zeros((100, 200), np.float32).tolist(),
        min_clients=2,
        num_rounds=3,
        train_script=str(HERE / "client.py"),
        params_transfer_type=TransferType.DIFF,
    )
    if not arguments.plain:
        # Down: whole weights, with care. Up: differences, at two bits a value.
        recipe.add_server_output_filter(Encode("rotation|lm=8"), tasks=["train"])
        recipe.add_client_input_filter(Decode(), tasks=["train"])
        recipe.add_client_output_filter(Encode("rotation|lm=2"), tasks=["train"])
        recipe.add_server_input_filter(Decode(), tasks=["train"])
    run = recipe.execute(SimEnv(num_clients=2, workspace_root=str(arguments.workspace)))
    print("status", run.get_status(), "in", run.get_result())
    model = sorted(arguments.workspace.rglob("server.npy"))[-1]
    target = wanted()
    error = float(np.square(np.load(model) - target).mean() / np.square(target).mean())
    print(f"relative squared error {error:.4f}")
    (arguments.workspace / "result.json").write_text(json.dumps({"rounds": 3, "error": error}))


def wanted() -> np.ndarray:
    """Return the matrix that the sites are drawn to."""
    return np.random.default_rng(1).normal(size=(100, 200)).astype(np.float32)


if __name__ == "__main__":
    main()
