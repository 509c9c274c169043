"""The weight-normalised causal layers of PixelCNN++ (1701.05517; the names are those of the authors' code).

What a layer of the pixel clock takes from the rows above is complete when a row begins: then `begin_row` computes it
for the whole row, and for each pixel there remain the taps of the row itself.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.causal.conv import kernel_of, row_patches
from ancestral.causal.cursor import Cursor
from ancestral.causal.reach import Kernel
from ancestral.causal.weightnorm import WeightNorm

SMALL_SCALE = 0.1  # of the second convolution of a block at initialisation: a block begins near the identity


class DownShiftedConv2d(nn.Module):
    """A convolution that sees its own row and rows above, columns on both sides: the row clock.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: rows (the last is its own) and columns (odd, centred).
        stride: 2 halves the resolution (rounded up); an output then is at an even row and column of its input.
        scale: of the outputs at initialisation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: int = 1, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.reach = Kernel(kernel_size[0] - 1, kernel_size[1] // 2, kernel_size[1] // 2)
        self.weights = WeightNorm((kernel_size[0] * kernel_size[1] * in_channels,), out_channels, scale)

    def forward(self, x: Tensor, cursor: Cursor | None = None) -> Tensor:
        """Map (B, C, H, W) to (B, O, H / stride, W / stride); with a cursor a row, (B, C, 1, W) to (B, O, 1, ...)."""
        if cursor is not None:
            return self.product(self.window(x, cursor), cursor)
        height, width = self.kernel_size
        matrix, bias = self.weights.matrix()
        padded = F.pad(x, (0, 0, height - 1, 0))
        kernel = kernel_of(matrix, height, width)
        return self.weights(F.conv2d(padded, kernel, bias, self.stride, padding=(0, width // 2)))

    def window(self, x: Tensor, cursor: Cursor) -> Tensor:
        """Return the rows above and this one, as far as the kernel reaches, and remember this one."""
        return cursor.with_rows_above(self, x, self.kernel_size[0] - 1)

    def product(self, window: Tensor, cursor: Cursor) -> Tensor:
        """Multiply a window (B, C, rows, W) by the weights: (B, O, 1, W / stride)."""
        width = self.kernel_size[1]
        matrix, bias = self.weights.matrix(cursor)
        patches = row_patches(F.pad(window, (width // 2, width // 2)), width, self.stride)
        return F.linear(patches, matrix.t(), bias).transpose(1, 2).unsqueeze(2)


class CornerConv2d(nn.Module):
    """A convolution that sees up and left, its own position in the corner: "down-right-shifted", the pixel clock.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: rows (two at least, the last is its own) and columns (the last is its own).
        stride: 2 halves the resolution (rounded up); an output then is at an even row and column of its input.
        scale: of the outputs at initialisation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: int = 1, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.edges = kernel_size, stride, [0, in_channels]
        self.reach = Kernel(kernel_size[0] - 1, kernel_size[1] - 1, 0)
        row = kernel_size[1] * in_channels
        self.weights = WeightNorm((self.reach.above * row, row), out_channels, scale)

    def folded(self) -> tuple[Tensor, ...]:
        """Return the weights of the rows above, those of the row itself, and the bias."""
        return self.weights.folded()[1:]

    def forward(self, x: Tensor, cursor: Cursor | None = None, plus: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to (B, O, H / stride, W / stride); with a cursor one pixel, (B, C) to (B, O).

        `plus` is added to the result; with a cursor it holds what `begin_row` gave for this pixel.
        """
        if cursor is not None:
            return self.product(cursor.with_row_left(self, x), plus, cursor)
        height, width = self.kernel_size
        matrix, bias = self.weights.matrix()
        padded = F.pad(x, (width - 1, 0, height - 1, 0))
        y: Tensor = self.weights(F.conv2d(padded, kernel_of(matrix, height, width), bias, self.stride))
        return y if plus is None else y + plus

    def product(self, window: Tensor, plus: Tensor | None, cursor: Cursor) -> Tensor:
        """Multiply a window (B, columns x C) by the weights, and add what the row began with: (B, O)."""
        assert plus is not None, "with a cursor, plus is what begin_row gave"
        return torch.addmm(plus, window, cursor.folded(self)[1])

    def from_above(self, windows: Tensor, cursor: Cursor) -> Tensor:
        """Map what lies above each pixel of a row (W, B, taps x C) to what it adds: (B, O, 1, W / stride)."""
        above, _, bias = cursor.folded(self)
        return F.linear(windows[:: self.stride], above.t(), bias).permute(1, 2, 0).unsqueeze(2)


class Nin(nn.Module):
    """A 1x1 convolution ("network in network") of features of the row clock joined to some of the pixel clock.

    Args:
        rows: channels of the row clock.
        cols: channels of the pixel clock; there may be none.
        out_channels: O.
    """

    def __init__(self, rows: int, cols: int, out_channels: int) -> None:
        super().__init__()
        self.both = rows > 0 and cols > 0
        self.weights = WeightNorm((rows, cols), out_channels)

    def folded(self) -> tuple[Tensor, ...]:
        """Return the weights of the row clock, those of the pixel clock, and the bias."""
        return self.weights.folded()[1:]

    def rows(self, x: Tensor, cursor: Cursor | None = None) -> Tensor:
        """Map (B, rows, H, W) to (B, O, H, W), to which `cols` adds its share; with a cursor (B, ..., 1, W)."""
        weight, _, bias = self.folded() if cursor is None else cursor.folded(self)
        y = pointwise(x, weight, bias)
        return y if self.both or cursor is not None else self.weights(y)

    def cols(self, x: Tensor, plus: Tensor, cursor: Cursor | None = None) -> Tensor:
        """Map (B, cols, H, W), and what `rows` has found, to (B, O, H, W); with a cursor (B, cols) to (B, O)."""
        _, weight, _ = self.folded() if cursor is None else cursor.folded(self)
        if cursor is not None:
            return torch.addmm(plus, x, weight)
        return self.weights(pointwise(x, weight, None) + plus)


class Pointwise(nn.Module):
    """A 1x1 convolution of features of the pixel clock alone.

    Args:
        in_channels: C.
        out_channels: O.
        scale: of the outputs at initialisation.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: float = 1.0) -> None:
        super().__init__()
        self.weights = WeightNorm((in_channels,), out_channels, scale)

    def forward(self, x: Tensor, cursor: Cursor | None = None, plus: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to (B, O, H, W), with a cursor (B, C) to (B, O), and add `plus`."""
        matrix, bias = self.weights.matrix(cursor)
        y = self.weights(pointwise(x, matrix, bias)) if cursor is None else torch.addmm(bias, x, matrix)
        return y if plus is None else y + plus


class GatedResidual(nn.Module):
    """A gated residual block of the pixel clock: F features in, F out.

        c = conv1(elu([x, -x])) + plus_1,    [p, q] = conv2(dropout(elu([c, -c]))) + plus_2,    y = x + p sigma(q)

    What is added is what the row began with, shortcuts, and the share of the context.

    Args:
        channels: F.
        conv: makes a convolution of the pixel clock, given its channels and the scale of its outputs.
        dropout: share of the features dropped in training; a walk never does.
    """

    def __init__(self, channels: int, conv: Callable[..., Any], dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.conv1 = conv(2 * channels, channels)
        self.conv2 = conv(2 * channels, 2 * channels, scale=SMALL_SCALE)

    def forward(
        self,
        x: Tensor,
        e: Tensor,
        cursor: Cursor | None = None,
        plus_1: Tensor | None = None,
        plus_2: Tensor | None = None,
    ) -> Tensor:
        """Return y, given x and its concatenated elu e: (B, F, H, W), with a cursor (B, F)."""
        c = dropped(concat_elu(self.conv1(e, cursor, plus_1)), self, cursor)
        return x + F.glu(self.conv2(c, cursor, plus_2), 1)


def pointwise(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply the channels of (B, C, H, W) by a matrix (C, O)."""
    return F.linear(x.movedim(1, -1), matrix.t(), bias).movedim(-1, 1)


def concat_elu(x: Tensor) -> Tensor:
    """Return elu([x, -x]), which has twice the channels."""
    return F.elu(torch.cat([x, -x], 1), inplace=True)


def dropped(c: Tensor, block: Any, cursor: Cursor | None) -> Tensor:
    """Drop a block's `dropout` of features in training; a walk never does."""
    return F.dropout(c, block.dropout) if block.dropout and block.training and cursor is None else c
