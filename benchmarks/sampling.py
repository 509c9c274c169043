"""What a sample costs: the walk against one parallel pass of the same batch, and against a naive sampler.

    python benchmarks/sampling.py [--json results/sampling.json] [--batches 1 16 64] [--models gated-pixelcnn made]

Times are medians of interleaved runs; the multiply-adds of both are counted beside them. A naive sampler runs the
parallel pass once for every value (every pixel, where the head walks its channels): some of its passes are timed in the
same turns, and multiplied by their number.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import machine
from ancestral.likelihoods import Bernoulli
from ancestral.models import (
    MADE,
    DiagonalBiLSTM,
    GatedPixelCNN,
    MultiScalePixelRNN,
    PixelCNN,
    PixelCNNpp,
    PixelSNAIL,
    RowLSTM,
)
from ancestral.walk import Sample, drive

NAIVE = 3  # steps of the naive sampler that are timed

MODELS: dict[str, Any] = {
    "pixelcnn": lambda: PixelCNN(shape=(1, 28, 28), channels=64),
    "row-lstm": lambda: RowLSTM(shape=(1, 28, 28), channels=128),
    "diagonal-bilstm": lambda: DiagonalBiLSTM(shape=(1, 28, 28), channels=96),
    "multi-scale-pixelrnn": lambda: MultiScalePixelRNN(shape=(1, 28, 28), channels=128),
    "gated-pixelcnn": lambda: GatedPixelCNN(shape=(1, 28, 28), channels=128, layers=11, kernel_size=3),
    "pixelcnn++": lambda: PixelCNNpp(shape=(3, 32, 32), channels=96),
    "pixelsnail": lambda: PixelSNAIL(shape=(1, 28, 28), likelihood=Bernoulli(), channels=192, layers=2),
    "made": lambda: MADE(shape=(784,), hidden=(1000,)),
}


def multiply_adds(work: Any) -> int:
    """Return how many multiply-adds matrix products and convolutions take."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() // 2


@torch.no_grad()
def measure(name: str, batch: int, repeats: int) -> dict[str, Any]:
    """Return times and counts for one model and batch size."""
    model = MODELS[name]().eval()
    x = model.sample(batch)
    noise = torch.rand(batch, *model.shape, dtype=torch.float64)
    together = model.shape[0] if getattr(model, "groups", None) == 1 else 1  # channels that the head walks by itself
    steps = math.prod(model.shape) // together

    def walk() -> None:
        drive(model.walk(batch), Sample(noise))

    def parallel() -> None:
        model.log_prob(x)

    def naive() -> None:  # some of its steps: the parameters of everything so far, and one draw
        for at in range(NAIVE):
            params = model(x).flatten(2)[..., at]
            next(model.likelihood.walk(params, together)).draw(noise.flatten(1)[:, at])

    times = machine.interleaved({"pass": parallel, "walk": walk, "naive": naive}, repeats)
    naive_seconds = times["naive"] / NAIVE * steps
    return {
        "model": name,
        "arguments": {k: str(v) for k, v in model.arguments.items() if v},
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch": batch,
        "pass_seconds": times["pass"],
        "sample_seconds": times["walk"],
        "passes_per_sampled_batch": times["walk"] / times["pass"],
        "naive_seconds": naive_seconds,
        "naive_over_walk": naive_seconds / times["walk"],
        "multiply_adds_walk_over_pass": multiply_adds(walk) / multiply_adds(parallel),
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("results/sampling.json"))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    print("| model | batch | one pass, s | a sampled batch, s | in passes | naive, s | multiply-adds, in passes |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.models:
        for batch in arguments.batches:
            row = measure(name, batch, arguments.repeats)
            rows.append(row)
            print(
                f"| {name} | {batch} | {row['pass_seconds']:.4f} | {row['sample_seconds']:.3f} "
                f"| {row['passes_per_sampled_batch']:.2f} | {row['naive_seconds']:.0f} "
                f"| {row['multiply_adds_walk_over_pass']:.2f} |",
                flush=True,
            )
    machine.write(arguments.json, {"benchmark": "sampling", "machine": machine.describe(), "rows": rows})


if __name__ == "__main__":
    main()
