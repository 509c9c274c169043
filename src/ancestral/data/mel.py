"""Log-mel features of a recording: how loud each of 80 bands is around every 256 samples.

The bands are triangles, evenly spaced on the scale m = 2595 log10(1 + f / 700), from 0 Hz to half the rate.
"""

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BANDS", "HOP", "Mel", "log_mel"]

BANDS, HOP, WINDOW = 80, 256, 1024
FLOOR = 1e-10  # of the power of a band, -100 dB, where a sine at full scale has 1
CHUNK = 1024  # frames: the spectra of a whole recording need not be in memory at once

Array = NDArray[Any]


class Mel:
    """The log-mel spectrogram of a recording.

    Attributes:
        words: what it is, in a sentence.
        factor: samples of a frame.
    """

    words = "its log-mel spectrogram"
    factor = HOP

    def channels(self, colours: int) -> int:
        """Return how many bands it has, of a recording of any channels."""
        return BANDS

    def __call__(self, samples: Array, rate: int) -> Tensor:
        """Return the features (80, ceil(T / 256)) of int16 samples (T,), see `log_mel`."""
        return log_mel(samples, rate)


def log_mel(samples: Array, rate: int) -> Tensor:
    """Return the log-mel features of one recording.

    Frame k is of the samples from 256 k on, 256 of them: a Hann window of 1024 samples is centred on them. Beyond the
    ends of the recording there is silence. From -100 dB to 0 dB, a sine at full scale, values go from -1 to about 1.

    Args:
        samples: (T,) int16.
        rate: samples a second.

    Returns:
        (80, ceil(T / 256)) float32.

    >>> log_mel(np.zeros(300, np.int16), 8000).shape
    torch.Size([80, 2])
    """
    frames = -(-len(samples) // HOP)
    margin = (WINDOW - HOP) // 2
    x = np.pad(samples / 2**15, (margin, margin + frames * HOP - len(samples)))
    windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    out = np.empty((BANDS, frames), np.float32)
    for first in range(0, frames, CHUNK):
        spectra = np.fft.rfft(windows[first : first + CHUNK] * hann) * (2 / hann.sum())
        power = _filters(rate) @ (np.abs(spectra) ** 2).T
        out[:, first : first + CHUNK] = np.log10(np.maximum(power, FLOOR)) / 5 + 1
    return torch.from_numpy(out)


@functools.cache
def _filters(rate: int) -> Array:
    """Return the weight of each frequency in each band, (80, 513).

    A triangle reaches to its neighbours' centres, or to the next frequency where that is farther: none is empty.
    """
    hertz = np.arange(WINDOW // 2 + 1) * (rate / WINDOW)
    points = 700 * (10 ** (np.linspace(0, np.log10(1 + rate / 1400), BANDS + 2)) - 1)
    left, centre, right = (points[i : i + BANDS, None] for i in range(3))
    rising = 1 - (centre - hertz) / np.maximum(centre - left, hertz[1])
    falling = 1 - (hertz - centre) / np.maximum(right - centre, hertz[1])
    return np.clip(np.minimum(rising, falling), 0, None)
