"""`.npy` and `.npz` files: arrays train, valid, test and their labels, or one array of everything."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import SPLITS
from .parts import MOST_LEVELS, Found, Part, compact, restoring

__all__ = ["read_arrays", "read_named"]

Array = NDArray[Any]

SHAPES = "(N, C, H, W), (N, H, W), (N, C, T) or (N, D)"


def read_arrays(path: Path) -> Found:
    """Read arrays of integer levels, or of floats.

    Floats that all hold integers from 0 on are levels too. K is 2 where the largest value is 1, 256 for other uint8
    arrays, and the largest value + 1 otherwise. Of the shape (N, a, b), a at most 8 and b at least 16 a make sequences
    (N, C, T); anything else is grey pictures (N, H, W).

    Raises:
        ValueError: what the arrays hold does not fit; it names the array, and the place in it.
    """
    arrays, labels = _named(read_named(path), path)
    for name, x in arrays.items():
        _checked(x, name)
    if len({x.shape[1:] for x in arrays.values()}) > 1:
        raise ValueError(f"examples of different shapes: {', '.join(f'{n} has {x.shape}' for n, x in arrays.items())}")
    notes: list[str] = []
    arrays = {name: _channelled(x, notes) for name, x in arrays.items()}
    levels = _levels(arrays, notes)
    classes = _classes(arrays, labels)
    parts = {name: Part(_stored(x, levels), labels.get(name)) for name, x in arrays.items()}
    shape = next(iter(arrays.values())).shape[1:]
    return Found(parts, levels, restoring(shape, levels), classes, tuple(dict.fromkeys(notes)))


def read_named(path: Path) -> dict[str, Array]:
    """Return all arrays of a file by their names, that of an `.npy` as "train"; never unpickles.

    Raises:
        ValueError: the file is damaged, or holds Python objects.
    """
    name = path.name
    try:
        with open(path, "rb") as file:
            opened: Any = np.load(file, allow_pickle=False)
            if isinstance(opened, np.ndarray):
                return {"train": opened}
            out: dict[str, Array] = {}
            for name in opened.files:  # read one by one: the error should name the array
                out[name] = opened[name]
            return out
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        if "Object arrays" in str(error):
            raise ValueError(f"{path}: {name} holds Python objects: save it as an array of numbers") from error
        raise ValueError(f"{path} is damaged or no NumPy file ({name} cannot be read): write it anew") from error


def _named(found: dict[str, Array], path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the arrays by split and their labels by split; one array of any name is all the data."""
    labels = {name.removesuffix("_label"): x for name, x in found.items() if name.endswith("_label")}
    arrays = {name: x for name, x in found.items() if not name.endswith("_label")}
    given = {name: arrays[name] for name in SPLITS if name in arrays}
    if not given and len(arrays) == 1:
        (only,) = arrays
        given, labels = {"train": arrays[only]}, {"train": labels[only]} if only in labels else {}
    if not given:
        raise ValueError(f"{path} holds {', '.join(found) or 'nothing'}: name them train, valid, test (or give one)")
    return given, {name: x for name, x in labels.items() if name in given}


def _checked(x: Array, name: str) -> None:
    """Raise the error that says what would do, if an array is no data."""
    if x.dtype.kind not in "biuf":
        raise ValueError(f"array {name!r} has dtype {x.dtype}: integers or floats are needed")
    if not 2 <= x.ndim <= 4 or 0 in x.shape:
        raise ValueError(f"array {name!r} has shape {x.shape}: it takes {SHAPES}, none of them 0")
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        raise ValueError(f"array {name!r} of shape {x.shape} looks like (N, H, W, C): x.transpose(0, 3, 1, 2) would do")
    if x.dtype.kind == "i" and x.min() < 0:
        raise ValueError(f"array {name!r} has negative integers down to {x.min()}: add {-int(x.min())}, or save floats")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row, *at = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
        column = at[0] if len(at) == 1 else tuple(at)
        raise ValueError(f"array {name!r} holds {x[row, *at]} in row {row}, column {column} (from 0): remove it")


def _channelled(x: Array, notes: list[str]) -> Array:
    """Give pictures (N, H, W) their channel."""
    if x.ndim != 3:
        return x
    if x.shape[1] <= 8 and x.shape[2] >= 16 * x.shape[1]:
        notes.append(f"shape (N, {x.shape[1]}, {x.shape[2]}) taken as sequences (N, C, T)")
        return x
    notes.append(f"shape (N, {x.shape[1]}, {x.shape[2]}) taken as grey pictures (N, H, W)")
    return x[:, None]


def _levels(arrays: dict[str, Array], notes: list[str]) -> int | None:
    """Return K, or None where some value is no integer from 0 on."""
    kinds = {x.dtype.kind for x in arrays.values()}
    largest = max(x.max() for x in arrays.values())
    if "f" in kinds and not all(_whole(x) for x in arrays.values()):
        notes.append("values that are not integers from 0 on: taken as continuous data")
        return None
    if largest <= 1:
        return 2
    if all(x.dtype == np.uint8 for x in arrays.values()):
        return 256
    if largest >= MOST_LEVELS:
        raise ValueError(f"integers up to {largest}: at most {MOST_LEVELS} levels (16 bits) are possible, rescale them")
    notes.append(f"{int(largest) + 1} levels: the largest value is {int(largest)}")
    return int(largest) + 1


def _whole(x: Array) -> bool:
    return x.dtype.kind != "f" or bool(x.min() >= 0 and x.max() < MOST_LEVELS and (x == np.rint(x)).all())


def _stored(x: Array, levels: int | None) -> Array:
    return x.astype(np.float32) if levels is None else compact(x, levels)


def _classes(arrays: dict[str, Array], labels: dict[str, Array]) -> tuple[str, ...] | None:
    if not labels:
        return None
    for name, x in arrays.items():
        if name not in labels:
            raise ValueError(f"there is {next(iter(labels))}_label but no {name}_label: give both, or neither")
        y = labels[name]
        if y.shape != x.shape[:1] or y.dtype.kind not in "biu":
            raise ValueError(f"array '{name}_label' is {y.dtype} {y.shape}: integers of shape {x.shape[:1]} are needed")
        if y.dtype.kind == "i" and y.min() < 0:
            raise ValueError(f"array '{name}_label' has a negative label, {y.min()}: number the classes from 0")
    return tuple(str(label) for label in range(max(int(y.max()) for y in labels.values()) + 1))
