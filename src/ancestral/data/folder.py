"""A folder of pictures: what goes together, and what is converted so that it does."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .entries import Entry, parts_of, readable
from .parts import Found, compact, restoring
from .pictures import Picture, Size, read_picture

__all__ = ["read_folder", "read_pictures"]


def read_folder(entries: list[Entry], size: Size | None = None, skip_bad: bool = False) -> Found:
    """Read the pictures of a folder. If any has colour, all become RGB.

    Raises:
        ValueError: pictures that do not go together.
        UnreadableError: damaged pictures, unless `skip_bad`.
    """
    pictures, notes = readable([e.path for e in entries], partial(read_picture, size=size), skip_bad, "pictures")
    x, levels, more = _together(pictures)
    parts, classes, about = parts_of([e for e in entries if e.path in pictures], x, "pictures")
    return Found(parts, levels, restoring(x.shape[1:], levels), classes, (*notes, *more, *about))


def read_pictures(paths: Sequence[Path], size: Size | None = None) -> tuple[NDArray[Any], int]:
    """Read picture files that go together; levels (N, C, H, W) and K.

    Raises:
        ValueError: they do not go together.
        UnreadableError: one is damaged.
    """
    pictures, _ = readable(paths, partial(read_picture, size=size), False, "pictures")
    x, levels, _ = _together(pictures)
    return x, levels


def _together(pictures: dict[Path, Picture]) -> tuple[NDArray[Any], int, list[str]]:
    """Return all pictures as one array (N, C, H, W), K, and notes on what was converted."""
    _one_size(pictures)
    values = list(pictures.values())
    levels = _one_depth(pictures)
    colour = max(len(p.x) for p in values)
    grey = sum(len(p.x) < colour for p in values)
    binary = sum(p.levels < levels for p in values)
    x = np.empty((len(values), colour, *values[0].x.shape[1:]), compact(np.zeros(0), levels).dtype)
    for i, picture in enumerate(values):
        x[i] = picture.x if picture.levels == levels else picture.x * (levels - 1)
    notes = [f"{grey} grey pictures converted to RGB"] if grey else []
    notes += [f"{binary} 1-bit pictures converted to {levels} levels"] if binary else []
    notes += [_black_and_white(levels)] if levels > 2 and bool(np.isin(x, (0, levels - 1)).all()) else []
    return x, levels, notes


def _black_and_white(levels: int) -> str:
    return f"all values are 0 or {levels - 1}: binarize threshold (--binarize threshold) makes 2 levels of them"


def _one_size(pictures: dict[Path, Picture]) -> None:
    first = next(iter(pictures))
    h, w = pictures[first].x.shape[1:]
    for path, picture in pictures.items():
        if picture.x.shape[1:] != (h, w):
            height, width = picture.x.shape[1:]
            raise ValueError(
                f"pictures of mixed sizes: {first} is {w}x{h}, {path} is {width}x{height}; "
                "size (--size N) brings them all to one"
            )


def _one_depth(pictures: dict[Path, Picture]) -> int:
    by_levels = {picture.levels: path for path, picture in pictures.items()}
    if 65536 in by_levels and len(by_levels) > 1:
        other = by_levels[min(by_levels)]
        raise ValueError(f"pictures of mixed depth: {by_levels[65536]} has 16 bits, {other} has not; convert one")
    return max(by_levels)
