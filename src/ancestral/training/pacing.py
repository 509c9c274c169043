"""How long a run is: its limits, what suits data of a size, and the clock of `minutes`."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

PLANNED, OVERTIME = 0.96, 1.06  # shares of the minutes: what is planned for; when a run that became slower is ended
TIMING, LONGEST_TIMING = 0.03, 20  # share of the minutes, and seconds, in which the speed is measured
FEWEST, SAMPLES = 2, 2**13  # windows in a batch, and new samples of these: many small steps learn faster
EXAMPLES = 500_000  # seen by a run without a limit, within 20 to 200 epochs


class Clock:
    """The time of a run, which goes on when the run is resumed.

    Attributes:
        before: seconds of the sessions before this one.
    """

    def __init__(self) -> None:
        self.begin, self.before = time.perf_counter(), 0.0

    def go_on(self, before: float) -> None:
        """Begin anew after so many seconds: what it takes to resume is no part of the run."""
        self.begin, self.before = time.perf_counter(), before

    def elapsed(self) -> float:
        """Return the seconds of all sessions."""
        return self.before + time.perf_counter() - self.begin

    def late(self, minutes: float | None) -> bool:
        """Return whether a run of so many minutes takes longer: the machine has become slower than it was measured."""
        return minutes is not None and self.elapsed() > 60 * minutes * OVERTIME


def steps_to_time(seconds: float, one: float) -> int:
    """Return how many steps to time for a run of so many seconds, where one took `one`: the machine's speed varies."""
    return max(3, int(min(LONGEST_TIMING, TIMING * seconds) / one))


def timed(action: Callable[[], Any]) -> float:
    """Return the seconds that an action takes, on the device too."""
    begin = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def check_limits(limits: Mapping[str, float | None], sizes: Mapping[str, float | None], seed: int) -> None:
    """Raise ValueError unless at most one limit is given, and every number is positive."""
    given = [name for name, value in limits.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} both limit the run: give one of epochs, steps and minutes")
    for name, value in {**limits, **sizes}.items():
        if value is not None and not 0 < value < math.inf and (name, value) != ("weight_decay", 0):
            raise ValueError(f"{name} must be positive, got {value}")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")


def default_batch(examples: int, window: int | None = None) -> int:
    """Return the size of a batch that suits so much data: the power of two near sqrt(examples) / 2, from 16 to 64.

    Small batches overfit little data later; more than 64 at once rarely pays on a CPU. Of windows of so many samples,
    each of which is an example for a model of sequences, fewer will do.
    """
    size = int(2 ** min(6, max(4, round(math.log2(math.sqrt(examples) / 2)))))
    return size if window is None else min(size, max(FEWEST, SAMPLES // window))


def default_epochs(examples: int) -> int:
    """Return how often to go through so much data where there is no limit: until it stops to help, or so often."""
    return min(200, max(20, EXAMPLES // examples))
