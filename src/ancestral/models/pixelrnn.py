r"""PixelRNN: "Pixel Recurrent Neural Networks", van den Oord, Kalchbrenner, Kavukcuoglu 2016, arXiv 1601.06759.

One stack of recurrent layers over the image (table 1): a 7x7 convolution with mask A, which does not see its own pixel,
then residual blocks

    x <- x + W_up h,    h = LSTM(x),    2h -> h -> 2h features (4h gates inside),                            (figure 5)

then two 1x1 layers, each after a ReLU, and a softmax over the levels of each colour. Learned skip connections lead from
every layer to the output. Features are in groups of R, G and B: G sees R of its pixel, and B sees R and G. Mask A is
mask B on an input that is shifted: down for the rows above, right for the row itself.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from ancestral.causal import Cursor, RowConv2d
from ancestral.causal.recurrent import DiagonalRecurrence, RowRecurrence, begin_diagonals, begin_row_lstm
from ancestral.conditioning import chosen_conditioner
from ancestral.likelihoods import Bernoulli, Likelihood, check_count, check_odd
from ancestral.model import Model
from ancestral.models.pixelcnn import FIRST, First, Last
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

# What the recurrent layers take, when a row begins, from the rows above: begin(layers, x, conditions, cursor).
Begin = Callable[..., list[Tensor]]


class Block(nn.Module):
    """A recurrent layer from 2h to h features and the way up to 2h, where what came in is added (figure 5)."""

    def __init__(self, recurrence: nn.Module, channels: int, groups: int, residual: bool) -> None:
        super().__init__()
        self.recurrence, self.residual = recurrence, residual
        self.up = RowConv2d(channels, 2 * channels, 1, groups, bias=False)  # what reads it has one

    def forward(self, x: Tensor, plus: Tensor | None, cursor: Cursor | None) -> tuple[Tensor, Tensor]:
        """Return the next x, and h for the skip path."""
        h = self.recurrence(x, cursor, plus)
        return self.up(h, cursor, plus=x if self.residual else None), h


class Network(nn.Module):
    """What both networks have around their recurrent layers: the first layer, blocks, skips and the last layers.

    Args:
        recurrences: the recurrent layers, from 2h to h features.
        begin: what they do when a row begins.
        shape: of the images, (C, H, W).
        likelihood: of a pixel.
        widths: h, and the features of the two last 1x1 layers.
        groups: channel groups.
        residual: whether the blocks add what came in.
    """

    def __init__(
        self,
        recurrences: Sequence[nn.Module],
        begin: Begin,
        shape: tuple[int, int, int],
        likelihood: Likelihood,
        widths: tuple[int, int],
        groups: int,
        residual: bool,
    ) -> None:
        super().__init__()
        channels, final_channels = widths
        self.groups, self.begin = groups, begin
        self.first = First(shape[0], 2 * channels, groups)
        self.blocks = nn.ModuleList(Block(layer, channels, groups, residual) for layer in recurrences)
        self.skip = RowConv2d(len(recurrences) * channels, 2 * channels, 1, groups, bias=False)
        self.last = Last(2 * channels, final_channels, likelihood.features(shape[0]), groups)

    def rows(self, x: Tensor, condition: Tensor | None, cursor: Cursor | None) -> list[Tensor]:
        """Return what a row is told when it begins: what is added in the first layer, and in each block, if anything.

        The states of the rows above are features, which only a cursor knows when the row begins; without one the
        recurrent layers see them by themselves.
        """
        conditions = None if condition is None else condition.chunk(len(self.blocks), 1)
        if cursor is None:
            return [self.first.above(x), *(conditions or ())]
        layers = [block.recurrence for block in self.blocks]
        return [self.first.above(x, cursor), *self.begin(layers, x, conditions, cursor)]

    def cols(self, x: Tensor, rows: Iterable[Tensor], cursor: Cursor | None) -> Tensor:
        """Run the network: pixels on the left, and what the row was told, to parameters; see `RasterNetwork.cols`."""
        first, *plus = (own_group(part, cursor, self.groups) for part in rows)
        h = self.first.left(x, cursor, plus=first)
        states = []
        for block, of_row in itertools.zip_longest(self.blocks, plus):
            h, state = block(h, of_row, cursor)
            states.append(state)
        h = self.skip(joined(states, self.groups if cursor is None else 1), cursor, plus=h)
        return self.last(h, cursor)


class RowLSTM(Model):
    """PixelRNN with Row LSTM layers, over images of any size.

    A pixel sees a triangle of the rows above, one column more on either side for each row, and of its own row one
    pixel more on the left for each layer.

    >>> model = RowLSTM(shape=(1, 8, 8), channels=8, layers=2)
    >>> model.receptive_field((0, 2, 2))[0, :3].int().tolist()  # row 1 is seen up to column 2 + 3
    [[1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]]

    Args:
        shape: (C, H, W) of the training images.
        likelihood: of a pixel. With one that does not couple the channels, features are in C channel groups.
        channels: h, features of a state; the residual stream has 2h features (the paper: 128 on CIFAR-10).
        layers: recurrent layers (the paper: 12 on CIFAR-10).
        kernel_size: k of the input-to-state convolutions, odd; the state-to-state ones have three taps.
        final_channels: features of the two last 1x1 layers (the paper: 1024 on CIFAR-10, 32 on MNIST); 2h by default.
        residual: whether blocks add what came in (the paper: not on 64x64 images).
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
        layers: int = 12,
        kernel_size: int = 3,
        final_channels: int | None = None,
        residual: bool = True,
        classes: int | None = None,
        conditioner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape = check_image_shape(shape)
        self.likelihood = likelihood
        widths = (channels, 2 * channels if final_channels is None else final_channels)
        self.groups = groups = channel_groups(likelihood, shape[0], channels=channels, final_channels=widths[1])
        check_count("layers", layers, 1)
        check_odd("kernel_size", kernel_size, 3)
        self.layers, self.kernel_size = layers, kernel_size
        self.conditioner = chosen_conditioner(classes, conditioner)
        self.condition = projection(self.conditioner, layers * 4 * channels)
        recurrences = [RowRecurrence(2 * channels, channels, kernel_size, groups) for _ in range(layers)]
        self.network = Network(recurrences, begin_row_lstm, shape, likelihood, widths, groups, residual)

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
        """Return what a row is told when it begins; see `Network.rows`."""
        return self.network.rows(x, condition, cursor)

    def cols(self, x: Tensor, rows: Iterable[Tensor], cursor: Cursor | None = None) -> Tensor:
        """Run the network; see `Network.cols`."""
        return self.network.cols(x, rows, cursor)

    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        """Return which values the network sees at (c, row, col): a triangle, wider by what the other layers reach."""
        channel, row, col = at
        left = FIRST // 2 + self.layers * (self.kernel_size // 2)
        field = torch.zeros(self.shape, dtype=torch.bool)
        field[:, row, max(0, col - left) : col] = True
        field[:channel, row, col] = True
        for up in range(1, row + 1):  # the first layer goes right from the row below
            field[:, row - up, max(0, col - left - up) : col + up - 1 + FIRST // 2 + 1] = True
        return field


class DiagonalBiLSTM(Model):
    """PixelRNN with Diagonal BiLSTM layers, over images of any size.

    A pixel sees all pixels before it, at any distance, but for one: the last one of the row above, unless it is within
    reach of the first layer. All that a pixel learns from the right comes from features of rows above, and no feature
    of the row above, which are one step behind the pixels, has seen the last pixel of its row (with channel groups:
    the last channel of it).

    >>> model = DiagonalBiLSTM(shape=(1, 8, 8), channels=8, layers=1)
    >>> model.receptive_field((0, 2, 2))[0, :3].int().tolist()
    [[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0, 0, 0]]

    Args:
        shape: (C, H, W) of the training images.
        likelihood: of a pixel. With one that does not couple the channels, features are in C channel groups.
        channels: h, features of a state; the residual stream has 2h features (the paper: 128 on CIFAR-10, 16 on MNIST).
        layers: recurrent layers (the paper: 12 on CIFAR-10, 7 on MNIST).
        final_channels: features of the two last 1x1 layers (the paper: 1024 on CIFAR-10, 32 on MNIST); 2h by default.
        residual: whether blocks add what came in (the paper: not on 64x64 images).
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
        layers: int = 7,
        final_channels: int | None = None,
        residual: bool = True,
        classes: int | None = None,
        conditioner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape = check_image_shape(shape)
        self.likelihood = likelihood
        widths = (channels, 2 * channels if final_channels is None else final_channels)
        self.groups = groups = channel_groups(likelihood, shape[0], channels=channels, final_channels=widths[1])
        check_count("layers", layers, 1)
        self.conditioner = chosen_conditioner(classes, conditioner)
        self.condition = projection(self.conditioner, layers * 8 * channels)
        recurrences = [DiagonalRecurrence(2 * channels, channels, groups) for _ in range(layers)]
        self.network = Network(recurrences, begin_diagonals, shape, likelihood, widths, groups, residual)

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
        """Return what a row is told when it begins; see `Network.rows`."""
        return self.network.rows(x, condition, cursor)

    def cols(self, x: Tensor, rows: Iterable[Tensor], cursor: Cursor | None = None) -> Tensor:
        """Run the network; see `Network.cols`."""
        return self.network.cols(x, rows, cursor)

    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        """Return which values the network sees at (c, row, col): all earlier ones, but for the end of the row above."""
        channel, row, col = at
        field = torch.zeros(self.shape, dtype=torch.bool)
        field[:, :row] = True
        field[:, row, :col] = True
        field[:channel, row, col] = True
        if row > 0 and col + FIRST // 2 < self.shape[2] - 1:
            field[self.groups - 1 :, row - 1, -1] = False
        return field
