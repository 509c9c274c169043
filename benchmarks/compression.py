"""How small files become: the test part of data by trained models, beside codecs for pictures and for anything.

    python benchmarks/compression.py RUN [RUN ...] [--limit N] [--examples N]     writes results/compression.json
    python benchmarks/compression.py --table                                      writes docs/compression.md

All of the test part is measured, or a seeded choice of it, as levels without names. Codecs for pictures get the same
pixels with the same number of levels, one file each, and all as one picture; JPEG XL where `pillow_jxl` is installed.
A run is measured once more, and takes its row's place, where the JSON has one of that name.
"""

import argparse
import bz2
import importlib.util
import io
import lzma
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import machine
from ancestral.checkpoint import read_json, write_json
from ancestral.codec import Entry, Reader, Writer
from ancestral.codec.payload import coder_of
from ancestral.data import Split
from ancestral.data.restore import Pictures
from ancestral.runs import Run, open_run
from compression_table import page
from latents import command_of

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCUMENT = ROOT / "results" / "compression.json", ROOT / "docs" / "compression.md"
ACROSS = 100  # pictures in a row of the one picture

PICTURE_CODECS: dict[str, dict[str, Any]] = {
    "PNG": {"format": "png", "optimize": True},
    "WebP": {"format": "webp", "lossless": True, "quality": 100, "method": 6},
}
if importlib.util.find_spec("pillow_jxl"):
    PICTURE_CODECS["JPEG XL"] = {"format": "jxl", "lossless": True, "effort": 9}
STREAM_CODECS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    "bzip2": lambda data: bz2.compress(data, 9),
}


def chosen(run: Run, limit: int | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return levels (N, *shape) of the test part, and labels where the model is told them."""
    data = run.data()
    part, index = data.split("test"), data.limited("test", limit)
    if not isinstance(part, Split):
        raise SystemExit(f"{run.folder} is of recordings; this measures pictures and tables")
    labels = part.labels[index] if run.model.conditioner is not None and part.labels is not None else None
    return part.x[index].long(), labels


def coded(run: Run, x: torch.Tensor, labels: torch.Tensor | None, examples: int, portable: bool) -> dict[str, Any]:
    """Return what a file comes to, and how long coding, decoding and sampling as many examples take."""
    file, begun = io.BytesIO(), time.perf_counter()
    with Writer(file, run.model, portable=portable, examples=examples, verify=False) as writer:
        for i, example in enumerate(x):
            writer.add(Entry("", None if labels is None else int(labels[i]), tuple(example.shape)), example)
    encoded = time.perf_counter()
    file.seek(0)
    found = torch.stack([levels for _, levels in Reader(file, run.model)])
    decoded = time.perf_counter()
    assert torch.equal(found, x), "what was compressed comes back as something else"
    model = coder_of(run.model, portable)
    for rows in torch.arange(len(x)).split(examples):
        model.sample(len(rows), None if labels is None else labels[rows])
    sampled = time.perf_counter()
    parts, dims = writer.totals.to_json(), x.numel()
    overhead = (parts["framing"] + parts["header"]) / len(x)
    return {
        "bits_per_dim": 8 * parts["bytes"] / dims,
        "bits_per_dim_of_streams": 8 * (parts["streams"] + parts["given"]) / dims,
        "overhead_bytes_each": overhead,
        "parts": parts,
        "seconds": {"encode": encoded - begun, "decode": decoded - encoded, "sample": sampled - decoded},
        "examples_per_second": {"encode": len(x) / (encoded - begun), "decode": len(x) / (decoded - encoded)},
    }


@torch.no_grad()
def model_bits(run: Run, x: torch.Tensor, labels: torch.Tensor | None, batch: int = 256) -> float:
    """Return -log2 p of a value by the parallel pass, in the mean, or the ELBO's bound on it."""
    torch.manual_seed(0)
    nats = 0.0
    for rows in torch.arange(len(x)).split(batch):
        nats -= float(run.model.log_prob(x[rows], None if labels is None else labels[rows]).double().sum())
    return nats / x.numel() / math.log(2)


def pictures_of(run: Run, x: torch.Tensor) -> list[Image.Image]:
    """Return the pictures of levels; those of two levels have one bit."""
    restore = run.restore
    if not isinstance(restore, Pictures):
        return []
    levels = run.model.likelihood.levels
    if levels is not None and levels <= 2:
        return [Image.fromarray((each[0].numpy() * 255).astype(np.uint8)).convert("1") for each in x]
    if x.shape[1] == 1:
        return [Image.fromarray(each[0].numpy().astype(np.uint8)) for each in x]
    return [Image.fromarray(np.ascontiguousarray(each.numpy().astype(np.uint8).transpose(1, 2, 0))) for each in x]


def size_of(picture: Image.Image, options: dict[str, Any]) -> int:
    """Return the bytes of a picture as a file; as one of 8 bits where the format has no other, if that is smaller."""
    if options["format"] == "jxl":
        import pillow_jxl  # noqa: F401 (it makes the format known)
    sizes = []
    for mode in {picture.mode, "L" if picture.mode == "1" else picture.mode}:
        if mode == "1" and options["format"] != "png":
            continue
        file = io.BytesIO()
        picture.convert(mode).save(file, **options)
        sizes.append(file.tell())
    return min(sizes)


def one_picture(pictures: list[Image.Image]) -> Image.Image:
    """Return all pictures beside and below each other."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // ACROSS)
    whole = Image.new(pictures[0].mode, (ACROSS * width, rows * height))
    for i, picture in enumerate(pictures):
        whole.paste(picture, (i % ACROSS * width, i // ACROSS * height))
    return whole


def others(run: Run, x: torch.Tensor) -> dict[str, Any]:
    """Return bits a value of other codecs: one file for each example, and all of them together."""
    dims, pictures = x.numel(), pictures_of(run, x)
    found: dict[str, Any] = {"each": {}, "whole": {}}
    for name, options in PICTURE_CODECS.items() if pictures else ():
        found["each"][name] = 8 * sum(size_of(picture, options) for picture in pictures) / dims
        found["whole"][name] = 8 * size_of(one_picture(pictures), options) / dims
    bytes_ = x.numpy().astype(np.uint8)
    streams = [bytes_.tobytes()]
    if int(x.max()) < 2:
        streams.append(np.packbits(bytes_).tobytes())
    for name, codec in STREAM_CODECS.items():
        found["whole"][name] = 8 * min(len(codec(stream)) for stream in streams) / dims
    return found


def measure(folder: Path, limit: int | None, examples: int) -> dict[str, Any]:
    """Return what a run comes to."""
    run = open_run(folder, "cpu")
    x, labels = chosen(run, limit)
    portable, native = (coded(run, x, labels, examples, portable) for portable in (True, False))
    return {
        "run": folder.name,
        "model": run.name,
        "data": Path(run.config["data"]["source"]).name,
        "command": command_of(run),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "trained": {key: run.config["result"][key] for key in ("steps", "seconds")},
        "count": len(x),
        "shape": list(x.shape[1:]),
        "levels": run.model.likelihood.levels,
        "examples": examples,
        "exact": run.model.exact,
        "model_bits_per_dim": model_bits(run, x, labels),
        "portable": portable,
        "native": native,
        "others": others(run, x),
        "machine": machine.describe(),
    }


def main() -> None:
    """Measure runs, or write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--limit", type=int, help="examples of the test part; all by default")
    parser.add_argument("--examples", type=int, default=64, help="of a chunk")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="write the document, and do nothing else")
    arguments = parser.parse_args()
    if arguments.table:
        DOCUMENT.write_text(page(read_json(arguments.json)), "utf-8")
        return
    torch.set_num_threads(arguments.threads)
    rows = {row["run"]: row for row in (read_json(arguments.json)["rows"] if arguments.json.exists() else [])}
    for folder in arguments.runs:
        rows[folder.name] = row = measure(folder, arguments.limit, arguments.examples)
        write_json(arguments.json, {"benchmark": "compression", "rows": list(rows.values())})
        print(f"{folder.name}: {row['portable']['bits_per_dim']:.4f} bits/dim, {row['others']}", flush=True)


if __name__ == "__main__":
    main()
