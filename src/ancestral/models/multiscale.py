r"""Multi-scale PixelRNN: "Pixel Recurrent Neural Networks", van den Oord et al. 2016, arXiv 1601.06759.

An unconditional PixelRNN generates a small image x_s, every s-th pixel of every s-th row; a conditional one generates
the image given it. The small image is up-sampled by a network with a transposed convolution to a c x H x W map, and
unmasked 1x1 convolutions of the map are added to the input-to-state map of every layer of the conditional network.

The pixels of x_s are pixels of x, and would be counted twice. Here the conditional network puts mass one on them, that
is, its factors there are not scored:

    p(x) = prod_{t in x_s} p(x_t | x_s, <t)  prod_{t not in x_s} p(x_t | x_s, x_<t),

the exact likelihood under an order of its own: first the small image in raster order, then all other pixels in raster
order. The paper allows several conditional networks in a row, and layers of either kind; here there is one, of Row
LSTMs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.conditioning import Map, Vector, aligned, chosen_conditioner, features_of
from ancestral.likelihoods import Bernoulli, Likelihood, check_count
from ancestral.model import Model
from ancestral.models.pixelrnn import RowLSTM
from ancestral.models.raster import check_image, check_image_shape, check_size, context_features, parameters_given
from ancestral.walk import Walk, raster_walk


class MultiScalePixelRNN(Model):
    """Two Row LSTM networks: one over a sub-sampled image, one over the whole image given that.

    Args:
        shape: (C, H, W) of the training images, which need not be divisible by the scale.
        likelihood: of a pixel. With one that does not couple the channels, features are in C channel groups.
        scale: s; the small image has every s-th pixel of every s-th row.
        channels: h, features of a state in both networks, and c, those of the up-sampled map.
        layers: recurrent layers of each network.
        kernel_size: k of the input-to-state convolutions, odd.
        final_channels: features of the two last 1x1 layers; 2h by default.
        residual: whether blocks add what came in (the paper: not on 64x64 images).
        classes: number of classes, for a class-conditional model; both networks are told.
        conditioner: what turns another context into features, instead of `classes`.

    Raises:
        ValueError: an argument is out of range, or channels are not divisible by the channel groups.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        likelihood: Likelihood = Bernoulli(),  # noqa: B008 (a frozen value)
        scale: int = 2,
        channels: int = 24,
        layers: int = 12,
        kernel_size: int = 3,
        final_channels: int | None = None,
        residual: bool = True,
        classes: int | None = None,
        conditioner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.shape = colours, height, width = check_image_shape(shape)
        self.likelihood = likelihood
        self.scale = check_count("scale", scale, 2)
        self.conditioner = chosen_conditioner(classes, conditioner)
        told = features_of(self.conditioner)

        def network(size: tuple[int, int, int], features: int) -> RowLSTM:
            return RowLSTM(
                shape=size,
                likelihood=likelihood,
                channels=channels,
                layers=layers,
                kernel_size=kernel_size,
                final_channels=final_channels,
                residual=residual,
                conditioner=Vector(features=features) if features else None,
            )

        self.small = network((colours, -(-height // scale), -(-width // scale)), told)
        self.large = network(self.shape, told + channels)
        self.upsampling = Map(channels=colours, features=channels, upsample=scale)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Map levels (B, C, H, W) to the parameters (B, P, H, W) of every value's own factor, in one parallel pass."""
        check_image(x, self.shape[0])
        features, small = context_features(self, context, tuple(x.shape)), self.of_grid(x)
        params = parameters_given(self.large, x, self.condition_large(small, features, tuple(x.shape))).clone()
        self.of_grid(params).copy_(parameters_given(self.small, small, self.condition_small(features)))
        return params

    def log_probs(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        check_image(self.check(x), self.shape[0])
        return self.likelihood.log_probs(self(x, context), x)

    def walk(
        self,
        batch: int,
        context: Tensor | None = None,
        x: Tensor | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Walk:
        """Yield the factors of the small image's pixels, then of all others, in raster order; see `Model.walk`."""
        x = self.empty(batch, check_size(shape, self.shape))
        with torch.no_grad():
            features = context_features(self, context, tuple(x.shape))
        return self.both_walks(x, features)

    def places(self, shape: tuple[int, ...] | None = None) -> list[tuple[int, ...]]:
        """Return where the factors go: the small image's pixels first; see `Model.places`."""
        raster = super().places(shape)
        return sorted(raster, key=lambda at: any(side % self.scale for side in at[1:]))

    @torch.inference_mode()
    def both_walks(self, x: Tensor, features: Tensor | None) -> Walk:
        """Walk over the small image, then over x (B, C, H, W) given it; a context's features are told to both."""
        small = self.of_grid(x).clone()
        small = yield from onto_grid(raster_walk(self.small, small, self.condition_small(features)), self.scale)
        self.of_grid(x).copy_(small)
        condition = self.condition_large(small, features, tuple(x.shape))
        return (yield from beside_grid(raster_walk(self.large, x, condition), x, self.scale))

    def of_grid(self, x: Tensor) -> Tensor:
        """Return the part of x (..., H, W) that belongs to the small image."""
        return x[..., :: self.scale, :: self.scale]

    def condition_small(self, features: Tensor | None) -> Tensor | None:
        """Return what the layers of the small network add for a context."""
        if features is None or self.small.condition is None:
            return None
        return self.small.condition.whole(self.of_grid(features))

    def condition_large(self, small: Tensor, features: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """Return what the layers of the large network add for the small image, and a context; `shape` is that of x."""
        assert self.large.condition is not None
        up = aligned(self.upsampling(self.likelihood.scale(small).to(self.dtype)), shape, self.scale)
        if features is not None:
            up = torch.cat([up, features.expand(-1, -1, *shape[2:])], 1)
        return self.large.condition.whole(up)

    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        """Return which values the network that generates (c, row, col) sees, and which its up-sampled map tells of."""
        channel, row, col = at
        if row % self.scale == 0 and col % self.scale == 0:
            field = torch.zeros(self.shape, dtype=torch.bool)
            self.of_grid(field)[:] = self.small.receptive_field((channel, row // self.scale, col // self.scale))
            return field
        field = self.large.receptive_field(at)
        self.of_grid(field)[:] |= self.told_at(row, col)
        return field

    def told_at(self, row: int, col: int) -> Tensor:
        """Return which pixels of the small image reach (row, col) by way of the map, as its shape says: (h, w)."""
        beside = (self.large.layers - 1) * (self.large.kernel_size // 2)
        states = torch.zeros(1, *(size * self.scale for size in self.small.shape[1:]))
        for up in range(row + 1):  # states that the pixel sees: each of them is told of its own place
            states[0, row - up, max(0, col - up - beside) : col + up + 1] = 1
        mapped = F.max_pool2d(states, 5, 1, 2)  # two 3x3 convolutions
        return F.max_pool2d(mapped, self.scale)[0] > 0


def onto_grid(walk: Walk, scale: int) -> Walk:
    """Walk over a small image, saying where its values go in the large one."""
    try:
        factor = next(walk)
        while True:
            channel, row, col = factor.at
            factor = walk.send((yield factor._replace(at=(channel, row * scale, col * scale))))
    except StopIteration as end:
        return end.value


def beside_grid(walk: Walk, x: Tensor, scale: int) -> Walk:
    """Walk over x (B, C, H, W) where the pixels of the small image are known: their factors are passed over."""
    try:
        factor = next(walk)
        while True:
            _, row, col = factor.at
            known = row % scale == 0 and col % scale == 0
            factor = walk.send(x[:, *factor.at].clone() if known else (yield factor))
    except StopIteration as end:
        return end.value
