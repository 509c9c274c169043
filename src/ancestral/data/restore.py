"""From levels back to what a user opens: pictures, sound, tables in their units, arrays.

These are values with plain fields, so that a run folder records them and can restore samples without the data.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ancestral.files import numbered, replacing

from .dequantize import quantized
from .mulaw import from_mu_law, to_mu_law

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Arrays", "Audio", "Layout", "Pictures", "Restore", "Table", "grid", "rebuild", "record"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Pictures:
    """Grey or RGB pictures.

    Args:
        levels: K. Up to 256 levels become 8-bit pictures, more become 16-bit ones where they are grey; 16-bit RGB
            pictures do not exist in Pillow, so those are shown in 8 bits (`save` to .npz keeps every level).
        dequantized: whether values are of dequantized data: floats, of which pictures show the levels below the noise.
    """

    levels: int
    dequantized: bool = False

    def __call__(self, x: Tensor) -> "list[Image.Image]":
        """Return the pictures of levels `x`, (N, 1 or 3, H, W) of any dtype."""
        from PIL import Image

        x = quantized(x, self.levels) if self.dequantized else x

        deep = self.levels > 256 and x.shape[1] == 1
        white, kind = (65535, np.uint16) if deep else (255, np.uint8)
        shades = np.rint(_levels(x, self.levels) * (white / (self.levels - 1))).astype(kind)
        return [Image.fromarray(p[0] if len(p) == 1 else np.ascontiguousarray(p.transpose(1, 2, 0))) for p in shades]

    def save(self, x: Tensor, path: str | Path) -> None:
        """Write one picture as it is, several as an enlarged grid (.png), or the values themselves (.npz, .npy)."""
        values = _numpy if self.dequantized else partial(_stored, levels=self.levels)
        _save(path, {".png": lambda: _png(self(x))} | _arrays(lambda: values(x)))


@dataclass(frozen=True)
class Audio:
    """Recordings of 16 bits: their samples, from -32768 on, are the levels, or the top bits are, or their mu-law codes.

    Args:
        rate: samples a second.
        levels: K: 256 codes, or the 2^b of linear levels of b bits.
        mu_law: whether levels are codes of the mu-law.
    """

    rate: int
    levels: int
    mu_law: bool

    def encode(self, samples: Array) -> Array:
        """Return the levels of int16 samples, of the same shape, in the smallest integers that hold them."""
        if self.mu_law:
            return to_mu_law(samples)
        kind = np.uint8 if self.levels <= 2**8 else np.int16 if self.levels <= 2**15 else np.int32
        return ((samples.astype(np.int32) + 2**15) // (2**16 // self.levels)).astype(kind)

    def __call__(self, x: Tensor) -> Array:
        """Return int16 samples of levels `x`, (N, C, T), of the same shape; of top bits the middle of the cell."""
        levels = _levels(x, self.levels).astype(np.int32)
        if self.mu_law:
            return from_mu_law(levels)
        step = 2**16 // self.levels
        return (levels * step + (step // 2 - 2**15)).astype(np.int16)

    def save(self, x: Tensor, path: str | Path) -> None:
        """Write one recording (.wav, .flac), several as files NAME-1.wav and so on, or the levels (.npz, .npy)."""
        path, samples = Path(path), self(x)
        arrays = _arrays(lambda: _stored(x, self.levels))
        if len(x) == 1 or path.suffix.lower() in arrays:
            return _save(path, self._sounds(samples[0]) | arrays)
        for own, one in zip(numbered(path, len(x)), samples, strict=True):
            _save(own, self._sounds(one) | arrays)

    def wav(self, x: Tensor) -> bytes:
        """Return the content of a WAV file of one recording x, (C, T)."""
        return _sound(self(x[None])[0], self.rate, "wav")

    def _sounds(self, samples: Array) -> dict[str, Callable[[], bytes]]:
        return {f".{kind}": partial(_sound, samples, self.rate, kind) for kind in ("wav", "flac")}


@dataclass(frozen=True)
class Layout:
    """How the rows of a `.csv` are written.

    Args:
        delimiter: between cells.
        header: whether the names of the columns come first.
        end: of a line.
        closed: whether the last line has an end too.
    """

    delimiter: str = ","
    header: bool = True
    end: str = "\n"
    closed: bool = True


@dataclass(frozen=True)
class Table:
    """Rows of a table, in its own units.

    Args:
        columns: their names.
        mean: what was subtracted from each column of a continuous table.
        std: what each was then divided by.
        values: of a categorical table, for each column, the value that each level stands for.
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    values: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        for name in ("columns", "mean", "std"):  # lists where they come from JSON
            field = getattr(self, name)
            object.__setattr__(self, name, None if field is None else tuple(field))
        if self.values is not None:
            object.__setattr__(self, "values", tuple(tuple(column) for column in self.values))

    def __call__(self, x: Tensor) -> Array:
        """Return the rows of `x`, (N, D), as (N, D) float64; a level that a column never had becomes NaN."""
        rows: Array = _numpy(x).astype(np.float64)
        if self.values is not None:
            return np.stack([_looked_up(c, v) for c, v in zip(rows.T, self.values, strict=True)], axis=1)
        if self.mean is not None and self.std is not None:
            rows = rows * np.array(self.std) + np.array(self.mean)
        return rows

    def save(self, x: Tensor, path: str | Path) -> None:
        """Write the rows with a header (.csv), or as an array (.npz, .npy)."""
        _save(path, {".csv": lambda: self.csv(x)} | _arrays(lambda: self(x)))

    def csv(self, x: Tensor, layout: Layout = Layout()) -> bytes:
        """Return the rows as the content of a `.csv`."""
        text = io.StringIO()
        out = csv.writer(text, delimiter=layout.delimiter, lineterminator=layout.end)
        if layout.header:
            out.writerow(self.columns)
        out.writerows([[_cell(v) for v in row] for row in self(x).tolist()])
        return (text.getvalue() if layout.closed else text.getvalue().removesuffix(layout.end)).encode()


@dataclass(frozen=True)
class Arrays:
    """Anything else: sequences, vectors, pictures of other than one or three channels, continuous values.

    Args:
        levels: K, or None for continuous data.
    """

    levels: int | None = None

    def __call__(self, x: Tensor) -> Array:
        """Return `x` as an array of the smallest integers that hold the levels, or of float32."""
        return _numpy(x).astype(np.float32) if self.levels is None else _stored(x, self.levels)

    def save(self, x: Tensor, path: str | Path) -> None:
        """Write the array (.npz, .npy)."""
        _save(path, _arrays(lambda: self(x)))


Restore = Pictures | Audio | Table | Arrays

RESTORES: dict[str, type[Restore]] = {"Pictures": Pictures, "Audio": Audio, "Table": Table, "Arrays": Arrays}


def record(restore: Restore) -> dict[str, Any]:
    """Return a restore value as JSON.

    >>> record(Pictures(levels=17))
    {'class': 'Pictures', 'arguments': {'levels': 17, 'dequantized': False}}
    """
    return {"class": type(restore).__name__, "arguments": asdict(restore)}


def rebuild(recorded: Any) -> Restore:
    """Return the value that `record` wrote down.

    Raises:
        ValueError: the record names no restore value of this library, or arguments that it does not take.
    """
    name, arguments = (recorded.get("class"), recorded.get("arguments")) if isinstance(recorded, dict) else (None, None)
    if not isinstance(name, str) or name not in RESTORES:
        raise ValueError(f"restore class {name!r} is unknown: there are {', '.join(RESTORES)}")
    try:
        return RESTORES[name](**arguments)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(f"restore class {name} does not take the recorded arguments: {error}") from error


def grid(images: "Sequence[Image.Image]", columns: int | None = None, scale: int = 1) -> "Image.Image":
    """Return pictures of one size and mode side by side, row by row, with a white line of one pixel between them.

    Args:
        images: at least one.
        columns: how many in a row; as many as make it square by default.
        scale: by how much each is enlarged, pixel by pixel.
    """
    from PIL import Image

    columns = columns or int(np.ceil(np.sqrt(len(images))))
    tiles = np.stack([np.asarray(image) for image in images]).repeat(scale, axis=1).repeat(scale, axis=2)
    n, h, w = tiles.shape[:3]
    rows = -(-n // columns)
    white = np.iinfo(tiles.dtype).max
    out = np.full((rows * (h + 1) - 1, columns * (w + 1) - 1, *tiles.shape[3:]), white, tiles.dtype)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (h + 1), i % columns * (w + 1)
        out[top : top + h, left : left + w] = tile
    return Image.fromarray(out)


def _png(images: "list[Image.Image]") -> bytes:
    largest = max(images[0].size)
    picture = images[0] if len(images) == 1 else grid(images, scale=max(1, 64 // largest))
    content = io.BytesIO()
    picture.save(content, "png")
    return content.getvalue()


def _sound(samples: Array, rate: int, kind: str) -> bytes:
    """Return int16 samples (C, T) as a file."""
    import soundfile

    content = io.BytesIO()
    soundfile.write(content, samples.T, rate, format=kind, subtype="PCM_16")
    return content.getvalue()


def _arrays(array: Callable[[], Array]) -> dict[str, Callable[[], bytes]]:
    return {".npz": lambda: _npz(array()), ".npy": lambda: _npy(array())}


def _npz(array: Array) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, x=array)
    return content.getvalue()


def _npy(array: Array) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _save(path: str | Path, writers: dict[str, Callable[[], bytes]]) -> None:
    """Write what the extension of `path` asks for, whole or not at all."""
    path = Path(path)
    if path.suffix.lower() not in writers:
        raise ValueError(f"cannot write {path}: of this data {', '.join(writers)} can be written")
    content = writers[path.suffix.lower()]()
    with replacing(path) as part:
        part.write_bytes(content)


def _numpy(x: Tensor) -> Array:
    array: Array = x.detach().cpu().float().numpy() if x.is_floating_point() else x.detach().cpu().numpy()
    return array


def _levels(x: Tensor, levels: int) -> Array:
    return np.clip(np.rint(_numpy(x), dtype=np.float64), 0, levels - 1)


def _stored(x: Tensor, levels: int) -> Array:
    kind = np.uint8 if levels <= 2**8 else np.uint16 if levels <= 2**16 else np.int32
    return _levels(x, levels).astype(kind)


def _cell(value: float) -> str:
    """Return a number of a table: an integer with all its digits."""
    if np.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else f"{value:.9g}"


def _looked_up(codes: Array, values: tuple[float, ...]) -> Array:
    known = np.append(np.array(values, dtype=np.float64), np.nan)
    return known[np.clip(np.rint(codes), 0, len(values)).astype(np.int64)]
