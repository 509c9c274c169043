r"""PixelCNN: "Pixel Recurrent Neural Networks", van den Oord, Kalchbrenner, Kavukcuoglu 2016, arXiv 1601.06759.

One stack of masked convolutions (table 1): a 7x7 one with mask A, which does not see its own pixel, and residual
blocks with mask B, which do,

    h <- h + W_3 relu(W_2 * relu(W_1 relu(h))),    2h -> h -> h -> 2h features, 1x1, 3x3, 1x1,             (figure 5)

then two 1x1 layers, each after a ReLU, and a softmax over the levels of each colour. Features are in groups of R, G and
B: G sees R of its pixel, and B sees R and G. Mask A is mask B on an input that is shifted: down for the rows above,
right for the row itself.

Stacked masks leave a *blind spot*: beyond the reach of the first layer, what is further to the right than one column
for each row above is never seen, however deep the network (1606.05328, section 2.2).
"""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ancestral.causal import CausalConv2d, Cursor, MaskedConv2d, RowConv2d, begin_row
from ancestral.conditioning import chosen_conditioner
from ancestral.likelihoods import Bernoulli, Likelihood, check_count, check_odd
from ancestral.model import Model
from ancestral.models.raster import (
    channel_groups,
    check_image,
    check_image_shape,
    own_group,
    parameters_of,
    projection,
    walk_of,
)
from ancestral.walk import Walk

FIRST = 7  # kernel size of the first layer


class First(nn.Module):
    """The 7x7 convolution with mask A (table 1): mask B on a shifted input, the rows above and the row on their own."""

    def __init__(self, colours: int, out_channels: int, groups: int) -> None:
        super().__init__()
        left = (colours + 1, *(1 for _ in range(groups - 1)))
        self.above = CausalConv2d(colours + 1, out_channels, (FIRST // 2, FIRST))
        self.left = RowConv2d(left, out_channels, FIRST // 2, groups, bias=False)  # the other has one


class Last(nn.Module):
    """Two 1x1 layers and the output, each after a ReLU (table 1)."""

    def __init__(self, in_channels: int, channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        widths = (in_channels, channels, channels, out_channels)
        self.layers = nn.ModuleList(RowConv2d(*pair, 1, groups) for pair in itertools.pairwise(widths))

    def forward(self, h: Tensor, cursor: Cursor | None) -> Tensor:
        """Map features to the parameters of the likelihood."""
        for layer in self.layers:
            h = layer(h.relu(), cursor)
        return h


class ResidualBlock(nn.Module):
    """2h features in and out (figure 5), in `groups` channel groups."""

    def __init__(self, channels: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        reach = kernel_size // 2
        self.narrow = RowConv2d(2 * channels, channels, 1, groups)
        self.masked = MaskedConv2d(channels, channels, (reach, reach, reach), groups)
        self.widen = RowConv2d(channels, 2 * channels, 1, groups, bias=False)  # the next block's has one

    def forward(self, h: Tensor, plus: Tensor | None, cursor: Cursor | None) -> Tensor:
        """Return the next h; `plus` is added to the masked convolution."""
        r = self.masked(self.narrow(h.relu(), cursor).relu_(), cursor, plus)
        return self.widen(r.relu_(), cursor, plus=h)


class PixelCNN(Model):
    """PixelCNN over images of any size.

    >>> model = PixelCNN(shape=(1, 8, 8), channels=8, layers=2)
    >>> model.receptive_field((0, 2, 2))[0, :3, :7].int().tolist()  # row 1 is seen up to column 2 + 3
    [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0, 0]]

    Args:
        shape: (C, H, W) of the training images.
        likelihood: of a pixel. With one that does not couple the channels, features are in C channel groups.
        channels: h; the residual stream has 2h features (the paper: 128 on CIFAR-10).
        layers: residual blocks (the paper: 15 on CIFAR-10).
        kernel_size: of the masked convolutions of the blocks, odd.
        final_channels: features of the two last 1x1 layers (the paper: 1024 on CIFAR-10, 32 on MNIST); 2h by default.
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
        channels: int = 24,
        layers: int = 15,
        kernel_size: int = 3,
        final_channels: int | None = None,
        classes: int | None = None,
        conditioner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.shape = check_image_shape(shape)
        self.likelihood = likelihood
        final_channels = 2 * channels if final_channels is None else final_channels
        features = {"channels": channels, "final_channels": final_channels}
        self.groups = groups = channel_groups(likelihood, self.shape[0], **features)
        check_count("layers", layers, 1)
        check_odd("kernel_size", kernel_size, 3)
        self.kernel_size = kernel_size
        self.conditioner = chosen_conditioner(classes, conditioner)
        self.first = First(self.shape[0], 2 * channels, groups)
        self.blocks = nn.ModuleList(ResidualBlock(channels, kernel_size, groups) for _ in range(layers))
        self.condition = projection(self.conditioner, layers * channels)
        self.last = Last(2 * channels, final_channels, likelihood.features(self.shape[0]), groups)

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

    def rows(self, x: Tensor, condition: Tensor | None, cursor: Cursor | None = None) -> list[Tensor]:
        """Return what a row is told when it begins: what is added in the first layer, and in the blocks, if anything.

        The rows above are the input x of the first layer, (B, C + 1, H, W); those of the blocks are features, which
        only a cursor knows when the row begins. Without one the blocks see them by themselves.
        """
        plus = [] if condition is None else list(condition.chunk(len(self.blocks), 1))
        if cursor is not None:
            above = begin_row([block.masked for block in self.blocks], x, cursor)  # type: ignore[misc]
            plus = [a + p for a, p in zip(above, plus, strict=True)] if plus else above
        return [self.first.above(x, cursor), *plus]

    def cols(self, x: Tensor, rows: Iterable[Tensor], cursor: Cursor | None = None) -> Tensor:
        """Run the network: pixels on the left, and what the row was told, to parameters; see `RasterNetwork.cols`."""
        first, *plus = (own_group(part, cursor, self.groups) for part in rows)
        h = self.first.left(x, cursor, plus=first)
        for block, of_row in itertools.zip_longest(self.blocks, plus):
            h = block(h, of_row, cursor)
        return self.last(h, cursor)

    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        """Return which values the network sees at (c, row, col): what stacked masks reach, without the blind spot."""
        channel, row, col = at
        reach, layers = self.kernel_size // 2, len(self.blocks)
        furthest = FIRST // 2 + layers * reach
        field = torch.zeros(self.shape, dtype=torch.bool)
        field[:, row, max(0, col - furthest) : col] = True
        field[:channel, row, col] = True
        for up in range(1, min(furthest, row) + 1):  # only a layer that goes up can go right
            right = FIRST // 2 + min(up - 1, layers) * reach
            field[:, row - up, max(0, col - furthest) : col + right + 1] = True
        return field
