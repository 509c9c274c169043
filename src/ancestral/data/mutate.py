"""Levels of which a few are replaced by chance: what a background model is trained on (1906.02845, section 3)."""

import torch
from torch import Tensor

__all__ = ["mutated"]


def mutated(x: Tensor, levels: int, rate: float, u: Tensor) -> Tensor:
    """Return levels of which each is, with the probability `rate`, replaced by one of all K levels, all alike.

    One uniform says both: where it is below the rate it is u / rate of the way through the levels.

    Args:
        x: (B, *shape) levels in [0, K).
        levels: K.
        rate: in (0, 1].
        u: uniforms in [0, 1), like x.

    >>> mutated(torch.tensor([3, 3, 3]), 4, 0.5, torch.tensor([0.1, 0.49, 0.5]))
    tensor([0, 3, 3])
    """
    drawn = (u.double() / rate * levels).floor().clamp(max=levels - 1)
    return torch.where(u < rate, drawn.to(x.dtype), x)
