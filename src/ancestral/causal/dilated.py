"""Dilated causal convolutions in a stack of gated units, residual and skip paths (1609.03499, sections 2.1 to 2.5).

All layers are alike but for their dilation, so their parameters lie side by side: in a step one product serves the
earlier taps of every layer, which need nothing that is made in this step, and one the skip paths of all layers. What
is left for each layer is its tap at the present, the gate, and the residual path.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.causal.conv import gate, initialize, kernel_of
from ancestral.causal.cursor import Cursor


class DilatedStack(nn.Module):
    """Layers z = tanh(W_f * x + V_f' h) . sigma(W_g * x + V_g' h), each of which adds a 1x1 map of z to its input.

    Args:
        channels: C, features of the residual path.
        skip: S, features of the sum of all skip paths.
        dilations: d of each layer.
        taps: k, steps that a layer sees: its own, d earlier, ..., (k - 1) d earlier.
        features: F of what conditions every layer, 0 where nothing does.
    """

    def __init__(self, channels: int, skip: int, dilations: list[int], taps: int = 2, features: int = 0) -> None:
        super().__init__()
        layers = len(dilations)
        self.delays: Tensor
        self.channels, self.taps, self.dilations = channels, taps, dilations
        self.weight = nn.Parameter(torch.empty(layers, taps * channels, 2 * channels))
        self.bias = nn.Parameter(torch.zeros(layers, 1, 2 * channels))
        self.residual = nn.Parameter(torch.empty(layers - 1, channels, channels))  # nothing follows the last layer
        self.skip = nn.Parameter(torch.empty(layers * channels, skip))
        self.skip_bias = nn.Parameter(torch.zeros(skip))
        self.condition = nn.Parameter(torch.empty(features, layers * 2 * channels)) if features else None
        self.register_buffer("delays", torch.tensor(dilations), persistent=False)
        initialize(self.weight, taps * channels)
        initialize(self.residual, channels * layers)  # so that the sum over the layers keeps its scale
        initialize(self.skip, len(self.skip))
        if self.condition is not None:
            initialize(self.condition, features)

    def forward(self, x: Tensor, told: Tensor | None = None, cursor: Cursor | None = None) -> Tensor:
        """Map (B, C, T) to the sum of the skip paths, (B, S, T).

        Args:
            x: (B, C, T). With a cursor one step (B, C), which gives (B, S), or all steps from the first one on, which
                are then remembered.
            told: what conditions the layers, (B, F, 1) or (B, F, T); in a step what `offsets` makes of it.
            cursor: of a walk.
        """
        return self.step(x, told, cursor) if cursor is not None and x.dim() == 2 else self.whole(x, told, cursor)

    def offsets(self, features: Tensor) -> Tensor:
        """Return what features (B, F) of a step add in every layer, the bias included: (L, B, 2 C)."""
        assert self.condition is not None
        return (features @ self.condition).unflatten(1, (-1, 2 * self.channels)).transpose(0, 1) + self.bias

    def whole(self, x: Tensor, told: Tensor | None, cursor: Cursor | None) -> Tensor:
        """Map (B, C, T) to (B, S, T), layer by layer; features are innermost in memory, as products want them."""
        h, inputs, gated = x.movedim(1, 2), [], []
        for layer, d in enumerate(self.dilations):
            inputs.append(h)
            kernel = kernel_of(self.weight[layer], 1, self.taps)
            padded = F.pad(h, (0, 0, (self.taps - 1) * d, 0)).movedim(2, 1).unsqueeze(2)
            a = F.conv2d(padded, kernel, self.bias[layer, 0], dilation=(1, d))
            if told is not None and self.condition is not None:
                width = 2 * self.channels
                own = told.movedim(1, 2) @ self.condition[:, layer * width : (layer + 1) * width]
                a += own.movedim(2, 1).unsqueeze(2)
            f, g = a.squeeze(2).movedim(1, 2).chunk(2, 2)
            gated.append(torch.tanh(f) * torch.sigmoid(g))
            if layer < len(self.residual):
                h = torch.addmm(h.flatten(0, 1), gated[-1].flatten(0, 1), self.residual[layer]).view_as(h)
        if cursor is not None:
            cursor.remember_all(self, inputs, self.taps - 1, self.delays)
        return (torch.cat(gated, 2) @ self.skip + self.skip_bias).movedim(2, 1)

    def step(self, x: Tensor, told: Tensor | None, cursor: Cursor) -> Tensor:
        """Map one step (B, C) to (B, S)."""
        known = (self.taps - 1) * self.channels
        past = cursor.delayed(self, x, self.taps - 1, self.delays)
        a = torch.baddbmm(self.bias if told is None else told, past, self.weight[:, :known])
        inputs, gated = [], []
        for layer in range(len(self.dilations)):
            inputs.append(x)
            gated.append(gate(torch.addmm(a[layer], x, self.weight[layer, known:]), self.channels))
            if layer < len(self.residual):
                x = torch.addmm(x, gated[-1], self.residual[layer])
        cursor.remember(self, torch.stack(inputs))
        return torch.addmm(self.skip_bias, torch.cat(gated, 1), self.skip)
