"""Causal convolutions over images, for the two clocks of an image walk: whole rows, and pixels of a row.

Weights are matrices (taps x in, out): a step multiplies by the matrix as it lies in memory, the parallel pass reads it
as a convolution kernel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.causal.cursor import Cursor


def gate(x: Tensor, width: int) -> Tensor:
    """Return tanh(a) sigma(b) (1606.05328, equation 2), (B, 2 F, ...) -> (B, F, ...).

    Channels are laid out [a, b] within each channel group of `width` features, so that one group's gate never reads
    another's.
    """
    if x.shape[1] == 2 * width:
        a, b = x.chunk(2, 1)
        return torch.tanh(a) * torch.sigmoid(b)
    a, b = x.unflatten(1, (-1, 2, width)).unbind(2)
    return (torch.tanh(a) * torch.sigmoid(b)).flatten(1, 2)


def kernel_of(matrix: Tensor, height: int, width: int) -> Tensor:
    """Read a matrix (taps x in, out) as a convolution kernel (out, in, height, width)."""
    return matrix.unflatten(0, (height, width, -1)).permute(3, 2, 0, 1)


def row_patches(window: Tensor, width: int, stride: int = 1) -> Tensor:
    """Return what a kernel sees at each column of a row: (B, C, rows, W + width - 1) to (B, W / stride, taps x C)."""
    return window.unfold(3, width, stride).permute(0, 3, 2, 4, 1).flatten(2)


def initialize(weight: Tensor, fan_in: float) -> None:
    """Fill with the uniform distribution of variance 1 / fan_in, which keeps the scale of what goes through."""
    bound = math.sqrt(3 / fan_in)
    nn.init.uniform_(weight, -bound, bound)


class CausalConv2d(nn.Module):
    """A convolution that sees its own row and the rows above, all columns within reach: the row clock.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: rows (the last is its own) and columns (odd, centred).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int]) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(math.prod(kernel_size) * in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        initialize(self.weight, len(self.weight))

    def forward(self, x: Tensor, cursor: Cursor | None = None) -> Tensor:
        """Map (B, C, H, W) to (B, O, H, W); with a cursor one row at a time, (B, C, 1, W) to (B, O, 1, W)."""
        height, width = self.kernel_size
        beside = width // 2
        if cursor is None:
            kernel = kernel_of(self.weight, height, width)
            return F.conv2d(F.pad(x, (0, 0, height - 1, 0)), kernel, self.bias, padding=(0, beside))
        window = F.pad(cursor.with_rows_above(self, x, height - 1), (beside, beside))
        return F.linear(row_patches(window, width), self.weight.t(), self.bias).transpose(1, 2).unsqueeze(2)


class RowConv2d(nn.Module):
    """A convolution that sees its own pixel and `taps - 1` pixels on the left: the pixel clock.

    With channel groups (R, G, B) a group reads, at its own pixel, its own group and those before it (mask B of
    1601.06759), and everything on the left. With a cursor the layer is given one group and computes one group.

    Args:
        in_channels: C, or a tuple: the channels of each group where they differ.
        out_channels: O, divided evenly into the groups.
        taps: pixels seen; 1 makes it pointwise.
        groups: channel groups.
        bias: whether there is one.
    """

    def __init__(
        self, in_channels: int | tuple[int, ...], out_channels: int, taps: int = 1, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        sizes = in_channels if isinstance(in_channels, tuple) else (in_channels // groups,) * groups
        self.taps, self.groups, self.width = taps, groups, out_channels // groups
        self.edges = [sum(sizes[:g]) for g in range(groups + 1)]
        self.weight = nn.Parameter(torch.empty(taps * sum(sizes), out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.mask: Tensor | None
        self.register_buffer("mask", self._mask() if groups > 1 else None, persistent=False)
        initialize(self.weight, len(self.weight) if self.mask is None else self.mask.sum(0).mean().item())

    def _mask(self) -> Tensor:
        mask = torch.ones_like(self.weight)
        centre = (self.taps - 1) * self.edges[-1]
        for g in range(self.groups):
            mask[centre + self.edges[g + 1] :, g * self.width : (g + 1) * self.width] = 0
        return mask

    def forward(self, x: Tensor, cursor: Cursor | None = None, plus: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to (B, O, H, W); with a cursor one pixel, and one group, at a time: (B, C_g) to (B, O_g).

        `plus` is added to the result, in a step at no cost: there it takes the place of the bias, which must be off or
        a part of it.
        """
        if cursor is None:
            return self.whole(x) if plus is None else self.whole(x) + plus
        if self.groups > 1:
            return self.group(x, cursor, plus)
        known = x if self.taps == 1 else cursor.with_pixels_left(self, x, self.taps - 1)
        offset = self.bias if plus is None else plus
        return known @ self.weight if offset is None else torch.addmm(offset, known, self.weight)

    def group(self, x: Tensor, cursor: Cursor, plus: Tensor | None) -> Tensor:
        """Compute the group of this sub-step, (B, C_g) to (B, O_g), from a block of weights that no mask touches."""
        known = cursor.with_groups_before(self, x, self.taps - 1, self.edges)
        rows = slice(cursor.group * self.width, (cursor.group + 1) * self.width)
        weight = self.weight[: known.shape[1], rows]
        offset = self.bias[rows] if plus is None and self.bias is not None else plus
        return known @ weight if offset is None else torch.addmm(offset, known, weight)

    def whole(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, O, H, W)."""
        weight = self.weight if self.mask is None else self.weight * self.mask
        if self.taps == 1 and x.shape[2] == 1:  # one row, at which a convolution is slow
            return F.linear(x.movedim(1, -1), weight.t(), self.bias).movedim(-1, 1)
        return F.conv2d(F.pad(x, (self.taps - 1, 0)), kernel_of(weight, 1, self.taps), self.bias)


class CausalConv1d(nn.Module):
    """A convolution over time that sees the present and `taps - 1` earlier steps (1609.03499, section 2.1)."""

    def __init__(self, in_channels: int, out_channels: int, taps: int = 1) -> None:
        super().__init__()
        self.taps = taps
        self.weight = nn.Parameter(torch.empty(taps * in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        initialize(self.weight, len(self.weight))

    def forward(self, x: Tensor, cursor: Cursor | None = None) -> Tensor:
        """Map (B, C, T) to (B, O, T); with a cursor one step (B, C) to (B, O), or all steps from the first one on."""
        if x.dim() == 2 and cursor is not None:
            known = x if self.taps == 1 else cursor.with_pixels_left(self, x, self.taps - 1)
            return torch.addmm(self.bias, known, self.weight)
        if self.taps == 1:
            return F.linear(x.movedim(1, 2), self.weight.t(), self.bias).movedim(2, 1)
        padded = F.pad(x, (self.taps - 1, 0))
        if cursor is not None:
            cursor.remember_pixels(self, padded[:, :, -(self.taps - 1) :])
        return F.conv1d(padded, kernel_of(self.weight, 1, self.taps).squeeze(2), self.bias)
