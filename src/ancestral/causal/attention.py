"""Causal attention over the raster sequence of an image, with keys and values in the cursor's memory."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.causal.cursor import Cursor
from ancestral.machine import free_memory

EMPTY = -1e4  # logit of the empty slot: nothing beside any other, everything where there is no other; fits in 16 bits
AT_ONCE = 2**24  # logits computed at once in a parallel pass: 64 MiB, which malloc maps and gives back whole
MORE = 1.25  # the most that is in use at a time, as measured, over what is kept


class Step(NamedTuple):
    """Where a walk is in the raster sequence: position t (1,), and its row (1, T) of `causal_mask`."""

    t: Tensor
    mask: Tensor


def step_of(cursor: Cursor, dtype: torch.dtype) -> Step:
    """Return the step of a cursor that knows the size of its image."""
    height, width = cursor.size
    t = cursor.row * width + cursor.col
    return Step(t, causal_mask(t, height * width, dtype))


class CausalAttention(nn.Module):
    """One head, softmax(q k' / sqrt(d)) v, in which a position sees those strictly before it (1712.09763).

    A key and value may hold the very pixel they stand for, so that they can be made only when the next one begins: they
    come one raster step late. Slot t holds the pixel t - 1, slot 0 is empty, and position t sees the slots up to t.

    Args:
        keys: d, the features of a key; the rest of what it is given are values.
    """

    def __init__(self, keys: int) -> None:
        super().__init__()
        self.keys = keys

    def forward(self, q: Tensor, kv: Tensor, cursor: Cursor | None = None, step: Step | None = None) -> Tensor:
        """Map queries (B, d, H, W), and keys and values (B, d + V, H, W) one step late, to (B, V, H, W).

        With a cursor and its step: (B, d) and (B, d + V) to (B, V). The first position gets the empty slot's value.
        """
        if cursor is not None:
            assert step is not None, "with a cursor, its step is an argument"
            sequence = cursor.memory(self, kv, *kv.shape, step.mask.shape[1])
            sequence.index_copy_(2, step.t, kv.unsqueeze(2))
            return self.attend(q.unsqueeze(1), sequence, step.mask).squeeze(1)
        sequence = kv.flatten(2)  # (B, d + V, T)
        length = sequence.shape[2]
        parts = torch.arange(length, device=q.device).split(max(1, AT_ONCE // max(1, len(q) * length)))
        queries = q.movedim(1, -1).flatten(1, 2).split([len(t) for t in parts], 1)
        found = [
            self.attend(some, sequence, causal_mask(t, length, q.dtype)) for some, t in zip(queries, parts, strict=True)
        ]
        return torch.cat(found, 1).unflatten(1, q.shape[2:]).movedim(-1, 1)

    def attend(self, q: Tensor, sequence: Tensor, mask: Tensor) -> Tensor:
        """Map queries (B, N, d) over the sequence (B, d + V, T) to (B, N, V) under a mask (N, T)."""
        keys, values = sequence[:, : self.keys], sequence[:, self.keys :]
        logits = torch.baddbmm(mask, q, keys, alpha=self.keys**-0.5)  # (B, N, T)
        return torch.bmm(logits.softmax(-1).to(values.dtype), values.transpose(1, 2))


def causal_mask(t: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Return what is added to the logits of positions t (N,), over all slots: (N, length)."""
    slots = torch.arange(length, device=t.device)
    mask = torch.zeros(len(t), length, dtype=dtype, device=t.device)
    return mask.masked_fill(slots == 0, EMPTY).masked_fill(slots > t[:, None], -torch.inf)


def one_step_late(layer: nn.Module, x: Tensor, cursor: Cursor | None = None) -> Tensor:
    """Return at each position what the layer had at the one before it in raster order, and zeros at the first.

    (B, C, H, W) to the same; with a cursor one pixel at a time, (B, C) to (B, C).
    """
    if cursor is not None:
        before = cursor.memory(layer, x, *x.shape).clone()
        cursor.keep(layer, x)
        return before
    sequence = x.movedim(1, -1).flatten(1, 2)  # (B, T, C)
    return F.pad(sequence, (0, 0, 1, 0))[:, :-1].unflatten(1, x.shape[2:]).movedim(-1, 1)


def check_attention(positions: int, kept: int, device: torch.device) -> None:
    """Raise ValueError where attention over so many positions, which keeps so many bytes, needs more than there are."""
    needed, free = kept * MORE, free_memory(device)
    if needed > free:
        raise ValueError(
            f"attention over {positions} positions needs about {needed / 2**30:.1f} GiB for this batch, and "
            f"{free / 2**30:.1f} GiB are free: take a smaller batch or smaller images"
        )
