"""The cursor: the only place that remembers, and that knows where a walk is."""

import torch
from torch import Tensor, nn


class Cursor:
    """The position of one walk, and for every causal layer the features it would otherwise have padded with.

    A cache is what you pad with: before the first row, and left of the first column, memory holds the zeros of the
    parallel pass. Memory is allocated when a layer first runs and from then on changed in place, so that a step can
    be captured as a graph. The position is a tensor on the device (`row`, `col`); the *phase*, here the channel
    group that is being computed, is a number on the host: a step has one graph per phase.

    Two cursors never disturb each other, and modules hold no state of a walk.
    """

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.row = torch.zeros(1, dtype=torch.long, device=device)
        self.col = torch.zeros(1, dtype=torch.long, device=device)
        self.group = 0
        self._rows: dict[nn.Module, Tensor] = {}  # (B, C, n, W): the last n rows of a layer's input
        self._pixels: dict[nn.Module, Tensor] = {}  # the last pixels of the current row, or the last time steps

    def reset(self) -> None:
        """Go back to the first position, with memory as before the first step."""
        self.row.zero_()
        self.col.zero_()
        self.group = 0
        for memory in (*self._rows.values(), *self._pixels.values()):
            memory.zero_()

    def next_row(self) -> None:
        """Go to the first pixel of the next row, where there is nothing on the left."""
        self.row += 1
        self.col.zero_()
        for memory in self._pixels.values():
            memory.zero_()

    def next_col(self) -> None:
        """Go one pixel to the right."""
        self.col += 1

    def with_rows_above(self, layer: nn.Module, x: Tensor, n: int) -> Tensor:
        """Return the last n rows that the layer was given, then x: (B, C, 1, W) -> (B, C, n + 1, W)."""
        if n == 0:
            return x
        if layer not in self._rows:
            self._rows[layer] = x.new_zeros(x.shape[0], x.shape[1], n, x.shape[3])
        window = torch.cat([self._rows[layer], x], 2)
        self._rows[layer].copy_(window[:, :, 1:])
        return window

    def with_pixels_left(self, layer: nn.Module, x: Tensor, n: int) -> Tensor:
        """Return the last n pixels that the layer was given, then x: (B, C) -> (B, (n + 1) C), oldest first."""
        memory = self._pixels.get(layer)
        if memory is None:
            memory = self._pixels[layer] = x.new_zeros(x.shape[0], n * x.shape[1])
        window = torch.cat([memory, x], 1)
        memory.copy_(x if n == 1 else window[:, x.shape[1] :])
        return window

    def with_groups_before(self, layer: nn.Module, x: Tensor, n: int, edges: list[int]) -> Tensor:
        """Return the last n pixels, then the channel groups of this pixel up to x, which is group `self.group`.

        `edges` are the channels where groups begin, and the number of channels at the end. x (B, C_g) is the slice
        that became known in this sub-step; the result is (B, n C + edges[group + 1]).
        """
        channels, first, end = edges[-1], edges[self.group], edges[self.group + 1]
        if layer not in self._pixels:
            self._pixels[layer] = x.new_zeros(x.shape[0], (n + 1) * channels)
        memory = self._pixels[layer]
        if self.group == 0 and n > 0:
            memory[:, : n * channels] = memory[:, channels:].clone()
        memory[:, n * channels + first : n * channels + end] = x
        return memory[:, : n * channels + end]

    def with_past(self, layer: nn.Module, x: Tensor, taps: int, dilation: int) -> Tensor:
        """Return what the layer was given (taps - 1) d, ..., d steps ago, then x: (B, C) -> (B, taps C).

        The memory is a ring of (taps - 1) d + 1 steps, at the position `col`.
        """
        if taps == 1:
            return x
        length = (taps - 1) * dilation + 1
        if layer not in self._pixels:
            self._pixels[layer] = x.new_zeros(x.shape[0], length, x.shape[1])
        ring = self._pixels[layer]
        ring.index_copy_(1, self.col % length, x[:, None])
        offsets = torch.arange(taps - 1, -1, -1, device=x.device) * dilation
        return ring.index_select(1, (self.col - offsets) % length).flatten(1)
