"""Causal convolutions over images, for the two clocks of an image walk: whole rows, and pixels of a row.

Weights are matrices (out, taps x in), channels innermost: the parallel pass reads them as a convolution kernel in
channels-last layout, a step as the matrix they are, and neither copies them.
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
        self.weight = nn.Parameter(torch.empty(out_channels, math.prod(kernel_size) * in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        initialize(self.weight, self.weight.shape[1])

    def forward(self, x: Tensor, cursor: Cursor | None = None) -> Tensor:
        """Map (B, C, H, W) to (B, O, H, W); with a cursor one row at a time, (B, C, 1, W) to (B, O, 1, W)."""
        height, width = self.kernel_size
        kernel = self.weight.unflatten(1, (height, width, -1)).permute(0, 3, 1, 2)
        if cursor is None:
            # padded below too and cropped, which costs less than a padded copy of x
            return F.conv2d(x, kernel, self.bias, padding=(height - 1, width // 2))[:, :, : x.shape[2]]
        window = cursor.with_rows_above(self, x, height - 1)
        return F.conv2d(window, kernel, self.bias, padding=(0, width // 2))


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
        self.weight = nn.Parameter(torch.empty(out_channels, taps * sum(sizes)))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.mask: Tensor | None
        self.register_buffer("mask", self._mask() if groups > 1 else None, persistent=False)
        seen = self.mask.sum(1).mean().item() if self.mask is not None else self.weight.shape[1]
        initialize(self.weight, seen)

    def _mask(self) -> Tensor:
        mask = torch.ones_like(self.weight)
        centre = (self.taps - 1) * self.edges[-1]
        for g in range(self.groups):
            mask[g * self.width : (g + 1) * self.width, centre + self.edges[g + 1] :] = 0
        return mask

    def forward(self, x: Tensor, cursor: Cursor | None = None) -> Tensor:
        """Map (B, C, H, W) to (B, O, H, W); with a cursor one pixel, and one group, at a time: (B, C_g) to (B, O_g)."""
        if cursor is None:
            return self.whole(x)
        if self.groups == 1:
            return F.linear(cursor.with_pixels_left(self, x, self.taps - 1), self.weight, self.bias)
        known = cursor.with_groups_before(self, x, self.taps - 1, self.edges)
        rows = slice(cursor.group * self.width, (cursor.group + 1) * self.width)
        bias = self.bias[rows] if self.bias is not None else None
        return F.linear(known, self.weight[rows, : known.shape[1]], bias)  # no masked weight in this block

    def whole(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, O, H, W)."""
        weight = self.weight if self.mask is None else self.weight * self.mask
        kernel = weight.unflatten(1, (1, self.taps, -1)).permute(0, 3, 1, 2)
        if self.taps == 1:
            return F.conv2d(x, kernel, self.bias)
        return F.conv2d(x, kernel, self.bias, padding=(0, self.taps - 1))[..., : x.shape[3]]


class CausalConv1d(nn.Module):
    """A dilated convolution over time that sees the present and `taps - 1` earlier steps (1609.03499, section 2.1)."""

    def __init__(self, in_channels: int, out_channels: int, taps: int = 2, dilation: int = 1) -> None:
        super().__init__()
        self.taps, self.dilation = taps, dilation
        self.weight = nn.Parameter(torch.empty(out_channels, taps * in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        initialize(self.weight, self.weight.shape[1])

    def forward(self, x: Tensor, cursor: Cursor | None = None) -> Tensor:
        """Map (B, C, T) to (B, O, T); with a cursor one step at a time, (B, C) to (B, O)."""
        if cursor is not None:
            return F.linear(cursor.with_past(self, x, self.taps, self.dilation), self.weight, self.bias)
        kernel = self.weight.unflatten(1, (self.taps, -1)).transpose(1, 2)
        return F.conv1d(F.pad(x, ((self.taps - 1) * self.dilation, 0)), kernel, self.bias, dilation=self.dilation)
