"""docs/audio.md, from results/audio.json."""

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]

HEAD = """# Sound: what a sample costs, and how likely recordings are

<!-- written by `make tables` from results/audio.json: change neither by hand -->
"""

SPEED = """## What a sample costs

Samples a second of WaveNet with untrained weights and a softmax over 256 mu-law levels, in total over the batch, and
what one sequence of the batch makes of real time (above 1 it is faster than it is played). *Eager* is
`model.stream(n)`; *compiled* is `model.stream(n, compiled=True)`, a block of 8 steps with its draws as one graph, after
the seconds that compiling took once. The *naive* sampler runs the parallel pass over the receptive field for every
sample. All three were timed in turn in one run. The limits are what this machine's matrix rate allows for the
multiply-adds of a step, and its memory rate if all weights were read from memory in every step (a cache may be
faster). At batch 1 a step is a chain of small operators, each of which waits for the one before.
"""

LIKELY = """## How likely recordings are

Bits a sample of the test recordings: all bits over all samples, every sample scored once with its real past, the first
ones included. The coders were given the very same levels; xz all recordings end to end, FLAC each as a file.
"""


def cells(*values: Any) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(map(str, values))} |"


def size_of(arguments: Mapping[str, Any]) -> str:
    """Return the arguments that say how large a network is."""
    names = ("layers", "channels", "cycle", "skip", "kernel_size")
    return ", ".join(f"{name}={arguments[name]}" for name in names if name in arguments)


def speed_table(rows: list[Row]) -> list[str]:
    """Return a line for each network and batch."""
    head = ("network", "batch", "eager", "compiled", "naive", "compiled / naive", "real time at 8 kHz, compiled")
    head += ("at 16 kHz", "limit: arithmetic", "memory", "compiling, s")
    lines = [cells(*head), cells(*("---" for _ in head))]
    for row in rows:
        rates, limits = row["samples_per_second"], row["limits"]
        lines.append(
            cells(
                f"{row['network']}: {size_of(row['arguments'])}, {row['parameters']:,} parameters",
                row["batch"],
                *(f"{rates[way]:,.0f}" for way in ("eager", "compiled", "naive")),
                f"{rates['compiled'] / rates['naive']:,.0f}",
                *(f"{row['real_time'][rate]['compiled']:.2f}" for rate in ("8000", "16000")),
                f"{limits['samples_per_second_by_arithmetic']:,.0f}",
                f"{limits['samples_per_second_by_memory']:,.0f}",
                f"{row['compile_seconds']:.0f}",
            )
        )
    return lines


def run_table(rows: list[Row]) -> list[str]:
    """Return a line for each trained run."""
    head = ("recordings", "levels", "given", "network", "bits/sample", "uniform", "histogram", "order-0 entropy", "xz")
    head += ("FLAC", "training")
    lines = [cells(*head), cells(*("---" for _ in head))]
    for row in rows:
        coded, trivial = row["coders"], row["baselines"]
        seconds = row["trained"]["seconds"]
        lines.append(
            cells(
                f"`{row['run']}`: {row['recordings']} ({row['samples'] / row['rate']:.0f} s at {row['rate']} Hz)",
                f"{row['levels']}{' mu-law' if row['mu_law'] else ''}",
                row["given"] or "nothing",
                f"{size_of(row['arguments'])}, {row['parameters']:,} parameters",
                f"**{row['bits_per_sample']:.3f}**" + error(row),
                *(f"{trivial[name]['bits_per_dim']:.2f}" for name in ("uniform", "global histogram")),
                f"{coded['order-0 entropy']:.2f}",
                f"{coded['xz -9e']:.2f}",
                f"{coded['FLAC']:.2f}" if "FLAC" in coded else "",
                f"{seconds / 60:.0f} minutes, {row['trained']['steps']:,} steps",
            )
        )
    return lines


def not_comparable(rows: list[Row]) -> list[str]:
    """Return what is to be said where mu-law codes stand beside lossless figures of 16 bits."""
    return [
        f"FLAC takes {row['originals']['FLAC']:.2f} bits a sample for the 16-bit originals of `{row['run']}`. That is "
        "not comparable with the figures of its codes: a code stands for many samples, and so drops "
        f"{row['originals']['dropped']:.1f} bits of each on average."
        for row in rows
        if "originals" in row
    ]


def error(row: Row) -> str:
    """Return the standard error over recordings, where there are several."""
    return "" if row["bits_per_sample_se"] is None else f" ± {row['bits_per_sample_se']:.3f}"


def page(result: Mapping[str, Any]) -> str:
    """Return the document."""
    of = [row["machine"] for row in [*result["speed"], *result["runs"]]]
    machines = {f"{m['cpu']}, {m['cores']} cores, {m['threads']} threads; torch {m['torch']}; {m['date']}" for m in of}
    parts = [HEAD]
    if result["speed"]:
        parts += [SPEED, *speed_table(result["speed"]), ""]
    if result["runs"]:
        parts += [LIKELY, *run_table(result["runs"]), "", *not_comparable(result["runs"]), ""]
        parts += ["```sh", *(row["command"] for row in result["runs"]), "```", ""]
    parts += [f"CPU: {machine}." for machine in sorted(machines)]
    parts += ["", "`python benchmarks/audio.py` measures, `make tables` writes this page."]
    return "\n".join(parts) + "\n"
