"""`.csv` tables of one kind: all columns binary, all categories, or all continuous."""

import csv
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .parts import Found, Part, compact, with_splits
from .restore import Arrays, Layout, Table

__all__ = ["layout_of", "read_rows", "read_table"]

MOST_CATEGORIES = 256
FEW = 20  # distinct values below which a column of a continuous table deserves a warning

Array = NDArray[np.float64]


def read_table(path: Path, seed: int = 0) -> Found:
    """Read a table of numbers, with a header or without, separated by tabs, semicolons or commas.

    Columns that are all 0 or 1 give two levels. If all are integers with at most 256 distinct values each, every value
    becomes a level, in ascending order, and K is the largest number of values that a column has. Anything else is
    continuous: standardised by the mean and standard deviation of its train part.

    Raises:
        ValueError: a cell that is no number (named by row, from 1 as in the file, and column), a constant column, or
            columns of two values among continuous ones.
    """
    columns, rows = read_rows(path)
    distinct = [np.unique(column) for column in rows.T]
    whole = [bool((values == np.rint(values)).all()) for values in distinct]
    if not all(whole) or max(len(values) for values in distinct) > MOST_CATEGORIES:
        return _continuous(path, rows, columns, distinct, seed)
    if all(set(values) <= {0.0, 1.0} for values in distinct):
        return Found({"train": Part(compact(rows, 2))}, 2, Table(columns))
    return _categorical(path, rows, columns, distinct)


def read_rows(path: Path) -> tuple[tuple[str, ...], Array]:
    """Return the names of the columns and the numbers, (N, D); raise ValueError where a cell is no finite number."""
    try:
        layout = layout_of(path)
        return _numbers(path, layout.delimiter, layout.header)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 (byte {error.start}): save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as a table: {error}") from error


def layout_of(path: Path) -> Layout:
    """Return how a table is written, as its first row and its end show it."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        line = next((line for line in file if line.strip()), "")
    if not line:
        raise ValueError(f"{path} is empty: rows of numbers are needed")
    delimiter = next((d for d in "\t;," if d in line), ",")
    cells = next(csv.reader([line], delimiter=delimiter))
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        closed = file.read(1) == b"\n"
    header = any(cell.strip() and _number(cell) is None for cell in cells)
    return Layout(delimiter, header, "\r\n" if line.endswith("\r\n") else "\n", closed)


def _numbers(path: Path, delimiter: str, header: bool) -> tuple[tuple[str, ...], Array]:
    """Return the names of the columns and the rows (N, D)."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = [line for line in file if line.strip()]
    first = next(csv.reader(lines[:1], delimiter=delimiter)) if header else None
    if header and len(lines) == 1:
        raise ValueError(f"{path} has a header and no rows: rows of numbers are needed")
    try:
        rows = np.loadtxt(lines[header:], delimiter=delimiter, quotechar='"', comments=None, ndmin=2)
    except ValueError:
        rows = np.full((1, 1), np.nan)  # the search below says where
    if not np.isfinite(rows).all() or (first and len(first) != rows.shape[1]):
        _blame(path, delimiter, header)
    names = first or [""] * rows.shape[1]
    return tuple(name.strip() or f"column {i}" for i, name in enumerate(names, 1)), rows


def _cells(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        yield from ((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _blame(path: Path, delimiter: str, header: bool) -> NoReturn:
    """Find the first cell that is no finite number, and say where it is."""
    rows = _cells(path, delimiter)
    line, first = next(rows)
    names = first if header else [str(i + 1) for i in range(len(first))]
    body = list(rows) if header else [(line, first), *rows]
    for line, cells in body:
        if len(cells) != len(first):
            raise ValueError(f"{path}: row {line} has {len(cells)} cells, row 1 has {len(first)}: fill or remove it")
        for name, cell in zip(names, cells, strict=True):
            value = _number(cell)
            if value is None and cell.strip():
                raise ValueError(
                    f"{path}: column {name!r} holds text ({cell.strip()!r}, row {line}): remove or number it"
                )
            if value is None or not math.isfinite(value):
                what = cell.strip() or "an empty cell"
                raise ValueError(f"{path}: {what} in row {line}, column {name!r}: fill it or remove the row")
    raise ValueError(f"{path} cannot be read as a table of numbers separated by {delimiter!r}")


def _categorical(path: Path, rows: Array, columns: tuple[str, ...], distinct: list[Array]) -> Found:
    """Code each column's values 0..k-1 in ascending order."""
    levels = max(len(values) for values in distinct)
    if levels < 2:
        raise ValueError(f"{path}: every column is constant ({', '.join(columns[:3])} ...): there is nothing to learn")
    coded = np.stack([np.searchsorted(v, column) for v, column in zip(distinct, rows.T, strict=True)], axis=1)
    values = tuple(tuple(int(value) for value in v) for v in distinct)
    note = f"{levels} levels: the values of each column in ascending order, at most {levels} of them"
    return Found({"train": Part(compact(coded, levels))}, levels, Table(columns, values=values), notes=(note,))


def _continuous(path: Path, rows: Array, columns: tuple[str, ...], distinct: list[Array], seed: int) -> Found:
    """Standardise by the train part, which is therefore drawn here."""
    two = [name for name, values in zip(columns, distinct, strict=True) if len(values) == 2]
    if two:
        raise ValueError(
            f"{path}: a mixed table: {', '.join(two)} are discrete (two values), others continuous; "
            "only tables of one kind are read, remove one or the other"
        )
    found = with_splits(Found({"train": Part(rows)}, None, Arrays(None)), seed)
    train: Any = found.parts["train"].x
    mean, std = train.mean(0), train.std(0)
    constant = [name for name, s, top in zip(columns, std, np.abs(train).max(0), strict=True) if s <= 1e-12 * top]
    if constant:
        raise ValueError(f"{path}: constant columns: {', '.join(constant)}; remove them")
    few = [f"{name} ({len(values)})" for name, values in zip(columns, distinct, strict=True) if len(values) <= FEW]
    note = "columns of few distinct values, whose density has no upper bound: " + ", ".join(few)
    parts = {s: Part(((part.x - mean) / std).astype(np.float32)) for s, part in found.parts.items()}
    restore = Table(columns, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    notes = (*found.notes, "continuous columns, standardised by the train part", *([note] if few else []))
    return replace(found, parts=parts, restore=restore, notes=notes)
