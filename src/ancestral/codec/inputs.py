"""What is compressed: files and folders by name, each as levels of a model where nothing is lost, else as it is.

What is stored has a name whose first part says what it was: `8/a/b.png` a grey picture of 8 bits, `hz16000/c.wav` a
recording, `plain/notes.txt` a file as it is, `array/d.npz/y` an array as it is. Rows of tables and examples of arrays
have no names: the header says which files they make, in order.
"""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ancestral.codec.framing import CHUNK
from ancestral.codec.representing import Takes, Unsuited
from ancestral.data import audio, pictures
from ancestral.data.arrays import read_named
from ancestral.data.entries import UnreadableError
from ancestral.data.restore import Layout
from ancestral.data.table import layout_of, read_rows

__all__ = ["ARRAY", "PLAIN", "WRONG", "Examples", "File", "Gathered", "Item", "Kept", "gathered", "items_of"]

PLAIN, ARRAY = "plain", "array"
WRONG = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:")  # in a part of a name: drives of Windows, what terminals obey
ARRAYS, TABLES = (".npz", ".npy"), (".csv",)

Array = NDArray[Any]


class File(NamedTuple):
    """A file, and its name among the inputs."""

    path: Path
    name: PurePosixPath


class Item(NamedTuple):
    """Levels with a name, see the module, and their class if one is known."""

    name: str
    label: int | None
    x: Tensor


class Kept(NamedTuple):
    """A file or an array that is stored as it is, and why."""

    name: str
    data: bytes
    reason: str


class Examples(NamedTuple):
    """Examples without names: levels (N, *shape), perhaps their labels (N,), and what the header says of them."""

    x: Tensor
    labels: Tensor | None
    about: dict[str, Any]


@dataclass
class Gathered:
    """All that is compressed.

    Attributes:
        files: pictures and recordings, and whatever else, in the order of their names.
        examples: of tables and arrays, which are read at once.
        kept: what of these is stored as it is.
        size: bytes of all inputs.
        left_out: hidden files and links in folders.
        names: of all that is written in the end, and of its folders with a slash, without case.
    """

    files: list[File] = field(default_factory=list)
    examples: list[Examples] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    size: int = 0
    left_out: int = 0
    names: set[str] = field(default_factory=set)


def gathered(paths: Sequence[Path], takes: Takes, without: Path) -> Gathered:
    """Return the inputs, of which tables and arrays are read.

    Args:
        paths: files and folders.
        takes: what the model takes.
        without: a file that is left out: the one that is written.

    Raises:
        FileNotFoundError: there is no such file or folder; ValueError: there is nothing in them.
    """
    found = Gathered()
    files = list(listed(paths, without, found))
    found.names |= {f"{folder}/".casefold() for file in files for folder in file.name.parents}
    for file in files:
        size, suffix = file.path.stat().st_size, file.path.suffix.lower()
        found.size += size
        if size > CHUNK and suffix not in (*pictures.SUFFIXES, *audio.SUFFIXES, *TABLES, *ARRAYS):
            raise ValueError(f"{file.path}: what is stored as it is must have at most {CHUNK:,} bytes, it has {size:,}")
        if suffix not in (*TABLES, *ARRAYS):
            found.files.append(file)
            continue
        name = unique(file.name, found.names)
        try:
            if suffix in TABLES:
                found.examples.append(table_of(file.path, name, takes))
            else:
                arrays_of(file.path, name, takes, found)
        except ValueError as error:
            found.kept.append(Kept(f"{PLAIN}/{name}", file.path.read_bytes(), reason_of(error, file.path)))
    if not (found.files or found.examples or found.kept):
        raise ValueError(f"nothing to compress in {', '.join(map(str, paths))}: it holds no files")
    return found


def listed(paths: Sequence[Path], without: Path, found: Gathered) -> Iterator[File]:
    """Yield all files, those of folders in the order of their names."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        if not path.is_dir():
            yield File(path, cleaned(path.resolve().name))
            continue
        for each in sorted(path.rglob("*")):
            relative = each.relative_to(path)
            if each.is_symlink() or any(part.startswith(".") for part in relative.parts):
                found.left_out += each.is_symlink() or each.is_file()
            elif each.is_file() and each.resolve() != without.resolve():
                yield File(each, cleaned(*relative.parts))


def cleaned(*parts: str) -> PurePosixPath:
    """Return a name without what names of files must not hold everywhere."""
    return PurePosixPath(*(WRONG.sub("_", part) for part in parts))


def unique(name: PurePosixPath, names: set[str]) -> str:
    """Return a name that none of the others is, nor a folder of them, and note it."""
    tried, number = name, 1
    while {str(tried).casefold(), f"{tried}/".casefold()} & names:
        number += 1
        tried = name.with_name(f"{name.stem}-{number}{name.suffix}")
    names.add(str(tried).casefold())
    return str(tried)


def reason_of(error: Exception, path: Path) -> str:
    """Return in a few words why a file is stored as it is."""
    return str(error).removeprefix(str(path)).removeprefix(":").strip()


def items_of(found: Gathered, takes: Takes) -> Iterator[Item | Kept]:
    """Yield pictures and recordings as levels, then all that is stored as it is: it would end a chunk."""
    later: list[tuple[File, str]] = []
    for file in found.files:
        try:
            kind, x = levels_of(file.path, takes)
        except (ValueError, UnreadableError) as error:
            later.append((file, reason_of(error, file.path)))
            continue
        name = unique(file.name.with_suffix(".wav" if len(x.shape) == 2 else ".png"), found.names)
        yield Item(f"{kind}/{name}", label_of(file, takes.classes), x)
    yield from found.kept
    for file, reason in later:
        yield Kept(f"{PLAIN}/{unique(file.name, found.names)}", file.path.read_bytes(), reason)


def levels_of(path: Path, takes: Takes) -> tuple[str, Tensor]:
    """Return the kind and the levels of a file; raise ValueError or UnreadableError where it is to be kept as it is."""
    suffix = path.suffix.lower()
    if suffix in pictures.SUFFIXES:
        return takes.picture(path)
    if suffix in audio.SUFFIXES:
        return takes.recording(path)
    raise Unsuited("neither a picture, nor a recording, an array or a table")


def label_of(file: File, classes: tuple[str, ...] | None) -> int | None:
    """Return the class that a folder above a file is named after, the nearest first."""
    above = [part.name for part in file.path.absolute().parents[: len(file.name.parts)]]
    return next((classes.index(name) for name in above if name in classes), None) if classes else None


def table_of(path: Path, name: str, takes: Takes) -> Examples:
    """Return the rows of a table."""
    x, layout = takes.rows(*read_rows(path)), layout_of(path)
    takes.text(x, layout, path.read_bytes())
    written = {} if layout == Layout() else {"layout": asdict(layout)}
    return Examples(x, None, {"file": name, "n": len(x), **written})


def arrays_of(path: Path, name: str, takes: Takes, found: Gathered) -> None:
    """Add the arrays of a file: examples as levels, labels with them, others as they are."""
    arrays = read_named(path)
    if any(not key or "/" in key or "\\" in key for key in arrays):
        raise Unsuited("names of arrays that are paths")
    coded: dict[str, Examples] = {}
    kept: list[Kept] = []
    for key, array in arrays.items():
        labels = arrays.get(f"{key}_label") if takes.classes else None
        labels = labels if labels is not None and are_labels(labels, array, takes) else None
        try:
            coded[key] = examples_of(array, labels, takes, {"file": name, "key": key})
        except Unsuited as error:
            kept.append(Kept(f"{ARRAY}/{name}/{key}", npy(array), str(error)))
    if not coded:
        raise Unsuited("; ".join(each.reason for each in kept) or "no arrays")
    told = {f"{key}_label" for key, each in coded.items() if each.labels is not None}
    found.examples += coded.values()
    found.kept += [each for each in kept if each.name.rpartition("/")[2] not in told]


def are_labels(labels: Array, array: Array, takes: Takes) -> bool:
    """Return whether an array holds a class for each example of another."""
    fits = labels.dtype.kind in "iu" and labels.shape == array.shape[:1] and labels.size > 0
    return fits and 0 <= int(labels.min()) and int(labels.max()) < len(takes.classes or ())


def examples_of(array: Array, labels: Array | None, takes: Takes, about: dict[str, Any]) -> Examples:
    """Return the examples of an array; raise `Unsuited` where the model does not take them."""
    x, levels = takes.array(array)
    more = {
        "n": len(x),
        "shape": list(array.shape[1:]),
        "dtype": array.dtype.str,
        "levels": levels,
        "own": takes.levels,
    }
    more |= {} if labels is None else {"label": labels.dtype.str}
    told = None if labels is None else torch.from_numpy(labels.astype(np.int64))
    return Examples(x, told, {**about, **more})


def npy(array: Array) -> bytes:
    """Return an array as a file."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()
