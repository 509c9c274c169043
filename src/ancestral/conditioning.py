"""Conditioners: what turns a context (a class, a vector, a map, frames) into features for every layer of a model.

A conditioner is a module with `features` F whose output is (B, F), the same everywhere, or (B, F, H, W), aligned with
the image. Each gated unit of a model adds its own linear map of it (1606.05328, equations 4 and 5).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.likelihoods import check_count
from ancestral.recorded import Recorded


class OneHot(Recorded, nn.Module):
    """A class index (B,) in [0, classes) as a one-hot vector (B, classes)."""

    def __init__(self, *, classes: int) -> None:
        super().__init__()
        check_count("classes", classes, 1)
        self.classes = self.features = classes

    def forward(self, context: Tensor) -> Tensor:
        if context.is_floating_point() or context.dim() != 1:
            raise ValueError(f"context must be class indices of shape (B,), got {context.dtype} {tuple(context.shape)}")
        if context.numel() and not torch.compiler.is_compiling():
            low, high = int(context.min()), int(context.max())
            if low < 0 or high >= self.classes:
                outside = high if low >= 0 else low
                raise ValueError(f"context must hold classes from 0 to {self.classes - 1}, got {outside}")
        return F.one_hot(context.long(), self.classes)

    def example(self, batch: int, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Return a random context, for checks."""
        return torch.randint(self.classes, (batch,), generator=generator)


class Vector(Recorded, nn.Module):
    """A vector (B, features), as it is: an embedding, attributes."""

    def __init__(self, *, features: int) -> None:
        super().__init__()
        check_count("features", features, 1)
        self.features = features

    def forward(self, context: Tensor) -> Tensor:
        if context.dim() != 2 or context.shape[1] != self.features:
            raise ValueError(f"context must have shape (B, {self.features}), got {tuple(context.shape)}")
        return context

    def example(self, batch: int, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Return a random context, for checks."""
        return torch.randn(batch, self.features, generator=generator)


class Map(Recorded, nn.Module):
    """A map (B, channels, h, w) of the image's size divided by `upsample`: s = m(h) of 1606.05328, section 2.3.

    Two unmasked 3x3 convolutions, the first of them after a transposed convolution where the map is smaller. Of an
    image whose size `upsample` does not divide, the map has one row or column more, and what is beyond is cut.
    """

    def __init__(self, *, channels: int, features: int = 32, upsample: int = 1) -> None:
        super().__init__()
        check_count("channels", channels, 1)
        check_count("features", features, 1)
        check_count("upsample", upsample, 1)
        self.channels, self.features, self.upsample = channels, features, upsample
        first: Any = nn.ConvTranspose2d(channels, features, upsample, upsample) if upsample > 1 else nn.Identity()
        width = features if upsample > 1 else channels
        self.network = nn.Sequential(
            first, nn.Conv2d(width, features, 3, padding=1), nn.ReLU(), nn.Conv2d(features, features, 3, padding=1)
        )

    def forward(self, context: Tensor) -> Tensor:
        if context.dim() != 4 or context.shape[1] != self.channels:
            raise ValueError(f"context must have shape (B, {self.channels}, h, w), got {tuple(context.shape)}")
        return self.network(context.to(next(self.parameters()).dtype))

    def example(self, batch: int, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Return a random context, for checks."""
        size = (-(-side // self.upsample) for side in shape[1:])
        return torch.randn(batch, self.channels, *size, generator=generator)


class Frames(Recorded, nn.Module):
    """A sequence of frames (B, channels, M), one for `hop` steps, brought to the rate of the steps (1609.03499, 2.5).

    By transposed convolutions that each multiply the rate by at most 8 and do not overlap, so that frame m is of the
    steps from m hop on, whatever window it is in; or by repetition.

    Args:
        channels: of a frame, such as the bands of a spectrogram.
        hop: steps of a frame.
        features: F.
        repeat: repeats frames instead of learning how to bring them to the rate.
    """

    def __init__(self, *, channels: int, hop: int, features: int = 32, repeat: bool = False) -> None:
        super().__init__()
        check_count("channels", channels, 1)
        check_count("hop", hop, 1)
        check_count("features", features, 1)
        self.channels, self.hop, self.features, self.repeat = channels, hop, features, repeat
        stages: list[nn.Module] = [nn.Conv1d(channels, features, 1)]
        for factor in [] if repeat else factors_of(hop):
            stages += [nn.ReLU(), nn.ConvTranspose1d(features, features, factor, factor)]
        self.network = nn.Sequential(*stages)

    def forward(self, context: Tensor) -> Tensor:
        if context.dim() != 3 or context.shape[1] != self.channels:
            raise ValueError(f"context must have shape (B, {self.channels}, M), got {tuple(context.shape)}")
        features = self.network(context.to(next(self.parameters()).dtype))
        return features.repeat_interleave(self.hop, 2) if self.repeat else features

    def example(self, batch: int, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Return a random context, for checks."""
        return torch.randn(batch, self.channels, -(-shape[1] // self.hop), generator=generator)


def factors_of(hop: int, most: int = 8) -> list[int]:
    """Return factors of a number, each at most 8 where its primes are.

    >>> factors_of(256), factors_of(275), factors_of(1)
    ([8, 8, 4], [5, 5, 11], [])
    """
    primes, rest = [], hop
    for prime in range(2, hop + 1):
        while rest % prime == 0:
            primes.append(prime)
            rest //= prime
    out: list[int] = []
    for prime in primes:
        if out and out[-1] * prime <= most:
            out[-1] *= prime
        else:
            out.append(prime)
    return out


def aligned(features: Tensor, shape: tuple[int, ...], upsample: int = 1) -> Tensor:
    """Return features as maps for images (B, C, H, W): (B, F, 1, 1), or (B, F, H, W) cut to the images' size.

    Raises:
        ValueError: a map of another size, but for the rows and columns that `upsample` adds.
    """
    if features.dim() == 2:
        return features[:, :, None, None]
    height, width = shape[2:]
    has = tuple(features.shape[2:])
    if not (height <= has[0] < height + upsample and width <= has[1] < width + upsample):
        raise ValueError(f"context must be a map for images of {height}x{width}, got one of {has[0]}x{has[1]}")
    return features[:, :, :height, :width]


def chosen_conditioner(classes: int | None, conditioner: nn.Module | None) -> nn.Module | None:
    """Return the conditioner that one of the two arguments means, or raise ValueError where both are given."""
    if classes is not None and conditioner is not None:
        raise ValueError("classes and conditioner cannot both be given; leave one out")
    return OneHot(classes=classes) if classes is not None else conditioner


def features_of(conditioner: nn.Module | None) -> int:
    """Return F of a conditioner's output, 0 where there is none; raise ValueError where it does not say."""
    features = 0 if conditioner is None else getattr(conditioner, "features", None)
    if not isinstance(features, int):
        raise ValueError(f"conditioner must say its `features`, the F of its output, got {type(conditioner).__name__}")
    return features
