"""What recipes come to, beside what was reported: those that one thread of a CPU follows in minutes, or a GPU in hours.

    python benchmarks/results.py --data FOLDER [--recipes adult-made dna-made] [--seeds 0 1] [--again]
    python benchmarks/results.py --data FOLDER --gpu [--slice-minutes 9]
    python benchmarks/results.py --table

Every row is a run of the commands that a user types, in processes of its own: `ancestral train --recipe`, then
`ancestral evaluate` on the test part. FOLDER holds the data, a file NAME.npz or a folder NAME each; recipes whose data
is missing, or has other examples, are said and skipped. Rows of the same recipe and seed that are in the JSON are left
as they are, unless --again; it is written after each row. A run that was interrupted goes on. --table writes
docs/results.md from the JSON, and does nothing else.

--gpu follows the recipes of `ancestral.recipes.GPU` in their order, compiled and in bfloat16, with one seed unless more
are given. With --slice-minutes a call trains for so long at most, and stops at a checkpoint: the same command goes on
from there, on any machine that has the folder of --runs. A slice must be longer than compiling takes, which is done in
each; that, or evaluating what is trained, may end it a minute or two late.
"""

import argparse
import hashlib
import json
import math
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import machine
from ancestral import __version__
from ancestral.checkpoint import CONFIG, read_json, write_json
from ancestral.data import load
from ancestral.recipes import GPU, RECIPES, Recipe
from models import UnfinishedError, ancestral
from results_table import page

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCUMENT = ROOT / "results" / "recipes.json", ROOT / "docs" / "results.md"
SEEDS = (0, 1)
FIGURES = ("nats", "nats_se", "bits_per_dim", "bits_per_dim_se")
UNCOMPILED = {"made"}  # its masks are drawn for every step; what is left are matrix products
IDENTITY = ("model", "arguments", "training", "checksum")  # what says, with the seed, that two runs are the same


class Job(NamedTuple):
    """One row to measure.

    Attributes:
        name: of the recipe.
        seed: of the run.
        source: of the data, as a user gives it; None of a built-in one.
        device: to train on compiled and in bfloat16; None: as the commands do by default.
    """

    name: str
    seed: int
    source: Path | None
    device: str | None = None

    @property
    def recipe(self) -> Recipe:
        """What is followed."""
        return RECIPES[self.name]()

    @property
    def identity(self) -> dict[str, Any]:
        """What is recorded of the recipe, as JSON has it."""
        told = {**self.recipe.to_json(), "checksum": self.recipe.data.checksum}
        return json.loads(json.dumps({key: told[key] for key in IDENTITY}))

    @property
    def folder(self) -> str:
        """The name of its run folder: of no other recipe, nor of this one as it was once written."""
        told = [self.identity, self.seed, *([] if self.device is None else self.options())]
        written = json.dumps(told, sort_keys=True).encode()
        return f"{self.name}-seed{self.seed}-{hashlib.sha256(written).hexdigest()[:8]}"

    def words(self, out: object, source: object, resume: bool = False) -> list[str]:
        """Return the words of the training command."""
        data = [] if source is None else ["--data", str(source)]
        seed = ["--resume"] if resume else ["--seed", str(self.seed)]
        return ["train", "--recipe", self.name, *data, "--out", str(out), *seed, *self.options()]

    def options(self) -> list[str]:
        """Return the options of the training that are no part of the recipe."""
        if self.device is None:
            return []
        compiled = [] if self.recipe.model in UNCOMPILED else ["--compile"]
        return ["--device", self.device, "--precision", "bf16", *compiled]

    def known(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Say whether one of the rows is of this job."""
        wanted = {"recipe": self.name, "seed": self.seed, **self.identity}
        return any(all(row.get(key) == value for key, value in wanted.items()) for row in rows)


class Slice:
    """The time in which one call may train.

    Args:
        minutes: of it; without end where there are none.
    """

    def __init__(self, minutes: float | None) -> None:
        self.end = math.inf if minutes is None else time.monotonic() + 60 * minutes

    @property
    def left(self) -> float | None:
        """Seconds that are left; None where it has no end."""
        return None if math.isinf(self.end) else max(0.0, self.end - time.monotonic())


def sources(names: Sequence[str], folder: Path | None) -> Iterator[tuple[str, Path | None]]:
    """Yield the recipes whose data there is, with its file; say of the others what is missing."""
    for name in names:
        recipe = RECIPES[name]()
        if recipe.data.source is not None:
            yield name, None
        elif (wrong := trouble(recipe, folder)) is not None:
            print(f"{name}: skipped: {wrong}", file=sys.stderr)
        else:
            yield name, file_of(recipe, folder)


def file_of(recipe: Recipe, folder: Path | None) -> Path:
    """Return where the data of a recipe lies: in a folder where there is one, else in a file."""
    place = (folder or Path("FOLDER")) / str(recipe.data.file)
    return place if place.is_dir() else place.with_name(f"{place.name}.npz")


def trouble(recipe: Recipe, folder: Path | None) -> str | None:
    """Return what is wrong with the data of a recipe, None where it is there."""
    path = file_of(recipe, folder)
    if folder is None or not path.exists():
        return f"no {path}: {recipe.data.where}"
    try:
        found = recipe.data.differing(load(path))
    except (ValueError, OSError) as error:
        return str(error)
    if found is not None:
        return f"{path} holds other examples: checksum {found}, wanted {recipe.data.checksum}"
    return None


def measure(job: Job, threads: int, runs: Path, of: Slice) -> dict[str, Any]:
    """Train, or go on with a run that was interrupted, and evaluate; return the row.

    Raises:
        RuntimeError: that failed, or somebody interrupted it.
        UnfinishedError: the slice is over.
    """
    out = runs / job.folder
    if of.left == 0:
        raise UnfinishedError
    trained, _ = ancestral(job.words(out, job.source, resume=(out / CONFIG).exists()), threads, of.left)
    if trained["interrupted"]:
        raise UnfinishedError if of.left == 0 else RuntimeError("interrupted; measure again to go on")
    device = [] if job.device is None else ["--device", job.device]
    found, _ = ancestral(["evaluate", str(out), *device], threads)
    figure = found["ensemble"] or found
    file = None if job.source is None else job.source.name
    return {
        "recipe": job.name,
        "seed": job.seed,
        **job.identity,
        "data": job.recipe.data.name,
        "command": " ".join(["ancestral", *job.words("RUN", file)]),
        "parameters": trained["parameters"],
        **{key: trained[key] for key in ("steps", "epochs", "best_step", "seconds", "valid_nats")},
        **{key: figure[key] for key in FIGURES},
        **{key: found[key] for key in ("masks", "exact", "count")},
        "reported": asdict(job.recipe.expected),
        "machine": {**machine.describe(job.device), "threads": threads, "ancestral": __version__},
    }


def put(result: dict[str, Any], row: dict[str, Any]) -> None:
    """Put a row in its place: in the order of the recipes, and in place of an earlier one."""
    key = row["recipe"], row["seed"]
    rows = [other for other in result["rows"] if (other["recipe"], other["seed"]) != key] + [row]
    order = list(RECIPES)
    result["rows"] = sorted(rows, key=lambda row: (order.index(row["recipe"]), row["seed"]))


def jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """Yield what is asked for: all recipes with one seed, then with the next."""
    usual = GPU if arguments.gpu else [name for name, recipe in RECIPES.items() if recipe().quick]
    found = list(sources(arguments.recipes or usual, arguments.data))
    device = (arguments.device or "cuda") if arguments.gpu else None
    for seed in arguments.seeds or (SEEDS[:1] if arguments.gpu else SEEDS):
        yield from (Job(name, seed, source, device) for name, source in found)


def run(arguments: argparse.Namespace) -> int:
    """Measure what is asked for and not known, write the JSON after each row; return how many runs failed."""
    result = read_json(arguments.json) if arguments.json.exists() else {"benchmark": "results", "rows": []}
    result["rows"] = [row for row in result["rows"] if row["recipe"] in RECIPES]
    for row in result["rows"]:  # what is expected may be known better since
        row["reported"] = asdict(RECIPES[row["recipe"]]().expected)
    write_json(arguments.json, result)
    failed, of = 0, Slice(arguments.slice_minutes)
    for job in jobs(arguments):
        if not arguments.again and job.known(result["rows"]):
            continue
        if arguments.again:
            shutil.rmtree(arguments.runs / job.folder, ignore_errors=True)
        try:
            row = measure(job, arguments.threads, arguments.runs, of)
        except UnfinishedError:
            print(f"{job.name}, seed {job.seed}: {so_far(arguments.runs / job.folder)}: the same command goes on")
            break
        except RuntimeError as error:  # the other rows do not suffer
            print(f"{job.name}, seed {job.seed}: {error}", file=sys.stderr)
            failed += 1
            continue
        put(result, row)
        write_json(arguments.json, result)
        print(f"{job.name}, seed {job.seed}: {told(row)}", flush=True)
    return failed


def so_far(folder: Path) -> str:
    """Return how far the training in a run folder has come, in words."""
    if not (folder / CONFIG).exists():
        return "not begun"
    config = read_json(folder / CONFIG)
    return f"{config['result']['steps']:,} of {config['training']['planned_steps']:,} steps"


def told(row: dict[str, Any]) -> str:
    """Return what a row came to, in words."""
    reported = row["reported"]
    key = "nats" if reported["unit"] == "nats" else "bits_per_dim"
    found = f"{row[key]:.3f} ± {row[f'{key}_se']:.3f} {reported['unit']}, reported {reported['value']:.2f}"
    return f"{found}; {row['steps']:,} steps in {row['seconds']:.0f} s"


def main() -> None:
    """Measure, or write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with the files NAME.npz")
    parser.add_argument(
        "--recipes", nargs="+", metavar="NAME", choices=list(RECIPES), help="by default those for a CPU, or for a GPU"
    )
    parser.add_argument("--gpu", action="store_true", help="follow the recipes that are for a GPU, on one")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="with --gpu: cpu to try it without one")
    parser.add_argument("--slice-minutes", type=float, metavar="M", help="how long to train in this call, at most")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="0 and 1, or with --gpu 0")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "results", help="where the run folders go")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="write docs/results.md from the JSON, and nothing else")
    arguments = parser.parse_args()
    if arguments.table:
        DOCUMENT.write_text(page(read_json(arguments.json)), "utf-8")
    elif run(arguments):
        sys.exit(1)


if __name__ == "__main__":
    main()
