"""What `ancestral train` says: what begins, and what came of it."""

import math
from dataclasses import asdict
from pathlib import Path

from ancestral.cli.console import Answer, note
from ancestral.cli.recipes import checksum_line, recipe_line
from ancestral.cli.settings import Start
from ancestral.recipes.recipe import Recipe
from ancestral.report.words import counted, data_line, model_line
from ancestral.training import Summary

__all__ = ["say_start", "trained"]


def say_start(start: Start, name: str | None, recipe: Recipe | None) -> None:
    """Say what is trained on what, and by which recipe."""
    note("\n       ".join([f"data   {data_line(start.data)}", *start.data.notes]))
    note(f"model  {model_line(start.name, start.model)}")
    if recipe is not None:
        note(f"recipe {recipe_line(str(name), recipe)}")
        if (line := checksum_line(recipe, start.data)) is not None:
            note(f"       {line}")


def trained(out: Path, start: Start, summary: Summary) -> Answer:
    """Answer with what training came to, and the command to type next."""
    line = f"{counted(summary.steps, 'step')} in {summary.seconds / 60:.1f} minutes; {validated(start, summary)}"
    lines = [f"{line}, with the weights of step {summary.best_step:,}"]
    levels, bits = start.model.likelihood.levels, summary.valid_bits_per_dim
    if levels is not None and bits is not None and bits > math.log2(levels):
        alike = f"that is worse than all levels alike ({math.log2(levels):.3f})"
        lines.append(f"{alike}: train for longer, or with a smaller --lr")
    then = f"ancestral train --out {out} --resume" if summary.interrupted else f"ancestral evaluate {out}"
    return Answer({"run": str(out), **asdict(summary)}, [*lines, f"next: {then}"])


def validated(start: Start, summary: Summary) -> str:
    """Return what validation came to, in words."""
    if summary.valid_nats is None:
        return "not validated yet" if len(start.data.split("valid")) else "there are no validation examples"
    if summary.valid_bits_per_dim is None:
        return f"validation: {summary.valid_nats:.3f} nats"
    unit = "bits/sample" if start.data.recordings else "bits/dim"
    return f"validation: {summary.valid_bits_per_dim:.{3 if summary.valid_bits_per_dim < 1000 else 0}f} {unit}"
