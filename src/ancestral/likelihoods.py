r"""Likelihood heads: how the parameters that a network puts out become p(x_t | x_<t).

A *likelihood* is a value: it says how many parameters a position needs (`features`), turns levels into network inputs
(`scale`), gives the log-probability of a whole tensor at once (`log_probs`, the parallel pass), and the distributions
of one position, channel after channel (`walk`). A *distribution* is one factor: `log_prob`, `log_pmf`, `cdf`, `draw`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ancestral.distributions import (
    GAUSSIAN,
    LOGISTIC,
    Binary,
    ContinuousMixture,
    Discrete,
    DiscretizedMixture,
    Distribution,
)

MIN_LOG_SCALE = -7.0  # of 1701.05517, in units where the 256 levels span [-1, 1]
MAX_LOG_SCALE = 12.0  # of densities: a network that is told a far value may ask for any, and a draw would be infinite
MIN_LOG_BINS = MIN_LOG_SCALE + math.log(255 / 2)  # the same floor in bin widths: it holds at every bit depth


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


def channels_of(values: Sequence[Tensor]) -> Tensor:
    """Return values of one channel after another (B,) as (B, C), without a copy of a single one."""
    return values[0].unsqueeze(1) if len(values) == 1 else torch.stack(list(values), 1)


class Table(ABC):
    """A table for every channel. Where the head couples them, logits are linear in the earlier channels, see `logits`.

    The softmax that 1701.05517, section 3.3, compares with does: for RGB of 256 levels it has 1536 outputs.
    """

    levels: int
    couples_channels: bool
    width: int  # logits of a table

    @abstractmethod
    def distribution(self, logits: Tensor) -> Distribution:
        """Return the distribution of one channel, logits (B, width)."""

    @abstractmethod
    def log_prob(self, logits: Tensor, x: Tensor) -> Tensor:
        """Return log p of x (B, C, ...) for logits (B, C, width, ...)."""

    def features(self, channels: int) -> int:
        return self.width * (channels + (channels * (channels - 1) // 2 if self.couples_channels else 0))

    def scale(self, x: Tensor) -> Tensor:
        return scaled(x, self.levels)

    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        parts, channels = real(params).unflatten(1, (-1, self.width)), x.shape[1]
        if self.couples_channels:
            parts = torch.stack([self.logits(parts, x.unbind(1)[:c], channels) for c in range(channels)], 1)
        return self.log_prob(parts, x)

    def walk(self, params: Tensor, channels: int) -> Channels:
        parts = real(params).unflatten(1, (-1, self.width))
        values: list[Tensor] = []
        for _ in range(channels):
            values.append((yield self.distribution(self.logits(parts, values, channels))))
        return channels_of(values)

    def logits(self, parts: Tensor, earlier: Sequence[Tensor], channels: int) -> Tensor:
        """Return the logits (B, width, ...) of a channel, given the values (B, ...) of the channels before it.

        Of the parts (B, P / width, width, ...) one is for each channel; then come coefficients: r -> g, r -> b, g -> b.
        """
        c = len(earlier)
        logits, first = parts[:, c], channels + c * (c - 1) // 2
        for j, value in enumerate(earlier if self.couples_channels else ()):
            logits = logits + parts[:, first + j] * self.scale(value).to(parts.dtype).unsqueeze(1)
        return logits


@dataclass(frozen=True)
class Bernoulli(Table):
    """Two levels, one logit each: p(x_t = 1) = sigma(a)."""

    couples_channels: bool = field(default=False, repr=False)
    levels = 2
    width = 1

    def distribution(self, logits: Tensor) -> Binary:
        return Binary(logits.squeeze(1))

    def log_prob(self, logits: Tensor, x: Tensor) -> Tensor:
        return F.logsigmoid(logits.squeeze(2) * scaled(x, 2))


@dataclass(frozen=True)
class Categorical(Table):
    """A softmax over K levels for each channel (1601.06759, section 2.2)."""

    levels: int
    couples_channels: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        check_count("levels", self.levels, 2)

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.levels

    def distribution(self, logits: Tensor) -> Discrete:
        return Discrete(F.log_softmax(logits, 1))

    def log_prob(self, logits: Tensor, x: Tensor) -> Tensor:
        log_p = F.log_softmax(logits.movedim(2, -1), -1)  # innermost in memory, as the networks put features
        return log_p.gather(-1, x.long().unsqueeze(-1)).squeeze(-1)


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
    levels: int | None
    components: int

    def __post_init__(self) -> None:
        if self.levels is not None:
            check_count("levels", self.levels, 2)
        check_count("components", self.components, 1)

    def scale(self, x: Tensor) -> Tensor:
        return real(x) if self.levels is None else scaled(x, self.levels)

    def in_units(self, p: Components) -> Components:
        """Return means, scales and coefficients in units of levels, if any; the floor of the scale is tied to them."""
        if self.levels is None:
            return p._replace(log_scales=p.log_scales.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE))
        half = (self.levels - 1) / 2
        log_scales = (p.log_scales + math.log(half)).clamp(min=MIN_LOG_BINS)
        return Components(p.logits, p.means * half + half, log_scales, p.coefficients * half)

    @abstractmethod
    def distribution(
        self, log_weights: Tensor, means: Tensor, log_scales: Tensor
    ) -> DiscretizedMixture | ContinuousMixture:
        """Return the mixture of one channel, parameters (B, ..., K)."""

    def features(self, channels: int) -> int:
        return self.components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        p = self.in_units(components_of(params, x.shape[1], self.components))
        log_joint = F.log_softmax(p.logits, -1)  # log pi_k + log p(channels so far | k)
        marginals = [torch.zeros_like(log_joint[..., 0])]
        earlier: list[Tensor] = []
        for c, value in enumerate(x.to(p.means.dtype).unbind(1)):
            log_joint = self.distribution(log_joint, conditional_means(p, earlier), p.log_scales[:, c]).log_joint(value)
            marginals.append(torch.logsumexp(log_joint, -1))
            earlier.append(self.scale(value).to(p.means.dtype).unsqueeze(-1))
        return torch.stack(marginals, 1).diff(dim=1)

    def walk(self, params: Tensor, channels: int) -> Channels:
        p = self.in_units(components_of(params, channels, self.components))
        log_weights = F.log_softmax(p.logits, -1)
        values: list[Tensor] = []
        earlier: list[Tensor] = []
        for c in range(channels):
            mixture = self.distribution(log_weights, conditional_means(p, earlier), p.log_scales[:, c])
            values.append((yield mixture))
            if c + 1 < channels:  # the indicator is shared: what was observed re-weights the components
                log_weights = F.log_softmax(mixture.log_joint(values[-1]), -1)
                earlier.append(self.scale(values[-1]).to(p.means.dtype).unsqueeze(-1))
        return channels_of(values)


def conditional_means(p: Components, earlier: list[Tensor]) -> Tensor:
    """Return the means (B, ..., K) of a channel given the scaled values (B, ..., 1) of the channels before it."""
    c = len(earlier)
    means = p.means[:, c]
    for j, value in enumerate(earlier):
        means = torch.addcmul(means, p.coefficients[:, c * (c - 1) // 2 + j], value)
    return means


@dataclass(frozen=True)
class DiscretizedLogisticMixture(Mixture):
    """Logistics integrated over the bins of K levels (1701.05517, equation 2), at any bit depth from 1 to 16."""

    levels: int
    components: int = 10

    def distribution(self, log_weights: Tensor, means: Tensor, log_scales: Tensor) -> DiscretizedMixture:
        return DiscretizedMixture(log_weights, means, log_scales, self.levels)


@dataclass(frozen=True)
class LogisticMixture(Mixture):
    """Logistic densities, for continuous values; log-scales lie between `MIN_LOG_SCALE` and `MAX_LOG_SCALE`."""

    components: int = 10
    levels = None

    def distribution(self, log_weights: Tensor, means: Tensor, log_scales: Tensor) -> ContinuousMixture:
        return ContinuousMixture(LOGISTIC, log_weights, means, log_scales)


@dataclass(frozen=True)
class GaussianMixture(Mixture):
    """Gaussian densities, for continuous values; log-scales lie between `MIN_LOG_SCALE` and `MAX_LOG_SCALE`."""

    components: int = 10
    levels = None

    def distribution(self, log_weights: Tensor, means: Tensor, log_scales: Tensor) -> ContinuousMixture:
        return ContinuousMixture(GAUSSIAN, log_weights, means, log_scales)


def check_likelihood(likelihood: Any) -> Likelihood:
    """Return the likelihood, or raise ValueError where it is none."""
    needed = ("levels", "couples_channels", "features", "scale", "log_probs", "walk")
    if isinstance(likelihood, type) or not all(hasattr(likelihood, name) for name in needed):
        raise ValueError(f"likelihood must be one such as Bernoulli() or Categorical(256), got {likelihood!r}")
    return likelihood


def check_count(name: str, value: int, least: int) -> int:
    """Return the value, or raise ValueError unless it is an integer of at least that size."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return value


def check_sizes(name: str, sizes: tuple[int, ...], least: int = 1) -> tuple[int, ...]:
    """Return a tuple of integers of at least that size, or raise ValueError."""
    if not isinstance(sizes, tuple | list) or not sizes:
        raise ValueError(f"{name} must be a tuple of integers, got {sizes!r}")
    return tuple(check_count(name, size, least) for size in sizes)


def check_odd(name: str, size: int, least: int = 1) -> None:
    """Raise ValueError unless the size of a kernel is odd, and at least so much."""
    if not isinstance(size, int) or isinstance(size, bool) or size < least or size % 2 == 0:
        raise ValueError(f"{name} must be an odd integer of at least {least}, got {size!r}")


def check_dropout(dropout: float) -> None:
    """Raise ValueError unless it is a share of the features to drop."""
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and less than 1, got {dropout!r}")
