"""What a representation is worth: a linear probe of the class on `encode(x)` against one on the pixels.

    python benchmarks/probe.py RUN [RUN ...] [--labels 100 1000] [--json results/probe.json]

A run is of an unconditional model with latents, of data with labels. Both probes are logistic regressions that are
fitted to the train part, with the C that is best on the valid part, and tell the classes of the test part; also where
only a few training examples, a seeded choice, have labels. All features are divided by one number: to standardise each
would make much of pixels that are nearly always black, and of latents that are not in use.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

import machine
from ancestral.data import Data
from ancestral.models.latent import LatentVariables
from ancestral.runs import Run, open_run
from latents import command_of

RESULTS = Path(__file__).resolve().parent.parent / "results" / "probe.json"
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C, of which the valid part chooses
MOST, BATCH = 10_000, 1000  # examples of a probe, at most
ITERATIONS = 200


@torch.no_grad()
def features(model: LatentVariables, data: Data, split: str, index: torch.Tensor) -> dict[str, np.ndarray]:
    """Return what the probes are given of examples, each (N, F)."""
    x = data.split(split).x[index]
    codes = torch.cat([model.encode(part.to(model.device)).cpu() for part in x.split(BATCH)])
    return {"pixels": x.flatten(1).float().numpy(), "encode(x)": codes.float().numpy()}


def drawn(data: Data, split: str) -> torch.Tensor:
    """Return the indices of a part, or of a seeded choice of it."""
    order = torch.randperm(len(data.split(split)), generator=torch.Generator().manual_seed(0))
    return order[:MOST]


def probe(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Return the accuracy on the test part of a probe whose C is best on the valid part."""
    mean, scale = parts["train"][0].mean(0), parts["train"][0].std()
    given = {name: ((x - mean) / scale, y) for name, (x, y) in parts.items()}
    fitted = {c: LogisticRegression(C=c, max_iter=ITERATIONS).fit(*given["train"]) for c in STRENGTHS}
    valid = {c: float(one.score(*given["valid"])) for c, one in fitted.items()}
    best = max(STRENGTHS, key=lambda c: valid[c])
    accuracy, count = float(fitted[best].score(*given["test"])), len(given["test"][1])
    error = float(np.sqrt(accuracy * (1 - accuracy) / count))
    return {"accuracy": accuracy, "accuracy_se": error, "valid_accuracy": valid[best], "C": best}


def measured(run: Run, labels: list[int]) -> dict[str, Any]:
    """Return the probes of a run, with all labels and with few."""
    model, data = run.model, run.data()
    if not isinstance(model, LatentVariables) or model.conditioner is not None:
        raise SystemExit(f"{run.folder} is no run of an unconditional model with latents")
    index = {split: drawn(data, split) for split in ("train", "valid", "test")}
    inputs = {split: features(model, data, split, index[split]) for split in index}
    classes = {split: data.split(split).labels for split in index}
    rows = []
    for count in sorted({min(n, len(index["train"])) for n in [*labels, MOST]}):
        for name in inputs["train"]:
            parts = {}
            for split, chosen in index.items():
                of = classes[split]
                assert of is not None, f"data {data.name!r} has no labels"
                few = count if split == "train" else len(chosen)
                parts[split] = (inputs[split][name][:few], of[chosen][:few].numpy())
            rows.append({"features": name, "numbers": parts["train"][0].shape[1], "labels": count, **probe(parts)})
            print(f"{data.name}: {count} labels, {name}: {rows[-1]['accuracy']:.4f} ± {rows[-1]['accuracy_se']:.4f}")
    result = {name: run.config["result"][name] for name in ("steps", "seconds", "valid_bits_per_dim")}
    counts = {split: len(chosen) for split, chosen in index.items()}
    described = {"data": data.name, "model": run.config["model"], "command": command_of(run)}
    return {**described, "examples": counts, **result, "probes": rows}


def main() -> None:
    """Measure every run, and write the JSON after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--labels", nargs="+", type=int, default=[100, 1000], help="few labels, beside all")
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*lbfgs failed to converge.*")  # C chosen by what comes of it
    rows = []
    for folder in arguments.runs:
        rows.append(measured(open_run(folder, "cpu"), arguments.labels))
        machine.write(arguments.json, {"benchmark": "probe", "machine": machine.describe(), "runs": rows})


if __name__ == "__main__":
    main()
