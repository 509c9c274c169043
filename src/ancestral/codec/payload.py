"""A chunk of examples as bytes: what the entropy coder wrote, and beside it the values that are given.

Autoregressive models have one range coder for all examples of a chunk; models with latents have one stack, on which
groups of `GROUP` examples lie. See docs/format.md.
"""

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ancestral.codec import bits_back, coding
from ancestral.codec.bits_back import Pushed, Stack
from ancestral.codec.coding import Coded, levels_of
from ancestral.codec.framing import inflated, shrunk
from ancestral.codec.numbers import Taken, numbers, table
from ancestral.codec.stream import CELLS, Cells, Damaged
from ancestral.conditioning import OneHot
from ancestral.model import Model
from ancestral.models.latent import LatentVariables

__all__ = ["Payload", "coder_of", "likely_class", "pack", "unpack"]

GROUP, EACH = 8, 16  # examples that take the bits of their latents together, at most, and how many pay for one more
EXPONENT = 20  # of cells, at most


class Payload(NamedTuple):
    """A chunk of examples, coded.

    Attributes:
        given: values that are stored as they are, and the cells of latents.
        stream: words of the coder.
        initial_bits: that the stream holds for initial bits which were taken.
    """

    given: bytes
    stream: bytes
    initial_bits: int


def coder_of(model: Model, portable: bool) -> Model:
    """Return the copy of a model that codes: in float64 where its files are portable.

    Raises:
        ValueError: it is continuous, or conditional on something else than classes.
    """
    levels_of(model)
    if not (model.conditioner is None or isinstance(model.conditioner, OneHot)):
        wanted = "unconditional or of classes"
        raise ValueError(f"the model must be {wanted} to compress, it is told {type(model.conditioner).__name__}")
    model = copy.deepcopy(model).eval()
    return model.double() if portable else model


def context_of(model: Model, labels: Tensor) -> Tensor | None:
    """Return the context of examples of some classes."""
    return None if model.conditioner is None else labels.to(model.device)


def pack(model: Model, x: Tensor, labels: Tensor, known: Tensor) -> Payload:
    """Code examples.

    Args:
        model: see `coder_of`.
        x: (B, *shape) int64.
        labels: classes (B,); what they are does not matter where the model is unconditional.
        known: bool, like x: what the decoder is told.
    """
    x, context = x.to(model.device), context_of(model, labels)
    if isinstance(model, LatentVariables):
        return stacked(model, x, context)
    coded = coding.encode(model, x, context, known.to(model.device))
    return Payload(table(coded.given), coded.words.astype("<u4").tobytes(), 0)


def unpack(model: Model, given: bytes, stream: bytes, x: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Return the examples that were coded, on the CPU.

    Args:
        model: as it was then.
        given: of the payload.
        stream: of the payload.
        x: (B, *shape) int64, with what is known.
        labels: as they were then.
        known: as it was then.

    Raises:
        Damaged: nothing codes to this.
    """
    if len(stream) % 4:
        raise Damaged("its stream is cut off")
    words, taken = np.frombuffer(stream, "<u4").astype(np.uint32), Taken(given)
    x, context = x.to(model.device), context_of(model, labels)
    if isinstance(model, LatentVariables):
        return unstacked(model, taken, words, x, context).cpu()
    coded = Coded(words, pairs(taken, x.numel(), levels_of(model)))
    taken.end()
    return coding.decode(model, coded, x, context, known.to(model.device)).cpu()


def pairs(taken: Taken, size: int, levels: int) -> Tensor:
    """Return places below a size, and the level of each, (2, N)."""
    index = taken.ascending(size)
    return torch.tensor([index, taken.numbers(len(index), levels - 1)], dtype=torch.long)


def stacked(model: LatentVariables, x: Tensor, context: Tensor | None) -> Payload:
    """Code examples by bits back."""
    cells = bits_back.fitting(model, x, context)
    stack = Stack(model, cells, 1)
    parts = []
    for rows in groups(len(x)):
        pushed = stack.push(x[rows], None if context is None else context[rows])
        parts.append(beside(pushed))
    below, words = stack.words()
    head = numbers([*(each.exponent for each in cells), below])
    bits = 32 * (len(stack.initial) - below)
    return Payload(head + shrunk(b"".join(parts)), words.astype("<u4").tobytes(), bits)


def unstacked(
    model: LatentVariables, taken: Taken, words: bits_back.Words, x: Tensor, context: Tensor | None
) -> Tensor:
    """Return examples that were coded by bits back."""
    exponents = taken.numbers(len(model.levels), EXPONENT)
    stack = Stack(model, [Cells(exponent) for exponent in exponents], 1)
    below = taken.number(len(stack.initial))
    variables = math.prod(model.shape) + 2 * sum(math.prod(shape) for shape in model.network.shapes)
    taken = Taken(inflated(taken.rest(), 20 * len(x) * variables))
    told = [(rows, pushed_from(model, taken, len(rows))) for rows in groups(len(x))]
    taken.end()
    stack.restore(below, words)
    for rows, pushed in reversed(told):
        x[rows] = stack.pop(pushed, x[rows], None if context is None else context[rows])
    if not stack.is_initial():
        raise Damaged("its stack does not end where it began")
    return x


def groups(examples: int) -> list[Tensor]:
    """Return the indices of each group: one example at first, and more where those before it pay for their latents.

    >>> [len(group) for group in groups(40)]
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 2]
    """
    sizes, left = [], examples
    while left:
        sizes.append(min(left, GROUP, 1 + (examples - left) // EACH))
        left -= sizes[-1]
    return list(torch.arange(examples).split(sizes))


def beside(pushed: Pushed) -> bytes:
    """Return what is stored beside the stack of a group: which of its tables have rows, as bits, and these."""
    tables = [pushed.x, *pushed.z, *pushed.left]
    filled = sum((each.numel() > 0) << i for i, each in enumerate(tables))
    return numbers([filled]) + b"".join(table(each) for each in tables if each.numel())


def pushed_from(model: LatentVariables, taken: Taken, examples: int) -> Pushed:
    """Return what is stored beside the stack of a group."""
    sizes = [examples * math.prod(shape) for shape in (model.shape, *model.network.shapes)]
    kinds = [(size, CELLS if i else levels_of(model)) for i, size in enumerate(sizes)] + [(n, 0) for n in sizes[1:]]
    filled = taken.number((1 << len(kinds)) - 1)
    tables = []
    for i, (size, levels) in enumerate(kinds):
        source = taken if filled >> i & 1 else Taken(numbers([0]))
        found = pairs(source, size, levels) if levels else torch.tensor(source.ascending(size), dtype=torch.long)
        tables.append(found)
    return Pushed(tables[0], tuple(tables[1 : len(sizes)]), tuple(tables[len(sizes) :]))


@torch.no_grad()
def likely_class(model: Model, x: Tensor, known: Tensor, examples: int) -> int:
    """Return the class with the fewest bits for all of x (N, *shape), of models with latents as a draw bounds them.

    Args:
        model: of classes.
        x: tiles of one example.
        known: bool, like x: what does not count.
        examples: that are looked at together.
    """
    assert isinstance(model.conditioner, OneHot)
    found = torch.zeros(model.conditioner.classes, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for part, told in zip(x.to(model.device).split(examples), known.to(model.device).split(examples), strict=True):
            for label in range(len(found)):
                context = torch.full((len(part),), label, device=model.device)
                found[label] += float(model.log_prob(part, context, counted=~told).double().sum())
    return int(found.argmax())
