"""What the field says of these models, beside what this project measured: docs/claims.md.

    python benchmarks/claims.py RUN OTHER [--json results/claims.json]
    python benchmarks/claims.py --table

RUN and OTHER are runs of the same data, as benchmarks/models.py makes them: the mean difference of their test examples
and its standard error are written to the JSON. Two models are compared far more sharply by the differences of the same
examples than by their two means. --table writes the document from the JSON files of all benchmarks, and nothing else.
"""

import argparse
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch

import machine
from ancestral.checkpoint import read_json, write_json
from ancestral.evaluation import likelihoods, per_example, standard_error
from ancestral.report.export import command_of
from ancestral.runs import Run, open_run
from claims_table import SOURCES, page

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCUMENT = ROOT / "results" / "claims.json", ROOT / "docs" / "claims.md"
BATCH = 32


def scores(run: Run, batch_size: int = BATCH) -> torch.Tensor:
    """Return -log p(x) of each test example of a run, given its label where it has one: (N,) nats, or bounds."""
    data = run.data()
    index = torch.arange(len(data.split("test")))
    found = per_example(partial(likelihoods, run.model, 1), run.model, data, "test", index, batch_size)
    return -(found[:, 0] + data.log_cell)


def compared(run: Run, other: Run) -> dict[str, Any]:
    """Return by how many bits/dim the first is above the second, on average over the same test examples.

    Raises:
        ValueError: they are not of the same test examples.
    """
    mine, others = run.data(), other.data()
    x, y = (data.split("test").x for data in (mine, others))
    if mine.path != others.path or x.shape != y.shape:
        raise ValueError(f"{run.folder} and {other.folder} are of other test examples: nothing to pair")
    difference = (scores(run) - scores(other)) / (math.log(2) * math.prod(run.model.shape))
    return {
        "data": run.source,
        "names": [named(run), named(other)],
        "commands": [command_of(run), command_of(other)],
        "difference": difference.mean().item(),
        "se": standard_error(difference),
        "count": len(difference),
        "machine": machine.describe(),
    }


def named(run: Run) -> str:
    """Return the name of a model, and of its head where that is a density."""
    return run.name if run.data().dequantized is None else f"{run.name}, dequantized"


def put(result: dict[str, Any], row: dict[str, Any]) -> None:
    """Put a row in its place: in that of an earlier one of the same runs."""
    key = row["data"], row["commands"]
    rows = [other for other in result["rows"] if (other["data"], other["commands"]) != key]
    result["rows"] = sorted([*rows, row], key=lambda row: (row["data"], row["names"]))


def main() -> None:
    """Compare two runs, or write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="two of the same data")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="write docs/claims.md from the JSON, and nothing else")
    arguments = parser.parse_args()
    if arguments.table:
        DOCUMENT.write_text(page({name: read_json(ROOT / "results" / f"{name}.json") for name in SOURCES}), "utf-8")
        return
    if len(arguments.runs) != 2:
        parser.error("two runs are compared")
    result = read_json(arguments.json) if arguments.json.exists() else {"benchmark": "claims", "rows": []}
    put(result, row := compared(*(open_run(run) for run in arguments.runs)))
    write_json(arguments.json, result)
    print(f"{' - '.join(row['names'])} on {row['data']}: {row['difference']:+.4f} ± {row['se']:.4f} bits/dim")


if __name__ == "__main__":
    main()
