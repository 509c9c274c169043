"""docs/latents.md, from results/latents.json, results/probe.json and results/pixel_vae.json."""

from collections.abc import Mapping
from typing import Any

from pixel_vae import section

Row = Mapping[str, Any]

HEAD = """# Latents: bounds, levels, and what they are worth

<!-- written by `make tables` from results/latents.json, probe.json and pixel_vae.json: change none by hand -->

A model with latents bounds log p(x) from below, so that every figure here is *at most* so many nats. The ELBO is the
bound of one draw of the posterior; L_K that of K draws (1509.00519), which is never worse in the mean, and comes to
log p(x) as K grows. `evaluate RUN --samples K` computes it in the same memory whatever K is.

## Statically binarized MNIST

Nats of the test images of Larochelle & Murray 2011, all 10,000 for the ELBO and L_500, and 1,000 of them, drawn with a
fixed seed, for L_5000. ± is the standard error over images.
"""

LEVELS = """### What each level does

KL(q || p) of each level, in nats, is what it costs to say an image by it; a unit is *active* where the mean of its
posterior moves with the image, Cov_x(E_q[u|x]) > 0.01. z_1 is beside x.
"""

COMMANDS = """### How they were made

`DATA.npz` holds the arrays `train`, `valid` and `test` of zeros and ones, each (N, 28, 28). A run is one process on one
thread.
"""

PROBE = """## What a representation is worth

Accuracy of a logistic regression that tells the class of test examples from all pixels, or from `encode(x)`, the means
of all latents of a model that has seen no label. Its strength is chosen on the valid part; few labels are a seeded
choice of the training examples.
"""

PIXEL_VAE = """## Latents under an autoregressive decoder

`PixelVAE` on the 8x8 digits: a Gated PixelCNN that sees few pixels, by itself; told which pixel it is at (the fully
connected layers below the latents say that too); and under latents. Nats of the test digits; under latents at most so
many, by 100 draws. ± is the standard error over digits.
"""

CARRIED = """What the latents hold is what the decoder does not see: which digit it is, and how it leans.

![Test digits, draws with their z, draws with a z of each column, draws without latents](pixel_vae.png)

In a row of the first block z is that of the digit on the left, and the noise of the decoder varies. In the second block
every column has a z of its own and every row its noise: columns are alike, rows are not. Without latents the decoder
draws strokes that belong to no digit.
"""

SAMPLING = """### What a sample costs

A hierarchy is drawn level by level, each at once: its walk is the half of a parallel pass that goes down. The random
numbers of all pixels come to it, which is what a small network spends most of its time on.
"""

FEW = """On MNIST a linear probe reads more from the latents than from the pixels, with many labels and with few. On the
8x8 digits it does not: there are 64 pixels, and only 1,258 examples for the model to learn from.
"""


def cells(*values: Any) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(map(str, values))} |"


def plus_minus(value: float, se: float) -> str:
    """Return a mean with its standard error."""
    return f"{value:.2f} ± {se:.2f}"


def bounds_table(rows: list[Row]) -> list[str]:
    """Return a line for each run."""
    head = ("run", "posterior", "latents", "parameters", "ELBO", "L_500", "L_5000, of 1,000", "training")
    lines = [cells(*head), cells(*("---" for _ in head))]
    for row in rows:
        whole, some = row["bounds"]
        trained = row["trained"]
        lines.append(
            cells(
                f"`{row['run']}`",
                row["posterior"].removesuffix("()"),
                ", ".join(map(str, row["latents"])),
                f"{row['parameters']:,}",
                plus_minus(whole["elbo"], whole["elbo_se"]),
                f"**{plus_minus(whole['nats'], whole['nats_se'])}**",
                plus_minus(some["nats"], some["nats_se"]),
                f"{trained['epochs']:.0f} epochs, {trained['seconds'] / 60:.0f} minutes",
            )
        )
    return lines


def levels_table(rows: list[Row]) -> list[str]:
    """Return a line for each run, with a column for each level."""
    depth = max(len(row["levels"]) for row in rows)
    head = ("run", *(f"z_{level}" for level in range(1, depth + 1)), "all")
    lines = [cells(*head), cells(*("---" for _ in head))]
    for row in rows:
        found = [f"{level['kl']:.2f}, {level['active']} of {level['units']}" for level in row["levels"]]
        empty = [""] * (depth - len(found))
        lines.append(cells(f"`{row['run']}`", *found, *empty, f"{sum(level['kl'] for level in row['levels']):.2f}"))
    return lines


def cost_of_independence(rows: list[Row]) -> str:
    """Return what a posterior of independent levels costs, by the two runs that differ in nothing else."""
    by_name = {row["run"]: row["bounds"][0] for row in rows}
    chain, apart = by_name["bottom-up"], by_name["mean-field"]
    tight, loose = apart["nats"] - chain["nats"], apart["elbo"] - chain["elbo"]
    gaps = {name: of["elbo"] - of["nats"] for name, of in (("mean field", apart), ("bottom-up", chain))}
    return (
        "`bottom-up` and `mean-field` are the same network, trained the same way: the mean field's posterior has "
        f"levels that are independent given x. It comes to {loose:+.2f} nats in the ELBO and {tight:+.2f} in L_500 "
        "(positive is worse): the models themselves are about as good. Between ELBO and L_500, that is, in what the "
        "posterior gets wrong, lie "
        f"{gaps['mean field']:.2f} nats for the mean field and {gaps['bottom-up']:.2f} for the chain: "
        f"that independence costs {gaps['mean field'] - gaps['bottom-up']:.2f} nats of the bound."
    )


def sampling_table(rows: list[Row]) -> list[str]:
    """Return what a batch of samples costs, for each run."""
    head = ("run", "batch", "samples, ms", "one parallel pass, ms", "ratio")
    lines = [cells(*head), cells(*("---" for _ in head))]
    for row in rows:
        of = row["sampling"]
        times = (f"{1000 * of[name]:.1f}" for name in ("sample", "pass"))
        lines.append(cells(f"`{row['run']}`", of["batch"], *times, f"{of['ratio']:.2f}"))
    return lines


def probe_table(runs: list[Row]) -> list[str]:
    """Return a line for each data set and number of labels."""
    head = ("data", "labels", "pixels", "encode(x)", "the model's training")
    lines = [cells(*head), cells(*("---" for _ in head))]
    for run in runs:
        found = {(row["labels"], row["features"]): row for row in run["probes"]}
        for count in sorted({labels for labels, _ in found}):
            of = (found[count, name] for name in ("pixels", "encode(x)"))
            shares = (
                f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_se']:.1f} % of {row['numbers']}" for row in of
            )
            lines.append(cells(run["data"], f"{count:,}", *shares, f"{run['steps']:,} steps"))
    return lines


def page(latents: Row, probe: Row, pixel_vae: Row) -> str:
    """Return the document."""
    rows = latents["rows"]
    parts = [HEAD, *bounds_table(rows), "", cost_of_independence(rows), "", LEVELS, *levels_table(rows), ""]
    parts += [SAMPLING, *sampling_table(rows), "", COMMANDS, "```sh", *(row["command"] for row in rows), "```", ""]
    of = rows[0]["machine"]
    parts += [
        f"{of['cpu']}, {of['cores']} cores, {of['threads']} of them in use for the bounds; torch {of['torch']}.",
        "",
    ]
    parts += [PROBE, *probe_table(probe["runs"]), "", FEW]
    parts += ["```sh", *(run["command"] for run in probe["runs"]), "```", ""]
    parts += [PIXEL_VAE, section(pixel_vae), "", CARRIED]
    parts += [
        "`python benchmarks/latents.py RUN ...`, `probe.py` and `pixel_vae.py` measure, `make tables` writes this."
    ]
    return "\n".join(parts) + "\n"
