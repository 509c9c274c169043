"""How far and how fast sound is made: a bar on a terminal, a few lines elsewhere, both on stderr."""

import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

__all__ = ["Pace"]

SELDOM = 5.0  # seconds between two lines, at least
OFTEN = 0.1  # seconds between two states of the bar
PARTS = 10  # lines in all, at most


class Pace:
    """Counts what is made, and shows it.

    Speeds are those of the blocks after the first ones, where these are made differently. The real-time factor is
    seconds of sound, of one of those that are made together, for each second that passes: above 1 it can be listened
    to while it is made.

    Args:
        steps: samples of sound, one after another.
        rate: of them, samples a second.
        first: how many blocks are made differently.
    """

    def __init__(self, steps: int, rate: int, first: int = 0) -> None:
        self.steps, self.rate, self.first = steps, rate, first
        self.blocks = self.made = self.values = 0
        self.begun = self.last = time.perf_counter()
        self.since = (0, 0, self.begun)  # steps, values and the time when the first blocks were there
        self.said, self.shown_at = 0, self.begun
        console = Console(stderr=True)
        columns = BarColumn(bar_width=10), TextColumn("{task.fields[figures]}"), TimeRemainingColumn()
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task("sound", total=steps, figures="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.show(last=True)
        self.bar.stop()

    def over(self, blocks: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield the blocks (n, C, K), and count them."""
        for block in blocks:
            self.last = time.perf_counter()
            self.blocks, self.made = self.blocks + 1, self.made + block.shape[2]
            self.values += block.numel()
            if self.blocks == self.first:
                self.since = self.made, self.values, self.last
            self.show()
            yield block

    @property
    def elapsed(self) -> float:
        """Seconds until the last block."""
        return self.last - self.begun

    @property
    def values_per_second(self) -> float:
        """How many samples are made in a second, of all sounds that are made together."""
        return self.speed(self.values, self.since[1])

    @property
    def factor(self) -> float:
        """The real-time factor."""
        return self.speed(self.made, self.since[0]) / self.rate

    def speed(self, now: int, before: int) -> float:
        """Return what is made in a second, given how much there is and how much the first blocks were."""
        if now > before:
            return (now - before) / max(self.last - self.since[2], 1e-9)
        return now / max(self.elapsed, 1e-9)

    @property
    def done(self) -> str:
        """How far it is, as a person reads it."""
        return f"{self.made / self.rate:.2f} of {self.steps / self.rate:.2f} s"

    @property
    def times(self) -> str:
        """The real-time factor, as a person reads it."""
        return f"{self.factor:.2g} x real time"

    def show(self, last: bool = False) -> None:
        """Show how far it is, unless that was just done."""
        since = self.last - self.shown_at
        if not self.bar.disable:
            if last or since > OFTEN:
                self.bar.update(self.task, completed=self.made, figures=f"{self.done}, {self.times}")
                self.shown_at = self.last
        elif last or (since > SELDOM and self.made * PARTS // self.steps > self.said):
            print(f"{self.done}, {self.times}", file=sys.stderr, flush=True)
            self.said, self.shown_at = self.made * PARTS // self.steps, self.last
