"""The cursor: the only place that remembers, and that knows where a walk is."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Weights(Protocol):
    """What folds parameters into the tensors that a walk multiplies by, such as normalised weights."""

    def folded(self) -> tuple[Tensor, ...]:
        """Compute them from the parameters."""


class Bank(NamedTuple):
    """Memory of L layers alike in one tensor, so that a pixel is put aside for all of them at once.

    Attributes:
        rows: (n, left + W + right, L, B, C), the last n rows of their inputs between zeros, the newest in the making.
        pixels: (L, B, (left + 1) C), the last pixels of this row, its own last.
    """

    rows: Tensor
    pixels: Tensor

    def put_aside(self, col: Tensor) -> None:
        """Write the newest pixel into the newest row, and make room for the next one."""
        channels = self.rows.shape[-1]
        left = self.pixels.shape[-1] - channels
        self.rows[-1, left // channels :].index_copy_(0, col, self.pixels[None, :, :, left:])
        self.pixels[:, :, :left] = self.pixels[:, :, channels:].clone()


class Ring(NamedTuple):
    """Memory of L layers that look back over time, each as far as it needs, in one tensor.

    Attributes:
        steps: (sum of the lengths, B, C), the inputs of each layer end to end; step t lies at t modulo the length.
        first: where each layer's begin, (L, 1).
        lengths: how many steps each layer remembers, (L, 1).
        delays: how many steps each of its earlier taps looks back, (L, taps).
    """

    steps: Tensor
    first: Tensor
    lengths: Tensor
    delays: Tensor


class Cursor:
    """The position of one walk, and for every causal layer the features it would otherwise have padded with.

    A cache is what you pad with: before the first row, and left of the first column, memory holds the zeros of the
    parallel pass. Memory is allocated when a layer first runs and from then on changed in place, so that a step can
    be captured as a graph. The position is a tensor on the device (`row`, `col`); the *phase* is on the host: the
    channel group that is being computed (`group`), and whether a position of half the resolution begins here
    (`even_row`; `aligned` where the column is even, too). A step has one graph per phase.

    Two cursors never disturb each other, and modules hold no state of a walk.

    Args:
        device: where the position is.
        size: (H, W) of the image that is walked over, for layers that must know.
    """

    def __init__(self, device: torch.device | str | None = None, size: tuple[int, int] = (1, 1)) -> None:
        self.size = size
        self.row = torch.zeros(1, dtype=torch.long, device=device)
        self.col = torch.zeros(1, dtype=torch.long, device=device)
        self.group = 0
        self.even_row = self.aligned = self._even_col = True
        self._rows: dict[nn.Module, Tensor] = {}  # (B, C, n, W): the last n rows of a layer's input
        self._pixels: dict[nn.Module, Tensor] = {}  # the last pixels of the current row, or the last time steps
        self._banks: dict[nn.Module, Bank] = {}  # both, of layers that are given rows pixel by pixel; by the first one
        self._rings: dict[nn.Module, Ring] = {}  # of stacks over time
        self._left: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}  # views: where a group goes, what it then sees
        self._kept: dict[nn.Module, Tensor] = {}  # whatever else a layer keeps; of columns, the features of each part
        self._sizes: dict[nn.Module, list[int]] = {}
        self._folded: dict[Weights, tuple[Tensor, ...]] = {}
        self._coarse: Cursor | None = None

    @property
    def coarse(self) -> "Cursor":
        """The cursor at half the resolution; it moves with this one, and is first asked for at the first position."""
        if self._coarse is None:
            height, width = self.size
            self._coarse = Cursor(self.row.device, (-(-height // 2), -(-width // 2)))
        return self._coarse

    @property
    def phase(self) -> tuple[int, ...]:
        """What is on the host: of one phase a step launches the same operations every time.

        That is the channel group and, where there is half the resolution, whether it begins here, and its own phase.
        """
        if self._coarse is None:
            return (self.group,)
        return self.group, self.even_row, self.aligned, self._even_col, *self._coarse.phase

    @phase.setter
    def phase(self, phase: tuple[int, ...]) -> None:
        self.group = phase[0]
        if self._coarse is not None:
            self.even_row, self.aligned, self._even_col = map(bool, phase[1:4])
            self._coarse.phase = phase[4:]

    def reset(self) -> None:
        """Go back to the first position, with memory as before the first step, and fold the weights anew."""
        self.row.zero_()
        self.col.zero_()
        self.group = 0
        self.even_row = self.aligned = self._even_col = True
        for memory in (*self._rows.values(), *self._pixels.values(), *self._kept.values()):
            memory.zero_()
        for bank in self._banks.values():
            bank.rows.zero_()
            bank.pixels.zero_()
        for ring in self._rings.values():
            ring.steps.zero_()
        for weights, parts in self._folded.items():
            torch._foreach_copy_(parts, weights.folded())
        if self._coarse is not None:
            self._coarse.reset()

    def next_row(self) -> None:
        """Go to the first pixel of the next row, where there is nothing on the left."""
        self.row += 1
        self.col.zero_()
        self.even_row, self._even_col = not self.even_row, True
        self.aligned = self.even_row
        for memory in self._pixels.values():
            memory.zero_()
        for bank in self._banks.values():
            bank.pixels.zero_()
        if self._coarse is not None and self.even_row:
            self._coarse.next_row()

    def next_col(self) -> None:
        """Go one pixel to the right."""
        for bank in self._banks.values():
            bank.put_aside(self.col)
        if self._coarse is not None and self.aligned:
            self._coarse.next_col()
        self.col += 1
        self._even_col = not self._even_col
        self.aligned = self.even_row and self._even_col

    def next_steps(self, steps: int) -> None:
        """Go further in time."""
        self.col += steps

    def folded(self, weights: Weights) -> tuple[Tensor, ...]:
        """Return the folded weights, which are computed once in a walk."""
        if weights not in self._folded:
            self._folded[weights] = weights.folded()
        return self._folded[weights]

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

    def remember_pixels(self, layer: nn.Module, x: Tensor) -> None:
        """Take x (B, C, n), oldest first, for the last n pixels that the layer was given."""
        known = x.transpose(1, 2).flatten(1)
        self._pixels.setdefault(layer, torch.empty_like(known)).copy_(known)

    def memory(self, layer: nn.Module, like: Tensor, *shape: int) -> Tensor:
        """Return a memory for whatever a layer keeps, of that shape; it begins as zeros."""
        if layer not in self._kept:
            self._kept[layer] = like.new_zeros(shape)
        return self._kept[layer]

    def keep(self, layer: nn.Module, x: Tensor) -> None:
        """Keep x until the layer keeps another."""
        self.memory(layer, x, *x.shape).copy_(x)

    def kept(self, layer: nn.Module) -> Tensor:
        """Return what the layer keeps."""
        return self._kept[layer]

    def keep_columns(self, layer: nn.Module, rows: list[Tensor]) -> None:
        """Keep features of a row, (B, F, 1, W) each, which are asked for column by column."""
        packed, self._sizes[layer] = by_column(rows)
        self.keep(layer, packed)

    def column(self, layer: nn.Module) -> tuple[Tensor, ...]:
        """Return the kept features of this column, (B, F) each."""
        return self._kept[layer].index_select(0, self.col)[0].split(self._sizes[layer], 1)

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

    def with_rows_complete(
        self, layers: Sequence[Any], x: Tensor, reach: tuple[int, int, int], edges: list[int]
    ) -> Tensor:
        """Return the last n rows that L layers alike were given pixel by pixel: (n, left + W + right, L, B, C).

        From now on `with_row_left` fills the next row of each. `reach` is (n, left, right); x is any row (B, ., 1, W);
        `edges` are the channels where groups begin, and C.
        """
        n, left, right = reach
        if layers[0] not in self._banks:
            batch, width, channels = x.shape[0], x.shape[3], edges[-1]
            rows = x.new_zeros(n, left + width + right, len(layers), batch, channels)
            pixels = x.new_zeros(len(layers), batch, (left + 1) * channels)
            self._banks[layers[0]] = Bank(rows, pixels)
            for layer, known in zip(layers, pixels, strict=True):
                ends = [left * channels + edge for edge in edges]
                self._left[layer] = [(known[:, i:j], known[:, :j]) for i, j in itertools.pairwise(ends)]
        rows = self._banks[layers[0]].rows
        if n == 1:  # the new row may overwrite the old one: what it reads of itself is written already
            return rows
        window = rows.clone()
        rows[:-1] = window[1:]
        return window

    def with_row_left(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Return the pixels on the left, then the channel groups of this pixel up to x; see `with_groups_before`."""
        place, known = self._left[layer][self.group]
        place.copy_(x)
        return known

    def delayed(self, layer: nn.Module, like: Tensor, taps: int, delays: Tensor) -> Tensor:
        """Return what L layers alike were given taps d, ..., d steps ago, d of each in `delays`: (L, B, taps C).

        `like` is the input of a layer in this step, (B, C); all of them are told to `remember` at its end.
        """
        ring = self._ring(layer, like, taps, delays)
        past = ring.steps.index_select(0, (ring.first + (self.col - ring.delays) % ring.lengths).flatten())
        return past.unflatten(0, (-1, taps)).transpose(1, 2).flatten(2)

    def remember(self, layer: nn.Module, inputs: Tensor) -> None:
        """Remember the inputs (L, B, C) of this step in place of the oldest ones."""
        ring = self._rings[layer]
        ring.steps.index_copy_(0, (ring.first + self.col % ring.lengths).squeeze(1), inputs)

    def remember_all(self, layer: nn.Module, inputs: list[Tensor], taps: int, delays: Tensor) -> None:
        """Remember all inputs from the first step on, (B, T, C) of each layer; the cursor is at the first one."""
        steps = inputs[0].shape[1]
        ring = self._ring(layer, inputs[0][:, 0], taps, delays)
        places = torch.cat([ring.first, ring.lengths], 1).tolist()
        for x, (first, length) in zip(inputs, places, strict=True):
            last = torch.arange(max(0, steps - length), steps, device=x.device)
            ring.steps[first + last % length] = x[:, last].transpose(0, 1)

    def _ring(self, layer: nn.Module, like: Tensor, taps: int, delays: Tensor) -> Ring:
        if layer not in self._rings:
            lengths = taps * delays[:, None]
            first = lengths.cumsum(0) - lengths
            steps = like.new_zeros(int(lengths.sum()), *like.shape)
            each = delays[:, None] * torch.arange(taps, 0, -1, device=delays.device)
            self._rings[layer] = Ring(steps, first, lengths, each)
        return self._rings[layer]


def by_column(rows: Iterable[Tensor]) -> tuple[Tensor, list[int]]:
    """Lay features (B, F, 1, W) of a row side by side, columns outermost: (W, B, sum of F), and each F."""
    features = [f.squeeze(2).permute(2, 0, 1) for f in rows]
    return torch.cat(features, 2), [f.shape[2] for f in features]
