"""Samples and completions of a run, and the files that they are written to."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ancestral.data import Data, Restore, as_context
from ancestral.data.restore import Pictures, Table
from ancestral.files import replacing
from ancestral.report.known import picture_of
from ancestral.report.pictures import in_rows, save_png
from ancestral.runs import Run, listed

__all__ = [
    "check_out",
    "check_picture",
    "completed",
    "drawn",
    "in_turn",
    "labels_for",
    "originals",
    "save_draws",
    "varied",
]

AT_ONCE = 512  # examples
MAPPED = 2**16  # pixels at once, where each layer of a model adds a map
SHOWN = 8  # pictures that are completed by default
CHOSEN_FROM = 500  # examples

SUFFIXES: dict[type[Restore], tuple[str, ...]] = {Pictures: (".png",), Table: (".csv",)}
ARRAYS = (".npz", ".npy")


def check_out(path: Path, restore: Restore) -> None:
    """Raise ValueError unless samples can be written to that path: said before they are drawn."""
    suffixes = (*SUFFIXES.get(type(restore), ()), *ARRAYS)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"--out {path}: samples of this run can be written as {', '.join(suffixes)}")


def check_picture(path: Path, run: Run) -> None:
    """Raise ValueError unless completions of the run can be written to that path."""
    if not isinstance(run.restore, Pictures):
        raise ValueError(
            f"{run.folder} is no run of pictures; from Python, model.complete(x, known) completes any data"
        )
    if path.suffix.lower() != ".png":
        raise ValueError(f"--out {path}: completions are written as .png")


def labels_for(run: Run, n: int, context: str | None = None) -> Tensor | None:
    """Return the classes of n samples: the one that is named, else all in turn, sorted; None where there are none."""
    if context is not None:
        return torch.full((n,), run.label(context))
    names = run.classes
    return None if names is None else (torch.arange(n) % len(names)).sort().values


def drawn(
    run: Run,
    n: int,
    context: Tensor | None,
    temperature: float = 1.0,
    seed: int = 0,
    shape: tuple[int, ...] | None = None,
) -> Tensor:
    """Draw n samples (n, *shape), on the CPU; of the shape that the model was trained on by default."""
    generator, shape = torch.Generator().manual_seed(seed), shape or run.model.shape
    parts = []
    for index in torch.arange(n).split(at_once(context, shape)):
        given = None if context is None else context[index]
        parts.append(run.model.sample(len(index), given, shape=shape, temperature=temperature, generator=generator))
    return torch.cat(parts).cpu()


def at_once(context: Tensor | None, shape: tuple[int, ...]) -> int:
    """Return how many examples are drawn together: fewer where their context is a map."""
    return AT_ONCE if context is None or context.dim() < 4 else max(1, MAPPED // (shape[1] * shape[2]))


def save_draws(run: Run, x: Tensor, labels: Tensor | None, path: Path) -> None:
    """Write samples: a picture with a row for each class, or arrays x and x_label, which `--data` reads again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".png":
        rows = None if labels is None or len(labels.unique()) == 1 else labels.tolist()
        save_png(in_rows(run.pictures(x), rows), path)
    elif path.suffix.lower() == ".npz" and labels is not None:
        levels = run.model.likelihood.levels
        array = (x if levels is None else x.short() if levels <= 2**15 else x.int()).numpy()
        with replacing(path) as part, open(part, "wb") as file:
            np.savez_compressed(file, x=array, x_label=labels.numpy())
    else:
        run.restore.save(x, path)


def originals(run: Run, picture: Path | None = None, context: str | None = None) -> tuple[Tensor, Tensor | None]:
    """Return pictures to complete (B, C, H, W) and their context: a file, or some of the test part.

    Raises:
        ValueError: the model is conditional, and the class of the file is not said.
    """
    if picture is None:
        x, own = varied(run.data(), SHOWN)
        return x, run.told(own) if context is None else torch.full((len(x),), run.label(context))
    if context is None and run.classes is not None:
        raise ValueError(f"--input {picture}: name its class with --context: {listed(run.classes)}")
    label = None if context is None else torch.tensor([run.label(context)])
    x = picture_of(picture, run)
    return x, label if run.given is None else as_context(run.given_of(x), run.config["data"]["levels"])


def varied(data: Data, n: int) -> tuple[Tensor, Tensor | None]:
    """Return n examples of the test part and their context: of every class in turn, where there are labels.

    Raises:
        ValueError: the test part is empty.
    """
    labels = data.split("test").labels
    if not len(data.split("test")):
        raise ValueError(f"{data.name} has no test part to take pictures from: give one with --input IMAGE")
    if labels is None:
        return data.batch("test", data.limited("test", n))
    return data.batch("test", in_turn(data.limited("test", CHOSEN_FROM), labels)[:n])


def in_turn(order: Tensor, labels: Tensor) -> Tensor:
    """Return the same indices, of every label in turn: labels (N,) of everything that `order` is of."""
    mine = labels[order]
    earlier = (mine[:, None] == mine).tril(-1).sum(1)  # of the same label
    return order[(earlier * (mine.max() + 1) + mine).argsort()]


def completed(
    run: Run, x: Tensor, known: Tensor, context: Tensor | None, n: int, proposals: int = 1, seed: int = 0
) -> Tensor:
    """Draw n completions of each picture, (B, n, C, H, W) on the CPU.

    Args:
        run: whose model.
        x: (B, C, H, W).
        known: (H, W) bool.
        context: of the pictures.
        n: of each picture.
        proposals: how many each is chosen from.
        seed: of the draws.
    """
    generator, device = torch.Generator().manual_seed(seed), run.model.device
    rows = torch.arange(len(x)).repeat_interleave(n)
    parts = []
    for part in rows.split(max(1, at_once(context, tuple(x.shape[1:])) // proposals)):
        given = x[part].to(device)
        mask, of = known.to(device).expand_as(given), None if context is None else context[part].to(device)
        parts.append(run.model.complete(given, mask, of, proposals=proposals, generator=generator))
    return torch.cat(parts).unflatten(0, (len(x), n)).cpu()
