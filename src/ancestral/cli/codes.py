"""`encode`: what a model with latents makes of examples, as arrays."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ancestral.cli.console import Answer
from ancestral.data import Data
from ancestral.data.dataset import Split
from ancestral.evaluation import check_fit, per_example
from ancestral.files import replacing
from ancestral.models import MODELS
from ancestral.models.latent import LatentVariables
from ancestral.report.words import counted
from ancestral.runs import Run

__all__ = ["encoded"]

Codes = dict[str, NDArray[Any]]


def encoded(run: Run, out: Path, data: str | None, split: str, limit: int | None) -> Answer:
    """Write the codes of examples of the run's data, or of another source."""
    model = has_latents(run, out)
    source = run.data(data)
    codes = codes_of(model, source, split, limit)
    save_codes(codes, out)
    sizes, n = {name: list(array.shape[1:]) for name, array in codes.items()}, len(codes["z_1"])
    result = {"written": str(out), "source": source.name, "split": split, "n": n, "arrays": sizes}
    return Answer(
        result, [f"{', '.join(codes)} of {counted(n, 'example')} of the {split} part of {source.name}: {out}"]
    )


def has_latents(run: Run, out: Path) -> LatentVariables:
    """Return the model of a run whose codes go to that file.

    Raises:
        ValueError: it has no latents; the file is no .npz.
    """
    if not isinstance(run.model, LatentVariables):
        those = ", ".join(name for name, kind in MODELS.items() if issubclass(kind, LatentVariables))
        raise ValueError(f"{run.folder}: {run.name} has no latents to encode by; of the models {those} would do")
    if out.suffix.lower() != ".npz":
        raise ValueError(f"--out {out}: codes are written as .npz")
    return run.model


def codes_of(model: LatentVariables, data: Data, split: str, limit: int | None) -> Codes:
    """Return the posterior means z_1, z_2, ... of examples, each (N, *its shape), and their labels x_label if known.

    Raises:
        ValueError: the data does not fit the model, or has no such examples.
    """
    check_fit(model, data, split)
    index, shapes = data.limited(split, limit), model.network.shapes

    def of_batch(x: Tensor, context: Tensor | None, counted: Tensor | None = None) -> Tensor:
        return model.encode(x, context)

    columns = per_example(of_batch, model, data, split, index).float().split([int(np.prod(s)) for s in shapes], 1)
    codes = {f"z_{level}": z.unflatten(1, s).numpy() for level, z, s in zip(model.levels, columns, shapes, strict=True)}
    part = data.split(split)
    labels = part.labels if isinstance(part, Split) else None
    return codes if labels is None else {**codes, "x_label": labels[index].numpy()}


def save_codes(codes: Codes, out: Path) -> None:
    """Write arrays, whole or not at all."""
    arrays: dict[str, Any] = {**codes}
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as part, open(part, "wb") as file:
        np.savez_compressed(file, **arrays)
