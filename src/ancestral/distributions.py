r"""Distributions of one factor of p(x), for a batch of examples.

Discretized mixtures are computed in units of levels, where bin edges are exact numbers, by the identity

    sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - exp(-(b - a))),

in which b - a is the bin width over the scale and is never the difference of two rounded numbers: at every depth from
1 to 16 bits the probabilities add up to one and have gradients, with no special case for narrow or distant bins.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

RADIX = 16  # of the digits of a level, which a draw finds one after another: few values of the cdf for each


class Distribution(ABC):
    """p of one factor, for a batch: parameters and values have shape (B,), or (B, *shape) where it is of whole maps."""

    @abstractmethod
    def log_prob(self, v: Tensor) -> Tensor:
        """Return log p(v) in nats (a log-density where the values are continuous), (B,)."""

    def log_probs(self, v: Tensor) -> Tensor:
        """Return log p of each value given those before it, where a factor is of several at once: like v."""
        return self.log_prob(v)

    @abstractmethod
    def log_pmf(self) -> Tensor:
        """Return the log-probabilities of all K levels, (B, K)."""

    @abstractmethod
    def cdf(self, v: Tensor) -> Tensor:
        """Return P(value <= v). v is (B,), or (B, N) for N values each; the result has its shape."""

    @abstractmethod
    def draw(self, u: Tensor) -> Tensor:
        """Return the value at which the cdf reaches u, for uniforms u (B,) in [0, 1)."""

    def tempered(self, temperature: float) -> "Distribution":
        """Return the distribution with pmf^(1/T), renormalised. T = 0 stands for the mode."""
        if temperature == 1:
            return self
        if not temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        return Discrete(F.log_softmax(self.log_pmf() / max(temperature, 1e-6), -1))


class Discrete(Distribution):
    """A table of log-probabilities (B, K)."""

    def __init__(self, log_pmf: Tensor) -> None:
        self._log_pmf = log_pmf

    def log_prob(self, v: Tensor) -> Tensor:
        return self._log_pmf.gather(-1, v.long().unsqueeze(-1)).squeeze(-1)

    def log_pmf(self) -> Tensor:
        return self._log_pmf

    def cdf(self, v: Tensor) -> Tensor:
        cumulative = F.pad(self._log_pmf.exp().cumsum(-1), (1, 0))
        index = columns(v).squeeze(-1).long().clamp(-1, self._log_pmf.shape[-1] - 1) + 1
        return cumulative.gather(-1, index).view(v.shape)

    def draw(self, u: Tensor) -> Tensor:
        cumulative = self._log_pmf.double().exp().cumsum(-1)
        # u times the total: a level of probability zero is never drawn, whatever the rounding of the sum
        return (cumulative <= (u.double() * cumulative[..., -1]).unsqueeze(-1)).sum(-1)


class Binary(Distribution):
    """Two levels, by the logits (B,) of the upper one: what a table of two comes to, at less than half its price."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def log_prob(self, v: Tensor) -> Tensor:
        return F.logsigmoid(torch.where(v > 0, self.logits, -self.logits))

    def log_pmf(self) -> Tensor:
        return F.logsigmoid(torch.stack([-self.logits, self.logits], -1))

    def cdf(self, v: Tensor) -> Tensor:
        lower = torch.sigmoid(-self.logits).unsqueeze(-1) if v.dim() == 2 else torch.sigmoid(-self.logits)
        return torch.where(v < 0, 0, torch.where(v >= 1, 1, lower))

    def draw(self, u: Tensor) -> Tensor:
        return (torch.sigmoid(-self.logits) <= u).long()


class DiscretizedMixture(Distribution):
    """A mixture of K logistics over levels (B, K), whose mass beyond both ends belongs to the outer levels."""

    def __init__(self, log_weights: Tensor, means: Tensor, log_scales: Tensor, levels: int) -> None:
        self.log_weights, self.means, self.log_scales, self.levels = log_weights, means, log_scales, levels
        self._scaled: tuple[Tensor, Tensor, Tensor] | None = None

    def log_prob(self, v: Tensor) -> Tensor:
        return torch.logsumexp(self.log_joint(v), -1)

    def log_joint(self, v: Tensor) -> Tensor:
        return self.log_weights + discretized_logistic(v.unsqueeze(-1), self.means, self.log_scales, self.levels)

    def log_pmf(self) -> Tensor:
        level = torch.arange(self.levels, device=self.means.device)[:, None]
        means, log_scales = self.means.unsqueeze(-2), self.log_scales.unsqueeze(-2)  # (B, 1, K)
        component = discretized_logistic(level, means, log_scales, self.levels)
        return torch.logsumexp(self.log_weights.unsqueeze(-2) + component, -1)

    def cdf(self, v: Tensor) -> Tensor:
        below = self.below(columns(v).squeeze(-1) + 0.5, *self.scaled).view(v.shape)
        return torch.where(v < 0, 0, torch.where(v >= self.levels - 1, 1, below))

    @property
    def scaled(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means and inverse scales (B, 1, K) and weights (B, K, 1), found once.

        In float64, with weights that add up to one: a cdf that falls short of one would draw the top level.
        """
        if self._scaled is None:  # not functools.cached_property, whose lock the compiler cannot take
            weights = torch.softmax(self.log_weights.double(), -1).unsqueeze(-1)
            inverse = torch.exp(-self.log_scales.double()).unsqueeze(-2)
            self._scaled = self.means.double().unsqueeze(-2), inverse, weights
        return self._scaled

    def below(self, edges: Tensor, means: Tensor, inverse: Tensor, weights: Tensor) -> Tensor:
        """Return the mass of the logistics below edges (B, N)."""
        return torch.matmul(torch.sigmoid((edges.unsqueeze(-1) - means) * inverse), weights).squeeze(-1)

    def draw(self, u: Tensor) -> Tensor:
        low, span, scaled = torch.zeros_like(u, dtype=torch.double).unsqueeze(-1), 1, self.scaled
        while span < self.levels:
            span *= RADIX
        while span > 1:  # the digits of the level, the highest first
            top, span = span, span // RADIX
            edges = low + torch.arange(span - 0.5, top - 0.5, span, dtype=low.dtype, device=low.device)
            low = low.add((self.below(edges, *scaled) <= u.unsqueeze(-1)).sum(-1, keepdim=True), alpha=span)
        return low.squeeze(-1).clamp(max=self.levels - 1).long()


class ContinuousMixture(Distribution):
    """A mixture of K densities of one location-scale family; log_density and cumulative are those at scale one."""

    def __init__(self, family: "Family", log_weights: Tensor, means: Tensor, log_scales: Tensor) -> None:
        self.family = family
        self.log_weights, self.means, self.log_scales = log_weights, means, log_scales

    def log_prob(self, v: Tensor) -> Tensor:
        return torch.logsumexp(self.log_joint(v), -1)

    def log_joint(self, v: Tensor) -> Tensor:
        return self.log_weights + location_scale(self.family, v.unsqueeze(-1), self.means, self.log_scales)

    def log_pmf(self) -> Tensor:
        raise ValueError("a continuous distribution has no log_pmf; use log_prob")

    def cdf(self, v: Tensor) -> Tensor:
        z = (columns(v) - self.means.unsqueeze(-2)) * torch.exp(-self.log_scales.unsqueeze(-2))
        return (self.family.cumulative(z) * self.log_weights.unsqueeze(-2).exp()).sum(-1).view(v.shape)

    def draw(self, u: Tensor) -> Tensor:
        u = u.double()
        at_scale_one = self.family.quantile(u.clamp(1e-12, 1 - 1e-12))[:, None]
        quantiles = self.means + at_scale_one * torch.exp(self.log_scales)  # a mixture's lies between its components'
        low, high = quantiles.amin(-1), quantiles.amax(-1)
        steps = torch.linspace(0, 1, 65, device=u.device, dtype=u.dtype)
        for _ in range(7):  # 64 ** 7 parts: below the rounding of a double
            grid = low[:, None] + (high - low)[:, None] * steps
            part = (self.cdf(grid) <= u[:, None]).sum(-1).clamp(1, 64)
            low, high = (grid.gather(1, part[:, None] + shift).squeeze(1) for shift in (-1, 0))
        return ((low + high) / 2).to(self.means.dtype)

    def tempered(self, temperature: float) -> Distribution:
        if temperature != 1:
            raise ValueError(f"temperature must be 1 for a continuous likelihood, got {temperature}")
        return self


class Gaussian(Distribution):
    """A diagonal Gaussian over whole maps: mean and log_std (B, *shape). A draw has gradients in both."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean, self.log_std = mean, log_std

    def log_prob(self, v: Tensor) -> Tensor:
        return self.log_probs(v).flatten(1).sum(1)

    def log_probs(self, v: Tensor) -> Tensor:
        return location_scale(GAUSSIAN, v, self.mean, self.log_std)

    def log_pmf(self) -> Tensor:
        raise ValueError("a continuous distribution has no log_pmf; use log_prob")

    def cdf(self, v: Tensor) -> Tensor:
        return torch.special.ndtr((v - self.mean) * torch.exp(-self.log_std))

    def draw(self, u: Tensor) -> Tensor:
        at_scale_one = torch.special.ndtri(u.double().clamp(1e-12, 1 - 1e-12)).to(self.mean.dtype)
        return torch.addcmul(self.mean, at_scale_one, torch.exp(self.log_std))

    def tempered(self, temperature: float) -> "Gaussian":
        """Return the density to the power 1 / T, renormalised: the standard deviation times the root of T."""
        if temperature == 1:
            return self
        if not temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        return Gaussian(self.mean, self.log_std + math.log(max(temperature, 1e-30)) / 2)

    def kl(self, other: "Gaussian") -> Tensor:
        """Return KL(self || other) of each variable in nats, like the mean."""
        log_ratio = self.log_std - other.log_std
        gap = (self.mean - other.mean) * torch.exp(-other.log_std)
        return (torch.expm1(2 * log_ratio) + gap.square()) / 2 - log_ratio


class Independent(Distribution):
    """Many positions of each example as one factor, independent of each other.

    Args:
        base: of all positions of all examples in a row, (B * positions,).
        shape: of the positions of one example.
    """

    def __init__(self, base: Distribution, shape: tuple[int, ...]) -> None:
        self.base, self.shape = base, shape

    def log_prob(self, v: Tensor) -> Tensor:
        return self.log_probs(v).flatten(1).sum(1)

    def log_probs(self, v: Tensor) -> Tensor:
        return self.base.log_prob(v.flatten()).view(-1, *self.shape)

    def log_pmf(self) -> Tensor:
        return self.base.log_pmf().unflatten(0, (-1, *self.shape))

    def cdf(self, v: Tensor) -> Tensor:
        return self.base.cdf(v.flatten()).view(v.shape)

    def draw(self, u: Tensor) -> Tensor:
        return self.base.draw(u.flatten()).view(-1, *self.shape)

    def tempered(self, temperature: float) -> "Independent":
        return Independent(self.base.tempered(temperature), self.shape)


def columns(v: Tensor) -> Tensor:
    """Return values (B,) or (B, N) as (B, N, 1), to be met by components (B, 1, K)."""
    return v.unsqueeze(-1) if v.dim() == 2 else v[:, None, None]


def discretized_logistic(v: Tensor, means: Tensor, log_scales: Tensor, levels: int) -> Tensor:
    """Return log P(level v) of logistics whose means and scales are in units of levels; shapes broadcast."""
    inverse = torch.exp(-log_scales)
    centred = v - means
    log_below = F.logsigmoid((centred + 0.5) * inverse)  # of the upper edge
    log_above = F.logsigmoid((0.5 - centred) * inverse)  # of the lower edge
    inside = log_below + log_above + log_one_minus_exp(-log_scales)
    return torch.where(v <= 0, log_below, torch.where(v >= levels - 1, log_above, inside))


def log_one_minus_exp(log_d: Tensor) -> Tensor:
    """Return log(1 - exp(-d)) from log d, with finite values and gradients however small or large d is."""
    d, series = torch.exp(log_d.clamp(min=-5)), torch.exp(log_d.clamp(max=-5))
    return torch.where(log_d < -5, log_d - series / 2 + series.square() / 24, torch.log(-torch.expm1(-d)))


class Family(NamedTuple):
    """A location-scale family of densities, at location zero and scale one."""

    log_density: Callable[[Tensor], Tensor]
    cumulative: Callable[[Tensor], Tensor]
    quantile: Callable[[Tensor], Tensor]


LOGISTIC = Family(lambda z: F.logsigmoid(z) + F.logsigmoid(-z), torch.sigmoid, torch.logit)
GAUSSIAN = Family(lambda z: -z.square() / 2 - math.log(2 * math.pi) / 2, torch.special.ndtr, torch.special.ndtri)


def location_scale(family: Family, v: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """Return the log-density of v under every component; shapes broadcast."""
    return family.log_density((v - means) * torch.exp(-log_scales)) - log_scales
