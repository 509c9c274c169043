"""Lossless compression with every model of levels: its probabilities, an entropy coder, and files that refuse to lie.

>>> from ancestral.codec import compress, decompress
>>> from ancestral.testing import tiny
>>> model = tiny("made")
>>> x = model.sample(100)
>>> bool((decompress(model, compress(model, x)) == x).all())
True
"""

import io
import zlib

import torch
from torch import Tensor

from ancestral.codec.container import Entry, Lost, Reader, Totals, Writer
from ancestral.codec.stream import Damaged
from ancestral.model import Model

__all__ = ["Damaged", "Entry", "Lost", "Reader", "Totals", "Writer", "compress", "decompress"]


def compress(
    model: Model, x: Tensor, context: Tensor | int | None = None, *, portable: bool = True, verify: bool = True
) -> bytes:
    """Return a batch compressed without loss: the same bytes for the same batch.

    Args:
        model: of levels, unconditional or of classes.
        x: levels (B, *shape), of the model's shape or, where there are no latents, another one.
        context: classes (B,), or one for all; of each example that with the fewest bits by default.
        portable: codes in float64, so that it can be decompressed on any machine.
        verify: decompresses before it returns.

    Raises:
        ValueError: the model cannot compress this.
    """
    labels = None if context is None else model.check_context(context, len(x))
    salt = zlib.crc32(repr(tuple(x.shape)).encode() + x.detach().cpu().double().contiguous().numpy().tobytes())
    file = io.BytesIO()
    with Writer(file, model, portable=portable, verify=verify, salt=salt) as writer:
        for i, example in enumerate(x):
            writer.add(Entry("", None if labels is None else int(labels[i]), tuple(example.shape)), example)
    return file.getvalue()


def decompress(model: Model, data: bytes) -> Tensor:
    """Return the batch that was compressed, levels (B, *shape) int64 on the CPU.

    Args:
        model: the one that compressed it.
        data: what `compress` returned.

    Raises:
        ValueError: it is of another model, or no such data, or it holds more than a batch. Damaged: some of it is lost.
    """
    found: list[Tensor] = []
    for each in Reader(io.BytesIO(data), model):
        if isinstance(each, Lost):
            raise Damaged(f"the data is damaged: {each.reason}")
        if isinstance(each[1], bytes) or each[1].shape != (found[0].shape if found else each[1].shape):
            raise ValueError("the data holds more than a batch of examples of one shape; read it with codec.Reader")
        found.append(each[1])
    return torch.stack(found) if found else torch.zeros(0, *model.shape, dtype=torch.long)
