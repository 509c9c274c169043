"""Masked linear layers and the degrees that make their masks (MADE, 1502.03509)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Degrees(NamedTuple):
    """One order of the variables and one set of connections, as degrees.

    Attributes:
        order: the position m0(d) of every variable, counted from 0, (D,): a permutation.
        hidden: for each hidden layer how many of the first variables each unit may see, (H,) each.
    """

    order: Tensor
    hidden: tuple[Tensor, ...]

    def masks(self, inputs: int = 1, outputs: int = 1) -> list[Tensor]:
        """Return the mask of each layer, the output last (equations 8 and 9), as bool (out, in).

        A variable has `inputs` consecutive inputs and `outputs` consecutive outputs.
        """
        given = (self.order + 1).repeat_interleave(inputs)
        wanted = self.order.repeat_interleave(outputs)  # one less than the inputs': an output must not see itself
        layers = [given, *self.hidden]
        return [out[:, None] >= into for into, out in zip(layers, [*self.hidden, wanted], strict=True)]

    def direct(self, inputs: int = 1, outputs: int = 1) -> Tensor:
        """Return the mask of direct connections from inputs to outputs: strictly earlier in the order."""
        return self.order.repeat_interleave(outputs)[:, None] > self.order.repeat_interleave(inputs)


def draw_degrees(order: Tensor, widths: tuple[int, ...], generator: torch.Generator) -> Degrees:
    """Draw the degree of each hidden unit uniformly from the smallest degree below it to D - 1 (section 4.1).

    With a single variable there is nothing to see, and every degree is 0.
    """
    highest, lowest = len(order) - 1, min(1, len(order) - 1)
    hidden = []
    for width in widths:
        hidden.append(torch.randint(lowest, highest + 1, (width,), generator=generator))
        lowest = int(hidden[-1].min())
    return Degrees(order, tuple(hidden))


class MaskedLinear(nn.Module):
    """A linear layer whose mask is an argument: y = b + (W . M) x, and (U . M) 1 with conditioning weights.

    The mask is applied in every forward and never written into the weights.
    """

    def __init__(
        self, in_features: int, out_features: int, conditioning_weights: bool = False, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.ones = nn.Parameter(torch.zeros(out_features, in_features)) if conditioning_weights else None
        nn.init.orthogonal_(self.weight, gain)  # as the authors do: a mask halves the fan-in that other rules count on

    def offset(self, mask: Tensor) -> Tensor:
        """Return what does not depend on the input: the bias, and the conditioning weights of what is connected."""
        return self.bias if self.ones is None else self.bias + (self.ones * mask).sum(1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, in) to (B, out) under a mask (out, in)."""
        return F.linear(x, self.weight * mask, self.offset(mask))
