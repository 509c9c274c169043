r"""Top-down residual blocks. "Very Deep VAEs Generalize Autoregressive Models", Child 2020, arXiv 2011.10650.

Every level of latents is one block of the decoder (section 3.1 and figure 3). With the state x of its resolution and
the features of x found by the encoder at that resolution, it is

    q(z_l|z_>l, x) = enc([x, features]),   p(z_l|z_>l), h = prior(x),   x <- x + h + z_proj(z_l),   x <- x + block(x).

The state carries all latents above, so that p(z) is no chain: p(z_l|z_>l). Where the resolution changes, the state
begins with a learned bias for every position, and the state of the resolution before is added by repetition. A block
is convolutions of 1x1, 3x3, 3x3, 1x1 with a GELU before each, on a quarter of the channels. The last convolution of
`prior` begins with zeros: p with a standard Gaussian.

The paper has latents at the resolution of x; where the first stride is not 1, x is told the state of the last level
through one more change of the resolution and one more block. A context, which the paper has not, is joined to x and
to every z, and added to the state at the top.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.latents.maps import Maps, Size, begin_with, convolution, damp
from ancestral.latents.posteriors import Posterior, joined
from ancestral.likelihoods import check_sizes

__all__ = ["Residual"]

LARGEST = 64  # side of the maps whose bias is one for each position


@dataclass(frozen=True)
class Residual(Maps):
    """Top-down residual blocks (2011.10650), one for each level of latents; for the posterior `TopDown`.

    With `latents=(16,) * 5` and `network=Residual(strides=(2, 1, 2, 1, 7))` images of 28x28 have two levels at 14x14,
    two at 7x7 and one at 1x1, with 16 channels each.

    Attributes:
        channels: the width of the state and of the encoder.
        strides: how many times smaller each level is than the one below, the one beside x first; 1 keeps the size.
        blocks: of the encoder at each resolution that has latents, the finest first; by default as many as levels.
    """

    blocks: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks is not None:
            check_sizes("blocks", self.blocks, 0)

    def build(
        self,
        shape: tuple[int, ...],
        latents: tuple[int, ...],
        posterior: Posterior,
        told: int,
        outputs: int,
        whole: bool = False,
    ) -> "ResidualNetwork":
        """Return the layers; see `posteriors.Layers`.

        Raises:
            ValueError: the posterior does not read the state, x is no image, the strides do not fit, or blocks are not
                given for each resolution.
        """
        if not posterior.reads_state:
            raise ValueError(f"posterior must be TopDown() where network is Residual, got {posterior!r}")
        return ResidualNetwork(self, shape, self.sizes(shape, len(latents)), latents, told, outputs, whole)

    def encoder(self, sizes: list[Size]) -> nn.ModuleList:
        """Return what leads to each level: all blocks of a resolution at its first level, nothing at the others.

        So all levels of a resolution are told the last features of it, as in the paper.
        """
        levels = [sum(1 for _ in same) for _, same in groupby(sizes[1:])]
        if len(self.blocks or levels) != len(levels):
            raise ValueError(f"blocks must have {len(levels)} counts, one for each resolution, got {self.blocks}")
        counts, parts, width = iter(self.blocks or levels), nn.ModuleList(), self.channels
        for level, (stride, finer, size) in enumerate(zip(self.strides, sizes[:-1], sizes[1:], strict=True)):
            part: list[nn.Module] = []
            if stride > 1:
                part += [Block(width, width, width, finer, residual=True), nn.AvgPool2d(stride)]
            if stride > 1 or level == 0:
                part += [Block(width, width, width, size, residual=True) for _ in range(next(counts))]
            parts.append(nn.Sequential(*part))
        return parts


class Block(nn.Module):
    """Convolutions of 1x1, 3x3, 3x3 and 1x1 on maps of that size, a GELU before each; its input added or not.

    Args:
        inputs: channels.
        width: of the network, of which the middle of the block has a quarter.
        outputs: channels.
        size: of the maps.
        residual: whether the input is added.
    """

    def __init__(self, inputs: int, width: int, outputs: int, size: Size, *, residual: bool = False) -> None:
        super().__init__()
        middle = max(1, width // 4)
        self.c1 = convolution(inputs, middle, size, 1)
        self.c2, self.c3 = (convolution(middle, middle, size) for _ in range(2))
        self.c4 = convolution(middle, outputs, size, 1)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        found = x
        for layer in (self.c1, self.c2, self.c3, self.c4):
            found = layer(F.gelu(found))
        return x + found if self.residual else found


class Visit(NamedTuple):
    """The state of a level: as its prior and posterior read it, and with what the prior adds."""

    read: Tensor
    after: Tensor


class Level(nn.Module):
    """A block of the decoder: what the state says of z, and z of the state."""

    def __init__(self, width: int, variables: int, told: int, size: Size) -> None:
        super().__init__()
        self.variables = variables
        self.enc = Block(2 * width, width, 2 * variables, size)
        self.prior = Block(width, width, 2 * variables + width, size)
        self.z_proj = convolution(variables + told, width, size, 1)
        self.block = Block(width, width, width, size, residual=True)
        nn.init.zeros_(self.prior.c4.weight)

    def visit(self, state: Tensor) -> tuple[Tensor, Visit]:
        """Return the parameters of p and what comes of the state."""
        params, more = self.prior(state).tensor_split([2 * self.variables], 1)
        return params, Visit(state, state + more)

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        return cast(Tensor, self.block(state + self.z_proj(z)))


class Mixin(nn.Module):
    """The state where a resolution begins: a learned bias, and the state of the one before, repeated."""

    def __init__(self, width: int, size: Size, stride: int) -> None:
        super().__init__()
        self.stride, self.bias = stride, bias_of(width, size)

    def forward(self, state: Tensor) -> Tensor:
        return self.bias + F.interpolate(state, scale_factor=self.stride)


class ResidualNetwork(nn.Module):
    """What `Residual` builds; see `posteriors.Network`."""

    centre: Tensor  # the mean of x

    def __init__(
        self,
        value: Residual,
        shape: tuple[int, ...],
        sizes: list[Size],
        latents: tuple[int, ...],
        told: int,
        outputs: int,
        whole: bool,
    ) -> None:
        super().__init__()
        self.whole = whole
        width, levels = value.channels, list(zip(latents, sizes[1:], strict=True))
        self.shapes = tuple((variables, *size) for variables, size in levels)
        self.first = convolution(shape[0] + told, width, sizes[0])
        self.encoder = value.encoder(sizes)
        self.start = bias_of(width, sizes[-1])
        self.told = nn.Conv2d(told, width, 1, bias=False) if told else None
        self.levels = nn.ModuleList(Level(width, variables, told, size) for variables, size in levels)
        self.mixins = nn.ModuleList(
            Mixin(width, finer, stride) if stride > 1 else nn.Identity()
            for finer, stride in zip(sizes[:-1], value.strides, strict=True)
        )
        self.last = Block(width, width, width, sizes[0], residual=True) if value.strides[0] > 1 else nn.Identity()
        self.gain, self.bias = nn.Parameter(torch.ones(width, 1, 1)), nn.Parameter(torch.zeros(width, 1, 1))
        self.out = convolution(width, outputs, sizes[0], 1)
        self.register_buffer("centre", torch.zeros(shape))
        self.begin_small()

    def begin_small(self) -> None:
        """Scale what blocks and latents add to the state, so that its size at first does not depend on the depth."""
        above = [block.c4 for block in self.encoder.modules() if isinstance(block, Block)]
        damp(above, max(1, len(above)))
        levels = [self.level(number) for number in range(1, len(self.levels) + 1)]
        damp([level.block.c4 for level in levels] + [level.z_proj for level in levels], len(levels))

    def level(self, number: int) -> Level:
        """Return the block of a level, counted from 1."""
        return cast(Level, self.levels[number - 1])

    def up(self, level: int, below: Tensor, told: Tensor | None) -> Tensor:
        below = self.first(joined(below - self.centre, told)) if level == 1 else below
        return cast(Tensor, self.encoder[level - 1](below))

    def posterior(self, level: int, features: Tensor, state: Visit) -> Tensor:
        return cast(Tensor, self.level(level).enc(torch.cat([state.read, features], 1)))

    def top(self, batch: int, told: Tensor | None) -> Tensor:
        start = self.start.expand(batch, -1, *self.shapes[-1][1:])
        return start if told is None or self.told is None else start + self.told(told[:, :, None, None])

    def prior(self, level: int, state: Tensor) -> tuple[Tensor, Visit]:
        return self.level(level).visit(state)

    def down(self, level: int, state: Visit, z: Tensor, told: Tensor | None) -> Tensor:
        return cast(Tensor, self.mixins[level - 1](self.level(level)(state.after, joined(z, told))))

    def observe(self, state: Tensor) -> Tensor:
        maps = cast(Tensor, self.out(self.last(state) * self.gain + self.bias))
        return maps.mean((2, 3)) if self.whole else maps

    def without_top(self) -> None:
        """Nothing is of the top alone: what says p of a level says what goes on from it, too."""

    def begin(self, x: Tensor, outputs: Tensor | None) -> None:
        begin_with(self.centre, self.out, x, outputs)


def bias_of(width: int, size: Size) -> nn.Parameter:
    """Return what the state of a resolution begins with, (width, *size), or the same everywhere in large maps."""
    return nn.Parameter(torch.zeros(width, *(size if max(size) <= LARGEST else (1, 1))))
