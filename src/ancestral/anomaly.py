"""Scores of how unlike its training data something is. All are in bits, and high means strange.

The likelihood alone is no such score: it is mostly about low-level statistics, so that a smoother picture of something
else can be likelier than what a model was trained on (1810.09136). Three scores survive this trap, more or less:

* `ratio`: -log2 p(x) / p_0(x) against a background model p_0 of the same kind, trained on `mutated` data, which has
  the low-level statistics and little else (1906.02845);
* `complexity`: -log2 p(x) minus what a lossless codec needs for the same values, S of 1909.11480;
* `typicality`: how far -log2 p(x), of one example or in the mean of a batch, is from that of the training data, on
  either side (1906.02994): strong for batches, weak for single examples.

`gathered` takes the `Evidence` of examples by one pass of each model, from which every score of `SCORES` follows;
`auroc` says how well a score tells apart, with anomalies as the positive class.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ancestral.conditioning import OneHot
from ancestral.data import Data, Recordings
from ancestral.data import mutate as mutation
from ancestral.data.parts import compact
from ancestral.evaluation import by_recording, per_example, standard_error
from ancestral.model import Model
from ancestral.models.latent import LatentVariables

__all__ = [
    "CODECS",
    "SCORES",
    "Auroc",
    "Evidence",
    "Score",
    "auroc",
    "bits",
    "coded_bits",
    "complexity",
    "gathered",
    "likelihood",
    "limit_of_typical",
    "mutated",
    "png",
    "ratio",
    "share_of",
    "surprise",
    "typicality",
    "webp",
    "xz",
]

Array = NDArray[Any]
Codec = Callable[[Array, int], int | None]  # bits of levels (C, H, W), (C, T) or (D,) of K; None where it takes no such

RIFF = 20  # bytes of the container of a WebP
XZ = [{"id": 0x21, "preset": 9, "dict_size": 2**16}]  # LZMA2 without a container


class Evidence(NamedTuple):
    """What is known of N examples.

    Attributes:
        bits: -log2 p(x) of each, or an upper bound on it, (N,) float64.
        values: how many values each has, (N,).
        background: the same bits under a background model, or None.
        coded: bits that the best codec needs for each, or None.
        typical: the mean bits of a value of the training data, or None.
    """

    bits: Tensor
    values: Tensor
    background: Tensor | None = None
    coded: Tensor | None = None
    typical: float | None = None


Score = Callable[[Evidence], Tensor]


def likelihood(seen: Evidence) -> Tensor:
    """Return -log2 p(x) of a value, (N,): no detector of anomalies, but what the others are compared with."""
    return seen.bits / seen.values


def ratio(seen: Evidence) -> Tensor:
    """Return -log2 p(x) / p_0(x) of a value, (N,): the likelihood ratio of 1906.02845 with its sign turned."""
    if seen.background is None:
        raise ValueError("the likelihood ratio needs a background model: give one (--background RUN)")
    return (seen.bits - seen.background) / seen.values


def complexity(seen: Evidence) -> Tensor:
    """Return S = -log2 p(x) - L(x) of a value, (N,), where a codec needs L bits (1909.11480, equation 2)."""
    if seen.coded is None:
        raise ValueError("the correction by complexity needs what a codec makes of levels, and there is none of it")
    return (seen.bits - seen.coded) / seen.values


def typicality(seen: Evidence, batch: int = 1) -> Tensor:
    """Return how far the bits of a value are from those of the training data, on either side (1906.02994).

    Args:
        seen: with `typical`.
        batch: examples whose mean is taken: those that follow each other; what is left over is left out.

    Returns:
        (N // batch,) bits of a value.
    """
    if seen.typical is None:
        raise ValueError("typicality needs the mean bits of the training data (typical)")
    means = likelihood(seen)[: len(seen.bits) // batch * batch].view(-1, batch).mean(1)
    return (means - seen.typical).abs()


SCORES: Mapping[str, Score] = {
    "likelihood": likelihood,
    "ratio": ratio,
    "complexity": complexity,
    "typicality": typicality,
}


def limit_of_typical(
    seen: Evidence,
    batch: int = 1,
    share: float = 0.99,
    draws: int = 1000,
    generator: torch.Generator | None = None,
) -> float:
    """Return the `typicality` that a share of batches of known data stays below, by bootstrap (1906.02994, section 3).

    Args:
        seen: of data like that of the training, which the model was not trained on, with `typical`.
        batch: examples of a batch.
        share: of the batches.
        draws: how many batches are drawn, with replacement.
        generator: of the draws.
    """
    rows = torch.randint(len(seen.bits), (draws * batch,), generator=generator)
    found = typicality(seen._replace(bits=seen.bits[rows], values=seen.values[rows]), batch)
    return torch.quantile(found, share).item()


def bits(model: Model, x: Tensor, context: Tensor | None = None, *, samples: int = 1) -> Tensor:
    """Return -log2 p(x), or an upper bound on it where the model is not `exact`: (B,) float64 bits.

    Args:
        model: in evaluation mode; without a context a class-conditional one is averaged over its classes.
        x: (B, *shape).
        context: as the model was built for.
        samples: of the importance-weighted bound of a model with latents.
    """
    return -averaged(by_class(model, samples, x, context)) / math.log(2)


def by_class(
    model: Model, samples: int, x: Tensor, context: Tensor | None = None, counted: Tensor | None = None
) -> Tensor:
    """Return log p(x|y) of every class y, (B, Y) nats; one column where there are none, or a context is given."""
    how: dict[str, Any] = {} if counted is None else {"counted": counted}
    how |= {"samples": samples} if isinstance(model, LatentVariables) else {}
    contexts = [context]
    if isinstance(model.conditioner, OneHot) and context is None:
        contexts = [torch.full((len(x),), y, device=x.device) for y in range(model.conditioner.classes)]
    return torch.stack([model.log_prob(x, each, **how).double() for each in contexts], 1)


def averaged(log_p: Tensor) -> Tensor:
    """Return the log of the mean of p over columns (B, Y): (B,)."""
    return log_p.logsumexp(1) - math.log(log_p.shape[1])


@torch.no_grad()
def surprise(model: Model, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Return -log2 p of each value given those before it, (B, *shape): where the strange parts are.

    The difference to that of a background model is a map of the likelihood ratio. Without a context a class-conditional
    model is given the class under which x is likeliest.

    Raises:
        ValueError: the model has latents, which tie all values together.
    """
    if isinstance(model.conditioner, OneHot) and context is None:
        context = by_class(model, 1, x).argmax(1)
    return -model.log_probs(x, context).double() / math.log(2)


def mutated(x: Tensor, rate: float, levels: int, generator: torch.Generator | None = None) -> Tensor:
    """Return x with each of its values, with the probability `rate`, replaced by one of all levels.

    A background model is trained on such data (`load(mutate=rate)` draws it anew in every epoch); 1906.02845 has rates
    from 0.1 to 0.3, chosen by other anomalies than those reported.

    Args:
        x: (B, *shape) levels in [0, K).
        rate: from 0 to 1.
        levels: K.
        generator: of the draws.

    Raises:
        ValueError: no such rate.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate={rate}: give the share of values that are replaced, from 0 to 1")
    u = torch.rand(x.shape, dtype=torch.float64, generator=generator).to(x.device)
    return mutation.mutated(x, levels, rate, u) if rate else x.clone()


def png(x: Array, levels: int) -> int | None:
    """Return the bits of the compressed pixels of a grey or RGB picture as PNG, without headers and checksums."""
    from PIL import Image

    if x.ndim != 3 or x.shape[0] not in (1, 3) or levels > (256 if x.shape[0] == 3 else 65536):
        return None
    pixels = compact(x, levels).astype(np.uint16 if levels > 256 else np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))
    content = io.BytesIO()
    (image.point(lambda v: 255 * v, "1") if levels == 2 and len(pixels) == 1 else image).save(content, "png")
    return 8 * chunk_bytes(content.getvalue(), b"IDAT")


def webp(x: Array, levels: int) -> int | None:
    """Return the bits of a grey or RGB picture of up to 256 levels as lossless WebP, without the container."""
    from PIL import Image, features

    if x.ndim != 3 or x.shape[0] not in (1, 3) or levels > 256 or not features.check("webp"):
        return None
    pixels = np.broadcast_to(x.astype(np.uint8).transpose(1, 2, 0), (*x.shape[1:], 3))
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "webp", lossless=True)
    return 8 * (content.tell() - RIFF)


def chunk_bytes(content: bytes, kind: bytes) -> int:
    """Return how many bytes the chunks of a kind hold in a PNG file."""
    at, total = 8, 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4])
        total += size if content[at + 4 : at + 8] == kind else 0
        at += size + 12
    return total


def xz(x: Array, levels: int) -> int | None:
    """Return the bits of levels as one stream of LZMA2, without a container; eight values of two levels in a byte."""
    import lzma

    data = np.packbits(x.astype(np.uint8)) if levels == 2 else compact(x, levels)
    return 8 * len(lzma.compress(data.tobytes(), lzma.FORMAT_RAW, filters=XZ))


CODECS: tuple[Codec, ...] = (png, webp, xz)


def coded_bits(x: Sequence[Tensor] | Tensor, levels: int, codecs: Sequence[Codec] = CODECS) -> Tensor:
    """Return the bits of each example by the codec that needs fewest, (N,) float64.

    Args:
        x: levels in [0, K), of any shape each.
        levels: K.
        codecs: of which at least one takes such examples.
    """
    arrays = [each.cpu().numpy() for each in x]
    found = [min(n for codec in codecs if (n := codec(array, levels)) is not None) for array in arrays]
    return torch.tensor(found, dtype=torch.float64)


def gathered(
    model: Model,
    data: Data,
    split: str = "test",
    *,
    background: Model | None = None,
    codecs: Sequence[Codec] = (),
    typical: float | None = None,
    samples: int = 1,
    limit: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Evidence:
    """Return what is known of the examples of a split, or recordings, in their order.

    A class-conditional model is averaged over its classes: labels are not looked at.

    Args:
        model: on any device.
        data: with the model's shape and levels.
        split: "train", "valid" or "test".
        background: a model of the same shape and levels.
        codecs: none to leave `coded` out.
        typical: the mean bits of a value of the training data.
        samples: of the importance-weighted bound of models with latents.
        limit: a number of examples, or recordings, to draw, by a fixed seed; None for all.
        on_progress: is told the share that is done.

    Raises:
        ValueError: there is no such split, or nothing in it.
    """
    index = data.limited(split, limit)
    if not len(index):
        raise ValueError(f"data {data.name!r} has no {split} examples")
    models = [model] if background is None else [model, background]
    parts = [share_of(on_progress, i, len(models)) for i in range(len(models))]
    found = [bits_of(each, data, split, index, samples, told) for each, told in zip(models, parts, strict=True)]
    _, values = by_recording(data, split, index, index)
    coded = coded_bits(pieces(data, split, index), data.discrete, codecs) if codecs and data.discrete else None
    return Evidence(found[0], values.double(), found[1] if background else None, coded, typical)


def share_of(told: Callable[[float], None] | None, i: int, parts: int) -> Callable[[float], None]:
    """Return what tells the share of the whole that is done, where it is told the share of part i."""
    return lambda share: None if told is None else told((i + share) / parts)


def bits_of(model: Model, data: Data, split: str, index: Tensor, samples: int, told: Callable[[float], None]) -> Tensor:
    """Return -log2 p of the examples `index`, or of the recordings that windows are of, (N,)."""
    done, classes = 0, isinstance(model.conditioner, OneHot)

    def measure(x: Tensor, context: Tensor | None, **windows: Tensor) -> Tensor:
        nonlocal done
        found, done = by_class(model, samples, x, None if classes else context, **windows), done + len(x)
        told(done / len(index))
        return found

    columns, _ = by_recording(data, split, index, per_example(measure, model, data, split, index))
    return -(averaged(columns) + data.log_cell) / math.log(2)


def pieces(data: Data, split: str, index: Tensor) -> Sequence[Tensor] | Tensor:
    """Return the levels of examples, or of the recordings that windows are of."""
    part = data.split(split)
    if not isinstance(part, Recordings):
        return part.x[index]
    recordings = part.x.split(part.lengths.tolist(), 1)
    return [recordings[i] for i in part.recording[index].unique().tolist()]


class Auroc(NamedTuple):
    """How well a score tells anomalies, the positive class, from normal examples.

    Attributes:
        value: the share of pairs in which the anomaly has the higher score, ties by half: 1 always, 0.5 by chance.
        se: its standard error (DeLong et al. 1988); None where one side is a single example.
    """

    value: float
    se: float | None


def auroc(normal: Tensor, anomalous: Tensor) -> Auroc:
    """Return the area under the receiver operating characteristic, with anomalies as the positive class.

    Args:
        normal: scores (N,).
        anomalous: scores (M,), which should be higher.

    Raises:
        ValueError: one side is empty, or holds what is no number.

    >>> auroc(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 2.0])).value
    0.75
    """
    if not len(normal) or not len(anomalous) or bool(torch.cat([normal, anomalous]).isnan().any()):
        raise ValueError("AUROC needs scores that are numbers, of normal examples and of anomalies")
    below, above = placements(normal, anomalous), 1 - placements(anomalous, normal)
    errors = [standard_error(below), standard_error(above)]
    se = None if None in errors else math.sqrt(sum((e or 0.0) ** 2 for e in errors))
    return Auroc(below.mean().item(), se)


def placements(ones: Tensor, others: Tensor) -> Tensor:
    """Return for each of the others which share of the ones lies below it, ties by half."""
    ordered, others = ones.double().sort().values, others.double()
    left, right = torch.searchsorted(ordered, others), torch.searchsorted(ordered, others, right=True)
    return (left + right).double() / (2 * len(ones))
