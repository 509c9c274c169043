"""Convolutional layers between an image and a hierarchy of latent maps: residual blocks at every resolution."""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.latents.maps import Maps, Size, begin_with, convolution, damp
from ancestral.latents.posteriors import Posterior, joined
from ancestral.likelihoods import check_count, check_odd

__all__ = ["Convolutional"]


@dataclass(frozen=True)
class Convolutional(Maps):
    """Strided convolutions up from x, transposed ones down to it, residual blocks with ELU in between.

    Level l has `latents[l-1]` channels at the size of x over the product of `strides[:l]`. At first p(z_l|z_l+1) is
    the same whatever z_l+1 is: mean 0 and, but for `Ladder`, variance 1.

    Attributes:
        channels: feature maps of every level.
        strides: how many times smaller each level is than the one below, the one beside x first; 1 keeps the size.
        layers: residual blocks of every level, in both directions.
        kernel_size: of the convolutions, odd; 1 on maps of at most 2x2.
    """

    layers: int = 1
    kernel_size: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("layers", self.layers, 0)
        check_odd("kernel_size", self.kernel_size)

    def build(
        self,
        shape: tuple[int, ...],
        latents: tuple[int, ...],
        posterior: Posterior,
        told: int,
        outputs: int,
        whole: bool = False,
    ) -> "ConvolutionalNetwork":
        """Return the layers; see `posteriors.Layers`.

        Raises:
            ValueError: x is no image, there is not one stride for each level, or one does not divide the maps.
        """
        sizes = self.sizes(shape, len(latents))
        return ConvolutionalNetwork(self, shape, sizes, latents, posterior, told, outputs, whole)

    def convolution(self, inputs: int, outputs: int, size: Size, stride: int = 1) -> nn.Conv2d:
        """Return a convolution with the weights of Glorot & Bengio, of maps of that size."""
        layer = convolution(inputs, outputs, size, self.kernel_size, stride)
        nn.init.xavier_uniform_(layer.weight)
        return layer

    def blocks(self, size: Size) -> list["Block"]:
        """Return the residual blocks of a level, of maps of that size."""
        return [Block(self, size) for _ in range(self.layers)]

    def upward(self, inputs: int, size: Size, stride: int) -> nn.Sequential:
        """Return the layers from maps of that size to the level above."""
        smaller = (size[0] // stride, size[1] // stride)
        first = self.convolution(inputs, self.channels, size, stride)
        return nn.Sequential(first, *self.blocks(smaller), nn.ELU())

    def downward(self, inputs: int, size: Size, stride: int) -> nn.Sequential:
        """Return the layers from a latent of that size to the level below."""
        first = self.convolution(inputs, self.channels, size)
        last = [nn.ELU(), enlarging(self.channels, stride)] if stride > 1 else []
        return nn.Sequential(first, *self.blocks(size), *last, nn.ELU())


class Block(nn.Module):
    """A residual block of two convolutions, with an ELU before each."""

    def __init__(self, value: Convolutional, size: Size) -> None:
        super().__init__()
        self.first = value.convolution(value.channels, value.channels, size)
        self.last = value.convolution(value.channels, value.channels, size)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.last(F.elu(self.first(F.elu(x)))))


class ConvolutionalNetwork(nn.Module):
    """What `Convolutional` builds; see `posteriors.Network`. A state lies at the size of the level that is told it."""

    centre: Tensor  # the mean of x

    def __init__(
        self,
        value: Convolutional,
        shape: tuple[int, ...],
        sizes: list[Size],
        latents: tuple[int, ...],
        posterior: Posterior,
        told: int,
        outputs: int,
        whole: bool,
    ) -> None:
        super().__init__()
        self.whole = whole
        width, levels = value.channels, list(zip(latents, sizes[1:], strict=True))
        self.shapes = tuple((variables, *size) for variables, size in levels)
        self.ups, self.downs, self.posteriors = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        states = [*[width] * (len(levels) - 1), told] if posterior.reads_state else [0] * len(levels)
        below = [shape[0], *(latents[:-1] if posterior.from_latents else [width] * (len(levels) - 1))]
        for (variables, size), finer, inputs, state, stride in zip(
            levels, sizes[:-1], below, states, value.strides, strict=True
        ):
            self.ups.append(value.upward(inputs + told, finer, stride))
            self.downs.append(value.downward(variables + told, size, stride))
            self.posteriors.append(value.convolution(width + state, 2 * variables, size))
        priors = [value.convolution(width, 2 * variables, size) for variables, size in levels[:-1]]
        self.priors = nn.ModuleList(priors)
        self.top_prior = value.convolution(told, 2 * latents[-1], (1, 1)) if told else None
        self.out = value.convolution(width, outputs, sizes[0])
        for head in priors:
            nn.init.zeros_(head.weight)
        blocks = [module for module in self.modules() if isinstance(module, Block)]
        damp((block.last for block in blocks), len(blocks))
        self.register_buffer("centre", torch.zeros(shape))

    def up(self, level: int, below: Tensor, told: Tensor | None) -> Tensor:
        return cast(Tensor, self.ups[level - 1](joined(below - self.centre if level == 1 else below, told)))

    def posterior(self, level: int, features: Tensor, state: Tensor | None) -> Tensor:
        return cast(Tensor, self.posteriors[level - 1](joined(features, state)))

    def top(self, batch: int, told: Tensor | None) -> Tensor | None:
        return None if told is None else told[:, :, None, None].expand(-1, -1, *self.shapes[-1][1:])

    def prior(self, level: int, state: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        head = self.priors[level - 1] if level < len(self.shapes) else self.top_prior
        return None if head is None else head(state), state

    def down(self, level: int, state: Tensor | None, z: Tensor, told: Tensor | None) -> Tensor:
        return cast(Tensor, self.downs[level - 1](joined(z, told)))

    def observe(self, state: Tensor) -> Tensor:
        maps = cast(Tensor, self.out(state))
        return maps.mean((2, 3)) if self.whole else maps

    def without_top(self) -> None:
        self.top_prior = None

    def begin(self, x: Tensor, outputs: Tensor | None) -> None:
        begin_with(self.centre, self.out, x, outputs)


@torch.no_grad()
def enlarging(channels: int, stride: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution without overlap, which begins as one of 1x1 and the repetition of what it gives.

    Unlike repetition it can learn where in a map it is: it has weights for every place in a step.
    """
    layer = nn.ConvTranspose2d(channels, channels, stride, stride)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    layer.weight.copy_(nn.init.xavier_uniform_(layer.weight.new_empty(channels, channels))[:, :, None, None])
    return layer
