"""What a file was written with: the model, and the arithmetic that a file which is not portable depends on."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import constriction
import torch

from ancestral import __version__
from ancestral.model import Model
from ancestral.recorded import description

__all__ = ["arithmetic", "differences", "fingerprint"]


def fingerprint(model: Model) -> str:
    """Return the SHA-256 of a model: its class, arguments and weights, whatever the dtype that holds these."""
    found = hashlib.sha256(json.dumps(description(model), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().to(torch.float64 if tensor.is_floating_point() else torch.int64)
        found.update(f"{name} {tuple(values.shape)} {values.dtype}\n".encode())
        found.update(values.contiguous().numpy().astype(values.numpy().dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()


def arithmetic(model: Model, examples: int) -> dict[str, Any]:
    """Return what the last bits of a model's probabilities depend on."""
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "batch": examples,
        "torch": torch.__version__,
        "constriction": getattr(constriction, "__version__", "0.5"),
        "ancestral": __version__,
    }


def differences(written: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return in words what differs.

    >>> differences({"threads": 1, "dtype": "float32"}, {"threads": 2, "dtype": "float32"})
    'threads 1 (here 2)'
    """
    names = [name for name in {**written, **here} if written.get(name) != here.get(name)]
    return ", ".join(f"{name} {written.get(name)} (here {here.get(name)})" for name in names)
