"""What the trainer, the evaluation and the command line get: three splits of tensors and where they come from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .binarize import Binarize
from .dequantize import dequantized, log_cell, uniforms
from .given import Given, GivenPicture, as_context
from .mutate import mutated
from .recordings import Recordings
from .restore import Audio, Restore, record

__all__ = ["SPLITS", "Data", "Examples", "Split"]

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Args:
        x: (N, *shape): uint8, int16 or int32 levels in [0, K), or float32 for continuous data.
        labels: (N,) int64, or None.
        files: the file that each example was read from, or None.
    """

    x: Tensor
    labels: Tensor | None = None
    files: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.x)


class Examples(NamedTuple):
    """Some examples as a model takes them.

    Attributes:
        x: (B, *shape).
        context: float32 maps (B, c, h, w), labels (B,) int64, or None.
        counted: bool, broadcast to x: which values are new in windows of recordings; None where all of them are.
    """

    x: Tensor
    context: Tensor | None = None
    counted: Tensor | None = None

    def on(self, device: torch.device, conditional: bool = True) -> "Examples":
        """Return the same on a device, without the context for a model that takes none."""
        context = self.context if conditional else None
        x, context, counted = (None if t is None else t.to(device) for t in (self.x, context, self.counted))
        assert x is not None
        return Examples(x, context, counted)


@dataclass
class Data:
    """A data set in three splits.

    Args:
        name: the source, as the user typed it.
        shape: one example: (C, H, W), (C, T) or (D,).
        levels: K, or None for continuous data, which dequantized data is too.
        classes: the names of the labels, or None without labels.
        splits: "train", "valid" and "test"; train may be empty where a source is there to be evaluated on.
        notes: sentences for the user and the report.
        restore: turns levels into what a user opens.
        options: what `load` was asked for (size, bits, binarize, skip_bad, given, ...), as JSON; of recordings, too,
            the rate that they have.
        seed: of the splits that had to be made and of binarization.
        binarize: how grey levels become black and white, or None.
        grey: (x, K) before binarization, of the splits that are drawn anew in every epoch.
        path: of the file or folder, absolute; None where there is none.
        given: makes of an example what a model is given of it, instead of its label; None for the label.
        dequantized: K of the levels that the splits hold and to which every batch adds noise, or None.
        mutate: which share of the values of every batch is replaced by uniform levels, see `mutated`.
        past: of recordings, how many samples before a window a batch holds: those that a model sees, see `reaching`.
    """

    name: str
    shape: tuple[int, ...]
    levels: int | None
    classes: tuple[str, ...] | None
    splits: Mapping[str, Split | Recordings]
    notes: tuple[str, ...]
    restore: Restore
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    binarize: Binarize | None = None
    grey: dict[str, tuple[Tensor, int]] = field(default_factory=dict, repr=False)
    path: str | None = None
    given: Given | None = None
    dequantized: int | None = None
    mutate: float = 0.0
    past: int = 0
    _drawn: dict[str, tuple[int, Tensor]] = field(default_factory=dict, init=False, repr=False)

    @property
    def discrete(self) -> int | None:
        """K of the levels that there are, under noise or not; None of continuous data."""
        return self.levels or self.dequantized

    @property
    def log_cell(self) -> float:
        """What is added to log p of an example to bound log P of its levels, nats: 0 but for dequantized data."""
        return 0.0 if self.dequantized is None else log_cell(self.shape, self.dequantized)

    def split(self, name: str) -> Split | Recordings:
        """Return a split by its name.

        Raises:
            ValueError: there is no such split.
        """
        if name not in self.splits:
            raise ValueError(f"split={name!r}: there are {', '.join(self.splits)}")
        return self.splits[name]

    def batch(self, split: str, index: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor | None]:
        """Return x and the context of `examples`, which are all there is to say of what is no window."""
        return self.examples(split, index, epoch)[:2]

    def examples(self, split: str, index: Tensor, epoch: int = 0) -> Examples:
        """Return the examples `index` of a split, as a model takes them, and their context: of `given`, or labels.

        Dynamic binarization, dequantization and mutation draw here. A draw is a function of (seed, split, epoch) and of
        the example alone: it is the same in every process, in whatever batches the examples come, and after a training
        run was resumed.

        Args:
            split: "train", "valid" or "test".
            index: (B,) int64.
            epoch: how often the split was seen before; only what is drawn for the train part depends on it.

        Returns:
            x (B, *shape), and float32 maps (B, c, h, w), labels (B,) int64, or None. Of recordings x is (B, C, T), the
            past of the windows and their new samples, the maps are (B, F, ceil(T / hop)), and it is said which values
            are new: each is, once, in one window of a recording.
        """
        part = self.split(split)
        if isinstance(part, Recordings):
            x, counted, features = part.batch(index, self.past)
            given = features if features is not None or part.labels is None else part.labels[index]
            return Examples(x, given, counted)
        x = (self._epoch(split, epoch) if split in self.grey else part.x)[index]
        labels = None if part.labels is None else part.labels[index]
        if self.dequantized is not None:
            return Examples(dequantized(x, self.dequantized, self._uniforms(split, index, epoch)), labels)
        if self.mutate and self.levels is not None:
            return Examples(mutated(x, self.levels, self.mutate, self._uniforms(split, index, epoch)), labels)
        return Examples(x, self.context(x, labels))

    def _uniforms(self, split: str, index: Tensor, epoch: int) -> Tensor:
        """Return the noise of examples, (B, *shape): of the train part anew in every epoch."""
        drawn = epoch if split == "train" else 0
        return uniforms(self.shape, index, self.seed, SPLITS.index(split), drawn)

    def counts(self, split: str, index: Tensor) -> Tensor:
        """Return how many values each of the examples `index` is scored by, (B,) int64: those of a window are new."""
        part = self.split(split)
        whole = torch.full((len(index),), math.prod(self.shape))
        return part.counts(index) if isinstance(part, Recordings) else whole

    def reaching(self, past: int) -> "Data":
        """Return the same data, with so many samples before each window of a recording, for a model that sees them."""
        return self if past == self.past else replace(self, past=past)

    def context(self, x: Tensor, labels: Tensor | None) -> Tensor | None:
        """Return what a model is given of examples x (B, *shape): maps (B, c, h, w), or their labels."""
        if not isinstance(self.given, GivenPicture) or self.levels is None:
            return labels
        return as_context(self.given(x), self.levels)

    def _epoch(self, split: str, epoch: int) -> Tensor:
        """Return a split as drawn for one epoch; the last one drawn is kept."""
        if epoch == 0:
            return self.splits[split].x
        if self._drawn.get(split, (0, None))[0] != epoch:
            assert self.binarize is not None
            x, levels = self.grey[split]
            self._drawn[split] = epoch, self.binarize(x, levels, noise(self.seed, split, epoch))
        return self._drawn[split][1]

    def limited(self, split: str, n: int | None, seed: int = 0) -> Tensor:
        """Return the indices of `n` examples: the first of a seeded permutation, in ascending order.

        Of recordings these are all the windows of `n` recordings.

        Some sources are sorted by class, so the first examples as they lie would be no sample. All where `n` is None
        or more than there are.
        """
        if n is not None and n < 1:
            raise ValueError(f"limit={n}: give at least 1, or leave it out for all examples")
        part = self.split(split)
        if n is None:
            return torch.arange(len(part))
        count = len(part.lengths) if isinstance(part, Recordings) else len(part)
        chosen = torch.from_numpy(np.sort(np.random.default_rng(seed).permutation(count)[:n]))
        return part.windows_of(chosen) if isinstance(part, Recordings) else chosen

    @property
    def recordings(self) -> dict[str, dict[str, Any]]:
        """How many recordings each split has, and how many seconds they last; empty of other data."""
        if not isinstance(self.restore, Audio):
            return {}
        parts = {name: part for name, part in self.splits.items() if isinstance(part, Recordings)}
        return {
            name: {"recordings": len(part.lengths), "seconds": int(part.lengths.sum()) / self.restore.rate}
            for name, part in parts.items()
        }

    def describe(self) -> dict[str, Any]:
        """Return what a run folder records of the data, as JSON."""
        return {
            "name": self.name,
            "source": self.path or self.name,  # to be found from any folder
            "options": self.options,
            "seed": self.seed,
            "shape": list(self.shape),
            "levels": self.levels,
            "dequantized": self.dequantized,
            "classes": None if self.classes is None else list(self.classes),
            "counts": {name: len(part) for name, part in self.splits.items()},
            "notes": list(self.notes),
            "restore": record(self.restore),
            **({"recordings": self.recordings} if self.recordings else {}),
        }


def noise(seed: int, split: str, epoch: int) -> np.random.Generator:
    """Return the random numbers that binarize a split in one epoch."""
    return np.random.default_rng((seed, SPLITS.index(split), epoch))
