"""What image models in raster order share: their arguments, their context, the parallel pass and the walk."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ancestral.capture import cuda_graph
from ancestral.causal import Cursor, RowConv2d
from ancestral.causal.weightnorm import initialize
from ancestral.conditioning import aligned, features_of
from ancestral.likelihoods import Likelihood, Table, check_count, check_likelihood
from ancestral.model import Model
from ancestral.stream import images
from ancestral.walk import Condition, RasterNetwork, Walk, raster_forward, raster_walk


class Contextual(Protocol):
    """A `Model`, as far as its context goes."""

    conditioner: nn.Module | None

    @property
    def dtype(self) -> torch.dtype: ...

    def check_context(self, context: Tensor | int | None, batch: int) -> Tensor | None: ...


class ImageModel(RasterNetwork, Contextual, Protocol):
    """A `Model` that is a network with two clocks; `condition` maps a context's features to what its layers add."""

    shape: tuple[int, ...]
    condition: Any  # has `whole(features)`, or is None

    def empty(self, batch: int, shape: tuple[int, ...]) -> Tensor: ...


def check_image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return shape as (C, H, W), or raise ValueError."""
    if not isinstance(shape, tuple | list) or len(shape) != 3:
        raise ValueError(f"shape must be (C, H, W), got {shape!r}")
    channels, height, width = (check_count("shape", side, 1) for side in shape)
    return channels, height, width


def check_image(x: Tensor, channels: int) -> None:
    """Raise ValueError unless x is a batch of images (B, C, H, W) with that many channels, and pixels."""
    if x.dim() != 4 or x.shape[1] != channels or 0 in x.shape[2:]:
        raise ValueError(f"x must have shape (B, {channels}, H, W), H and W at least 1, got {tuple(x.shape)}")


def check_size(shape: tuple[int, ...] | None, trained: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of the images to walk over: that of the training images by default."""
    chosen = check_image_shape(trained if shape is None else shape)
    if chosen[0] != trained[0]:
        raise ValueError(f"shape must be ({trained[0]}, H, W), got {chosen}")
    return chosen


def channel_groups(likelihood: Likelihood, colours: int, /, **features: int) -> int:
    """Return the number of channel groups: C, or 1 where the likelihood couples the channels itself.

    Raises:
        ValueError: a number of features is not a positive integer that the groups divide.
    """
    groups = 1 if check_likelihood(likelihood).couples_channels else colours
    for name, count in features.items():
        if check_count(name, count, 1) % groups:
            raise ValueError(f"{name} must be divisible by {groups}, the channel groups, got {count}")
    return groups


def coupled(likelihood: Likelihood, channels: int) -> Likelihood:
    """Return the likelihood with the channels of a pixel coupled in the head, for a network without channel groups."""
    if isinstance(check_likelihood(likelihood), Table) and channels > 1:
        return replace(likelihood, couples_channels=True)  # type: ignore[type-var]
    return likelihood


def projection(conditioner: nn.Module | None, out_channels: int) -> RowConv2d | None:
    """Return the linear map from the features of a context to what all layers add, V' h of 1606.05328."""
    features = features_of(conditioner)
    return RowConv2d(features, out_channels, bias=False) if features else None


def context_features(model: Contextual, context: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """Return the features of a context, (B, F, 1, 1) or (B, F, H, W), given the shape of x; None where it has none."""
    context = model.check_context(context, shape[0])
    if model.conditioner is None:
        return None
    features = model.conditioner(context).to(model.dtype)
    return aligned(features, shape, getattr(model.conditioner, "upsample", 1))


def conditioned(model: ImageModel, context: Tensor | None, shape: tuple[int, ...]) -> Condition:
    """Return what the layers add for a context, (B, F, 1, 1) or (B, F, H, W), given the shape of x."""
    features = context_features(model, context, shape)
    return None if features is None or model.condition is None else model.condition.whole(features)


def parameters_of(model: ImageModel, x: Tensor, context: Tensor | None) -> Tensor:
    """Map levels (B, C, H, W) to the likelihood's parameters (B, P, H, W), in one parallel pass."""
    check_image(x, model.shape[0])
    return parameters_given(model, x, conditioned(model, context, tuple(x.shape)))


def parameters_given(model: ImageModel, x: Tensor, condition: Tensor | None) -> Tensor:
    """Map levels (B, C, H, W), and what the layers add for a context, to the likelihood's parameters (B, P, H, W)."""
    scaled = model.likelihood.scale(x).to(model.dtype).contiguous(memory_format=torch.channels_last)
    return raster_forward(model, scaled, condition)


def walk_of(model: ImageModel, batch: int, context: Tensor | None, shape: tuple[int, ...] | None) -> Walk:
    """Return the walk over images of any size in raster order, and over the channels of each pixel."""
    x = model.empty(batch, check_size(shape, model.shape))
    with torch.no_grad():
        condition = conditioned(model, context, tuple(x.shape))
    return raster_walk(model, x, condition)


def batches_of(
    model: ImageModel, noise: Iterable[Tensor], context: Tensor | None = None, temperature: float = 1.0
) -> Iterator[Tensor]:
    """Yield samples for each of several batches of uniforms (B, C, H, W), all of one size, given the same context.

    They are those of the walk. On a GPU rows are captured as CUDA graphs: after the first batch, which captures them,
    a batch is as many launches as it has rows.
    """
    batches = iter(noise)
    first = next(batches, None)
    if first is None:
        return
    x = model.empty(len(first), check_size(tuple(first.shape[1:]), model.shape))
    with torch.no_grad():
        condition = conditioned(model, context, tuple(x.shape))
    capture = cuda_graph if x.is_cuda else None
    yield from images(model, chain([first], batches), x, condition, temperature, capture)


def initialize_by(model: Model, x: Tensor, context: Tensor | None) -> None:
    """Initialise weight-normalised layers by levels x (B, C, H, W), with dropout as in the training that follows."""
    check_image(model.check(x), model.shape[0])
    if not len(x):
        raise ValueError("x must hold examples to initialise by, got none")
    training = model.training
    try:
        initialize(model.train(), lambda: model(x, context))
    finally:
        model.train(training)


def total(*terms: Tensor | None) -> Tensor | None:
    """Return the sum of those that there are."""
    given = [term for term in terms if term is not None]
    return sum(given[1:], given[0]) if given else None


def own_group(part: Tensor, cursor: Cursor | None, groups: int) -> Tensor:
    """Return what of a row's features (B, F) the channel group of this sub-step reads; all, without a cursor."""
    return part if cursor is None or groups == 1 else part.chunk(groups, 1)[cursor.group]


def joined(parts: list[Tensor], groups: int) -> Tensor:
    """Join the features (B, F, ...) of several layers, group by group, so that groups stay contiguous."""
    if groups == 1:
        return torch.cat(parts, 1)
    return torch.cat([part.unflatten(1, (groups, -1)) for part in parts], 2).flatten(1, 2)
