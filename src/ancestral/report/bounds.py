"""What `ancestral verify` finds of a trained model with latents: its bounds, its divergences, its walk.

A value of x has no likelihood of its own, and every value depends on every other one by way of the latents: instead of
receptive fields there is to show that the bounds are in order and mean what they say.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ancestral.models.latent import LatentVariables
from ancestral.walk import Factor, Infer, drive

__all__ = ["Checked", "checked"]

DRAWS = (10, 100)  # of the bounds that are compared with the ELBO
REPEATS = 30  # of each bound, and of the draws of a divergence
SURE = 4.0  # standard errors: by chance more than this once in ten thousand comparisons


class Checked(NamedTuple):
    """What the latents of a model showed on a few examples.

    Attributes:
        bounds: the mean of the bound of so many draws, nats of an example, by draws; of 1 the ELBO.
        gains: by how much each bound is above the one before, with the standard error.
        closed: levels whose divergence is in closed form.
        gap: the mean of closed divergences less what draws say of them, nats of an example, with the standard error.
        difference: of the weight p(x, z) / q(z|x) by the walk and by the parallel pass, in nats, at most.
        scale: the largest |log weight|.
        log_sum: the largest |log sum of the pmf| of a factor of x; None of densities.
        factors: of x.
    """

    bounds: dict[int, float]
    gains: list[tuple[float, float]]
    closed: list[int]
    gap: tuple[float, float]
    difference: float
    scale: float
    log_sum: float | None
    factors: int

    @property
    def summed(self) -> int:
        """Of how many factors of x the pmf was added up: of all."""
        return self.factors

    @property
    def in_order(self) -> bool:
        """Whether no bound is lower than one of fewer draws, but for chance."""
        return all(gain >= -SURE * error - 1e-4 for gain, error in self.gains)

    @property
    def agrees(self) -> bool:
        """Whether closed divergences are the mean of what draws say, but for chance."""
        return abs(self.gap[0]) <= SURE * self.gap[1] + 1e-4

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON."""
        found: dict[str, Any] = {
            "bounds": {str(draws): nats for draws, nats in self.bounds.items()},
            "closed_levels": self.closed,
        }
        found |= {"closed_form_gap": self.gap[0], "closed_form_gap_se": self.gap[1]}
        return found | {"walk_difference": self.difference, "log_sum": self.log_sum, "factors": self.factors}


@torch.no_grad()
def checked(model: LatentVariables, x: Tensor, context: Tensor | None) -> Checked:
    """Look at a model with latents on examples x (B, *shape), the same in every call."""
    with torch.random.fork_rng([x.device] if x.is_cuda else []):
        torch.manual_seed(0)
        runs = {draws: repeated(model, x, context, draws) for draws in (1, *DRAWS)}
        closed, gaps = divergences(model, x, context)
        difference, scale, log_sum, factors = walk_and_pass(model, x, context)
    pairs = zip(list(runs.values())[1:], list(runs.values())[:-1], strict=True)
    gains = [
        (above.mean().item() - below.mean().item(), math.hypot(error(above), error(below))) for above, below in pairs
    ]
    bounds = {draws: values.mean().item() for draws, values in runs.items()}
    return Checked(bounds, gains, closed, (gaps.mean().item(), error(gaps)), difference, scale, log_sum, factors)


def error(values: Tensor) -> float:
    """Return the standard error of the mean of independent values (N,)."""
    return values.std().item() / math.sqrt(len(values))


def repeated(model: LatentVariables, x: Tensor, context: Tensor | None, draws: int) -> Tensor:
    """Return the bound of so many draws again and again, each time its mean over the examples, (REPEATS,) nats."""
    return torch.stack([model.log_prob(x, context, samples=draws).double().mean() for _ in range(REPEATS)])


def divergences(model: LatentVariables, x: Tensor, context: Tensor | None) -> tuple[list[int], Tensor]:
    """Return which levels have a divergence in closed form, and all of these less what draws say, (REPEATS,) nats."""
    closed: set[int] = set()
    gaps = []
    for _ in range(REPEATS):
        source, total = Infer(x), torch.zeros(len(x), dtype=torch.float64, device=x.device)
        model.inferred(x, context, source)
        for level, z in source.z.items():
            gap = source.kl[level] - (source.q[level].log_prob(z) - source.p[level].log_prob(z))
            closed |= {level} if bool((gap.abs() > 1e-6).any()) else set()
            total += gap
        gaps.append(total.mean())
    return sorted(closed), torch.stack(gaps)


class Witness:
    """A source of latents and observed values that also notes whether the pmfs of x sum to one."""

    def __init__(self, infer: Infer, levels: int | None) -> None:
        self.infer, self.levels, self.log_sum = infer, levels, 0.0

    def __call__(self, factor: Factor) -> Tensor:
        value = self.infer(factor)
        if self.levels is not None and factor.at[:1] != ("z",) and factor.p is not None:
            self.log_sum = max(self.log_sum, factor.p.log_pmf().double().logsumexp(-1).abs().max().item())
        return value


def walk_and_pass(model: LatentVariables, x: Tensor, context: Tensor | None) -> tuple[float, float, float | None, int]:
    """Return by how much the weights by the walk and by the pass differ, their size, and what the factors showed."""
    noise = model.uniforms(len(x), torch.Generator().manual_seed(0))
    witness, source = Witness(Infer(x, noise), model.likelihood.levels), Infer(x, noise)
    drive(model.walk(len(x), context, x=x), witness)
    walked = witness.infer.log_weight(torch.stack(witness.infer.log_px).sum(0))
    parallel = source.log_weight(model.log_px(x, model.inferred(x, context, source)))
    log_sum = None if witness.levels is None else witness.log_sum
    gap, size = (walked - parallel).abs().max().item(), parallel.abs().max().item()
    return gap, size, log_sum, len(witness.infer.log_px)
