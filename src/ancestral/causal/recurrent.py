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
        batch, columns = z.shape[1:3]
        h, c = self.h0.expand(batch, columns, -1), self.c0.expand(batch * columns, -1)
        rows = []
        for row in z:
            gates = torch.addmm(row.flatten(0, 1), with_beside(h).flatten(0, 1), self.state)
            h, c = lstm(gates, c, self.width)
            h = h.unflatten(0, (batch, columns))
            rows.append(h)
        return torch.stack(rows, 1).permute(0, 3, 1, 2)


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
        side_by_side(gates + columns_first(condition), other, groups)
        for (gates, other), condition in zip(given, conditions, strict=True)
    ]


def columns_first(row: Tensor) -> Tensor:
    """Lay features (B, C, 1, W) of a row with the columns outermost: (W, B, C)."""
    return row.squeeze(2).permute(2, 0, 1)


class Direction(nn.Module):
    """The weights of one direction of a Diagonal BiLSTM, as matrices (in, 4h).

    Attributes:
        row: reads the state of the pixel before in the row, h, then the input, C, under mask B.
        above: reads the state of the pixel above, h.
        h0, c0: the learned state before the first pixel of each row.
    """

    def __init__(self, in_channels: int, channels: int, groups: int) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.empty(channels + in_channels, 4 * channels))
        self.above = nn.Parameter(torch.empty(channels, 4 * channels))
        self.bias = nn.Parameter(torch.zeros(4 * channels))
        self.h0 = nn.Parameter(torch.zeros(channels))
        self.c0 = nn.Parameter(torch.zeros(channels))
        self.mask: Tensor | None
        mask = torch.ones_like(self.row)
        for g in range(1, groups):
            mask[
                channels + g * in_channels // groups :, (g - 1) * 4 * channels // groups : g * 4 * channels // groups
            ] = 0
        self.register_buffer("mask", mask if groups > 1 else None, persistent=False)
        for weight in (self.row, self.above):
            initialize(weight, mask.sum(0).mean().item() + channels)

    def parts(self) -> tuple[Tensor, Tensor]:
        """Return what reads the state of the pixel before, (h, 4h), and what reads the input, (C, 4h), masked."""
        row = self.row if self.mask is None else self.row * self.mask
        return row[: len(self.above)], row[len(self.above) :]


class Diagonals:
    """The pixels of images of one size in the order of the diagonals, from the top of each to its bottom.

    It takes the place of skewing (row i shifted to the right by i): a step is given the pixels of its diagonal and no
    padding, so that nothing is computed for pixels outside the image.

    Attributes:
        order: the raster index of each pixel, and for the second direction that of its mirror image, (2, H W).
        back: the inverse of each, (2, H W).
        rows: the first row of each diagonal, and the one after its last.
    """

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        row, col = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
        order = ((row + col) * height + row).flatten().argsort()
        mirrored = (row * width + col).flip(1).flatten()
        self.order = torch.stack([order, mirrored[order]])
        self.back = self.order.argsort(1)
        self.rows = [(max(0, t - width + 1), min(t + 1, height)) for t in range(height + width - 1)]
        self.sizes = [end - first for first, end in self.rows]

    def along(self, x: Tensor) -> Tensor:
        """Lay images (B, C, H, W) out along the diagonals, for both directions: (2, H W, B, C)."""
        pixels = x.permute(2, 3, 0, 1).flatten(0, 1)
        return torch.stack([pixels.index_select(0, order) for order in self.order])

    def images(self, x: Tensor, height: int, width: int) -> list[Tensor]:
        """Undo `along`: (2, H W, B, C) to the images (B, C, H, W) of each direction."""
        pixels = [part.index_select(0, back) for part, back in zip(x, self.back, strict=True)]
        return [part.unflatten(0, (height, width)).permute(2, 3, 0, 1) for part in pixels]


class DiagonalRecurrence(nn.Module):
    """The Diagonal BiLSTM: a state reads those of the pixel on the left and of the pixel above, a diagonal at a time.

    The second direction is its mirror image, with weights of its own: it reads the pixel on the right. Its states are
    shifted down by one row before they are added to the first one's, so that no pixel sees what is on its right in its
    own row. The input is read by a 1x1 convolution with mask B. Before the first pixel of a row is a learned state,
    the same in every row (nothing comes before it that could change it); above the first row there is none (zeros).

    Args:
        in_channels: C.
        channels: h, features of a state.
        groups: channel groups.
    """

    def __init__(self, in_channels: int, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.in_channels, self.channels = in_channels, channels
        self.groups, self.width = groups, channels // groups
        self.rightwards = Direction(in_channels, channels, groups)
        self.leftwards = Direction(in_channels, channels, groups)

    def forward(self, x: Tensor, cursor: Cursor | None = None, plus: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to (B, h, H, W); with a cursor one pixel, and one group, at a time: (B, C_g) to (B, h_g).

        `plus`, (B, 8h, H or 1, W or 1), is added to the input-to-state maps of both directions; with a cursor it holds
        what `begin_diagonals` gave for this pixel.
        """
        if cursor is None:
            rightwards, leftwards = self.whole(x, plus)
            return rightwards + F.pad(leftwards, (0, 0, 1, 0))[:, :, :-1]
        assert plus is not None, "with a cursor, plus is what begin_diagonals gave"
        h = self.step(x, plus[:, : 4 * self.width], cursor)
        note(self, torch.cat([x, h], 1), cursor)
        return h + plus[:, 4 * self.width :]

    def step(self, x: Tensor, gates: Tensor, cursor: Cursor) -> Tensor:
        """Return the state of the first direction, (B, h_g), and keep it for the next pixel."""
        channels, own = self.channels, slice(cursor.group * self.width, (cursor.group + 1) * self.width)
        h, c, known = cursor.kept(self).split([channels, channels, channels + self.in_channels], 1)
        if cursor.group == 0:
            known[:, :channels] = h  # later groups must still find the state of the pixel before
        size = x.shape[1]
        end = channels + (cursor.group + 1) * size
        known[:, end - size : end] = x
        weight = self.rightwards.row[:end, 4 * own.start : 4 * own.stop]  # no masked weight in this block
        h[:, own], c[:, own] = new = lstm(torch.addmm(gates, known[:, :end], weight), c[:, own], self.width)
        return new[0]

    def whole(self, x: Tensor, plus: Tensor | None) -> list[Tensor]:
        """Map (B, C, H, W) to the states of both directions, (B, h, H, W) each, one step per diagonal."""
        diagonals = Diagonals(x.shape[2], x.shape[3], x.device)
        z = self.input_to_state(x, plus, diagonals)  # (2, H W, B, 4h)
        both = (self.rightwards, self.leftwards)
        state = torch.stack([torch.cat([d.parts()[0], d.above]) for d in both])  # (2, 2h, 4h)
        first = [torch.stack([getattr(d, name) for d in both])[:, None, None] for name in ("h0", "c0")]
        h0, c0 = (s.expand(-1, 1, x.shape[0], -1) for s in first)  # (2, 1, B, h)
        above = torch.zeros_like(h0)
        h, c, top, steps = h0[:, :0], c0[:, :0], 0, []
        for (start, end), gates in zip(diagonals.rows, z.split(diagonals.sizes, 1), strict=True):
            # the pixels of the diagonal before, between what is above the first row and a row that begins
            h, c = torch.cat([above, h, h0], 1), torch.cat([c, c0], 1)
            left, up = (h[:, r - top : r - top + end - start] for r in (start + 1, start))
            known = torch.cat([left, up], -1).flatten(1, 2)
            c = c[:, start - top : end - top].flatten(1, 2)
            h, c = lstm(torch.baddbmm(gates.flatten(1, 2), known, state), c, self.width)
            h, c = h.view(2, end - start, *h0.shape[2:]), c.view(2, end - start, *h0.shape[2:])
            steps.append(h)
            top = start
        return diagonals.images(torch.cat(steps, 1), x.shape[2], x.shape[3])

    def input_to_state(self, x: Tensor, plus: Tensor | None, diagonals: Diagonals) -> Tensor:
        """Map (B, C, H, W) to what the input gives to both directions, along the diagonals: (2, H W, B, 4h)."""
        both = (self.rightwards, self.leftwards)
        given = diagonals.along(x)  # before the product, which makes more of it
        weight, bias = torch.stack([d.parts()[1] for d in both]), torch.stack([d.bias for d in both])
        z = torch.baddbmm(bias[:, None], given.flatten(1, 2), weight).unflatten(1, given.shape[1:3])
        if plus is None:
            return z
        if plus.shape[2:] == (1, 1):  # the same everywhere
            return z + plus.flatten(1).unflatten(1, (2, -1)).transpose(0, 1)[:, None]
        rightwards, leftwards = diagonals.along(plus).chunk(2, 3)
        return z + torch.stack([rightwards[0], leftwards[1]])


def begin_diagonals(
    layers: Sequence[DiagonalRecurrence], x: Tensor, conditions: Sequence[Tensor] | None, cursor: Cursor
) -> list[Tensor]:
    """Return what each of several layers alike takes from the row above, (B, 5h, 1, W).

    For each channel group that is what is added to the gates, 4h, and the states of the second direction in the row
    above, h: that row's input is complete now. x is any tensor of the row that begins, (B, ., 1, W); conditions
    (B, 8h, 1, W or 1) are added.
    """
    channels, into, groups = layers[0].channels, layers[0].in_channels, layers[0].groups
    above = row_above(layers, x, into + channels, groups, cursor)  # (L, W, B, C + h)
    inputs, states = parted(above, into, groups)
    halves = None if conditions is None else [condition.chunk(2, 1) for condition in conditions]
    first, second = [None, None] if halves is None else [list(half) for half in zip(*halves, strict=True)]
    leftwards = states_leftwards(layers, inputs, second, cursor)
    given = []
    for layer, own, other in zip(layers, states, leftwards, strict=True):
        begin = layer.rightwards
        kept = cursor.memory(layer, x, x.shape[0], 3 * channels + into)
        kept[:, : 2 * channels] = torch.cat([begin.h0, begin.c0])
        given.append((F.linear(own, begin.above.t(), begin.bias), other))
    return with_conditions(given, first, groups)


def states_leftwards(
    layers: Sequence[DiagonalRecurrence], x: Tensor, conditions: Sequence[Tensor] | None, cursor: Cursor
) -> Tensor:
    """Run the second direction of L layers alike over the row above, whose inputs are x (L, W, B, C): (L, W, B, h).

    The layers run side by side, since all their inputs in that row are known. Above the first row all is zero.
    """
    directions, channels, width = [layer.leftwards for layer in layers], layers[0].channels, layers[0].width
    before = cursor.memory(directions[0], x, *x.shape[:3], channels)  # the states in the row above that one
    parts = [direction.parts() for direction in directions]
    z = torch.stack(
        [
            F.linear(own, into.t(), direction.bias) + up @ direction.above
            for direction, (_, into), own, up in zip(directions, parts, x, before, strict=True)
        ]
    )
    if conditions is not None:  # of the row above, as its inputs are
        rows = cursor.with_rows_above(directions[0], torch.cat(list(conditions), 1), 1)[:, :, :1]
        z = z + columns_first(rows).unflatten(2, (len(layers), -1)).permute(2, 0, 1, 3)
    right = torch.stack([first for first, _ in parts])
    h, c = (torch.stack([getattr(d, name) for d in directions])[:, None] for name in ("h0", "c0"))
    h, c = h.expand(-1, x.shape[2], -1), c.expand(-1, x.shape[2], -1)
    states = []
    for of_column in reversed(z.unbind(1)):
        h, c = lstm(torch.baddbmm(of_column, h, right), c, width)
        states.append(h)
    before.copy_(torch.stack(states[::-1], 1) * (cursor.row > 0))
    return before
