"""What a sample costs: the walk against one parallel pass of the same batch, and against a naive sampler.

    python benchmarks/sampling.py [--json results/sampling.json] [--batches 1 16 64] [--models gated-pixelcnn made]
    python benchmarks/sampling.py --table

Times are medians of interleaved runs; the multiply-adds of both are counted beside them. A naive sampler runs the
parallel pass once for every value (every pixel, where the head walks its channels): some of its passes are timed in the
same turns, and multiplied by their number.
"""

import argparse
import functools
import inspect
import math
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import machine
from ancestral.checkpoint import read_json, write_json
from ancestral.likelihoods import Bernoulli
from ancestral.model import Model
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
from ancestral.walk import Observe, Sample, drive

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCUMENT = ROOT / "results" / "sampling.json", ROOT / "docs" / "sampling.md"

MODELS: dict[str, Any] = {
    "pixelcnn": lambda: PixelCNN(shape=(1, 28, 28), channels=256),
    "row-lstm": lambda: RowLSTM(shape=(1, 28, 28), channels=160),
    "diagonal-bilstm": lambda: DiagonalBiLSTM(shape=(1, 28, 28), channels=128),
    "multi-scale-pixelrnn": lambda: MultiScalePixelRNN(shape=(1, 28, 28), channels=128),
    "gated-pixelcnn": lambda: GatedPixelCNN(shape=(1, 28, 28), channels=128, layers=11, kernel_size=3),
    "pixelcnn++": lambda: PixelCNNpp(shape=(3, 32, 32), channels=96),
    "pixelsnail": lambda: PixelSNAIL(shape=(1, 28, 28), likelihood=Bernoulli(), channels=192, layers=2),
    "made": lambda: MADE(shape=(784,), hidden=(1000,)),
}


@functools.cache
def built(name: str) -> Model:
    """Return a model, the same for all batches."""
    return MODELS[name]().eval()


@functools.cache
def multiply_adds_ratio(model: Model) -> float:
    """Return the multiply-adds of a walk over those of one pass, of the same values; the batch does not change it."""
    x = model.sample(1)
    walked = multiply_adds(lambda: drive(model.walk(1), Observe(x)))
    return walked / multiply_adds(lambda: model.log_prob(x))


def multiply_adds(work: Any) -> int:
    """Return how many multiply-adds matrix products and convolutions take."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() // 2


@torch.no_grad()
def measure(name: str, batch: int, repeats: int) -> dict[str, Any]:
    """Return times and counts for one model and batch size."""
    model = built(name)
    x = model.sample(batch)
    noise = torch.rand(batch, *model.shape, dtype=torch.float64)
    together = model.shape[0] if getattr(model, "groups", None) == 1 else 1  # channels that the head walks by itself
    steps = math.prod(model.shape) // together

    def walk() -> None:
        drive(model.walk(batch), Sample(noise))

    def parallel() -> None:
        model.log_prob(x)

    def naive() -> None:  # one of its steps: the parameters of everything so far, and a draw
        params = model(x).flatten(2)[..., 0]
        next(model.likelihood.walk(params, together)).draw(noise.flatten(1)[:, 0])

    times = machine.interleaved({"pass": parallel, "walk": walk, "naive": naive}, repeats)
    naive_seconds = times["naive"] * steps
    return {
        "model": name,
        "image": " x ".join(map(str, model.shape)),
        "network": ", ".join(f"{name}={value}" for name, value in changed(model).items()),
        "arguments": {k: str(v) for k, v in model.arguments.items() if v},
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch": batch,
        "pass_seconds": times["pass"],
        "sample_seconds": times["walk"],
        "passes_per_sampled_batch": times["walk"] / times["pass"],
        "naive_seconds": naive_seconds,
        "naive_over_walk": naive_seconds / times["walk"],
        "multiply_adds_walk_over_pass": multiply_adds_ratio(model),
        "machine": machine.describe(),
    }


def changed(model: Model) -> dict[str, Any]:
    """Return the arguments that say how large a network is, and are not its defaults."""
    defaults = inspect.signature(type(model)).parameters
    sizes = {name: value for name, value in model.arguments.items() if name not in ("shape", "likelihood")}
    return {name: value for name, value in sizes.items() if value != defaults[name].default}


def put(result: dict[str, Any], row: dict[str, Any]) -> None:
    """Put a row in its place: in the order of the models, and in place of an earlier one."""
    rows = [other for other in result["rows"] if place(other) != place(row) and other["model"] in MODELS]
    result["rows"] = sorted([*rows, row], key=lambda row: (list(MODELS).index(row["model"]), *column(row)))


def column(row: dict[str, Any]) -> tuple[int, int]:
    """Return what a column of the document is of: the batch, and the threads."""
    return row["batch"], row["machine"]["threads"]


def place(row: dict[str, Any]) -> tuple[str, int, int]:
    """Return what a row is found by."""
    return row["model"], *column(row)


def told(row: dict[str, Any]) -> str:
    """Return a row in words."""
    return (
        f"{row['model']}, batch {row['batch']}: one pass {row['pass_seconds']:.4f} s, a sampled batch "
        f"{row['sample_seconds']:.3f} s, {row['passes_per_sampled_batch']:.2f} passes"
    )


def page(result: dict[str, Any]) -> str:
    """Return the document: a line for each model."""
    columns = sorted({column(row) for row in result["rows"]})
    of = [f"batch {batch}, {threads} thread{'s' * (threads > 1)}" for batch, threads in columns]
    head = ["model", "image", "network", *of, "multiply-adds", "naive / walk"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in dict.fromkeys(row["model"] for row in result["rows"]):
        rows = {column(row): row for row in result["rows"] if row["model"] == name}
        own, largest = next(iter(rows.values())), rows[max(rows)]
        cells = [f"`{name}`", own["image"], f"{own['network']}, {own['parameters']:,} parameters"]
        cells += [cost(rows.get(at)) for at in columns]
        cells += [f"{own['multiply_adds_walk_over_pass']:.2f}", f"{largest['naive_over_walk']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    made_on = result["rows"][-1]["machine"]
    return TEXT.format(table="\n".join(lines), largest=max(columns)[0], **made_on)


def cost(row: dict[str, Any] | None) -> str:
    """Return passes and seconds of a sampled batch."""
    return "" if row is None else f"{row['passes_per_sampled_batch']:.3g} ({row['sample_seconds']:.3g} s)"


TEXT = """# What a sample costs

<!-- written by `make tables` from results/sampling.json: change neither by hand -->

A sampled batch in parallel passes of the same batch, and in seconds. Both were timed in turn, in one run, in the eager
mode of PyTorch, with untrained weights; the multiply-adds of a walk, over those of one pass, were counted. A naive
sampler runs the parallel pass once for every pixel (or for every channel of it, where the head does not couple them):
one of its steps was timed in the same turns, and the last column says how many times the walk it takes at batch
{largest}.

{table}

One channel: binary images; three: a mixture of discretized logistics. What a walk takes beyond one pass is the price of
many small operators: at batch 1 the time is that of launching them and of reading the weights once for every pixel,
for which a second thread is of little use, while it halves the pass. (The pass of a MADE is two matrix products, so
that its 784 steps are many passes.)

CPU: {cpu}, {cores} cores; torch {torch}; {date}. `python benchmarks/sampling.py` measures, `make tables` writes this
page.
"""


def main() -> None:
    """Measure, print and write JSON; or write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--table", action="store_true", help="write docs/sampling.md from the JSON, and nothing else")
    arguments = parser.parse_args()
    result = read_json(arguments.json) if arguments.json.exists() else {"benchmark": "sampling", "rows": []}
    if arguments.table:
        DOCUMENT.write_text(page(result), "utf-8")
        return
    torch.set_num_threads(arguments.threads)
    for name in arguments.models:
        for batch in arguments.batches:
            put(result, row := measure(name, batch, arguments.repeats))
            write_json(arguments.json, result)
            print(told(row), flush=True)


if __name__ == "__main__":
    main()
