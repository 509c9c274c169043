"""Data that comes with scikit-learn: real, small, and never downloaded."""

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .parts import Found, Part
from .pictures import Size
from .restore import Pictures

__all__ = ["digits", "photos"]

BANDS = {"train": (0.0, 0.7), "valid": (0.7, 0.85), "test": (0.85, 1.0)}  # of the width of each photograph


def digits() -> Found:
    """Return the 1797 scanned digits of the UCI set "optical recognition of handwritten digits" (E. Alpaydin, 1998).

    8x8 pixels of 17 levels, 10 classes. In the order of `default_rng(0).permutation(1797)` the first 1437 are for
    training, of which the first 179 are the valid part; the last 360 are the test part.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.images))
    everything = Part(bunch.images.astype(np.uint8)[:, None], bunch.target)
    index = {"train": order[179:1437], "valid": order[:179], "test": order[1437:]}
    parts = {split: everything.take(i) for split, i in index.items()}
    return Found(parts, 17, Pictures(17), tuple(str(digit) for digit in range(10)))


def photos(size: Size = 32) -> Found:
    """Return RGB patches of scikit-learn's two photographs, china.jpg and flower.jpg (427x640, 256 levels).

    Each photograph is cut into three bands by its columns: the left 70 % is for training, with a patch at every quarter
    of its side; 15 % each are for validation and test, in patches that do not overlap. At 32x32 these are 5300, 78 and
    78 patches.

    Raises:
        ValueError: the patches are larger than a band.
    """
    from sklearn.datasets import load_sample_images

    h, w = (size, size) if isinstance(size, int) else size
    pictures = [np.asarray(picture).transpose(2, 0, 1) for picture in load_sample_images().images]
    if h > 427 or w > 96:
        raise ValueError(f"size={size}: patches of photos are at most 427 high and 96 wide")
    parts = {}
    for split, (left, right) in BANDS.items():
        stride = (max(1, h // 4), max(1, w // 4)) if split == "train" else (h, w)
        bands = [p[:, :, round(left * p.shape[2]) : round(right * p.shape[2])] for p in pictures]
        parts[split] = Part(np.concatenate([_patches(band, (h, w), stride) for band in bands]))
    return Found(parts, 256, Pictures(256))


def _patches(band: NDArray[Any], size: tuple[int, int], stride: tuple[int, int]) -> NDArray[Any]:
    """Return all patches (N, 3, *size) of a band (3, H, W), a stride apart."""
    (h, w), (down, right) = size, stride
    corners = product(range(0, band.shape[1] - h + 1, down), range(0, band.shape[2] - w + 1, right))
    return np.stack([band[:, top : top + h, left : left + w] for top, left in corners])
