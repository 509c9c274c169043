"""How likely data is: nats and bits/dim with their standard errors, every example counted once.

"nats" is -log p(x) of an example, averaged over the examples; bits/dim is nats / (D log 2) for D discrete variables.
Continuous values have no bits: their nats are those of a density, in the units that the model is given. Of dequantized
data the figures are those of its levels, which the density bounds: at most so many (see `data.dequantize`).

An example of recordings is a whole recording, however its windows cut it; bits/dim is all bits over all samples.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.baselines import baselines
from ancestral.conditioning import OneHot
from ancestral.data import Data, Recordings
from ancestral.levels import Level, bounds, examples_for, levels_of, posterior_means
from ancestral.likelihoods import check_count
from ancestral.model import Model
from ancestral.models import MADE
from ancestral.models.latent import LatentVariables

__all__ = ["Estimate", "Evaluation", "baselines", "check_fit", "ensemble", "evaluate"]

BATCH = 128
POSITIONS = 2**16  # samples of recordings at once, at most; more are no faster and take more memory
SEED = 0  # of random bounds
MASKS = 16  # averaged where a MADE was trained with masks without end


@dataclass(frozen=True)
class Estimate:
    """A mean over examples.

    Attributes:
        nats: mean of -log p(x), or of an upper bound on it.
        nats_se: its standard error; None of a single example.
        bits_per_dim: all bits over all variables; None where values are continuous.
        bits_per_dim_se: its standard error.
    """

    nats: float
    nats_se: float | None
    bits_per_dim: float | None
    bits_per_dim_se: float | None


@dataclass(frozen=True)
class Evaluation(Estimate):
    """How likely the examples of a split are under a model; see `Estimate` for the first figures.

    Attributes:
        split: "train", "valid" or "test".
        noun: what is counted, "examples" or "recordings".
        count: of these, each counted once.
        examples: of these in the split.
        values: scored, of all examples together: each once, the first ones included.
        rate: samples a second of recordings of one channel; None where there is no such thing.
        exact: True where nats is -log p(x), False where it is an upper bound on it.
        given: what the likelihood is given, such as "the label", or None.
        label_averaged: of log(sum_y p(x|y) / classes), which is given nothing; None where there are no classes, and of
            recordings: there it differs by log(classes) nats at most, in thousands of samples.
        ensemble: of the average of p(x) over several masks of a MADE; None for other models.
        masks: how many masks that average is over, or None.
        samples: K of the importance-weighted bound of a model with latents, 1 of its ELBO; None for other models.
        elbo: the ELBO beside a bound of more samples, or None.
        levels: what the levels of latents do, z_1 first, or None.
        seconds: what the model's figures took.
        baselines: nats and bits_per_dim of trivial models, by name; see `baselines`.
    """

    split: str
    noun: str
    count: int
    examples: int
    values: int
    rate: int | None
    exact: bool
    given: str | None
    label_averaged: Estimate | None
    ensemble: Estimate | None
    masks: int | None
    samples: int | None
    elbo: Estimate | None
    levels: list[Level] | None
    seconds: float
    baselines: dict[str, dict[str, float | None]]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return asdict(self)


def evaluate(
    model: Model,
    data: Data,
    split: str = "test",
    *,
    limit: int | None = None,
    batch_size: int = BATCH,
    samples: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Say how likely a split is under a model. Several processes share the work, and all get the result.

    A bound that is random is drawn by a fixed seed, whatever torch's generators are at, which stay as they are.

    Args:
        model: on any device.
        data: with the model's shape, levels and labels.
        split: "train", "valid" or "test".
        limit: a number of examples, or recordings, to draw, by a fixed seed; None for all.
        batch_size: examples at once; of windows of recordings fewer where they are long.
        samples: of the importance-weighted bound of a latent-variable model.
        on_progress: is told the share of the examples that are done, after each batch.

    Raises:
        ValueError: the data does not fit the model; there is no such split; samples of an exact model, or none.
    """
    check_fit(model, data, split)
    check_count("samples", samples, 1)
    if samples != 1 and model.exact:
        raise ValueError(
            f"samples={samples} is for latent-variable models; {type(model).__name__} is exact, leave it out"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    part, index, begin = data.split(split), data.limited(split, limit), time.perf_counter()
    recorded = isinstance(part, Recordings)
    measure = told_of(partial(likelihoods, model, samples), len(index), on_progress)
    columns = per_example(measure, model, data, split, index, batch_size)
    columns[:, :4] += data.log_cell
    columns, values = by_recording(data, split, index, columns)
    sizes, kl = None if data.discrete is None else values, columns[:, 4:]
    alone, averaged, several, elbo = (estimate(column, sizes) for column in columns[:, :4].T)
    latent = isinstance(model, LatentVariables)
    labelled, masks = isinstance(model.conditioner, OneHot) and not recorded, 1 if recorded else masks_of(model)
    return Evaluation(
        **asdict(alone),
        split=split,
        noun="recordings" if recorded else "examples",
        count=len(columns),
        examples=len(part.lengths) if isinstance(part, Recordings) else len(part),
        values=int(values.sum()),
        rate=getattr(data.restore, "rate", None) if recorded and data.shape[0] == 1 else None,
        exact=model.exact and data.dequantized is None,
        given=given(model, data),
        label_averaged=averaged if labelled else None,
        ensemble=several if masks > 1 else None,
        masks=masks if masks > 1 else None,
        samples=samples if latent else None,
        elbo=elbo if samples > 1 else None,
        levels=levels(model, data, split, index, kl, batch_size) if isinstance(model, LatentVariables) else None,
        seconds=time.perf_counter() - begin,
        baselines=baselines(data, split, index),
    )


def told_of(
    measure: Callable[..., Tensor], examples: int, on_progress: Callable[[float], None] | None
) -> Callable[..., Tensor]:
    """Return a measure of batches that tells which share of so many examples has been measured."""
    if on_progress is None:
        return measure
    done = 0

    def telling(x: Tensor, *more: Any, **windows: Any) -> Tensor:
        nonlocal done
        found, done = measure(x, *more, **windows), done + len(x)
        on_progress(done / examples)
        return found

    return telling


def likelihoods(model: Model, samples: int, x: Tensor, context: Tensor | None, counted: Tensor | None = None) -> Tensor:
    """Return what is told of each example, (B, 4 + L) nats.

    log p(x|context), the same averaged over labels, over masks, the ELBO, and the KL of every level of latents. Of a
    model that has no classes, one mask, or no latents, and of windows of recordings, the first stands for the others.
    """
    if isinstance(model, LatentVariables):
        found = bounds(model, samples, x, context, counted)
        return torch.cat([found[:, :2], found[:, :1], found[:, 2:]], 1)
    if counted is not None:
        return model.log_prob(x, context, counted=counted).double()[:, None].expand(-1, 4)
    if isinstance(model.conditioner, OneHot) and context is not None:
        alone, averaged = with_labels_averaged(model, x, context).unbind(1)
    else:
        alone = averaged = model.log_prob(x, context).double()
    masks = masks_of(model)
    several = ensemble(model, x, context, range(masks)) if masks > 1 else alone
    return torch.stack([alone, averaged, several, alone], 1)


def levels(model: LatentVariables, data: Data, split: str, index: Tensor, kl: Tensor, batch_size: int) -> list[Level]:
    """Return what the levels of latents do: KL (N, L) nats, and active units on a seeded choice of the examples."""
    chosen = torch.randperm(len(index), generator=torch.Generator().manual_seed(SEED))[: examples_for(model)]
    means = per_example(partial(posterior_means, model), model, data, split, index[chosen], batch_size)
    return levels_of(model, [(column.mean().item(), standard_error(column)) for column in kl.T], means)


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Let torch's generators begin with a fixed seed, of each process its own; they are as before afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(SEED + rank())
        yield


def given(model: Model, data: Data) -> str | None:
    """Return what the likelihood of a model is given beside x, in words."""
    if model.conditioner is None:
        return None
    if data.given is not None:
        return data.given.words
    return "the label" if isinstance(model.conditioner, OneHot) else "the context"


def check_fit(model: Model, data: Data, *splits: str) -> None:
    """Raise ValueError unless the splits hold examples, and the model takes them and their labels."""
    levels = model.likelihood.levels
    if levels != data.levels:
        has = "continuous values" if data.levels is None else f"{data.levels} levels"
        has = has if data.dequantized is None else f"{data.dequantized} levels made continuous by noise"
        takes = "continuous values" if levels is None else f"{levels} levels"
        raise ValueError(f"data {data.name!r} has {has}, the model takes {takes} ({model.likelihood})")
    for split in splits:
        part = data.split(split)
        if not len(part):
            raise ValueError(f"data {data.name!r} has no {split} examples")
        described = data.given is not None or (isinstance(part, Recordings) and part.features is not None)
        if model.conditioner is not None and not described:
            check_labels(model.conditioner, part.labels, f"the {split} part of data {data.name!r}")
        x, context = data.batch(split, torch.tensor([0]))
        check_example(model, data.name, x, None if model.conditioner is None else context)


def check_labels(conditioner: nn.Module, labels: Tensor | None, whose: str) -> None:
    """Raise ValueError unless there are labels, of the classes of the conditioner."""
    if labels is None:
        raise ValueError(f"{whose} has no labels, and the model is conditional: it needs one for each example")
    if isinstance(conditioner, OneHot) and not 0 <= int(labels.min()) <= int(labels.max()) < conditioner.classes:
        has = f"labels from {int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"{whose} has {has}, the model knows classes from 0 to {conditioner.classes - 1}")


@torch.no_grad()
def check_example(model: Model, name: str, x: Tensor, context: Tensor | None) -> None:
    """Raise ValueError, with the model's own words, where it does not take an example of the data."""
    training = model.training
    model.eval()  # a batch of one is no batch to normalise by
    try:
        with seeded(model.device):
            model.log_prob(x.to(model.device), None if context is None else context.to(model.device))
    except ValueError as error:
        raise ValueError(f"data {name!r} does not fit the model: {error}") from error
    finally:
        model.train(training)


@torch.no_grad()
def per_example(
    measure: Callable[..., Tensor],
    model: Model,
    data: Data,
    split: str,
    index: Tensor,
    batch_size: int = BATCH,
) -> Tensor:
    """Return what `measure` says of each example, in the order of the index: (N, ...) float64 on the CPU.

    What is random in it is drawn by a fixed seed.

    Args:
        measure: maps x (B, *shape) and the context to (B, ...); of windows of recordings it is told `counted` too.
        model: whose likelihoods these are.
        data: where the examples are.
        split: in which part.
        index: which of them, (N,). Where there are several processes, each takes a share and all get everything.
        batch_size: examples at once.
    """
    share, training, values = index.tensor_split(processes())[rank()], model.training, []
    data = data.reaching(model.reach)
    order, size = by_width(data, split, share, batch_size)
    model.eval()
    with seeded(model.device):
        for part in share[order].split(size):
            x, context, counted = data.examples(split, part).on(model.device, model.conditioner is not None)
            windows = {} if counted is None else {"counted": counted}
            values.append(measure(x, context, **windows).cpu().double())
    model.train(training)
    return gathered(torch.cat(values)[order.argsort()])


def by_width(data: Data, split: str, index: Tensor, batch_size: int) -> tuple[Tensor, int]:
    """Return the order in which windows of recordings are filled up least, and how many to take at once."""
    part = data.split(split)
    if not isinstance(part, Recordings) or not len(index):
        return torch.arange(len(index)), batch_size
    widths = part.widths(index, data.past)
    return widths.argsort(stable=True), max(1, min(batch_size, POSITIONS // int(widths.max())))


def by_recording(data: Data, split: str, index: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return what was told of examples (N, ...) and of how many values each is; of windows, added up by recording."""
    part, values = data.split(split), data.counts(split, index)
    if not isinstance(part, Recordings):
        return columns, values
    found, which = part.recording[index].unique(return_inverse=True)
    return columns.new_zeros(len(found), *columns.shape[1:]).index_add(0, which, columns), which.bincount(values)


def processes() -> int:
    """Return how many processes work together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def gathered(values: Tensor) -> Tensor:
    """Return the values of all processes, in the order of their ranks."""
    if processes() == 1:
        return values
    everyone: list[Tensor] = [values] * processes()
    torch.distributed.all_gather_object(everyone, values)
    return torch.cat(everyone)


def estimate(log_p: Tensor, values: Tensor | None) -> Estimate:
    """Return the mean of -log p with its standard error, from (N,) nats.

    Bits/dim is a ratio r of sums; its standard error is that of the mean of b - r n, over the mean of n (linearised).

    Args:
        log_p: of each example.
        values: n, how many each has, to give bits/dim; None where they are continuous.
    """
    nats = -log_p.double()
    if values is None:
        return Estimate(nats.mean().item(), standard_error(nats), None, None)
    size = values.double().mean().item()
    ratio = nats.mean().item() / size
    se, unit = standard_error(nats - ratio * values), size * math.log(2)
    return Estimate(nats.mean().item(), standard_error(nats), ratio / math.log(2), None if se is None else se / unit)


def standard_error(values: Tensor) -> float | None:
    """Return the standard error of the mean of (N,), None of a single value."""
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else None


def with_labels_averaged(model: Model, x: Tensor, labels: Tensor) -> Tensor:
    """Return log p(x|y) of the label y, and log(sum_y p(x|y) / classes) over all labels: (B, 2) nats."""
    assert isinstance(model.conditioner, OneHot)
    classes = model.conditioner.classes
    by_label = torch.stack([model.log_prob(x, labels.new_full((len(x),), y)) for y in range(classes)], 1)
    of_label = by_label.gather(1, labels[:, None])
    averaged = by_label.double().logsumexp(1, keepdim=True) - math.log(classes)
    return torch.cat([of_label.double(), averaged], 1)


def masks_of(model: Model) -> int:
    """Return over how many masks an ensemble of a model goes: those it was trained with."""
    masks = model.masks if isinstance(model, MADE) else 1
    return MASKS if masks is None else masks


def ensemble(model: Model, x: Tensor, context: Tensor | None = None, masks: Iterable[int] = range(MASKS)) -> Tensor:
    """Return the log of p(x) averaged over masks of a MADE (1502.03509, section 4.2): (B,) nats.

    Probabilities are averaged, not their logarithms, so that it is the likelihood of a mixture of models.
    """
    log_p = torch.stack([model.log_prob(x, context, mask=mask).double() for mask in masks])
    return log_p.logsumexp(0) - math.log(len(log_p))
