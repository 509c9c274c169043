"""When a run does what: which examples, which random numbers, which rate, at which step.

All of it is a function of the step, the seed and the rank, and none of it remembers anything: that is what makes a
resumed run the same as one that was never stopped, and two processes the same as one.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

VALIDATIONS = 20  # in a run
DRAWS = (1, 2, 5, 10, 20)  # the validations at which samples are drawn: early ones change most
LONGEST_WARM_UP = 500  # steps
LONGEST_MEMORY = 2000  # steps over which weights are averaged
POOL = 8  # batches that examples of like widths are sorted into
DECAY_EPOCHS, DECAY_STEPS = 10, 500  # the time over which weights decay: so many epochs, but at least so many steps


def mixed(*numbers: int) -> int:
    """Return a seed that depends on every one of these numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


@lru_cache(maxsize=4)
def permutation(count: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the examples in an epoch, (count,) int64."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(mixed(seed, epoch)))


@dataclass(frozen=True)
class Batches:
    """The training examples, each once an epoch, in batches whose sizes differ by at most one.

    Where examples have different widths, a batch is as wide as its widest: those of a few batches, which the order puts
    together, are sorted into these, and batches come in an order of their own.

    Attributes:
        examples: how many there are.
        size: of a batch, over all processes, at most.
        seed: of the order.
        widths: of the examples, (N,) int64; None where they are all alike.
    """

    examples: int
    size: int
    seed: int
    widths: Tensor | None = None

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self.examples / self.size)

    def at(self, step: int) -> tuple[int, Tensor]:
        """Return the epoch of a step, and the indices of its batch."""
        epoch, batch = divmod(step, self.per_epoch)
        batches = permutation(self.examples, self.seed, epoch).tensor_split(self.per_epoch)
        if self.widths is None:
            return epoch, batches[batch]
        pool, place = divmod(int(permutation(self.per_epoch, self.seed, epoch)[batch]), POOL)
        mixed_up = batches[pool * POOL : (pool + 1) * POOL]
        index = torch.cat(mixed_up)
        return epoch, index[self.widths[index].argsort(stable=True)].tensor_split(len(mixed_up))[place]

    def work(self, steps: Collection[int]) -> float:
        """Return how large the batches of these steps are on average, what fills them up included."""
        if self.widths is None:
            return self.examples / self.per_epoch
        batches = [self.at(step)[1] for step in steps]
        return sum(len(batch) * int(self.widths[batch].max()) for batch in batches) / len(batches)


@dataclass(frozen=True)
class Schedule:
    """The rates of a run of so many steps.

    Attributes:
        steps: of the whole run.
        lr: the highest rate.
    """

    steps: int
    lr: float

    def rate(self, step: int) -> float:
        """Return the rate of a step: a linear warm-up, then half a cosine down to zero."""
        warm_up = min(LONGEST_WARM_UP, self.steps // 20)
        return self.lr * min(1.0, (step + 1) / (warm_up + 1)) * (1 + math.cos(math.pi * step / self.steps)) / 2

    def decay(self, step: int) -> float:
        """Return how much of the averaged weights stays at a step.

        The average reaches over a twentieth of the run at most, and at first over few steps only: the random weights
        of the beginning must not linger in it.
        """
        memory = min(LONGEST_MEMORY, max(1.0, self.steps / 20))
        return min(1 - 1 / memory, (step + 1) / (step + 10))

    def validation(self, done: int) -> int:
        """Return the number of the validation that is due after so many steps, from 1, or 0 where none is."""
        every = math.ceil(self.steps / VALIDATIONS)
        return math.ceil(done / every) if done % every == 0 or done == self.steps else 0


def usual_decay(lr: float, per_epoch: int) -> float:
    """Return AdamW's weight decay: what a batch did to the weights is forgotten, but for 1/e, in about 10 epochs.

    A time in epochs, so that little data, which is soon overfitted, is held back and much data is not (2405.13698).
    """
    return 1 / (lr * max(DECAY_STEPS, DECAY_EPOCHS * per_epoch))
