"""How likely the test data is under every model, after minutes of training on a CPU.

    python benchmarks/models.py [--models made pixelcnn] [--data digits photos] [--minutes M] [--jobs 2] [--again]
    python benchmarks/models.py --table

Every row is a run of the commands that a user types, in processes of its own: `ancestral train`, then `ancestral
evaluate` on the test part. Rows that are in the JSON with the same settings, minutes and threads are left as they are,
unless --again; it is written after each row. --table writes docs/models.md from the JSON, and does nothing else.
"""

import argparse
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import machine
from ancestral.checkpoint import read_json, write_json
from ancestral.data import load
from ancestral.evaluation import baselines
from ancestral.models import MODELS
from models_table import page, typed

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCUMENT = ROOT / "results" / "models.json", ROOT / "docs" / "models.md"
MINUTES = {"digits": 3.0, "photos": 6.0}
PART = {"models": "rows", "dequantized": "dequantized"}  # keys of the JSON

DISCRETIZED = "likelihood=DiscretizedLogisticMixture(components=10)"
CONTINUOUS = "likelihood=LogisticMixture(components=10)"

OTHERS = {"wavenet", "hierarchical-vae", "pixel-vae"}  # measured by audio.py, latents.py and pixel_vae.py

# What follows --set, for each data set and model, and other options of `ancestral train` as --NAME=VALUE.
# Digits have labels: there the models are class-conditional.
ARGUMENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "digits": {model: () for model in MODELS if model not in OTHERS},
    "photos": {
        "pixelcnn": ("channels=32", "layers=5", "--batch-size=16", DISCRETIZED),
        "row-lstm": ("channels=32", "layers=3", "--batch-size=16", DISCRETIZED),
        "diagonal-bilstm": ("channels=24", "layers=2", "--batch-size=16", DISCRETIZED),
        "multi-scale-pixelrnn": ("channels=18", "layers=3", "--batch-size=16", DISCRETIZED),
        "gated-pixelcnn": ("channels=32", "layers=4", "kernel_size=3", "--batch-size=16", DISCRETIZED),
        "pixelcnn++": ("channels=24", "layers=1", "--batch-size=16", DISCRETIZED),
        "pixelsnail": ("channels=24", "layers=1", "residual_blocks=2", "keys=8", "--batch-size=16", DISCRETIZED),
    },
}
# The same network with a discretized mixture, and with a density on dequantized data.
DEQUANTIZED: dict[str, dict[str, tuple[str, ...]]] = {
    "digits": {"gated-pixelcnn": ("channels=48", "layers=6")},
    "photos": {"gated-pixelcnn": ("channels=32", "layers=4", "kernel_size=3", "--batch-size=16")},
}
CODECS: dict[str, dict[str, Any]] = {
    "PNG": {"format": "png", "optimize": True},
    "WebP, lossless": {"format": "webp", "lossless": True, "quality": 100, "method": 6},
}


class Job(NamedTuple):
    """One row to measure.

    Attributes:
        part: "models" or "dequantized".
        model: its name in the registry.
        data: "digits" or "photos".
        head: "discretized" or "dequantized" in the second part, else empty.
        settings: what follows --set.
    """

    part: str
    model: str
    data: str
    head: str
    settings: tuple[str, ...]

    @property
    def key(self) -> dict[str, str]:
        """What a row of the JSON is found by."""
        return {"model": self.model, "data": self.data} | ({"head": self.head} if self.head else {})

    def words(self, minutes: float, out: Path) -> list[str]:
        """Return the words of the training command."""
        noise = ["--dequantize"] if self.head == "dequantized" else []
        words = ["train", self.model, "--data", self.data, *noise, "--minutes", f"{minutes:g}", "--out", str(out)]
        return [*words, *typed(self.settings)]

    def command(self, minutes: float) -> str:
        """Return the training command as a user types it in a shell."""
        return shlex.join(["ancestral", *self.words(minutes, Path("RUN"))])

    def measured(self, minutes: float, threads: int, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Say whether one of the rows is of this job, with the same settings, minutes and threads."""
        wanted = (self.key, list(self.settings), minutes, threads)
        return any((key_of(row), row["settings"], row["minutes"], row["threads"]) == wanted for row in rows)


def jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """Yield what is asked for, by the tables above: data sets, their parts, models; in the second part both heads."""
    asked = arguments.models or MODELS
    for data in arguments.data:
        if "models" in arguments.part:
            for model in (model for model in ARGUMENTS[data] if model in asked):
                yield Job("models", model, data, "", ARGUMENTS[data][model])
        if "dequantized" in arguments.part:
            for model in (model for model in DEQUANTIZED[data] if model in asked):
                settings = DEQUANTIZED[data][model]
                yield Job("dequantized", model, data, "discretized", (*settings, DISCRETIZED))
                yield Job("dequantized", model, data, "dequantized", (*settings, CONTINUOUS))


class UnfinishedError(Exception):
    """A command was asked to stop before it had an answer."""


def ancestral(words: list[str], threads: int, limit: float | None = None) -> tuple[dict[str, Any], float]:
    """Run a command in a process of its own; return its JSON and the seconds of CPU that it took.

    Args:
        words: of the command.
        threads: that it may use.
        limit: after so many seconds it is asked to stop, as by Ctrl-C: a training then writes a checkpoint.

    Raises:
        RuntimeError: it failed.
        UnfinishedError: it had to stop, and has nothing to say.
    """
    code = "from ancestral.cli import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", code, *words, "--json"]
    with TemporaryFile("w+") as told, TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=told, stderr=said, env=environment)
        asking = threading.Timer(limit or 0, os.kill, (process.pid, signal.SIGINT))
        if limit is not None:
            asking.start()
        _, status, usage = os.wait4(process.pid, 0)  # its own times, whatever else runs
        asking.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        answer, messages = (file.seek(0) or file.read() for file in (told, said))
    if process.returncode:
        last = (messages.splitlines() or [f"exit status {process.returncode}"])[-1]
        stopped = process.returncode in (-signal.SIGINT, 128 + signal.SIGINT) or last == KeyboardInterrupt.__name__
        if limit is not None and stopped:  # before or after the training itself, which would have answered
            raise UnfinishedError
        raise RuntimeError(f"{shlex.join(['ancestral', *words])}: {last}")
    return json.loads(answer), usage.ru_utime + usage.ru_stime


def measure(job: Job, minutes: float, threads: int, folder: Path) -> dict[str, Any]:
    """Train and evaluate; return the row."""
    name = "-".join(["models", *job.key.values()])
    out = folder / f"{name}-{int(time.time())}"
    words = job.words(minutes, out)
    trained, cpu_seconds = ancestral(words, threads)
    found, _ = ancestral(["evaluate", str(out)], threads)
    figures = ("bits_per_dim", "bits_per_dim_se", "nats", "nats_se", "exact", "given", "label_averaged", "count")
    return {
        **job.key,
        "command": job.command(minutes),
        "settings": list(job.settings),
        "parameters": trained["parameters"],
        "minutes": minutes,
        "threads": threads,
        "steps": trained["steps"],
        "epochs": trained["epochs"],
        "seconds": trained["seconds"],
        "cpu_seconds": cpu_seconds,
        "valid_bits_per_dim": trained["valid_bits_per_dim"],
        **{figure: found[figure] for figure in figures},
        "machine": {**machine.describe(), "threads": threads},
    }


def trivial(name: str) -> dict[str, Any]:
    """Return what a data set costs without a model: histograms, and for photos two codecs for pictures."""
    data = load(name)
    found: dict[str, Any] = {"examples": len(data.split("test")), "baselines": baselines(data)}
    if data.shape[0] == 3:
        x = data.split("test").x.numpy()
        found["codecs"] = {name: codec_bits(x, options) for name, options in CODECS.items()}
    return found


def codec_bits(x: np.ndarray, options: dict[str, Any]) -> dict[str, float]:
    """Return bits/dim of pictures (N, 3, H, W) as files, one each, headers included, with the standard error."""
    sizes = []
    for picture in x:
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(file, **options)
        sizes.append(8 * len(file.getvalue()) / picture.size)
    return {"bits_per_dim": float(np.mean(sizes)), "bits_per_dim_se": float(np.std(sizes, ddof=1) / len(sizes) ** 0.5)}


def key_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return what a row is found by."""
    return {name: row[name] for name in ("model", "data", "head") if name in row}


def known(path: Path) -> dict[str, Any]:
    """Return what the JSON holds, or what an empty one would."""
    return read_json(path) if path.exists() else {"benchmark": "models", "data": {}, "rows": [], "dequantized": []}


def put(result: dict[str, Any], job: Job, row: dict[str, Any]) -> None:
    """Put a row in its place: in the order of the tables above, and in place of an earlier one."""
    rows = [other for other in result[PART[job.part]] if key_of(other) != job.key] + [row]
    order = [data + model for data, models in ARGUMENTS.items() for model in models]
    rows.sort(key=lambda row: (order.index(row["data"] + row["model"]), row.get("head") == "dequantized"))
    result[PART[job.part]] = rows


def run(arguments: argparse.Namespace) -> None:
    """Measure what is asked for and not known, and write the JSON after each row."""
    result = known(arguments.json)
    todo = []
    for job in jobs(arguments):
        minutes = arguments.minutes or MINUTES[job.data]
        if arguments.again or not job.measured(minutes, arguments.threads, result[PART[job.part]]):
            todo.append((job, minutes))
    for name in dict.fromkeys(job.data for job, _ in todo):
        result["data"][name] = trivial(name)
    with ThreadPoolExecutor(arguments.jobs) as workers:
        running = {workers.submit(measure, *what, arguments.threads, arguments.runs): what[0] for what in todo}
        for future in as_completed(running):
            job = running[future]
            if (error := future.exception()) is not None:  # the other rows do not suffer
                print(f"{' '.join(job.key.values())}: {error}", file=sys.stderr)
                continue
            put(result, job, future.result())
            write_json(arguments.json, result)
            print(f"{' '.join(job.key.values())}: {told(future.result())}", flush=True)


def told(row: dict[str, Any]) -> str:
    """Return what a row came to, in words."""
    return f"{row['bits_per_dim']:.3f} ± {row['bits_per_dim_se']:.3f} bits/dim, {row['steps']:,} steps"


def main() -> None:
    """Measure, or write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="MODEL", choices=sorted(ARGUMENTS["digits"]))
    parser.add_argument("--data", nargs="+", default=list(ARGUMENTS), choices=list(ARGUMENTS))
    parser.add_argument("--part", nargs="+", default=list(PART), choices=list(PART))
    parser.add_argument("--minutes", type=float, help="of each run; by default 3 on digits and 6 on photos")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where the run folders go")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="write docs/models.md from the JSON, and nothing else")
    arguments = parser.parse_args()
    if arguments.table:
        DOCUMENT.write_text(page(read_json(arguments.json)), "utf-8")
    else:
        run(arguments)


if __name__ == "__main__":
    main()
