"""Continuous values from levels: uniform noise spreads each level over its cell, and the K cells fill [-1, 1).

    y = 2 (x + u) / K - 1,     -log P(x) <= E_u[-log p(y)] - D log(2 / K)

for D values of K levels, because P(x) is the mean of p(y) over a cell times its volume (2 / K)^D, and by Jensen's
inequality (Theis et al. 2016, 1511.01844, section 3.1).
"""

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["dequantized", "log_cell", "quantized", "uniforms"]


def dequantized(x: Tensor, levels: int, u: Tensor) -> Tensor:
    """Return levels with noise u in [0, 1), both (B, *shape), as float32 in [-1, 1): each within its cell."""
    low, width = x.double() * (2 / levels) - 1, 2 / levels
    y = (low + width * u).float()
    # rounded to float32 a value may leave its cell, which it must not
    y = torch.where(y.double() >= low + width, torch.nextafter(y, torch.tensor(-2.0)), y)
    return torch.where(y.double() < low, torch.nextafter(y, torch.tensor(2.0)), y)


def quantized(y: Tensor, levels: int) -> Tensor:
    """Return the levels, int64, in whose cells values lie; what is outside [-1, 1) goes to the nearest."""
    return ((y.double() + 1) * (levels / 2)).floor().clamp(0, levels - 1).long()


def log_cell(shape: tuple[int, ...], levels: int) -> float:
    """Return the log of the volume of the cell of an example, D log(2 / K)."""
    return math.prod(shape) * math.log(2 / levels)


def uniforms(shape: tuple[int, ...], index: Tensor, *numbers: int) -> Tensor:
    """Return the noise of the examples `index`, (B, *shape) float32 in [0, 1).

    It is a function of the numbers and of the example alone, whatever is drawn for the others.
    """
    key = np.random.SeedSequence(numbers).generate_state(2, np.uint64)
    out = np.empty((len(index), *shape), np.float32)
    for row, example in zip(out, index.tolist(), strict=True):
        np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, example])).random(out=row, dtype=np.float32)
    return torch.from_numpy(out)
