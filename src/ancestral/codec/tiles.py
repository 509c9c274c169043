"""Examples of any size as tiles of a model's shape: in raster order from the top left, padded on the right and below.

Channels are never cut. A table's row (D,) and a recording (C, T) have tiles along their only axis.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["cut", "joined", "padding", "tiles_of"]

Shape = tuple[int, ...]


def axes_of(shape: Shape) -> Shape:
    """Return the sizes of the axes that are cut."""
    return shape if len(shape) == 1 else shape[1:]


def grid_of(shape: Shape, size: Shape) -> Shape:
    """Return how many tiles there are along each axis."""
    return tuple(-(-whole // part) for whole, part in zip(axes_of(shape), axes_of(size), strict=True))


def tiles_of(shape: Shape, size: Shape) -> int:
    """Return how many tiles of a size an example has.

    >>> tiles_of((3, 40, 70), (3, 32, 32))
    6
    """
    return math.prod(grid_of(shape, size))


def cut(x: Tensor, size: Shape) -> Tensor:
    """Return the tiles (N, *size) of an example, with zeros where it is padded."""
    grid, axes = grid_of(tuple(x.shape), size), axes_of(size)
    beyond = [n * part - whole for n, part, whole in zip(grid, axes, axes_of(tuple(x.shape)), strict=True)]
    x = F.pad(x, [side for after in reversed(beyond) for side in (0, after)])
    channels = len(size) - len(axes)  # axes before those that are cut
    split = x.reshape(*x.shape[:channels], *(side for pair in zip(grid, axes, strict=True) for side in pair))
    numbers, parts = range(channels, split.dim(), 2), range(channels + 1, split.dim(), 2)
    return split.permute(*numbers, *range(channels), *parts).reshape(-1, *size)


def joined(tiles: Tensor, shape: Shape) -> Tensor:
    """Return the example whose tiles (N, *size) these are."""
    size = tuple(tiles.shape[1:])
    grid, axes, channels = grid_of(shape, size), axes_of(size), len(size) - len(axes_of(size))
    split = tiles.reshape(*grid, *size)
    pairs = [axis for i in range(len(grid)) for axis in (i, len(grid) + channels + i)]
    whole = split.permute(*range(len(grid), len(grid) + channels), *pairs)
    whole = whole.reshape(*size[:channels], *(n * part for n, part in zip(grid, axes, strict=True)))
    return whole[tuple(slice(0, side) for side in shape)].contiguous()


def padding(shape: Shape, size: Shape, begin: int, end: int) -> Tensor:
    """Return which values of some of an example's tiles are beyond it, bool (end - begin, *size)."""
    grid, axes = grid_of(shape, size), axes_of(size)
    known = torch.ones(end - begin, *size, dtype=torch.bool)
    for row, number in enumerate(range(begin, end)):
        inside = []
        for n, part, whole in reversed(list(zip(grid, axes, axes_of(shape), strict=True))):
            number, place = divmod(number, n)
            inside.append(slice(0, whole - place * part))
        known[row][..., *reversed(inside)] = False
    return known
