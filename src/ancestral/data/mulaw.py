"""The mu-law of 1609.03499, section 2.2, with mu = 255: 256 codes, finer where sound is soft.

    f(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu),     code = floor((f(x) + 1) / 2 * mu + 1/2)

for x in [-1, 1], here the 16-bit sample divided by 32768.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CODES", "from_mu_law", "to_mu_law"]

Array = NDArray[Any]

CODES = 256


def to_mu_law(samples: Array) -> Array:
    """Return the codes, uint8, of int16 samples of any shape."""
    return _codes()[samples.astype(np.int32) + 2**15]


def from_mu_law(codes: Array) -> Array:
    """Return the samples, int16, that codes in [0, 256) stand for, of the same shape."""
    return _samples()[codes]


@functools.cache
def _codes() -> Array:
    """The code of each of the 65536 samples, from -32768 on."""
    x = np.arange(-(2**15), 2**15) / 2**15
    f = np.sign(x) * np.log1p((CODES - 1) * np.abs(x)) / np.log(CODES)
    return np.floor((f + 1) / 2 * (CODES - 1) + 0.5).astype(np.uint8)


@functools.cache
def _samples() -> Array:
    """The sample of each of the 256 codes."""
    f = np.arange(CODES) / (CODES - 1) * 2 - 1
    x = np.sign(f) * np.expm1(np.abs(f) * np.log(CODES)) / (CODES - 1)
    return np.clip(np.rint(x * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
