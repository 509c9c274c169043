"""How many bits examples would be, without coding them: the parallel pass."""

import math
from collections.abc import Iterable
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
        """Return -log p of all that waited, nats; nothing waits any more."""
        if not self.items:
            return 0.0
        items, size = self.items, self.model.shape
        x = torch.cat([cut(item.x.long(), size) for item in items])
        owner = torch.tensor([i for i, item in enumerate(items) for _ in range(tiles_of(tuple(item.x.shape), size))])
        shapes = [tuple(item.x.shape) for item in items]
        counted = torch.cat([~padding(shape, size, 0, tiles_of(shape, size)) for shape in shapes])
        self.items, self.tiles = [], 0
        conditioner = self.model.conditioner
        classes = range(conditioner.classes) if isinstance(conditioner, OneHot) else [None]
        nats = torch.stack([self.nats(x, counted, owner, label, len(items), examples) for label in classes])
        own = [0 if item.label is None or len(nats) == 1 else item.label for item in items]
        free = torch.tensor([item.label is None for item in items])
        chosen = nats.gather(0, torch.tensor(own)[None])[0]
        return float(torch.where(free, nats.min(0).values, chosen).sum())

    def nats(self, x: Tensor, counted: Tensor, owner: Tensor, label: int | None, items: int, examples: int) -> Tensor:
        """Return -log p of each item by its tiles, of one class: (items,) float64."""
        found = torch.zeros(items, dtype=torch.float64)
        for rows in torch.arange(len(x)).split(examples):
            context = None if label is None else torch.full((len(rows),), label)
            told = counted[rows].to(self.model.device)
            log_p = self.model.log_prob(x[rows].to(self.model.device), context, counted=told)
            found.index_add_(0, owner[rows], -log_p.double().cpu())
        return found
