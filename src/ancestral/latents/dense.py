"""Fully connected layers between x and a hierarchy of latents, as in 1509.00519 and 1602.02282."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from ancestral.latents.posteriors import Posterior, joined
from ancestral.likelihoods import check_count, check_dropout, check_sizes

__all__ = ["Dense"]


@dataclass(frozen=True)
class Dense:
    """Layers between x and z_1, and between every two latents, in both directions.

    Attributes:
        hidden: their width at each level, the one beside x first.
        layers: how many in a row; none makes every connection linear.
        rectified: leaky rectifiers (1602.02282) instead of tanh (1509.00519).
        batch_norm: by batches in training, by running means in evaluation, where examples stay independent.
        dropout: share of the inputs of each layer of the posterior that training drops (as in 1902.02102): it is what
            overfits first, and whatever it says the bound is one.
    """

    hidden: tuple[int, ...] = (200, 100)
    layers: int = 2
    rectified: bool = False
    batch_norm: bool = False
    dropout: float = 0.0
    multiple = 1

    def __post_init__(self) -> None:
        check_sizes("hidden", self.hidden)
        check_count("layers", self.layers, 0)
        check_dropout(self.dropout)

    def build(
        self,
        shape: tuple[int, ...],
        latents: tuple[int, ...],
        posterior: Posterior,
        told: int,
        outputs: int,
        whole: bool = False,
    ) -> "DenseNetwork":
        """Return the layers.

        Args:
            shape: of x, which is flattened.
            latents: variables of each level.
            posterior: says what a level is inferred from.
            told: features of a context.
            outputs: of each position of x: parameters of a likelihood, or features for a decoder.
            whole: whether they are of x as a whole instead.

        Raises:
            ValueError: there is not one width for each level.
        """
        if len(self.hidden) != len(latents):
            wanted = f"{len(latents)} width{'s' if len(latents) > 1 else ''}, one for each of latents={tuple(latents)}"
            raise ValueError(f"network=Dense(hidden=...) must hold {wanted}, got {self.hidden}")
        places = () if whole else shape[1:] if len(shape) > 1 else shape
        return DenseNetwork(self, shape, latents, posterior, told, (outputs, *places))

    def between(self, inputs: int, width: int, dropout: float = 0.0) -> tuple[nn.Sequential, int]:
        """Return the layers between two levels, and how many features they give."""
        sizes: list[int] = [inputs, *[width] * self.layers]
        parts: list[nn.Module] = []
        for into, out in pairwise(sizes):
            parts += [nn.Dropout(dropout)] if dropout else []
            parts.append(linear(into, out))
            parts += [nn.BatchNorm1d(out)] if self.batch_norm else []
            parts.append(nn.LeakyReLU() if self.rectified else nn.Tanh())
        return nn.Sequential(*parts), sizes[-1]


class DenseNetwork(nn.Module):
    """What `Dense` builds; see `posteriors.Network`."""

    centre: Tensor  # the mean of x: what varies is learned faster where it is the smaller part

    def __init__(
        self,
        dense: Dense,
        shape: tuple[int, ...],
        latents: tuple[int, ...],
        posterior: Posterior,
        told: int,
        out_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.shapes = tuple((size,) for size in latents)
        self.out_shape = out_shape
        sizes = zip(latents, dense.hidden, strict=True)
        downs, states = zip(*(dense.between(size + told, width) for size, width in sizes), strict=True)
        self.downs, self.ups, self.posteriors = nn.ModuleList(downs), nn.ModuleList(), nn.ModuleList()
        below = math.prod(shape)
        for size, width, above in zip(latents, dense.hidden, [*states[1:], told], strict=True):
            up, found = dense.between(below + told, width, dense.dropout)
            self.ups.append(up)
            self.posteriors.append(linear(found + (above if posterior.reads_state else 0), 2 * size))
            below = size if posterior.from_latents else found
        self.priors = nn.ModuleList(linear(state, 2 * n) for state, n in zip(states[1:], latents[:-1], strict=True))
        self.top_prior = linear(told, 2 * latents[-1]) if told else None
        self.out = linear(states[0], math.prod(self.out_shape))
        self.register_buffer("centre", torch.zeros(math.prod(shape)))

    def up(self, level: int, below: Tensor, told: Tensor | None) -> Tensor:
        below = below.flatten(1) - self.centre if level == 1 else below
        return cast(Tensor, self.ups[level - 1](joined(below, told)))

    def posterior(self, level: int, features: Tensor, state: Tensor | None) -> Tensor:
        return cast(Tensor, self.posteriors[level - 1](joined(features, state)))

    def top(self, batch: int, told: Tensor | None) -> Tensor | None:
        return told

    def prior(self, level: int, state: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        head = self.priors[level - 1] if level < len(self.shapes) else self.top_prior
        return None if head is None else head(state), state

    def down(self, level: int, state: Tensor | None, z: Tensor, told: Tensor | None) -> Tensor:
        return cast(Tensor, self.downs[level - 1](joined(z, told)))

    def observe(self, state: Tensor) -> Tensor:
        return cast(Tensor, self.out(state).unflatten(1, self.out_shape))

    def without_top(self) -> None:
        self.top_prior = None

    @torch.no_grad()
    def begin(self, x: Tensor, outputs: Tensor | None) -> None:
        self.centre.copy_(x.mean(0).flatten())
        if outputs is not None:
            self.out.bias.copy_(outputs.flatten())


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a layer with the weights of Glorot & Bengio (1509.00519, section 5) and no bias at first."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
