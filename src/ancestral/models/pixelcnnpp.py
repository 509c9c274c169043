r"""PixelCNN++: "PixelCNN++: Improving the PixelCNN with discretized logistic mixture likelihood and other
modifications", Salimans et al. 2017, arXiv 1701.05517.

Two streams: u sees the rows above, ul the row itself and what u has found. Both go down to a quarter of the resolution
by strided convolutions, and up again with shortcuts from every layer of the way down (section 2.3, 2.4). All layers are

    gated residual blocks:  c = conv(elu([x, -x])) + nin(elu([a, -a])),
                            [p, q] = conv(dropout(elu([c, -c]))) + V h,     y = x + p sigma(q)

with the shortcut a and the context h. Convolutions are weight-normalised; `initialize` sets their gains and biases by a
batch of data. The input is shifted (down for u, right for ul), so that every convolution may see its own position.

In the first layer the authors shift what a convolution with its bias gives; here the input is shifted, the bias not.
The paper's images have sizes divisible by four; here half of an odd size is rounded up, and what lies outside of a map
is zero on every level. The strided branches begin a coarse position at its first pixel: what lies between that pixel
and the present one they do not see, and the full resolution sees it only as far as its own convolutions reach. So
beyond that reach there are blind spots, which `receptive_field` leaves out.
"""  # noqa: D205 (a long title)

import itertools
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.causal import CornerConv2d, Cursor, DownShiftedConv2d, HalfResolution, Nin, RowConv2d, begin_row
from ancestral.causal.reach import Needs, seen
from ancestral.causal.shifted import SMALL_SCALE, GatedResidual, Pointwise, concat_elu, dropped
from ancestral.conditioning import chosen_conditioner, features_of
from ancestral.likelihoods import DiscretizedLogisticMixture, Likelihood, check_count, check_dropout
from ancestral.model import Model
from ancestral.models.raster import (
    check_image,
    check_image_shape,
    coupled,
    initialize_by,
    parameters_of,
    total,
    walk_of,
)
from ancestral.walk import Walk

Conditions = tuple[Tensor, ...] | None  # V h of every block of a resolution, for each resolution
Above = Iterator[Tensor | None]
RESOLUTIONS = 3


class GatedResnet(nn.Module):
    """A gated residual block of both streams: F features in, F out, with shortcuts from the way down or without.

    Shortcuts, and the block's own inputs, are given as concatenated elus: they are needed twice.
    """

    def __init__(self, channels: int, dropout: float, shortcuts: bool) -> None:
        super().__init__()
        wide, self.dropout = 2 * channels, dropout
        self.conv1_u = DownShiftedConv2d(wide, channels, (2, 3))
        self.conv2_u = DownShiftedConv2d(wide, wide, (2, 3), scale=SMALL_SCALE)
        self.nin_u = Nin(wide, 0, channels) if shortcuts else None
        self.ul = GatedResidual(channels, partial(CornerConv2d, kernel_size=(2, 2)), dropout)
        self.nin_ul = Nin(wide, wide if shortcuts else 0, channels)

    def rows(
        self,
        u: Tensor,
        e: Tensor,
        shortcut: Tensor | None,
        condition: Tensor | None,
        above: Above,
        cursor: Cursor | None,
    ) -> tuple[Tensor, Tensor, list[Any]]:
        """Return the next u, its concatenated elu, and the two things that the pixels of the row are told.

        `above` gives what the two convolutions of the pixel clock take from the rows above, if there is a cursor.
        """
        c = self.conv1_u(e, cursor)
        if self.nin_u is not None and shortcut is not None:
            c = c + self.nin_u.rows(shortcut, cursor)
        c = self.conv2_u(dropped(concat_elu(c), self, cursor), cursor)
        of_u, of_ul = (None, None) if condition is None else condition.chunk(2, 1)
        u = u + F.glu(c if of_u is None else c + of_u, 1)
        e = concat_elu(u)
        return u, e, [total(self.nin_ul.rows(e, cursor), next(above)), total(of_ul, next(above))]

    def cols(self, x: Tensor, e: Tensor, shortcut: Tensor | None, told: Iterator[Any], cursor: Cursor | None) -> Tensor:
        """Return the next features of the pixel clock."""
        plus = next(told)
        if shortcut is not None:
            plus = self.nin_ul.cols(shortcut, plus, cursor)
        return self.ul(x, e, cursor, plus, next(told))

    def needs(self, needs: Needs) -> tuple[Needs, Needs]:
        """Return where the block's inputs, and its shortcuts, are needed, if its outputs are needed there."""
        cols = seen(needs.cols, self.ul.conv2.reach)  # there nin_ul reads the shortcut, and the next u
        out = needs.rows | cols
        rows = seen(out, self.conv2_u.reach)
        inputs = Needs(out | seen(rows, self.conv1_u.reach), needs.cols | seen(cols, self.ul.conv1.reach))
        return inputs, Needs(rows, cols)


class Resolution(nn.Module):
    """The blocks of one resolution, on the way down and on the way up, with all lower resolutions between them."""

    def __init__(self, channels: int, layers: int, dropout: float, resolutions: int) -> None:
        super().__init__()
        lower = Resolution(channels, layers, dropout, resolutions - 1) if resolutions > 1 else None
        self.lower = HalfResolution(lower, channels) if lower is not None else None
        self.down = nn.ModuleList(GatedResnet(channels, dropout, False) for _ in range(layers))
        ups = layers + 1 if lower is not None else layers  # one for each layer of the way down, its input included
        self.up = nn.ModuleList(GatedResnet(channels, dropout, True) for _ in range(ups))

    @property
    def blocks(self) -> list[int]:
        """How many blocks this resolution, and each of the lower ones, has."""
        own = len(self.down) + len(self.up)
        return [own] if self.lower is None else [own, *self.lower.inner.blocks]  # type: ignore[attr-defined]

    @property
    def corners(self) -> list[CornerConv2d]:
        """The convolutions of the pixel clock in the order they run."""
        return [conv for block in (*self.down, *self.up) for conv in (block.ul.conv1, block.ul.conv2)]

    def rows(self, u: Tensor, condition: Conditions, cursor: Cursor | None = None) -> tuple[Tensor, list[Any]]:
        """Map u (B, F, H, W) to u, and to what the pixels are told; the way up starts from the last block's output."""
        blocks = len(self.down) + len(self.up)
        own, others = (None, None) if condition is None else (condition[0], condition[1:])
        conditions = iter([None] * blocks if own is None else own.chunk(blocks, 1))
        above: Above = itertools.repeat(None) if cursor is None else iter(begin_row(self.corners, u, cursor))
        e, shortcuts, told = concat_elu(u), [], []
        for block in self.down:
            shortcuts.append(e)
            u, e, new = block.rows(u, e, None, next(conditions), above, cursor)  # type: ignore[operator]
            told += new
        if self.lower is not None:
            shortcuts.append(e)
            u, new = self.lower.rows(u, others, cursor)
            e, told = concat_elu(u), told + new
        for block in self.up:
            u, e, new = block.rows(u, e, shortcuts.pop(), next(conditions), above, cursor)  # type: ignore[operator]
            told += new
        assert not shortcuts
        return u, told

    def cols(self, x: Tensor, told: Iterator[Any], cursor: Cursor | None = None) -> Tensor:
        """Map the pixel clock's features (B, F, H, W), or (B, F), to the same shape."""
        shortcuts = []
        for block in self.down:
            shortcuts.append(concat_elu(x))
            x = block.cols(x, shortcuts[-1], None, told, cursor)  # type: ignore[operator]
        if self.lower is not None:
            shortcuts.append(concat_elu(x))
            x = self.lower.cols(x, told, cursor)
        for block in self.up:
            x = block.cols(x, concat_elu(x), shortcuts.pop(), told, cursor)  # type: ignore[operator]
        return x

    def needs(self, needs: Needs) -> Needs:
        """Return where the inputs are needed, if the outputs are needed there."""
        shortcuts = []
        for block in reversed(self.up):
            needs, shortcut = block.needs(needs)  # type: ignore[operator]
            shortcuts.append(shortcut)
        if self.lower is not None:
            needs = self.lower.needs(needs) | shortcuts.pop()
        for block in reversed(self.down):
            needs, _ = block.needs(needs)  # type: ignore[operator]
            needs |= shortcuts.pop()
        return needs


class Projections(nn.Module):
    """The linear maps V from the features h of a context to what all blocks add, one for each resolution."""

    def __init__(self, features: int, width: int, blocks: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(RowConv2d(features, width * n, bias=False) for n in blocks)
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=0.05)  # type: ignore[arg-type]

    def whole(self, h: Tensor) -> Conditions:
        """Map (B, F, 1, 1) or (B, F, H, W) to V h of every resolution; a map is read where its coarse pixels begin."""
        return tuple(layer.whole(h[:, :, :: 2**n, :: 2**n]) for n, layer in enumerate(self.layers))  # type: ignore[operator]


class PixelCNNpp(Model):
    """PixelCNN++ over images of any size.

    Rows that are not divisible by four can have blind spots, because a position of half (a quarter of) the resolution
    is computed at its first pixel and serves two (four) rows: far to the right in the rows just above, and far to the
    left in the row itself, where only finer convolutions see. `receptive_field` leaves them out. At 32x32 and the
    paper's depth only odd rows have any.

    >>> model = PixelCNNpp(shape=(1, 8, 8), channels=8, layers=1)
    >>> model.receptive_field((0, 1, 0))[0, 0].int().tolist()
    [1, 1, 1, 1, 1, 1, 1, 0]

    Args:
        shape: (C, H, W) of the training images.
        likelihood: of a pixel; by default a mixture of `components=10` discretized logistics over 256 levels. With a
            table for each channel (`Categorical`, `Bernoulli`) logits are linear in the earlier channels of the pixel.
        channels: F, features of each stream (the paper's 2.92 bits/dim: 160 in the code, 192 in the text).
        layers: residual blocks of a resolution on the way down (the paper: 5), and one more on the way up.
        dropout: share of the features dropped in training (the paper: 0.5). By default none: a model of the default
            size, trained for minutes, underfits; the paper's size overfits CIFAR-10 without it.
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
        channels: int = 16,
        layers: int = 5,
        dropout: float = 0.0,
        classes: int | None = None,
        conditioner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.shape = check_image_shape(shape)
        check_count("layers", layers, 1)
        check_count("channels", channels, 1)
        check_dropout(dropout)
        self.likelihood = coupled(likelihood, self.shape[0])
        self.conditioner = chosen_conditioner(classes, conditioner)
        joined = self.shape[0] + 1
        self.first_u = DownShiftedConv2d(joined, channels, (2, 3))
        self.first_above = DownShiftedConv2d(joined, channels, (1, 3))
        self.first_left = CornerConv2d(joined, channels, (2, 1))
        self.resolutions = Resolution(channels, layers, dropout, RESOLUTIONS)
        self.out = Pointwise(channels, self.likelihood.features(self.shape[0]))
        features = features_of(self.conditioner)
        self.condition = Projections(features, 4 * channels, self.resolutions.blocks) if features else None

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

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        initialize_by(self, x, context)

    def rows(self, x: Tensor, condition: Conditions, cursor: Cursor | None = None) -> list[Any]:
        """Run u: rows above (B, C + 1, H, W) to what the pixels of the row are told; see `RasterNetwork.rows`."""
        u = self.first_u(x, cursor)
        above = None if cursor is None else begin_row([self.first_left], x, cursor)[0]
        return [total(self.first_above(x, cursor), above), *self.resolutions.rows(u, condition, cursor)[1]]

    def cols(self, x: Tensor, rows: Iterable[Any], cursor: Cursor | None = None) -> Tensor:
        """Run ul: pixels on the left, and what they are told, to parameters; see `RasterNetwork.cols`."""
        told = iter(rows)
        h = self.resolutions.cols(self.first_left(x, cursor, next(told)), told, cursor)
        return self.out(F.elu(h), cursor)

    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        """Return which values the network sees at (c, row, col), blind spots left out: found layer by layer."""
        channel, row, col = at
        outputs = torch.zeros(2, *self.shape[1:], dtype=torch.bool)
        outputs[1, row, col] = True
        u, ul = self.resolutions.needs(Needs(*outputs))
        above = seen(u, self.first_u.reach) | seen(ul, self.first_above.reach)
        left = seen(ul, self.first_left.reach)
        field = (F.pad(above, (0, 0, 0, 1))[1:] | F.pad(left, (0, 1))[:, 1:]).expand(self.shape).clone()  # unshifted
        field[:channel, row, col] = True
        return field
