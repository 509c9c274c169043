"""How small files become: the test part of data by trained models, beside codecs for pictures, sound and anything.

    python benchmarks/compression.py RUN [RUN ...] [--limit N] [--examples N]     writes results/compression.json
    python benchmarks/compression.py --others RUN [RUN ...]                       measures the other codecs again
    python benchmarks/compression.py --table                                      writes docs/compression.md

All of the test part is measured, or a seeded choice of it, as levels without names; of recordings all. Other codecs get
the same pixels with the same number of levels, or the same samples: one file each, and all as one; JPEG XL where
`pillow_jxl` is installed. A run is measured once more, and takes its row's place, where the JSON has one of that name.
"""

import argparse
import io
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import machine
from ancestral.checkpoint import read_json, write_json
from ancestral.codec import Entry, Reader, Totals, Writer
from ancestral.codec.payload import coder_of
from ancestral.data import Recordings
from ancestral.data.restore import Audio, Pictures
from ancestral.report.draws import varied
from ancestral.runs import Run, open_run
from compression_picture import strip
from compression_table import page
from latents import command_of
from other_codecs import of_arrays, of_pictures, of_sounds

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCUMENT = ROOT / "results" / "compression.json", ROOT / "docs" / "compression.md"
PICTURES, SHOWN = DOCUMENT.with_suffix(""), 8
BATCH = 64  # that is decoded and sampled


class Examples(NamedTuple):
    """What is compressed.

    Attributes:
        x: levels of each, (C, H, W), (C, T) or (D,).
        labels: a class of each, where the model is told them.
    """

    x: list[Tensor]
    labels: Tensor | None

    @property
    def values(self) -> int:
        """How many, of all of them."""
        return sum(x.numel() for x in self.x)

    def pieces(self, shape: tuple[int, ...]) -> list[Tensor]:
        """Return them as a model of that shape is asked about them: recordings in windows."""
        return [piece for x in self.x for piece in (x.split(shape[-1], -1) if x.dim() == 2 else [x])]


def chosen(run: Run, limit: int | None) -> Examples:
    """Return examples of the test part."""
    data = run.data()
    part = data.split("test")
    if isinstance(part, Recordings):
        return Examples([x.long() for x in part.x.split(part.lengths.tolist(), 1)], None)
    index = data.limited("test", limit)
    told = run.model.conditioner is not None and part.labels is not None
    return Examples(list(part.x[index].long()), part.labels[index] if told else None)


def coded(run: Run, found: Examples, examples: int, portable: bool) -> dict[str, Any]:
    """Return what a file comes to, and how long coding and decoding take."""
    begun = time.perf_counter()
    file, totals = packed(run, found, examples, portable)
    encoded = time.perf_counter()
    again = [levels for _, levels in Reader(file, run.model)]
    decoded = time.perf_counter()
    assert all(map(torch.equal, again, found.x)), "what was compressed comes back as something else"
    parts, values = totals.to_json(), found.values
    seconds = {"encode": encoded - begun, "decode": decoded - encoded}
    return {
        "bits_per_dim": 8 * parts["bytes"] / values,
        "bits_per_dim_of_streams": 8 * (parts["streams"] + parts["given"]) / values,
        "overhead_bytes_each": (parts["framing"] + parts["header"]) / len(found.x),
        "parts": parts,
        "seconds": seconds,
        "values_per_second": {way: values / seconds[way] for way in seconds},
        "decode_over_sample": decode_over_sample(run, found, portable),
    }


def packed(run: Run, found: Examples, examples: int, portable: bool) -> tuple[io.BytesIO, Totals]:
    """Return a file of examples, at its beginning, and what it is made of."""
    file = io.BytesIO()
    with Writer(file, run.model, portable=portable, examples=examples, verify=False) as writer:
        for i, x in enumerate(found.x):
            writer.add(Entry("", None if found.labels is None else int(found.labels[i]), tuple(x.shape)), x)
    file.seek(0)
    return file, writer.totals


def decode_over_sample(run: Run, found: Examples, portable: bool, batch: int = BATCH, repeats: int = 3) -> float:
    """Return the time to decode a batch over that to sample one with the same arithmetic, taken in turn."""
    labels = None if found.labels is None else found.labels[:batch]
    some = Examples(found.x[:batch], labels)
    file, _ = packed(run, some, batch, portable)
    reader, model, pieces = Reader(file, run.model), coder_of(run.model, portable), len(some.pieces(run.model.shape))
    start = file.tell()

    def decode() -> None:
        file.seek(start)
        assert len(list(reader)) == len(some.x)

    times = machine.interleaved({"decode": decode, "sample": lambda: model.sample(pieces, labels)}, repeats)
    return times["decode"] / times["sample"]


@torch.no_grad()
def model_bits(run: Run, found: Examples, batch: int = 256) -> float:
    """Return -log2 p of a value by the parallel pass, in the mean, or the ELBO's bound on it."""
    torch.manual_seed(0)
    pieces, nats = found.pieces(run.model.shape), 0.0
    if len({x.shape for x in pieces}) > 1:
        batch = 1
    for rows in torch.arange(len(pieces)).split(batch):
        x = torch.stack([pieces[i] for i in rows])
        nats -= float(run.model.log_prob(x, None if found.labels is None else found.labels[rows]).double().sum())
    return nats / found.values / math.log(2)


def pictures_of(run: Run, x: Tensor) -> list[Image.Image]:
    """Return the pictures of levels (N, C, H, W), pixels that are levels; those of two levels have one bit."""
    if run.model.likelihood.levels == 2:
        return [Image.fromarray((each[0].numpy() * 255).astype(np.uint8)).convert("1") for each in x]
    channels = x.numpy().astype(np.uint8)
    if x.shape[1] == 1:
        return [Image.fromarray(each[0]) for each in channels]
    return [Image.fromarray(np.ascontiguousarray(each.transpose(1, 2, 0))) for each in channels]


def others(run: Run, found: Examples) -> dict[str, dict[str, float]]:
    """Return bits a value of other codecs: one file for each example, and all of them together."""
    restore, each, whole = run.restore, {}, {}
    if isinstance(restore, Audio):
        each, whole = of_sounds([restore(x[None])[0, 0] for x in found.x], restore.rate)
    elif isinstance(restore, Pictures):
        each, whole = of_pictures(pictures_of(run, torch.stack(found.x)), found.values)
    together = torch.cat([x.flatten() for x in found.x]).numpy()
    return {"each": each, "whole": whole | of_arrays(together)}


def measure(folder: Path, limit: int | None, examples: int) -> dict[str, Any]:
    """Return what a run comes to."""
    run = open_run(folder, "cpu")
    found = chosen(run, limit)
    portable, native = (coded(run, found, examples, portable) for portable in (True, False))
    return {
        "run": folder.name,
        "model": run.name,
        "data": Path(run.config["data"]["source"]).name,
        "command": command_of(run),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "trained": {key: run.config["result"][key] for key in ("steps", "seconds")},
        "count": len(found.x),
        "values": found.values,
        "shape": list(run.model.shape),
        "levels": run.model.likelihood.levels,
        "examples": examples,
        "exact": run.model.exact,
        "model_bits_per_dim": model_bits(run, found),
        "portable": portable,
        "native": native,
        "others": others(run, found),
        "machine": machine.describe(),
    }


def draw(folder: Path, path: Path) -> None:
    """Write a picture of some test examples and of where their bits are, where a run is of pictures of exact bits."""
    run = open_run(folder, "cpu")
    if isinstance(run.restore, Pictures) and run.model.exact:
        x, context = varied(run.data(), SHOWN)
        with torch.no_grad():
            bits = -run.model.log_probs(x, run.told(context)).double().sum(1) / math.log(2)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(strip(pictures_of(run, x), bits.numpy()))


def main() -> None:
    """Measure runs, or write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--limit", type=int, help="examples of the test part; all by default")
    parser.add_argument("--examples", type=int, default=64, help="of a chunk")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--others", action="store_true", help="measure only other codecs, of runs that are there")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="folder for pictures of where the bits are")
    parser.add_argument("--table", action="store_true", help="write the document, and do nothing else")
    arguments = parser.parse_args()
    if arguments.table:
        DOCUMENT.write_text(page(read_json(arguments.json), PICTURES), "utf-8")
        return
    torch.set_num_threads(arguments.threads)
    rows = {row["run"]: row for row in (read_json(arguments.json)["rows"] if arguments.json.exists() else [])}
    for folder in arguments.runs:
        if arguments.others:
            run = open_run(folder, "cpu")
            row = rows[folder.name]
            row["others"] = others(run, chosen(run, row["count"]))
        else:
            row = measure(folder, arguments.limit, arguments.examples)
        rows[folder.name] = row
        draw(folder, arguments.pictures / f"{folder.name}.png")
        write_json(arguments.json, {"benchmark": "compression", "rows": list(rows.values())})
        print(f"{folder.name}: {row['portable']['bits_per_dim']:.4f} bits/dim, {row['others']}", flush=True)


if __name__ == "__main__":
    main()
