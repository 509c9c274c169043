"""What is written to an entropy coder and read from it: the values of x, and of latents with bits back.

Encoder and decoder visit factors in the same order, that of the walk. A *symbol* is a value of one example, or one
digit of it (see `counts`); the symbols of a factor follow one another example by example, first the highest digits of
all. A value whose intervals are not `sure` is *given*: it is stored beside the stream, neither coded nor decoded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ancestral.codec.counts import Read, decoded, intervals, triples
from ancestral.distributions import GAUSSIAN, ContinuousMixture, Distribution, Gaussian, Independent
from ancestral.walk import Factor, distribution

__all__ = [
    "Cells",
    "Damaged",
    "Decode",
    "Encode",
    "Levels",
    "Symbols",
    "arranged",
    "joined",
    "reader",
    "written",
]

FAMILY = constriction.stream.model.Categorical(perfect=False)
CELLS = 2**14  # of a latent: with 16 high digits, few of them are drawn for no more than their one count of 2^23


class Damaged(ValueError):  # noqa: N818 (it says what the data is)
    """What was read is not what was written."""


class Symbols(NamedTuple):
    """Symbols in the order of the decoder, each (N,).

    Attributes:
        low: where the interval begins.
        high: where it ends.
        sure: whether the decoder finds the same.
        index: which value of the batch it is of, as in x.flatten().
    """

    low: Tensor
    high: Tensor
    sure: Tensor
    index: Tensor  # type: ignore[assignment]  # not the method of a tuple

    def given(self) -> Tensor:
        """Return the values that cannot be coded, as ascending indices."""
        return self.index[~self.sure].unique()

    def but(self, values: Tensor) -> "Symbols":
        """Return the symbols of all other values."""
        keep = ~torch.isin(self.index, values)
        return Symbols(*(part[keep] for part in self))


class Grid(Protocol):
    """What a variable is counted in: the integers from 0 to `levels` - 1, and what a walk takes for each."""

    @property
    def levels(self) -> int: ...

    def of(self, p: Distribution) -> Distribution:
        """Return the distribution of the integer, given that of the variable."""

    def value(self, v: Tensor) -> Tensor:
        """Return what the walk is sent for an integer."""


@dataclass(frozen=True)
class Levels:
    """Levels as they are."""

    levels: int

    def of(self, p: Distribution) -> Distribution:
        return p

    def value(self, v: Tensor) -> Tensor:
        return v


@dataclass(frozen=True)
class Cells:
    """A latent, cut into cells of equal width between -2^e and 2^e; the outer ones reach to infinity.

    Attributes:
        exponent: e.
    """

    exponent: int
    levels = CELLS

    @property
    def width(self) -> float:
        """Of a cell."""
        return 2.0 ** (self.exponent + 1) / self.levels

    def of(self, p: Distribution) -> Distribution:
        return Cut(flat_mixture(p) if isinstance(p, Gaussian) else p, self)

    def of_value(self, z: Tensor) -> Tensor:
        """Return the cells in which values lie."""
        return ((z.double() + 2.0**self.exponent) / self.width).floor().clamp(0, self.levels - 1).long()

    def value(self, v: Tensor) -> Tensor:
        return (v.double() + 0.5) * self.width - 2.0**self.exponent


class Cut(Distribution):
    """The distribution of the cell in which a continuous variable lies."""

    def __init__(self, base: Distribution, cells: Cells) -> None:
        self.base, self.cells = base, cells

    def log_prob(self, v: Tensor) -> Tensor:
        return (self.cdf(v) - self.cdf(v - 1)).log()

    def log_pmf(self) -> Tensor:
        raise ValueError("a cut latent has too many cells for a table; use cdf")

    def cdf(self, v: Tensor) -> Tensor:
        inside = self.base.cdf(self.cells.value(v.double() + 0.5))
        return torch.where(v < 0, 0, torch.where(v >= self.cells.levels - 1, 1, inside))

    def draw(self, u: Tensor) -> Tensor:
        raise ValueError("a cut latent is not drawn; its base is")


def flat_mixture(p: Gaussian) -> ContinuousMixture:
    """Return a Gaussian over maps as one of all its variables in a row, which takes several values of each."""
    mean, log_std = p.mean.flatten()[:, None], p.log_std.flatten()[:, None]
    return ContinuousMixture(GAUSSIAN, torch.zeros_like(mean), mean, log_std)


def single(p: Distribution) -> Distribution:
    """Return the distribution of all values of a factor in a row."""
    return p.base if isinstance(p, Independent) else p


class Encode:
    """A source of observed integers, which notes the symbols of each factor.

    Args:
        v: (B, *shape).
        grid: what they count.
    """

    def __init__(self, v: Tensor, grid: Grid) -> None:
        self.v, self.grid = v, grid
        self.index = torch.arange(v.numel(), device=v.device).view(v.shape)
        self.parts: list[Symbols] = []

    def __call__(self, factor: Factor) -> Tensor:
        self.note(distribution(factor), factor.at)
        return self.grid.value(self.v[:, *factor.at])

    def note(self, p: Distribution, at: tuple[Any, ...] = ()) -> None:
        """Note the symbols of the values at a place."""
        value, index = self.v[:, *at].flatten(), self.index[:, *at].flatten()
        for found in intervals(self.grid.of(single(p)), self.grid.levels, value):
            self.parts.append(Symbols(*found, index))

    def symbols(self) -> Symbols:
        """Return all that was noted."""
        return joined(self.parts)


def joined(parts: Sequence[Symbols]) -> Symbols:
    """Return symbols one after another."""
    return Symbols(*(torch.cat(each) for each in zip(*parts, strict=True)))


def arranged(parts: Sequence[Symbols], v: Tensor, places: Sequence[tuple[Any, ...]]) -> Symbols:
    """Return what was noted of factors of whole maps in the order of a walk that goes to these places.

    Args:
        parts: symbols of all values of v, part after part: if there are several digits, each after the one above.
        v: (B, *shape).
        places: of the walk over one example.
    """
    noted, size = joined(parts), v.numel()
    digits = len(noted.index) // size
    digit = torch.cat([torch.full_like(part.index, i % digits) for i, part in enumerate(parts)])
    where = torch.empty_like(noted.index)
    where[noted.index + digit * size] = torch.arange(len(where), device=where.device)
    index = torch.arange(size, device=v.device).view(v.shape)
    order = [index[:, *at].flatten() + digit * size for at in places for digit in range(digits)]
    return Symbols(*(part[where[torch.cat(order)]] for part in noted))


class Decode:
    """A source that reads values from a coder, but for those that are given.

    Args:
        read: gives the symbol of each table.
        grid: what is counted.
        v: (B, *shape), with the given values.
        given: which these are, bool like v.
    """

    def __init__(self, read: Read, grid: Grid, v: Tensor, given: Tensor) -> None:
        self.read, self.grid, self.v = read, grid, v
        self.read_here = ~given.cpu().numpy()

    def __call__(self, factor: Factor) -> Tensor:
        return self.grid.value(self.fill(distribution(factor), factor.at))

    def fill(self, p: Distribution, at: tuple[Any, ...] = ()) -> Tensor:
        """Read the values at a place, and return all that are there."""
        rows, here = self.read_here[:, *at].flatten(), self.v[:, *at]
        if rows.any():
            found = decoded(self.grid.of(single(p)), self.grid.levels, self.read, rows, self.v.device)
            value = torch.from_numpy(found).to(self.v.device)
            if not rows.all():
                value = here.flatten().masked_scatter(torch.from_numpy(rows).to(self.v.device), value)
            self.v[:, *at] = here = value.view(here.shape)
        return here


def reader(coder: Any) -> Read:
    """Return what reads symbols from a coder of constriction; Damaged where nothing was coded to its words."""

    def read(tables: NDArray[Any]) -> NDArray[Any]:
        try:
            found = coder.decode(FAMILY, tables)
        except AssertionError as error:  # constriction's way to say it
            raise Damaged("its stream cannot be decoded") from error
        return (np.asarray(found, np.int64) - 1).clip(0, tables.shape[1] - 3)

    return read


def written(symbols: Symbols, write: Callable[[Any, Any, Any], None]) -> None:
    """Hand symbols to a coder's `encode` or, a part after the other from the last on, to `encode_reverse`."""
    table = triples(symbols.low, symbols.high).cpu().numpy()
    write(np.ones(len(table), np.int32), FAMILY, table)
