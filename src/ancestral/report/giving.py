"""Samples of a run whose model is given a picture: beside what it was given, and the original where that is known."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ancestral.data import Data, as_context
from ancestral.data.restore import Arrays, Pictures
from ancestral.files import replacing
from ancestral.report.draws import drawn
from ancestral.report.known import levels_of
from ancestral.report.pictures import beside, save_png, tiles
from ancestral.runs import Run

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Giving", "check_giving", "from_files", "from_test", "given_samples", "page_of", "save_given"]

SHOWN = 8  # test pictures


class Giving(NamedTuple):
    """What samples are given.

    Attributes:
        pictures: the pictures that are given, levels (N, c, h, w).
        originals: what each was made of, levels (C, H, W), None where it is not known.
        shape: (C, H, W) of a sample.
        of: which picture each sample is given, (n,), ascending.
    """

    pictures: Tensor
    originals: Sequence[Tensor | None]
    shape: tuple[int, ...]
    of: Tensor

    def context(self, levels: int) -> Tensor:
        """Return the context of every sample, (n, c, h, w)."""
        return as_context(self.pictures, levels)[self.of]


def check_giving(run: Run, files: Sequence[Path], context: str | None) -> None:
    """Raise ValueError where the model is given no picture but files are named, or a picture but a class is."""
    if run.given is None and files:
        raise ValueError(f"--input {files[0]}: the model of {run.folder} is given no picture; leave it out")
    if run.given is not None and context is not None:
        raise ValueError(f"--context {context}: the model of {run.folder} is given {run.given.words}; leave it out")


def in_turn(n: int, pictures: int) -> Tensor:
    """Return which picture each of n samples is given: all in turn, sorted."""
    return (torch.arange(n) % pictures).sort().values


def from_test(run: Run, data: Data, n: int, seed: int = 0) -> Giving:
    """Return a choice of the test part, for n samples.

    Raises:
        ValueError: the test part is empty.
    """
    assert run.given is not None
    if not len(data.split("test")):
        raise ValueError(f"{data.name} has no test part to take pictures from: give some with --input IMAGE")
    x, _ = data.batch("test", data.limited("test", min(n, SHOWN), seed))
    return Giving(run.given_of(x), list(x), tuple(x.shape[1:]), in_turn(n, len(x)))


def from_files(run: Run, files: Sequence[Path], n: int) -> Giving:
    """Return picture files of any one size, for n samples: what is given, or what it is made of.

    What is given to a run of grey pictures is grey already, or made grey. To a run of small pictures a picture with
    fewer rows and columns than those of the training is small already; any other is made small.

    Raises:
        ValueError: the files do not go together, or with the run, or are more than n.
        OSError: one cannot be read.
    """
    if n < len(files):
        raise ValueError(f"-n {n}: there are {len(files)} pictures, give at least as many")
    assert run.given is not None
    found = [levels_of(path, run) for path in files]
    height, width = found[0].shape[2:]
    for path, x in zip(files, found, strict=True):
        if x.shape[2:] != (height, width):
            own, first = f"{x.shape[3]}x{x.shape[2]} pixels", f"{files[0]} is {width}x{height}"
            raise ValueError(f"--input {path}: it is {own}, {first}; sample pictures of one size at a time")
    parts = [given_by(run, x, path) for x, path in zip(found, files, strict=True)]
    pictures, originals = torch.cat([picture for picture, _ in parts]), [original for _, original in parts]
    factor = run.given.factor if pictures.shape[2:] == (height, width) else 1
    shape = (run.model.shape[0], height * factor, width * factor)
    return Giving(pictures, originals, shape, in_turn(n, len(files)))


def given_by(run: Run, x: Tensor, path: Path) -> tuple[Tensor, Tensor | None]:
    """Return what a file's picture x (1, 1 or 3, H, W) gives, (1, c, h, w), and the original (C, H, W) if it is one."""
    assert run.given is not None
    colours, height, width = run.model.shape
    channels = run.given.channels(colours)
    if x.shape[1] > channels and bool((x == x[:, :1]).all()):
        x = x[:, :1]  # RGB files hold grey pictures, too
    if x.shape[1] > colours:
        raise ValueError(f"--input {path} is in colour, the run is of grey pictures: convert it first")
    small = x.shape[2] < height and x.shape[3] < width
    if small if run.given.factor > 1 else x.shape[1] == channels:
        return x.expand(1, channels, *x.shape[2:]), None
    x = x.expand(1, colours, *x.shape[2:])
    return run.given_of(x), x[0]


def given_samples(run: Run, giving: Giving, temperature: float = 1.0, seed: int = 0) -> Tensor:
    """Draw the samples (n, C, H, W), on the CPU."""
    context = giving.context(run.config["data"]["levels"])
    return drawn(run, len(context), context, temperature, seed, giving.shape)


def page_of(run: Run, giving: Giving, x: Tensor) -> "Image.Image":
    """Return a row for each picture: what was given, the samples, and the original where it is known."""
    assert run.given is not None
    restore, factor, (height, width) = Pictures(run.config["data"]["levels"]), run.given.factor, giving.shape[1:]
    whole = giving.pictures.repeat_interleave(factor, 2).repeat_interleave(factor, 3)[:, :, :height, :width]
    samples = [run.pictures(x[giving.of == i]) for i in range(len(whole))]
    blocks = [tiles([[picture] for picture in restore(whole)]), tiles(samples)]
    if any(original is not None for original in giving.originals):
        originals = [None if x is None else run.pictures(x[None])[0] for x in giving.originals]
        blocks.append(tiles([[picture] for picture in originals]))
    return beside(blocks)


def save_given(run: Run, giving: Giving, x: Tensor, path: Path) -> None:
    """Write samples: a picture with a row for each that was given, or arrays x and context, as the model takes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".png":
        save_png(page_of(run, giving, x), path)
    elif path.suffix.lower() == ".npz":
        levels = run.config["data"]["levels"]
        with replacing(path) as part, open(part, "wb") as file:
            np.savez_compressed(file, x=Arrays(levels)(x), context=giving.context(levels).numpy())
    else:
        run.restore.save(x, path)
