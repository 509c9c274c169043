"""Masked convolutions of single-stack networks, whose features of a pixel are known only when the pixel is.

They have the two clocks of an image walk inside: when a row begins, `begin_row` computes for the whole row what the
kernels take from the rows above, and leaves to each pixel only the taps of the row itself.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.causal.conv import initialize
from ancestral.causal.cursor import Cursor


class FromAbove(Protocol):
    """A layer whose features of a pixel are known only when the pixel is, and which reads rows of them.

    `reach` is (above, left, right), `edges` are the channels where groups begin, and the number of channels.
    """

    edges: list[int]

    @property
    def reach(self) -> tuple[int, int, int]: ...

    def from_above(self, windows: Tensor, cursor: Cursor) -> Tensor:
        """Map what lies above each pixel of a row (W, B, taps x C) to what it adds, and the bias: (B, O, 1, W)."""


class MaskedConv2d(nn.Module):
    """A convolution that sees rows above, and of its own row its own pixel and those on the left (mask B, 1601.06759).

    The kernel covers `above` rows and its own, and the columns from `left` on the left to `right` on the right. With
    channel groups (R, G, B) a group reads, at its own pixel, its own group and those before it. Weights are matrices
    (taps x in, out): `above` reads the rows above, `row` the row itself.

    Args:
        in_channels: C.
        out_channels: O.
        reach: (above, left, right), `above` at least 1.
        groups: channel groups, of C / groups channels each.
    """

    def __init__(self, in_channels: int, out_channels: int, reach: tuple[int, int, int], groups: int = 1) -> None:
        super().__init__()
        above, left, right = self.reach = reach
        self.groups, self.width = groups, out_channels // groups
        self.edges = [g * (in_channels // groups) for g in range(groups + 1)]
        self.above = nn.Parameter(torch.empty(above * (left + 1 + right) * in_channels, out_channels))
        self.row = nn.Parameter(torch.empty((left + 1) * in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.mask: Tensor | None
        self.register_buffer("mask", self._mask() if groups > 1 else None, persistent=False)
        fan_in = len(self.row) if self.mask is None else self.mask.sum(0).mean().item()
        for weight in (self.above, self.row):
            initialize(weight, len(self.above) + fan_in)

    def _mask(self) -> Tensor:
        mask = torch.ones_like(self.row)
        own = mask[-self.edges[-1] :]
        for g in range(self.groups):
            own[self.edges[g + 1] :, g * self.width : (g + 1) * self.width] = 0
        return mask

    def forward(self, x: Tensor, cursor: Cursor | None = None, plus: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to (B, O, H, W); with a cursor one pixel, and one group, at a time: (B, C_g) to (B, O_g).

        `plus` is added to the result; with a cursor it holds what `begin_row` gave for this pixel and group.
        """
        if cursor is None:
            return self.whole(x) if plus is None else self.whole(x) + plus
        assert plus is not None, "with a cursor, plus is what begin_row gave"
        known = cursor.with_row_left(self, x)
        weight: Tensor = self.row
        if self.groups > 1:  # no masked weight in this block
            weight = weight[: known.shape[1], cursor.group * self.width : (cursor.group + 1) * self.width]
        return torch.addmm(plus, known, weight)

    def whole(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, O, H, W)."""
        above, left, right = self.reach
        row: Tensor = self.row if self.mask is None else self.row * self.mask
        unseen = row.new_zeros(right * self.edges[-1], row.shape[1])  # on the right of the pixel
        kernel = torch.cat([self.above, row, unseen]).unflatten(0, (above + 1, left + 1 + right, -1))
        return F.conv2d(F.pad(x, (left, right, above, 0)), kernel.permute(3, 2, 0, 1), self.bias)

    def from_above(self, windows: Tensor, cursor: Cursor) -> Tensor:
        """Map what lies above each pixel of a row (W, B, taps x C) to what it adds, and the bias: (B, O, 1, W)."""
        return F.linear(windows, self.above.t(), self.bias).permute(1, 2, 0).unsqueeze(2)


def begin_row(layers: Sequence[FromAbove], x: Tensor, cursor: Cursor) -> list[Tensor]:
    """Return what each of several layers alike takes from the rows above, (B, O, 1, W), for the row that begins.

    x is any tensor of a row, (B, ., 1, W): it says how many examples and columns there are.
    """
    reach = _, left, right = layers[0].reach
    above = cursor.with_rows_complete(layers, x, reach, layers[0].edges)  # (rows, left + W + right, L, B, C)
    windows = above.unfold(1, left + 1 + right, 1).permute(2, 1, 3, 0, 5, 4).flatten(3)  # (L, W, B, taps x C)
    return [layer.from_above(own, cursor) for layer, own in zip(layers, windows.unbind(0), strict=True)]
