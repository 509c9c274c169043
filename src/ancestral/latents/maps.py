"""What layers of feature maps share: the sizes of their levels, and convolutions that fit these."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ancestral.likelihoods import check_count, check_sizes

__all__ = ["Maps", "begin_with", "convolution", "damp"]

SMALLEST = 2  # maps up to this size have convolutions of 1x1 (2011.10650)

Size = tuple[int, int]


@dataclass(frozen=True)
class Maps:
    """Layers of feature maps, a level of latents at each of several resolutions.

    Attributes:
        channels: feature maps of every level.
        strides: how many times smaller each level is than the one below, the one beside x first; 1 keeps the size.
    """

    channels: int = 32
    strides: tuple[int, ...] = (2, 2)

    def __post_init__(self) -> None:
        check_count("channels", self.channels, 1)
        check_sizes("strides", self.strides)

    @property
    def multiple(self) -> int:
        """What both sides of an image must be a multiple of."""
        return math.prod(self.strides)

    def sizes(self, shape: tuple[int, ...], levels: int) -> list[Size]:
        """Return height and width of x and of z_1 to z_L.

        Raises:
            ValueError: x is no image, there is not one stride for each level, or one does not divide the maps.
        """
        if len(shape) != 3:
            raise ValueError(f"{type(self).__name__} is for images (C, H, W), got shape {shape}: Dense takes any")
        if len(self.strides) != levels:
            wanted = f"{levels} factors, one for each level of latents"
            raise ValueError(f"strides must have {wanted}, got {self.strides}")
        sizes = [(shape[1], shape[2])]
        for stride in self.strides:
            height, width = sizes[-1]
            if height % stride or width % stride:
                raise ValueError(f"strides do not fit: {self.misfit(sizes, stride)}")
            sizes.append((height // stride, width // stride))
        return sizes

    def misfit(self, sizes: list[Size], stride: int) -> str:
        """Return which maps a stride does not divide, and what would do."""
        named = [f"{height}x{width}" for height, width in dict.fromkeys(sizes)]
        way = f"{named[0]} becomes {', then '.join(named[1:])}" if named[1:] else f"x is {named[0]}"
        common = math.gcd(*sizes[-1])
        some = " or ".join(str(n) for n in range(1, common + 1) if common % n == 0)
        return f"{way}, which {stride} does not divide: there {some} would do, or sides that {self.multiple} divides"


def convolution(inputs: int, outputs: int, size: Size, kernel_size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Return a convolution of maps of that size, which gives maps `stride` times smaller; its bias is 0 at first.

    The kernel covers all that lies between two steps. On maps that are hardly larger than a kernel's middle it is 1x1.
    """
    kernel = max(kernel_size if max(size) > SMALLEST else 1, stride)
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - stride + 1) // 2)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


@torch.no_grad()
def damp(layers: Iterable[nn.Conv2d], blocks: int) -> None:
    """Scale weights by the root of 1 / N, for N blocks that are added up in a row (2011.10650)."""
    for layer in layers:
        layer.weight.mul_(math.sqrt(1 / blocks))


@torch.no_grad()
def begin_with(centre: Tensor, out: nn.Conv2d, x: Tensor, outputs: Tensor | None) -> None:
    """Set the mean of x (B, C, H, W), and let a last layer begin with the means over positions of outputs (P, H, W)."""
    centre.copy_(x.mean(0))
    if outputs is not None:
        assert out.bias is not None
        out.bias.copy_(outputs.flatten(1).mean(1))
