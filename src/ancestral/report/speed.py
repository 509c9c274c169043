"""How long things take, and how fast training was."""

import time
from collections.abc import Callable
from typing import Any

import torch

from ancestral.files import read_records
from ancestral.runs import Run

__all__ = ["rate", "seconds", "speeds_of"]


def rate(value: float) -> str:
    """Return a number in three digits: 1,680 and 0.0123."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def speeds_of(run: Run) -> list[float]:
    """Return the speeds that training recorded, in examples a second."""
    records = read_records(run.folder / "metrics.jsonl")
    return [speed for record in records if (speed := record.get("examples_per_second")) is not None]


def seconds(compute: Callable[[], Any]) -> float:
    """Return how long something takes."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    compute()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin
