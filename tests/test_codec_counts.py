"""Counts of probabilities: what encoder and decoder make of a distribution is the same, and nothing is left out."""

import itertools
import math
from collections.abc import Callable

import constriction
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ancestral.codec.counts import (
    BASE,
    MARGIN,
    TABLE,
    TOTAL,
    Interval,
    decoded,
    digits_of,
    grid_of,
    intervals,
    table,
    triples,
)
from ancestral.codec.stream import CELLS, FAMILY, Cells, reader
from ancestral.distributions import Discrete, DiscretizedMixture, Distribution, Gaussian

LEVELS = [2, 3, 17, TABLE]  # of one digit


def discrete(levels: int) -> Distribution:
    return Discrete(F.log_softmax(3 * torch.randn(1, levels, dtype=torch.float64), -1))


def mixture(levels: int) -> Distribution:
    means = levels * torch.rand(1, 3, dtype=torch.float64)
    log_scales = 2 * torch.randn(1, 3).double() + (math.log(levels) - 2 if levels > 4096 else 0)
    return DiscretizedMixture(torch.randn(1, 3).double(), means, log_scales, levels)


def certain(levels: int) -> Distribution:
    log_pmf = torch.full((1, levels), -torch.inf, dtype=torch.float64)
    log_pmf[0, levels // 2] = 0
    return Discrete(log_pmf)


def rows(p: Distribution, n: int) -> Distribution:
    """The same distribution for n examples."""
    if isinstance(p, DiscretizedMixture):
        return DiscretizedMixture(*(t.expand(n, -1) for t in (p.log_weights, p.means, p.log_scales)), p.levels)
    return Discrete(p.log_pmf().expand(n, -1))


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("make", [discrete, mixture, certain])
def test_intervals_leave_no_gap(make: Callable[[int], Distribution], levels: int) -> None:
    p = make(levels)
    (found,) = intervals(rows(p, levels), levels, torch.arange(levels))
    assert (int(found.low[0]), int(found.high[-1])) == (1, TOTAL - 1)
    assert torch.equal(found.low[1:], found.high[:-1])
    assert bool((found.high > found.low).all())


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("make", [discrete, mixture, certain])
def test_tables_are_the_intervals(make: Callable[[int], Distribution], levels: int) -> None:
    p = make(levels)
    (found,) = intervals(rows(p, levels), levels, torch.arange(levels))
    counts = torch.from_numpy(table(p.cdf(torch.arange(levels)[None]).numpy(), levels, grid_of(levels))[0] + 1).long()
    assert int(counts.sum()) == TOTAL
    assert torch.equal(counts[1:-1], found.high - found.low)
    told = triples(found.low, found.high) + 1
    assert bool((told.sum(1) == TOTAL).all())


@pytest.mark.parametrize("levels", [2, 17, TABLE, TABLE + 1, 256, 4096, 5000, 65536])
@pytest.mark.parametrize("make", [discrete, mixture])
def test_every_level_is_decoded(make: Callable[[int], Distribution], levels: int) -> None:
    v = torch.tensor([0, 1, levels // 2, levels - 2, levels - 1, min(levels - 1, BASE), min(levels - 1, BASE**2 - 1)])
    p, coder = rows(make(levels), len(v)), constriction.stream.queue.RangeEncoder()
    parts = intervals(p, levels, v)
    assert len(parts) == len(digits_of(levels))
    sure = torch.stack([part.sure for part in parts]).all(0)  # in the far tails of a mixture few are
    for part in (Interval(*(each[sure] for each in part)) for part in parts):
        coder.encode(np.ones(len(part.low), np.int32), FAMILY, triples(part.low, part.high).numpy())
    read = reader(constriction.stream.queue.RangeDecoder(coder.get_compressed()))
    assert decoded(p, levels, read, sure.numpy(), v.device).tolist() == v[sure].tolist()
    assert bool(sure.any())


@pytest.mark.parametrize("levels", [TABLE + 1, 256, CELLS, 65536])
def test_what_has_no_mass_is_coded_too(levels: int) -> None:
    """Else the first bits of a stack that fall on such a digit could not be taken, by whatever latent comes next."""
    v = torch.arange(0, levels, 1 + levels // 100)
    p, coder = rows(certain(levels), len(v)), constriction.stream.queue.RangeEncoder()
    for part in intervals(p, levels, v):
        assert bool(part.sure.all())
        coder.encode(np.ones(len(v), np.int32), FAMILY, triples(part.low, part.high).numpy())
    read = reader(constriction.stream.queue.RangeDecoder(coder.get_compressed()))
    assert decoded(p, levels, read, np.ones(len(v), bool), v.device).tolist() == v.tolist()


@pytest.mark.parametrize("levels", [2, TABLE, TABLE + 1, 256, 4096, CELLS, 30_000, 65536])
def test_digits_are_those_of_all_levels(levels: int) -> None:
    digits = digits_of(levels)
    assert (len(digits) == 1) == (levels <= TABLE)
    assert digits[-1][0] == 1
    for (span, _), (lower, count) in itertools.pairwise(digits):
        assert span == lower * count
    span, count = digits[0]
    assert (count - 1) * span < levels <= count * span


@pytest.mark.parametrize("levels", [*LEVELS, 256, 1000, 4096])
def test_rounding_costs_next_to_nothing(levels: int) -> None:
    p = discrete(levels)
    parts = intervals(rows(p, levels), levels, torch.arange(levels))
    pmf = p.log_pmf()[0].exp()
    bits = -sum(((part.high - part.low).double() / TOTAL).log2() for part in parts)
    entropy = -(pmf * pmf.log2()).sum()
    assert float((pmf * bits).sum()) <= 1.001 * float(entropy) + 0.002


class Known(Distribution):
    """A cdf as it is."""

    def __init__(self, cdf: Tensor) -> None:
        self.found = cdf

    def cdf(self, v: Tensor) -> Tensor:
        return F.pad(self.found, (1, 0)).gather(1, v + 1)

    log_prob = log_pmf = draw = None  # type: ignore[assignment]


@pytest.mark.parametrize("off", [-0.9, 0.9])
def test_an_edge_near_the_middle_is_not_sure(off: float) -> None:
    levels = 4
    middle = (1000.5 + 0.0) / ((1 << grid_of(levels)) - levels)
    p = Known(torch.tensor([[middle + off * MARGIN, 0.7, 0.9, 1]], dtype=torch.float64).expand(4, -1))
    (found,) = intervals(p, levels, torch.arange(4))
    assert found.sure.tolist() == [False, False, True, True]
    far = Known(torch.tensor([[middle + 3 * MARGIN, 0.7, 0.9, 1]], dtype=torch.float64).expand(4, -1))
    assert bool(intervals(far, levels, torch.arange(4))[0].sure.all())


def test_what_is_no_number_is_not_sure() -> None:
    p = Known(torch.full((4, 4), torch.nan, dtype=torch.float64))
    (found,) = intervals(p, 4, torch.arange(4))
    assert found.sure.tolist() == [False] * 4
    assert int((table(p.found.numpy(), 4, grid_of(4)) + 1).sum()) == 4 * TOTAL


def test_cells_of_a_gaussian_add_up() -> None:
    cells = Cells(3)
    p = cells.of(Gaussian(torch.zeros(5).double(), torch.zeros(5).double()))
    v = torch.tensor([0, 1, CELLS // 2, CELLS - 2, CELLS - 1])
    assert bool((p.cdf(v).diff() >= 0).all())
    assert float(p.cdf(torch.full((5,), CELLS - 1))[0]) == 1
    torch.testing.assert_close(cells.value(torch.tensor([CELLS // 2])), torch.tensor([cells.width / 2]).double())
