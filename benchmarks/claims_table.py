"""docs/claims.md from results/*.json: what is said of these models, and what was found here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ancestral.report.words import plus_minus
from models_table import figure, table

Results = Mapping[str, Mapping[str, Any]]
Rows = tuple[Sequence[str], list[Sequence[str]]]

SOURCES = (
    "anomaly",
    "claims",
    "compression",
    "latents",
    "made-kin8nm",
    "made-power_plant",
    "models",
    "probe",
    "sampling",
)

HEAD = """# The field's claims, measured

<!-- written by `make tables` from results/*.json: change nothing by hand -->

What papers and talks say of these models, each beside what came out here: small networks, minutes on two cores of a
CPU. That cannot confirm or refute what a paper found with a thousand times the training; it says what to expect at this
scale, with numbers that anyone can measure again. Every number comes from a JSON in `results/`, named below its table.

Where two models are compared on the same test examples, *difference* is the mean of the differences of the examples,
with its standard error: two means can be within their errors of each other while one model is better on nearly every
example. Lower is better; a difference below 0 is in favour of the first."""


class Claim(NamedTuple):
    """One claim.

    Attributes:
        said: what is said, as a heading.
        by: who says it.
        found: what came out, in words.
        holds: whether the numbers say what `found` says: where they do not, the words have to be written anew.
        rows: its table.
        sources: the JSON files.
    """

    said: str
    by: str
    found: str
    holds: Callable[[Results], bool]
    rows: Callable[[Results], Rows]
    sources: tuple[str, ...]


def page(results: Results) -> str:
    """Return the document.

    Raises:
        ValueError: the words of a claim no longer fit its numbers.
    """
    parts = [HEAD]
    for claim in CLAIMS:
        if not claim.holds(results):
            raise ValueError(f"the numbers of {claim.said!r} no longer say what is written of them: write it anew")
        head, rows = claim.rows(results)
        files = " and ".join(f"`results/{name}.json`" for name in claim.sources)
        parts += [
            "",
            f"## {claim.said}",
            "",
            f"*{claim.by}*",
            "",
            claim.found,
            "",
            *table(head, rows),
            "",
            f"From {files}.",
        ]
    return "\n".join(parts) + "\n"


# --- what the tables are made of --------------------------------------------------------------------------------------


def model_row(results: Results, model: str, data: str) -> Mapping[str, Any]:
    """Return the row of a model in models.json."""
    return next(row for row in results["models"]["rows"] if (row["model"], row["data"]) == (model, data))


def paired(results: Results, data: str, *names: str) -> Mapping[str, Any]:
    """Return the row of two models in claims.json."""
    return next(row for row in results["claims"]["rows"] if row["data"] == data and row["names"] == list(names))


def clear(row: Mapping[str, Any]) -> int:
    """Return -1 where the first of two is better by two standard errors, 1 where the second is, 0 where neither is."""
    return 0 if abs(row["difference"]) < 2 * row["se"] else (1 if row["difference"] > 0 else -1)


def difference(row: Mapping[str, Any]) -> str:
    """Return a paired difference in words."""
    return f"{row['difference']:+.3f} ± {row['se']:.3f}"


def pairs_of(*pairs: tuple[str, str, str]) -> Callable[[Results], Rows]:
    """Return what makes a table of pairs of models on data, trained for the same time."""

    def rows(results: Results) -> Rows:
        head = ("data", "first", "bits/dim", "CPU seconds", "second", "bits/dim", "CPU seconds", "difference")
        return head, [tuple(cells(results, *pair)) for pair in pairs]

    return rows


def cells(results: Results, data: str, *names: str) -> Iterator[str]:
    """Yield the cells of two models."""
    yield data
    for name in names:
        row = model_row(results, name, data)
        yield from (f"`{name}`", figure({**row, "label_averaged": None}), f"{row['cpu_seconds']:.0f}")
    yield difference(paired(results, data, *names))


def signs(results: Results, *pairs: tuple[str, str, str]) -> list[int]:
    """Return which of each pair is better; see `clear`."""
    return [clear(paired(results, *pair)) for pair in pairs]


# --- the claims -------------------------------------------------------------------------------------------------------


def sampling_rows(results: Results) -> Rows:
    """Return what samples cost at batch 1 and at the largest batch."""
    rows, lines = results["sampling"]["rows"], []
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name and row["machine"]["threads"] == 2]
        one, many = min(own, key=lambda row: row["batch"]), max(own, key=lambda row: row["batch"])
        lines.append(
            (
                f"`{name}`",
                f"{one['passes_per_sampled_batch']:.1f}",
                f"{many['passes_per_sampled_batch']:.2f}",
                f"{many['sample_seconds']:.3g} s",
                f"{many['naive_seconds']:,.0f} s",
                f"{many['multiply_adds_walk_over_pass']:.2f}",
            )
        )
    batch = max(row["batch"] for row in rows)
    head = ("model", "passes, batch 1", f"passes, batch {batch}", f"walk, batch {batch}", "naive", "multiply-adds")
    return head, lines


def images_cost_a_pass(results: Results) -> bool:
    """Say whether a large batch of images costs one or two passes, a naive one hundreds, and a single one ten."""
    rows = [row for row in results["sampling"]["rows"] if row["model"] != "made" and row["machine"]["threads"] == 2]
    largest = max(row["batch"] for row in rows)
    many = [row for row in rows if row["batch"] == largest]
    one = [row for row in rows if row["batch"] == 1]
    return (
        all(row["passes_per_sampled_batch"] < 2 and row["naive_over_walk"] > 500 for row in many)
        and all(9 < row["passes_per_sampled_batch"] < 17 for row in one)
        and all(row["multiply_adds_walk_over_pass"] <= 1 for row in rows)
    )


def heads_rows(results: Results) -> Rows:
    """Return discretized against dequantized."""
    lines = []
    for data in ("digits", "photos"):
        one, other = (
            next(row for row in results["models"]["dequantized"] if (row["data"], row["head"]) == (data, head))
            for head in ("discretized", "dequantized")
        )
        own = paired(results, data, "gated-pixelcnn", "gated-pixelcnn, dequantized")
        plain = [figure({**row, "label_averaged": None}) for row in (one, other)]
        lines.append((data, plain[0], f"at most {plain[1]}", difference(own)))
    return ("data", "discretized", "dequantized", "difference"), lines


def continuous_rows(results: Results) -> Rows:
    """Return tables of real numbers under a MADE, and under a Gaussian."""
    lines = []
    for name in ("made-power_plant", "made-kin8nm"):
        found = results[name]["evaluation"]
        gaussian = found["baselines"]["gaussian"]["nats"]
        made = plus_minus(found["nats"], found["nats_se"], 2)
        lines.append((name.removeprefix("made-"), made, f"{gaussian:.2f}"))
    return ("data", "MADE, nats", "Gaussian, nats"), lines


def continuous_is_better(results: Results) -> bool:
    """Say whether a MADE says less than the Gaussian of each table, by far more than the error."""
    return all(float(made.split()[0]) + 0.5 < float(gaussian) for _, made, gaussian in continuous_rows(results)[1])


def probe_rows(results: Results) -> Rows:
    """Return what a linear probe reads from the pixels, and from the means of latents."""
    lines = []
    for run in results["probe"]["runs"]:
        accuracy = {(probe["features"], probe["labels"]): probe["accuracy"] for probe in run["probes"]}
        for labels in dict.fromkeys(probe["labels"] for probe in run["probes"]):
            read = (f"{100 * accuracy[features, labels]:.1f} %" for features in ("pixels", "encode(x)"))
            lines.append((run["data"].removesuffix(".npz"), f"{labels:,}", *read))
    return ("data", "labels", "pixels", "latents"), lines


def latents_help_somewhere(results: Results) -> bool:
    """Say whether latents are better than pixels with all labels of MNIST, and worse with those of the digits."""
    rows = {line[0]: line for line in probe_rows(results)[1]}  # the last of each data has all labels
    better = {data: float(line[3].split()[0]) > float(line[2].split()[0]) for data, line in rows.items()}
    return better == {"digits": False, "mnist_grey": True}


def anomaly_rows(results: Results) -> Rows:
    """Return areas under the curve of the likelihood, and of the likelihood less a codec's."""
    lines = [
        (row["title"], *(f"{row['auroc'][key]['value']:.3f}" for key in ("likelihood", "complexity, best")))
        for row in results["anomaly"]["rows"]
    ]
    return ("data, against", "likelihood", "complexity"), lines


def likelihood_fails(results: Results) -> bool:
    """Say whether simpler data is likelier in some pair, and the codec's length repairs it in each."""
    areas = [row["auroc"] for row in results["anomaly"]["rows"]]
    return min(area["likelihood"]["value"] for area in areas) < 0.1 and all(
        area["complexity, best"]["value"] > 0.85 for area in areas
    )


def bounds_rows(results: Results) -> Rows:
    """Return the ELBO and the importance-weighted bound of hierarchical models."""
    lines = []
    for row in results["latents"]["rows"]:
        found = max(row["bounds"], key=lambda bound: bound["images"])
        cells = (plus_minus(found[key], found[f"{key}_se"], 2) for key in ("elbo", "nats"))
        lines.append((f"`{row['run']}`", *cells, f"{found['elbo'] - found['nats']:.2f}"))
    return ("run", "ELBO, nats", "500 draws, nats", "apart"), lines


def compression_rows(results: Results) -> Rows:
    """Return what models say of files, and what these take."""
    lines = []
    for row in results["compression"]["rows"]:
        streams, whole = (row["portable"][key] for key in ("bits_per_dim_of_streams", "bits_per_dim"))
        best = min(row["others"]["whole"].items(), key=lambda item: item[1])
        lines.append(
            (
                f"`{row['run']}`",
                f"{row['model_bits_per_dim']:.4f}",
                f"{streams:.4f}",
                f"{whole:.3f}",
                f"{best[1]:.3f} ({best[0]})",
            )
        )
    return ("data", "model", "streams", "whole file", "best other codec, all as one"), lines


def streams_are_likelihoods(results: Results) -> bool:
    """Say whether streams are within 0.1 % of exact models, and 2.5 % of bounds; and which codec is not beaten."""
    rows = results["compression"]["rows"]
    apart = [row["portable"]["bits_per_dim_of_streams"] / row["model_bits_per_dim"] - 1 for row in rows]
    lost = [row["run"] for row in rows if row["portable"]["bits_per_dim"] > min(row["others"]["whole"].values())]
    near = all(0 <= each < (0.0015 if row["exact"] else 0.025) for each, row in zip(apart, rows, strict=True))
    return near and lost == ["ljspeech", "cifar"]


RNN = [("digits", model, "pixelcnn") for model in ("row-lstm", "diagonal-bilstm")]
GATED = [("digits", "gated-pixelcnn", model) for model in ("pixelcnn", "row-lstm", "diagonal-bilstm")]
SNAIL = [(data, "pixelsnail", "pixelcnn++") for data in ("digits", "photos")]

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "Sampling from autoregressive models is slow",
        "Said wherever they are compared with flows, VAEs and diffusion.",
        "Sequential it is, slow it need not be. A walk that remembers computes each activation once, so that a batch "
        "of images takes the multiply-adds of one parallel pass, and at batch 64 at most 1.7 times its time; a "
        "sampler that runs the network anew for every pixel takes hundreds of times as long. What stays sequential is"
        " the number of steps: a single image takes 9 to 17 passes, because launching small operators is then what "
        "costs. A pass of MADE is two matrix products, so that its 784 steps are many passes, and still the naive "
        "sampler is far behind.",
        images_cost_a_pass,
        sampling_rows,
        ("sampling",),
    ),
    Claim(
        "PixelRNN is better than PixelCNN, but slower",
        "1601.06759, where the Diagonal BiLSTM has 3.00 bits/dim on CIFAR-10 and PixelCNN 3.14.",
        "Yes, even with equal *time* on the digits: the Diagonal BiLSTM is better than PixelCNN, though each of "
        "its steps takes longer; of the Row LSTM the difference is within two standard errors. Sampling costs all"
        " of them about one pass.",
        lambda results: signs(results, *RNN) == [0, -1],
        pairs_of(*RNN),
        ("models", "claims"),
    ),
    Claim(
        "Gated PixelCNN closes the gap to PixelRNN",
        "1606.05328: no blind spot and gates bring a convolutional network to the likelihood of the recurrent ones.",
        "Yes: with equal time it is better than PixelCNN and Row LSTM, and within two standard errors of the "
        "Diagonal BiLSTM, with less of it than that one had.",
        lambda results: signs(results, *GATED) == [-1, -1, 0],
        pairs_of(*GATED),
        ("models", "claims"),
    ),
    Claim(
        "Discretized likelihoods are better than dequantized ones",
        "1701.05517, against densities on levels with uniform noise.",
        "Yes: the same network with the same time says fewer bits with probabilities of levels than with a density, "
        "whose bits are a bound. With few levels, as of the digits, the gap is large.",
        lambda results: (
            [
                clear(paired(results, data, "gated-pixelcnn", "gated-pixelcnn, dequantized"))
                for data in ("digits", "photos")
            ]
            == [-1, -1]
        ),
        heads_rows,
        ("models", "claims"),
    ),
    Claim(
        "Attention helps",
        "1712.09763: 2.85 bits/dim on CIFAR-10 against 2.92 of PixelCNN++.",
        "With equal time PixelSNAIL is better than PixelCNN++ on the photographs; on the digits, of 64 pixels, which "
        "any of these networks sees whole, the difference is within two standard errors.",
        lambda results: signs(results, *SNAIL) == [0, -1],
        pairs_of(*SNAIL),
        ("models", "claims"),
    ),
    Claim(
        "These models are for discrete data",
        "Softmaxes of levels are what PixelRNN and WaveNet were built on.",
        "A likelihood is an argument, and continuous ones are as good: with mixtures of Gaussians a MADE says that "
        "tables of real numbers are likelier than a Gaussian with all covariances does, which is exact too.",
        continuous_is_better,
        continuous_rows,
        ("made-power_plant", "made-kin8nm"),
    ),
    Claim(
        "Autoregressive models give no representation",
        "Said in favour of latent variables.",
        "They have none by construction: there is nothing to encode into. The latents of a hierarchical VAE are one: "
        "a linear probe reads the digit of MNIST better from them than from the pixels, at every number of labels. On"
        " the 8x8 digits the pixels are the better features.",
        latents_help_somewhere,
        probe_rows,
        ("probe",),
    ),
    Claim(
        "A bound is not a likelihood",
        "1509.00519: the importance-weighted bound tightens the ELBO.",
        "So it is: 500 draws are worth four nats, more than what separates most models in the tables of papers. "
        "`evaluate` says *at most* of every bound, and a bound never shares a column with a likelihood.",
        lambda results: all(3 < float(line[3]) < 5 for line in bounds_rows(results)[1]),
        bounds_rows,
        ("latents",),
    ),
    Claim(
        "A likelihood is a compressor",
        "Shannon; for these models 1901.04866 and others.",
        "Streams take the bits that the model says, to 0.15 %, and to 2.5 % by bits back. Whole files are smaller "
        "than those of the best other codec on digits and MNIST; a large general codec that sees all pictures as one "
        "still wins on CIFAR-10 (our model saw 2,000 pictures), and FLAC on LJSpeech, by 0.3 %.",
        streams_are_likelihoods,
        compression_rows,
        ("compression",),
    ),
    Claim(
        "A likelihood tells data from other data",
        "Hoped for often, refuted by 1810.09136.",
        "No: what is simpler is likelier. Digits are likelier than clothes to a model of clothes, house numbers "
        "likelier than objects to a model of objects. Less the length of a lossless codec, the likelihood tells every"
        " pair apart.",
        likelihood_fails,
        anomaly_rows,
        ("anomaly",),
    ),
)
