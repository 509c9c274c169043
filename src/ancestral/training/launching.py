"""What a run stands on: device, precision and processes, and the signals that end it."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

PRECISIONS = {"32": "no", "bf16": "bf16"}  # and what accelerate calls them


def accelerator_for(device: str, precision: str) -> Accelerator:
    """Return what knows the device, the precision and the processes of this run.

    Args:
        device: "auto", "cpu" or "cuda".
        precision: "32" or "bf16".

    Raises:
        ValueError: there is no such device or precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be 32 or 'bf16', got {precision!r}")
    check_device(device)
    AcceleratorState._reset_state(reset_partial_state=True)  # else the settings of the first run of a process stay
    return Accelerator(
        mixed_precision=PRECISIONS[precision],
        cpu=device == "cpu" or not torch.cuda.is_available(),
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )


def check_device(device: str) -> None:
    """Raise ValueError unless this machine has such a device."""
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda': there is no GPU here that torch can use; use device='auto' or 'cpu'")


class Interruption:
    """Within it Ctrl-C and SIGTERM only ask to stop; a second Ctrl-C stops at once.

    Attributes:
        asked: whether one has come.
    """

    def __init__(self) -> None:
        self.asked = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only there can signals be handled
            self.before = {number: signal.signal(number, self.ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
