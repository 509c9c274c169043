r"""Recurrent layers over images (1601.06759, sections 3.1 and 3.2): the Row LSTM and the Diagonal BiLSTM.

Both compute, from what the input gives and what the states before give,

    [o, f, i, g] = sigma(K_ss * h_before + K_is * x),   c = f . c_before + i . g,   h = o . tanh(c),       (equation 3)

with tanh for g. They differ in what comes before a pixel: three pixels of the row above, or the pixel on the left and
the one above. Features are in channel groups (R, G, B), and within a group the gates lie side by side, [o, f, i, g].
States before a pixel are known whole: state-to-state weights have no mask.

When a row begins in a walk, `begin_row_lstm` and `begin_diagonals` compute for the whole row, and for all layers, what
does not wait for the row's own pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.causal.conv import RowConv2d, initialize
from ancestral.causal.cursor import Cursor


def lstm(z: Tensor, c: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return h and c, (..., F), of pre-activations (..., 4 F) and the c before, in channel groups of `width`."""
    grouped = c.shape[-1] > width
    if grouped:
        z, c = z.unflatten(-1, (-1, 4 * width)), c.unflatten(-1, (-1, width))
    switches, g = z.split([3 * width, width], -1)
    o, f, i = switches.sigmoid().chunk(3, -1)
    c = torch.addcmul(f * c, i, g.tanh())
    h = o * c.tanh()
    return (h.flatten(-2), c.flatten(-2)) if grouped else (h, c)


def row_above(layers: Sequence[nn.Module], x: Tensor, channels: int, groups: int, cursor: Cursor) -> Tensor:
    """Return what each of L layers alike noted in the row above, zeros above the first: (L, W, B, C).

    x is any tensor of the row that begins, (B, ., 1, W).
    """
    edges = [g * (channels // groups) for g in range(groups + 1)]
    return cursor.with_rows_complete(layers, x, (1, 0, 0), edges)[0].transpose(0, 1)


def note(layer: nn.Module, x: Tensor, cursor: Cursor) -> None:
    """Note features of this pixel and channel group, (B, C_g), for the row below."""
    cursor.with_row_left(layer, x)


def parted(x: Tensor, first: int, groups: int) -> tuple[Tensor, Tensor]:
    """Take two parts out of features (..., C) that lie side by side in each channel group, `first` of C the first."""
    parts = x.unflatten(-1, (groups, -1)).split([first // groups, (x.shape[-1] - first) // groups], -1)
    return parts[0].flatten(-2), parts[1].flatten(-2)


def side_by_side(x: Tensor, y: Tensor, groups: int) -> Tensor:
    """Join features (W, B, .) of a row side by side in each channel group: (B, C, 1, W)."""
    joined = torch.cat([part.unflatten(-1, (groups, -1)) for part in (x, y)], -1).flatten(-2)
    return joined.permute(1, 2, 0).unsqueeze(2)


def with_beside(h: Tensor) -> Tensor:
    """Join to each pixel of a row (..., W, C) its two neighbours, zeros outside: (..., W, 3 C)."""
    padded = F.pad(h, (0, 0, 1, 1))
    return torch.cat([padded[..., :-2, :], h, padded[..., 2:, :]], -1)


class RowRecurrence(nn.Module):
    """The Row LSTM: a state reads three pixels of the states of the row above, a whole row at a time.

    The input is read by a k x 1 convolution along the row with mask B. Above the first row is a learned state, the
    same in every column; outside the columns there is none (zeros).

    Args:
        in_channels: C.
        channels: h, features of the state.
        kernel_size: k of the input-to-state convolution, odd.
        groups: channel groups.
    """

    def __init__(self, in_channels: int, channels: int, kernel_size: int = 3, groups: int = 1) -> None:
        super().__init__()
        self.channels, self.groups, self.width = channels, groups, channels // groups
        self.input = RowConv2d(in_channels, 4 * channels, kernel_size // 2 + 1, groups)
        self.state = nn.Parameter(torch.empty(3 * channels, 4 * channels))
        self.h0 = nn.Parameter(torch.zeros(channels))
        self.c0 = nn.Parameter(torch.zeros(channels))
        initialize(self.state, len(self.state))

    def forward(self, x: Tensor, cursor: Cursor | None = None, plus: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to (B, h, H, W); with a cursor one pixel, and one group, at a time: (B, C_g) to (B, h_g).

        `plus` is added to the input-to-state map; with a cursor it holds what `begin_row_lstm` gave for this pixel.
        """
        if cursor is None:
            return self.whole(x, plus)
        assert plus is not None, "with a cursor, plus is what begin_row_lstm gave"
        gates, c = plus.split([4 * self.width, self.width], 1)
        h, c = lstm(self.input(x, cursor, plus=gates), c, self.width)
        note(self, torch.cat([h, c], 1), cursor)
        return h

    def whole(self, x: Tensor, plus: Tensor | None) -> Tensor:
        """Map (B, C, H, W) to (B, h, H, W), one step per row."""
        z = self.input(x, plus=plus).permute(2, 0, 3, 1).contiguous()  # (H, B, W, 4h)
        h, c = (state.expand(*z.shape[1:3], -1) for state in (self.h0, self.c0))
        rows = []
        for row in z:
            h, c = lstm(
                torch.addmm(row.flatten(0, 1), with_beside(h).flatten(0, 1), self.state), c.flatten(0, 1), self.width
            )
            h, c = h.view(*z.shape[1:3], -1), c.view(*z.shape[1:3], -1)
            rows.append(h)
        return torch.stack(rows).permute(1, 3, 0, 2)


def begin_row_lstm(
    layers: Sequence[RowRecurrence], x: Tensor, conditions: Sequence[Tensor] | None, cursor: Cursor
) -> list[Tensor]:
    """Return what each of several layers alike takes from the states of the row above, (B, 5h, 1, W).

    For each channel group that is what is added to the gates, 4h, and the c above, h. x is any tensor of the row that
    begins, (B, ., 1, W); conditions (B, 4h, 1, W or 1) are added.
    """
    channels, groups = layers[0].channels, layers[0].groups
    first, given = cursor.row == 0, []
    for layer, above in zip(layers, row_above(layers, x, 2 * channels, groups, cursor), strict=True):
        h, c = parted(above, channels, groups)  # (W, B, h) each
        h, c = torch.where(first, layer.h0, h), torch.where(first, layer.c0, c)
        known = with_beside(h.transpose(0, 1))  # (B, W, 3h)
        gates = F.linear(known, layer.state.t(), layer.input.bias).transpose(0, 1)
        given.append((gates, c))
    return with_conditions(given, conditions, groups)


def with_conditions(
    given: list[tuple[Tensor, Tensor]], conditions: Sequence[Tensor] | None, groups: int
) -> list[Tensor]:
    """Add conditions (B, 4h, 1, W or 1) to gates (W, B, 4h); join to them what else a pixel is given, (W, B, h)."""
    if conditions is None:
        return [side_by_side(gates, other, groups) for gates, other in given]
    return [
        side_by_side(gates + by_column(condition), other, groups)
        for (gates, other), condition in zip(given, conditions, strict=True)
    ]


def by_column(row: Tensor) -> Tensor:
    """Lay features (B, C, 1, W) of a row with the columns outermost: (W, B, C)."""
    return row.squeeze(2).permute(2, 0, 1)
