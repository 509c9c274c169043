"""Files that are written whole or not at all, and lines of JSON that are read as far as they are whole."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["current_umask", "numbered", "read_records", "replacing"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside a path, to write to; rename it to the path where that went well.

    Raises:
        OSError: it did not; what was at the path before is intact.
    """
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        part.chmod(0o666 & ~current_umask())
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if part is not None and error.filename not in (None, str(part)):
            raise  # something else could not be read
        raise OSError(f"cannot write {path}: {error.strerror or error}; what was there before is intact") from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def current_umask() -> int:
    """Return which permissions new files of this process lack."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def numbered(path: Path, n: int) -> list[Path]:
    """Return the path of one file, or the paths of several.

    >>> [path.name for path in numbered(Path("out.wav"), 2)]
    ['out-1.wav', 'out-2.wav']
    """
    digits = len(str(n))
    return [path] if n == 1 else [path.with_stem(f"{path.stem}-{i:0{digits}}") for i in range(1, n + 1)]


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines that something appends to; none where there is no file.

    Lines that are no objects are left out: the last one is cut off where whoever wrote it was killed.
    """
    if not path.exists():
        return []
    records = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]
