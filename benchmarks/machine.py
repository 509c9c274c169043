"""What a measurement was made on, and how: medians of interleaved runs, beside the machine's own limits."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch


def describe(device: str | None = None) -> dict[str, Any]:
    """Return the machine, the versions and the day; of a GPU its name, unless the device was another one."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = lines[0] if lines else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if device != "cpu" and torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def seconds(work: Callable[[], Any]) -> float:
    """Return the wall-clock time of one call, until what it launched on a GPU is done."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def synchronize() -> None:
    """Wait for the GPU, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def interleaved(works: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each work, run in turn after one warm-up, so that all meet the same machine."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work))
    return {name: statistics.median(t) for name, t in times.items()}


def matrix_rate(size: int = 2048, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Return this machine's multiply-add rate in matrix products, in 1e9 floating-point operations a second.

    A GPU is given products that are large enough to keep all of it busy, several at a time.
    """
    size, times = (4 * size, 10) if device == "cuda" else (size, 1)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = min(seconds(lambda: [a @ b for _ in range(times)]) for _ in range(5))
    return 2 * size**3 * times / best / 1e9


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
