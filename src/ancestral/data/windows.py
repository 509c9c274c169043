"""Recordings as data: 16-bit samples become levels, and every recording is cut into windows."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .audio import draw_recordings
from .dataset import Data
from .given import Given
from .mel import Mel
from .mulaw import CODES
from .parts import Found, Part, depth_of, with_splits
from .recordings import Recordings
from .restore import Audio

__all__ = ["WINDOW", "checked_count", "of_recordings"]

WINDOW = 4096  # samples


def of_recordings(name: str, found: Found, options: dict[str, Any], given: Given | None, seed: int) -> Data:
    """Return the data of recordings.

    Args:
        name: the source, as the user typed it.
        found: what `read_recordings` returned.
        options: what `load` was asked for.
        given: features, made of the samples as they were read, or None.
        seed: of the splits that have to be made.

    Raises:
        ValueError: options that are not for recordings, or do not go together.
    """
    assert isinstance(found.restore, Audio)
    if given is not None and not isinstance(given, Mel):
        raise ValueError(f"given {options['given']} is for pictures, {name} holds recordings: mel would do")
    restore = _restoring(found.restore.rate, bool(options.get("linear")), options["bits"])
    window = options.get("window") or WINDOW
    whole = -(-window // Mel.factor) * Mel.factor if given is not None else window
    found = with_splits(found, seed, draw_recordings)
    splits = {split: _windows(part, restore, whole, given) for split, part in found.parts.items()}
    recorded = options | {"rate": restore.rate, "linear": not restore.mu_law, "window": window}
    data = Data(name, (1, whole), restore.levels, found.classes, splits, found.notes, restore, recorded, seed)
    return replace(data, given=given)


def checked_count(name: str, value: int | None) -> None:
    """Raise ValueError where an option is given and no positive integer."""
    if value is not None and (not isinstance(value, int) or value < 1):
        raise ValueError(f"{name}={value!r}: give a positive integer")


def _restoring(rate: int, linear: bool, bits: int | None) -> Audio:
    if not linear and bits is not None:
        raise ValueError(f"bits={bits} keeps the top bits of linear levels, got mu-law: linear (--linear) would do")
    if bits is not None:
        depth_of(2**16, bits)
    return Audio(rate, 2 ** (bits or 16) if linear else CODES, mu_law=not linear)


def _windows(part: Part, restore: Audio, window: int, given: Mel | None) -> Recordings:
    """Return one split, of as many recordings as it has: none, too."""
    kind = restore.encode(np.zeros(0, np.int16))
    x = torch.from_numpy(np.concatenate([kind, *(restore.encode(samples) for samples in part.x)])[None])
    lengths = torch.tensor([len(samples) for samples in part.x], dtype=torch.int64)
    labels = None if part.labels is None else torch.as_tensor(part.labels, dtype=torch.int64)
    files = None if part.files is None else tuple(part.files)
    if given is None:
        return Recordings(x, lengths, window, labels, files=files)
    return Recordings(x, lengths, window, labels, _features(part, restore.rate, given), given.factor, files)


def _features(part: Part, rate: int, given: Mel) -> Tensor:
    none = torch.empty(given.channels(1), 0)
    return torch.cat([none, *(given(samples, rate) for samples in part.x)], 1)
