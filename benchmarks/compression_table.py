"""docs/compression.md, from results/compression.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

HEAD = """# Compression: how small, how fast, and against what

<!-- written by `make tables` from results/compression.json: change nothing by hand -->

Bits for each value (of a pixel's channel, or a cell) of the test part. *Model* is -log2 p(x) by the parallel pass, of a
model with latents its negative ELBO; *streams* is what the entropy coder wrote, with what was stored beside it; *file*
is the whole `.anc`, header, labels and checksums included, without names; *overhead* is the header, the markers and the
checksums, shared out. Every file was decoded again and compared. A recording is coded in windows of the model's length,
none of which sees the one before.
"""

OTHERS = """## Beside other codecs

*Each*: every example as a file of its own, headers included, by its smallest setting. *All*: the pictures side by side
as one picture, the recordings end to end, or their values as one stream. A file of ours holds all of them in chunks,
any of which can be lost without the others. Below 1, another codec is smaller.
"""

PICTURES = """## Where the bits are

Test pictures, what each of their pixels cost (bits, given the ones before), and the bytes of the picture by the model
(without its share of the file's overhead) and as a file of its own.
"""

SPEED = """## How fast, and what portable files cost

Thousands of values a second on {threads} thread(s). A portable file is coded in float64 by the parallel pass, and
decodes on any machine; a native one in the model's float32 by the walk, and only where the arithmetic is the same. The
last column is the time to decode a batch of 64 over the time to sample one with the same arithmetic, in turn. Of a
model with latents a batch is sampled by one short pass, and decoded group after group.
"""


def cells(*values: Any) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(map(str, values))} |"


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    """Return the lines of a table."""
    return [cells(*head), cells(*("---" for _ in head)), *(cells(*row) for row in rows)]


def sizes(rows: list[Row]) -> list[str]:
    """Return a line for each run."""
    head = ("data", "examples", "model", "model says", "streams", "file", "overhead, bytes each")
    lines: list[tuple[Any, ...]] = []
    for row in rows:
        found = row["portable"]
        shape = " x ".join(map(str, row["shape"])) if row["count"] > 1 else f"{row['values']:,}"
        trained = f"{row['model']}, {row['parameters']:,} parameters, {row['trained']['seconds'] / 60:.0f} minutes"
        lines.append(
            (
                f"`{row['run']}`",
                f"{row['count']:,} of {shape}, {row['levels']:,} levels",
                trained,
                ("" if row["exact"] else "at most ") + f"{row['model_bits_per_dim']:.4f}",
                f"{found['bits_per_dim_of_streams']:.4f}",
                f"**{found['bits_per_dim']:.4f}**",
                f"{found['overhead_bytes_each']:.2f}",
            )
        )
    return table(head, lines)


def others(rows: list[Row]) -> list[str]:
    """Return a line for each run, and how much smaller it is than the best other one."""
    names = list(dict.fromkeys(name for row in rows for name in (*row["others"]["each"], *row["others"]["whole"])))
    head = ("data", "file", *(f"{name}: each; all" for name in names), "best each / file", "best of all / file")
    lines: list[tuple[Any, ...]] = []
    for row in rows:
        ours, each, whole = row["portable"]["bits_per_dim"], row["others"]["each"], row["others"]["whole"]
        pairs = ["; ".join(f"{of[name]:.3f}" for of in (each, whole) if name in of) for name in names]
        ratios = [f"**{min(of.values()) / ours:.3f}**" if of else "" for of in (each, whole)]
        lines.append((f"`{row['run']}`", f"**{ours:.3f}**", *pairs, *ratios))
    return table(head, lines)


def speed(rows: list[Row]) -> list[str]:
    """Return two lines for each run."""
    head = ("data", "arithmetic", "bits/dim of streams", "encoded", "decoded", "decoding / sampling")
    lines: list[tuple[Any, ...]] = []
    for row in rows:
        for name in ("portable", "native"):
            of = row[name]
            rates = [f"{of['values_per_second'][way] / 1000:.1f}" for way in ("encode", "decode")]
            ratio = of["decode_over_sample"]
            lines.append((f"`{row['run']}`", name, f"{of['bits_per_dim_of_streams']:.4f}", *rates, f"{ratio:.2f}"))
    return table(head, lines)


def pictures(rows: list[Row], folder: Path) -> list[str]:
    """Return the pictures there are of runs."""
    shown = [row["run"] for row in rows if (folder / f"{row['run']}.png").exists()]
    return [line for run in shown for line in (f"`{run}`:", "", f"![{run}]({folder.name}/{run}.png)", "")]


def page(result: Row, folder: Path) -> str:
    """Return the document; pictures are in a folder beside it."""
    rows = result["rows"]
    of = rows[0]["machine"]
    parts = [HEAD, *sizes(rows), "", OTHERS, *others(rows), "", PICTURES, *pictures(rows, folder)]
    parts += [SPEED.format(threads=of["threads"]), *speed(rows), "", "## How they were made", "", "```sh"]
    parts += [*(row["command"] for row in rows), "```", ""]
    parts += [f"{of['cpu']}, {of['cores']} cores; torch {of['torch']}; {of['date']}. `python benchmarks/compression.py"]
    parts[-1] += " RUN ...` measures, `make tables` writes this."
    return "\n".join(parts) + "\n"
