"""`load`: from what a user names to a `Data`, by way of one reader for each kind of source."""

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import audio, pictures
from .arrays import read_arrays
from .audio import read_recordings
from .binarize import BINARIZE, Binarize
from .builtin import digits, photos
from .dataset import Data, Split, noise
from .entries import Entry, entries_of
from .folder import read_folder
from .given import GIVEN, Given
from .mel import Mel
from .parts import Found, Part, restoring, with_bits, with_splits
from .pictures import Size, resized
from .restore import Arrays, Audio, Pictures, Table
from .table import read_table
from .windows import checked_count, of_recordings

__all__ = ["BUILT_IN", "SOURCES", "load"]

SOURCES: tuple[tuple[str, str], ...] = (
    ("digits", "1797 scanned digits of scikit-learn, 8x8, 17 levels, labels (1258 train, 179 valid, 360 test)"),
    ("photos", "RGB patches of scikit-learn's two photographs, 32x32 or --size, from disjoint regions"),
    (
        "FOLDER",
        "pictures (.png .jpg .bmp .webp .tif .gif .pgm .ppm), or one; sub-folders: train, valid, test or classes",
    ),
    ("FOLDER, FILE.wav", "recordings (.wav .flac .ogg), one or in such folders; as mu-law codes, or --linear"),
    ("FILE.npz", "arrays train, valid, test and *_label, or one array: (N, C, H, W), (N, H, W), (N, C, T) or (N, D)"),
    ("FILE.npy", "one array of such a shape"),
    ("FILE.csv", "a table of numbers: all binary, all categories (integers), or continuous, which is standardised"),
)

KINDS = {"pictures": pictures.SUFFIXES, "recordings": audio.SUFFIXES}  # of files of a folder

SLOWEST, FASTEST = 100, 768_000  # samples a second

BUILT_IN: dict[str, Callable[[Size | None], Found]] = {
    "digits": lambda size: resized(digits(), size),
    "photos": lambda size: photos(size or 32),
}


def load(
    source: str | Path,
    *,
    size: Size | None = None,
    bits: int | None = None,
    binarize: Binarize | None = None,
    dequantize: bool = False,
    mutate: float | None = None,
    rate: int | None = None,
    linear: bool = False,
    window: int | None = None,
    skip_bad: bool = False,
    given: Given | None = None,
    whole: bool = False,
    seed: int = 0,
) -> Data:
    """Read a source into three splits.

    Recordings become windows of so many new samples, see `Recordings`, of 256 mu-law codes; whole recordings are drawn
    for the splits that have to be made, or, of fewer than ten, their last tenths.

    Args:
        source: "digits", "photos", a folder of pictures or of recordings, or a file: .npy, .npz, .csv, a recording,
            a picture (to be evaluated on, by `whole`). A folder of a built-in name is read when it is written as a
            path ("./digits").
        size: of pictures: the short side is brought to `size` and the middle is kept; or (H, W), covered in the same
            way. Every pixel is the mean of the area that it covers.
        bits: keeps the top bits of 8- or 16-bit levels; of recordings, with `linear`.
        binarize: a value of `BINARIZE`.
        dequantize: makes levels continuous, by uniform noise, in [-1, 1).
        mutate: of levels, the share that every batch has replaced by uniform ones, for a background model: see
            `ancestral.anomaly`.
        rate: of recordings: samples a second that they are brought to, their own by default.
        linear: of recordings: their 16-bit samples are the levels, not mu-law codes.
        window: of recordings: samples of an example, 4096 by default, rounded up to whole frames of what is `given`.
        skip_bad: goes on without pictures or recordings that cannot be read.
        given: a value of `GIVEN`: what a model is given of each picture or recording, instead of its label.
        whole: makes a source without splits (but for a table) all test part, instead of drawing the splits from it.
        seed: of the splits that have to be made, of binarization and of the noise.

    Raises:
        ValueError: the source is unknown, or what it holds does not fit; one line that says what would do.
        OSError: it cannot be read.

    >>> data = load("digits")
    >>> data.shape, data.levels, [len(part) for part in data.splits.values()]
    ((1, 8, 8), 17, [1258, 179, 360])
    """
    if seed < 0:
        raise ValueError(f"seed={seed}: give 0 or more")
    _checked_size(size)
    for_levels = [option is not None for option in (size, bits, binarize)]
    if Path(source).suffix.lower() == ".csv" and any([*for_levels, dequantize]):
        raise ValueError(f"{source} is a table: size, bits, binarize, dequantize are for pictures: leave them out")
    checked_count("rate", rate)
    checked_count("window", window)
    if rate is not None and not SLOWEST <= rate <= FASTEST:
        raise ValueError(f"rate={rate}: give samples a second, from {SLOWEST} to {FASTEST}")
    found = _read(source, size, skip_bad, seed, rate)
    _checked_mutate(mutate, found, dequantize, given)
    if whole and list(found.parts) == ["train"]:
        found = replace(found, parts={"test": found.parts["train"]})
    options = {
        "size": list(size) if isinstance(size, tuple) else size,
        "bits": bits,
        "binarize": _name(binarize),
        "skip_bad": skip_bad,
        "given": next((name for name, value in GIVEN.items() if type(value) is type(given)), None),
        **({"dequantize": True} if dequantize else {}),  # without these a run is recorded as ever
        **({} if mutate is None else {"mutate": mutate}),
    }
    path = None if _is_built_in(source) else str(Path(source).resolve())
    if isinstance(found.restore, Audio):
        if size is not None or binarize is not None or dequantize:
            raise ValueError(f"{source} holds recordings: size, binarize, dequantize are for pictures: leave them out")
        options |= {"linear": linear, "window": window}
        return replace(of_recordings(str(source), found, options, given, seed), path=path)
    if linear or rate is not None or window is not None:
        raise ValueError(f"rate, linear, window are for recordings, {source} holds none: leave them out")
    data = _data(str(source), with_bits(with_splits(found, seed), bits), options, seed)
    data.path = path
    data = data if binarize is None else _binarized(data, binarize)
    if given is not None and dequantize:
        raise ValueError("given and dequantize (--given, --dequantize) do not go together: leave one out")
    data = data if mutate is None else _mutating(data, mutate)
    data = data if given is None else _giving(data, given)
    return _dequantized(data) if dequantize else data


def _giving(data: Data, given: Given) -> Data:
    """Return data with maps in place of labels, or raise ValueError where nothing of the kind can be made."""
    name = data.options["given"]
    what = f"examples of shape {data.shape}" if data.levels is not None else "continuous values"
    if isinstance(given, Mel):
        raise ValueError(f"given {name} is for recordings, got {what}: leave it out")
    if not isinstance(data.restore, Pictures):
        raise ValueError(f"given {name} is for grey or RGB pictures, got {what}: leave it out")
    given.channels(data.shape[0])
    return replace(data, given=given)


def _read(source: str | Path, size: Size | None, skip_bad: bool, seed: int, rate: int | None) -> Found:
    path = Path(source)
    if _is_built_in(source):
        return BUILT_IN[str(source)](size)
    if path.is_dir():
        noun, entries = entries_of(path, KINDS)
        if noun == "recordings":
            return read_recordings(entries, rate, skip_bad)
        return read_folder(entries, size, skip_bad)
    readers: dict[str, Callable[[], Found]] = {
        ".npy": lambda: resized(read_arrays(path), size),
        ".npz": lambda: resized(read_arrays(path), size),
        ".csv": lambda: read_table(path, seed),
        **{suffix: lambda: read_folder([Entry(path)], size) for suffix in pictures.SUFFIXES},
        **{suffix: lambda: read_recordings([Entry(path)], rate) for suffix in audio.SUFFIXES},
    }
    if path.is_file() and path.suffix.lower() in readers:
        return readers[path.suffix.lower()]()
    raise _unknown(str(source))


def _is_built_in(source: str | Path) -> bool:
    return str(source) in BUILT_IN and (isinstance(source, str) or not source.exists())


def _unknown(source: str) -> Exception:
    """Return the error for a source that nothing reads."""
    kinds = (
        "it can be digits, photos, a folder of pictures or recordings, or a .npy, .npz, .csv, .wav, .flac or .ogg file"
    )
    path = Path(source)
    if source.startswith("hf:") or path.suffix == ".parquet":
        return ValueError(f"data source {source!r}: hf: and .parquet are not read yet, convert it to .npz")
    if path.is_file():
        return ValueError(f"data source {source!r} is a file of a kind that is not read: {kinds}")
    if path.suffix or len(path.parts) > 1:
        return FileNotFoundError(f"no such file or folder: {source!r}; {kinds}")
    near = difflib.get_close_matches(source, BUILT_IN, n=1)
    return ValueError(f"unknown data source {source!r}{f' (did you mean {near[0]!r}?)' if near else ''}; {kinds}")


def _checked_size(size: Any) -> None:
    sides = size if isinstance(size, tuple) else (size,)
    if size is not None and (len(sides) > 2 or any(not isinstance(s, int) or s < 1 for s in sides)):
        raise ValueError(f"size={size!r}: give one positive integer, or two (height, width)")


def _checked_mutate(mutate: float | None, found: Found, dequantize: bool, given: Given | None) -> None:
    if mutate is None:
        return
    if not 0 < mutate <= 1:
        raise ValueError(f"mutate={mutate}: give the share of values that are replaced, above 0 and at most 1")
    if found.levels is None or isinstance(found.restore, Audio | Table):
        raise ValueError("mutate is for levels of pictures and arrays, got a table, recordings or floats: leave it out")
    if dequantize or given is not None:
        other = "dequantize (--dequantize)" if dequantize else "given (--given)"
        raise ValueError(f"mutate (--mutate) and {other} do not go together: leave one out")


def _mutating(data: Data, mutate: float) -> Data:
    note = f"{100 * mutate:g} % of the levels of every batch replaced by any others, as a background model wants it"
    return replace(data, mutate=mutate, notes=(*data.notes, note))


def _name(binarize: Binarize | None) -> str | None:
    return next((name for name, value in BINARIZE.items() if value == binarize), None)


def _data(name: str, found: Found, options: dict[str, Any], seed: int) -> Data:
    splits = {split: _split(part) for split, part in found.parts.items()}
    return Data(name, found.shape, found.levels, found.classes, splits, found.notes, found.restore, options, seed)


def _split(part: Part) -> Split:
    labels = None if part.labels is None else torch.as_tensor(part.labels, dtype=torch.int64)
    return Split(torch.as_tensor(part.x), labels, None if part.files is None else tuple(part.files))


def _dequantized(data: Data) -> Data:
    """Make levels continuous: the splits keep the levels, every batch adds the noise."""
    if data.levels is None:
        raise ValueError("dequantize adds noise to levels, got continuous data: leave it out")
    pictures = isinstance(data.restore, Pictures)
    restore = Pictures(data.levels, dequantized=True) if pictures else Arrays(None)
    return replace(data, levels=None, dequantized=data.levels, restore=restore)


def _binarized(data: Data, binarize: Binarize) -> Data:
    """Make the levels of every split 0 and 1, and keep the grey ones where each epoch draws anew."""
    if data.levels is None:
        raise ValueError("binarize makes 2 levels of more, got continuous data: leave it out")
    levels = data.levels

    def black_and_white(name: str, grey: Tensor) -> Tensor:
        return binarize(grey, levels, noise(data.seed, name, epoch=0))

    return replace(
        data,
        levels=2,
        restore=restoring(data.shape, 2),
        splits={name: replace(part, x=black_and_white(name, part.x)) for name, part in data.splits.items()},
        binarize=binarize,
        grey={name: (data.splits[name].x, levels) for name in binarize.anew},
    )
