"""`score`: how strange examples are, one by one, and how well a score tells them from others."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ancestral.cli.console import Answer, Rows, command_of, note, progress
from ancestral.cli.options import Device, Limit, Part, RunFolder, at_least_one

if TYPE_CHECKING:
    from ancestral.report.anomalies import Group, Judge

__all__ = ["add_to"]

STRANGEST = 5  # examples that are named
Background = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="A model of the same kind, trained on the same data with --mutate, for `ratio`."),
]
Maps = Annotated[
    Path | None, typer.Option(metavar="FILE.png", help="Of exact models of pictures: where the strangest are strange.")
]


def add_to(app: typer.Typer) -> None:
    """Add the command to an app."""
    command_of(app)(score)


def score(
    run: RunFolder,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders, sources of data.")],
    out: Annotated[Path, typer.Option(metavar="FILE.csv", help="A line for each example.")],
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="likelihood, ratio, complexity, typicality; again for more. By default what can be."
        ),
    ] = None,
    background: Background = None,
    against: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE", help="Anomalies, to say how well they are told from INPUT.")
    ] = None,
    maps: Maps = None,
    split: Part = "test",
    limit: Limit = None,
    samples: Annotated[int, at_least_one("Of models with latents: draws of the importance-weighted bound.")] = 1,
    device: Device = "auto",
) -> Answer:
    """Score how unlike the training data examples are; high is strange, in bits of a value.

    The likelihood alone is no detector of anomalies: simple pictures of something else can be likelier than what the
    model knows. `ratio` compares with a background model, `complexity` with lossless codecs, `typicality` with the
    run's own data. Labels are not looked at: a class-conditional model is averaged over its classes.
    """
    from ancestral.report.anomalies import check_maps, judge_of, judged, write_maps, write_scores
    from ancestral.runs import open_run

    if out.suffix.lower() != ".csv":
        raise ValueError(f"--out {out}: scores are written as .csv")
    opened = open_run(run, device)
    other = None if background is None else open_run(background, device)
    judge = judge_of(opened, other, method, samples)
    if maps is not None:
        check_maps(opened, maps)
    with progress() as bar:
        sources = [*((name, False) for name in inputs), *((name, True) for name in against or [])]
        groups = judged(judge, sources, split, limit, bar)
    write_scores(judge, groups, out)
    result, text = told(judge, groups)
    if maps is not None:
        result |= {"maps": write_maps(judge, groups, maps)}
        text += [f"maps: {maps}: {result['maps']}"]
    return Answer(result | {"written": str(out)}, [*text, f"written: {out}"])


def told(judge: "Judge", groups: Sequence["Group"]) -> tuple[dict[str, Any], list[str | Rows]]:
    """Return the answer: means of every score, the strangest examples, and AUROCs."""
    from ancestral.report.anomalies import areas, figures, strangest

    means, found = figures(judge, groups), areas(judge, groups)
    result: dict[str, Any] = {"run": str(judge.run.folder), "exact": judge.exact, "scores": means}
    result |= {"auroc": found, "positive": "anomalies (--against)"} if found else {}
    rows = [("source", "examples", *judge.scores)]
    rows += [(of["source"], f"{of['examples']:,}", *(f"{mean:.4f}" for mean in of["means"].values())) for of in means]
    text: list[str | Rows] = [
        f"mean scores, bits of a value{'' if judge.exact else ' (of bounds)'}; high is strange",
        rows,
    ]
    if found:
        head = ("score", "AUROC", "standard error")
        shown = [(name, f"{area['value']:.4f}", digits(area["se"])) for name, area in found.items()]
        text += [
            "",
            "AUROC, anomalies (--against) are the positive class; below 0.5 they look more normal:",
            [head, *shown],
        ]
    if not judge.exact:
        note("these are bounds (of latents, or of dequantized levels): -log2 p is at most what is written")
    named = strangest(judge, groups, STRANGEST)
    result |= {"strangest": [{"source": of, "example": name, "score": value} for of, name, value in named]}
    each = [f"{name if len(groups) == 1 else f'{of} {name}'} ({value:.3f})" for of, name, value in named]
    text += ["", f"strangest by {judge.by}: " + ", ".join(each)]
    return result, text


def digits(se: float | None) -> str:
    """Return a standard error, or nothing where there is none."""
    return "" if se is None else f"{se:.4f}"
