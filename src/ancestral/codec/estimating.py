"""How many bits examples would be, without coding them: the parallel pass."""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ancestral.codec.coding import levels_of
from ancestral.codec.tiles import cut, padding, tiles_of
from ancestral.conditioning import OneHot
from ancestral.model import Model

__all__ = ["bits_of"]


class Labelled(Protocol):
    """Levels of any size, and their class where it is known."""

    @property
    def label(self) -> int | None: ...

    @property
    def x(self) -> Tensor: ...


@torch.no_grad()
def bits_of(model: Model, items: Iterable[Labelled], examples: int) -> float:
    """Return -log2 p of all items; of a model with latents an upper bound on it, by one draw with a fixed seed.

    Args:
        model: in evaluation mode.
        items: of a class that is not known where the one with the fewest bits is taken.
        examples: tiles that are looked at together.
    """
    levels_of(model)
    total, waiting = 0.0, Waiting(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for item in items:
            waiting.add(item)
            if waiting.tiles >= examples:
                total += waiting.bits(examples)
        return (total + waiting.bits(examples)) / math.log(2)


class Waiting:
    """Items whose tiles are not looked at yet.

    Attributes:
        tiles: how many.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.tiles = model, 0
        self.items: list[Labelled] = []

    def add(self, item: Labelled) -> None:
        """Take one more."""
        self.items.append(item)
        self.tiles += tiles_of(tuple(item.x.shape), self.model.shape)

    def bits(self, examples: int) -> float:
        """Return -log p of all that waited, nats, of items without a class by the best one; nothing waits any more."""
        items, conditioner = self.items, self.model.conditioner
        self.items, self.tiles = [], 0
        if not isinstance(conditioner, OneHot):
            return float(self.nats(items, None, examples).sum())
        told = [item for item in items if item.label is not None]
        free = [item for item in items if item.label is None]
        nats = self.nats(told, torch.tensor([item.label for item in told]), examples).sum()
        if free:
            each = [self.nats(free, torch.full((len(free),), label), examples) for label in range(conditioner.classes)]
            nats += torch.stack(each).min(0).values.sum()
        return float(nats)

    def nats(self, items: Sequence[Labelled], labels: Tensor | None, examples: int) -> Tensor:
        """Return -log p of each item by its tiles, (items,) float64, given classes (items,)."""
        found, size = torch.zeros(len(items), dtype=torch.float64), self.model.shape
        if not items:
            return found
        shapes = [tuple(item.x.shape) for item in items]
        x = torch.cat([cut(item.x.long(), size) for item in items])
        owner = torch.arange(len(items)).repeat_interleave(torch.tensor([tiles_of(shape, size) for shape in shapes]))
        counted = torch.cat([~padding(shape, size, 0, tiles_of(shape, size)) for shape in shapes])
        for rows in torch.arange(len(x)).split(examples):
            context = None if labels is None else labels[owner[rows]]
            told = counted[rows].to(self.model.device)
            log_p = self.model.log_prob(x[rows].to(self.model.device), context, counted=told)
            found.index_add_(0, owner[rows], -log_p.double().cpu())
        return found
