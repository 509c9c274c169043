"""Small instances of a model, built from its own arguments, and random data for them."""

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ancestral.latents import Dense
from ancestral.likelihoods import Bernoulli, Likelihood
from ancestral.model import Model
from ancestral.models import MODELS
from ancestral.models.latent import LatentVariables
from ancestral.walk import Factor, drive

SMALL: dict[str, dict[str, Any]] = {  # what makes an instance small; an argument that a model lacks is left out
    "made": {"shape": (6,), "hidden": (24,)},
    "pixelcnn": {"shape": (1, 4, 5), "channels": 6, "layers": 2},
    "row-lstm": {"shape": (1, 4, 5), "channels": 6, "layers": 2},
    "diagonal-bilstm": {"shape": (1, 4, 5), "channels": 6, "layers": 2},
    "multi-scale-pixelrnn": {"shape": (1, 4, 5), "channels": 6, "layers": 2},
    "gated-pixelcnn": {"shape": (1, 4, 5), "channels": 6, "layers": 2, "kernel_size": 3},
    "pixelcnn++": {"shape": (1, 4, 5), "channels": 6, "layers": 1, "likelihood": Bernoulli()},
    "pixelsnail": {"shape": (1, 4, 5), "channels": 6, "layers": 2, "residual_blocks": 1, "likelihood": Bernoulli()},
    "wavenet": {"shape": (1, 12), "channels": 6, "layers": 3, "cycle": 2, "likelihood": Bernoulli()},
    "hierarchical-vae": {"shape": (6,), "latents": (3, 2), "network": Dense(hidden=(8, 6), layers=1)},
    "pixel-vae": {"shape": (1, 4, 5), "latents": (3,), "network": Dense(hidden=(8,), layers=1)},
}
LAYERS: dict[str, Any] = {"channels": 6, "layers": 1, "hidden": 6}  # of a small network of latents
VARIABLES = 2  # of a level of latents, at most
STATES = 800  # at most so many points in an enumerated space


class NotApplicable(Exception):  # noqa: N818 (it is no error)
    """Raised by a check that has nothing to look at, with the reason."""


def tiny(
    name: str,
    shape: tuple[int, ...] | None = None,
    likelihood: Likelihood | None = None,
    classes: int | None = None,
) -> Model:
    """Build a small instance of a registered model, in evaluation mode, in well under a second.

    Raises:
        ValueError: there is no model of that name.
    """
    if name not in MODELS:
        raise ValueError(f"name must be one of {', '.join(MODELS)}, got {name!r}")
    given = {"shape": shape, "likelihood": likelihood, "classes": classes}
    return MODELS[name](**{**SMALL.get(name, {}), **{k: v for k, v in given.items() if v is not None}}).eval()


def rebuilt(model: Model, shape: tuple[int, ...], **changes: Any) -> Model:
    """Build a small float64 instance with the model's arguments, another shape, and random parameters."""
    name = next((n for n, kind in MODELS.items() if type(model) is kind), None)
    small = {k: v for k, v in SMALL.get(name or "", {}).items() if k in ("channels", "layers", "hidden", "cycle")}
    if "hidden" in small:  # as many layers as the model has
        small["hidden"] = small["hidden"] * len(model.arguments["hidden"])
    arguments = {**copy.deepcopy(model.arguments), **small, "shape": shape, **changes}
    if isinstance(model, LatentVariables):
        arguments |= small_latents(
            {**arguments, "decoder": getattr(model, "decoder", None)}
        )  # its own, if none is given
    return randomized(type(model)(**arguments).double().eval())


def small_latents(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return small values and models for the arguments of a model with latent variables, as many levels as it has."""
    latents = tuple(min(size, VARIABLES) for size in arguments["latents"])
    network = small_network(arguments["network"])
    found: dict[str, Any] = {"latents": latents, "network": network}
    if arguments.get("prior") is not None:
        built = network.build(arguments["shape"], latents, arguments["posterior"], 0, 1)
        found["prior"] = rebuilt(arguments["prior"], built.shapes[-1])
    if arguments.get("decoder") is not None:
        told = arguments["decoder"].conditioner
        few = type(told)(**{name: fewer(size, LAYERS["channels"]) for name, size in told.arguments.items()})
        changes = {"likelihood": arguments["likelihood"], "conditioner": few}
        found["decoder"] = rebuilt(arguments["decoder"], arguments["shape"], **changes)
    return found


def small_network(network: Any) -> Any:
    """Return the value that builds a network, with few channels, narrow layers, and one where there are several."""
    fields = {f.name: getattr(network, f.name) for f in dataclasses.fields(network)}
    return dataclasses.replace(network, **{k: fewer(fields[k], most) for k, most in LAYERS.items() if k in fields})


def fewer(size: Any, most: int) -> Any:
    """Return a size, or each of several, that is at most so large.

    >>> fewer(200, 6), fewer((200, 4), 6)
    (6, (6, 4))
    """
    return tuple(min(each, most) for each in size) if isinstance(size, tuple) else min(size, most)


def randomized(model: Model) -> Model:
    """Draw every parameter, biases too, at a scale that keeps activations, and unbounded samples, of order one.

    With latents it is small enough for a posterior to lie where the prior does: importance weights vary little.
    """
    gain = 0.4 if not model.exact else 0.5 if model.likelihood.levels is None else 1.5
    bias = 0.3 if model.exact else 0.2
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=gain / math.sqrt(max(p.shape)) if p.dim() > 1 else bias)
    if isinstance(decoder := getattr(model, "decoder", None), Model):
        randomized(decoder)
    return model


def few_levels(likelihood: Likelihood) -> Likelihood:
    """Return the likelihood with three levels, where it has a number of levels to choose."""
    fields = {f.name for f in dataclasses.fields(likelihood)}  # type: ignore[arg-type]
    return dataclasses.replace(likelihood, levels=3) if "levels" in fields else likelihood  # type: ignore[type-var]


def odd_shapes(model: Model) -> list[tuple[int, ...]]:
    """Return small shapes of the model's kind, odd and not square."""
    channels, multiple = model.shape[0], multiple_of(model)
    if multiple > 1:
        return [(channels, 2 * multiple, multiple), (channels, multiple, 2 * multiple)]
    by_kind: dict[int, list[tuple[int, ...]]] = {
        1: [(7,)],
        2: [(channels, 9), (channels, 23)],  # the second more than a receptive field of a small instance
        3: [(channels, 5, 3), (channels, 3, 6)],
    }
    return by_kind[len(model.shape)]


def multiple_of(model: Model) -> int:
    """Return what the sides of an image must be a multiple of."""
    return getattr(model.arguments.get("network"), "multiple", 1)


def random_x(model: Model, batch: int) -> Tensor:
    """Return random data for a model."""
    levels = model.likelihood.levels
    return torch.randn(batch, *model.shape).double() if levels is None else torch.randint(levels, (batch, *model.shape))


def random_context(model: Model, batch: int) -> Tensor | None:
    """Return a random context for a model, if it takes one."""
    if model.conditioner is None:
        return None
    context = model.conditioner.example(batch, model.shape).to(model.device)  # type: ignore[operator]
    return context.to(model.dtype) if context.is_floating_point() else context


def every_x(levels: int, shape: tuple[int, ...]) -> Tensor:
    """Return all points of a tiny space, (K^D, *shape)."""
    values = torch.tensor(list(itertools.product(range(levels), repeat=math.prod(shape))))
    return values.view(-1, *shape)


def tiny_space(model: Model) -> Model:
    """Build an instance whose whole space can be enumerated."""
    if model.likelihood.levels is None:
        raise NotApplicable("a continuous space has no list of all points")
    likelihood = few_levels(model.likelihood)
    channels, dims = model.shape[0], len(model.shape)
    most = int(math.log(STATES, likelihood.levels or 2))
    if dims == 1:
        return rebuilt(model, (most,), likelihood=likelihood)
    length = most // channels
    if length < 1:
        raise NotApplicable(f"{channels} channels are too many to enumerate")
    image = (channels, 2, length // 2) if length >= 4 else (channels, 1, length)
    if (multiple := multiple_of(model)) > 1:
        image = (channels, multiple, multiple)
    return rebuilt(model, image if dims == 3 else (channels, length), likelihood=likelihood)


def trained(model: Model, steps: int = 4) -> Model:
    """Train a copy for a few steps on random data."""
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for step in range(steps):
        optimizer.zero_grad()
        x, context = random_x(model, 4), random_context(model, 4)
        (-model.log_prob(x, context, **model.resampled(step)).mean()).backward()
        optimizer.step()
    return model.eval()


def order_of(model: Model) -> list[tuple[Any, ...]]:
    """Return where the values of one example go, in the order of the walk."""
    places: list[tuple[Any, ...]] = []

    def zero(factor: Factor) -> Tensor:
        places.append(factor.at)
        return model.empty(1, ())

    drive(model.walk(1, random_context(model, 1)), zero)
    return places


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Put a model into evaluation mode, and back."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
