"""What hierarchies of latents come to on binarized MNIST: bounds, what each level does, what a sample costs.

    python benchmarks/latents.py RUN [RUN ...]      evaluates trained runs, and writes results/latents.json
    python benchmarks/latents.py --sampling RUN [RUN ...]     measures again what a sample of these costs
    python benchmarks/latents.py --table            writes docs/latents.md from results/{latents,probe,pixel_vae}.json

A run is measured once more, and takes its row's place, where the JSON has one of that name.
"""

import argparse
import inspect
from pathlib import Path
from typing import Any

import torch

import machine
from ancestral import evaluate
from ancestral.checkpoint import read_json, write_json
from ancestral.evaluation import Evaluation
from ancestral.model import Model
from ancestral.report.words import shown
from ancestral.runs import Run, open_run
from latents_table import page

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCUMENT = ROOT / "results" / "latents.json", ROOT / "docs" / "latents.md"

TIGHT, TIGHTER, FEW = 500, 5000, 1000  # draws for all test images, draws for some, and how many these are
BATCH, REPEATS = 256, 5  # of the timing


def command_of(run: Run) -> str:
    """Return the command that trained a run."""
    data, training = run.config["data"], run.config["training"]
    options, source = data["options"], Path(data["source"])
    named = "DATA.npz" if source.suffix else "FOLDER" if source.is_absolute() else source
    words = [f"ancestral train {run.name} --data {named} --out {run.folder.name}"]
    words += [f"--{key} {options[key]}" for key in ("bits", "binarize") if options.get(key)]
    words += [f"--mutate {options['mutate']:g}"] if options.get("mutate") else []
    words += ["--linear"] if options.get("linear") else []
    words += [f"--{key} {training[key]}" for key in ("epochs", "steps", "minutes") if training.get(key)]
    words += [f"--batch-size {training['batch_size']} --lr {training['lr']:g}"]
    words += [f"--weight-decay {training['weight_decay']:g}"] if training.get("weight_decay") else []
    words += [f"--loss '{training['loss']}'"] if training["loss"] != "nll" else []
    settings = [f"{key}='{shown(value)}'" for key, value in changed(run.model).items()]
    return " ".join([*words, *(["--set", *settings] if settings else [])])


def changed(model: Model) -> dict[str, Any]:
    """Return the arguments of a model that are not the default ones; the data gives its shape and likelihood."""
    defaults = inspect.signature(type(model)).parameters
    given = {key: value for key, value in model.arguments.items() if key not in ("shape", "likelihood")}
    return {key: value for key, value in given.items() if value != defaults[key].default}


def bound(found: Evaluation) -> dict[str, Any]:
    """Return a bound, with the ELBO of the same images beside it."""
    elbo = found if found.elbo is None else found.elbo
    return {
        "samples": found.samples,
        "images": found.count,
        "nats": found.nats,
        "nats_se": found.nats_se,
        "elbo": elbo.nats,
        "elbo_se": elbo.nats_se,
        "seconds": found.seconds,
    }


def sampling_of(model: Model) -> dict[str, float]:
    """Return the times of a batch of samples, and of one parallel pass over as many images, measured in turn."""
    x = torch.zeros(BATCH, *model.shape, dtype=torch.long)
    works = {
        "sample": lambda: model.sample(BATCH),
        "pass": torch.no_grad()(lambda: model.log_prob(x)),
    }
    times = machine.interleaved(works, REPEATS)
    return {"batch": BATCH, **times, "ratio": times["sample"] / times["pass"]}


def measure(folder: Path) -> dict[str, Any]:
    """Return what a run comes to."""
    run = open_run(folder, "cpu")
    data = run.data()
    whole = evaluate(run.model, data, samples=TIGHT)
    some = evaluate(run.model, data, samples=TIGHTER, limit=FEW)
    return {
        "run": folder.name,
        "command": command_of(run),
        "latents": list(run.model.arguments["latents"]),
        "posterior": shown(run.model.arguments["posterior"]),
        "network": shown(run.model.arguments["network"]),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "trained": {key: run.config["result"][key] for key in ("steps", "epochs", "seconds", "best_step")},
        "bounds": [bound(whole), bound(some)],
        "levels": whole.to_json()["levels"],
        "sampling": sampling_of(run.model),
        "machine": machine.describe(),
    }


def main() -> None:
    """Measure runs, or write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sampling", action="store_true", help="measure the cost of a sample again, and nothing else")
    parser.add_argument("--table", action="store_true", help="write the document, and do nothing else")
    arguments = parser.parse_args()
    if arguments.table:
        parts = {name: read_json(RESULTS.with_name(f"{name}.json")) for name in ("latents", "probe", "pixel_vae")}
        DOCUMENT.write_text(page(**parts), "utf-8")
        return
    torch.set_num_threads(arguments.threads)
    rows = {row["run"]: row for row in (read_json(arguments.json)["rows"] if arguments.json.exists() else [])}
    for folder in arguments.runs:
        if arguments.sampling:
            rows[folder.name]["sampling"] = sampling_of(open_run(folder, "cpu").model)
        else:
            rows[folder.name] = measure(folder)
        write_json(arguments.json, {"benchmark": "latents", "rows": list(rows.values())})
        row = rows[folder.name]
        nats, ratio = row["bounds"][0]["nats"], row["sampling"]["ratio"]
        print(f"{folder.name}: at most {nats:.2f} nats by {TIGHT} draws; samples at {ratio:.2f} passes", flush=True)


if __name__ == "__main__":
    main()
