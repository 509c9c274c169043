"""What a network of two streams sees, layer by layer from its outputs back to its inputs, without running it."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Needs(NamedTuple):
    """Which positions of the two streams are needed, (H, W) bool each."""

    rows: Tensor
    cols: Tensor

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(self.rows | other.rows, self.cols | other.cols)


class Kernel(NamedTuple):
    """How far a convolution sees from its position."""

    above: int
    left: int
    right: int


def seen(needs: Tensor, kernel: Kernel) -> Tensor:
    """Return which positions (H, W) the convolutions at the needed ones see."""
    padded = F.pad(needs, (kernel.right, kernel.left, 0, kernel.above))
    return padded.unfold(0, kernel.above + 1, 1).unfold(1, kernel.left + kernel.right + 1, 1).any(3).any(2)


def seen_from_half(needs: Tensor, height: int, width: int) -> Tensor:
    """Return where strided convolutions begin: the even positions (height, width) of those needed at half of it."""
    at = torch.zeros(height, width, dtype=torch.bool)
    at[::2, ::2] = needs
    return at


def seen_at_half(needs: Tensor, both: bool) -> Tensor:
    """Return which positions of half the resolution the needed ones (H, W) are made from.

    Args:
        needs: at the full resolution.
        both: whether an odd column is made from the coarse position after it as well.
    """
    padded = F.pad(needs, (0, needs.shape[1] % 2, 0, needs.shape[0] % 2))
    columns = padded.unflatten(1, (-1, 2)).unflatten(0, (-1, 2)).any(1)  # (H / 2, W / 2, 2)
    return columns.any(2) | F.pad(columns[:, :-1, 1], (1, 0)) if both else columns.any(2)
