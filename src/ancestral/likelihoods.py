r"""Likelihood heads: how the parameters that a network puts out become p(x_t | x_<t).

A *likelihood* is a value: it says how many parameters a position needs (`features`), turns levels into network inputs
(`scale`), gives the log-probability of a whole tensor at once (`log_probs`, the parallel pass), and the distributions
of one position, channel after channel (`walk`). A *distribution* is one factor: `log_prob`, `log_pmf`, `cdf`, `draw`.

Discretized mixtures are computed in units of levels, where bin edges are exact numbers, by the identity

    sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - exp(-(b - a))),

in which b - a is the bin width over the scale and is never the difference of two rounded numbers: at every depth from
1 to 16 bits the probabilities add up to one and have gradients, with no special case for narrow or distant bins.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_LOG_SCALE = -7.0  # of 1701.05517, in units where the 256 levels span [-1, 1]
MAX_LOG_SCALE = 12.0  # of densities: a network that is told a far value may ask for any, and a draw would be infinite
MIN_LOG_BINS = MIN_LOG_SCALE + math.log(255 / 2)  # the same floor in bin widths: it holds at every bit depth
RADIX = 16  # of the digits of a level, which a draw finds one after another: few values of the cdf for each


class Distribution(ABC):
    """p of one factor, for a batch: parameters and values have shape (B,)."""

    @abstractmethod
    def log_prob(self, v: Tensor) -> Tensor:
        """Return log p(v) in nats (a log-density where the values are continuous), (B,)."""

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


class DiscretizedMixture(Distribution):
    """A mixture of K logistics over levels (B, K), whose mass beyond both ends belongs to the outer levels."""

    def __init__(self, log_weights: Tensor, means: Tensor, log_scales: Tensor, levels: int) -> None:
        self.log_weights, self.means, self.log_scales, self.levels = log_weights, means, log_scales, levels

    def log_prob(self, v: Tensor) -> Tensor:
        component = discretized_logistic(v.unsqueeze(-1), self.means, self.log_scales, self.levels)
        return torch.logsumexp(self.log_weights + component, -1)

    def log_pmf(self) -> Tensor:
        level = torch.arange(self.levels, device=self.means.device)[:, None]
        means, log_scales = self.means.unsqueeze(-2), self.log_scales.unsqueeze(-2)  # (B, 1, K)
        component = discretized_logistic(level, means, log_scales, self.levels)
        return torch.logsumexp(self.log_weights.unsqueeze(-2) + component, -1)

    def cdf(self, v: Tensor) -> Tensor:
        # in float64, with weights that add up to one: a cdf that falls short of one would draw the top level
        level = columns(v).double()
        edge = (level + 0.5 - self.means.double().unsqueeze(-2)) * torch.exp(-self.log_scales.double().unsqueeze(-2))
        weights = torch.softmax(self.log_weights.double(), -1).unsqueeze(-2)
        below = (torch.sigmoid(edge) * weights).sum(-1).view(v.shape)
        return torch.where(v < 0, 0, torch.where(v >= self.levels - 1, 1, below))

    def draw(self, u: Tensor) -> Tensor:
        low = torch.zeros_like(u, dtype=torch.long)
        span = RADIX ** max(1, math.ceil(math.log(self.levels, RADIX) - 1e-9))
        while span > 1:  # the digits of the level, the highest first
            span //= RADIX
            digits = torch.arange(1, min(RADIX, -(-self.levels // span)), device=u.device)
            below = self.cdf(low[:, None] + digits * span - 1)
            low = low + span * (below <= u[:, None]).sum(-1)
        return low


class ContinuousMixture(Distribution):
    """A mixture of K densities of one location-scale family; log_density and cumulative are those at scale one."""

    def __init__(self, family: "Family", log_weights: Tensor, means: Tensor, log_scales: Tensor) -> None:
        self.family = family
        self.log_weights, self.means, self.log_scales = log_weights, means, log_scales

    def log_prob(self, v: Tensor) -> Tensor:
        component = location_scale(self.family, v.unsqueeze(-1), self.means, self.log_scales)
        return torch.logsumexp(self.log_weights + component, -1)

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
    small = log_d < -5
    d = torch.exp(torch.where(small, torch.zeros_like(log_d), log_d))
    series = torch.exp(torch.where(small, log_d, torch.full_like(log_d, -5.0)))
    return torch.where(small, log_d - series / 2 + series.square() / 24, torch.log(-torch.expm1(-d)))


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


Channels = Generator[Distribution, Tensor, Tensor]


class Likelihood(Protocol):
    """What a network and a model know of a likelihood.

    Attributes:
        levels: K, or None where values are continuous.
        couples_channels: whether the head itself makes later channels of a position depend on earlier ones; where it
            does not, the network must (by channel groups).
    """

    @property
    def levels(self) -> int | None: ...

    @property
    def couples_channels(self) -> bool: ...

    def features(self, channels: int) -> int:
        """Return P, the number of parameters of a position with that many channels."""

    def scale(self, x: Tensor) -> Tensor:
        """Return x as network input: levels in [-1, 1], in float32 at least."""

    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        """Return log p of each channel given the earlier ones: params (B, P, ...), x (B, C, ...) -> (B, C, ...)."""

    def walk(self, params: Tensor, channels: int) -> Channels:
        """Yield the distribution of one channel after another, receive its value (B,), return all (B, C)."""


def real(x: Tensor) -> Tensor:
    """Return x in float32 or better: what likelihoods are computed in, under any autocast."""
    return x if x.dtype == torch.float64 else x.float()


def scaled(x: Tensor, levels: int) -> Tensor:
    """Return levels 0..K-1 as numbers in [-1, 1], in float32 whatever they come in: the walk must find the same."""
    return x.float() * (2 / (levels - 1)) - 1


def table_walk(log_pmf: Callable[[Tensor], Tensor], params: Tensor, channels: int) -> Channels:
    """Walk over channels whose parameters lie one after another in params (B, P)."""
    values: list[Tensor] = []
    for part in real(params).chunk(channels, 1):
        values.append((yield Discrete(log_pmf(part))))
    return torch.stack(values, 1)


@dataclass(frozen=True)
class Bernoulli:
    """Two levels, one logit each: p(x_t = 1) = sigma(a)."""

    levels = 2
    couples_channels = False

    def features(self, channels: int) -> int:
        return channels

    def scale(self, x: Tensor) -> Tensor:
        return scaled(x, 2)

    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        return F.logsigmoid(real(params) * scaled(x, 2))

    def walk(self, params: Tensor, channels: int) -> Channels:
        return table_walk(lambda a: F.logsigmoid(torch.cat([-a, a], 1)), params, channels)


@dataclass(frozen=True)
class Categorical:
    """A softmax over K levels for each channel (1601.06759, section 2.2)."""

    levels: int
    couples_channels = False

    def __post_init__(self) -> None:
        check_count("levels", self.levels, 2)

    def features(self, channels: int) -> int:
        return channels * self.levels

    def scale(self, x: Tensor) -> Tensor:
        return scaled(x, self.levels)

    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        logits = real(params).unflatten(1, (x.shape[1], self.levels))  # (B, C, K, ...)
        return -F.cross_entropy(logits.movedim(2, 1), x.long(), reduction="none")

    def walk(self, params: Tensor, channels: int) -> Channels:
        return table_walk(lambda logits: F.log_softmax(logits, 1), params, channels)


class Components(NamedTuple):
    """The parameters of a mixture over positions of C channels, components in the last place."""

    logits: Tensor  # (B, ..., K)
    means: Tensor  # (B, C, ..., K)
    log_scales: Tensor  # (B, C, ..., K)
    coefficients: Tensor  # (B, C (C - 1) / 2, ..., K): r -> g, r -> b, g -> b, ...


def components_of(params: Tensor, channels: int, count: int) -> Components:
    """Split params (B, P, ...) of a mixture, P = K (1 + 2 C + C (C - 1) / 2)."""
    parts = real(params).unflatten(1, (-1, count)).movedim(2, -1)  # (B, P / K, ..., K)
    logits, means, log_scales, coefficients = parts.split([1, channels, channels, channels * (channels - 1) // 2], 1)
    return Components(logits.squeeze(1), means, log_scales, torch.tanh(coefficients))


class Mixture(ABC):
    """K components over whole positions, with means linear in the earlier channels (1701.05517, equation 3).

    P(r, g, b) = sum_k pi_k P(r | mu_r) P(g | mu_g + alpha r) P(b | mu_b + beta r + gamma g), values in [-1, 1].
    """

    couples_channels = True
    components: int

    @abstractmethod
    def scale(self, x: Tensor) -> Tensor:
        """Return x as network input."""

    @abstractmethod
    def component(self, v: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        """Return log p of v under each component."""

    @abstractmethod
    def distribution(self, log_weights: Tensor, means: Tensor, log_scales: Tensor) -> Distribution:
        """Return the mixture of one channel at one position, parameters (B, K)."""

    def features(self, channels: int) -> int:
        return self.components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        p = components_of(params, x.shape[1], self.components)
        earlier = self.scale(x).to(p.means.dtype).unsqueeze(-1)
        log_joint = F.log_softmax(p.logits, -1)  # log pi_k + log p(channels so far | k)
        marginals = [torch.zeros_like(log_joint[..., 0])]
        for c in range(x.shape[1]):
            means = conditional_means(p, earlier, c)
            log_joint = log_joint + self.component(x[:, c].unsqueeze(-1), means, p.log_scales[:, c])
            marginals.append(torch.logsumexp(log_joint, -1))
        return torch.stack(marginals, 1).diff(dim=1)

    def walk(self, params: Tensor, channels: int) -> Channels:
        p = components_of(params, channels, self.components)
        log_weights = F.log_softmax(p.logits, -1)
        values: list[Tensor] = []
        for c in range(channels):
            earlier = [self.scale(v).to(p.means.dtype)[:, None] for v in values]
            means = conditional_means(p, torch.stack(earlier, 1) if earlier else p.means[:, :0], c)
            values.append((yield self.distribution(log_weights, means, p.log_scales[:, c])))
            # the indicator is shared: what was observed re-weights the components for the channels to come
            seen = self.component(values[-1].unsqueeze(-1), means, p.log_scales[:, c])
            log_weights = F.log_softmax(log_weights + seen, -1)
        return torch.stack(values, 1)


def conditional_means(p: Components, earlier: Tensor, c: int) -> Tensor:
    """Return the means (B, ..., K) of channel c given scaled values of the channels before it (B, >= c, ..., 1)."""
    first = c * (c - 1) // 2
    means = p.means[:, c]
    for j in range(c):
        means = means + p.coefficients[:, first + j] * earlier[:, j]
    return means


@dataclass(frozen=True)
class DiscretizedLogisticMixture(Mixture):
    """Logistics integrated over the bins of K levels (1701.05517, equation 2), at any bit depth from 1 to 16."""

    levels: int
    components: int = 10

    def __post_init__(self) -> None:
        check_count("levels", self.levels, 2)
        check_count("components", self.components, 1)

    def scale(self, x: Tensor) -> Tensor:
        return scaled(x, self.levels)

    def in_levels(self, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-scales in units of levels; the floor of the scale is tied to the bin width."""
        half = (self.levels - 1) / 2
        return (means + 1) * half, (log_scales + math.log(half)).clamp(min=MIN_LOG_BINS)

    def component(self, v: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        return discretized_logistic(v.to(means.dtype), *self.in_levels(means, log_scales), self.levels)

    def distribution(self, log_weights: Tensor, means: Tensor, log_scales: Tensor) -> Distribution:
        return DiscretizedMixture(log_weights, *self.in_levels(means, log_scales), self.levels)


@dataclass(frozen=True)
class LogisticMixture(Mixture):
    """Logistic densities, for continuous values; log-scales lie between `MIN_LOG_SCALE` and `MAX_LOG_SCALE`."""

    components: int = 10
    levels = None

    def __post_init__(self) -> None:
        check_count("components", self.components, 1)

    def scale(self, x: Tensor) -> Tensor:
        return real(x)

    def component(self, v: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        return location_scale(LOGISTIC, v, means, log_scales.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE))

    def distribution(self, log_weights: Tensor, means: Tensor, log_scales: Tensor) -> Distribution:
        return ContinuousMixture(LOGISTIC, log_weights, means, log_scales.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE))


@dataclass(frozen=True)
class GaussianMixture(Mixture):
    """Gaussian densities, for continuous values; log-scales lie between `MIN_LOG_SCALE` and `MAX_LOG_SCALE`."""

    components: int = 10
    levels = None

    def __post_init__(self) -> None:
        check_count("components", self.components, 1)

    def scale(self, x: Tensor) -> Tensor:
        return real(x)

    def component(self, v: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        return location_scale(GAUSSIAN, v, means, log_scales.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE))

    def distribution(self, log_weights: Tensor, means: Tensor, log_scales: Tensor) -> Distribution:
        return ContinuousMixture(GAUSSIAN, log_weights, means, log_scales.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE))


def check_count(name: str, value: int, least: int) -> int:
    """Return the value, or raise ValueError unless it is an integer of at least that size."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return value
