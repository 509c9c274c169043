"""Recordings: files to 16-bit samples of one channel and one rate, and how they are split where the source does not.

Files of 16 bits and one channel are read exactly. Any others are converted once: to the mean of their channels, to
another rate, to 16 bits.
"""

import re
from collections.abc import Mapping
from functools import partial
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .entries import Entry, UnreadableError, parts_of, readable
from .parts import Drawn, Found, Part, drawn
from .restore import Audio

if TYPE_CHECKING:
    from soundfile import SoundFile

__all__ = ["SUFFIXES", "Recording", "draw_recordings", "read_recording", "read_recordings"]

SUFFIXES = (".wav", ".flac", ".ogg")
FULL = 2**15  # a sample of 16 bits is from -FULL to FULL - 1
NEAR = 0.97  # of full scale: 8-bit and mu-law files do not reach it
ENDLESS = 2**32 - 1  # the length in a header that was written before it was known
FEWEST = 10  # recordings to draw splits from

Array = NDArray[Any]


class Recording(NamedTuple):
    """What a file holds.

    Args:
        x: (T,) int16 samples, at least one.
        rate: of them, samples a second.
        channels: of the file.
        own_rate: of the file.
        clipped: whether three samples in a row of a channel are its loudest, near full scale: the tops of a wave that
            was too loud are flat.
        exact: whether x are the samples of the file, unchanged.
    """

    x: Array
    rate: int
    channels: int
    own_rate: int
    clipped: bool
    exact: bool


def read_recording(path: Path, rate: int | None = None) -> Recording:
    """Read a recording.

    Args:
        path: of one of `SUFFIXES`.
        rate: that it is brought to, samples a second; its own where this is None.

    Raises:
        UnreadableError: the file is damaged, truncated, no recording, or holds no samples.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            x = file.read(dtype="int16" if file.subtype == "PCM_16" else "float64", always_2d=True)
            problem, own = _problem(file, x), file.samplerate
    except (soundfile.SoundFileError, OSError) as error:
        reason = " ".join(str(getattr(error, "error_string", error)).split()).rstrip(".")
        raise UnreadableError(f"{path} cannot be read as a recording ({reason})") from error
    if problem:
        raise UnreadableError(f"{path} cannot be read as a recording ({problem})")
    exact = x.shape[1] == 1 and _is_whole(x) and rate in (None, own)
    return Recording(_at_rate(_mono(x), own, rate or own), rate or own, x.shape[1], own, _is_clipped(x), exact)


def _problem(file: "SoundFile", x: Array) -> str | None:
    """Return why samples are not what the file should hold; libsndfile reads truncated files without an error."""
    told = file.extra_info
    length = re.search(r"^data : (\d+) \(should be (\d+)\)", told, re.MULTILINE)
    short = length is not None and int(length[2]) < int(length[1]) < ENDLESS
    if short or "without an End-Of-Stream" in told or len(x) < file.frames:
        return "it is truncated"
    if not len(x):
        return "it holds no samples"
    return None if np.isfinite(x).all() else "it holds values that are not finite"


def _mono(x: Array) -> Array:
    """Return samples (T, channels), int16 or floats in [-1, 1], as int16 (T,)."""
    if x.dtype == np.int16 and x.shape[1] == 1:
        return np.ascontiguousarray(x[:, 0])
    return _rounded(x.mean(axis=1, dtype=np.float64) * (1 if x.dtype == np.int16 else FULL))


def _is_whole(x: Array) -> bool:
    """Return whether samples, int16 or floats in [-1, 1], are those of 16 bits."""
    return x.dtype == np.int16 or bool((_rounded(x * FULL) == x * FULL).all())


def _rounded(x: Array) -> Array:
    return np.clip(np.rint(x), -FULL, FULL - 1).astype(np.int16)


def _at_rate(x: Array, own: int, rate: int) -> Array:
    if own == rate:
        return x
    from scipy.signal import resample_poly

    common = gcd(own, rate)
    return _rounded(resample_poly(x.astype(np.float64), rate // common, own // common))


def _is_clipped(x: Array) -> bool:
    """Return whether a channel of samples (T, channels), int16 or floats in [-1, 1], is clipped."""
    near = NEAR * (FULL if x.dtype == np.int16 else 1)
    top, bottom = x.max(0), x.min(0)
    full = ((x == top) & (top >= near)) | ((x == bottom) & (bottom <= -near))
    return bool((full[2:] & full[1:-1] & full[:-2]).any())


def read_recordings(entries: list[Entry], rate: int | None = None, skip_bad: bool = False) -> Found:
    """Read recordings: 65536 levels, whose parts hold the 16-bit samples as they are.

    Args:
        entries: the files.
        rate: that all are brought to; their own by default.
        skip_bad: goes on without those that cannot be read.

    Raises:
        ValueError: the files have different rates, and no `rate` is given.
        UnreadableError: damaged files, unless `skip_bad`.
    """
    found, notes = readable([e.path for e in entries], partial(read_recording, rate=rate), skip_bad, "recordings")
    common = _one_rate(found)
    x = _ragged([recording.x for recording in found.values()])
    parts, classes, about = parts_of([e for e in entries if e.path in found], x, "recordings")
    notes = [*notes, *_converted(found), *_doubtful(found), *about]
    return Found(parts, 2 * FULL, Audio(common, 2 * FULL, mu_law=False), classes, tuple(notes))


def _one_rate(found: Mapping[Path, Recording]) -> int:
    first, recording = next(iter(found.items()))
    for path, other in found.items():
        if other.rate != recording.rate:
            raise ValueError(
                f"recordings of mixed rates: {first} has {recording.rate} Hz, {path} has {other.rate} Hz; "
                "rate (--rate HZ) brings them all to one"
            )
    return recording.rate


def _ragged(arrays: list[Array]) -> Array:
    """Return arrays of different lengths as an array of arrays."""
    out = np.empty(len(arrays), dtype=object)
    for i, array in enumerate(arrays):
        out[i] = array
    return out


def _converted(found: Mapping[Path, Recording]) -> list[str]:
    several = sum(r.channels > 1 for r in found.values())
    resampled = [r for r in found.values() if r.own_rate != r.rate]
    notes = [f"{several} recordings of several channels made mono: the mean of the channels"] if several else []
    return notes + ([f"{len(resampled)} recordings resampled to {resampled[0].rate} Hz"] if resampled else [])


def _doubtful(found: Mapping[Path, Recording]) -> list[str]:
    clipped = [path for path, r in found.items() if r.clipped]
    silent = [path for path, r in found.items() if bool((r.x == r.x[0]).all())]
    notes = []
    if clipped:
        notes = [f"{len(clipped)} recordings are clipped (3 samples in a row at full scale), the first: {clipped[0]}"]
    if silent:
        notes += [f"{len(silent)} recordings are silent (all their samples are equal), the first: {silent[0]}"]
    return notes


def draw_recordings(train: Part, missing: list[str], seed: int) -> Drawn:
    """Draw the missing splits: a tenth of the recordings each, or, of fewer than ten, the last tenths of every one.

    What is cut off is a recording of its own: it begins without a past.

    Raises:
        ValueError: no recording has ten samples.
    """
    if len(train.x) >= FEWEST:
        return drawn(train, missing, seed, "recordings")
    tenths = [len(x) // 10 for x in train.x]
    if not any(tenths):
        raise ValueError(f"recordings of fewer than 10 samples: too few to cut the {' and '.join(missing)} split from")
    names = ["train", *missing]
    cuts = [
        np.split(x, [len(x) - tenth * k for k in range(len(missing), 0, -1)])
        for x, tenth in zip(train.x, tenths, strict=True)
    ]
    long = np.array([tenth > 0 for tenth in tenths])
    parts = {name: Part(_ragged([cut[i] for cut in cuts]), train.labels) for i, name in enumerate(names)}
    parts |= {name: parts[name].take(long.nonzero()[0]) for name in missing}
    where = "the last tenth" if len(missing) == 1 else "the last tenths"
    note = (
        f"no {' and '.join(missing)} split in the source, and fewer than {FEWEST} recordings: {where} of each cut off"
    )
    return parts, [note]
