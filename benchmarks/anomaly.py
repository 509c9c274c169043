"""How well scores of anomalies tell data from other data: areas under the curve, by trained runs.

    python benchmarks/anomaly.py RUN --against SOURCE [--background RUN] [--data SOURCE] [--title TEXT] [--limit N]
    python benchmarks/anomaly.py --table            writes docs/anomaly.md from results/anomaly.json

The first measures a run on the test part of its data (or of SOURCE, if its own has moved) against the test part of
another source, and adds a row to results/anomaly.json, or takes the place of that of the same run and source. The other
source is brought to what the run was trained on (`--size`, `--bits`, `--binarize` of its training). Nothing is tuned by
the anomalies that are reported. The four pairs of the literature, with a background by `train --mutate`:

    python benchmarks/anomaly.py runs/fashion --against mnist.npz --background runs/fashion-mutated
    python benchmarks/anomaly.py runs/mnist --against fashion_mnist.npz --background runs/mnist-mutated
    python benchmarks/anomaly.py runs/binary-mnist --against omniglot.npz --background runs/binary-mnist-mutated
    python benchmarks/anomaly.py runs/cifar --against svhn.npz --background runs/cifar-mutated
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import machine
from ancestral import anomaly
from ancestral.anomaly import Evidence, auroc
from ancestral.checkpoint import read_json, write_json
from ancestral.data import Data
from ancestral.evaluation import standard_error
from ancestral.report.anomalies import check_background, check_maps, judge_of, judged, unlabelled, write_maps
from ancestral.runs import Run, open_run
from anomaly_table import page
from latents import command_of

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCUMENT = ROOT / "results" / "anomaly.json", ROOT / "docs" / "anomaly.md"
PICTURES, SHOWN = DOCUMENT.with_suffix(""), 4

BATCHES = (1, 2, 5, 10)  # examples whose mean is tested for typicality
SHUFFLE = 0  # seed of the order in which examples make batches: files may be sorted by class
CODECS = {codec.__name__: codec for codec in anomaly.CODECS}


def read(run: Run, source: str | None) -> Data:
    """Return the run's data, or another source in its units, without labels."""
    return unlabelled(run.data(source, labelled=False))


def seen_in(run: Run, background: Run | None, data: Data, limit: int | None, samples: int) -> Evidence:
    """Return what is known of test examples, in a shuffled order."""
    other = None if background is None else background.model
    found = anomaly.gathered(run.model, data, "test", background=other, samples=samples, limit=limit)
    order = torch.randperm(len(found.bits), generator=torch.Generator().manual_seed(SHUFFLE))
    return Evidence(*(None if each is None else each[order] for each in found[:3]))


def codes_of(data: Data, limit: int | None) -> dict[str, Tensor]:
    """Return the bits of test examples by every codec and by the best, in the same shuffled order."""
    index = data.limited("test", limit)
    index = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(SHUFFLE))]
    x, levels = data.split("test").x[index], data.discrete
    assert levels is not None
    found = {name: anomaly.coded_bits(x, levels, [codec]) for name, codec in CODECS.items()}
    return found | {"best": torch.stack(list(found.values())).min(0).values}


def scores_of(seen: Evidence, codes: dict[str, Tensor], typical: float) -> dict[str, Tensor]:
    """Return all scores of examples, high for anomalies."""
    seen = seen._replace(typical=typical)
    found = {"likelihood": anomaly.likelihood(seen)}
    if seen.background is not None:
        found["ratio"] = anomaly.ratio(seen)
    found |= {f"complexity, {name}": anomaly.complexity(seen._replace(coded=bits)) for name, bits in codes.items()}
    found["codec alone"] = codes["best"] / seen.values
    return found | {f"typicality, {n}": anomaly.typicality(seen, n) for n in BATCHES if n <= len(seen.bits)}


def mean_of(values: Tensor) -> dict[str, float | None]:
    """Return a mean and its standard error."""
    return {"mean": values.mean().item(), "se": standard_error(values)}


def typical_of(run: Run, data: Data, limit: int | None, samples: int) -> float:
    """Return the mean bits of a value of the valid part, of the test part (so much too typical) where there is none."""
    split = "valid" if len(data.split("valid")) else "test"
    found = anomaly.gathered(run.model, data, split, samples=samples, limit=limit)
    return float(found.bits.sum() / found.values.sum())


def measure(run: Run, background: Run | None, given: argparse.Namespace) -> dict[str, Any]:
    """Return a row."""
    begun = time.perf_counter()
    if background is not None:
        check_background(run, background)
    normal, other = read(run, given.data), read(run, given.against)
    typical = typical_of(run, normal, given.limit, given.samples)
    seen = [seen_in(run, background, data, given.limit, given.samples) for data in (normal, other)]
    codes = [codes_of(data, given.limit) for data in (normal, other)]
    scores = [scores_of(*each, typical) for each in zip(seen, codes, strict=True)]
    areas = {name: auroc(scores[0][name], scores[1][name])._asdict() for name in scores[0] if name in scores[1]}
    config = run.config["training"]
    return {
        "run": run.folder.name,
        "against": Path(given.against).stem,
        "title": given.title or f"{run.folder.name} against {Path(given.against).stem}",
        "model": run.name,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "trained": {key: run.config["result"][key] for key in ("steps", "seconds")},
        "seed": config["seed"],
        "command": command_of(run),
        "background": None if background is None else background_of(background),
        "exact": run.model.exact,
        "samples": given.samples,
        "counts": [len(each.bits) for each in seen],
        "typical": typical,
        "bits_per_dim": [mean_of(anomaly.likelihood(each)) for each in seen],
        "codec_bits_per_dim": [mean_of(bits["best"] / each.values) for bits, each in zip(codes, seen, strict=True)],
        "auroc": areas,
        "positive": Path(given.against).stem,
        "limit": given.limit,
        "seconds": time.perf_counter() - begun,
        "machine": machine.describe(),
    }


def background_of(run: Run) -> dict[str, Any]:
    """Return how a background model was trained."""
    options = run.config["data"]["options"]
    return {"run": run.folder.name, "mutate": options.get("mutate"), "command": command_of(run)}


def draw(run: Run, background: Run | None, given: argparse.Namespace, path: Path) -> None:
    """Write a picture of examples of both kinds and of where they are strange, where maps can be had."""
    try:
        check_maps(run, path)
    except ValueError:
        return
    judge = judge_of(run, background, None, 1)
    normal = given.data or run.config["data"]["source"]
    write_maps(judge, judged(judge, [(normal, False), (given.against, True)], "test", SHOWN, lambda share: None), path)


def parsed() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN")
    parser.add_argument("--against", metavar="SOURCE", help="anomalies, the positive class")
    parser.add_argument("--background", type=Path, metavar="RUN")
    parser.add_argument("--data", metavar="SOURCE", help="normal examples; by default the run's own data")
    parser.add_argument("--title", help="of the row")
    parser.add_argument("--limit", type=int, help="examples of each test part; all by default")
    parser.add_argument("--samples", type=int, default=1, help="of the bounds of models with latents")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="folder for maps")
    parser.add_argument("--table", action="store_true", help="write the document, and do nothing else")
    given = parser.parse_args()
    if not given.table and (given.run is None or given.against is None):
        parser.error("RUN and --against SOURCE are needed (or --table)")
    return given


def main() -> None:
    """Measure a run, or write the document."""
    given = parsed()
    if given.table:
        DOCUMENT.write_text(page(read_json(given.json), PICTURES), "utf-8")
        return
    torch.set_num_threads(given.threads)
    run = open_run(given.run, given.device)
    background = None if given.background is None else open_run(given.background, given.device)
    before = read_json(given.json)["rows"] if given.json.exists() else []
    rows = {(row["run"], row["against"]): row for row in before}
    row = measure(run, background, given)
    rows[row["run"], row["against"]] = row
    draw(run, background, given, given.pictures / f"{row['run']}-{row['against']}.png")
    write_json(given.json, {"benchmark": "anomaly", "rows": list(rows.values())})
    print(f"{row['title']}: " + ", ".join(f"{name} {area['value']:.3f}" for name, area in row["auroc"].items()))


if __name__ == "__main__":
    main()
