"""Sampling without end: a sequence in blocks of steps, images in rows of pixels, in memory that does not grow.

The memory of a walk is that of its cursor, which for a sequence is as long as the receptive field. The uniforms of a
block are given in advance, so that a block, draws included, is one function of tensors, which `capture` can compile,
and on a GPU capture as a CUDA graph.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ancestral.capture import Capture, captured, graphed
from ancestral.causal import Cursor
from ancestral.walk import (
    Condition,
    Factor,
    RasterNetwork,
    Sample,
    SequenceNetwork,
    Told,
    drive,
    factors,
    known_before,
    nothing_above,
    nothing_before,
    row_of,
    row_walk,
    sequence_forward,
)

__all__ = ["images", "stream"]


@torch.inference_mode()
def stream(
    net: SequenceNetwork,
    noise: Iterable[Tensor],
    features: Tensor | None = None,
    past: Tensor | None = None,
    temperature: float = 1.0,
    compiled: bool = False,
) -> Iterator[Tensor]:
    """Yield values (B, C, K) for each block of uniforms (B, C, K), going on after `past`.

    Args:
        net: of one clock.
        noise: uniforms in [0, 1), all blocks of one size but perhaps the last.
        features: (B, F, 1), or (B, F, P + T) of the past and of what follows.
        past: (B, C, P), values that are known; none by default.
        temperature: of each factor.
        compiled: whether blocks of the first one's size run as one compiled graph, on a GPU as a CUDA graph.
    """
    blocks = iter(noise)
    first = next(blocks, None)
    if first is None:
        return
    told, cursor, t = Told(net, features), Cursor(first.device), 0
    before = nothing_before(net, first)
    if past is not None and past.shape[2]:
        before, t = caught_up(net, past, features, cursor), past.shape[2]
    block: Callable[..., Any] = partial(block_of, net, cursor, temperature)
    run = block
    for number, uniforms in enumerate(itertools.chain([first], blocks)):
        steps = uniforms.shape[2]
        own = None if told.constant or features is None else features[:, :, t : t + steps]
        before, values = (run if steps == first.shape[2] else block)(before, uniforms, told.offsets, own)
        yield values
        t += steps
        if compiled and number == 0:  # the memory exists now
            run = captured(block, uniforms.device)
        elif compiled and number == 1 and uniforms.is_cuda:  # and the compiled block
            run = graphed(run, cursor)


def block_of(
    net: SequenceNetwork,
    cursor: Cursor,
    temperature: float,
    before: Tensor,
    uniforms: Tensor,
    told: Tensor | None,
    features: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the input of the step after a block, (B, C + 1), and the values of the block, (B, C, K).

    Every step is told the same, `told`, or each its own of the features (B, F, K).
    """
    channels, steps = uniforms.shape[1:]
    draw, drawn, values = Sample(uniforms, temperature), [], []

    def source(factor: Factor) -> Tensor:  # keeps its values: a compiler cannot follow what a generator returns
        drawn.append(draw(factor))
        return drawn[-1]

    for k in range(steps):
        now = told if features is None else net.offsets(features[:, :, k])
        params = net.steps(before, now, cursor)
        heads = net.likelihood.walk(params, channels)
        drive(factors(heads, [(c, k) for c in range(channels)]), source)
        values.append(torch.stack(drawn[-channels:], 1))
        before = known_before(net, values[-1], before.dtype)
        cursor.next_steps(1)
    return before, torch.stack(values, 2)


def caught_up(net: SequenceNetwork, past: Tensor, features: Tensor | None, cursor: Cursor) -> Tensor:
    """Bring a cursor to the step after `past` (B, C, P), P at least 1, by one parallel pass; return its input."""
    dtype = next(p.dtype for p in net.parameters())  # type: ignore[attr-defined]
    features = features if features is None or features.shape[2] == 1 else features[:, :, : past.shape[2]]
    sequence_forward(net, net.likelihood.scale(past).to(dtype), features, cursor)
    cursor.next_steps(past.shape[2])
    return known_before(net, past[:, :, -1], dtype)


@torch.inference_mode()
def images(
    net: RasterNetwork,
    noise: Iterable[Tensor],
    like: Tensor,
    condition: Condition = None,
    temperature: float = 1.0,
    capture: Capture | None = None,
) -> Iterator[Tensor]:
    """Yield images like one tensor, for each of several batches of uniforms (B, C, H, W), in the same memory.

    Where rows are captured each is one graph, draws included, and all images but the first consist of them.

    Args:
        net: of two clocks.
        noise: uniforms in [0, 1).
        like: (B, C, H, W), of the dtype that is returned.
        condition: projected context, the same for all batches; see `raster_walk`.
        temperature: of each factor.
        capture: what makes a graph of a row, `cuda_graph` on a GPU; by default rows are drawn as they are.
    """
    cursor, above = Cursor(like.device, (like.shape[2], like.shape[3])), nothing_above(net, like)

    def row(uniforms: Tensor, told: Condition) -> Tensor:
        values = torch.empty_like(like[:, :, 0])
        return drive(row_walk(net, values, above, told, cursor, 0), Sample(uniforms.unsqueeze(2), temperature))

    run = row if capture is None else graphed(row, cursor, capture)
    for uniforms in noise:
        x = torch.empty_like(like)
        for i in range(like.shape[2]):
            x[:, :, i] = run(uniforms[:, :, i], row_of(condition, i))
        yield x
        cursor.reset()
        above.zero_()
