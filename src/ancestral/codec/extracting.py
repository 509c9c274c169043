"""What was compressed as files again: in a new folder, or one table or array, complete or not there at all.

Names come from a file that anyone may have written: none of them leads out of the folder.
"""

import contextlib
import io
import math
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ancestral.codec.inputs import ARRAY, PLAIN, WRONG, npy
from ancestral.codec.listing import Entry
from ancestral.codec.representing import content_of, values_of
from ancestral.data.restore import Layout, Restore, Table
from ancestral.files import current_umask, replacing

__all__ = ["Extraction", "check_out", "new_folder", "safe"]

SINGLE = (".npz", ".npy", ".csv")  # what is written as one file
LONGEST, DEEPEST = 255, 100  # bytes of a part of a name, and parts

Array = NDArray[Any]


def safe(name: str) -> PurePosixPath:
    """Return a relative name, or raise ValueError where it could lead out of a folder."""
    parts = name.split("/")
    bad = [
        part
        for part in parts
        if part in ("", ".", "..") or WRONG.search(part) or len(part.encode("utf-8", "surrogateescape")) > LONGEST
    ]
    if bad or len(parts) > DEEPEST:
        raise ValueError(f"it holds the name {name!r}, which could lead out of the folder: nothing was written")
    return PurePosixPath(*parts)


def check_out(out: Path) -> bool:
    """Return whether one file is written, not a folder; raise FileExistsError where something is in its way."""
    if out.suffix.lower() in SINGLE and not out.is_dir():
        return True
    if out.is_symlink() or out.exists():
        if out.is_symlink() or not out.is_dir():
            raise FileExistsError(f"--out {out} is a {'link' if out.is_symlink() else 'file'}: give a new folder")
        if any(out.iterdir()):
            raise FileExistsError(f"--out {out} is a folder that is not empty: give a new one")
    return False


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside a folder; rename it to that where all went well, else remove it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        yield part
        part.chmod(0o777 & ~current_umask())
        if os.name == "nt" and out.is_dir():
            out.rmdir()
        os.replace(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


class Extraction:
    """Writes what is read to a folder, or collects it for one file.

    Args:
        folder: where to; None for one table or array.
        restore: of the run.
        sets: what the header says of examples without names.

    Attributes:
        files: how many were written.
        size: bytes of these.

    Raises:
        ValueError: the header says what cannot be.
    """

    def __init__(self, folder: Path | None, restore: Restore, sets: Any) -> None:
        self.folder, self.restore, self.sets = folder, restore, checked(sets)
        self.names: set[str] = set()
        self.rows: list[list[tuple[Tensor, int | None]]] = [[] for _ in self.sets]
        self.arrays: dict[str, dict[str, Array]] = {str(each["file"]): {} for each in self.sets}
        self.at = self.files = self.size = 0

    def entry(self, entry: Entry, x: Tensor) -> None:
        """Take an entry."""
        if entry.name:
            kind, _, name = entry.name.partition("/")
            self.write(name, lambda: content_of(kind, x, self.restore))
            return
        end = 0
        for each, rows in zip(self.sets, self.rows, strict=True):
            end += each["n"]
            if self.at < end:
                rows.append((x, entry.label))
                break
        else:
            raise ValueError("it holds more examples than its header says")
        self.at += 1

    def missing(self, entries: int) -> None:
        """Go on after entries that are lost."""
        left = max(0, sum(each["n"] for each in self.sets) - self.at)
        self.at += min(entries, left)

    def plain(self, name: str, data: bytes) -> None:
        """Take a file or an array that was stored as it is."""
        kind, _, rest = name.partition("/")
        if kind == ARRAY:
            file, _, key = rest.rpartition("/")
            if file not in self.arrays or not key:
                raise ValueError(f"it holds the array {name!r} of no file")
            self.arrays[file][key] = array_of(data)
        elif kind == PLAIN:
            self.write(rest, lambda: data)
        else:
            raise ValueError(f"it holds a file of the unknown kind {kind!r}")

    def write(self, name: str, content: Any) -> None:
        """Write a file of the folder."""
        if self.folder is None:
            raise ValueError("it holds files, not one table or array: --out FOLDER would do")
        path = self.folder / self.claimed(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            self.size += file.write(content())
        self.files += 1

    def claimed(self, name: str) -> PurePosixPath:
        """Return a name that is safe and that no other file has."""
        found = safe(name)
        taken = {str(p).casefold() for p in (found, *found.parents)} & self.names
        if taken:
            raise ValueError(f"it holds the name {name!r} twice")
        self.names.add(str(found).casefold())
        return found

    def finish(self, out: Path | None = None) -> None:
        """Write tables and arrays: to the folder, or the only one to `out`.

        Raises:
            ValueError: there are none or several of them, or `out` is of another kind.
        """
        if self.folder is None:
            if len(self.arrays) != 1:
                raise ValueError(f"it holds {len(self.arrays)} tables and arrays: --out FOLDER would do")
            assert out is not None
            with replacing(out) as part:
                self.size += part.write_bytes(self.content(next(iter(self.arrays)), out.suffix.lower()))
            self.files += 1
            return
        for name in self.arrays:
            self.write(name, lambda name=name: self.content(name, PurePosixPath(name).suffix.lower()))

    def content(self, name: str, suffix: str) -> bytes:
        """Return the content of a table or of arrays of that name, as a file of that suffix."""
        mine = [(each, rows) for each, rows in zip(self.sets, self.rows, strict=True) if each["file"] == name]
        if "key" not in mine[0][0]:
            return self.table(*mine[0], suffix)
        arrays = dict(self.arrays[name])
        for each, rows in mine:
            arrays |= arrays_of(each, rows)
        if suffix == ".npz":
            return npz(arrays)
        if suffix == ".npy" and len(arrays) == 1:
            return npy(next(iter(arrays.values())))
        raise ValueError(f"arrays cannot be written as {suffix} ({', '.join(arrays)}): .npz would do")

    def table(self, about: dict[str, Any], rows: list[tuple[Tensor, int | None]], suffix: str) -> bytes:
        """Return rows of a table as a file."""
        if not isinstance(self.restore, Table):
            raise ValueError("it holds a table, the run is not of tables")
        x = torch.stack([x for x, _ in rows]) if rows else torch.zeros(0, len(self.restore.columns), dtype=torch.long)
        if suffix == ".csv":
            return self.restore.csv(x, Layout(**about.get("layout", {})))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"table{suffix}"
            self.restore.save(x, path)
            return path.read_bytes()


def npz(arrays: Mapping[str, Array]) -> bytes:
    """Return arrays of any names as a file: numpy's own way to write them takes some names for its options."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            file.writestr(f"{name}.npy", npy(array))
    return content.getvalue()


def array_of(data: bytes) -> Array:
    """Return the array of an `.npy` file, or raise ValueError where it is none, or claims more than there is."""
    file = io.BytesIO(data)
    try:
        old = np.lib.format.read_magic(file) == (1, 0)
        head = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, _, kind = head(file)
    except Exception as error:  # what is no header raises half a dozen kinds, TokenError among them
        raise ValueError("it holds an array without a header that can be read") from error
    if kind.hasobject or math.prod(shape) * kind.itemsize != len(data) - file.tell():
        raise ValueError("it holds an array that is not as long as it says")
    found: Array = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def arrays_of(about: dict[str, Any], rows: list[tuple[Tensor, int | None]]) -> dict[str, Array]:
    """Return an array, and its labels if it has any."""
    shape, kind = tuple(about["shape"]), np.dtype(about["dtype"])
    values = [x.numpy() for x, _ in rows]
    x = np.stack(values) if values else np.zeros((0, *shape))
    found = {about["key"]: values_of(x, about["own"], about["levels"]).astype(kind).reshape(len(x), *shape)}
    if "label" in about:
        labels = [0 if label is None else label for _, label in rows]
        found[f"{about['key']}_label"] = np.array(labels, dtype=np.dtype(about["label"]))
    return found


def checked(sets: Any) -> list[dict[str, Any]]:
    """Return what a header says of examples without names; raise ValueError where it cannot be."""
    wrong = ValueError("its header is damaged: what it says of tables and arrays cannot be")
    if not isinstance(sets, list) or not all(isinstance(each, dict) for each in sets):
        raise wrong
    for each in sets:
        right = is_count(each.get("n")) and isinstance(each.get("file"), str)
        if "key" in each:
            right &= isinstance(each["key"], str) and is_count(each.get("levels"), 2) and is_count(each.get("own"), 2)
            right &= isinstance(each.get("shape"), list) and all(is_count(side) for side in each.get("shape", []))
            kinds = str(each.get("dtype")), str(each.get("label", "|u1"))
            right &= all(re.fullmatch(r"\|b1|\|[iu]1|[<>][iu][248]", kind) for kind in kinds)
        elif right:
            right = is_layout(each.get("layout", asdict(Layout())))
        if not right:
            raise wrong
        safe(str(each["file"]))
    return sets


def is_layout(value: Any) -> bool:
    """Return whether a value is a layout of a table, as JSON."""
    kinds = {"delimiter": ("\t", ";", ","), "header": (True, False), "end": ("\n", "\r\n"), "closed": (True, False)}
    if not isinstance(value, dict) or value.keys() != kinds.keys():
        return False
    return all(type(value[key]) is type(allowed[0]) and value[key] in allowed for key, allowed in kinds.items())


def is_count(value: Any, least: int = 0) -> bool:
    """Return whether a value is an integer of at least that."""
    return type(value) is int and least <= value < 2**40
