"""What a trained model really sees: the influence of every variable on the distribution of another one.

The influence is measured, not derived: |d log p(x_t) / d x_s| in double precision, largest over some examples, by
backpropagation, or by changing x_s where the network reads levels one-hot and has no derivative.
"""

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ancestral.model import Model
from ancestral.walk import Factor, Observe, drive

__all__ = ["Field", "Walked", "dependence", "field_of", "walked"]

RAISED = 2.0**80  # data are scaled in float32: a derivative of 1e-46, thousands of steps away, would be 0 there
SUMMED = 2**23  # probabilities of an example that are added up: where a pmf has 65 536, not every one is


class Walked(NamedTuple):
    """What a walk over given examples showed.

    Attributes:
        place: of each variable in the order of the walk, from 0, like one example.
        factors: how many there were.
        summed: of how many of them the pmf was added up.
        log_sum: the largest |log sum of the pmf| of a factor; None for densities.
        difference: the largest |log p of the walk - log p of the parallel pass| of a factor, in nats.
        scale: the largest |log p| of a factor, in nats.
    """

    place: Tensor
    factors: int
    summed: int
    log_sum: float | None
    difference: float
    scale: float


class Witness:
    """A source of observed values that also notes the order and whether pmfs sum to one: each, or some of many."""

    def __init__(self, x: Tensor, levels: int | None) -> None:
        self.observe, self.levels = Observe(x), levels
        self.order: list[tuple[Any, ...]] = []
        self.apart = max(1, math.ceil(x[0].numel() * (levels or 0) / SUMMED))
        self.summed, self.log_sum = 0, 0.0

    def __call__(self, factor: Factor) -> Tensor:
        if self.levels is not None and factor.p is not None and len(self.order) % self.apart == 0:
            self.log_sum = max(self.log_sum, factor.p.log_pmf().double().logsumexp(-1).abs().max().item())
            self.summed += 1
        self.order.append(factor.at)
        return self.observe(factor)


@torch.no_grad()
def walked(model: Model, x: Tensor, context: Tensor | None = None) -> Walked:
    """Walk over examples x (B, *shape) and compare with the parallel pass, factor by factor."""
    witness = Witness(x, model.likelihood.levels)
    drive(model.walk(len(x), context, shape=tuple(x.shape[1:])), witness)
    parallel = model.log_probs(x, context)
    place = torch.zeros(x.shape[1:], dtype=torch.long)
    for t, at in enumerate(witness.order):
        place[at] = t
    steps = torch.stack(witness.observe.log_probs, 1)  # (B, factors)
    whole = torch.stack([parallel[:, *at] for at in witness.order], 1)
    log_sum = None if model.likelihood.levels is None else witness.log_sum
    difference, scale = (steps - whole).abs().max().item(), whole.abs().max().item()
    return Walked(place, len(witness.order), witness.summed, log_sum, difference, scale)


class Field(NamedTuple):
    """The receptive field of one variable.

    Attributes:
        at: the variable.
        strength: the measured influence of every other variable on it, like one example.
        declared: what `Model.receptive_field` says is seen, bool.
        before: what comes before it in the order of the walk, bool.
    """

    at: tuple[Any, ...]
    strength: Tensor
    declared: Tensor
    before: Tensor

    @property
    def seen(self) -> Tensor:
        """Variables with any influence."""
        return self.strength > 0

    @property
    def leaks(self) -> Tensor:
        """What is seen though it comes later: there must be nothing."""
        return self.seen & ~self.before

    @property
    def blind(self) -> Tensor:
        """What comes before and lies within reach, in the rectangle around what is seen, but is not seen."""
        return self.before & ~self.seen & rectangle(self.seen & self.before)


def rectangle(mask: Tensor) -> Tensor:
    """Return the rectangle of rows and columns around a mask (C, H, W), the steps around one (C, T).

    All of a table, whose order is free.
    """
    if mask.dim() < 3:
        return spanned(mask.any(0)) if mask.dim() == 2 else torch.ones_like(mask)
    rows, cols = mask.any(0).any(1), mask.any(0).any(0)
    return spanned(rows)[:, None] & spanned(cols)


def spanned(mask: Tensor) -> Tensor:
    """Return the places from the first to the last of a mask (N,)."""
    return (mask.cumsum(0) > 0) & (mask.flip(0).cumsum(0).flip(0) > 0)


def field_of(model: Model, x: Tensor, context: Tensor | None, at: tuple[Any, ...], place: Tensor) -> Field:
    """Measure the receptive field of the variable `at` on examples x (B, *shape).

    Args:
        model: any autoregressive model.
        x: examples, of which the strongest influence counts; of any shape that the model takes.
        context: of the examples.
        at: an index into one example.
        place: of every variable in the order of the walk.
    """
    double = copy.deepcopy(model).double()
    double.shape = tuple(x.shape[1:])  # what is declared is like an example, too
    x, context = x.double(), context.double() if context is not None and context.is_floating_point() else context
    strength = by_gradient(double, x, context, at)
    if strength is None:
        strength = by_change(double, x, context)[..., *at]
    strength[at] = 0  # the value's own probability is no influence
    return Field(at, strength.cpu(), double.receptive_field(at).cpu(), place < place[at])


def by_gradient(model: Model, x: Tensor, context: Tensor | None, at: tuple[Any, ...]) -> Tensor | None:
    """Return max |d log p(x_at) / d x| over the examples, like one example, or None where there is no derivative."""
    x = x.clone().requires_grad_()
    value = model.log_probs(x, context)[:, *at].sum() * RAISED
    (gradient,) = torch.autograd.grad(value, x, allow_unused=True)
    return None if gradient is None else gradient.abs().amax(0) / RAISED


@torch.no_grad()
def by_change(model: Model, x: Tensor, context: Tensor | None) -> Tensor:
    """Return the largest change of log p(x_t) when x_s changes, at [*s, *t], over the examples."""
    shape, levels = x.shape[1:], model.likelihood.levels
    before = model.log_probs(x, context)
    out = []
    for s in range(shape.numel()):
        changed = x.flatten(1).clone()
        changed[:, s] = changed[:, s] + 1 if levels is None else (changed[:, s] + 1) % levels
        out.append((model.log_probs(changed.view_as(x), context) - before).abs().amax(0))
    return torch.stack(out).view(*shape, *shape)


def dependence(model: Model, x: Tensor, context: Tensor | None) -> Tensor:
    """Return the influence of each variable s on each other one t of a table, (D, D) at [t, s], measured by changes."""
    strength = by_change(copy.deepcopy(model).double(), x.double(), context).flatten(0, x.dim() - 2).flatten(1)
    return strength.fill_diagonal_(0).t().cpu()
