"""Probabilities as integer counts, which an entropy coder can be told exactly.

The coder divides [0, 2^24) among the levels of a factor. Level v of K gets the interval between the counts below it
and above it, which are those of the cdf F on a grid of 2^g points, with one count more for each level, so that none is
empty:

    edge(v) = round(F(v) (2^g - K)) + v + 1,    edge(-1) = 0,

times 2^(24 - g). Rounding hides that two machines, or the parallel pass and the walk, find F with other last bits, but
for the few edges that lie so near to the middle between two grid points that they might be rounded otherwise elsewhere.
An interval with such an edge is not `sure`: its value is written beside the coded stream. The other edges of a factor
may differ between encoder and decoder by one count, which changes nothing: the interval that holds what the decoder
reads is found by its own two edges.

A factor with more than `TABLE` levels is coded as two symbols: the high digit of the level, then the low one.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ancestral.distributions import Distribution

__all__ = ["MARGIN", "TOTAL", "Interval", "decoded", "intervals", "table", "triples"]

PRECISION = 24  # bits of a probability in constriction's coders
TOTAL = 1 << PRECISION
FINEST = PRECISION - 1  # g at most: the first level and the last lose one count each, see `triples`
TABLE = 4096  # levels that are one symbol
DIGIT = 256  # levels of the low digit where there are more
LOW_GRID = 20  # g of the low digit, whose edges are the less sure the less likely the high one is; that has the finest
MARGIN = 2.0**-43  # by which F may differ elsewhere; in float64 it differs by about 2^-50
# F within a high digit, as a share of its mass: other parameters change it as much as the mass, rounding does not
LOW_MARGIN, ROUNDING = 2.0**-39, 2.0**-48


class Interval(NamedTuple):
    """What of [0, TOTAL) belongs to a value, for N values.

    Attributes:
        low: where it begins, at least 1, (N,) int64.
        high: where it ends, at most TOTAL - 1.
        sure: whether it is the same wherever it is computed.
    """

    low: Tensor
    high: Tensor
    sure: Tensor


def grid_of(levels: int) -> int:
    """Return g: the finer the grid the less the rounding costs, and the more edges are not sure."""
    return min(FINEST, 19 + (levels - 1).bit_length())


def rounded(cdf: Tensor, levels: int, grid: int) -> Tensor:
    """Return F times the points of the grid that are shared by probability, plus 1/2: its floor is the nearest."""
    return cdf.double().clamp(0, 1) * ((1 << grid) - levels) + 0.5


def interval(
    below: Tensor, above: Tensor, v: Tensor, levels: int, grid: int, margin: float | Tensor = MARGIN
) -> Interval:
    """Return the interval of values v (N,), given F(v - 1) and F(v), each off by no more than the margin."""
    low, high = rounded(below, levels, grid), rounded(above, levels, grid)
    first, last = v == 0, v == levels - 1
    limit = margin * (1 << grid)
    sure = (near(low) > limit) | first
    sure &= (near(high) > limit) | last
    edges = torch.where(first, 0, low.floor()), torch.where(last, (1 << grid) - levels, high.floor())
    begin, end = (edge.nan_to_num(0).long() for edge in edges)
    shift = PRECISION - grid
    return Interval(((begin + v) << shift).clamp(min=1), ((end + v + 1) << shift).clamp(max=TOTAL - 1), sure)


def near(scaled: Tensor) -> Tensor:
    """Return how far it is to the next integer; NaN stays NaN, and is nowhere sure."""
    return (scaled - scaled.round()).abs()


def intervals(p: Distribution, levels: int, v: Tensor) -> list[Interval]:
    """Return the intervals of values v (N,) of a factor: of the level, or of its high digit and its low one."""
    v = v.long()
    if levels <= TABLE:
        below, above = ends(p, v - 1, v)
        return [interval(below, above, v, levels, grid_of(levels))]
    top, digits = v // DIGIT, -(-levels // DIGIT)
    begin, end = ends(p, top * DIGIT - 1, (top * DIGIT + DIGIT).clamp(max=levels) - 1)
    below, above = ends(p, v - 1, v)
    mass = end - begin
    margin = LOW_MARGIN + ROUNDING / mass
    low = interval((below - begin) / mass, (above - begin) / mass, v % DIGIT, DIGIT, LOW_GRID, margin)
    return [interval(begin, end, top, digits, FINEST), low]


def ends(p: Distribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return F at two levels of each example."""
    found = p.cdf(torch.stack([low, high], 1)).double()
    return found[:, 0], found[:, 1]


def decoded(p: Distribution, levels: int, read: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Return the levels (N,) of some examples of a factor.

    Args:
        p: its distribution, for a batch (B,).
        levels: K.
        read: gives the symbol of each table (N, K + 2), see `table`.
        rows: which examples to decode, bool (B,).
    """
    if levels <= TABLE:
        return read(table(cdf_at(p, torch.arange(levels, device=rows.device), rows), levels, grid_of(levels)))
    digits = -(-levels // DIGIT)
    digit = torch.arange(digits, device=rows.device)
    upper = cdf_at(p, (digit * DIGIT + DIGIT).clamp(max=levels) - 1, rows)
    top = read(table(upper, digits, FINEST))
    within = torch.zeros(len(rows), DIGIT, dtype=torch.long, device=rows.device)
    within[rows] = top[:, None] * DIGIT + torch.arange(DIGIT, device=rows.device)
    begin, end = F.pad(upper, (1, 0)).gather(1, torch.stack([top, top + 1], 1)).split(1, 1)
    fine = p.cdf(within.clamp(max=levels - 1)).double()[rows]
    return top * DIGIT + read(table((fine - begin) / (end - begin), DIGIT, LOW_GRID))


def cdf_at(p: Distribution, levels: Tensor, rows: Tensor) -> Tensor:
    """Return F at some levels (M,), of the examples asked for: (N, M)."""
    return p.cdf(levels.expand(len(rows), -1)).double()[rows]


def table(cdf: Tensor, levels: int, grid: int) -> Tensor:
    """Return what constriction is told of all levels, given F at each (N, K): (N, K + 2), see `triples`."""
    shared = rounded(cdf.cummax(1).values, levels, grid).floor().nan_to_num(0).long()
    shared[:, -1] = (1 << grid) - levels
    edges = (shared.cummax(1).values + torch.arange(1, levels + 1, device=cdf.device)) << (PRECISION - grid)
    edges[:, -1] = TOTAL - 1
    counts = F.pad(edges, (1, 0), value=1).diff(dim=1)
    return F.pad(counts - 1, (1, 1)).double()


def triples(low: Tensor, high: Tensor) -> Tensor:
    """Return what constriction is told to encode intervals (N,) by: what is below, within and above, (N, 3).

    Of each it is told the count less one: one count for every symbol is its own rule, and what is left adds up to an
    exact number, so that it neither scales nor rounds.
    """
    return torch.stack([low, high - low, TOTAL - high], 1).sub(1).double()
