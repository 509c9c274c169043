r"""PixelSNAIL: "An Improved Autoregressive Generative Model", Chen, Mishra, Rohaninejad, Abbeel 2017, arXiv 1712.09763.

One stack, of A groups. A group is R gated residual blocks of 2x2 convolutions, those of PixelCNN++ (1701.05517), and an
attention block, through which a pixel sees all pixels strictly before it:

    [k, v] = W res([x, u, background]),    q = W' res([u, background]),    u <- res(u | softmax(q k' / sqrt(d)) v)

with gated residual blocks of 1x1 convolutions. Keys and values are told the image itself, queries are not; keys and
values of a pixel are therefore made one raster step late, when the pixel is known. Attention knows no places: the
background tells them. Convolutions are weight-normalised; `initialize` sets their gains and biases by a batch of data.
In the first layer the authors shift what a convolution with its bias gives; here the input is shifted, the bias is not.
"""

import math
from collections.abc import Iterable
from functools import partial
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.causal import CornerConv2d, Cursor, DownShiftedConv2d, begin_row
from ancestral.causal.attention import CausalAttention, Step, check_attention, one_step_late, step_of
from ancestral.causal.shifted import GatedResidual, Pointwise, concat_elu
from ancestral.conditioning import chosen_conditioner
from ancestral.likelihoods import DiscretizedLogisticMixture, Likelihood, Table, check_count, check_dropout
from ancestral.model import Model
from ancestral.models.raster import (
    check_image,
    check_image_shape,
    check_size,
    coupled,
    initialize_by,
    parameters_of,
    projection,
    total,
    walk_of,
)
from ancestral.walk import Walk

OF_TABLE, OF_MIXTURE = 2, 8  # numbers that a likelihood keeps for the gradient, for each of its parameters


class AttentionBlock(nn.Module):
    """An attention block: F features in and out, d keys, F / 2 values, for images of C colours."""

    def __init__(self, channels: int, colours: int, keys: int, dropout: float) -> None:
        super().__init__()
        told, values = channels + 2 * colours, channels // 2
        seen = colours + told
        self.content, self.to_content = GatedResidual(seen, Pointwise, dropout), Pointwise(seen, keys + values)
        self.query, self.to_query = GatedResidual(told, Pointwise, dropout), Pointwise(told, keys)
        self.attention = CausalAttention(keys)
        self.shortcut, self.merge = Pointwise(2 * values, channels), GatedResidual(channels, Pointwise, dropout)

    def forward(
        self, u: Tensor, places: tuple[Tensor, Tensor, Tensor], cursor: Cursor | None, step: Step | None
    ) -> Tensor:
        """Return the next u (B, F, ...). `places` are the background, and background and image one step late.

        The image one step late has a last channel of ones that says that there is a pixel before this one.
        """
        background, late_background, late = places
        told = torch.cat([u, background], 1)
        q = self.to_query(self.query(told, concat_elu(told), cursor), cursor)
        seen = torch.cat([late[:, :-1], one_step_late(self, u, cursor), late_background], 1)
        kv = self.to_content(self.content(seen, concat_elu(seen), cursor), cursor)
        mixed = self.attention(q, kv, cursor, step) * late[:, -1:]  # nothing at the first pixel
        return self.merge(u, concat_elu(u), cursor, self.shortcut(concat_elu(mixed), cursor))


class PixelSNAIL(Model):
    """PixelSNAIL over images of any size.

    >>> model = PixelSNAIL(shape=(1, 8, 8), channels=8, layers=1)
    >>> int(model.receptive_field((0, 4, 0)).sum())  # all the pixels before it
    32

    Args:
        shape: (C, H, W) of the training images.
        likelihood: of a pixel; by default a mixture of `components=10` discretized logistics over 256 levels. With a
            table for each channel (`Categorical`, `Bernoulli`) logits are linear in the earlier channels of the pixel.
        channels: F, features (the paper: 256).
        layers: A, groups of residual blocks with an attention block (the paper: 12; 4 train on a CPU).
        residual_blocks: R, in each group (the paper: 4).
        keys: d, features of keys and queries (the paper: 16).
        dropout: share of the features dropped in training (the paper: 0.5 on CIFAR-10, 0 on ImageNet).
        classes: number of classes, for a class-conditional model.
        conditioner: what turns another context into features, instead of `classes`.

    Raises:
        ValueError: an argument is out of range.
    """

    groups = 1  # the head couples the channels

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        likelihood: Likelihood = DiscretizedLogisticMixture(256),  # noqa: B008 (a frozen value)
        channels: int = 32,
        layers: int = 4,
        residual_blocks: int = 4,
        keys: int = 16,
        dropout: float = 0.0,
        classes: int | None = None,
        conditioner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.shape = check_image_shape(shape)
        colours = self.shape[0]
        for name, count in (("layers", layers), ("residual_blocks", residual_blocks), ("keys", keys)):
            check_count(name, count, 1)
        check_count("channels", channels, 2)
        check_dropout(dropout)
        self.likelihood = coupled(likelihood, colours)
        self.conditioner = chosen_conditioner(classes, conditioner)
        self.first_above = DownShiftedConv2d(colours + 1, channels, (1, 3))
        self.first_left = CornerConv2d(colours + 1, channels, (2, 1))
        corner, blocks = partial(CornerConv2d, kernel_size=(2, 2)), layers * residual_blocks
        self.residual_blocks, self.features_remembered = residual_blocks, keys + channels // 2
        # about so many of a pixel in each group are kept for the gradient
        self.features_kept = (10 * residual_blocks + 32) * channels + 40 * colours
        self.residuals = nn.ModuleList(GatedResidual(channels, corner, dropout) for _ in range(blocks))
        self.attentions = nn.ModuleList(AttentionBlock(channels, colours, keys, dropout) for _ in range(layers))
        self.out = Pointwise(channels, self.likelihood.features(colours))
        self.condition = projection(self.conditioner, blocks * 2 * channels)
        if self.condition is not None:
            nn.init.normal_(self.condition.weight, std=0.05)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Map levels (B, C, H, W) to the likelihood's parameters (B, P, H, W), in one parallel pass."""
        check_image(x, self.shape[0])
        positions = x.shape[2] * x.shape[3]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            check_attention(positions, len(x) * positions * self.bytes_kept(positions), self.device)
        return parameters_of(self, x, context)

    def log_probs(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        check_image(self.check(x), self.shape[0])
        return self.likelihood.log_probs(self(x, context), x)

    def walk(
        self,
        batch: int,
        context: Tensor | None = None,
        x: Tensor | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Walk:
        """Yield the factors of every pixel in raster order, and of every channel within it; see `Model.walk`."""
        positions = math.prod(check_size(shape, self.shape)[1:])
        size = self.features_remembered * torch.finfo(self.dtype).bits // 8
        check_attention(positions, batch * positions * len(self.attentions) * size, self.device)
        return walk_of(self, batch, context, shape)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        initialize_by(self, x, context)

    def bytes_kept(self, positions: int) -> int:
        """Return about how many bytes of a pixel are kept for the gradient: attention weights, features, the head's."""
        size = torch.finfo(self.dtype).bits // 8
        weight = 6 if torch.is_autocast_enabled(self.device.type) else size  # a softmax in float32, and its cast
        layer = positions * weight + self.features_kept * size
        head = OF_TABLE if isinstance(self.likelihood, Table) else OF_MIXTURE
        return len(self.attentions) * layer + 4 * head * self.likelihood.features(self.shape[0])

    def rows(self, x: Tensor, condition: Tensor | None, cursor: Cursor | None = None) -> list[Any]:
        """Return what a row is told when it begins.

        That is: what the first layer sees of the row above; where this row continues that one, its last pixel; the
        background; what is added to the two convolutions of each residual block.
        """
        blocks = len(self.residuals)
        corners: list[Any] = [conv for block in self.residuals for conv in (block.conv1, block.conv2)]
        above: list[Any] = [None] * (1 + 2 * blocks)
        if cursor is not None:
            above = [*begin_row([self.first_left], x, cursor), *begin_row(corners, x, cursor)]
        first = total(self.first_above(x, cursor), above[0])
        continued = F.pad(x[..., -1:], (0, x.shape[3] - 1))
        of_context = [None] * blocks if condition is None else condition.chunk(blocks, 1)
        above[2::2] = [total(*terms) for terms in zip(above[2::2], of_context, strict=True)]
        return [first, continued, background(x, cursor), *above[1:]]

    def cols(self, x: Tensor, rows: Iterable[Any], cursor: Cursor | None = None) -> Tensor:
        """Run the network: pixels on the left, and what the row was told, to parameters; see `RasterNetwork.cols`."""
        first, continued, ground, *plus = rows
        places = (*ground.chunk(2, 1), x + continued)
        step = None if cursor is None else step_of(cursor, x.dtype)
        u = self.first_left(x, cursor, first)
        blocks = zip(self.residuals, plus[::2], plus[1::2], strict=True)
        for attention in self.attentions:
            for block, plus_1, plus_2 in islice(blocks, self.residual_blocks):
                u = block(u, concat_elu(u), cursor, plus_1, plus_2)
            u = attention(u, places, cursor, step)
        return self.out(F.elu(u), cursor)

    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        """Return which values the network sees at (c, row, col): all the earlier ones."""
        channel, row, col = at
        field = torch.zeros(self.shape, dtype=torch.bool)
        field[:, :row] = True
        field[:, row, :col] = True
        field[:channel, row, col] = True
        return field


def background(x: Tensor, cursor: Cursor | None) -> Tensor:
    """Return the background of an image, and the same one raster step late: (B, 4 C, H, W), of one row with a cursor.

    It is the row and the column of each pixel, from -1/2 to 1/2, each once for every colour (as the authors have it).
    x is (B, C + 1, H, W) or a row of it.
    """
    height, width = x.shape[2:] if cursor is None else cursor.size
    t = torch.arange(x.shape[2] * width, device=x.device)
    if cursor is not None:
        t = t + cursor.row * width
    maps = []
    for position in (t, t - 1):
        row, col = (position // width).double(), (position % width).double()  # few bits would make neighbours the same
        maps += [(row - height / 2) / height] * (x.shape[1] - 1) + [(col - width / 2) / width] * (x.shape[1] - 1)
    return torch.stack(maps).to(x.dtype).unflatten(1, x.shape[2:]).expand(len(x), -1, -1, -1)
