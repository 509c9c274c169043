"""What a sample of sound costs with WaveNet, and how likely recordings are under trained runs.

    python benchmarks/audio.py [--json results/audio.json] [--networks large small] [--batches 1 32] [--threads 1]
    python benchmarks/audio.py --runs RUN [RUN ...]     what runs of recordings came to, beside coders of the same
    python benchmarks/audio.py --table

Sampling is timed eager, compiled and naive, in turn in one run, beside the limits of the machine as measured there:
multiply-adds over its matrix rate, and bytes of weights over its memory rate. The naive sampler runs a parallel pass
over the receptive field for every sample.
"""

import argparse
import functools
import lzma
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import machine
from ancestral.checkpoint import read_json, write_json
from ancestral.data import Recordings, load
from ancestral.data.mulaw import to_mu_law
from ancestral.data.restore import Audio
from ancestral.models import WaveNet
from ancestral.runs import Run, open_run
from audio_table import page
from other_codecs import flac_bytes
from sampling import multiply_adds

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCUMENT = ROOT / "results" / "audio.json", ROOT / "docs" / "audio.md"

NETWORKS: dict[str, dict[str, int]] = {
    "large": {"layers": 24, "channels": 64, "cycle": 6},
    "small": {"layers": 10, "channels": 32, "cycle": 10},
}
SECONDS = 2.0  # of each timing


def matrix_rate() -> float:
    """Return multiply-adds a second of matrix products, in float32."""
    return machine.matrix_rate(1024) * 1e9 / 2


def memory_rate() -> float:
    """Return bytes a second of reading what no cache holds."""
    x = torch.zeros(2**27)
    best = min(machine.seconds(x.sum) for _ in range(3))
    return 4 * len(x) / best


def streaming(model: WaveNet, batch: int, compiled: bool) -> Callable[[], Any]:
    """Return what makes one block of samples; it is compiled already."""
    stream = model.stream(batch, compiled=compiled, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        next(stream)
    return lambda: next(stream)


def naive(model: WaveNet, batch: int) -> Callable[[], Any]:
    """Return what makes one sample by a parallel pass over the receptive field."""
    x = torch.randint(256, (batch, 1, model.reach))
    u = torch.rand(batch, dtype=torch.float64)

    @torch.inference_mode()
    def one() -> Tensor:
        return next(model.likelihood.walk(model(x)[:, :, -1], 1)).draw(u)

    return one


def often(work: Callable[[], Any]) -> tuple[Callable[[], Any], int]:
    """Return what does the work as often as fits into the time, and how often that is."""
    once = min(machine.seconds(work) for _ in range(3))
    times = max(1, int(SECONDS / once))
    return lambda: [work() for _ in range(times)], times


def measure(name: str, batch: int, repeats: int) -> dict[str, Any]:
    """Return samples a second of one network and batch, each way."""
    model = WaveNet(shape=(1, 4096), **NETWORKS[name]).eval()
    begin = machine.seconds(lambda: streaming(model, batch, compiled=True))
    block = next(model.stream(batch)).shape[2]
    ways = {
        "eager": (streaming(model, batch, compiled=False), block),
        "compiled": (streaming(model, batch, compiled=True), block),
        "naive": (naive(model, batch), 1),
    }
    works = {way: (*often(work), steps) for way, (work, steps) in ways.items()}
    times = machine.interleaved({way: work for way, (work, _, _) in works.items()}, repeats)
    rates = {way: batch * steps * count / times[way] for way, (_, count, steps) in works.items()}
    weights = sum(p.numel() for p in model.parameters())
    adds = multiply_adds(lambda: model.sample(1, shape=(1, 8))) // 8
    return {
        "network": name,
        "arguments": NETWORKS[name],
        "parameters": weights,
        "reach": model.reach,
        "batch": batch,
        "samples_per_second": rates,
        "real_time": {str(rate): {way: speed / batch / rate for way, speed in rates.items()} for rate in (8000, 16000)},
        "compile_seconds": begin,
        "multiply_adds": adds,
        "limits": {
            "matrix_rate": matrix_rate(),
            "memory_rate": memory_rate(),
            "samples_per_second_by_arithmetic": matrix_rate() / adds,
            "samples_per_second_by_memory": batch * memory_rate() / (4 * weights),
        },
        "machine": machine.describe(),
    }


def score(folder: Path) -> dict[str, Any]:
    """Return what a run of recordings came to on its test part, and what coders make of the same recordings."""
    run = open_run(folder)
    data, found = run.data(), read_json(folder / "evaluation-test.json")
    test, restore, training = data.split("test"), run.restore, run.config["training"]
    assert isinstance(test, Recordings)
    assert isinstance(restore, Audio)
    recordings = test.x[0].split(test.lengths.tolist())
    return {
        "run": folder.name,
        "command": command_of(run),
        "arguments": {k: str(v) for k, v in run.model.arguments.items() if v is not None},
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "reach": run.model.reach,
        "rate": restore.rate,
        "levels": restore.levels,
        "mu_law": restore.mu_law,
        "given": found["given"],
        "recordings": found["count"],
        "samples": found["values"],
        "bits_per_sample": found["bits_per_dim"],
        "bits_per_sample_se": found["bits_per_dim_se"],
        "baselines": found["baselines"],
        "coders": coders(recordings, restore),
        **(originals(run, recordings) if restore.mu_law else {}),
        "training": training,
        "trained": {name: run.config["result"][name] for name in ("steps", "epochs", "seconds", "best_step")},
        "machine": machine.describe(),
    }


def command_of(run: Run) -> str:
    """Return the command that trained a run."""
    options, training = run.config["data"]["options"], run.config["training"]
    words = ["ancestral train wavenet --data FOLDER", f"--out {run.folder.name}", f"--minutes {training['minutes']:g}"]
    words += ["--linear"] if options["linear"] else []
    words += [f"--given {options['given']}"] if options["given"] else []
    words += [f"--batch-size {training['batch_size']}"] if "batch_size" in training else []
    names = ("channels", "layers", "cycle", "skip")
    return " ".join([*words, "--set", *(f"{name}={run.model.arguments[name]}" for name in names)])


def coders(recordings: tuple[Tensor, ...], restore: Audio) -> dict[str, float]:
    """Return bits a sample of the order-0 entropy of the codes, of xz and of FLAC, headers included.

    xz is given all recordings end to end, FLAC each as a file of its own: what each does best. FLAC takes samples, so
    it is not asked about mu-law codes.
    """
    codes = torch.cat(recordings).numpy()
    share = np.bincount(codes.astype(np.int64)) / len(codes)
    share = share[share > 0]
    wide = codes.astype("<u2" if restore.levels > 256 else np.uint8).tobytes()
    found = {
        "order-0 entropy": float(-(share * np.log2(share)).sum()),
        "xz -9e": 8 * len(lzma.compress(wide, preset=9 | lzma.PRESET_EXTREME)) / len(codes),
    }
    if not restore.mu_law:
        sizes = [flac_bytes(restore(x[None, None])[0, 0], restore.rate) for x in recordings]
        found["FLAC"] = 8 * sum(sizes) / len(codes)
    return found


def originals(run: Run, recordings: tuple[Tensor, ...]) -> dict[str, Any]:
    """Return bits a sample of FLAC of the 16-bit samples that mu-law codes were made of, and of what the codes drop.

    What is dropped is the mean of log2 of how many of the 65 536 samples share the code.
    """
    data = run.config["data"]
    linear = load(data["source"], rate=data["options"]["rate"], linear=True, seed=data["seed"])
    assert isinstance(linear.restore, Audio)
    test = linear.split("test")
    assert isinstance(test, Recordings)
    sharing = torch.from_numpy(np.bincount(to_mu_law(np.arange(-(2**15), 2**15))))
    dropped = sharing[torch.cat(recordings).long()].double().log2().mean().item()
    found = coders(test.x[0].split(test.lengths.tolist()), linear.restore)
    return {"originals": {"FLAC": found["FLAC"], "dropped": dropped}}


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a row is found by."""
    return tuple(row.get(name) for name in ("run", "network", "batch"))


def put(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows with this one in place of an earlier one."""
    return [other for other in rows if key_of(other) != key_of(row)] + [row]


def told(row: dict[str, Any]) -> str:
    """Return a row in words."""
    if "run" in row:
        return f"{row['run']}: {row['bits_per_sample']:.3f} bits/sample"
    rates = ", ".join(f"{way} {rate:,.0f}" for way, rate in row["samples_per_second"].items())
    return f"{row['network']}, batch {row['batch']}: samples/s {rates}"


def main() -> None:
    """Measure and write JSON, or write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", nargs="+", type=Path, default=[], help="score these runs, and measure nothing else")
    parser.add_argument("--table", action="store_true", help="write docs/audio.md from the JSON, and nothing else")
    arguments = parser.parse_args()
    result = read_json(arguments.json) if arguments.json.exists() else {"benchmark": "audio", "speed": [], "runs": []}
    if arguments.table:
        DOCUMENT.write_text(page(result), "utf-8")
        return
    torch.set_num_threads(arguments.threads)
    caches = tempfile.TemporaryDirectory()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = caches.name  # so that compiling is timed, not reading what was compiled
    jobs: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("runs", functools.partial(score, run)) for run in arguments.runs
    ] or [
        ("speed", functools.partial(measure, network, batch, arguments.repeats))
        for network in arguments.networks
        for batch in arguments.batches
    ]
    for part, job in jobs:
        row = job()
        result[part] = put(result[part], row)
        write_json(arguments.json, result)
        print(told(row), flush=True)


if __name__ == "__main__":
    main()
