"""What the machine has left."""

from pathlib import Path

import torch


def free_memory(device: torch.device) -> float:
    """Return the bytes that a device has left; infinity where that cannot be known."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    available = 1024 * number_in("/proc/meminfo", "MemAvailable:")
    group = "/sys/fs/cgroup/memory"
    return min(available, number_in(f"{group}.max") - min(number_in(f"{group}.stat", "anon"), 2.0**60))


def number_in(path: str, name: str = "") -> float:
    """Return the number after a name in a file of the system, or the first; infinity where there is none."""
    try:
        words = Path(path).read_text().split()
        return int(words[words.index(name) + 1 if name else 0])
    except (OSError, ValueError, IndexError):
        return torch.inf
