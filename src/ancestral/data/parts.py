"""What a reader hands on: the parts that a source has, before splits are made and levels are reduced."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .dataset import SPLITS
from .restore import Arrays, Pictures, Restore

__all__ = ["MOST_LEVELS", "Found", "Part", "compact", "depth_of", "drawn", "restoring", "with_bits", "with_splits"]

MOST_LEVELS = 2**16

Array = NDArray[Any]


class Part(NamedTuple):
    """Examples (N, *shape), or recordings: (N,) arrays of (T,) each; their labels (N,) and files (N,) if known."""

    x: Array
    labels: Array | None = None
    files: Array | None = None

    def take(self, index: Array) -> "Part":
        """Return the examples `index`."""
        labels, files = (None if each is None else each[index] for each in (self.labels, self.files))
        return Part(self.x[index], labels, files)


@dataclass(frozen=True)
class Found:
    """What a reader found.

    Args:
        parts: by split; a source without splits has all its examples under "train".
        levels: K, or None for continuous data.
        restore: turns these levels back into what the source held.
        classes: names of the labels, or None.
        notes: sentences for the user.
    """

    parts: dict[str, Part]
    levels: int | None
    restore: Restore
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """One example."""
        return next(iter(self.parts.values())).x.shape[1:]


def compact(x: Array, levels: int) -> Array:
    """Return levels in the smallest of uint8, int16 and int32 that holds them."""
    kind = np.uint8 if levels <= 2**8 else np.int16 if levels <= 2**15 else np.int32
    return np.ascontiguousarray(x, dtype=kind)


def restoring(shape: tuple[int, ...], levels: int | None) -> Restore:
    """Return how examples of this shape are opened: grey and RGB levels as pictures, anything else as arrays."""
    if len(shape) == 3 and shape[0] in (1, 3) and levels is not None:
        return Pictures(levels)
    return Arrays(levels)


def with_bits(found: Found, bits: int | None) -> Found:
    """Keep the top `bits` bits of every level.

    Raises:
        ValueError: continuous data, levels that do not fill a whole number of bits, or fewer of them than asked for.
    """
    if bits is None:
        return found
    if found.levels is None:
        raise ValueError(f"bits={bits} keeps the top bits of levels, got continuous data: leave it out")
    depth = depth_of(found.levels, bits)
    parts = {name: part._replace(x=compact(part.x >> (depth - bits), 2**bits)) for name, part in found.parts.items()}
    return replace(found, parts=parts, levels=2**bits, restore=restoring(found.shape, 2**bits))


def depth_of(levels: int, bits: int) -> int:
    """Return how many bits the levels fill; raise ValueError where `bits` of them cannot be kept."""
    depth = levels.bit_length() - 1
    if levels != 2**depth or not 1 <= bits <= depth:
        can = f"1 to {depth} bits" if levels == 2**depth else "levels that fill a whole number of bits"
        raise ValueError(
            f"bits={bits} of {levels} levels: it takes {can}; leave it out, or binarize (--binarize) to 2 levels"
        )
    return depth


Drawn = tuple[dict[str, Part], list[str]]


def with_splits(found: Found, seed: int, draw: Callable[[Part, list[str], int], Drawn] | None = None) -> Found:
    """Draw the splits that a source lacks from its train part.

    A source without a train part is there to be evaluated on: its other missing splits stay empty.

    Args:
        found: what the source holds.
        seed: of the draw.
        draw: returns train and the missing splits, and notes; `drawn` by default.

    Raises:
        ValueError: too little to draw from.
    """
    missing = [name for name in SPLITS if name not in found.parts]
    if not missing:
        return replace(found, parts=_ordered(found.parts))
    if "train" not in found.parts:
        return _without_training(found, missing)
    parts, notes = (draw or drawn)(found.parts["train"], missing, seed)
    return replace(found, parts=_ordered(found.parts | parts), notes=(*found.notes, *notes))


def drawn(train: Part, missing: list[str], seed: int, noun: str = "examples") -> Drawn:
    """Draw a tenth of the examples for each of the missing splits.

    Raises:
        ValueError: fewer than ten examples to draw from.
    """
    n, tenth = len(train.x), len(train.x) // 10
    if n < 10:
        raise ValueError(f"{n} {noun} are too few to draw the {' and '.join(missing)} split from: 10 are needed")
    points = [n - tenth * k for k in range(len(missing), 0, -1)]
    cuts = np.split(np.random.default_rng(seed).permutation(n), points)
    parts = {name: train.take(np.sort(cut)) for name, cut in zip(["train", *missing], cuts, strict=True)}
    notes = [f"no {name} split in the source: {tenth} of its {n} {noun} drawn with seed {seed}" for name in missing]
    return parts, notes


def _without_training(found: Found, missing: list[str]) -> Found:
    some = next(iter(found.parts.values()))
    empty = {name: some.take(np.arange(0)) for name in missing}
    note = f"no train split in the source: {' and '.join(missing)} empty, it can be evaluated on but not trained on"
    return replace(found, parts=_ordered(found.parts | empty), notes=(*found.notes, note))


def _ordered(parts: dict[str, Part]) -> dict[str, Part]:
    return {name: parts[name] for name in SPLITS}
