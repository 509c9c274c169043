"""Bits back (1901.04866): a coder that is a stack gives the bits of a draw z ~ q(z|x), and takes x|z and z from p.

The net length of x is log q(z|x) - log p(x, z), in the mean the negative ELBO. Examples are pushed in groups, one on
top of the other, so that a group takes the bits of its latents from the groups below it; only the first takes them from
*initial bits*, which both sides make by a fixed seed: the file holds what changed of them, so that as many are paid for
as were taken.

Latents are cut into cells of equal width (`Cells`), whose probabilities are differences of the cdf: nothing but those
has to be the same in encoder and decoder, whatever the posterior depends on.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import constriction
import numpy as np
import torch
from torch import Tensor

from ancestral.codec.coding import levels_of
from ancestral.codec.stream import Cells, Damaged, Decode, Encode, Levels, Symbols, arranged, joined, reader, written
from ancestral.distributions import Distribution, Gaussian
from ancestral.latents.posteriors import State
from ancestral.models.latent import LatentVariables, Whole
from ancestral.walk import Factor, Infer, distribution, drive, is_latent

__all__ = ["Pushed", "Stack", "fitting"]
Words = np.ndarray[Any, np.dtype[np.uint32]]

SEED = 0
SPARE = 16  # words
DEVIATIONS = 8  # of the posterior that the cells reach beyond its mean


class Pushed(NamedTuple):
    """A group of examples on the stack, and what is stored beside it: values that are given, by what they are of.

    Attributes:
        x: given levels, (2, N); see `coding.Coded`.
        z: cells of given latents of each level, z_1 first, (2, N).
        left: of these, the latents that were not taken from the stack either, as indices, (N,).
    """

    x: Tensor
    z: tuple[Tensor, ...]
    left: tuple[Tensor, ...]


def initial(words: int) -> Words:
    """Return the initial bits: a fixed sequence, the same wherever it is made."""
    bits = (np.random.PCG64(SEED).random_raw(words) >> np.uint64(32)).astype(np.uint32)
    bits[-1:] |= 1  # a stack ends with a word that is not zero
    return bits


class Stack:
    """A coder that gives first what it took last, on top of initial bits.

    Args:
        model: whose examples it takes, in evaluation mode.
        cells: of the latents of each level, z_1 first.
        first: examples of the first group, which alone takes initial bits.
    """

    def __init__(self, model: LatentVariables, cells: Sequence[Cells], first: int) -> None:
        self.model, self.cells, self.levels = model, cells, Levels(levels_of(model))
        latents = sum(math.prod(shape) for shape in model.network.shapes)
        self.initial = initial(2 * first * latents + SPARE)  # a digit takes less than a word
        self.coder = constriction.stream.stack.AnsCoder(self.initial)

    def words(self) -> tuple[int, Words]:
        """Return how many words of the initial bits are as they were, and what is above them."""
        found, size = self.coder.get_compressed(), len(self.initial)
        same = found[:size] == self.initial[: len(found)]
        below = len(same) if bool(same.all()) else int(same.argmin())
        return below, found[below:]

    def restore(self, below: int, words: Words) -> None:
        """Take the place of the stack that had these words.

        Raises:
            Damaged: no stack has.
        """
        if below > len(self.initial) or (len(words) and words[-1] == 0):
            raise Damaged("its stack cannot be restored")
        self.coder = constriction.stream.stack.AnsCoder(np.concatenate([self.initial[:below], words]))

    def is_initial(self) -> bool:
        """Return whether nothing is on the initial bits: all that was taken is back."""
        return bool(np.array_equal(self.coder.get_compressed(), self.initial))

    def put(self, symbols: Symbols) -> None:
        """Push symbols so that they come back in this order."""
        written(symbols, self.coder.encode_reverse)

    @torch.no_grad()
    def push(self, x: Tensor, context: Tensor | None = None) -> Pushed:
        """Push a group of examples (B, *shape) of int64 levels."""
        source = Take(self)
        state = drive(self.model.descent(len(x), context, x), source)
        symbols = self.observed(x, state)
        given = symbols.given()
        latents = [source.noted[level] for level in reversed(self.model.levels)]
        self.put(joined([*latents, symbols.but(given)]))
        return Pushed(stored(x, given), tuple(source.given[level] for level in self.model.levels), source.kept())

    def observed(self, x: Tensor, state: State) -> Symbols:
        """Return the symbols of x: by the parallel pass where the arithmetic is float64, else by the walk."""
        source = Encode(x, self.levels)
        if self.model.dtype == torch.float64:
            drive(self.model.observed_together(x, state), source)
            return arranged(source.parts, x, self.model.places())
        drive(self.model.observed(len(x), state), source)
        return source.symbols()

    @torch.no_grad()
    def pop(self, pushed: Pushed, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Pop the group that was pushed last.

        Args:
            pushed: what `push` returned.
            x: zeros (B, *shape) int64.
            context: as it was then.
        """
        source = Give(self, pushed, x)
        drive(self.model.walk(len(x), context), source)
        drive(self.model.descent(len(x), context, source.x.v), source.again)
        self.put(joined(source.taken))
        return source.x.v


class Take:
    """A source of latents that are taken from a stack; notes what it takes to put them back under p.

    Attributes:
        v: cells of each level.
        noted: symbols of each level under p.
        given: values of each level that are stored, (2, N).
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.v: dict[int, Tensor] = {}
        self.noted: dict[int, Symbols] = {}
        self.given: dict[int, Tensor] = {}
        self.left: dict[int, Tensor] = {}

    def __call__(self, factor: Factor) -> Tensor:
        level = factor.at[1]
        cells = self.stack.cells[level - 1]
        if factor.q is not None:
            self.v[level], self.left[level] = self.taken(factor.q, cells, self.stack.model.network.shapes[level - 1])
        if factor.p is not None:
            symbols = noted(factor.p, self.v[level], cells)
            given = torch.cat([symbols.given(), self.left[level]]).unique()
            self.noted[level], self.given[level] = symbols.but(given), stored(self.v[level], given)
        return cells.value(self.v[level]).to(self.stack.model.dtype)

    def taken(self, q: Distribution, cells: Cells, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return cells (B, *shape) drawn by the bits of the stack, and which of them were left out of that.

        Where the interval of a cell is not sure, that of the mean is left there instead, and the others are drawn anew
        from the stack as it was.
        """
        assert isinstance(q, Gaussian)
        v = torch.zeros(q.mean.shape, dtype=torch.long, device=q.mean.device)
        left = torch.zeros_like(v, dtype=torch.bool)
        before = self.stack.coder
        while True:
            self.stack.coder = before.clone()
            Decode(reader(self.stack.coder), cells, v, left).fill(q)
            symbols = noted(q, v, cells)
            here = left.flatten().nonzero().squeeze(1)
            unsure = symbols.given()
            unsure = unsure[~torch.isin(unsure, here)]
            if not len(unsure):
                return v, here
            left.view(-1)[unsure] = True
            v.view(-1)[unsure] = cells.of_value(q.mean.flatten()[unsure])

    def kept(self) -> tuple[Tensor, ...]:
        """Return which latents were left out, of each level."""
        return tuple(self.left[level].cpu() for level in self.stack.model.levels)


class Give:
    """A source of latents and x that are popped; `again` notes what it takes to give the bits of the latents back.

    Attributes:
        taken: symbols of each level under q, in the order in which they were taken.
    """

    def __init__(self, stack: Stack, pushed: Pushed, x: Tensor) -> None:
        self.stack, self.pushed = stack, pushed
        self.read = reader(stack.coder)
        self.x = Decode(self.read, stack.levels, *placed(pushed.x, x))
        self.v: dict[int, Tensor] = {}
        self.taken: list[Symbols] = []

    def __call__(self, factor: Factor) -> Tensor:
        if not is_latent(factor.at):
            return self.x(factor)
        level, p = factor.at[1], distribution(factor)
        cells = self.stack.cells[level - 1]
        empty = torch.zeros(len(self.x.v), *self.stack.model.network.shapes[level - 1], dtype=torch.long)
        source = Decode(self.read, cells, *placed(self.pushed.z[level - 1], empty.to(self.x.v.device)))
        if isinstance(p, Whole):
            drive(p.model.walk(len(empty), p.context), source)
        else:
            source.fill(p)
        self.v[level] = source.v
        return cells.value(source.v).to(self.stack.model.dtype)

    def again(self, factor: Factor) -> Tensor:
        """Answer with the latents as they were."""
        level = factor.at[1]
        cells, v = self.stack.cells[level - 1], self.v[level]
        if factor.q is not None:
            self.taken.append(noted(factor.q, v, cells).but(self.pushed.left[level - 1].to(v.device)))
        return cells.value(v).to(self.stack.model.dtype)


def noted(p: Distribution, v: Tensor, cells: Cells) -> Symbols:
    """Return the symbols of cells v (B, *shape) of a whole latent."""
    source = Encode(v, cells)
    if isinstance(p, Whole):
        drive(p.model.walk(len(v), p.context), source)
    else:
        source.note(p)
    return source.symbols()


def stored(v: Tensor, index: Tensor) -> Tensor:
    """Return which values are given, and what they are: (2, N)."""
    return torch.stack([index, v.flatten()[index]]).cpu()


def placed(given: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return v with the values that are given, and which these are."""
    flat, index = v.flatten(), given[0].to(v.device)
    told = torch.zeros_like(flat, dtype=torch.bool)
    told[index], flat[index] = True, given[1].to(v.device)
    return flat.view(v.shape), told.view(v.shape)


@torch.no_grad()
def fitting(model: LatentVariables, x: Tensor, context: Tensor | None = None) -> tuple[Cells, ...]:
    """Return cells that reach as far as the posteriors of x do."""
    source = Infer(x, model.uniforms(len(x), torch.Generator().manual_seed(SEED)))
    model.inferred(x, context, source)
    return tuple(Cells(exponent_of(source.q[level])) for level in model.levels)


def exponent_of(q: Distribution) -> int:
    """Return the least e for which 2^e is beyond a Gaussian."""
    assert isinstance(q, Gaussian)
    farthest = float((q.mean.abs() + DEVIATIONS * q.log_std.exp()).amax())
    if math.isnan(farthest):
        raise ValueError("the model's posterior is no number here (NaN): nothing can be compressed with it")
    return min(max(math.ceil(math.log2(max(farthest, 1.0))), 1), 20)
