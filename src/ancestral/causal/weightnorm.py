"""Weight normalisation (1602.07868), with the data-dependent initialisation of its section 3."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.causal.cursor import Cursor

VARIES = 1e-4  # an output of less variance, at gain one, is taken as constant on the initial batch, and only centred


class WeightNorm(nn.Module):
    """The weights of a layer: a matrix g v / |v| and a bias b, with a norm, a gain and a bias for every output.

    In a walk the matrix is computed once and kept by the cursor. In the parallel pass the layer hands its outputs
    through `forward`, which returns them as they are: there `initialize` finds them.

    Args:
        inputs: rows of the matrix, taps x in, in the parts that a walk multiplies by one at a time.
        outputs: columns.
        scale: of the outputs at initialisation, by which they are multiplied once they have variance one.
    """

    def __init__(self, inputs: tuple[int, ...], outputs: int, scale: float = 1.0) -> None:
        super().__init__()
        self.inputs, self.scale = inputs, scale
        self.v = nn.Parameter(torch.empty(sum(inputs), outputs))
        self.g = nn.Parameter(torch.full((outputs,), scale))
        self.b = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.v, std=0.05)

    @property
    def fresh(self) -> bool:
        """Whether gains and biases are as they were made: neither initialised nor trained."""
        return bool(torch.isclose(self.g, torch.full_like(self.g, self.scale)).all()) and not bool(self.b.any())

    def matrix(self, cursor: Cursor | None = None) -> tuple[Tensor, Tensor]:
        """Return the whole matrix (in, out), and the bias (out)."""
        if cursor is None:
            return self.v * (self.g / torch.linalg.vector_norm(self.v, dim=0)), self.b
        parts = cursor.folded(self)
        return parts[0], parts[-1]

    def folded(self) -> tuple[Tensor, ...]:
        """Return the matrix, its parts (views of it), and the bias."""
        matrix, bias = self.matrix()
        return matrix, *matrix.split(self.inputs), bias

    def forward(self, y: Tensor) -> Tensor:
        """Return the outputs (B, O, H, W) of the layer."""
        return y


@torch.no_grad()
def initialize(network: nn.Module, run: Callable[[], Any]) -> None:
    """Set gains and biases so that every weight-normalised output has mean 0 and its layer's scale on one batch.

    Layer by layer, in one parallel pass: a layer sees the inputs that the layers before it give once they are set.
    A network that has gains and biases of its own, as a trained one has, is left as it is.

    Args:
        network: whose layers are set.
        run: runs it on a batch.
    """
    layers = [module for module in network.modules() if isinstance(module, WeightNorm)]
    if not all(layer.fresh for layer in layers):
        return
    hooks = [layer.register_forward_hook(standardise) for layer in layers]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()


def standardise(weights: WeightNorm, _: Any, y: Tensor) -> Tensor:
    """Set g and b by the mean and variance of the outputs (B, O, H, W), and return what the outputs then are.

    What does not vary on the batch is only centred: the authors' gain would make it up to 10^5 times as large.
    """
    variance, mean = torch.var_mean(y.float(), (0, 2, 3), correction=0)
    factor = torch.where(variance > VARIES * weights.g.square(), weights.scale / variance.sqrt(), 1)
    weights.g.mul_(factor)
    weights.b.sub_(mean).mul_(factor)
    return (y - mean[:, None, None]) * factor[:, None, None]
