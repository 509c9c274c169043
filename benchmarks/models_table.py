"""docs/models.md from results/models.json: two tables, and how they were measured."""

import shlex
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
        "Sizes and heads are the defaults of `ancestral train MODEL --data SOURCE`, but for:",
        "",
        *arguments_list(result),
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


def typed(settings: Sequence[str]) -> list[str]:
    """Return settings as words of a command: options, which begin with --, then what follows --set.

    >>> typed(("layers=4", "--batch-size=16"))
    ['--batch-size=16', '--set', 'layers=4']
    """
    options = [word for word in settings if word.startswith("--")]
    given = [word for word in settings if not word.startswith("--")]
    return [*options, *(["--set", *given] if given else [])]


def settings(row: Row | None) -> str:
    """Return the arguments of a row as a user types them in a shell."""
    return "" if row is None or not row["settings"] else f"`{shlex.join(typed(row['settings']))}`"


def models_table(result: Mapping[str, Any]) -> list[str]:
    """Return the table of all models on both data sets, then what the data costs without a model."""
    of = {(row["model"], row["data"]): row for row in result["rows"]}
    head = ["model", "digits, given the label (given nothing)", "parameters", "photos", "parameters"]
    rows = []
    for model in dict.fromkeys(row["model"] for row in result["rows"]):
        pair = [of.get((model, data)) for data in ("digits", "photos")]
        rows.append([f"`{model}`", *(cell for row in pair for cell in (figure(row), count(row)))])
    return table(head, [*rows, *trivial(result["data"])])


def arguments_list(result: Mapping[str, Any]) -> list[str]:
    """Return a line for each row that did not have the default arguments."""
    return [f"* {row['data']}, `{row['model']}`: {settings(row)}" for row in result["rows"] if row["settings"]]


def trivial(data: Mapping[str, Any]) -> list[list[str]]:
    """Return rows of what the data costs without a model."""
    found: dict[str, dict[str, str]] = {}
    for name, of in data.items():
        for what, numbers in {**of["baselines"], **of.get("codecs", {})}.items():
            found.setdefault(what, {})[name] = figure(numbers)
    return [[what, of.get("digits", ""), "", of.get("photos", ""), ""] for what, of in found.items()]


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
    cpus, dates = (sorted({row["machine"][of] for row in rows}) for of in ("cpu", "date"))
    when = [f"CPU: {', '.join(cpus)}; {' to '.join(dict.fromkeys((dates[0], dates[-1])))}."] if rows else []
    return [
        "`python benchmarks/models.py` trains and evaluates with the commands that a user types, each in a process;",
        "results/models.json holds each command, and the steps and the CPU time that it came to.",
        "",
        "Budgets are equal in minutes of training, not in steps: a model whose steps cost more makes fewer of them.",
        *(budget(name, of["examples"], own) for name, of in result["data"].items() if (own := rows_of(name, rows))),
        *when,
        "",
        "The histograms are counted on the train part. PNG and WebP are the files of the same test patches, each patch",
        "a file, headers included.",
    ]


def rows_of(data: str, rows: Sequence[Row]) -> list[Row]:
    """Return the rows on a data set."""
    return [row for row in rows if row["data"] == data]


def budget(data: str, examples: int, rows: Sequence[Row]) -> str:
    """Return what the runs on a data set were given, how much of a CPU they got, and what they made of it."""
    minutes, threads = (
        " or ".join(f"{n:g}" for n in sorted({row[of] for row in rows})) for of in ("minutes", "threads")
    )
    busy = span([f"{row['cpu_seconds'] / 60:.1f}" for row in sorted(rows, key=lambda row: row["cpu_seconds"])])
    steps = span([f"{row['steps']:,}" for row in sorted(rows, key=lambda row: row["steps"])])
    had = f"{minutes} minutes by the clock on {threads} thread{'' if threads == '1' else 's'}"
    came = f"{busy} minutes of CPU time and {steps} steps"
    return f"On `{data}` a run had {had}, which came to {came}; its best weights face all {examples} test examples."


def span(words: Sequence[str]) -> str:
    """Return the first and the last, once where they are the same."""
    return " to ".join(dict.fromkeys((words[0], words[-1])))
