"""Training: a loop over batches, with what a run needs around it.

Everything random is a function of (seed, step, rank), and a run folder remembers all that changes, so that a run that
is stopped and resumed ends with the same weights. accelerate gives the device, the precision and the processes.
"""

import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch import Tensor

from ancestral.checkpoint import CONFIG, WEIGHTS, describe, versions, write_json, write_tensors
from ancestral.conditioning import OneHot
from ancestral.data import Data
from ancestral.data.restore import Pictures
from ancestral.evaluation import check_fit, per_example
from ancestral.logs import Logs, Record
from ancestral.model import Model
from ancestral.objectives import Loss, Objective, nll
from ancestral.resuming import State, cloned, fingerprint, read_state, recorded, write_state
from ancestral.schedule import DRAWS, VALIDATIONS, Batches, Schedule, mixed

__all__ = ["Summary", "train"]

CLIP = 1.0  # norm of the gradient of nats per variable, which is about half of this in healthy training
PATIENCE = 5  # validations without a better one, of 20
MOST_SKIPS, MOST_RETURNS = 5, 3  # steps skipped in a row before a return, returns before giving up
VALIDATED = 2000  # examples, at most
DRAWN = 16  # samples of a picture
INTERVAL = 60  # seconds between two checkpoints
EXAMPLES = 500_000  # seen by a run without a limit, within 20 to 200 epochs
MARGIN, OVERTIME = 0.96, 1.06  # shares of the minutes: what is planned for, when a slow run is ended


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        steps: done, over all sessions.
        epochs: these are of the training examples.
        seconds: they took.
        parameters: of the model.
        best_step: whose averaged weights are the result; the last one where there was no validation.
        valid_nats: of those weights; None where there was no validation.
        valid_bits_per_dim: the same in bits a variable; None of continuous values.
        interrupted: whether the user ended it; it can be resumed.
        stopped_early: whether it ended because validation got worse, or time ran out.
        skipped: steps skipped because the loss or a gradient was not finite.
    """

    steps: int
    epochs: float
    seconds: float
    parameters: int
    best_step: int
    valid_nats: float | None
    valid_bits_per_dim: float | None
    interrupted: bool
    stopped_early: bool
    skipped: int


def train(
    model: Model,
    data: Data,
    out: str | Path,
    *,
    loss: Loss = nll,
    epochs: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    precision: int | str = 32,
    device: str = "auto",
    seed: int = 0,
    resume: bool = False,
    config: dict[str, Any] | None = None,
    on_progress: Callable[[Record], None] | None = None,
) -> Summary:
    """Train a model on the train part, and keep the averaged weights that are best on the valid part.

    They are in the model and in `out/model.safetensors` at the end. Started in several processes (`accelerate
    launch`, `torchrun`), these share every batch and give what one gives, to rounding.

    Args:
        model: changed in place.
        data: with the model's shape, levels and labels.
        out: the run folder, which must not hold a run unless it is resumed.
        loss: of each example.
        epochs: at most so many; training stops when validation has got worse for a quarter of them.
        steps: just so many batches.
        minutes: the speed is measured, then the number of steps is fixed. Without any of the three limits: epochs,
            as many as suit the size of the data.
        batch_size: over all processes; by default between 16 and 64, the more the more data there is.
        lr: the highest rate of Adam, before it falls to zero; 0.002 by default.
        precision: 32, or "bf16" for mixed precision.
        device: "auto", "cpu" or "cuda".
        seed: of order, noise and dropout; the weights are those that the model has.
        resume: go on with the run in `out`, exactly; what is not given is as it was.
        config: what else `config.json` shall record, JSON.
        on_progress: is told every record of `metrics.jsonl`.

    Raises:
        ValueError: an argument is wrong or does not fit the data or the run; or training diverges again and again.
        OSError: something cannot be written; the last checkpoint is intact.
    """
    begin = time.perf_counter()
    asked = {"epochs": epochs, "steps": steps, "minutes": minutes, "batch_size": batch_size, "lr": lr}
    settings = {"loss": getattr(loss, "__qualname__", str(loss)), **asked, "precision": str(precision), "seed": seed}
    check_settings(asked, seed)
    check_fit(model, data, *(split for split in ("train", "valid") if split == "train" or len(data.split(split))))
    accelerator = accelerator_for(device, str(precision))
    given = {name: value for name, value in settings.items() if value is not None}
    facts = {"fingerprint": fingerprint(data), **data.describe()}
    before = recorded(Path(out), {"model": describe(model), "data": facts, "training": given}, resume)
    accelerator.wait_for_everyone()  # no process writes before all have looked
    record = {"model": describe(model), "data": facts, "training": with_defaults(settings, data), **(config or {})}
    run = Run(model, data, Path(out), loss, accelerator, {**(before or record), "versions": versions()}, begin)
    with Interruption() as stop:
        run.prepare(on_progress, resume)
        run.go(stop)
    return run.finished(interrupted=stop.asked)
