"""A batch as the words of an entropy coder, and back: a range coder for models whose log p is exact."""

from typing import Any, NamedTuple

import constriction
import numpy as np
import torch
from torch import Tensor

from ancestral.codec.stream import Decode, Encode, Levels, Symbols, arranged, reader, written
from ancestral.model import Model
from ancestral.walk import drive

__all__ = ["Coded", "decode", "encode"]

VALUES = 2**24  # numbers of tables that a parallel pass may hold at once


class Coded(NamedTuple):
    """A batch, coded.

    Attributes:
        words: of the coder, uint32.
        given: values that are stored as they are: ascending indices into x.flatten(), and what is there, (2, N) int64.
    """

    words: np.ndarray[Any, np.dtype[np.uint32]]
    given: Tensor


@torch.no_grad()
def encode(model: Model, x: Tensor, context: Tensor | None = None, known: Tensor | None = None) -> Coded:
    """Code a batch of levels, by the parallel pass where the arithmetic is float64, else by the walk.

    Args:
        model: in evaluation mode.
        x: (B, *shape) int64.
        context: as the model was built for.
        known: bool, like x: the values that the decoder is told, none by default.
    """
    symbols = parallel_symbols(model, x, context) if model.dtype == torch.float64 else walked(model, x, context)
    given = symbols.given()
    if known is not None:
        told = known.flatten().nonzero().squeeze(1)
        given, symbols = given[~torch.isin(given, told)], symbols.but(told)
    coder = constriction.stream.queue.RangeEncoder()
    written(symbols.but(given), coder.encode)
    return Coded(coder.get_compressed(), torch.stack([given, x.flatten()[given]]).cpu())


def parallel_symbols(model: Model, x: Tensor, context: Tensor | None) -> Symbols:
    """Return the symbols of a batch, in the order of the walk."""
    grid, parts = Levels(levels_of(model)), []
    examples = max(1, VALUES // (x[0].numel() * grid.levels)) if grid.levels <= 4096 else len(x)
    for rows in torch.arange(len(x)).split(examples):
        source = Encode(x[rows], grid)
        drive(model.parallel(x[rows], None if context is None else context[rows]), source)
        offset = int(rows[0]) * x[0].numel()
        parts += [part._replace(index=part.index + offset) for part in source.parts]
    return arranged(parts, x, model.places(tuple(x.shape[1:])))


def walked(model: Model, x: Tensor, context: Tensor | None) -> Symbols:
    """Return the symbols of a batch by the walk of the decoder itself, whose arithmetic is that of its batch."""
    source = Encode(x, Levels(levels_of(model)))
    drive(model.walk(len(x), context, shape=tuple(x.shape[1:])), source)
    return source.symbols()


@torch.no_grad()
def decode(model: Model, coded: Coded, x: Tensor, context: Tensor | None = None, known: Tensor | None = None) -> Tensor:
    """Return the batch that was coded.

    Args:
        model: in evaluation mode.
        coded: what `encode` returned.
        x: (B, *shape) int64, with the values that are known; written in place.
        context: as it was then.
        known: as it was then.
    """
    told = torch.zeros_like(x, dtype=torch.bool) if known is None else known.clone()
    index, value = coded.given.to(x.device)
    told.view(-1)[index], x.view(-1)[index] = True, value
    source = Decode(reader(constriction.stream.queue.RangeDecoder(coded.words)), Levels(levels_of(model)), x, told)
    drive(model.walk(len(x), context, shape=tuple(x.shape[1:])), source)
    return x


def levels_of(model: Model) -> int:
    """Return K, or raise ValueError where the model is of continuous values."""
    levels = model.likelihood.levels
    if levels is None:
        raise ValueError(f"the model must be of levels to compress, its likelihood is continuous: {model.likelihood}")
    return levels
