"""`export`, and what `models --pretrained` lists: models as small folders with a card."""

from pathlib import Path
from typing import Annotated

import typer

from ancestral.cli.console import Answer, command_of, progress
from ancestral.cli.options import Device, RunFolder, Source

__all__ = ["add_to", "card_of", "installed"]


def add_to(app: typer.Typer) -> None:
    """Add the command to an app."""
    command_of(app)(export)


def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder, named as the model shall be.")],
    about: Annotated[str, typer.Option(metavar="TEXT", help="What the data is, and where it comes from.")],
    licence: Annotated[str, typer.Option(metavar="TEXT", help="Of the data.")],
    limits: Annotated[str, typer.Option(metavar="TEXT", help="What the model is not good for.")],
    data: Source = None,
    device: Device = "auto",
) -> Answer:
    """Write a run as a small folder to hand on: without what only training needs, with its evaluation and a card.

    Weights are stored in bfloat16 where that costs less than a tenth of the standard error; every command takes FOLDER.
    """
    from ancestral.report.export import Said, result_of
    from ancestral.report.export import export as exported_of
    from ancestral.runs import open_run

    opened = open_run(run, device)
    with progress() as bar:
        found = exported_of(opened, out, Said(about, licence, limits), data, bar)
    stored = "bfloat16" if found.rounded else "float32"
    line = f"{result_of(found.evaluation)}; weights in {stored} ({found.cost:+.5f} nats)"
    result = {"written": str(out), "bytes": found.bytes, "stored": stored, "cost": found.cost}
    return Answer(result | {"evaluation": found.evaluation}, [line, f"written: {out} ({found.bytes:,} bytes)"])


def installed() -> Answer:
    """Answer with the models that come with the library."""
    from ancestral.checkpoint import read_json
    from ancestral.pretrained import EVALUATION, PREFIX, folder_of, names
    from ancestral.report.export import result_of
    from ancestral.runs import run_config

    result, rows = {}, []
    for name in names():
        folder = folder_of(run := f"{PREFIX}{name}")
        config, evaluation = run_config(run), read_json(folder / EVALUATION)
        kind, data = config["model"]["class"], config["data"]["name"]
        size = sum(path.stat().st_size for path in folder.iterdir())
        result[name] = {"model": kind, "data": data, "result": result_of(evaluation), "bytes": size}
        rows.append((run, kind, data, result_of(evaluation), f"{size / 1e6:.1f} MB"))
    hint = "one of them: ancestral sample pretrained:NAME --out FILE; its card: ancestral models --pretrained NAME"
    return Answer(result, [[("RUN", "model", "data", "result, test part", "size"), *rows], "", hint])


def card_of(name: str) -> Answer:
    """Answer with the card of one of them."""
    from ancestral.pretrained import CARD, PREFIX, folder_of, name_of

    text = (folder_of(f"{PREFIX}{name_of(name)}") / CARD).read_text("utf-8")
    return Answer({"name": name_of(name), "card": text}, text.splitlines())
