"""docs/results.md from results/recipes.json: what recipes came to, beside what was reported."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ancestral.report.words import plus_minus
from models_table import table

Row = Mapping[str, Any]

HEAD = """# Recipes: what they come to, and what was reported

<!-- written by `make tables` from results/recipes.json: change neither by hand -->

The test part, the lower the better, ± one standard error over its examples, for each seed. *Difference* is the mean of
the seeds less the reported figure: below 0, ours is better. Settings and the weights that are kept were chosen by the
valid part. """

KINDS = {
    True: "All figures are exact: -log p(x), no bounds.",
    False: "*At most* marks bounds, the others are exact: -log p(x).",
}

FOOT = """`make results DATA=FOLDER` follows these recipes; `ancestral recipes NAME` says all that one holds, with the
checksum of its data. FOLDER has the file that each command names; results/recipes.json has what each run came to. With
the first seed:
"""

GPUS = "`make results-gpu DATA=FOLDER` follows those with `--device cuda`."


def page(result: Mapping[str, Any]) -> str:
    """Return the document."""
    rows = result["rows"]
    parts = [f"{HEAD}{KINDS[all(row['exact'] for row in rows)]}", ""]
    reported = [group for group in groups(rows) if not own(group[0])]
    alone = [group for group in groups(rows) if own(group[0])]
    parts += table(("recipe", "parameters", "seconds", "here", "reported", "difference", "by"), list(lines(reported)))
    if alone:
        head = ("recipe", "parameters", "seconds", "here")
        parts += ["", "Without a reported figure for this split of the data:", ""]
        parts += table(head, [line[:4] for line in lines(alone)])
    parts += ["", "## How they were made", "", FOOT, "```sh"]
    parts += [group[0]["command"] for group in groups(rows)]
    by_gpu = any(row["machine"].get("gpu") for row in rows)
    parts += ["```", "", *([GPUS, ""] if by_gpu else []), *(machine_line(machine) for machine in machines(rows))]
    return "\n".join(parts) + "\n"


def own(row: Row) -> bool:
    """Say whether what is expected of a recipe is what was measured here."""
    return row["reported"]["source"].startswith("results/")


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each recipe."""
    names = dict.fromkeys(row["recipe"] for row in rows)
    return [[row for row in rows if row["recipe"] == name] for name in names]


def key_of(row: Row) -> str:
    """Return the key of the figure in the unit of what was reported."""
    return "nats" if row["reported"]["unit"] == "nats" else "bits_per_dim"


def lines(found: Sequence[Sequence[Row]]) -> Iterator[tuple[str, ...]]:
    """Yield a line for each recipe."""
    for rows in found:
        row, key = rows[0], key_of(rows[0])
        value = statistics.fmean(each[key] for each in rows)
        figures = ", ".join(plus_minus(each[key], each[f"{key}_se"], 3) for each in rows)
        masks = "" if row["masks"] is None else f" ({row['masks']} masks)"
        yield (
            f"`{row['recipe']}`",
            f"{row['parameters']:,}",
            f"{statistics.fmean(each['seconds'] for each in rows):.0f}",
            f"{'' if row['exact'] else 'at most '}{figures} {row['reported']['unit']}{masks}",
            f"{row['reported']['value']:.2f}",
            f"{value - row['reported']['value']:+.2f}",
            row["reported"]["source"],
        )


def machines(rows: Sequence[Row]) -> list[Row]:
    """Return the machines that rows were measured on, each once: the days of one are the first and the last."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        machine = row["machine"]
        known = found.setdefault(f"{machine['cpu']} {machine.get('gpu')}", {**machine, "days": set()})
        known["days"].add(machine["date"])
    return list(found.values())


def machine_line(machine: Row) -> str:
    """Return a machine in a line."""
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)} of {machine['cores']} cores"
    days = " to ".join(sorted({min(machine["days"]), max(machine["days"])}))
    gpu = f"{machine['gpu']} beside " if machine.get("gpu") else ""
    return f"{gpu}{machine['cpu']}, {threads}; ancestral {machine['ancestral']}, torch {machine['torch']}; {days}."
