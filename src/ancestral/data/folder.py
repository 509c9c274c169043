"""A folder of pictures: sub-folders named train, valid and test are splits, any others are classes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .parts import Found, Part, compact, restoring
from .pictures import SUFFIXES, Picture, Size, UnreadableError, read_picture

__all__ = ["read_folder", "read_pictures"]

SPLIT_FOLDERS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}


class Entry(NamedTuple):
    """A picture file and what the names of the folders above it say."""

    path: Path
    split: str | None
    label: str | None


def read_folder(root: Path, size: Size | None = None, skip_bad: bool = False) -> Found:
    """Read all pictures under a folder.

    The folders may be `root/class/`, `root/split/`, `root/split/class/`, or none; classes are numbered in the order of
    their names (of their numbers where all names are numbers). If any picture has colour, all become RGB.

    Raises:
        ValueError: no pictures, or pictures that do not go together.
        UnreadableError: damaged pictures, unless `skip_bad`.
    """
    entries = _entries(root)
    pictures, notes = _readable([e.path for e in entries], size, skip_bad)
    entries = [e for e in entries if e.path in pictures]
    x, levels, more = _together(pictures)
    classes = _classes(entries)
    one = classes is not None and len(classes) == 1
    if classes is None or one:
        labels = None
        more += [f"all pictures are in one class folder, {classes[0]!r}: taken as unlabelled"] if classes else []
    else:
        labels = np.array([classes.index(str(e.label)) for e in entries])
    parts = {}
    for split in dict.fromkeys(e.split or "train" for e in entries):
        index = np.array([i for i, e in enumerate(entries) if (e.split or "train") == split])
        parts[split] = Part(x, labels).take(index)
    return Found(parts, levels, restoring(x.shape[1:], levels), None if one else classes, (*notes, *more))


def read_pictures(paths: Sequence[Path], size: Size | None = None) -> tuple[NDArray[Any], int]:
    """Read picture files that go together; levels (N, C, H, W) and K.

    Raises:
        ValueError: they do not go together.
        UnreadableError: one is damaged.
    """
    pictures, _ = _readable(paths, size, skip_bad=False)
    x, levels, _ = _together(pictures)
    return x, levels


def _entries(root: Path) -> list[Entry]:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not _hidden(path.relative_to(root)))
    entries = [_entry(path, path.relative_to(root).parts[:-1]) for path in files if path.suffix.lower() in SUFFIXES]
    if not entries:
        rest = f"it holds other files ({len(files)}), such as {files[0].name}" if files else "it is empty"
        raise ValueError(f"no pictures in the folder {root}: {rest}; pictures are {', '.join(SUFFIXES)}")
    _same([e for e in entries if not e.split], [e for e in entries if e.split], "the folders train, valid and test")
    _same([e for e in entries if not e.label], [e for e in entries if e.label], "the class folders")
    return entries


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in relative.parts)


def _entry(path: Path, folders: tuple[str, ...]) -> Entry:
    split = SPLIT_FOLDERS.get(folders[0].lower()) if folders else None
    classes = folders[1:] if split else folders
    return Entry(path, split, classes[0] if classes else None)


def _same(outside: list[Entry], inside: list[Entry], folders: str) -> None:
    if outside and inside:
        raise ValueError(f"{outside[0].path} lies beside {folders}, {inside[0].path} in them: move one or the other")


def _classes(entries: list[Entry]) -> tuple[str, ...] | None:
    names = {e.label for e in entries if e.label is not None}
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name))) or None


def _readable(paths: Sequence[Path], size: Size | None, skip_bad: bool) -> tuple[dict[Path, Picture], list[str]]:
    """Read what can be read; the rest is an error, or a note where it may be skipped."""
    with ThreadPoolExecutor() as pool:
        results = dict(zip(paths, pool.map(partial(_attempt, size=size), paths), strict=True))
    bad = [result for result in results.values() if isinstance(result, UnreadableError)]
    pictures = {path: result for path, result in results.items() if isinstance(result, Picture)}
    if bad and (not skip_bad or not pictures):
        others = f", nor can {len(bad) - 1} more" if len(bad) > 1 else ""
        fix = "repair or remove them" if not pictures else "remove them, or go on without them: skip_bad (--skip-bad)"
        raise UnreadableError(f"{bad[0]}{others}: {fix}")
    return pictures, [f"{len(bad)} pictures that cannot be read are left out, the first: {bad[0]}"] if bad else []


def _attempt(path: Path, size: Size | None) -> Picture | UnreadableError:
    try:
        return read_picture(path, size)
    except UnreadableError as error:
        return error


def _together(pictures: dict[Path, Picture]) -> tuple[NDArray[Any], int, list[str]]:
    """Return all pictures as one array (N, C, H, W), K, and notes on what was converted."""
    _one_size(pictures)
    values = list(pictures.values())
    levels = _one_depth(pictures)
    colour = max(len(p.x) for p in values)
    grey = sum(len(p.x) < colour for p in values)
    binary = sum(p.levels < levels for p in values)
    x = np.empty((len(values), colour, *values[0].x.shape[1:]), compact(np.zeros(0), levels).dtype)
    for i, picture in enumerate(values):
        x[i] = picture.x if picture.levels == levels else picture.x * (levels - 1)
    notes = [f"{grey} grey pictures converted to RGB"] if grey else []
    notes += [f"{binary} 1-bit pictures converted to {levels} levels"] if binary else []
    notes += [_black_and_white(levels)] if levels > 2 and bool(np.isin(x, (0, levels - 1)).all()) else []
    return x, levels, notes


def _black_and_white(levels: int) -> str:
    return f"all values are 0 or {levels - 1}: binarize threshold (--binarize threshold) makes 2 levels of them"


def _one_size(pictures: dict[Path, Picture]) -> None:
    first = next(iter(pictures))
    h, w = pictures[first].x.shape[1:]
    for path, picture in pictures.items():
        if picture.x.shape[1:] != (h, w):
            height, width = picture.x.shape[1:]
            raise ValueError(
                f"pictures of mixed sizes: {first} is {w}x{h}, {path} is {width}x{height}; "
                "size (--size N) brings them all to one"
            )


def _one_depth(pictures: dict[Path, Picture]) -> int:
    by_levels = {picture.levels: path for path, picture in pictures.items()}
    if 65536 in by_levels and len(by_levels) > 1:
        other = by_levels[min(by_levels)]
        raise ValueError(f"pictures of mixed depth: {by_levels[65536]} has 16 bits, {other} has not; convert one")
    return max(by_levels)
