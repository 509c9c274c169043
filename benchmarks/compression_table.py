"""docs/compression.md, from results/compression.json."""

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]

HEAD = """# Compression: how small, how fast, and against what

<!-- written by `make tables` from results/compression.json: change nothing by hand -->

Bits for each value (of a pixel's channel, or a cell) of the test part. *Model* is -log2 p(x) by the parallel pass, of a
model with latents its negative ELBO; *streams* is what the entropy coder wrote, with what was stored beside it; *file*
is the whole `.anc`, header, labels and checksums included, without names. Every file was decoded again and compared.
"""

OTHERS = """## Beside other codecs

*One file each*: every example as a file of its own, headers included, by its smallest setting. *All together*: the
pictures side by side as one picture, or their values as one stream. A file of ours holds all of them in chunks, any of
which can be lost without the others.
"""

SPEED = """## How fast, and what portable files cost

Examples a second on {threads} thread(s). A portable file is coded in float64 by the parallel pass, and decodes on any
machine; a native one in the model's float32 by the walk, and only where the arithmetic is the same. *Decoding* is the
time to decode over the time to sample as many examples with the same arithmetic.
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
        shape, found = " x ".join(map(str, row["shape"])), row["portable"]
        lines.append(
            (
                f"`{row['run']}`",
                f"{row['count']:,} of {shape}, {row['levels']} levels",
                row["model"],
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
    head = ("data", "file", *(f"{name}, each; all" for name in names), "than the best each", "than the best of all")
    lines: list[tuple[Any, ...]] = []
    for row in rows:
        ours, each, whole = row["portable"]["bits_per_dim"], row["others"]["each"], row["others"]["whole"]
        pairs = [f"{each[n]:.3f}; {whole[n]:.3f}" if n in each else f"{whole[n]:.3f}" for n in names if n in whole]
        smaller = [f"{min(of.values()) / ours:.2f} x smaller" if of else "" for of in (each, whole)]
        lines.append((f"`{row['run']}`", f"**{ours:.3f}**", *pairs, *smaller))
    return table(head, lines)


def speed(rows: list[Row]) -> list[str]:
    """Return two lines for each run."""
    head = ("data", "arithmetic", "bits/dim of streams", "encoded/s", "decoded/s", "decoding over sampling")
    lines: list[tuple[Any, ...]] = []
    for row in rows:
        for name in ("portable", "native"):
            of = row[name]
            times, rates = of["seconds"], of["examples_per_second"]
            ratio = times["decode"] / times["sample"]
            figures = (f"{of['bits_per_dim_of_streams']:.4f}", f"{rates['encode']:.0f}", f"{rates['decode']:.0f}")
            lines.append((f"`{row['run']}`", name, *figures, f"{ratio:.2f}"))
    return table(head, lines)


def page(result: Row) -> str:
    """Return the document."""
    rows = result["rows"]
    of = rows[0]["machine"]
    parts = [HEAD, *sizes(rows), "", OTHERS, *others(rows), ""]
    parts += [SPEED.format(threads=of["threads"]), *speed(rows), "", "## How they were made", "", "```sh"]
    parts += [*(row["command"] for row in rows), "```", ""]
    parts += [f"{of['cpu']}, {of['cores']} cores; torch {of['torch']}; {of['date']}. `python benchmarks/compression.py"]
    parts[-1] += " RUN ...` measures, `make tables` writes this."
    return "\n".join(parts) + "\n"
