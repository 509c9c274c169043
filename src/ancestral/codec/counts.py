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

A factor with more than `TABLE` levels is coded as several symbols: the digits of the level, the highest first.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ancestral.distributions import Distribution

__all__ = ["MARGIN", "TOTAL", "Interval", "Read", "decoded", "digits_of", "intervals", "table", "triples"]

Array = NDArray[Any]
Read = Callable[[Array], Array]  # symbols (N,) by their tables (N, levels + 2)

PRECISION = 24  # bits of a probability in constriction's coders
TOTAL = 1 << PRECISION
FINEST = 22  # g at most
TABLE, BASE = 64, 32  # values of the highest digit, at most, and of the others: few points at which to ask for F
LOW_GRID = 18  # g of a low digit, whose edges are the less sure the less likely those above it are
# By which F may differ elsewhere. Measured in float64: 2^-50 of small models, 2^-44 of trained deep ones where their
# logistics are sharpest, just above 2^-41 of an untrained one of 65 536 levels with narrower ones than training finds.
MARGIN = 2.0**-40
# F within the digits above, as a share of their mass: other parameters change it as much as the mass, rounding does not
LOW_MARGIN, ROUNDING = 2.0**-38, 2.0**-46
TINY = (
    2.0**-24
)  # mass of the digits above below which all values of a low one count alike: nobody could say how they do


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
    return min(FINEST, 17 + (levels - 1).bit_length())


def rounded(cdf: Tensor, levels: int, grid: int) -> Tensor:
    """Return F times the points of the grid that are shared by probability, plus 1/2: its floor is the nearest."""
    return cdf.double().clamp(0, 1) * ((1 << grid) - levels) + 0.5


def interval(below: Tensor, above: Tensor, v: Tensor, levels: int, grid: int, margin: float | Tensor) -> Interval:
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


def digits_of(levels: int) -> list[tuple[int, int]]:
    """Return the digits of a level, the highest first: how many levels it counts by, and how many values it has."""
    span = 1
    while levels > TABLE * span:
        span *= BASE
    found = [(span, -(-levels // span))]
    while span > 1:
        span //= BASE
        found.append((span, BASE))
    return found


def intervals(p: Distribution, levels: int, v: Tensor) -> list[Interval]:
    """Return the intervals of values v (N,) of a factor: of each digit, the highest first."""
    v, digits = v.long(), digits_of(levels)
    lowest = [v - v % span for span, _ in digits]
    edges = [(first - 1, (first + span).clamp(max=levels) - 1) for first, (span, _) in zip(lowest, digits, strict=True)]
    cdf = p.cdf(torch.stack([edge for pair in edges for edge in pair], 1)).double()
    begin, end, *rest = cdf.unbind(1)
    (span, count), *lower = digits
    found = [interval(begin, end, v // span, count, grid_of(count), MARGIN)]
    for (span, count), below, above in zip(lower, rest[::2], rest[1::2], strict=True):
        mass, digit = end - begin, v // span % count
        flat = mass < TINY
        low = torch.where(flat, digit / count, (below - begin) / mass)
        high = torch.where(flat, (digit + 1) / count, (above - begin) / mass)
        of = interval(low, high, digit, count, LOW_GRID, torch.where(flat, 0, LOW_MARGIN + ROUNDING / mass))
        found.append(of._replace(sure=of.sure & ((mass - TINY).abs() > MARGIN)))
        begin, end = below, above
    return found


def decoded(p: Distribution, levels: int, read: Read, rows: NDArray[np.bool_], device: torch.device) -> Array:
    """Return the levels of some examples of a factor, (N,) int64.

    Args:
        p: its distribution, for a batch (B,).
        levels: K.
        read: gives the symbol of each table.
        rows: which examples to decode, (B,).
        device: of the distribution.
    """
    value, chosen = np.zeros(len(rows), np.int64), slice(None) if rows.all() else rows
    begin, mass, grid = np.zeros(1), np.ones(1), None
    for span, count in digits_of(levels):
        last = torch.arange(span - 1, span * count, span, device=device).expand(len(rows), -1)
        at = (last if grid is None else last + torch.from_numpy(value)[:, None].to(device)).clamp(max=levels - 1)
        cdf = p.cdf(at).double().cpu().numpy()[chosen]
        shares = cdf if grid is None else within(cdf, begin[:, None], mass[:, None])
        grid = grid_of(count) if grid is None else LOW_GRID
        symbol = read(table(shares, count, grid))
        value[chosen] += span * symbol
        if span > 1:
            each = np.arange(len(cdf))
            begin = np.where(symbol > 0, cdf[each, symbol - 1], begin)
            mass = cdf[each, symbol] - begin
    return np.minimum(value[chosen], levels - 1)


def within(cdf: Array, begin: Array, mass: Array) -> Array:
    """Return F at each value of a low digit (N, K) as a share of the mass (N, 1) of the digits above."""
    count = cdf.shape[1]
    with np.errstate(all="ignore"):  # there may be no mass
        return np.where(mass < TINY, np.arange(1, count + 1) / count, (cdf - begin) / mass)


def table(cdf: Array, levels: int, grid: int) -> Array:
    """Return what constriction is told of all levels, given F at each (N, K): (N, K + 2), see `triples`."""
    shared, unit = (1 << grid) - levels, 1 << (PRECISION - grid)
    edges = np.empty((levels + 1, len(cdf)))  # levels first: of two levels and many examples, a row is long
    np.multiply(cdf.T, shared, out=edges[1:])
    edges[0], edges[-1] = 0, shared
    np.floor(edges + 0.5, out=edges)
    np.fmin(edges, shared, out=edges)
    np.fmax.accumulate(edges, 0, out=edges)  # a NaN counts for nothing
    counts = np.zeros((levels + 2, len(cdf)))
    counts[1:-1] = (edges[1:] - edges[:-1]) * unit + (unit - 1)
    counts[1] -= 1  # one is below the first level, one above the last
    counts[-2] -= 1
    return np.ascontiguousarray(counts.T)


def triples(low: Tensor, high: Tensor) -> Tensor:
    """Return what constriction is told to encode intervals (N,) by: what is below, within and above, (N, 3).

    Of each it is told the count less one: one count for every symbol is its own rule, and what is left adds up to an
    exact number, so that it neither scales nor rounds.
    """
    return torch.stack([low, high - low, TOTAL - high], 1).sub(1).double()
