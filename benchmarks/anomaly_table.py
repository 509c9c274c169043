"""docs/anomaly.md, from results/anomaly.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

HEAD = """# Anomalies: which scores tell data from other data

<!-- written by `make tables` from results/anomaly.json: change nothing by hand -->

Areas under the ROC curve of scores by trained models, between the test part of their own data and that of another
source. **The other source is the positive class, and a high score is strange**: 1 is always right, 0.5 is chance, and
near 0 the anomalies look *more normal* than the data itself. In brackets the standard error over examples (DeLong), of
one trained model each; published areas of one score differ between trainings by about 0.03.

The raw likelihood is no detector of anomalies: it is mostly about low-level statistics, so that simpler pictures of
something else are likelier than the data (1810.09136). *Ratio* is the likelihood ratio against a background model that
was trained on mutated data (1906.02845, `train --mutate`); *complexity* takes away what a lossless codec needs
(1909.11480), *best* the shortest of the others for each picture, headers not counted; *codec alone* is that length
and no model; *typicality* is the distance of the mean of N pictures from the mean of the validation data, in bits
(1906.02994). No score was chosen or tuned by the areas below.
"""

LEVELS = """## Bits of both sources

Bits for each value by the model and by the best codec. Where the second source has fewer bits by the model than the
first, the likelihood fails.
"""

PUBLISHED = """## Beside what was published

Areas in the same direction, from the papers; likelihood and ratio are by PixelCNN++:

| data, against | likelihood | ratio (1906.02845) | complexity (1909.11480) |
| --- | --- | --- | --- |
| Fashion-MNIST, MNIST | 0.089 | 0.994 | 0.967 (PixelCNN++), 0.998 (Glow) |
| CIFAR-10, SVHN | 0.095 | 0.930 | 0.929 (PixelCNN++), 0.950 (Glow) |
"""

MAPS = """## Where they are strange

Four pictures of each source; below them -log2 p of each pixel given the ones before, and where there is a background
model the difference of the two models, red where only the background expected the pixel.
"""


def cells(*values: Any) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(map(str, values))} |"


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    """Return the lines of a table."""
    return [cells(*head), cells(*("---" for _ in head)), *(cells(*row) for row in rows)]


def area(found: Mapping[str, float | None] | None) -> str:
    """Return an area and its standard error, or nothing."""
    if found is None:
        return ""
    return f"{found['value']:.3f}" + ("" if found["se"] is None else f" ({found['se']:.3f})")


def areas(rows: list[Row]) -> list[str]:
    """Return a line for each score, with a column for each row of the results."""
    names = list(dict.fromkeys(name for row in rows for name in row["auroc"]))
    lines: list[tuple[Any, ...]] = [(name, *(area(row["auroc"].get(name)) for row in rows)) for name in names]
    return table(("score", *(row["title"] for row in rows)), lines)


def levels(rows: list[Row]) -> list[str]:
    """Return the means of both sources, for each row of the results."""
    head = ("data, against", "examples", "model, own", "model, other", "codec, own", "codec, other")
    lines: list[tuple[Any, ...]] = []
    for row in rows:
        bound = "" if row["exact"] else "at most "
        model = [f"{bound}{of['mean']:.3f}" for of in row["bits_per_dim"]]
        codec = [f"{of['mean']:.3f}" for of in row["codec_bits_per_dim"]]
        lines.append((row["title"], " and ".join(f"{n:,}" for n in row["counts"]), *model, *codec))
    return table(head, lines)


def pictures(rows: list[Row], folder: Path) -> list[str]:
    """Return the maps there are."""
    names = {f"{row['run']}-{row['against']}.png": row["title"] for row in rows}
    shown = {name: title for name, title in names.items() if (folder / name).exists()}
    lines = [
        line for name, title in shown.items() for line in (f"{title}:", "", f"![{title}]({folder.name}/{name})", "")
    ]
    return [MAPS, *lines] if lines else []


def made(rows: list[Row]) -> list[str]:
    """Return how the models were made, each once."""
    words = {row["run"]: row for row in rows}
    lines = ["## How they were made", "", "```sh", *(row["command"] for row in words.values())]
    backgrounds = {row["background"]["run"]: row["background"]["command"] for row in rows if row["background"]}
    lines += [*backgrounds.values(), "```", ""]
    for name, row in words.items():
        minutes = row["trained"]["seconds"] / 60
        steps = f"{row['trained']['steps']:,} steps, {minutes:.0f} minutes"
        lines.append(f"* `{name}`: {row['model']}, {row['parameters']:,} parameters, {steps}, seed {row['seed']}.")
    return lines


def page(result: Row, folder: Path) -> str:
    """Return the document; pictures are in a folder beside it."""
    rows = result["rows"]
    of = rows[-1]["machine"]
    parts = [HEAD, *areas(rows), "", LEVELS, *levels(rows), "", PUBLISHED, *pictures(rows, folder), *made(rows), ""]
    parts += [f"{of['cpu']}, {of['cores']} cores; torch {of['torch']}; {of['date']}. `python benchmarks/anomaly.py RUN"]
    parts[-1] += " --against SOURCE` measures, `make tables` writes this."
    return "\n".join(parts) + "\n"
