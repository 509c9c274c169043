"""The files of a folder, pictures or recordings: sub-folders train, valid and test are splits, any others classes."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .parts import Part

__all__ = ["Entry", "UnreadableError", "entries_of", "parts_of", "readable"]

SPLIT_FOLDERS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}

Content = TypeVar("Content")


class UnreadableError(OSError):
    """A file is damaged, truncated, or not at all of the kind that its name says."""


class Entry(NamedTuple):
    """A file and what the names of the folders above it say."""

    path: Path
    split: str | None = None
    label: str | None = None


def entries_of(root: Path, kinds: Mapping[str, Sequence[str]]) -> tuple[str, list[Entry]]:
    """Return the kind of the files under a folder, and the files themselves.

    The folders may be `root/class/`, `root/split/`, `root/split/class/`, or none.

    Args:
        root: the folder.
        kinds: what files of some suffixes are called, in the plural. Files of other suffixes are left out.

    Raises:
        ValueError: there are none, or of two kinds, or some lie beside the folders that others are in.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file() and not _hidden(path.relative_to(root)))
    found = {noun: [f for f in files if f.suffix.lower() in suffixes] for noun, suffixes in kinds.items()}
    found = {noun: paths for noun, paths in found.items() if paths}
    if not found:
        rest = f"it holds other files ({len(files)}), such as {files[0].name}" if files else "it is empty"
        are = "; ".join(f"{noun} are {', '.join(suffixes)}" for noun, suffixes in kinds.items())
        raise ValueError(f"no {' or '.join(kinds)} in the folder {root}: {rest}; {are}")
    if len(found) > 1:
        such = " and ".join(f"{noun} ({len(paths)}, such as {paths[0].name})" for noun, paths in found.items())
        raise ValueError(f"the folder {root} holds {such}: give a folder of one kind")
    ((noun, paths),) = found.items()
    entries = [_entry(path, path.relative_to(root).parts[:-1]) for path in paths]
    _same([e for e in entries if not e.split], [e for e in entries if e.split], "the folders train, valid and test")
    _same([e for e in entries if not e.label], [e for e in entries if e.label], "the class folders")
    return noun, entries


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in relative.parts)


def _entry(path: Path, folders: tuple[str, ...]) -> Entry:
    split = SPLIT_FOLDERS.get(folders[0].lower()) if folders else None
    classes = folders[1:] if split else folders
    return Entry(path, split, classes[0] if classes else None)


def _same(outside: list[Entry], inside: list[Entry], folders: str) -> None:
    if outside and inside:
        raise ValueError(f"{outside[0].path} lies beside {folders}, {inside[0].path} in them: move one or the other")


def readable(
    paths: Sequence[Path], read: Callable[[Path], Content], skip_bad: bool, noun: str
) -> tuple[dict[Path, Content], list[str]]:
    """Read what can be read; the rest is an error, or a note where it may be skipped.

    Raises:
        UnreadableError: there are damaged files that may not be skipped, or nothing else.
    """

    def attempt(path: Path) -> Content | UnreadableError:
        try:
            return read(path)
        except UnreadableError as error:
            return error

    with ThreadPoolExecutor() as pool:
        results = dict(zip(paths, pool.map(attempt, paths), strict=True))
    bad = [result for result in results.values() if isinstance(result, UnreadableError)]
    good = {path: result for path, result in results.items() if not isinstance(result, UnreadableError)}
    if bad and (not skip_bad or not good):
        others = f", nor can {len(bad) - 1} more" if len(bad) > 1 else ""
        fix = "repair or remove them" if not good else "remove them, or go on without them: skip_bad (--skip-bad)"
        raise UnreadableError(f"{bad[0]}{others}: {fix}")
    return good, [f"{len(bad)} {noun} that cannot be read are left out, the first: {bad[0]}"] if bad else []


def parts_of(
    entries: list[Entry], x: NDArray[Any], noun: str
) -> tuple[dict[str, Part], tuple[str, ...] | None, list[str]]:
    """Return what files hold, one example each, by split, the names of their classes, and notes.

    Classes are numbered in the order of their names, of their numbers where all names are numbers. One is no label.
    """
    classes = _classes(entries)
    notes = []
    if classes is not None and len(classes) == 1:
        notes = [f"all {noun} are in one class folder, {classes[0]!r}: taken as unlabelled"]
        classes = None
    labels = None if classes is None else np.array([classes.index(str(e.label)) for e in entries])
    files = np.array([str(e.path) for e in entries], dtype=object)
    parts = {}
    for split in dict.fromkeys(e.split or "train" for e in entries):
        index = np.array([i for i, e in enumerate(entries) if (e.split or "train") == split])
        parts[split] = Part(x, labels, files).take(index)
    return parts, classes, notes


def _classes(entries: list[Entry]) -> tuple[str, ...] | None:
    names = {e.label for e in entries if e.label is not None}
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name))) or None
