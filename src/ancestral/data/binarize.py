"""Black and white from grey: how levels in [0, K) become levels in {0, 1}.

The intensity of a level is level / (K - 1). Stochastic binarization takes it as the probability of a one
(Salakhutdinov & Murray 2008); redrawing it every epoch is the "dynamic" MNIST of later papers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["BINARIZE", "Binarize", "Draw", "Threshold"]

CHUNK = 1024  # examples: the uniforms of a whole split need not be in memory at once


@dataclass(frozen=True)
class Draw:
    """Draws every variable: P(1) = intensity.

    Args:
        anew: the splits that are drawn again in every epoch; the others keep the draw of epoch 0.
    """

    anew: tuple[str, ...] = ()

    def __call__(self, x: Tensor, levels: int, noise: np.random.Generator) -> Tensor:
        """Binarize the levels `x`, (N, *shape), with uniforms of `noise`; uint8 of the same shape."""
        out = torch.empty(x.shape, dtype=torch.uint8)
        for first in range(0, len(x), CHUNK):
            part = x[first : first + CHUNK]
            u = torch.from_numpy(noise.random(part.shape, dtype=np.float32))  # in [0, 1): intensity 1 is always 1
            out[first : first + CHUNK] = u * (levels - 1) < part
        return out


@dataclass(frozen=True)
class Threshold:
    """Takes an intensity of a half or more for a one; nothing is drawn."""

    anew: tuple[str, ...] = ()

    def __call__(self, x: Tensor, levels: int, noise: np.random.Generator) -> Tensor:
        """Binarize the levels `x`, (N, *shape); uint8 of the same shape."""
        return (x >= levels // 2).to(torch.uint8)  # 2 x >= K - 1 for integers, without overflow


Binarize = Draw | Threshold

BINARIZE: dict[str, Binarize] = {"static": Draw(), "dynamic": Draw(anew=("train",)), "threshold": Threshold()}
