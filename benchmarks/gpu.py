"""What samples and training steps cost on a GPU: CUDA graphs against the eager walk and against one parallel pass.

    python benchmarks/gpu.py [--json results/gpu.json] [--parts sampling sound training] [--models gated-pixelcnn]
    python benchmarks/gpu.py --device cpu --batches 2 --models pixelcnn --json FILE      tries it without one

Times are medians of interleaved runs, in which the GPU is waited for. Images are sampled in float32, by the untrained
networks of sampling.py. A training step is forward, backward and AdamW, in bfloat16, beside the matrix rate of the
device in bfloat16. Rows that are in the JSON are left as they are, unless --again; it is written after each row.
"""

import argparse
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import machine
from ancestral.checkpoint import read_json, write_json
from ancestral.models import WaveNet
from ancestral.models.raster import batches_of
from ancestral.objectives import Objective
from ancestral.walk import Sample, drive
from audio import NETWORKS, often
from sampling import MODELS, built, changed, multiply_adds

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("sampling", "sound", "training")
OTHER_WALKS = {"made", "multi-scale-pixelrnn"}  # those of all others are rows of pixels, which are captured


@torch.no_grad()
def sampling(name: str, batch: int, device: str, repeats: int) -> dict[str, Any]:
    """Return the seconds of one parallel pass, of a walk and of captured rows, for one model and batch."""
    model: Any = built(name).to(device)
    noise = torch.rand(batch, *model.shape, dtype=torch.float64, device=device)
    x = drive(model.walk(batch), Sample(noise))
    works: dict[str, Callable[[], Any]] = {
        "pass": lambda: model.log_prob(x),
        "walk": lambda: drive(model.walk(batch), Sample(noise)),
    }
    first = same = None
    if name not in OTHER_WALKS:
        batches = batches_of(model, itertools.repeat(noise))
        first = machine.seconds(lambda: next(batches))
        next(batches)  # by now all phases are captured
        same = torch.equal(next(batches), x)
        works["captured"] = lambda: next(batches)
    times = machine.interleaved(works, repeats)
    return {
        "model": name,
        "batch": batch,
        "network": {key: str(value) for key, value in changed(model).items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": times,
        "passes": {work: times[work] / times["pass"] for work in times},
        "first_batch_seconds": first,
        "captured_equals_walk": same,
    }


def sound(name: str, batch: int, device: str, repeats: int) -> dict[str, Any]:
    """Return samples of sound a second, eager, and compiled and captured, of one network and batch."""
    model = WaveNet(shape=(1, 4096), **NETWORKS[name]).to(device).eval()
    works, values = {}, {}
    for way, compiled in (("eager", False), ("captured", True)):
        stream = model.stream(batch, compiled=compiled)
        for _ in range(5):  # as it is, compiled twice, captured, repeated
            steps = next(stream).numel()
        works[way], times = often(functools.partial(next, stream))
        values[way] = steps * times
    seconds = machine.interleaved(works, repeats)
    return {
        "model": name,
        "batch": batch,
        "network": NETWORKS[name],
        "samples_per_second": {way: values[way] / seconds[way] for way in works},
    }


def training(name: str, batch: int, device: str, repeats: int) -> dict[str, Any]:
    """Return images a second of eager and of compiled training, and the share of the matrix rate that they mean."""
    model = MODELS[name]().to(device).train()
    x = torch.randint(2, (batch, *model.shape), device=device)
    flops = (
        3 * 2 * multiply_adds(lambda: model.log_prob(x[:2])) * batch / 2
    )  # the backward pass has twice the forward's
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def step(objective: Objective) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            loss = objective(x, None, 0).mean()
        loss.backward()
        optimizer.step()

    eager, compiled = Objective(model), Objective(model)
    compiled.compile()
    begin = machine.seconds(lambda: step(compiled))
    times = machine.interleaved({"eager": lambda: step(eager), "compiled": lambda: step(compiled)}, repeats)
    rate = machine.matrix_rate(device=device, dtype=torch.bfloat16)
    return {
        "model": name,
        "batch": batch,
        "network": {key: str(value) for key, value in changed(model).items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "compile_seconds": begin,
        "images_per_second": {way: batch / time for way, time in times.items()},
        "matrix_rate_gflops": rate,
        "share_of_matrix_rate": {way: flops / time / 1e9 / rate for way, time in times.items()},
    }


MEASURES: dict[str, Callable[[str, int, str, int], dict[str, Any]]] = {
    "sampling": sampling,
    "sound": sound,
    "training": training,
}


def jobs(arguments: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Yield the part, the model and the batch of each row that is asked for."""
    batches = {"sampling": arguments.batches, "sound": arguments.batches, "training": arguments.training_batches}
    for part in arguments.parts:
        names = arguments.networks if part == "sound" else arguments.models
        yield from ((part, name, batch) for name in names for batch in batches[part])


def key_of(row: dict[str, Any]) -> tuple[str, str, int]:
    """Return what a row is found by."""
    return row["part"], row["model"], row["batch"]


def told(row: dict[str, Any]) -> str:
    """Return a row in words."""
    if row["part"] == "sampling":
        found = ", ".join(f"{work} {time:.3g} s ({row['passes'][work]:.3g})" for work, time in row["seconds"].items())
    elif row["part"] == "sound":
        found = ", ".join(f"{way} {rate:,.0f} samples/s" for way, rate in row["samples_per_second"].items())
    else:
        shares = row["share_of_matrix_rate"]
        found = ", ".join(
            f"{way} {rate:,.0f} images/s ({shares[way]:.1%})" for way, rate in row["images_per_second"].items()
        )
    return f"{row['part']} {row['model']}, batch {row['batch']}: {found}"


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "results" / "gpu.json")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS), help="of sound")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256], help="of samples")
    parser.add_argument("--training-batches", type=int, nargs="+", default=[64])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here that torch can use; --device cpu tries the measurements")
    result = read_json(arguments.json) if arguments.json.exists() else {"benchmark": "gpu", "rows": []}
    for part, name, batch in jobs(arguments):
        if not arguments.again and any(key_of(row) == (part, name, batch) for row in result["rows"]):
            continue
        row = {"part": part, **MEASURES[part](name, batch, arguments.device, arguments.repeats)}
        row["machine"] = machine.describe(arguments.device)
        result["rows"] = [other for other in result["rows"] if key_of(other) != key_of(row)] + [row]
        write_json(arguments.json, result)
        print(told(row), flush=True)


if __name__ == "__main__":
    main()
