"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

__all__ = [
    "Compile",
    "CompileSteps",
    "Context",
    "Device",
    "GivenName",
    "Limit",
    "LossName",
    "Mutate",
    "Part",
    "RunFolder",
    "Seconds",
    "Seed",
    "Settings",
    "Source",
    "at_least_one",
]

RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="Folder that `ancestral train` wrote, or one of `models --pretrained`.")
]
Source = Annotated[
    str | None, typer.Option("--data", metavar="SOURCE", help="One of `ancestral data`, a file, a folder.")
]
GivenName = Annotated[
    Literal["grey", "small", "mel"] | None,
    typer.Option("--given", help="What the model is given of each picture or recording, to add the rest."),
]
Mutate = Annotated[
    float | None, typer.Option(metavar="P", help="Of a background model for `score`: replace this share of levels.")
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a GPU where there is one.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of all random numbers.")]
Seconds = Annotated[
    float | None, typer.Option(metavar="S", min=0.0, help="Of recordings: how many seconds are made; 2 by default.")
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Of recordings: several times as fast, after about a minute of compiling.")
]
CompileSteps = Annotated[
    bool, typer.Option("--compile", help="Steps of training: faster after a minute or more, above all on a GPU.")
]
LossName = Annotated[
    str | None,
    typer.Option("--loss", metavar="LOSS", help="Of latents: 'elbo(warm_up=2000, free_bits=0.5)', 'iwae(k=5)'."),
]
Context = Annotated[str | None, typer.Option(metavar="LABEL", help="Name or number of a class.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="An argument of the model, again for more: layers=12, hidden=500,500, classes=null, "
        "likelihood='GaussianMixture(components=5)', posterior=MeanField. `ancestral models MODEL` lists them.",
    ),
]


def at_least_one(help: str) -> Any:
    """Return an option that takes a positive integer."""
    return typer.Option(metavar="N", min=1, help=help)


Part = Annotated[Literal["train", "valid", "test"], typer.Option(help="Which part of the data.")]
Limit = Annotated[int | None, at_least_one("So many examples, drawn with a fixed seed.")]
