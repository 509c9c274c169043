"""Half the resolution: strided branches of both streams, through the cursor (1701.05517, section 2.3).

A position of half the resolution lies at an even row and column. Of an odd height or width the half is rounded up;
what lies outside of a map is zero on every level, as it is beyond every border.

In a walk a coarse row is computed when its even row begins, a coarse pixel at its even pixel; up-sampled they serve
two rows, and two columns. Whatever lies between is not seen by the coarse maps: see `receptive_field` of the models.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.causal.cursor import Cursor
from ancestral.causal.masked import begin_row
from ancestral.causal.reach import Needs, seen, seen_at_half, seen_from_half
from ancestral.causal.shifted import CornerConv2d, DownShiftedConv2d
from ancestral.causal.weightnorm import WeightNorm


class TwoStreams(Protocol):
    """A network of two streams: rows above, and pixels on the left."""

    def rows(self, u: Tensor, condition: Any, cursor: Cursor | None = None) -> tuple[Tensor, list[Any]]:
        """Map u to u, and to what the pixels of a row are told."""

    def cols(self, x: Tensor, told: Iterator[Any], cursor: Cursor | None = None) -> Tensor:
        """Map the other stream, taking from `told` what it is told."""

    def needs(self, needs: Needs) -> Needs:
        """Return where the inputs are needed, if the outputs are needed there."""


class UpConv2d(nn.Module):
    """A transposed convolution with stride 2 and two rows: each position gives two rows and two columns.

    Args:
        channels: of input and output.
        columns: of the kernel; with 2 a position gives its own two columns, with 3 the one before, too (row clock).
    """

    def __init__(self, channels: int, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.weights = WeightNorm((2 * columns * channels,), channels)

    def forward(self, x: Tensor, size: tuple[int, int], cursor: Cursor | None = None) -> Tensor:
        """Map (B, C, H / 2, W / 2) to (B, C, H, W), the size; with a cursor a row (B, C, 1, W / 2) to two."""
        matrix, bias = self.weights.matrix(cursor)
        kernel = matrix.unflatten(0, (2, self.columns, -1)).permute(2, 3, 0, 1)
        left = (self.columns - 1) // 2
        y = F.conv_transpose2d(x, kernel, bias, stride=2)
        return self.weights(y[:, :, : size[0], left : left + size[1]])

    def pixel(self, x: Tensor, cursor: Cursor) -> Tensor:
        """Map a pixel (B, C) to its two rows of two columns, (2, 2, B, C)."""
        matrix, bias = self.weights.matrix(cursor)
        return torch.matmul(x, matrix.unflatten(0, (2, 2, -1))).add_(bias)


class HalfResolution(nn.Module):
    """A network of two streams at half the resolution: strided convolutions before it, transposed ones after.

    Args:
        inner: the network.
        channels: of both streams, before and after.
    """

    def __init__(self, inner: TwoStreams, channels: int) -> None:
        super().__init__()
        self.down_rows = DownShiftedConv2d(channels, channels, (2, 3), stride=2)
        self.down_cols = CornerConv2d(channels, channels, (2, 2), stride=2)
        self.inner = inner
        self.up_rows = UpConv2d(channels, 3)
        self.up_cols = UpConv2d(channels, 2)

    def rows(self, u: Tensor, condition: Any, cursor: Cursor | None = None) -> tuple[Tensor, list[Any]]:
        """Map u (B, C, H, W) to the same shape, and to what `cols` is told; with a cursor (B, C, 1, W), and nothing.

        What a coarse row tells its pixels is kept by the cursor.
        """
        if cursor is None:
            coarse, told = self.inner.rows(self.down_rows(u), condition)
            return self.up_rows(coarse, u.shape[2:]), told
        window = self.down_rows.window(u, cursor)
        if cursor.even_row:
            return self.even_row(window, condition, cursor), []
        made = cursor.kept(self)
        made[0].copy_(made[1])  # the second row of the pixel clock that the even row has made
        return cursor.kept(self.up_rows), []

    def even_row(self, window: Tensor, condition: Any, cursor: Cursor) -> Tensor:
        """Compute a coarse row from two rows (B, C, 2, W); return the first row it gives, and keep the second."""
        coarse = cursor.coarse
        batch, channels, _, width = window.shape
        y = self.down_rows.product(window, cursor)
        began = begin_row([self.down_cols], window, cursor)
        y, told = self.inner.rows(y, condition, coarse)
        coarse.keep_columns(self, [*began, *told])
        up = self.up_rows(y, (2, width), cursor)
        cursor.keep(self.up_rows, up[:, :, 1:])
        cursor.memory(self, y, 2, 2 * y.shape[3], batch, channels)  # of the pixel clock, to be made: this row, the next
        return up[:, :, :1]

    def cols(self, x: Tensor, told: Iterator[Any], cursor: Cursor | None = None) -> Tensor:
        """Map the pixel clock's features (B, C, H, W), or (B, C) with a cursor, to the same shape."""
        if cursor is None:
            return self.up_cols(self.inner.cols(self.down_cols(x), told), x.shape[2:])
        window = cursor.with_row_left(self.down_cols, x)
        if cursor.aligned:
            began, *below = cursor.coarse.column(self)
            y = self.inner.cols(self.down_cols.product(window, began, cursor), iter(below), cursor.coarse)
            here = torch.cat([cursor.col, cursor.col + 1])
            cursor.kept(self).index_copy_(1, here, self.up_cols.pixel(y, cursor))
        return cursor.kept(self)[0].index_select(0, cursor.col)[0]

    def needs(self, needs: Needs) -> Needs:
        """Return where the inputs are needed, if the outputs are needed there."""
        rows, cols = self.inner.needs(Needs(seen_at_half(needs.rows, True), seen_at_half(needs.cols, False)))
        size = needs.rows.shape
        return Needs(
            seen(seen_from_half(rows, *size), self.down_rows.reach),
            seen(seen_from_half(cols, *size), self.down_cols.reach),
        )
