r"""Posteriors of a hierarchy of latents: how q(z_1 .. z_L | x) is made of what a network finds.

The model is p(x|z_1) prod p(z_l|z_l+1) p(z_L), or with all the latents above in the place of the next one. A posterior
is a value; its `walk` visits the latents, each with p and, given x, q. It knows nothing of layers: `Network` says what
it is told by them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ancestral.distributions import Distribution, Gaussian
from ancestral.walk import Factor

__all__ = ["BottomUp", "Ladder", "Layers", "MeanField", "Network", "Posterior", "TopDown"]

LOG_STD = 10.0  # at most, and at least minus this: far beyond use, and its square is still a number
LEAST_VARIANCE = 1e-5  # of a Ladder (1602.02282)

State = Any  # what a network tells the levels below: a tensor of features, or nothing at the top
Descent = Generator[Factor, Tensor, State]
Inference = Callable[[int, Distribution, State], Gaussian]


class Network(Protocol):
    """The layers between x and the latents. Levels count from 1, beside x, to L, the top.

    Attributes:
        shapes: of one example's z_1, z_2, ..., z_L.
    """

    shapes: tuple[tuple[int, ...], ...]

    def parameters(self) -> Iterator[Tensor]: ...

    def up(self, level: int, below: Tensor, told: Tensor | None) -> Tensor:
        """Return the features of a level, from those of the level below, or from x or z_l-1; told (B, F)."""

    def posterior(self, level: int, features: Tensor, state: State) -> Tensor:
        """Return parameters of q (B, 2 C, ...), from the features of x and, where it reads it, the state above."""

    def top(self, batch: int, told: Tensor | None) -> State:
        """Return the state that the top level begins with."""

    def prior(self, level: int, state: State) -> tuple[Tensor | None, State]:
        """Return parameters of p (B, 2 C, ...), nothing for a standard Gaussian, and the state that goes on."""

    def down(self, level: int, state: State, z: Tensor, told: Tensor | None) -> State:
        """Return the state that the level below, or x, is told, when z of this level is known."""

    def observe(self, state: State) -> Tensor:
        """Return what p(x|z) is made of: (B, outputs, *positions), or (B, outputs) where it is of x as a whole."""

    def without_top(self) -> None:
        """Drop the layers that say p of the top level, and nothing else: a model says it."""

    def begin(self, x: Tensor, outputs: Tensor | None) -> None:
        """Set what depends on data before training: by scaled x, and the bias of `observe`, (outputs, *positions)."""


class Layers(Protocol):
    """What builds a `Network`: a value, such as `Dense(hidden=(200, 100))`."""

    @property
    def multiple(self) -> int:
        """What the height and the width of x must be a multiple of."""

    def build(
        self,
        shape: tuple[int, ...],
        latents: tuple[int, ...],
        posterior: "Posterior",
        told: int,
        outputs: int,
        whole: bool = False,
    ) -> Any:
        """Return a module that is a `Network`.

        Args:
            shape: of x.
            latents: variables, or channels, of each level, z_1 first.
            posterior: says what a level is inferred from.
            told: features of a context.
            outputs: of each position of x.
            whole: whether they are of x as a whole instead.
        """


@dataclass(frozen=True)
class Posterior(ABC):
    """How the latents are inferred.

    Attributes:
        from_latents: whether a level is inferred from the latent below it instead of features of x.
        reads_state: whether a level is inferred from the state above it too.
    """

    from_latents = False
    reads_state = False

    @abstractmethod
    def infer(self, net: Network, features: list[Tensor]) -> Inference | None:
        """Return what gives q of each level in a descent, from the features of all levels; None where all are known."""

    def gaussian(self, params: Tensor) -> Gaussian:
        """Return the Gaussian of parameters (B, 2 C, ...): means and logarithms of standard deviations."""
        mean, log_std = params.chunk(2, 1)
        return Gaussian(mean, log_std.clamp(-LOG_STD, LOG_STD))

    def of(self, params: Tensor | None, net: Network, batch: int, level: int) -> Gaussian:
        """Return the Gaussian of parameters, a standard one of a level where there are none."""
        if params is not None:
            return self.gaussian(params)
        zeros = next(net.parameters()).new_zeros(batch, *net.shapes[level - 1])
        return Gaussian(zeros, zeros)

    def walk(
        self, net: Network, batch: int, told: Tensor | None, x: Tensor | None, prior: Distribution | None
    ) -> Descent:
        """Yield the latents, the top first, with p and, given x, q; return the state that x is told.

        Args:
            net: the layers.
            batch: examples; given x a multiple of its length, several draws of each: example i is of x[i % len(x)].
            told: features of a context, (batch, F).
            x: scaled, as `net.up` takes it.
            prior: of the top level, where it is not the network's.
        """
        if x is None:
            return (yield from self.descend(net, batch, told, prior, None))
        below, features = x, []
        few = None if told is None else told[: len(x)]
        for level in range(1, len(net.shapes) + 1):
            below = net.up(level, below, few)
            features.append(repeated(below, batch // max(1, len(x))))
        return (yield from self.descend(net, batch, told, prior, self.infer(net, features)))

    def descend(
        self, net: Network, batch: int, told: Tensor | None, prior: Distribution | None, infer: Inference | None
    ) -> Descent:
        """Visit the latents from the top down."""
        state = net.top(batch, told)
        for level in range(len(net.shapes), 0, -1):
            params, state = net.prior(level, state)
            p = prior if prior is not None and level == len(net.shapes) else self.of(params, net, batch, level)
            z = yield Factor(p, ("z", level), None if infer is None else infer(level, p, state))
            state = net.down(level, state, z, told)
        return state


@dataclass(frozen=True)
class MeanField(Posterior):
    """prod q(z_l|x): every level by itself, so that it cannot follow what the level above has drawn."""

    def infer(self, net: Network, features: list[Tensor]) -> Inference:
        return lambda level, p, state: self.gaussian(net.posterior(level, features[level - 1], None))


@dataclass(frozen=True)
class BottomUp(Posterior):
    """q(z_1|x) prod q(z_l|z_l-1): a chain away from x (1509.00519)."""

    from_latents = True

    def infer(self, net: Network, features: list[Tensor]) -> None:
        return None

    def walk(
        self, net: Network, batch: int, told: Tensor | None, x: Tensor | None, prior: Distribution | None
    ) -> Descent:
        """Yield z_1 to z_L with p=None, given x; then all from the top down with q=None. See `Posterior.walk`."""
        if x is not None:
            few = None if told is None else told[: len(x)]
            features = repeated(net.up(1, x, few), batch // max(1, len(x)))
            for level in range(1, len(net.shapes) + 1):
                z = yield Factor(None, ("z", level), self.gaussian(net.posterior(level, features, None)))
                features = net.up(level + 1, z, told) if level < len(net.shapes) else features
        return (yield from self.descend(net, batch, told, prior, None))


@dataclass(frozen=True)
class Ladder(Posterior):
    """q(z_L|x) prod q(z_l|z_l+1, x), what x says and what the prior says weighted by their precisions (1602.02282)."""

    def gaussian(self, params: Tensor) -> Gaussian:
        """Return the Gaussian whose variances are softplus of the parameters."""
        mean, spread = params.chunk(2, 1)
        return Gaussian(mean, torch.log(F.softplus(spread) + LEAST_VARIANCE) / 2)

    def infer(self, net: Network, features: list[Tensor]) -> Inference:
        def of_level(level: int, p: Distribution, state: State) -> Gaussian:
            q = self.gaussian(net.posterior(level, features[level - 1], None))
            return weighted(q, p) if level < len(features) and isinstance(p, Gaussian) else q

        return of_level


@dataclass(frozen=True)
class TopDown(Posterior):
    """q(z_L|x) prod q(z_l|z_>l, x), by a network that reads the features of x and the state above (2011.10650)."""

    reads_state = True

    def infer(self, net: Network, features: list[Tensor]) -> Inference:
        return lambda level, p, state: self.gaussian(net.posterior(level, features[level - 1], state))


def weighted(q: Gaussian, p: Gaussian) -> Gaussian:
    """Return the product of two Gaussians: precisions add up (1602.02282, equations of section 2.2)."""
    log_variance = -torch.logaddexp(-2 * q.log_std, -2 * p.log_std)
    mean = q.mean * torch.exp(log_variance - 2 * q.log_std) + p.mean * torch.exp(log_variance - 2 * p.log_std)
    return Gaussian(mean, log_variance / 2)


def repeated(features: Tensor, times: int) -> Tensor:
    """Return features of x (B, ...) for several draws of each, (times B, ...)."""
    return features if times == 1 else features.repeat(times, *(1,) * (features.dim() - 1))


def joined(features: Tensor, more: Tensor | None) -> Tensor:
    """Return features (B, F, ...) with more behind, if there are any: (B, F2, ...), or (B, F2), the same everywhere."""
    if more is None:
        return features
    if more.dim() == 2 and features.dim() > 2:
        places = features.shape[2:]
        more = more.view(*more.shape, *(1 for _ in places)).expand(-1, -1, *places)
    return torch.cat([features, more], 1)
