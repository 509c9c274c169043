"""docs/models.md from results/models.json: two tables, and how they were measured."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def page(result: Mapping[str, Any]) -> str:
    """Return the document."""
    parts = [
        "# Every model on two data sets",
        "",
        "<!-- written by `make tables` from results/models.json: change neither by hand -->",
        "",
        "Bits per dimension of the test part, the lower the better, ± one standard error over its examples.",
        "",
        *models_table(result),
        "",
        "## Discretized against dequantized",
        "",
        "The same network, trained as long: with a mixture of logistics that is integrated over the bins of levels,",
        "and with the density of such a mixture on levels that uniform noise has made continuous (`--dequantize`).",
        "What the density says of the levels is an upper bound: at most so many bits.",
        "",
        *dequantized_table(result["dequantized"]),
        "",
        "## How it was measured",
        "",
        *measured(result),
    ]
    return "\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def figure(row: Row | None) -> str:
    """Return bits/dim with the standard error, and what is given nothing in brackets."""
    if row is None:
        return ""
    text = f"{row['bits_per_dim']:.3f}"
    if row.get("bits_per_dim_se") is not None:
        text += f" ± {row['bits_per_dim_se']:.3f}"
    averaged = row.get("label_averaged")
    return text if not averaged else f"{text} ({averaged['bits_per_dim']:.3f})"


def count(row: Row | None) -> str:
    """Return the number of parameters."""
    return "" if row is None else f"{row['parameters']:,}"


def settings(row: Row | None) -> str:
    """Return the arguments of a row as a user types them."""
    return "" if row is None or not row["settings"] else f"`{' '.join(row['settings'])}`"


def models_table(result: Mapping[str, Any]) -> list[str]:
    """Return the table of all models on both data sets, then what the data costs without a model."""
    of = {(row["model"], row["data"]): row for row in result["rows"]}
    head = [
        "model",
        "digits, given the label (given nothing)",
        "parameters",
        "photos",
        "parameters",
        "arguments on digits",
        "arguments on photos",
    ]
    rows = []
    for model in dict.fromkeys(row["model"] for row in result["rows"]):
        pair = [of.get((model, data)) for data in ("digits", "photos")]
        cells = [cell for row in pair for cell in (figure(row), count(row))]
        rows.append([f"`{model}`", *cells, *map(settings, pair)])
    return table(head, [*rows, *trivial(result["data"])])


def trivial(data: Mapping[str, Any]) -> list[list[str]]:
    """Return rows of what the data costs without a model."""
    found: dict[str, dict[str, str]] = {}
    for name, of in data.items():
        for what, numbers in {**of["baselines"], **of.get("codecs", {})}.items():
            found.setdefault(what, {})[name] = figure(numbers)
    return [[what, of.get("digits", ""), "", of.get("photos", ""), "", "", ""] for what, of in found.items()]


def dequantized_table(rows: Sequence[Row]) -> list[str]:
    """Return the table of both ways, network by network."""
    of = {(row["data"], row["model"], row["head"]): row for row in rows}
    head = ["data", "network", "parameters", "discretized", "dequantized, at most", "steps"]
    lines = []
    for data, model in dict.fromkeys((row["data"], row["model"]) for row in rows):
        pair = [of.get((data, model, head)) for head in ("discretized", "dequantized")]
        parameters, steps = (
            " / ".join(dict.fromkeys(f"{row[name]:,}" for row in pair if row)) for name in ("parameters", "steps")
        )
        lines.append([data, f"`{model}`", parameters, *map(figure, pair), steps])
    return table(head, lines)


def measured(result: Mapping[str, Any]) -> list[str]:
    """Return how: from the rows themselves."""
    rows = [*result["rows"], *result["dequantized"]]
    cpus, threads, dates = (sorted({str(row["machine"][of]) for row in rows}) for of in ("cpu", "threads", "date"))
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return [
        "`python benchmarks/models.py` trains and evaluates with the commands that a user types, each in a process;",
        "results/models.json holds each command, and the steps and the CPU time that it came to.",
        *(budget(name, of["examples"], rows) for name, of in result["data"].items()),
        f"CPU: {', '.join(cpus)}; threads of a run: {', '.join(threads)}; {days}.",
        "",
        "The histograms are counted on the train part. PNG and WebP are the files of the same test patches, each patch",
        "a file, headers included.",
    ]


def budget(data: str, examples: int, rows: Sequence[Row]) -> str:
    """Return what the runs on a data set were given, and how much of a CPU they got."""
    own = [row for row in rows if row["data"] == data]
    minutes = " or ".join(sorted({f"{row['minutes']:g}" for row in own}))
    busy = [row["cpu_seconds"] / 60 for row in own]
    used = f"{min(busy):.1f} to {max(busy):.1f} minutes of CPU time"
    return f"On `{data}` a run had {minutes} minutes ({used}); its best weights face all {examples} test examples."
