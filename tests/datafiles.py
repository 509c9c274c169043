"""Files that the tests of the data make: random pictures, arrays, tables. Random by torch, which each test seeds."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ancestral.data import Data


def integers(top: int, shape: tuple[int, ...]) -> np.ndarray:
    return torch.randint(top, shape).numpy()


def picture(path: Path, shape: tuple[int, ...] = (6, 5), top: int = 256, dtype: type = np.uint8) -> np.ndarray:
    """Write a random picture (H, W) or (H, W, 3) and return its values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x = integers(top, shape).astype(dtype)
    Image.fromarray(x).save(path)
    return x


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def table(path: Path, rows: list, header: tuple[str, ...] = (), delimiter: str = ",") -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows] if header else rows)
    return path


def everything(data: Data) -> torch.Tensor:
    return torch.cat([part.x for part in data.splits.values()])


def one_line(error: pytest.ExceptionInfo, *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def pixels(path: Path) -> np.ndarray:
    """The pixels of a picture."""
    with Image.open(path) as image:
        return np.asarray(image)


def names(folder: Path) -> set[str]:
    """The names of all files in a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
