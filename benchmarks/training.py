"""What a training step costs: forward, and forward and backward, as images a second and as a share of the machine's
matrix rate, which is measured in the same run.

    python benchmarks/training.py [--json results/training.json] [--batch 32]
"""

import argparse
from pathlib import Path
from typing import Any

import torch

import machine
from sampling import MODELS, multiply_adds


def measure(name: str, batch: int, repeats: int) -> dict[str, Any]:
    """Return times, and the rate of arithmetic they mean, for one model."""
    model = MODELS[name]().train()
    x = torch.randint(2, (batch, *model.shape))

    def forward() -> torch.Tensor:
        return -model.log_prob(x).mean()

    def both() -> None:
        model.zero_grad()
        forward().backward()

    times = machine.interleaved({"forward": forward, "both": both}, repeats)
    rate = machine.matrix_rate()
    flops = 2 * multiply_adds(forward)
    return {
        "model": name,
        "arguments": {k: str(v) for k, v in model.arguments.items() if v},
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch": batch,
        "forward_seconds": times["forward"],
        "forward_backward_seconds": times["both"],
        "forward_images_per_second": batch / times["forward"],
        "forward_backward_images_per_second": batch / times["both"],
        "matrix_rate_gflops": rate,
        "forward_share_of_matrix_rate": flops / times["forward"] / 1e9 / rate,
        "forward_backward_share_of_matrix_rate": 3 * flops / times["both"] / 1e9 / rate,
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("results/training.json"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    print("| model | batch | forward, s | forward + backward, s | images/s in training | share of the matrix rate |")
    print("|---|---|---|---|---|---|")
    for name in arguments.models:
        row = measure(name, arguments.batch, arguments.repeats)
        rows.append(row)
        print(
            f"| {name} | {row['batch']} | {row['forward_seconds']:.3f} | {row['forward_backward_seconds']:.3f} "
            f"| {row['forward_backward_images_per_second']:.1f} "
            f"| {row['forward_backward_share_of_matrix_rate']:.0%} |",
            flush=True,
        )
    machine.write(arguments.json, {"benchmark": "training", "machine": machine.describe(), "rows": rows})


if __name__ == "__main__":
    main()
