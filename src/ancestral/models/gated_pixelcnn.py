r"""Gated PixelCNN: "Conditional Image Generation with PixelCNN Decoders", van den Oord et al. 2016, arXiv 1606.05328.

Two stacks of gated convolutions: the *vertical* one sees all the rows above, the *horizontal* one the row itself and
what the vertical one found. Together they see every earlier pixel within reach, where stacked masked convolutions
leave a blind spot. Each gated unit is

    y = tanh(W_f * x + V_f' h) . sigma(W_g * x + V_g' h)                                            (equations 2, 4, 5)

The input is shifted (down for the vertical stack, right for the horizontal one), so that every convolution may see
its own position. As in PixelCNN (1601.06759, table 1) the first layer is a plain 7x7 convolution and the last ones are
1x1; as there, skip connections lead from every layer to the output.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.causal import CausalConv2d, Cursor, RowConv2d, gate
from ancestral.conditioning import chosen_conditioner
from ancestral.likelihoods import Bernoulli, Likelihood, check_count, check_odd
from ancestral.model import Model
from ancestral.models.raster import (
    channel_groups,
    check_image,
    check_image_shape,
    joined,
    own_group,
    parameters_of,
    projection,
    walk_of,
)
from ancestral.walk import Walk

FIRST = 7  # kernel size of the first layer


class GatedBlock(nn.Module):
    """One layer of both stacks (figure 2): p features in, p features out, in `groups` channel groups on the right."""

    def __init__(self, channels: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.channels, self.width, reach = channels, channels // groups, kernel_size // 2
        self.vertical = CausalConv2d(channels, 2 * channels, (reach + 1, kernel_size))
        self.link = RowConv2d(2 * channels, 2 * channels)
        self.horizontal = RowConv2d(channels, 2 * channels, reach + 1, groups, bias=False)  # link has the bias
        self.mix = RowConv2d(channels, channels, 1, groups, bias=False)  # so has the next layer's

    def rows(self, v: Tensor, condition: Tensor | None, cursor: Cursor | None) -> tuple[Tensor, Tensor]:
        """Return the next v, and what the horizontal stack is told: taken before the gate."""
        u = self.vertical(v, cursor)
        if condition is None:
            return gate(u, self.channels), self.link.whole(u)
        of_vertical, of_horizontal = condition.chunk(2, 1)
        return gate(u + of_vertical, self.channels), self.link.whole(u) + of_horizontal

    def cols(self, h: Tensor, link: Tensor, cursor: Cursor | None) -> tuple[Tensor, Tensor]:
        """Return the next h, and the gated features for the skip path."""
        gated = gate(self.horizontal(h, cursor, plus=link), self.width)
        return self.mix(gated, cursor, plus=h), gated


class GatedPixelCNN(Model):
    """Gated PixelCNN over images of any size.

    Args:
        shape: (C, H, W) of the training images.
        likelihood: of a pixel. With one that does not couple the channels, features are in C channel groups.
        channels: p, features of each stack.
        layers: gated layers (the paper: 20).
        kernel_size: n of the vertical n x n and the horizontal 1 x n convolutions, odd.
        classes: number of classes, for a class-conditional model.
        conditioner: what turns another context into features, instead of `classes`.

    Raises:
        ValueError: an argument is out of range, or channels are not divisible by the channel groups.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        likelihood: Likelihood = Bernoulli(),  # noqa: B008 (a frozen value)
        channels: int = 48,
        layers: int = 20,
        kernel_size: int = 5,
        classes: int | None = None,
        conditioner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.shape = check_image_shape(shape)
        self.likelihood = likelihood
        self.groups = groups = channel_groups(likelihood, self.shape[0], channels=channels)
        check_count("layers", layers, 1)
        check_odd("kernel_size", kernel_size)
        self.kernel_size = kernel_size
        self.conditioner = chosen_conditioner(classes, conditioner)
        left = (self.shape[0] + 1, *(1 for _ in range(groups - 1)))
        self.first_vertical = CausalConv2d(self.shape[0] + 1, channels, (FIRST // 2, FIRST))
        self.first_horizontal = RowConv2d(left, channels, FIRST // 2, groups)
        self.blocks = nn.ModuleList(GatedBlock(channels, kernel_size, groups) for _ in range(layers))
        self.condition = projection(self.conditioner, layers * 4 * channels)
        self.skip = RowConv2d(layers * channels, channels, 1, groups, bias=False)
        self.hidden = RowConv2d(channels, channels, 1, groups)
        self.out = RowConv2d(channels, likelihood.features(self.shape[0]), 1, groups)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Map levels (B, C, H, W) to the likelihood's parameters (B, P, H, W), in one parallel pass."""
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
        return walk_of(self, batch, context, shape)

    def rows(self, x: Tensor, condition: Tensor | None, cursor: Cursor | None = None) -> Iterator[Tensor]:
        """Run the vertical stack: rows above (B, C + 1, H, W) to a link (B, 2 p, H, W) for every layer, in turn."""
        v = self.first_vertical(x, cursor)
        conditions = [None] * len(self.blocks) if condition is None else condition.chunk(len(self.blocks), 1)
        for block, own in zip(self.blocks, conditions, strict=True):
            v, link = block.rows(v, own, cursor)  # type: ignore[operator]
            yield link

    def cols(self, x: Tensor, rows: Iterable[Tensor], cursor: Cursor | None = None) -> Tensor:
        """Run the horizontal stack: pixels on the left, and the links, to parameters; see `RasterNetwork.cols`."""
        h = self.first_horizontal(x, cursor)
        skips = []
        for block, link in zip(self.blocks, rows, strict=True):
            h, gated = block.cols(h, own_group(link, cursor, self.groups), cursor)  # type: ignore[operator]
            skips.append(gated)
        h = self.skip(joined(skips, self.groups if cursor is None else 1), cursor, plus=h)
        return self.out(F.relu(self.hidden(F.relu(h), cursor)), cursor)

    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        """Return which values the network sees at (c, row, col): all earlier ones within reach, no blind spot."""
        channel, row, col = at
        reach, layers = self.kernel_size // 2, len(self.blocks)
        above, beside = FIRST // 2 + layers * reach, FIRST // 2 + layers * reach
        field = torch.zeros(self.shape, dtype=torch.bool)
        field[:, max(0, row - above) : row, max(0, col - beside) : col + beside + 1] = True
        field[:, row, max(0, col - beside) : col] = True
        field[:channel, row, col] = True
        return field
