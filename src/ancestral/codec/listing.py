"""What is in a chunk: names, classes and shapes of the entries whose tiles it holds."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from ancestral.codec.numbers import Taken, numbers
from ancestral.codec.stream import Damaged
from ancestral.codec.tiles import padding, tiles_of

__all__ = ["NAME", "Entry", "Part", "known_of", "labels_of", "listed", "parts_of"]

NAME = 4096  # bytes of a name, at most
SIDE = LABEL = 2**31 - 1  # at most


class Entry(NamedTuple):
    """One picture, recording, or row of a table.

    Attributes:
        name: relative POSIX path, or "".
        label: class, where there is one.
        shape: of its levels: (C, H, W), (C, T), (D,).
    """

    name: str
    label: int | None
    shape: tuple[int, ...]


class Part(NamedTuple):
    """Some tiles of an entry.

    Attributes:
        entry: which.
        chosen: the class that an entry without a label was given, for it has fewest bits; None where none was.
        begin: the number of the first tile.
        end: the number of the tile after the last.
    """

    entry: Entry
    chosen: int | None
    begin: int
    end: int

    def label(self) -> int:
        """Return the class that the model is told."""
        return next((label for label in (self.entry.label, self.chosen) if label is not None), 0)


def labels_of(parts: Sequence[Part]) -> Tensor:
    """Return the class of each tile (N,)."""
    return torch.tensor([part.label() for part in parts for _ in range(part.begin, part.end)])


def known_of(parts: Sequence[Part], size: tuple[int, ...]) -> Tensor:
    """Return which values of the tiles are padding, bool (N, *size)."""
    return torch.cat([padding(part.entry.shape, size, part.begin, part.end) for part in parts])


def listed(parts: Sequence[Part]) -> bytes:
    """Return what is in a chunk, as bytes."""
    tiles = sum(part.end - part.begin for part in parts)
    found = [len(parts), tiles, parts[0].begin]
    for shape, same in groupby(part.entry.shape for part in parts):
        found += [len(list(same)), *shape]
    for entry, chosen, _, _ in parts:
        found.append(2 * entry.label + 1 if entry.label is not None else 2 * chosen + 2 if chosen is not None else 0)
    return numbers(found) + b"\0".join(part.entry.name.encode("utf-8", "surrogateescape") for part in parts)


def parts_of(listing: bytes, size: tuple[int, ...], examples: int) -> list[Part]:
    """Return what is in a chunk.

    Args:
        listing: what `listed` returned.
        size: of a tile.
        examples: tiles of a chunk, at most.

    Raises:
        Damaged: it does not add up.
    """
    taken = Taken(listing)
    entries, tiles, begin = taken.number(examples), taken.number(examples), taken.number(2**62)
    shapes: list[tuple[int, ...]] = []
    while len(shapes) < entries:
        same = taken.number(entries - len(shapes))
        shapes += [shape_from(taken, size)] * same
        if same == 0:
            raise Damaged("its shapes do not add up")
    codes = taken.numbers(entries, 2 * LABEL + 2)
    names = taken.rest().split(b"\0", entries)
    if len(names) != entries or any(len(name) > NAME for name in names):
        raise Damaged("its names do not add up")
    parts = []
    for name, code, shape in zip(names, codes, shapes, strict=True):
        end = min(tiles_of(shape, size), begin + tiles)
        label = (code - 1) // 2 if code else None
        entry = Entry(name.decode("utf-8", "surrogateescape"), label if code % 2 else None, shape)
        parts.append(Part(entry, None if code % 2 else label, begin, end))
        tiles, begin = tiles - (end - begin), 0
    if tiles or any(part.begin >= part.end for part in parts):
        raise Damaged("its tiles do not add up")
    return parts


def shape_from(taken: Taken, size: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape that has tiles of a size."""
    shape = tuple(taken.numbers(len(size), SIDE))
    if min(shape) < 1 or (len(size) > 1 and shape[0] != size[0]):
        raise Damaged(f"it holds examples of {shape}, the model is of {size}")
    return shape
